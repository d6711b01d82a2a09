// Markdown to elements: headings, lists, code, tables, quotations, links. HTML in it is text like any other.

import { copyButton, el } from './dom.js';
import { highlighted } from './highlight.js';
import { inline } from './inline.js';

/// Lists and quotations inside of each other; deeper ones are paragraphs.
const DEEPEST = 10;

// No part of these can match the same text in two ways: a long line takes no longer than its length.
const FENCE = /^( {0,3})(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s(.*)$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}>\s?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)/;
const DELIMITER = /^:?-+:?$/;

const indentOf = (line) => line.length - line.trimStart().length;
const isBlank = (line) => line.trim() === '';

/// Shows a text that grows: only the last of its blocks are made anew.
export class Markdown {
  constructor(root) {
    this.root = root;
    this.blocks = [];
  }

  update(text) {
    const found = blocks(text.replaceAll('\r\n', '\n').replaceAll('\t', '    ').split('\n'));
    let same = 0;
    while (same < this.blocks.length && this.blocks[same].source === found[same]?.source) same += 1;
    for (const block of this.blocks.splice(same)) block.element.remove();
    for (const block of found.slice(same)) {
      this.blocks.push({ source: block.source, element: block.render() });
      this.root.append(this.blocks.at(-1).element);
    }
  }
}

/// The blocks of some lines, each with its source and a function that makes its element.
function blocks(lines, depth = 0) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      at += 1;
      continue;
    }
    const block = read(lines, at, depth);
    block.source = lines.slice(at, block.end).join('\n');
    found.push(block);
    at = block.end;
  }
  return found;
}

function read(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return code(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    // The page itself has the first two levels.
    const tag = `h${Math.min(heading[1].length + 2, 6)}`;
    return { end: at + 1, render: () => el(tag, {}, ...inline(withoutMarks(heading[2].trim()))) };
  }
  if (RULE.test(line)) return { end: at + 1, render: () => el('hr') };
  if (isTable(lines, at)) return table(lines, at);
  if (depth < DEEPEST && QUOTE.test(line)) return quotation(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return list(lines, at, depth);
  return paragraph(lines, at);
}

/// A heading without the marks that may close it.
function withoutMarks(text) {
  let end = text.length;
  while (text[end - 1] === '#') end -= 1;
  return end === 0 || text[end - 1] === ' ' ? text.slice(0, end).trimEnd() : text;
}

/// Whether a line begins something else than the paragraph above it.
function interrupts(lines, at) {
  const line = lines[at];
  return isBlank(line) || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line)
    || isTable(lines, at);
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && !interrupts(lines, end)) end += 1;
  const text = lines.slice(at, end).map((line) => line.trim()).join('\n');
  return { end, text, render: () => el('p', {}, ...inline(text)) };
}

function code(lines, at, [, indent, mark, info]) {
  const [language] = info.trim().split(/\s/);
  let end = at + 1;
  const closes = (line) => {
    const text = line.trim();
    return indentOf(line) < 4 && text.length >= mark.length && text === mark[0].repeat(text.length);
  };
  while (end < lines.length && !closes(lines[end])) end += 1;
  const strip = (line) => line.slice(Math.min(indent.length, indentOf(line)));
  const text = lines.slice(at + 1, end).map(strip).join('\n');
  return { end: Math.min(end + 1, lines.length), render: () => codeBlock(text, language) };
}

/// A block of code with its language and a button that copies it.
export function codeBlock(text, language) {
  const label = language ? `Code: ${language}` : 'Code';
  return el('figure', { class: 'code' },
    el('figcaption', {}, el('span', {}, language || 'text'), copyButton(() => text, 'Copy code')),
    el('pre', { tabindex: 0, role: 'region', 'aria-label': label }, el('code', {}, ...highlighted(text, language))));
}

function quotation(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && (QUOTE.test(lines[end]) || !interrupts(lines, end))) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ''));
  return { end, render: () => el('blockquote', {}, ...blocks(inner, depth + 1).map((block) => block.render())) };
}

