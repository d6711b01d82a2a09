// Conversations in the browser (IndexedDB). Lists read the titles alone, which have a store of their own.

const TITLES = 'titles';
const CONVERSATIONS = 'conversations';

let database = null;
// Where the browser stores nothing (some private windows), conversations live as long as the page.
const memory = new Map();
const channel = 'BroadcastChannel' in window ? new BroadcastChannel('gguf') : null;

function finished(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/// Opens the store. False when what is written will be gone with the page.
export async function open() {
  try {
    const request = indexedDB.open('gguf', 1);
    request.onupgradeneeded = () => {
      for (const name of [TITLES, CONVERSATIONS]) request.result.createObjectStore(name, { keyPath: 'id' });
    };
    database = await finished(request);
    return true;
  } catch {
    return false;
  }
}

function title({ id, title, updated }) {
  return { id, title, updated };
}

/// Ids, titles and times of all conversations, the latest first.
export async function titles() {
  const all = database
    ? await finished(database.transaction(TITLES).objectStore(TITLES).getAll())
    : [...memory.values()].map(title);
  return all.sort((a, b) => b.updated - a.updated);
}

export async function get(id) {
  if (!database) return memory.get(id);
  return finished(database.transaction(CONVERSATIONS).objectStore(CONVERSATIONS).get(id));
}

/// Writes a conversation, and tells the other tabs.
export async function put(conversation) {
  if (database) {
    await change((titles, conversations) => {
      titles.put(title(conversation));
      conversations.put(conversation);
    });
  } else {
    memory.set(conversation.id, conversation);
  }
  channel?.postMessage(conversation.id);
}

export async function remove(id) {
  memory.delete(id);
  if (database) {
    await change((titles, conversations) => {
      titles.delete(id);
      conversations.delete(id);
    });
  }
  channel?.postMessage(id);
}

function change(work) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction([TITLES, CONVERSATIONS], 'readwrite');
    transaction.oncomplete = () => resolve();
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
    work(transaction.objectStore(TITLES), transaction.objectStore(CONVERSATIONS));
  });
}

/// Calls `visit` with one conversation after the other; they need not fit into memory together.
export async function each(visit) {
  if (!database) {
    memory.forEach(visit);
    return;
  }
  const request = database.transaction(CONVERSATIONS).objectStore(CONVERSATIONS).openCursor();
  await new Promise((resolve, reject) => {
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      if (!request.result) return resolve();
      visit(request.result.value);
      request.result.continue();
    };
  });
}

/// Calls `listener` with the id of a conversation that another tab has changed.
export function onForeignChange(listener) {
  channel?.addEventListener('message', (event) => listener(event.data));
}

/// A setting that this browser remembers.
export function remembered(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // Storage is full or switched off: the setting holds as long as the page.
  }
}
