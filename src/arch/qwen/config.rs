//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};
use crate::network::Pooling;

/// What the published rerankers are asked, in place of a chat template; their answer is the token "yes" or "no".
const RERANK: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the \
    Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a \
    web search query, retrieve relevant passages that answer the query\n<Query>: {query}\n<Document>: {document}<|im_end|>\n\
    <|im_start|>assistant\n<think>\n\n</think>\n\n";

pub(in crate::arch) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    // A window of some layers has no key, and no released model: only those that set it without effect are taken.
    if config.flag("use_sliding_window") {
        let window = config.count(&["sliding_window"])?.unwrap_or(usize::MAX);
        let from = config.count(&["max_window_layers"])?.unwrap_or(0);
        let context = config.required_count(&["max_position_embeddings"])?;
        if window < context && from < config.block_count()? {
            return Err(config.bad("sliding_window", "null: windows of some layers cannot be expressed"));
        }
    }
    keys.shared(config)?;
    keys.pooling(config)?;
    if config.pooling() == Some(Pooling::Rank) {
        keys.texts(key::CLASSIFIER_OUTPUT_LABELS, &["yes", "no"]);
        keys.chat_template("rerank", RERANK);
    }
    Ok(())
}
