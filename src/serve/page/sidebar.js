// The list of conversations: search, rename, delete, export, import.

import { announce, byId, el, iconButton, toast } from './dom.js';
import * as store from './store.js';
import { asJson, asMarkdown, fileName, read, save } from './transfer.js';

const DAY = 86400000;
/// Characters of a hit around what was searched for.
const AROUND = 40;

export class Sidebar {
  /// `host`: open(id), create(), current() (an id), close() (on narrow screens), renamed(id, title), flush().
  constructor(host) {
    this.host = host;
    this.list = el('nav', { class: 'list', 'aria-label': 'Conversations' });
    this.search = el('input', { type: 'search', placeholder: 'Search (Ctrl+K)', 'aria-label': 'Search conversations', 'aria-keyshortcuts': 'Control+K' });
    this.search.addEventListener('input', () => this.refresh());
    this.search.addEventListener('keydown', (event) => this.searchKey(event));
    this.file = el('input', { type: 'file', accept: '.json,application/json', class: 'unseen', tabindex: -1, 'aria-hidden': 'true', on: { change: () => this.import() } });
    const create = el('button', { type: 'button', class: 'new', on: { click: () => host.create() } }, 'New conversation');
    byId('sidebar').append(
      el('div', { class: 'side-head' }, create, iconButton('close', 'Close the list', () => host.close(), { class: 'narrow' })),
      this.search, this.list,
      el('div', { class: 'side-foot' },
        el('button', { type: 'button', on: { click: () => this.file.click() } }, 'Import'),
        el('button', { type: 'button', on: { click: () => this.exportAll() } }, 'Export all'), this.file));
    this.list.addEventListener('keydown', (event) => this.move(event));
  }

  searchKey(event) {
    if (event.key === 'ArrowDown' || event.key === 'Enter') {
      const first = this.list.querySelector('.open');
      event.preventDefault();
      if (event.key === 'Enter') first?.click();
      else first?.focus();
    } else if (event.key === 'Escape' && this.search.value) {
      event.stopPropagation();
      this.search.value = '';
      this.refresh();
    }
  }

  /// Up and down move from one conversation to the next.
  move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches('.open')) return;
    const all = [...this.list.querySelectorAll('.open')];
    event.preventDefault();
    (all[all.indexOf(event.target) + step] ?? (step < 0 ? this.search : null))?.focus();
  }

  async refresh() {
    const words = this.search.value.trim().toLowerCase();
    const found = words ? await this.hits(words) : await store.titles();
    // Somebody has typed on.
    if (words !== this.search.value.trim().toLowerCase()) return;
    const held = this.list.contains(document.activeElement) ? document.activeElement.closest('[data-id]')?.dataset.id : null;
    const parts = [];
    let group = null;
    for (const item of found) {
      if (!words && age(item.updated) !== group) {
        group = age(item.updated);
        parts.push(el('h2', {}, group));
      }
      parts.push(this.item(item));
    }
    if (!parts.length) parts.push(el('p', { class: 'hint' }, words ? 'Nothing found.' : 'No conversations yet.'));
    if (words) announce(`${found.length} found`);
    this.list.replaceChildren(...parts);
    if (held) this.list.querySelector(`[data-id="${CSS.escape(held)}"] .open`)?.focus();
  }

  /// Conversations with these words in their title or in a message, with a piece of text around them.
  async hits(words) {
    const found = [];
    await store.each((conversation) => {
      const texts = conversation.panes.flatMap((pane) => Object.values(pane.nodes).map((node) => node.content));
      const text = texts.find((text) => text.toLowerCase().includes(words));
      if (text === undefined && !conversation.title.toLowerCase().includes(words)) return;
      const at = text === undefined ? 0 : text.toLowerCase().indexOf(words);
      const from = Math.max(0, at - AROUND);
      const snippet = text === undefined ? '' : `${from ? '…' : ''}${text.slice(from, at + words.length + AROUND).replaceAll('\n', ' ')}`;
      found.push({ id: conversation.id, title: conversation.title, updated: conversation.updated, snippet });
    });
    return found.sort((a, b) => b.updated - a.updated);
  }

  item({ id, title, snippet }) {
    const isCurrent = id === this.host.current();
    const open = el('button', { type: 'button', class: 'open', 'aria-current': isCurrent ? 'page' : false, on: { click: () => this.host.open(id) } },
      el('span', { class: 'title' }, title), snippet ? el('span', { class: 'snippet' }, snippet) : null);
    const row = el('div', { class: 'item', 'data-id': id }, open,
      el('span', { class: 'tools' },
        iconButton('edit', `Rename ${title}`, () => this.rename(row, id, title)),
        iconButton('export', `Export ${title}`, () => this.export(id)),
        iconButton('trash', `Delete ${title}`, () => this.remove(id, title))));
    return row;
  }

  rename(row, id, title) {
    let isDone = false;
    const finish = async (isTaken) => {
      if (isDone) return;
      isDone = true;
      const given = field.value.trim();
      if (isTaken && given && given !== title) await this.host.renamed(id, given);
      await this.refresh();
      this.list.querySelector(`[data-id="${CSS.escape(id)}"] .open`)?.focus();
    };
    const key = (event) => {
      if (event.key !== 'Enter' && event.key !== 'Escape') return;
      event.preventDefault();
      event.stopPropagation();
      finish(event.key === 'Enter');
    };
    const field = el('input', { type: 'text', value: title, maxlength: 200, 'aria-label': 'Title', on: { keydown: key, blur: () => finish(true) } });
    row.replaceChildren(field);
    field.select();
  }

  async remove(id, title) {
    // What is open is left first: its last words are stored, and can be brought back.
    if (id === this.host.current()) await this.host.create();
    const kept = await store.get(id);
    await store.remove(id);
    await this.refresh();
    this.search.focus();
    const run = async () => {
      await store.put(kept);
      await this.refresh();
    };
    toast(`“${title}” is deleted.`, { label: 'Undo', run });
  }

  async export(id) {
    await this.host.flush();
    const conversation = await store.get(id);
    const dialog = byId('export');
    const choice = (label, act) => el('button', { type: 'button', on: { click: () => { dialog.close(); act(); } } }, label);
    dialog.replaceChildren(el('header', {}, el('h2', { id: 'export-title' }, 'Export'), iconButton('close', 'Close', () => dialog.close())),
      el('p', {}, conversation.title),
      el('p', { class: 'choices' },
        choice('JSON (everything)', () => save(fileName(conversation.title, 'json'), asJson([conversation]), 'application/json')),
        choice('Markdown (what is shown)', () => save(fileName(conversation.title, 'md'), asMarkdown(conversation), 'text/markdown'))));
    dialog.showModal();
  }

  async exportAll() {
    await this.host.flush();
    const all = [];
    await store.each((conversation) => all.push(conversation));
    save('conversations.json', asJson(all), 'application/json');
  }

  async import() {
    const [file] = this.file.files;
    if (!file) return;
    try {
      const all = read(await file.text());
      for (const conversation of all) await store.put(conversation);
      toast(`${all.length} ${all.length === 1 ? 'conversation' : 'conversations'} imported.`);
      await this.refresh();
      if (all.length === 1) this.host.open(all[0].id);
    } catch (error) {
      toast(`${file.name}: ${error.message}`);
    }
    this.file.value = '';
  }
}

/// The heading under which a conversation stands.
function age(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return 'Today';
  if (time >= midnight - DAY) return 'Yesterday';
  if (time >= midnight - 7 * DAY) return 'Last seven days';
  return 'Older';
}
