// A message on the page. Its parts are made once and brought up to date while an answer grows.

import { copyButton, el, icon, iconButton } from './dom.js';
import { Markdown, codeBlock } from './markdown.js';
import { probabilities } from './probabilities.js';

const NAMES = { user: 'You', assistant: 'Answer', tool: 'Result' };

const seconds = (ms) => (ms < 9950 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`);
const tokens = (n) => `${n} ${n === 1 ? 'token' : 'tokens'}`;

/// How an answer has ended, where that is not its natural end.
const ENDS = {
  length: 'Cut off: the limit of tokens or the end of the context was reached.',
  stopped: 'Stopped.',
  left: 'The page was left while this was written.',
};

export class MessageView {
  /// `actions`: what the buttons do, by name; each gets the node.
  constructor(node, actions) {
    this.node = node;
    this.actions = actions;
    this.showsTokens = false;
    this.name = el('span', { class: 'name' });
    this.versions = el('span', { class: 'versions' });
    this.thinking = null;
    this.content = el('div', { class: 'content' });
    this.markdown = new Markdown(this.content);
    this.notes = el('div', { class: 'notes' });
    this.calls = el('div', { class: 'calls' });
    this.stats = el('span', { class: 'stats' });
    this.buttons = el('span', { class: 'buttons' });
    this.footer = el('footer', {}, this.buttons, this.versions, this.stats);
    this.element = el('article', { class: `message ${node.role}`, 'data-id': node.id },
      el('header', {}, this.name), this.content, this.calls, this.notes, this.footer);
  }

  get isRunning() {
    return this.node.role === 'assistant' && !this.node.finish;
  }

  /// `place` is the message's version: { index, total }.
  update(place, isBusy) {
    const { node } = this;
    const name = node.role === 'assistant' && node.model ? node.model : NAMES[node.role];
    this.name.textContent = node.role === 'tool' ? `${name} of ${node.name}` : name;
    this.element.setAttribute('aria-label', this.name.textContent);
    this.element.setAttribute('aria-busy', String(this.isRunning));
    this.updateThinking();
    this.updateContent();
    this.updateCalls(isBusy);
    this.updateNotes(isBusy);
    this.stats.textContent = this.statsText();
    this.updateButtons(place, isBusy);
  }

  updateThinking() {
    const { node } = this;
    if (!node.thinking) return;
    if (!this.thinking) {
      const summary = el('summary');
      const body = el('div', { class: 'thought' });
      this.thinking = { summary, markdown: new Markdown(body) };
      this.element.insertBefore(el('details', { class: 'thinking' }, summary, body), this.content);
    }
    const isDone = node.finish || node.content || node.calls;
    const time = node.thinkingMs ? ` for ${seconds(node.thinkingMs)}` : '';
    this.thinking.summary.textContent = isDone ? `Thought${time}` : 'Thinking …';
    this.thinking.markdown.update(node.thinking);
  }

  updateContent() {
    const { node } = this;
    this.element.classList.toggle('running', this.isRunning && !node.reading);
    if (this.showsTokens && node.tokens && node.finish) {
      if (this.tokensShown !== node.tokens) {
        this.tokensShown = node.tokens;
        const branch = (index, text) => this.actions.branchAt(node, index, text);
        this.markdown = null;
        // A schema is about whole answers: nothing is gone on with in the middle of one.
        const canBranch = !node.isJson && node.tokens.map((token) => token.text).join('') === node.content;
        this.content.replaceChildren(probabilities(node.tokens, canBranch ? branch : null));
      }
      return;
    }
    if (!this.markdown) {
      this.content.replaceChildren();
      this.markdown = new Markdown(this.content);
      this.tokensShown = null;
      this.codeShown = null;
    }
    if (node.role === 'user') {
      this.content.textContent = node.content;
    } else if (node.isJson || node.role === 'tool') {
      if (this.codeShown === node.content) return;
      this.codeShown = node.content;
      this.content.replaceChildren(...(node.content ? [codeBlock(node.content, 'json')] : []));
    } else {
      this.markdown.update(node.content);
    }
  }

  updateCalls(isBusy) {
    const { node } = this;
    if (!node.calls || (this.callsShown && node.finish && this.callsBusy === isBusy)) return;
    this.callsShown = Boolean(node.finish);
    this.callsBusy = isBusy;
    this.calls.replaceChildren(...node.calls.filter(Boolean).map((call) => this.call(call, isBusy)));
  }

  /// A call of a tool: its name and arguments, and where its result is not there yet, a field for it.
  call(call, isBusy) {
    let text = call.text;
    try {
      text = JSON.stringify(JSON.parse(call.text), null, 2);
    } catch {
      // Still on its way, or not JSON.
    }
    const box = el('section', { class: 'call', 'aria-label': `Call of ${call.name}` },
      el('p', { class: 'call-name' }, 'Calls ', el('code', {}, call.name)), codeBlock(text, 'json'));
    if (this.node.finish && !isBusy && this.actions.wantsResult(this.node, call)) {
      const field = el('textarea', { rows: 2, 'aria-label': `Result of ${call.name}`, placeholder: 'What the tool gives back' });
      const give = () => this.actions.giveResult(this.node, call, field.value);
      box.append(el('div', { class: 'result' }, field, el('button', { type: 'button', on: { click: give } }, 'Give the result')));
    }
    return box;
  }

  updateNotes(isBusy) {
    const { node } = this;
    const notes = [];
    if (node.reading && node.reading.processed < node.reading.total) {
      const { processed, total } = node.reading;
      notes.push(el('p', { class: 'reading' }, `Reading the prompt: ${processed} of ${tokens(total)} `,
        el('progress', { value: processed, max: total, 'aria-label': 'Reading the prompt' })));
    } else if (this.isRunning && !node.content && !node.thinking && !node.calls) {
      notes.push(el('p', { class: 'reading' }, node.isLoading ? 'Loading the model …' : 'Waiting for the first token …'));
    }
    if (node.error) notes.push(el('p', { class: 'error', role: 'alert' }, node.error));
    if (ENDS[node.finish]) notes.push(el('p', { class: 'hint' }, ENDS[node.finish]));
    const isCut = ['length', 'stopped', 'error', 'left'].includes(node.finish);
    if (isCut && !isBusy) {
      const act = (action, label) => el('button', { type: 'button', on: { click: () => this.actions[action](node) } }, label);
      notes.push(el('p', { class: 'choices' },
        node.content && !node.calls && !node.isJson ? act('goOn', 'Go on') : null, node.finish === 'error' ? act('retry', 'Try again') : null));
    }
    this.notes.replaceChildren(...notes);
  }

  statsText() {
    const { stats, role, finish } = this.node;
    if (role !== 'assistant' || !stats || !finish) return '';
    const parts = [];
    if (stats.answerTokens) parts.push(tokens(stats.answerTokens));
    if (stats.perSecond && stats.answerTokens > 1) parts.push(`${stats.perSecond.toFixed(1)} tokens/s`);
    if (stats.firstMs) parts.push(`first after ${(stats.firstMs / 1000).toFixed(2)} s`);
    if (stats.promptTokens) {
      const cached = stats.cachedTokens ? ` (${stats.cachedTokens} cached)` : '';
      parts.push(`prompt of ${tokens(stats.promptTokens)}${cached}`);
    }
    return parts.join(' · ');
  }

  /// The buttons stay the same elements while nothing changes: whoever has one under the finger keeps it.
  updateButtons({ index, total }, isBusy) {
    const { node } = this;
    const state = [index, total, isBusy, this.isRunning, Boolean(node.content), this.showsTokens, Boolean(node.tokens)].join();
    if (state === this.buttonsState) return;
    this.buttonsState = state;
    const held = this.footer.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    const button = (name, label, act, more = {}) =>
      iconButton(name, label, () => this.actions[act](node), { disabled: isBusy, 'data-act': act, ...more });
    const all = [];
    if (!this.isRunning) {
      if (node.content) all.push(copyButton(() => node.content, 'Copy the text'));
      if (node.role !== 'tool') all.push(button('edit', 'Edit', 'edit'));
      if (node.role === 'assistant') {
        all.push(button('retry', 'Another answer', 'retry'));
        if (node.content) all.push(button('spectrum', 'Probabilities of the tokens', 'showTokens', { 'aria-pressed': String(this.showsTokens) }));
      }
      all.push(button('trash', 'Delete from here on', 'remove'));
    }
    this.buttons.replaceChildren(...all);
    const turn = (name, label, step) => iconButton(name, label, () => this.actions.turn(node, step),
      { disabled: isBusy || index + step < 0 || index + step >= total, 'data-act': `turn${step}` });
    const arrows = [turn('left', 'Version before', -1),
      el('span', { 'aria-label': `Version ${index + 1} of ${total}` }, `${index + 1}/${total}`), turn('right', 'Next version', 1)];
    this.versions.replaceChildren(...(total > 1 ? arrows : []));
    if (held) this.footer.querySelector(`[data-act="${held}"]`)?.focus();
  }

  /// A field in place of the text; `done` gets the new text, or null.
  edit(done) {
    const field = el('textarea', { value: this.node.content, 'aria-label': 'Edit the message', rows: Math.min(20, this.node.content.split('\n').length + 1) });
    const finish = (text) => {
      form.replaceWith(this.content);
      done(text);
    };
    const keys = (event) => {
      if (event.key === 'Escape') {
        event.stopPropagation();
        finish(null);
      } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && this.node.role === 'user') {
        event.preventDefault();
        finish(field.value);
      }
    };
    const save = this.node.role === 'user' ? 'Send' : 'Keep as a version';
    const form = el('div', { class: 'edit', on: { keydown: keys } }, field,
      el('p', { class: 'choices' }, el('button', { type: 'button', class: 'main', on: { click: () => finish(field.value) } }, save),
        el('button', { type: 'button', on: { click: () => finish(null) } }, 'Cancel')));
    this.content.replaceWith(form);
    field.focus();
  }
}

/// What is shown where a conversation has no messages yet.
export function emptyView(model, summary) {
  return el('div', { class: 'empty' }, el('p', { class: 'empty-model' }, model || 'No model'), el('p', { class: 'hint' }, summary),
    el('p', { class: 'hint' }, icon('columns'), ' compares models side by side, ', icon('gear'), ' sets how one answers.'));
}
