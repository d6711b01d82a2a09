// Colours for code: comments, texts, numbers, keywords. Enough to see its shape, in one pass over any language.

import { el } from './dom.js';

/// Longer code stays plain.
const LONGEST = 60000;

const words = (text) => new Set(text.split(' '));

const C_LIKE = 'if else for while do switch case default break continue return const static struct enum union typedef sizeof '
  + 'void int char float double long short unsigned signed bool true false null nullptr class public private protected virtual '
  + 'override new delete this try catch throw template typename namespace using auto import package interface extends implements '
  + 'final abstract func fun var val let type range map chan go defer select fallthrough when object companion data sealed suspend '
  + 'internal string in out ref async await foreach is as';
const SCRIPT = 'if else for while do switch case default break continue return const let var function class extends new this super '
  + 'import export from as async await yield try catch finally throw typeof instanceof in of delete void null undefined true false '
  + 'interface type enum implements readonly private public protected static get set';
const PYTHON = 'and as assert async await break class continue def del elif else except finally for from global if import in is '
  + 'lambda match case None nonlocal not or pass raise return self True False try while with yield';
const RUST = 'as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub '
  + 'ref return self Self static struct super trait true type unsafe use where while';
const SHELL = 'if then else elif fi for while until do done case esac in function return local export set unset echo cd exit source';
const SQL = 'select from where group by order having limit offset insert into values update set delete create table alter drop index '
  + 'view join left right inner outer full on as and or not null is in like between union all distinct case when then else end with '
  + 'primary key foreign references default unique';

const SLASHES = { line: '//', block: ['/*', '*/'] };
const LANGUAGES = {
  c: { ...SLASHES, words: words(C_LIKE) },
  javascript: { ...SLASHES, words: words(SCRIPT), quotes: '"\'`' },
  rust: { ...SLASHES, words: words(RUST), quotes: '"' },
  python: { line: '#', words: words(PYTHON), triple: true },
  shell: { line: '#', words: words(SHELL) },
  sql: { line: '--', block: ['/*', '*/'], words: words(SQL), anyCase: true },
  json: { words: words('true false null'), quotes: '"', keys: true },
  yaml: { line: '#', words: words('true false null yes no'), keys: true },
  css: { block: ['/*', '*/'], words: words('important media import supports keyframes root'), keys: true },
  html: { block: ['<!--', '-->'], tags: true, words: words('') },
  ruby: { line: '#', words: words('def end class module if elsif else unless while do return yield self nil true false and or not require begin rescue ensure case when then') },
  lua: { line: '--', words: words('and break do else elseif end false for function goto if in local nil not or repeat return then true until while') },
};

const NAMES = {
  'c++': 'c', cpp: 'c', h: 'c', hpp: 'c', java: 'c', go: 'c', golang: 'c', cs: 'c', csharp: 'c', kotlin: 'c', kt: 'c', swift: 'c',
  scala: 'c', php: 'c', dart: 'c', zig: 'c', js: 'javascript', ts: 'javascript', jsx: 'javascript', tsx: 'javascript',
  typescript: 'javascript', mjs: 'javascript', py: 'python', python3: 'python', rs: 'rust', sh: 'shell', bash: 'shell', zsh: 'shell',
  console: 'shell', dockerfile: 'shell', makefile: 'shell', jsonc: 'json', json5: 'json', yml: 'yaml', toml: 'yaml', ini: 'yaml',
  scss: 'css', xml: 'html', svg: 'html', vue: 'html', rb: 'ruby', postgresql: 'sql', mysql: 'sql', sqlite: 'sql',
};

/// The nodes of some code.
export function highlighted(text, name) {
  const known = name.toLowerCase();
  if (known === 'diff' || known === 'patch') return diff(text);
  const language = LANGUAGES[NAMES[known] ?? known];
  if (!language || text.length > LONGEST) return [text];
  return scan(text, language);
}

function diff(text) {
  const kind = (line) => (line.startsWith('+') ? 'added' : line.startsWith('-') ? 'removed' : line.startsWith('@@') ? 'comment' : '');
  return text.split(/(?<=\n)/).map((line) => (kind(line) ? el('span', { class: `hl-${kind(line)}` }, line) : line));
}

function scan(text, language) {
  const nodes = [];
  let plain = '';
  let at = 0;
  const take = (kind, length) => {
    if (plain) nodes.push(plain);
    plain = '';
    nodes.push(el('span', { class: `hl-${kind}` }, text.slice(at, at + length)));
    at += length;
  };
  while (at < text.length) {
    const comment = commentLength(text, at, language);
    const quoted = comment ? 0 : textLength(text, at, language);
    if (comment) {
      take('comment', comment);
    } else if (quoted) {
      const isKey = language.keys && /^\s*:/.test(text.slice(at + quoted, at + quoted + 20));
      take(isKey ? 'key' : 'text', quoted);
    } else {
      const [kind, length] = word(text, at, language);
      if (kind) {
        take(kind, length);
      } else {
        plain += text.slice(at, at + length);
        at += length;
      }
    }
  }
  if (plain) nodes.push(plain);
  return nodes;
}

function commentLength(text, at, { line, block }) {
  if (block && text.startsWith(block[0], at)) {
    const end = text.indexOf(block[1], at + block[0].length);
    return (end < 0 ? text.length : end + block[1].length) - at;
  }
  // A mark in the middle of a word (`a#b`, `https://`) begins no comment.
  if (line && text.startsWith(line, at) && (at === 0 || !/[\w:$]/.test(text[at - 1]))) {
    const end = text.indexOf('\n', at);
    return (end < 0 ? text.length : end) - at;
  }
  return 0;
}

function textLength(text, at, { quotes = '"\'', triple }) {
  const quote = text[at];
  if (!quotes.includes(quote)) return 0;
  const three = quote.repeat(3);
  if (triple && text.startsWith(three, at)) {
    const end = text.indexOf(three, at + 3);
    return (end < 0 ? text.length : end + 3) - at;
  }
  // Apostrophes in words are none.
  if (quote === '\'' && /\w/.test(text[at - 1] ?? '')) return 0;
  let end = at + 1;
  while (end < text.length && text[end] !== quote) {
    if (text[end] === '\n' && quote !== '`') return end - at;
    end += text[end] === '\\' ? 2 : 1;
  }
  return Math.min(end + 1, text.length) - at;
}

const WORD = /[\p{L}_$@][\p{L}\p{N}_$]*|\d[\w.]*|<\/?[\w-]+|\/?>|\s+|./suy;

/// The kind and length of what stands at a place.
function word(text, at, language) {
  WORD.lastIndex = at;
  const found = WORD.exec(text)[0];
  if (/^\d/.test(found)) return ['number', found.length];
  if (language.tags && /^<\/?[\w-]|^\/?>$/.test(found)) return ['keyword', found.length];
  // `<T` is no tag elsewhere.
  if (!language.tags && found.length > 1 && found.startsWith('<')) return ['', 1];
  const plain = language.anyCase ? found.toLowerCase() : found;
  if (language.words.has(plain)) return ['keyword', found.length];
  if (language.keys && /^[\p{L}_$@-]/u.test(found) && /^[\w-]*\s*[:=]/.test(text.slice(at + found.length, at + found.length + 40))) {
    return ['key', found.length];
  }
  if (/^[\p{L}_$]/u.test(found) && text[at + found.length] === '(') return ['call', found.length];
  return ['', found.length];
}
