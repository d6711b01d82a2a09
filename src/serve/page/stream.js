// Lines and server-sent events, as they come.

/// The lines of a body. Ends with the body, whether the server was done or not.
export async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      // Lines may end in CR LF, and a chunk may end between the two.
      const all = (rest + value).split('\n');
      rest = all.pop();
      for (const line of all) if (line.trim()) yield line.trim();
    }
  } finally {
    // Who stops reading hangs up: the server then stops computing.
    reader.cancel().catch(() => {});
  }
}

/// The data of each event of a body.
export async function* events(body) {
  for await (const line of lines(body)) {
    // Events of this API are one line each; others are comments that keep the connection alive.
    const data = line.startsWith('data:') ? line.slice(5).trim() : '';
    if (data) yield data;
  }
}
