// The inline part of Markdown: emphasis, code, links. Images are links too: nothing is fetched from the network.

import { el } from './dom.js';

const DEEPEST = 12;
const LONGEST_LINK = 2000;
const URL_TEXT = /^https?:\/\/[^\s<>"`]+/;
const ESCAPABLE = /[!-/:-@[-`{-~]/;

/// A place to go, if a link may lead there.
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(url, ...children) {
  const href = safeUrl(url);
  if (!href) return el('span', {}, ...children);
  return el('a', { href, rel: 'noopener noreferrer nofollow', target: '_blank', title: href }, ...children);
}

/// Nodes for a text of one paragraph.
export function inline(text, depth = 0) {
  return new Inline(text, depth).read();
}

class Inline {
  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
    this.at = 0;
    this.nodes = [];
    this.plain = '';
    // Marks without an end: their next occurrence need not search again.
    this.unclosed = new Set();
  }

  read() {
    while (this.at < this.text.length) {
      if (!this.special()) {
        this.plain += this.text[this.at];
        this.at += 1;
      }
    }
    this.flush();
    return this.nodes;
  }

  flush() {
    if (this.plain) this.nodes.push(this.plain);
    this.plain = '';
  }

  push(node, length) {
    this.flush();
    this.nodes.push(node);
    this.at += length;
    return true;
  }

  inner(text) {
    return this.depth < DEEPEST ? inline(text, this.depth + 1) : [text];
  }

  special() {
    switch (this.text[this.at]) {
      case '\\': return this.escape();
      case '\n': return this.lineBreak();
      case '`': return this.code();
      case '*': case '_': return this.emphasis();
      case '~': return this.text.startsWith('~~', this.at) && this.marked('~~', 'del');
      case '[': return this.link(this.at);
      case '!': return this.text[this.at + 1] === '[' && this.link(this.at + 1);
      case '<': return this.autolink();
      case 'h': return this.bareUrl();
      default: return false;
    }
  }

  escape() {
    const next = this.text[this.at + 1];
    if (next === '\n') {
      this.at += 1;
      return this.lineBreak();
    }
    if (next === undefined || !ESCAPABLE.test(next)) return false;
    this.plain += next;
    this.at += 2;
    return true;
  }

  /// A line is a line, as models mean it.
  lineBreak() {
    this.plain = this.plain.trimEnd();
    return this.push(el('br'), 1);
  }

  code() {
    let marks = 1;
    while (this.text[this.at + marks] === '`') marks += 1;
    const mark = '`'.repeat(marks);
    let end = this.unclosed.has(mark) ? -1 : this.text.indexOf(mark, this.at + marks);
    while (end >= 0 && this.text[end + marks] === '`') {
      let next = end;
      while (this.text[next] === '`') next += 1;
      end = this.text.indexOf(mark, next);
    }
    if (end < 0) {
      this.unclosed.add(mark);
      this.plain += mark;
      this.at += marks;
      return true;
    }
    const content = this.text.slice(this.at + marks, end).replaceAll('\n', ' ');
    const padded = content.startsWith(' ') && content.endsWith(' ') && content.trim();
    return this.push(el('code', {}, padded ? content.slice(1, -1) : content), end + marks - this.at);
  }

  emphasis() {
    const mark = this.text[this.at];
    // Underscores inside of words are letters.
    if (mark === '_' && /[\p{L}\p{N}_]/u.test(this.text[this.at - 1] ?? ' ')) return false;
    return (this.text.startsWith(mark + mark, this.at) && this.marked(mark + mark, 'strong')) || this.marked(mark, 'em');
  }

  /// What stands between two marks of the same kind, neither beside white space on its inner side.
  marked(mark, tag) {
    const from = this.at + mark.length;
    if (this.unclosed.has(mark) || /\s/.test(this.text[from] ?? ' ')) return false;
    for (let end = this.text.indexOf(mark, from); end >= 0; end = this.text.indexOf(mark, end + 1)) {
      const isLonger = mark.length === 1 && (this.text[end + 1] === mark || this.text[end - 1] === mark);
      const inWord = mark === '_' && /[\p{L}\p{N}]/u.test(this.text[end + 1] ?? ' ');
      // The last of several marks in a row ends what the first began.
      const isLast = mark.length === 1 || this.text[end + mark.length] !== mark[0];
      if (end > from && !isLonger && !inWord && isLast && !/\s/.test(this.text[end - 1])) {
        return this.push(el(tag, {}, ...this.inner(this.text.slice(from, end))), end + mark.length - this.at);
      }
    }
    this.unclosed.add(mark);
    return false;
  }

  /// `[text](url "title")`; `bracket` is where the bracket opens, after `!` for images.
  link(bracket) {
    let open = 0;
    let close = bracket;
    const limit = Math.min(this.text.length, bracket + LONGEST_LINK);
    for (; close < limit; close += 1) {
      if (this.text[close] === '\\') close += 1;
      else if (this.text[close] === '[') open += 1;
      else if (this.text[close] === ']' && --open === 0) break;
    }
    if (open !== 0 || this.text[close + 1] !== '(') return false;
    const rest = this.text.slice(close + 2, close + 2 + LONGEST_LINK);
    const target = /^\s*(?:<([^<>\n]*)>|((?:[^\s()]|\([^\s()]*\))*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(rest);
    if (!target) return false;
    const url = target[1] ?? target[2];
    const text = this.text.slice(bracket + 1, close);
    const isImage = bracket > this.at;
    const shown = isImage ? [`image: ${text || url}`] : this.inner(text);
    return this.push(link(url, ...shown), close + 2 + target[0].length - this.at);
  }

  autolink() {
    const found = /^<((?:https?:\/\/|mailto:)[^\s<>]+)>/.exec(this.text.slice(this.at, this.at + LONGEST_LINK));
    return found ? this.push(link(found[1], found[1]), found[0].length) : false;
  }

  bareUrl() {
    if (/[\p{L}\p{N}]/u.test(this.text[this.at - 1] ?? ' ') || !this.text.startsWith('http', this.at)) return false;
    const found = URL_TEXT.exec(this.text.slice(this.at, this.at + LONGEST_LINK));
    if (!found) return false;
    let url = found[0].replace(/[.,;:!?'*_~]+$/, '');
    // A bracket that was opened before the URL is not a part of it.
    while (url.endsWith(')') && url.split(')').length > url.split('(').length) url = url.slice(0, -1);
    return this.push(link(url, url), url.length);
  }
}
