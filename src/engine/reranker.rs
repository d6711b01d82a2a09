//! Scores of documents: how well each answers a query, from a model's classification head. Called by `gguf rerank` and the
//! server.

use std::sync::Arc;

use super::Error;
use super::embedding::{Embedder, EmbeddingOptions};
use crate::cpu::KvType;
use crate::gguf::Value;
use crate::kernels::Pool;
use crate::model::Model;
use crate::tokenizer::EncodeOptions;

/// The key of the prompt that a model wants a query and a document in, where it wants one.
const TEMPLATE: &str = "tokenizer.chat_template.rerank";

/// Scores documents for queries.
pub struct Reranker {
    model: Arc<Model>,
    pool: Arc<Pool>,
    embedder: Embedder,
    template: Option<String>,
}

/// A query and a document as the model reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The tokens of both.
    pub tokens: Vec<u32>,
    /// Where the second text begins, for models that tell two texts apart by types of tokens.
    pub second: usize,
}

impl Reranker {
    /// A reranker with `model`. `kv_type` is the type of the keys and values that a pass holds.
    ///
    /// # Errors
    /// [`Error::NoRankHead`] for models without a classification head.
    pub fn new(model: Arc<Model>, pool: Arc<Pool>, kv_type: KvType) -> Result<Self, Error> {
        let classifier = model.decoder().classifier().ok_or(Error::NoRankHead)?;
        let options = EmbeddingOptions { pooling: Some(classifier.pooling), normalize: false, kv_type };
        let embedder = Embedder::new(model.clone(), pool.clone(), options)?;
        let template = model.metadata().get(TEMPLATE).and_then(Value::as_str).map(str::to_owned);
        Ok(Self { model, pool, embedder, template })
    }

    /// Most tokens of a query and a document together.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.embedder.context_length()
    }

    /// A query and a document as the model reads them: in the file's prompt, or one after the other as the tokenizer joins
    /// two texts. What they spell is text, whatever control tokens it looks like.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the vocabulary has no way to say one of their bytes; [`Error::NoTokens`],
    /// [`Error::ContextFull`] when they are too few or too many.
    pub fn pair(&self, query: &str, document: &str) -> Result<Pair, Error> {
        let tokenizer = self.model.tokenizer();
        let pair = if let Some(template) = &self.template {
            let (text, plain) = filled(template, query, document);
            let tokens = tokenizer.encode_marked(&text, &plain, false)?;
            Pair { second: tokens.len(), tokens }
        } else {
            let options = EncodeOptions { add_special: true, parse_special: false };
            let (tokens, second) = tokenizer.encode_two(query, document, options)?;
            Pair { tokens, second }
        };
        self.embedder.check(&pair.tokens)?;
        Ok(pair)
    }

    /// The score of each pair: the higher, the better the document answers the query. Of models with a score for each of
    /// several labels, it is that of the first. Several pairs are evaluated in one pass; the numbers are the same alone or
    /// together. `stop` is asked before each layer.
    ///
    /// # Errors
    /// As [`Embedder::embed_until`].
    pub fn scores(&self, pairs: &[Pair], stop: &(dyn Fn() -> bool + Sync)) -> Result<Vec<f32>, Error> {
        let texts: Vec<(&[u32], usize)> = pairs.iter().map(|pair| (&pair.tokens[..], pair.second)).collect();
        let pooled = self.embedder.pooled(&texts, stop)?;
        let run = self.model.run(&self.pool);
        let scores = pooled.iter().map(|row| {
            let score = self.model.decoder().scores(run, row).first().copied().unwrap_or(f32::NAN);
            if score.is_finite() { Ok(score) } else { Err(Error::NotANumber) }
        });
        scores.collect()
    }
}

/// The prompt with both texts in their places, and which bytes of it are theirs.
fn filled(template: &str, query: &str, document: &str) -> (String, Vec<std::ops::Range<usize>>) {
    let (mut text, mut plain) = (String::new(), Vec::new());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let found = [("{query}", query), ("{document}", document)].into_iter().find(|(name, _)| from.starts_with(name));
        if let Some((name, own)) = found {
            plain.push(text.len()..text.len() + own.len());
            text.push_str(own);
            rest = &from[name.len()..];
        } else {
            text.push('{');
            rest = &from[1..];
        }
    }
    text.push_str(rest);
    plain.retain(|range| !range.is_empty());
    (text, plain)
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn both_texts_stand_in_their_places_and_are_known_for_theirs() {
        let (text, plain) = filled("<q>{query} {x} {document}</q>", "{document}", "d<q>");
        assert_eq!(text, "<q>{document} {x} d<q></q>");
        assert_eq!(plain, [3..13, 18..22]);
        assert!(filled("{query}{document}", "", "").1.is_empty());
    }
}
