// The settings of a pane, in a dialog.

import { byId, el, iconButton, toast } from './dom.js';
import { details, isLoaded, isOnDemand, isServed, models, setLoaded, summary, usual } from './models.js';
import { DEFAULTS, NUMBERS, parsedSchema, parsedTools } from './request.js';
import { remember, remembered } from './store.js';

/// What a new conversation begins with.
export function defaultSettings() {
  return checkedSettings(remembered('settings') ?? {});
}

/// Settings of any origin as this page knows them: what has another type is left out.
export function checkedSettings(settings) {
  const known = { ...DEFAULTS };
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    if (typeof settings?.[name] === typeof usual) known[name] = settings[name];
  }
  if (!['', 'on', 'off'].includes(known.thinking)) known.thinking = '';
  for (const { name } of NUMBERS) {
    if (Number.isFinite(settings?.[name])) known[name] = settings[name];
  }
  return known;
}

let ids = 0;

/// A label, a field, and a line about it.
function field(label, input, hint) {
  ids += 1;
  input.id = `setting-${ids}`;
  const parts = [el('label', { for: input.id }, label), input];
  if (hint) {
    input.setAttribute('aria-describedby', `${input.id}-hint`);
    parts.push(el('span', { class: 'hint', id: `${input.id}-hint` }, hint));
  }
  return el('div', { class: 'field' }, ...parts);
}

function area(value, rows, placeholder = '', isCode = false) {
  return el('textarea', { value, rows, placeholder, class: isCode ? 'mono' : false, spellcheck: isCode ? 'false' : 'true' });
}

/// Shows the dialog; `done` gets the new settings when they are taken.
export function openSettings(settings, done) {
  const dialog = byId('settings');
  const form = new Form(settings, (changed) => {
    dialog.close();
    done(changed);
  });
  const close = iconButton('close', 'Close without a change', () => dialog.close());
  dialog.replaceChildren(el('header', {}, el('h2', { id: 'settings-title' }, 'Settings of this pane'), close), form.element);
  dialog.showModal();
}

class Form {
  constructor(settings, done) {
    this.done = done;
    this.model = el('select', { on: { change: () => this.showModel() } },
      ...models().map(({ id }) => el('option', { value: id }, id)));
    if (settings.model && !isServed(settings.model)) this.model.prepend(el('option', { value: settings.model }, `${settings.model} (not served now)`));
    this.model.value = settings.model;
    this.system = area(settings.system, 4, 'What the model is told before the conversation');
    this.thinking = el('select', {}, el('option', { value: '' }, 'as the model does'), el('option', { value: 'on' }, 'on'), el('option', { value: 'off' }, 'off'));
    this.thinking.value = settings.thinking;
    this.logprobs = el('input', { type: 'checkbox', checked: settings.logprobs });
    this.stop = area(settings.stop, 2, 'One a line', true);
    this.schema = area(settings.schema, 5, '{"type": "object", "properties": {"name": {"type": "string"}}}', true);
    this.tools = area(settings.tools, 5, '[{"type": "function", "function": {"name": "…", "parameters": {…}}}]', true);
    this.numbers = NUMBERS.map((number) => ({ number, input: this.numberField(number, settings[number.name]) }));
    this.about = el('div', { class: 'about' });
    this.error = el('p', { class: 'error', role: 'alert', hidden: true });
    const keep = () => this.keepAsDefault();
    this.element = el('form', { method: 'dialog', on: { submit: (event) => this.submit(event) } },
      el('div', { class: 'fields' },
        field('Model', this.model), this.about,
        field('System prompt', this.system),
        el('fieldset', {}, el('legend', {}, 'How tokens are chosen'),
          el('div', { class: 'numbers' }, ...this.numbers.map(({ number, input }) => field(number.label, input, number.hint)))),
        field('Thinking', this.thinking, 'for models whose template has a switch for it'),
        field('Stop texts', this.stop, 'an answer ends before one of these; \\n stands for a line break'),
        el('div', { class: 'field check' }, el('label', {}, this.logprobs, ' Ask for the probabilities of tokens')),
        field('JSON schema', this.schema, 'answers are JSON that this schema allows, and nothing else'),
        field('Tools', this.tools, 'functions that the model may call; you give their results'),
        this.error),
      el('footer', {}, el('button', { type: 'button', on: { click: keep } }, 'Use for new conversations'),
        el('button', { type: 'submit', class: 'main' }, 'Done')));
    this.showModel();
  }

