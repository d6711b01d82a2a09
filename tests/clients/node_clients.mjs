// Calls of the clients for Node.js: openai, Vercel's AI SDK and ollama.
//
//     npm install openai ai @ai-sdk/openai-compatible ollama zod
//     node node_clients.mjs http://127.0.0.1:8080 [MODEL]
//
// Prints a line for each call and ends with status 1 when one is not as it should be.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { generateObject, generateText, streamText, tool } from 'ai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { Ollama } from 'ollama';
import { z } from 'zod';

const base = process.argv[2] ?? 'http://127.0.0.1:8080';
let failed = false;

async function check(name, call) {
  try {
    console.log('ok  ', name, JSON.stringify(await call())?.slice(0, 90) ?? '');
  } catch (error) {
    failed = true;
    console.log('FAIL', name, error.name, String(error.message).slice(0, 300));
  }
}

const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'none' });
const model = process.argv[3] ?? (await openai.models.list()).data[0].id;
const messages = [{ role: 'user', content: 'Say hello.' }];
const schema = { type: 'object', properties: { name: { type: 'string' }, age: { type: 'integer' } }, required: ['name', 'age'], additionalProperties: false };
const weather = { type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } } };

await check('openai: models', async () => (await openai.models.retrieve(model)).id);
await check('openai: chat', async () => {
  const answer = await openai.chat.completions.create({ model, messages, max_completion_tokens: 8, temperature: 0, logprobs: true, top_logprobs: 2 });
  assert(answer.usage.completion_tokens > 0 && answer.choices[0].logprobs.content.length > 0);
  return answer.choices[0].message.content;
});
await check('openai: chat streamed', async () => {
  let text = '', usage = null;
  const stream = await openai.chat.completions.create({ model, messages, max_tokens: 8, temperature: 0, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert(text && usage.total_tokens > 0);
  return text;
});
await check('openai: stream helper', async () => {
  const runner = openai.chat.completions.stream({ model, messages, max_tokens: 8, temperature: 0 });
  return (await runner.finalChatCompletion()).choices[0].message.content;
});
await check('openai: n and seed', async () => {
  const ask = () => openai.chat.completions.create({ model, messages, n: 2, seed: 7, max_tokens: 6 });
  const [first, second] = [await ask(), await ask()];
  assert.deepEqual(first.choices.map((c) => c.message.content), second.choices.map((c) => c.message.content));
  return first.choices.length;
});
await check('openai: json_schema', async () => {
  const response_format = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema } };
  const answer = await openai.chat.completions.create({ model, messages, response_format, max_tokens: 80, temperature: 0 });
  const person = JSON.parse(answer.choices[0].message.content);
  assert(typeof person.name === 'string' && Number.isInteger(person.age));
  return person;
});
await check('openai: required tool', async () => {
  const answer = await openai.chat.completions.create({ model, messages, tools: [weather], tool_choice: 'required', max_tokens: 80, temperature: 0 });
  const call = answer.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, 'weather');
  assert.equal(typeof JSON.parse(call.function.arguments).city, 'string');
  return call.function;
});
await check('openai: completion', async () => (await openai.completions.create({ model, prompt: 'Once', max_tokens: 8 })).choices[0].text);
await check('openai: responses', async () => (await openai.responses.create({ model, input: 'Say hello.', max_output_tokens: 8 })).output_text);
await check('openai: responses streamed', async () => {
  let text = '';
  for await (const event of await openai.responses.create({ model, input: 'Say hello.', max_output_tokens: 8, stream: true })) {
    if (event.type === 'response.output_text.delta') text += event.delta;
  }
  assert(text);
  return text;
});
await check('openai: errors', async () => {
  await assert.rejects(openai.chat.completions.create({ model, messages, temperature: 99 }), OpenAI.BadRequestError);
  await assert.rejects(openai.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
});

const provider = createOpenAICompatible({ name: 'gguf', baseURL: `${base}/v1`, supportsStructuredOutputs: true, includeUsage: true });
await check('ai: generateText', async () => (await generateText({ model: provider(model), prompt: 'Say hello.', maxOutputTokens: 8 })).text);
await check('ai: streamText', async () => {
  let text = '';
  for await (const piece of streamText({ model: provider(model), prompt: 'Say hello.', maxOutputTokens: 8 }).textStream) text += piece;
  assert(text);
  return text;
});
await check('ai: generateObject', async () => {
  const person = z.object({ name: z.string().max(20), age: z.number().int() });
  return (await generateObject({ model: provider(model), prompt: 'A person.', schema: person, temperature: 0 })).object;
});
await check('ai: tools', async () => {
  const tools = { weather: tool({ description: 'The weather', inputSchema: z.object({ city: z.string() }) }) };
  const answer = await generateText({ model: provider(model), prompt: 'Weather?', tools, toolChoice: 'required', maxOutputTokens: 80, temperature: 0 });
  assert.equal(answer.toolCalls[0].toolName, 'weather');
  return answer.toolCalls[0].input;
});

const ollama = new Ollama({ host: base });
await check('ollama: list', async () => (await ollama.list()).models.length);
await check('ollama: show', async () => (await ollama.show({ model })).details);
await check('ollama: ps', async () => (await ollama.ps()).models.length);
await check('ollama: chat', async () => (await ollama.chat({ model, messages, options: { num_predict: 8 } })).message.content);
await check('ollama: chat streamed', async () => {
  let text = '', last = null;
  for await (const part of await ollama.chat({ model, messages, stream: true, options: { num_predict: 8 } })) {
    text += part.message.content;
    last = part;
  }
  assert(text && last.done && last.eval_count > 0);
  return text;
});
await check('ollama: generate', async () => (await ollama.generate({ model, prompt: 'Say hello.', options: { num_predict: 8 } })).response);
await check('ollama: format', async () => {
  const answer = await ollama.chat({ model, messages, format: schema, options: { num_predict: 80, temperature: 0 } });
  const person = JSON.parse(answer.message.content);
  assert(typeof person.name === 'string' && Number.isInteger(person.age));
  return person;
});
process.exit(failed ? 1 : 0);
