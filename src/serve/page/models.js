// The models that the server has, and what is known of each.

import { json } from './server.js';

let known = [];
let props = null;
// What the server lets its clients do besides asking.
let abilities = {};
// Models that the server loads when they are asked for.
const onDemand = new Set();
let listener = () => {};

/// `changed` is called when the models are known anew.
export function onModels(changed) {
  listener = changed;
}

/// Asks the server for its models. Throws where it cannot be asked.
export async function loadModels() {
  const { data, gguf } = await json('/v1/models');
  known = data;
  abilities = gguf ?? {};
  for (const { id, status } of data) if (status?.value === 'unloaded') onDemand.add(id);
  // Only llama-server's route tells what holds where a request does not say, and of a model that is loaded.
  props = data.some(({ id }) => isLoaded(id)) ? await json('/props').catch(() => null) : null;
  listener();
}

export const models = () => known;

/// Whether the server lets its clients change models (`manage`), or has a report of a comparison (`report`).
export const can = (what) => Boolean(abilities[what]);

export const isServed = (id) => known.some((model) => model.id === id);

/// Whether a model is in memory. Servers that say nothing of it have loaded all.
export const isLoaded = (id) => known.find((model) => model.id === id)?.status?.value !== 'unloaded';

/// Whether a model can be loaded and unloaded.
export const isOnDemand = (id) => onDemand.has(id);

/// Loads a model, or takes it out of memory; then all models are known anew.
export async function setLoaded(id, isWanted) {
  await json(isWanted ? '/models/load' : '/models/unload', { body: { model: id } });
  return loadModels();
}

/// Tokens of a conversation that a model can read; null where that is not known.
export function contextLength(id) {
  const model = known.find((model) => model.id === id);
  return model?.meta?.n_ctx ?? null;
}

/// What holds for a setting where a request does not say; the server tells it of one model.
export function usual(id, name) {
  if (props?.model_alias !== id) return null;
  const value = props.default_generation_settings?.params?.[name];
  return typeof value === 'number' ? value : null;
}

const scaled = (n, units, base) => {
  let unit = 0;
  while (n >= base && unit < units.length - 1) {
    n /= base;
    unit += 1;
  }
  return `${n >= 100 || unit === 0 ? n.toFixed(0) : n.toPrecision(3)}${units[unit]}`;
};

export const shortNumber = (n) => scaled(n, ['', ' k', ' M', ' B', ' T'], 1000);
export const bytes = (n) => scaled(n, [' bytes', ' kB', ' MB', ' GB', ' TB'], 1000);

/// A line about a model: parameters, type, size, context.
export function summary(id) {
  const meta = known.find((model) => model.id === id)?.meta;
  if (!meta) return '';
  const parts = [];
  if (meta.n_params) parts.push(`${shortNumber(meta.n_params)} parameters`);
  if (meta.ftype && meta.ftype !== 'unknown') parts.push(meta.ftype);
  if (meta.size) parts.push(bytes(meta.size));
  if (meta.n_ctx) parts.push(`context ${meta.n_ctx.toLocaleString('en')}`);
  return parts.join(' · ');
}

/// What the server tells of a model in full: rows of a name and a value, and its chat template.
export async function details(id) {
  const shown = await json('/api/show', { body: { model: id } });
  const info = shown.model_info ?? {};
  const family = shown.details?.family;
  const meta = known.find((model) => model.id === id)?.meta ?? {};
  const rows = [
    ['Name', info['general.name']],
    ['Architecture', family],
    ['Parameters', meta.n_params && meta.n_params.toLocaleString('en')],
    ['Type', shown.details?.quantization_level],
    ['Size', meta.size && bytes(meta.size)],
    ['Context', meta.n_ctx && `${meta.n_ctx.toLocaleString('en')} tokens`],
    ['Trained on', meta.n_ctx_train && `${meta.n_ctx_train.toLocaleString('en')} tokens`],
    ['Layers', info[`${family}.block_count`]],
    ['Vocabulary', meta.n_vocab && `${meta.n_vocab.toLocaleString('en')} tokens`],
    ['Can', (shown.capabilities ?? []).join(', ')],
    ['License', shown.license?.slice(0, 200)],
  ];
  return { rows: rows.filter(([, value]) => value), template: shown.template ?? '' };
}
