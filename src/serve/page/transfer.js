// Conversations as files: out as JSON or Markdown, in as JSON, of which nothing is believed unseen.

import { el, newId } from './dom.js';
import { checkedSettings } from './settings.js';
import { path } from './tree.js';

const FORMAT = 'gguf conversations';
const VERSION = 1;
const ROLES = ['user', 'assistant', 'tool'];
const ENDS = ['stop', 'length', 'tool_calls', 'stopped', 'left', 'error'];

/// Lets the browser save a text as a file.
export function save(name, text, kind) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = el('a', { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/// A name for a file, of a title.
export function fileName(title, ending) {
  const plain = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '').slice(0, 60);
  return `${plain || 'conversation'}.${ending}`;
}

export function asJson(conversations) {
  return `${JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 1)}\n`;
}

/// The messages that are shown, of all panes.
export function asMarkdown(conversation) {
  const names = { user: 'You', tool: 'Result' };
  const message = (node) => {
    const calls = (node.calls ?? []).map((call) => `\n\nCalls \`${call.name}\`: \`${call.text}\``).join('');
    return `**${names[node.role] ?? node.model ?? 'Answer'}**\n\n${node.content}${calls}\n`;
  };
  const pane = (pane) => path(pane).map(message).join('\n');
  return `# ${conversation.title}\n\n${conversation.panes.map(pane).join('\n---\n\n')}`;
}

/// The conversations of a file. Throws a sentence where it is none of ours.
export function read(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error('This file is not JSON.');
  }
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) throw new Error('This file has no conversations of this page.');
  if (file.version !== VERSION) throw new Error(`This file is of version ${file.version}; this page reads ${VERSION}.`);
  return file.conversations.map(conversation);
}

const isText = (value) => typeof value === 'string';
const list = (value) => (Array.isArray(value) ? value : []);
const time = (value) => (Number.isFinite(value) ? value : Date.now());

/// Checked, and under a new id: what is there already stays.
function conversation(from) {
  const panes = list(from?.panes).map(pane).filter(Boolean);
  if (!panes.length) throw new Error('A conversation of this file has no panes.');
  const title = isText(from.title) ? from.title.slice(0, 200) : 'Imported';
  return { id: newId(), title, created: time(from.created), updated: time(from.updated), panes };
}

function pane(from) {
  const own = from?.nodes;
  if (typeof own !== 'object' || own === null) return null;
  const nodes = {};
  // Walked from the beginning: each message once, so that no circle and nothing out of reach comes in.
  const walk = (ids, parent) => {
    const kept = [];
    for (const id of list(ids)) {
      if (!isText(id) || !Object.hasOwn(own, id) || Object.hasOwn(nodes, id)) continue;
      const made = node(own[id], id, parent);
      if (!made) continue;
      nodes[id] = made;
      kept.push(id);
      queue.push([own[id].children, made]);
    }
    return kept;
  };
  const queue = [];
  const chosen = (value, children) => (Number.isInteger(value) && value >= 0 && value < children.length ? value : Math.max(0, children.length - 1));
  const children = walk(from.children, null);
  while (queue.length) {
    const [ids, parent] = queue.shift();
    parent.children = walk(ids, parent.id);
    parent.chosen = chosen(own[parent.id].chosen, parent.children);
  }
  return { id: newId(), settings: checkedSettings(from.settings), nodes, children, chosen: chosen(from.chosen, children) };
}

function node(from, id, parent) {
  if (!ROLES.includes(from?.role) || !isText(from.content)) return null;
  const made = { id, parent, children: [], chosen: 0, created: time(from.created), role: from.role, content: from.content };
  for (const name of ['thinking', 'model', 'error', 'callId', 'name']) if (isText(from[name])) made[name] = from[name];
  for (const name of ['thinkingMs', 'seed']) if (Number.isFinite(from[name])) made[name] = from[name];
  if (from.isJson === true) made.isJson = true;
  if (ENDS.includes(from.finish)) made.finish = from.finish;
  else if (from.role === 'assistant') made.finish = 'left';
  if (typeof from.stats === 'object' && from.stats !== null) {
    made.stats = Object.fromEntries(Object.entries(from.stats).filter(([, value]) => Number.isFinite(value)));
  }
  const calls = list(from.calls).filter((call) => isText(call?.id) && isText(call.name) && isText(call.text));
  if (calls.length) made.calls = calls.map(({ id, name, text }) => ({ id, name, text }));
  const isPair = (pair) => Array.isArray(pair) && isText(pair[0]) && Number.isFinite(pair[1]);
  const tokens = list(from.tokens).filter((token) => isText(token?.text) && Number.isFinite(token.p));
  if (tokens.length) made.tokens = tokens.map(({ text, p, top }) => ({ text, p, top: list(top).filter(isPair).map(([a, b]) => [a, b]) }));
  return made;
}
