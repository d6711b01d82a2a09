// The page: its conversation, its panes, its keys.

import { Composer } from './composer.js';
import { announce, byId, el, iconButton, newId, setLabel, toast } from './dom.js';
import { Library } from './library.js';
import { loadModels, models, onModels } from './models.js';
import { Pane } from './pane.js';
import { setKeyDialog } from './server.js';
import { defaultSettings } from './settings.js';
import { Sidebar } from './sidebar.js';
import * as store from './store.js';
import { newPane, path } from './tree.js';

/// While an answer grows, it is stored this often.
const SAVE_MS = 1500;
/// Browsers open six connections to a server: some stay free while all panes stream.
const MOST_PANES = 4;
const narrow = matchMedia('(max-width: 760px)');

let conversation = null;
let panes = [];
let saveTimer = null;
/// What the list at the side shows of the conversation.
let listed = '';

const isBusy = () => panes.some((pane) => pane.isBusy);

// Storing.

function changed() {
  conversation.updated = Date.now();
  if (conversation.title === '') conversation.title = titleOf(conversation);
  grown();
}

/// Stores the conversation soon. One without a message is none yet.
function grown() {
  if (conversation.title !== '') saveTimer ??= setTimeout(save, isBusy() ? SAVE_MS : 50);
}

async function save() {
  clearTimeout(saveTimer);
  saveTimer = null;
  const stored = conversation;
  try {
    await store.put(stored);
  } catch (error) {
    toast(`The conversation could not be stored: ${error?.message ?? 'the browser refuses'}. Export it to keep it.`);
  }
  showTitle();
  const shown = `${stored.id} ${stored.updated} ${stored.title}`;
  if (shown === listed) return;
  listed = shown;
  await sidebar.refresh();
}

const flush = async () => { while (saveTimer) await save(); };

function titleOf({ panes }) {
  const first = panes.map((pane) => path(pane)[0]).find(Boolean);
  const line = first?.content.split('\n').find((line) => line.trim()) ?? '';
  return line.trim().length > 60 ? `${line.trim().slice(0, 59)}…` : line.trim();
}

function showTitle() {
  byId('title').textContent = conversation.title || 'New conversation';
  document.title = conversation.title ? `${conversation.title} · gguf` : 'gguf';
}

// Conversations.

async function leave() {
  stop();
  // What came of their answers belongs to the conversation that is left.
  await Promise.all(panes.map((pane) => pane.ended));
  await flush();
}

function show(next) {
  conversation = next;
  panes = conversation.panes.map((data) => new Pane(data, host));
  layout();
  busyChanged();
  showTitle();
  try {
    history.replaceState(null, '', conversation.title ? `#${conversation.id}` : location.pathname);
  } catch {
    // Browsers limit how often an address may change.
  }
  sidebar.refresh();
}

async function create() {
  await leave();
  show({ id: newId(), title: '', created: Date.now(), updated: Date.now(), panes: [newPane(defaultSettings())] });
  closeDrawer();
  composer.focus();
}

async function open(id) {
  await leave();
  const found = await store.get(id);
  if (!found) return create();
  show(found);
  closeDrawer();
  // On a telephone, the keyboard would hide half of what was opened.
  if (!narrow.matches) composer.focus();
  announce(`${found.title} is open`);
}

async function renamed(id, title) {
  await flush();
  const found = id === conversation.id ? conversation : await store.get(id);
  found.title = title;
  await store.put(found);
  showTitle();
}

// Panes.

function layout() {
  byId('panes').replaceChildren(...panes.map((pane) => pane.element));
  byId('panes').dataset.count = panes.length;
  panes.forEach((pane, i) => pane.setPlace(i, panes.length));
  byId('add-pane').disabled = panes.length >= MOST_PANES;
  panes.forEach((pane) => pane.follow());
}

/// A further pane with the messages of the last one, and the next model that no pane has.
function addPane() {
  if (panes.length >= MOST_PANES || isBusy()) return;
  const data = { ...structuredClone(conversation.panes.at(-1)), id: newId() };
  const free = models().find(({ id }) => conversation.panes.every((pane) => pane.settings.model !== id));
  if (free) data.settings.model = free.id;
  conversation.panes.push(data);
  panes.push(new Pane(data, host));
  layout();
  changed();
  panes.at(-1).element.scrollIntoView({ inline: 'start', block: 'nearest' });
  announce(`Pane ${panes.length} is open`);
}

function closePane(pane) {
  pane.stop();
  panes = panes.filter((other) => other !== pane);
  conversation.panes = conversation.panes.filter((data) => data !== pane.data);
  layout();
  busyChanged();
  changed();
  composer.focus();
}

function busyChanged() {
  composer.setBusy(isBusy());
  document.body.classList.toggle('busy', isBusy());
}

const host = { changed, grown, busyChanged, modelsChanged: connect, close: closePane };

function send(text) {
  if (isBusy()) return false;
  const isNew = conversation.title === '';
  panes.forEach((pane) => pane.send(text));
  if (isNew) {
    history.replaceState(null, '', `#${conversation.id}`);
    showTitle();
  }
  return true;
}

function stop() {
  panes.forEach((pane) => pane.stop());
}

// The list at the side, the theme, the dialogs.