  numberField({ min, max, step, name }, value) {
    // Any number of digits is fine: the step is only what the arrows do.
    const input = el('input', { type: 'number', min, max, step: step === 1 ? 1 : 'any', inputmode: 'decimal', value: value ?? '', 'data-name': name });
    if (step !== 1) {
      input.addEventListener('keydown', (event) => {
        const turn = { ArrowUp: 1, ArrowDown: -1 }[event.key];
        if (!turn) return;
        event.preventDefault();
        const from = input.value === '' ? Number(input.placeholder || 0) : Number(input.value);
        input.value = Math.min(max, Math.max(min, Number((from + turn * step).toFixed(4))));
      });
    }
    return input;
  }

  /// What the server's own settings are, and what is known of the model.
  showModel() {
    const id = this.model.value;
    for (const { number, input } of this.numbers) input.placeholder = number.name === 'seed' ? 'random' : (usual(id, number.name) ?? '');
    const more = el('details', {}, el('summary', {}, 'About this model'));
    more.addEventListener('toggle', () => this.fillDetails(more, id), { once: true });
    const loading = isOnDemand(id) ? [this.loadButton(id)] : [];
    this.about.replaceChildren(el('p', { class: 'hint' }, summary(id)), ...loading, ...(isServed(id) ? [more] : []));
  }

  /// Loads a model ahead of its first answer, or makes room for others.
  loadButton(id) {
    const isIn = isLoaded(id);
    const button = el('button', { type: 'button' }, isIn ? 'Unload' : 'Load now');
    button.addEventListener('click', async () => {
      button.disabled = true;
      button.textContent = isIn ? 'Unloading …' : 'Loading …';
      try {
        await setLoaded(id, !isIn);
        this.error.hidden = true;
      } catch (error) {
        this.tell(error.message);
      }
      if (this.model.value === id) this.showModel();
    });
    return button;
  }

  async fillDetails(more, id) {
    try {
      const { rows, template } = await details(id);
      more.append(el('dl', {}, ...rows.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, String(value))))));
      if (template) more.append(el('details', {}, el('summary', {}, 'Chat template'), el('pre', { tabindex: 0, class: 'mono' }, template)));
    } catch (error) {
      more.append(el('p', { class: 'error' }, error.message));
    }
  }

  /// The settings as they are filled in. Throws where one makes no sense.
  read() {
    const settings = {
      model: this.model.value, system: this.system.value, thinking: this.thinking.value, stop: this.stop.value,
      schema: this.schema.value, tools: this.tools.value, logprobs: this.logprobs.checked,
    };
    for (const { number, input } of this.numbers) {
      if (input.value !== '') settings[number.name] = Number(input.value);
    }
    if (settings.schema.trim()) parsedSchema(settings.schema);
    if (settings.tools.trim()) parsedTools(settings.tools);
    return settings;
  }

  checked() {
    try {
      return this.read();
    } catch (error) {
      this.tell(error.message);
      return null;
    }
  }

  tell(message) {
    this.error.textContent = message;
    this.error.hidden = false;
    this.error.scrollIntoView({ block: 'nearest' });
  }

  submit(event) {
    event.preventDefault();
    const settings = this.checked();
    if (settings) this.done(settings);
  }

  keepAsDefault() {
    const settings = this.checked();
    if (!settings) return;
    remember('settings', settings);
    toast('New conversations begin with these settings.');
  }
}
