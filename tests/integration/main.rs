//! The integration tests: one binary, one module a subject.

// Adapters (LoRA).
mod adapters;
// Mutants of everything that is read, which the fuzz targets share.
#[path = "../mutants/mod.rs"]
mod mutants;
// What a forward pass asks of the allocator.
mod allocations;
// Many requests at once.
mod batcher;
// `gguf bench`.
mod bench_command;
// Settings that checkpoints leave out.
mod absent_settings;
// `gguf compare`.
mod compare;
// `gguf chat` with one answer.
mod chat_command;
// Chat templates of published models.
mod chat_templates;
// Conversations in the library.
mod chats;
// Checkpoints in folders.
mod checkpoints;
// What errors say.
mod error_texts;
// Encoders: bytes, hidden states, embeddings.
mod encoders;
// Rerankers: tokens, scores, `gguf rerank`, `/v1/rerank`.
mod rerankers;
// Whole quantized files.
mod quantized;
// The program's own handlers of signals and of memory that ends, in this process too.
#[path = "../../src/cli/faults/mod.rs"]
#[allow(dead_code, reason = "tests have the usual allocator")]
mod faults;
// Codecs against what llama-quantize writes.
mod circles;
mod codecs;
// A browser, driven from here.
#[cfg(feature = "serve")]
mod browser;
// The other byte order.
mod byte_order;
// Answers that have to be something.
#[cfg(feature = "constrain")]
mod constraints;
// Conversions of checkpoints.
mod convert;
// Tiny checkpoints, made here.
mod goldens;
// Logits of tiny checkpoints.
mod logits;
// Layers that predict further tokens.
mod mtp;
// The page of models.
mod models_page;
// Families whose checkpoints bring their own code.
mod remote_code;
// Manners that all commands share.
mod manners;
// GGUF files of other programs and years.
mod foreign_files;
// Folders for what tests write.
mod folder;
// Crafted and broken files.
mod hostile;
// The same bits for every split, thread and CPU; regions a token.
mod invariants;
// Layers, sizes of files, unsafe code.
mod house;
// What a model would take, against what it takes.
mod fit;
// `gguf hash`.
mod hash;
// `gguf check`.
mod check;
// Ids of its findings.
mod check_ids;
// `gguf imatrix`.
mod imatrix;
// `gguf inspect`.
mod inspect;
// `gguf quantize`.
mod quantize_command;
// Options of `gguf quantize` and `gguf convert`, reports.
mod quantize_options;
// Types as in another model, and by recipes.
mod recipes;
// Types for a size.
mod target_sizes;
// `gguf perplexity`.
mod perplexity_command;
mod perplexity_resume;
mod perplexity_tasks;
// `gguf run`, `rm`, `browse`, and models that stay on their server.
#[cfg(feature = "net")]
mod fetched_models;
// `gguf create`, `cp`, `show`, `ps`.
#[cfg(all(feature = "net", unix))]
mod made_models;
// `gguf pull`.
#[cfg(feature = "net")]
mod pull;
// Servers on loopback, good ones and bad ones.
#[cfg(feature = "net")]
mod servers;
// Names in place of paths.
mod names;
// `gguf edit`.
mod edit;
// `gguf export`.
mod export;
// `gguf diff`.
mod diff;
// Outputs that cannot be written.
mod outputs;
// The page of `gguf serve`.
#[cfg(feature = "serve")]
mod page;
// What is said before a run.
mod preflight;
// Files of the reference programs, written again.
mod round_trip;
// Two published models.
mod real_models;
// Tokenizers against the `tokenizers` crate.
mod reference_tokenizers;
// `gguf serve` over HTTP: what all dialects share, OpenAI's completions, llama-server's and Ollama's routes.
#[cfg(feature = "serve")]
mod serve;
// Embeddings over HTTP.
#[cfg(feature = "serve")]
mod serve_decisions;
mod serve_embeddings;
// What llama-server's clients find besides answers.
#[cfg(feature = "serve")]
mod serve_llama;
// LM Studio's routes.
#[cfg(feature = "serve")]
mod serve_lm_studio;
// Anthropic's messages over HTTP.
#[cfg(feature = "serve")]
mod serve_messages;
// Changes of models over HTTP.
#[cfg(all(feature = "net", feature = "serve"))]
mod serve_manage;
// Several models over HTTP.
#[cfg(feature = "serve")]
mod serve_models;
// OpenAI's responses over HTTP.
#[cfg(feature = "serve")]
mod serve_responses;
// States of slots in files, over HTTP.
#[cfg(feature = "serve")]
mod serve_slots;
// The program as a server, for these.
#[cfg(feature = "serve")]
mod served;
// Sessions in files.
mod sessions;
// Several models in one chat.
#[cfg(unix)]
mod several_models;
// Files shared by tests.
mod shared;
// `gguf chat` on a pseudo-terminal.
#[cfg(unix)]
mod terminal;
// `gguf tokenize` and `gguf detokenize`.
mod tokenize_command;
// Tokenizers of published vocabularies.
mod tokenizers;
// Quantized, multimodal and older checkpoints.
mod sources;
// Drafts of what comes next.
mod speculation;
// Numbers that options are given.
mod option_values;
// Spellings of other tools.
mod spellings;
// Settings of checkpoints.
mod settings;
// The embedded model, from checkpoint to answer.
mod storyteller;
// Checkpoints as other versions hold them.
mod variants;
// Tools, and calls of them.
mod tools;
// The published vocabularies.
mod vocabularies;