function closeDrawer() {
  if (narrow.matches) setSidebar(false);
}

function setSidebar(isOpen) {
  document.body.classList.toggle('with-sidebar', isOpen);
  byId('sidebar').inert = !isOpen;
  byId('menu').setAttribute('aria-expanded', String(isOpen));
  if (!narrow.matches) store.remember('sidebar', isOpen);
}

function toggleSidebar() {
  const isOpen = !document.body.classList.contains('with-sidebar');
  setSidebar(isOpen);
  if (isOpen && narrow.matches) sidebar.search.focus();
}

const THEMES = ['system', 'light', 'dark'];

function theme() {
  return document.documentElement.dataset.theme ?? 'system';
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem('theme', next);
  } catch {
    // The choice holds as long as the page.
  }
  setLabel(byId('theme'), `Theme: ${next}`);
  announce(`Theme: ${next}`);
}

/// Asks for the server's key; gives it, or null.
function askForKey(wasRefused) {
  const dialog = byId('key');
  const field = el('input', { type: 'password', autocomplete: 'off', 'aria-label': 'API key', required: true });
  const form = el('form', { method: 'dialog' },
    el('h2', { id: 'key-title' }, 'API key'),
    el('p', {}, wasRefused ? 'The server does not know this key.' : 'This server answers those who have a key.'), field,
    el('p', { class: 'hint' }, 'It is kept until this tab is closed, and sent to this server alone.'),
    el('footer', {}, el('button', { type: 'button', on: { click: () => dialog.close('') } }, 'Cancel'),
      el('button', { type: 'submit', class: 'main' }, 'Use')));
  dialog.returnValue = '';
  dialog.replaceChildren(form);
  dialog.showModal();
  return new Promise((resolve) => {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      dialog.close('given');
    });
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'given' ? field.value.trim() : null), { once: true });
  });
}

async function connect() {
  const banner = byId('banner');
  try {
    await loadModels();
    banner.hidden = true;
  } catch (error) {
    banner.replaceChildren(el('span', {}, error.message), el('button', { type: 'button', on: { click: connect } }, 'Try again'));
    banner.hidden = false;
  }
}

// Keys that hold everywhere; those of a field are with the field.

function key(event) {
  if (document.querySelector('dialog[open]')) return;
  const isCommand = event.ctrlKey || event.metaKey;
  const letter = event.key.toLowerCase();
  if (isCommand && letter === 'k') {
    setSidebar(true);
    sidebar.search.focus();
    sidebar.search.select();
  } else if (isCommand && event.shiftKey && letter === 'o') {
    create();
  } else if (isCommand && event.key === ',') {
    panes[0].openSettings();
  } else if (isCommand && letter === 'b') {
    toggleSidebar();
  } else if (event.key === 'Escape') {
    if (isBusy()) stop();
    else if (narrow.matches && document.body.classList.contains('with-sidebar')) setSidebar(false);
    else composer.focus();
  } else if (event.key === '?' && !event.target.closest('input, textarea, select')) {
    byId('help').showModal();
  } else {
    return;
  }
  event.preventDefault();
}

async function foreignChange(id) {
  await sidebar.refresh();
  if (id !== conversation?.id || isBusy()) return;
  // Another tab has gone on with what is open here.
  const found = await store.get(id);
  if (found && !saveTimer && found.updated > conversation.updated) show(found);
}

const sidebar = new Sidebar({ open, create, renamed, flush, current: () => conversation?.id, close: () => { setSidebar(false); byId('menu').focus(); } });
const library = new Library({ modelsChanged: connect });
const composer = new Composer({ send, stop, editLast: () => panes[0].editLast() });

async function begin() {
  setKeyDialog(askForKey);
  onModels(() => panes.forEach((pane) => { pane.updateModels(); pane.update(); }));
  byId('top-left').append(iconButton('menu', 'List of conversations (Ctrl+B)', toggleSidebar, { id: 'menu', 'aria-controls': 'sidebar' }));
  byId('top-right').append(
    iconButton('plus', 'New conversation (Ctrl+Shift+O)', create, { id: 'new' }),
    iconButton('columns', 'Another pane beside this one', addPane, { id: 'add-pane' }),
    iconButton('library', 'Models', () => library.open(), { id: 'library-button' }),
    iconButton('theme', `Theme: ${theme()}`, nextTheme, { id: 'theme' }),
    iconButton('help', 'Keys (?)', () => byId('help').showModal(), { id: 'help-button' }));
  byId('help').querySelector('button').addEventListener('click', () => byId('help').close());
  document.addEventListener('keydown', key);
  window.addEventListener('beforeunload', (event) => { if (isBusy()) event.preventDefault(); });
  document.addEventListener('visibilitychange', () => (document.hidden ? flush() : connect()));
  store.onForeignChange(foreignChange);
  setSidebar(!narrow.matches && store.remembered('sidebar') !== false);
  narrow.addEventListener('change', () => setSidebar(!narrow.matches));
  if (!await store.open()) toast('This browser stores nothing here: conversations will be gone with the page.');
  // The page is there at once; the models' names follow.
  connect();
  const wanted = location.hash.slice(1);
  if (wanted && await store.get(wanted)) await open(wanted);
  else await create();
}

begin();
