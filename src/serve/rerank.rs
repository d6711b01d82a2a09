//! Reranking: a query and documents in, scores out, the best first; in the shapes of llama-server, Jina and Text Embeddings
//! Inference.

use serde_json::{Map, Value as Json, json};

use super::blocking::blocking;
use super::call::Call;
use super::failure::Failure;
use super::fields::Fields;
use super::reply::Reply;
use crate::engine::Pair;

/// Documents of one request.
const MOST_DOCUMENTS: usize = 2048;

/// `POST /v1/rerank` and its other names. `texts` in place of `documents` asks for a bare list.
pub(super) async fn rerank(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    model.vectors.reranker()?;
    let query = fields.text("query")?.ok_or_else(|| Failure::field("query", "is needed"))?.to_owned();
    let bare = fields.get("texts").is_some() && fields.get("documents").is_none();
    let documents = documents(fields, if bare { "texts" } else { "documents" })?;
    let most = u32::try_from(documents.len()).unwrap_or(u32::MAX);
    let top = fields.count("top_n", 1, u32::MAX)?.unwrap_or(most as usize);
    let with_text = if bare { fields.flag("return_text")? } else { fields.flag("return_documents")? };
    let (vectors, texts) = (model.vectors.clone(), documents.clone());
    let pairs = blocking(move || {
        let reranker = vectors.reranker()?;
        let pair = |document: &String| Ok(reranker.pair(&query, document)?);
        texts.iter().map(pair).collect::<Result<Vec<Pair>, Failure>>()
    });
    let pairs = pairs.await?;
    let tokens: usize = pairs.iter().map(|pair| pair.tokens.len()).sum();
    let scores = model.vectors.scores(pairs).await?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let result = |&index: &usize| {
        let mut result = Map::new();
        result.insert("index".into(), index.into());
        result.insert(if bare { "score" } else { "relevance_score" }.into(), json!(scores[index]));
        if with_text {
            let text = Json::from(documents[index].as_str());
            let (name, value) = if bare { ("text", text) } else { ("document", json!({ "text": text })) };
            result.insert(name.into(), value);
        }
        Json::Object(result)
    };
    let results: Vec<Json> = order.iter().take(top).map(result).collect();
    if bare {
        return Reply::of(&results);
    }
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Reply::of(&json!({ "model": model.id, "object": "list", "usage": usage, "results": results }))
}

/// The documents of a field: strings, or objects with a `text`.
fn documents(fields: Fields<'_>, name: &'static str) -> Result<Vec<String>, Failure> {
    let must = "must be an array of at least one string";
    let list = fields.list(name)?.filter(|list| !list.is_empty()).ok_or_else(|| Failure::field(name, must))?;
    if list.len() > MOST_DOCUMENTS {
        return Err(Failure::field(name, format!("must have at most {MOST_DOCUMENTS} entries")));
    }
    let text = |document: &Json| document.as_str().or_else(|| document.get("text")?.as_str()).map(str::to_owned);
    let texts: Option<Vec<String>> = list.iter().map(text).collect();
    texts.ok_or_else(|| Failure::field(name, must))
}
