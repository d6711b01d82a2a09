// The models of the server in a dialog: what is loaded, what fits, and what Hugging Face has to fetch.

import { announce, byId, el, iconButton } from './dom.js';
import { bytes, can, isLoaded, isOnDemand, loadModels, models, setLoaded, shortNumber, summary } from './models.js';
import { json, request } from './server.js';
import { lines } from './stream.js';

/// Fetches under way, by the name of the model: they go on when the dialog is closed.
const fetches = new Map();

/// A badge: whether a model fits. `fit` is what `gguf inspect --fit` calls it.
function badge(fit, title) {
  const kind = { fits: 'good', tight: 'tight', "won't fit": 'bad' }[fit];
  return el('span', { class: `badge ${kind ?? ''}`, title }, fit);
}

function needs({ needs_bytes: needed, context, basis }, available) {
  const of = available ? ` of ${bytes(available)} that are free` : '';
  const how = { scaled: ', by the header of another file and the sizes of both', size: ', by its size alone' }[basis] ?? '';
  return `takes ${bytes(needed)}${of}${context ? ` with ${context.toLocaleString('en')} tokens of context` : ''}${how}`;
}

export class Library {
  /// `host`: modelsChanged() is called when models have come, were loaded or unloaded.
  constructor(host) {
    this.host = host;
    this.dialog = byId('library');
    this.own = el('div', { class: 'rows', id: 'own-models' });
    this.found = el('div', { class: 'rows', id: 'found-models', 'aria-live': 'polite' });
    this.error = el('p', { class: 'error', role: 'alert', hidden: true });
    this.field = el('input', { type: 'search', 'aria-label': 'Search Hugging Face', placeholder: 'llama, or ORG/NAME of a repository' });
    this.form = el('form', { class: 'search', on: { submit: (event) => this.search(event) } }, this.field,
      el('button', { type: 'submit', class: 'main' }, 'Search'));
  }

  open() {
    const report = can('report') ? el('p', {}, el('a', { href: '/report', target: '_blank', rel: 'noopener' }, 'Report of the comparison')) : null;
    const more = can('manage') ? [this.form, this.found]
      : [el('p', { class: 'hint' }, 'A server that is started with --manage can fetch models from here.')];
    this.dialog.replaceChildren(
      el('header', {}, el('h2', { id: 'library-title' }, 'Models'), iconButton('close', 'Close', () => this.dialog.close())),
      el('div', { class: 'library-body' }, this.error, el('h3', {}, 'On this server'), this.own, report, el('h3', {}, 'From Hugging Face'), ...more));
    this.showOwn();
    this.dialog.showModal();
  }

  tell(message) {
    this.error.textContent = message ?? '';
    this.error.hidden = !message;
  }

  // What the server has.

  showOwn() {
    this.own.replaceChildren(...models().map(({ id }) => this.ownRow(id)));
  }

  ownRow(id) {
    const state = isLoaded(id) ? el('span', { class: 'badge good' }, 'loaded') : el('span', { class: 'badge' }, '…');
    const row = el('div', { class: 'row', 'data-model': id },
      el('div', { class: 'what' }, el('strong', {}, id), el('span', { class: 'hint' }, summary(id))),
      el('div', { class: 'acts' }, state, isOnDemand(id) ? this.loadButton(id) : null));
    if (!isLoaded(id)) this.fit(id, state);
    return row;
  }

  async fit(id, place) {
    try {
      const found = await json('/models/fit', { body: { model: id } });
      if (found.fit) place.replaceWith(badge(found.fit, needs(found, found.available_bytes)));
      else place.remove();
    } catch {
      // What cannot be run is told when it is loaded.
      place.remove();
    }
  }

  loadButton(id) {
    const isIn = isLoaded(id);
    const button = el('button', { type: 'button' }, isIn ? 'Unload' : 'Load');
    button.addEventListener('click', async () => {
      button.disabled = true;
      button.textContent = isIn ? 'Unloading …' : 'Loading …';
      this.tell();
      try {
        await setLoaded(id, !isIn);
        announce(`${id} is ${isIn ? 'unloaded' : 'loaded'}`);
      } catch (error) {
        this.tell(error.message);
      }
      this.showOwn();
      this.host.modelsChanged();
    });
    return button;
  }

  // What there is to fetch.

