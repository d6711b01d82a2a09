// One answer: asked for, received piece by piece, and put into its node.
//
// Fields of an answer's node: content, thinking, thinkingMs, calls [{ id, name, text }], tokens of the content (see
// probabilities.js), model, seed, stats, finish (how it ended; absent while it runs), error.

import { body, seedOf } from './request.js';
import { Failure, inWords, request } from './server.js';
import { events } from './stream.js';
import { before } from './tree.js';
import { tokenOf } from './probabilities.js';

export class Answer {
  /// `changed` is called after each piece. `seed` asks for a text once more.
  constructor(pane, node, settings, changed, seed) {
    this.pane = pane;
    this.node = node;
    this.settings = settings;
    this.changed = changed;
    this.abort = new AbortController();
    node.seed = seed ?? seedOf(settings);
  }

  /// Ends the answer where it is; the text that came stays.
  stop() {
    this.abort.abort();
  }

  /// Receives the whole answer. What goes wrong is told in the node.
  async run() {
    const { node } = this;
    delete node.finish;
    delete node.error;
    node.model = this.settings.model;
    this.sent = performance.now();
    this.firstMs = null;
    this.received = 0;
    try {
      await this.receive();
    } catch (error) {
      if (error.name === 'AbortError') {
        node.finish = 'stopped';
      } else {
        node.finish = 'error';
        node.error = error instanceof Failure ? error.message : this.lost(error);
      }
    }
    delete node.reading;
    this.endThinking();
    this.changed();
  }

  lost() {
    return this.received
      ? 'The connection to the server was lost. The text that came is kept.'
      : 'The connection to the server was lost before an answer came.';
  }

  async receive() {
    const { node, pane } = this;
    // What the answer has already is the beginning to go on from.
    const nodes = node.content ? [...before(pane, node), node] : before(pane, node);
    const asked = body(this.settings, nodes, node.seed);
    if (!asked.logprobs) delete node.tokens;
    const response = await request('/v1/chat/completions', { body: asked, signal: this.abort.signal });
    for await (const data of events(response.body)) {
      if (data === '[DONE]') {
        node.finish ??= 'stop';
        return;
      }
      this.take(JSON.parse(data));
    }
    throw new Failure(this.lost());
  }

  take(event) {
    if (event.error) throw new Failure(inWords(event.error.status ?? 500, event.error));
    const { node } = this;
    if (event.prompt_progress) node.reading = event.prompt_progress;
    const choice = event.choices?.[0];
    delete node.isLoading;
    if (choice) this.takeChoice(choice);
    if (event.timings || event.usage) this.count(event);
    this.changed();
  }

  takeChoice({ delta = {}, logprobs, finish_reason: finish }) {
    const { node } = this;
    const thought = delta.reasoning_content ?? '';
    const said = delta.content ?? '';
    if (thought || said || delta.tool_calls) {
      this.firstMs ??= performance.now() - this.sent;
      this.received += 1;
      delete node.reading;
    }
    if (thought) {
      this.thinkingSince ??= performance.now();
      node.thinking = (node.thinking ?? '') + thought;
    }
    if (said || delta.tool_calls) this.endThinking();
    node.content += said;
    for (const call of delta.tool_calls ?? []) this.takeCall(call);
    const tokens = thought ? [] : (logprobs?.content ?? []).map(tokenOf);
    if (tokens.length) (node.tokens ??= []).push(...tokens);
    if (finish) node.finish = finish;
  }

  /// Calls come in pieces, which name the place of their call.
  takeCall({ index = 0, id, function: called = {} }) {
    const { node } = this;
    node.calls ??= [];
    node.calls[index] ??= { id: id ?? `call-${index}`, name: '', text: '' };
    const call = node.calls[index];
    if (id) call.id = id;
    call.name += called.name ?? '';
    call.text += typeof called.arguments === 'object' ? JSON.stringify(called.arguments) : (called.arguments ?? '');
  }

  endThinking() {
    if (this.thinkingSince === undefined) return;
    this.node.thinkingMs = (this.node.thinkingMs ?? 0) + performance.now() - this.thinkingSince;
    this.thinkingSince = undefined;
  }

  count({ timings, usage }) {
    const stats = { ...this.node.stats, firstMs: this.firstMs };
    if (timings) {
      stats.perSecond = timings.predicted_per_second;
      stats.answerTokens = timings.predicted_n;
      stats.cachedTokens = timings.cache_n;
      stats.promptTokens = timings.prompt_n + timings.cache_n;
    }
    if (usage) {
      stats.answerTokens = usage.completion_tokens;
      stats.promptTokens = usage.prompt_tokens;
      stats.cachedTokens = usage.prompt_tokens_details?.cached_tokens ?? stats.cachedTokens;
    }
    this.node.stats = stats;
  }
}
