// The field for prompts: one for all panes.

import { byId, el, iconButton, toast } from './dom.js';

/// Longer files would not fit into any context.
const LONGEST_FILE = 4 << 20;

export class Composer {
  /// `host`: send(text), stop(), editLast().
  constructor(host) {
    this.host = host;
    this.field = el('textarea', { id: 'prompt', rows: 1, placeholder: 'Ask …', 'aria-label': 'Prompt', 'aria-keyshortcuts': 'Enter', enterkeyhint: 'send' });
    this.file = el('input', { type: 'file', multiple: true, class: 'unseen', tabindex: -1, 'aria-hidden': 'true', on: { change: () => this.attach(this.file.files) } });
    this.sendButton = iconButton('send', 'Send (Enter)', () => this.send(), { class: 'send' });
    this.stopButton = iconButton('stop', 'Stop (Esc)', () => host.stop(), { class: 'send', hidden: true });
    const attach = iconButton('file', 'Put a text file into the prompt', () => this.file.click());
    this.element = el('form', { class: 'composer', on: { submit: (event) => event.preventDefault() } },
      attach, this.file, this.field, this.stopButton, this.sendButton);
    byId('composer').append(this.element);
    this.field.addEventListener('input', () => this.fit());
    this.field.addEventListener('keydown', (event) => this.key(event));
    const drop = byId('main');
    drop.addEventListener('dragover', (event) => event.preventDefault());
    drop.addEventListener('drop', (event) => {
      event.preventDefault();
      this.attach(event.dataTransfer.files);
    });
  }

  key(event) {
    // Enter that ends the writing of a Chinese or Japanese word sends nothing.
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.send();
    } else if (event.key === 'ArrowUp' && this.field.value === '') {
      event.preventDefault();
      this.host.editLast();
    }
  }

  /// As high as its text, up to a limit that the style sets.
  fit() {
    this.field.style.height = 'auto';
    this.field.style.height = `${this.field.scrollHeight + 2}px`;
  }

  send() {
    const text = this.field.value;
    if (!text.trim() || !this.host.send(text)) return;
    this.set('');
  }

  set(text) {
    this.field.value = text;
    this.fit();
  }

  setBusy(isBusy) {
    const hadFocus = this.element.contains(document.activeElement);
    this.stopButton.hidden = !isBusy;
    this.sendButton.hidden = isBusy;
    if (hadFocus && document.activeElement === document.body) this.focus();
  }

  focus() {
    this.field.focus();
  }

  /// Text files become blocks of code in the prompt.
  async attach(files) {
    for (const file of [...files]) {
      const text = file.size <= LONGEST_FILE ? await file.text() : null;
      if (text === null || text.includes('\0')) {
        toast(text === null ? `${file.name} is too large for a prompt.` : `${file.name} is not a text file.`);
        continue;
      }
      const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((marks) => marks.length));
      const fence = '`'.repeat(longest + 1);
      const kind = /\.(\w+)$/.exec(file.name)?.[1] ?? '';
      const before = this.field.value ? `${this.field.value.trimEnd()}\n\n` : '';
      this.set(`${before}${file.name}:\n${fence}${kind}\n${text.trimEnd()}\n${fence}\n`);
    }
    this.file.value = '';
    this.focus();
  }
}