  async search(event) {
    event.preventDefault();
    const text = this.field.value.trim();
    if (text.includes('/')) return this.list(text);
    await this.wait('Searching …', async () => {
      const { repositories } = await json('/models/browse', { body: { text } });
      const row = ({ name, downloads, likes, parameters }) => {
        const about = [parameters && `${shortNumber(parameters)} parameters`, `${shortNumber(downloads)} downloads`, `${shortNumber(likes)} likes`];
        return el('button', { type: 'button', class: 'row repository', on: { click: () => this.list(name) } },
          el('strong', {}, name), el('span', { class: 'hint' }, about.filter(Boolean).join(' · ')));
      };
      return repositories.length ? repositories.map(row) : [el('p', { class: 'hint' }, 'Nothing found.')];
    });
  }

  /// The models of a repository.
  async list(repository) {
    await this.wait('Reading what it has …', async () => {
      const found = await json('/models/browse', { body: { repository } });
      const rows = found.models.map((model) => this.foundRow(model, found.available_bytes));
      return [el('h4', {}, found.repository), ...(rows.length ? rows : [el('p', { class: 'hint' }, 'No GGUF files.')])];
    });
  }

  async wait(text, work) {
    this.tell();
    this.found.replaceChildren(el('p', { class: 'hint' }, text));
    try {
      this.found.replaceChildren(...await work());
    } catch (error) {
      this.found.replaceChildren();
      this.tell(error.message);
    }
  }

  foundRow(model, available) {
    const about = [
      bytes(model.bytes),
      model.bits_per_weight && `${model.bits_per_weight.toFixed(2)} bits/weight`,
      model.answer_tokens_per_second && `about ${Number(model.answer_tokens_per_second.toPrecision(2))} tokens/s`,
      model.quality && `${model.quality_evidence?.startsWith('estimated') ? '~' : ''}${model.quality}`,
    ];
    const fit = model.cannot_run ? el('span', { class: 'badge bad', title: model.cannot_run }, 'cannot be run')
      : model.fit ? badge(model.fit, needs(model, available)) : null;
    const quality = model.quality_evidence ? `Quality: ${model.quality_evidence}` : false;
    const acts = el('div', { class: 'acts' }, fit);
    const row = el('div', { class: 'row', 'data-model': model.name },
      el('div', { class: 'what' }, el('strong', {}, model.type ?? model.path),
        el('span', { class: 'hint', title: quality }, about.filter(Boolean).join(' · '))), acts);
    if (model.here) acts.append(el('span', { class: 'badge' }, 'here'));
    else this.fetchButton(model.name, acts);
    return row;
  }

  fetchButton(name, place) {
    const under = fetches.get(name);
    if (under) return place.append(under);
    const button = el('button', { type: 'button' }, 'Fetch');
    button.addEventListener('click', () => this.fetch(name, button));
    place.append(button);
  }

  async fetch(name, button) {
    const bar = el('progress', { max: 1, value: 0, 'aria-label': `Fetching ${name}` });
    const text = el('span', { class: 'hint' }, 'asking …');
    const stop = new AbortController();
    const cancel = iconButton('close', `Stop fetching ${name}`, () => stop.abort());
    const shown = el('span', { class: 'fetching' }, bar, text, cancel);
    fetches.set(name, shown);
    button.replaceWith(shown);
    this.tell();
    try {
      const response = await request('/api/pull', { body: { model: name }, signal: stop.signal });
      let last = {};
      for await (const line of lines(response.body)) {
        last = JSON.parse(line);
        if (last.error) throw new Error(last.error);
        if (last.total) {
          bar.value = last.completed / last.total;
          text.textContent = `${bytes(last.completed)} of ${bytes(last.total)}`;
        } else {
          text.textContent = last.status;
        }
      }
      if (last.status !== 'success') throw new Error('The server stopped before all had come.');
      shown.replaceWith(el('span', { class: 'badge' }, 'here'));
      announce(`${name} is here`);
      await loadModels();
      this.showOwn();
      this.host.modelsChanged();
    } catch (error) {
      const again = el('button', { type: 'button' }, 'Fetch');
      again.addEventListener('click', () => this.fetch(name, again));
      shown.replaceWith(again);
      this.tell(error.name === 'AbortError' ? `${name}: stopped; it goes on from there the next time.` : `${name}: ${error.message}`);
    }
    fetches.delete(name);
  }
}
