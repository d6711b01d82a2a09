// Elements of the page. They are made of text and other elements alone: nothing that a model or a user wrote is read as HTML.

const SVG = 'http://www.w3.org/2000/svg';

// Outlines on a field of 24 by 24.
const ICONS = {
  check: 'M5 12.5l4.5 4.5L19 7.5',
  close: 'M6 6l12 12M18 6L6 18',
  columns: 'M4 5h16v14H4zM12 5v14',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  down: 'M12 5v14M6 13l6 6 6-6',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  export: 'M12 15V4M8 8l4-4 4 4M4 14v6h16v-6',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  gear: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5',
  help: 'M9 9a3 3 0 1 1 4 2.8c-.7.3-1 .8-1 1.7M12 17v.5',
  left: 'M14 6l-6 6 6 6',
  library: 'M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9',
  menu: 'M4 7h16M4 12h16M4 17h16',
  plus: 'M12 5v14M5 12h14',
  retry: 'M19 12a7 7 0 1 1-2-5M17 3v4h-4',
  right: 'M10 6l6 6-6 6',
  send: 'M12 19V5M6 11l6-6 6 6',
  spectrum: 'M5 19v-5M10 19V6M15 19v-8M20 19v-3',
  stop: 'M7 7h10v10H7z',
  theme: 'M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
};

const PROPERTIES = new Set(['value', 'checked', 'disabled', 'hidden', 'open', 'selected']);

/// An element: `attributes` may have `on` (listeners by event); children are elements or texts, what is null is left out.
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (PROPERTIES.has(name)) {
      element[name] = value;
    } else if (value === true) {
      element.setAttribute(name, '');
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', 'icon');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/// A button with an icon, whose label is shown as a tooltip.
export function iconButton(name, label, click, attributes = {}) {
  const { class: more = '', ...rest } = attributes;
  const all = { type: 'button', class: `icon-button ${more}`.trim(), title: label, 'aria-label': label, ...rest };
  return el('button', { ...all, on: { click } }, icon(name));
}

export function setLabel(button, label) {
  button.title = label;
  button.setAttribute('aria-label', label);
}

export const byId = (id) => document.getElementById(id);

/// Tells screen readers what has happened.
export function announce(text) {
  byId('status').textContent = text;
}

/// A line at the foot of the page that goes away by itself, with a button where there is something to undo.
export function toast(text, action) {
  const line = el('div', { class: 'toast' }, el('span', {}, text));
  const leave = () => line.remove();
  if (action) {
    const click = () => { leave(); action.run(); };
    line.append(el('button', { type: 'button', on: { click } }, action.label));
  }
  line.append(iconButton('close', 'Close', leave));
  byId('toasts').append(line);
  // Who reaches for the button keeps it.
  const due = () => (line.matches(':hover, :focus-within') ? setTimeout(due, 2000) : leave());
  setTimeout(due, action ? 10000 : 6000);
}

/// Puts a text on the clipboard; pages that are not at localhost and come without TLS have the old way alone.
export async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const before = document.activeElement;
  const field = el('textarea', { value: text, class: 'unseen' });
  document.body.append(field);
  field.select();
  document.execCommand('copy');
  field.remove();
  before?.focus();
}

/// A button that copies what `text` gives, and says that it has.
export function copyButton(text, label = 'Copy') {
  const button = iconButton('copy', label, async () => {
    try {
      await copy(text());
      button.replaceChildren(icon('check'));
      announce('Copied');
      setTimeout(() => button.replaceChildren(icon('copy')), 1500);
    } catch {
      toast('The browser does not allow copying here.');
    }
  });
  return button;
}

export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
