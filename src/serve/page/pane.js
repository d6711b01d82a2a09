// A pane: a model with its settings, its messages, and the answer that it is writing.

import { Answer } from './chat.js';
import { announce, el, iconButton, setLabel } from './dom.js';
import { MessageView, emptyView } from './message.js';
import { contextLength, isLoaded, isServed, models, summary } from './models.js';
import { openSettings } from './settings.js';
import { add, addVersion, path, remove, turn, version } from './tree.js';

/// This near to the end, a pane follows the text that comes.
const NEAR = 80;

export class Pane {
  /// `host`: what a pane tells the page (changed, grown, busyChanged, modelsChanged, close).
  constructor(data, host) {
    this.data = data;
    this.host = host;
    this.views = new Map();
    this.answer = null;
    // Resolves when the answer under way, if there is one, has ended and is told.
    this.ended = Promise.resolve();
    this.follows = true;
    this.select = el('select', { 'aria-label': 'Model', on: { change: () => this.chooseModel(this.select.value) } });
    this.context = el('span', { class: 'context' });
    const settings = iconButton('gear', 'Settings of this pane', () => this.openSettings(), { class: 'open-settings' });
    this.closeButton = iconButton('close', 'Close this pane', () => host.close(this));
    this.messages = el('div', { class: 'messages', role: 'log', 'aria-live': 'off', 'aria-label': 'Messages', tabindex: 0 });
    this.messages.addEventListener('scroll', () => this.scrolled(), { passive: true });
    this.jump = iconButton('down', 'To the newest message', () => this.toEnd(), { class: 'jump', hidden: true });
    this.heading = el('h2', { class: 'unseen' });
    this.head = el('header', { class: 'pane-head' }, this.heading, this.select, this.context, settings, this.closeButton);
    this.element = el('section', { class: 'pane' }, this.head, this.messages, this.jump);
    this.actions = {
      edit: (node) => this.edit(node),
      retry: (node) => this.retry(node),
      goOn: (node) => this.run(node),
      remove: (node) => { remove(data, node); this.changed(); },
      turn: (node, step) => { turn(data, node, step); this.changed(); },
      showTokens: (node) => this.showTokens(node),
      branchAt: (node, index, text) => this.branchAt(node, index, text),
      wantsResult: (node, call) => !this.resultOf(node, call),
      giveResult: (node, call, text) => this.giveResult(node, call, text),
    };
    for (const node of Object.values(data.nodes)) {
      // An answer without an end was cut off when the page was left.
      if (node.role === 'assistant' && !node.finish) node.finish = 'left';
    }
    this.updateModels();
    this.update();
  }

  get isBusy() {
    return this.answer !== null;
  }

  updateModels() {
    const { settings } = this.data;
    // A new conversation takes what there is; one with messages stays with its model.
    const isOpen = !settings.model || !(isServed(settings.model) || this.data.children.length);
    if (isOpen && models().length) settings.model = models()[0].id;
    const options = models().map(({ id }) => el('option', { value: id }, isLoaded(id) ? id : `${id} (not loaded)`));
    if (settings.model && !isServed(settings.model)) {
      options.unshift(el('option', { value: settings.model }, models().length ? `${settings.model} (not served now)` : settings.model));
    }
    this.select.replaceChildren(...options);
    this.select.value = settings.model;
    this.select.title = summary(settings.model);
  }

  chooseModel(model) {
    this.data.settings.model = model;
    this.select.title = summary(model);
    this.changed();
  }

  openSettings() {
    openSettings(this.data.settings, (settings) => {
      this.data.settings = settings;
      this.updateModels();
      this.changed();
    });
  }

  /// Brings the pane up to date, stores it, and lets the page know.
  changed() {
    this.update();
    this.host.changed();
  }

  update() {
    const shown = path(this.data);
    const wanted = new Set(shown.map(({ id }) => id));
    for (const [id, view] of this.views) {
      if (wanted.has(id)) continue;
      view.element.remove();
      this.views.delete(id);
    }
    this.messages.querySelector('.empty')?.remove();
    if (!shown.length) this.messages.append(emptyView(this.data.settings.model, summary(this.data.settings.model)));
    shown.forEach((node, i) => {
      const view = this.views.get(node.id) ?? new MessageView(node, this.actions);
      this.views.set(node.id, view);
      view.node = node;
      if (this.messages.children[i] !== view.element) this.messages.insertBefore(view.element, this.messages.children[i] ?? null);
      view.update(version(this.data, node), this.isBusy);
    });
    this.showContext(shown);
    this.follow();
  }

  /// How much of the context the conversation has taken.
  showContext(shown) {
    const stats = shown.findLast((node) => node.stats)?.stats;
    const length = contextLength(this.data.settings.model);
    const used = stats ? (stats.promptTokens ?? 0) + (stats.answerTokens ?? 0) : 0;
    this.context.textContent = length && used ? `${used} / ${length}` : '';
    this.context.title = 'Tokens of the conversation, and what the context holds';
    this.context.classList.toggle('tight', used > length * 0.9);
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.messages;
    this.follows = scrollHeight - scrollTop - clientHeight < NEAR;
    this.jump.hidden = this.follows;
  }

