// The probabilities of an answer's tokens: its text in colours, and the alternatives of the token that is clicked.
//
// A token: { text, p, top: [[text, p], ...] }, p from 0 to 1, as the model itself gives it, before samplers.

import { el } from './dom.js';

const decoder = new TextDecoder('utf-8', { fatal: true });

/// The text of a token's bytes; bytes that are no characters by themselves are shown as numbers.
function textOf({ token, bytes }) {
  if (!bytes) return { text: token };
  try {
    return { text: decoder.decode(new Uint8Array(bytes)) };
  } catch {
    return { text: bytes.map((byte) => `‹${byte.toString(16).padStart(2, '0')}›`).join(''), isPart: true };
  }
}

/// A token as it is kept, from one of the API.
export function tokenOf(entry) {
  const top = (entry.top_logprobs ?? []).map((other) => [textOf(other).text, Math.exp(other.logprob)]);
  return { ...textOf(entry), p: Math.exp(entry.logprob), top };
}

const percent = (p) => (p >= 0.0995 ? `${(p * 100).toFixed(0)} %` : p >= 0.0005 ? `${(p * 100).toFixed(1)} %` : '< 0.1 %');
const visible = (text) => text.replaceAll('\n', '↵').replaceAll('\t', '⇥').replaceAll(' ', '·') || '(no text)';

/// How likely a token was, as one of the classes that colours have.
function shade(p) {
  return p >= 0.9 ? 'p5' : p >= 0.6 ? 'p4' : p >= 0.3 ? 'p3' : p >= 0.1 ? 'p2' : p >= 0.02 ? 'p1' : 'p0';
}

/// The coloured text. `branch(index, text)` goes on from an alternative; null where that cannot be.
export function probabilities(tokens, branch) {
  const details = el('div', { class: 'alternatives', role: 'region', 'aria-label': 'Alternatives', 'aria-live': 'polite' });
  details.append(el('p', { class: 'hint' }, 'Choose a token to see its alternatives. Arrow keys move along the text.'));
  const text = el('div', { class: 'tokens' });
  const choose = (index) => {
    text.querySelector('[aria-pressed="true"]')?.setAttribute('aria-pressed', 'false');
    const button = text.children[index];
    button.setAttribute('aria-pressed', 'true');
    details.replaceChildren(...alternatives(tokens[index], index, branch));
  };
  tokens.forEach((token, index) => {
    const label = `${token.text.trim() || visible(token.text)}, ${percent(token.p)}`;
    const shown = token.text === '' ? '∅' : token.text.replaceAll('\n', '↵\n');
    // Not a button element: these never break in the middle of a line, as text has to.
    const attributes = { role: 'button', class: `token ${shade(token.p)}`, 'aria-label': label, 'aria-pressed': 'false' };
    text.append(el('span', { ...attributes, title: percent(token.p), tabindex: index ? -1 : 0, on: { click: () => choose(index) } }, shown));
  });
  text.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      event.target.click();
      return;
    }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = step === 1 ? event.target.nextElementSibling : step === -1 ? event.target.previousElementSibling : null;
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  return el('div', { class: 'probabilities' }, text, details);
}

function alternatives(token, index, branch) {
  const isTaken = ([text]) => text === token.text;
  const list = token.top.some(isTaken) ? token.top : [...token.top, [token.text, token.p]];
  const row = (entry) => {
    const [text, p] = entry;
    const bar = el('meter', { min: 0, max: 1, value: p, 'aria-hidden': 'true' });
    const go = () => branch(index, text);
    const canGo = branch && !isTaken(entry) && !text.startsWith('‹');
    const name = canGo
      ? el('button', { type: 'button', class: 'link', title: 'Go on from here with this token', on: { click: go } }, visible(text))
      : el('span', {}, visible(text), isTaken(entry) ? el('span', { class: 'hint' }, ' chosen') : null);
    return el('tr', { class: isTaken(entry) ? 'chosen' : false }, el('td', {}, name), el('td', {}, bar), el('td', { class: 'right' }, percent(p)));
  };
  const hint = branch ? 'Choose an alternative to go on from there in a new version.' : '';
  return [el('table', {}, el('tbody', {}, ...list.map(row))), el('p', { class: 'hint' }, hint)];
}
