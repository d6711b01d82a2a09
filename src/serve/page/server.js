// Requests to the server, with the key where one is needed, and its errors in plain words.

const KEY = 'api-key';

let askForKey = async () => null;
// Several requests that miss the key ask for it once.
let asking = null;

/// `ask` is called when the server wants a key, with whether one was refused; it gives the new one, or null.
export function setKeyDialog(ask) {
  askForKey = ask;
}

/// Something that the server or the network refused, told to the user.
export class Failure extends Error {}

function key() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function setKey(value) {
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // Storage is switched off: the next request asks again.
  }
}

/// A response with a status of success.
export async function request(path, { body, signal } = {}) {
  for (;;) {
    const used = key();
    const headers = {};
    if (used) headers.Authorization = `Bearer ${used}`;
    if (body) headers['Content-Type'] = 'application/json';
    const options = { method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body), signal };
    let response;
    try {
      response = await fetch(path, options);
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Failure('The server cannot be reached. Is it still running?');
    }
    if (response.ok) return response;
    if (response.status !== 401) throw await explained(response);
    asking ??= askForKey(Boolean(used)).finally(() => { asking = null; });
    const given = await asking;
    if (!given) throw new Failure('The server wants an API key.');
    setKey(given);
  }
}

export async function json(path, options) {
  return (await request(path, options)).json();
}

async function explained(response) {
  let error = {};
  try {
    const body = await response.json();
    error = typeof body.error === 'string' ? { message: body.error } : (body.error ?? {});
  } catch {
    // A proxy in between may answer with something else.
  }
  return new Failure(inWords(response.status, error, response.headers.get('Retry-After')));
}

/// An error of the API as a sentence.
export function inWords(status, error, retryAfter) {
  const said = error.message ? `The server says: ${error.message}` : `The server answered with status ${status}.`;
  if (error.code === 'context_length_exceeded') {
    const numbers = error.n_prompt_tokens ? ` (${error.n_prompt_tokens} tokens, ${error.n_ctx} fit)` : '';
    return `The conversation is longer than the model can read${numbers}. Shorten it, begin a new one, or start the server `
      + 'with a larger --ctx.';
  }
  if (status === 503) {
    const when = retryAfter ? ` Try again in ${retryAfter} seconds.` : ' Try again in a moment.';
    return `The server is busy: too many requests are waiting.${when}`;
  }
  if (status === 404 && error.code === 'model_not_found') return `The server does not have this model (any more). ${said}`;
  if (status === 413) return 'The conversation is too large for one request to this server.';
  if (status === 403) return `The server does not let this page ask. ${said}`;
  return said;
}