  follow() {
    if (this.follows) this.messages.scrollTop = this.messages.scrollHeight;
  }

  toEnd() {
    this.follows = true;
    this.follow();
    this.jump.hidden = true;
  }

  /// A prompt at the end of the conversation.
  send(text) {
    const last = path(this.data).at(-1) ?? null;
    const asked = add(this.data, last, { role: 'user', content: text });
    this.toEnd();
    return this.run(add(this.data, asked, { role: 'assistant', content: '' }));
  }

  /// Lets the model write (on) an answer. `seed` asks for the same text once more.
  run(node, settings = this.data.settings, seed = undefined) {
    if (!this.isBusy) this.ended = this.receive(node, settings, seed);
    return this.ended;
  }

  async receive(node, settings, seed) {
    node.isJson = Boolean(settings.schema.trim());
    // The first request loads a model: that takes a while.
    const isCold = !isLoaded(settings.model);
    node.isLoading = isCold;
    let isDue = false;
    const changed = () => {
      if (isDue) return;
      isDue = true;
      // At most one drawing a frame, however fast tokens come.
      requestAnimationFrame(() => {
        isDue = false;
        this.updateRunning(node);
      });
    };
    this.answer = new Answer(this.data, node, settings, changed, seed);
    this.host.busyChanged();
    const run = this.answer.run();
    this.changed();
    await run;
    this.answer = null;
    delete node.isLoading;
    this.changed();
    this.host.busyChanged();
    if (isCold) this.host.modelsChanged();
    announce(node.error ?? `The answer of ${node.model} is complete.`);
  }

  updateRunning(node) {
    const view = this.views.get(node.id);
    // The answer may have ended since the drawing was asked for: then all is told already.
    if (!view || !this.isBusy) return;
    view.update(version(this.data, node), this.isBusy);
    this.follow();
    this.host.grown();
  }

  stop() {
    this.answer?.stop();
  }

  retry(node) {
    return this.run(addVersion(this.data, node, { content: '' }));
  }

  /// A prompt becomes a new version that is answered; an answer becomes one that is kept.
  edit(node) {
    this.views.get(node.id).edit((text) => {
      if (text === null || text.trim() === '' || (text === node.content && node.role === 'assistant')) return;
      if (node.role === 'assistant') {
        addVersion(this.data, node, { content: text, model: node.model, finish: 'stop', isJson: node.isJson });
        this.changed();
        return;
      }
      const asked = addVersion(this.data, node, { content: text });
      this.toEnd();
      this.run(add(this.data, asked, { role: 'assistant', content: '' }));
    });
  }

  editLast() {
    const node = path(this.data).findLast(({ role }) => role === 'user');
    if (node && !this.isBusy) this.edit(node);
  }

  /// Shows the tokens of an answer; where they were not asked for, the same answer is asked for again, with its seed.
  async showTokens(node) {
    const view = this.views.get(node.id);
    if (node.tokens) {
      view.showsTokens = !view.showsTokens;
      this.update();
      return;
    }
    const { settings } = this.data;
    const again = addVersion(this.data, node, { content: '' });
    await this.run(again, { ...settings, model: node.model ?? settings.model, logprobs: true }, node.seed);
    const shown = this.views.get(again.id);
    if (shown && again.tokens) shown.showsTokens = true;
    this.update();
  }

  /// A new version that is the answer up to a token, another token in its place, and what the model makes of that.
  async branchAt(node, index, text) {
    if (this.isBusy) return;
    const kept = node.tokens.slice(0, index);
    const taken = { ...node.tokens[index], text, p: node.tokens[index].top.find(([other]) => other === text)?.[1] ?? 0 };
    const content = [...kept, taken].map((token) => token.text).join('');
    const again = addVersion(this.data, node, { content, tokens: [...kept, taken] });
    await this.run(again, { ...this.data.settings, logprobs: true });
    const view = this.views.get(again.id);
    if (view) view.showsTokens = true;
    this.update();
  }

  /// The result that a call has got, in what is shown.
  resultOf(node, call) {
    const shown = path(this.data);
    return shown.slice(shown.indexOf(node)).find((other) => other.role === 'tool' && other.callId === call.id);
  }

  /// The result of a call. When all calls of an answer have theirs, the model goes on.
  giveResult(node, call, content) {
    const last = path(this.data).at(-1);
    const result = add(this.data, last, { role: 'tool', callId: call.id, name: call.name, content });
    const view = this.views.get(node.id);
    view.callsShown = false;
    if (node.calls.every((other) => this.resultOf(node, other))) {
      this.toEnd();
      this.run(add(this.data, result, { role: 'assistant', content: '' }));
    } else {
      this.changed();
    }
  }

  /// `index` of `total` panes.
  setPlace(index, total) {
    const name = total > 1 ? `Pane ${index + 1} of ${total}` : 'Conversation';
    this.element.setAttribute('aria-label', name);
    this.heading.textContent = name;
    this.head.dataset.place = total > 1 ? `${index + 1}/${total}` : '';
    setLabel(this.closeButton, total > 1 ? `Close pane ${index + 1}` : 'Close this pane');
    this.closeButton.hidden = total === 1;
  }
}
