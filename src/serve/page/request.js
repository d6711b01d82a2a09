// From the settings of a pane and its messages to the body of a request.

import { Failure } from './server.js';

/// The numbers of a pane's settings; where one is empty, the server's own holds.
export const NUMBERS = [
  { name: 'temperature', label: 'Temperature', min: 0, max: 5, step: 0.05, hint: '0 always takes the likeliest token' },
  { name: 'top_p', label: 'Top p', min: 0, max: 1, step: 0.01, hint: 'the likeliest tokens that make up this share' },
  { name: 'top_k', label: 'Top k', min: 0, max: 100000, step: 1, hint: 'this many tokens at most; 0 for all' },
  { name: 'min_p', label: 'Min p', min: 0, max: 1, step: 0.01, hint: 'tokens with at least this share of the likeliest one' },
  { name: 'repeat_penalty', label: 'Repeat penalty', min: 0.01, max: 10, step: 0.01, hint: '1 is none' },
  { name: 'seed', label: 'Seed', min: 0, max: 4294967295, step: 1, hint: 'the same seed gives the same text; random if empty' },
  { name: 'max_tokens', label: 'Most tokens', min: 1, max: 10000000, step: 1, hint: 'of one answer; as many as fit if empty' },
];

/// Alternatives that are asked for with each token.
const ALTERNATIVES = 10;

export const DEFAULTS = { model: '', system: '', thinking: '', stop: '', schema: '', tools: '', logprobs: false };

/// A text as JSON, or a failure that names the setting.
export function parsed(text, what, isRight) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Failure(`${what}: this is not JSON (${error.message}).`);
  }
  if (!isRight(value)) throw new Failure(`${what}: this is JSON, but of the wrong kind.`);
  return value;
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

export const parsedSchema = (text) => parsed(text, 'JSON schema', (value) => isObject(value) || typeof value === 'boolean');
export const parsedTools = (text) => parsed(text, 'Tools', Array.isArray);

/// The messages as the API wants them. What was thought stays behind, except beside calls of tools, which rest on it.
function messages(settings, nodes) {
  const system = settings.system.trim() ? [{ role: 'system', content: settings.system }] : [];
  const message = (node) => {
    if (node.role === 'tool') return { role: 'tool', tool_call_id: node.callId, name: node.name, content: node.content };
    if (!node.calls?.length) return { role: node.role, content: node.content };
    const calls = node.calls.map(({ id, name, text }) => ({ id, type: 'function', function: { name, arguments: text } }));
    const thought = node.thinking ? { reasoning_content: node.thinking } : {};
    return { role: node.role, content: node.content, ...thought, tool_calls: calls };
  };
  return [...system, ...nodes.map(message)];
}

/// The body of a request for an answer to `nodes`; where the last is the assistant's, it is gone on with.
export function body(settings, nodes, seed) {
  const asked = { messages: messages(settings, nodes), stream: true, return_progress: true, seed };
  asked.stream_options = { include_usage: true };
  if (settings.model) asked.model = settings.model;
  for (const { name } of NUMBERS) {
    if (name !== 'seed' && Number.isFinite(settings[name])) asked[name] = settings[name];
  }
  const stop = settings.stop.split('\n').filter(Boolean).map((line) => line.replaceAll('\\n', '\n'));
  if (stop.length) asked.stop = stop;
  if (settings.thinking) asked.chat_template_kwargs = { enable_thinking: settings.thinking === 'on' };
  if (settings.logprobs) Object.assign(asked, { logprobs: true, top_logprobs: ALTERNATIVES });
  if (settings.schema.trim()) {
    const schema = parsedSchema(settings.schema);
    asked.response_format = { type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } };
  }
  if (settings.tools.trim()) asked.tools = parsedTools(settings.tools);
  return asked;
}

/// The seed of a request: a random one is chosen here, so that the same answer can be asked for again.
export function seedOf(settings) {
  return Number.isFinite(settings.seed) ? settings.seed : crypto.getRandomValues(new Uint32Array(1))[0];
}