function list(lines, at, depth) {
  const isOrdered = /\d/.test(ITEM.exec(lines[at])[2]);
  const indent = indentOf(lines[at]);
  const items = [];
  let isLoose = false;
  let end = at;
  while (end < lines.length) {
    const found = ITEM.exec(lines[end]);
    const belongs = found && /\d/.test(found[2]) === isOrdered && indentOf(lines[end]) < indent + 2 && !RULE.test(lines[end]);
    if (!belongs) break;
    const item = listItem(lines, end, found);
    items.push(item);
    isLoose ||= item.lines.some((line, i) => isBlank(line) && i < item.lines.length - 1 && !isBlank(item.lines[i + 1])
      && !ITEM.test(item.lines[i + 1]));
    end = item.end;
  }
  const start = isOrdered ? Number.parseInt(lines[at].trim(), 10) : 1;
  const attributes = isOrdered && start !== 1 ? { start } : {};
  // Blank lines after the last item belong to nobody.
  while (end > at + 1 && isBlank(lines[end - 1])) end -= 1;
  return {
    end,
    render: () => el(isOrdered ? 'ol' : 'ul', attributes, ...items.map((item) => itemElement(item.lines, isLoose, depth))),
  };
}

/// The lines of an item, without its mark and indentation.
function listItem(lines, at, [whole, indent, mark, space]) {
  const own = indent.length;
  const width = own + mark.length + Math.min(Math.max(space.length, 1), 4);
  const found = [lines[at].slice(Math.min(whole.length, width))];
  let end = at + 1;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    if (isBlank(line)) {
      found.push('');
    } else if (indentOf(line) >= Math.min(width, own + 2)) {
      // Many models indent by two, however wide the mark is.
      found.push(line.slice(Math.min(indentOf(line), width)));
    } else if (isBlank(lines[end - 1]) || interrupts(lines, end)) {
      break;
    } else {
      found.push(line.trim());
    }
  }
  return { lines: found, end };
}

function itemElement(lines, isLoose, depth) {
  const task = /^\[([ xX])\]\s+/.exec(lines[0]);
  const own = task ? [lines[0].slice(task[0].length), ...lines.slice(1)] : lines;
  const parts = blocks(own, depth + 1).flatMap((block) =>
    (block.text !== undefined && !isLoose ? inline(block.text) : [block.render()]));
  if (!task) return el('li', {}, ...parts);
  const isDone = task[1] !== ' ';
  return el('li', { class: 'task' }, el('span', { class: 'box', role: 'img', 'aria-label': isDone ? 'done' : 'open' }, isDone ? '☑' : '☐'), ' ', ...parts);
}

function isTable(lines, at) {
  const next = lines[at + 1];
  if (next === undefined || !lines[at].includes('|') || !next.includes('|') || !next.includes('-')) return false;
  const delimiters = cells(next);
  return delimiters.every((cell) => DELIMITER.test(cell)) && cells(lines[at]).length === delimiters.length;
}

/// The cells of a row; an escaped bar, or one in code, is text.
function cells(line) {
  const found = [''];
  let inCode = false;
  const row = line.trim().replace(/^\|/, '').replace(/(^|[^\\])\|$/, '$1');
  for (let i = 0; i < row.length; i += 1) {
    if (row[i] === '\\' && row[i + 1] === '|') {
      found[found.length - 1] += '|';
      i += 1;
    } else if (row[i] === '|' && !inCode) {
      found.push('');
    } else {
      if (row[i] === '`') inCode = !inCode;
      found[found.length - 1] += row[i];
    }
  }
  return found.map((cell) => cell.trim());
}

function table(lines, at) {
  const head = cells(lines[at]);
  const side = (cell) => (cell.endsWith(':') ? (cell.startsWith(':') ? 'center' : 'right') : '');
  const sides = cells(lines[at + 1]).map(side);
  let end = at + 2;
  while (end < lines.length && !isBlank(lines[end]) && lines[end].includes('|')) end += 1;
  const rows = lines.slice(at + 2, end).map(cells);
  const row = (tag, texts) => el('tr', {}, ...head.map((_, i) =>
    el(tag, { class: sides[i] || false, scope: tag === 'th' ? 'col' : false }, ...inline(texts[i] ?? ''))));
  return {
    end,
    render: () => el('div', { class: 'table', tabindex: 0, role: 'region', 'aria-label': 'Table' },
      el('table', {}, el('thead', {}, row('th', head)), el('tbody', {}, ...rows.map((texts) => row('td', texts))))),
  };
}
