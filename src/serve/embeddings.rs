//! Embeddings: texts in, vectors out, in the shapes of OpenAI, llama-server and Ollama.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::blocking::blocking;
use super::call::Call;
use super::completions::PromptField;
use super::failure::Failure;
use super::fields::Fields;
use super::models::ServedModel;
use super::ollama::{self, nanoseconds};
use super::reply::Reply;
use crate::engine::{Embedder, to_unit_length};
use crate::network::Pooling;

/// Maximum texts of one request, as in OpenAI's API.
const MOST_TEXTS: usize = 2048;
/// The texts of a field, as tokens. With `cut`, texts that are too long are truncated.
async fn texts(
    model: &Arc<ServedModel>,
    value: &Json,
    field: PromptField,
    cut: bool,
) -> Result<Vec<Vec<u32>>, Failure> {
    let (model, value) = (model.clone(), value.clone());
    let work = move || {
        let tokenizer = model.batcher().model().tokenizer();
        let mut texts = field.read(tokenizer, &value)?;
        let most = model.vectors.context_length;
        for text in texts.iter_mut().filter(|text| cut && text.len() > most && most > 1) {
            // EOS, if it ends every text, is kept.
            let ends = |token: &u32| {
                let special = &tokenizer.vocab().special;
                [special.eos, special.separator].contains(&Some(*token))
            };
            let end = text.last().copied().filter(ends);
            text.truncate(most);
            if let Some(end) = end {
                text[most - 1] = end;
            }
        }
        Ok(texts)
    };
    blocking(work).await
}

fn field(name: &'static str) -> PromptField {
    PromptField { name, most: MOST_TEXTS, parse_special: false }
}

/// Truncates vectors to `dimensions` numbers and normalizes them to length 1.
fn shaped(vectors: &mut [Vec<f32>], dimensions: Option<usize>) {
    for vector in vectors {
        vector.truncate(dimensions.unwrap_or(usize::MAX));
        to_unit_length(vector);
    }
}

/// Checks that the model pools, since these dialects have one vector per text.
fn pooled(model: &ServedModel) -> Result<&Embedder, Failure> {
    let embedder = model.vectors.embedder()?;
    if embedder.pooling() == Pooling::None {
        return Err(Failure::invalid(
            "the model is served with pooling none, a vector a token: /embedding gives these",
        ));
    }
    Ok(embedder)
}

/// The number of dimensions that a request wants.
fn dimensions(fields: Fields<'_>, embedder: &Embedder) -> Result<Option<usize>, Failure> {
    fields.count("dimensions", 1, u32::try_from(embedder.length()).unwrap_or(u32::MAX))
}

/// A vector in an answer: numbers, or the bytes of its numbers (f32, little endian) in base64.
#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

impl Vector {
    fn new(vector: Vec<f32>, base64: bool) -> Self {
        if !base64 {
            return Self::Numbers(vector);
        }
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self::Base64(BASE64_STANDARD.encode(bytes))
    }
}

/// `POST /v1/embeddings`.
pub(super) async fn embeddings(call: Call) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Item {
        object: &'static str,
        index: usize,
        embedding: Vector,
    }
    #[derive(Serialize)]
    struct List<'m> {
        object: &'static str,
        data: Vec<Item>,
        model: &'m str,
        usage: Json,
    }
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let embedder = pooled(&model)?;
    let base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Failure::field("encoding_format", "must be \"float\" or \"base64\"")),
    };
    let dimensions = dimensions(fields, embedder)?;
    let input = fields.get("input").ok_or_else(|| Failure::field("input", "is needed"))?;
    let texts = texts(&model, input, field("input"), false).await?;
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let mut vectors = model.vectors.embed(texts).await?;
    shaped(&mut vectors, dimensions);
    let item = |(index, vector)| Item { object: "embedding", index, embedding: Vector::new(vector, base64) };
    let data = vectors.into_iter().enumerate().map(item).collect();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Reply::of(&List { object: "list", data, model: &model.id, usage })
}

/// `POST /embedding`: a list of vectors for each text, one or as many as it has tokens.
pub(super) async fn embedding(call: Call) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Item {
        index: usize,
        embedding: Vec<Vec<f32>>,
    }
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let embedder = model.vectors.embedder()?;
    let name = if fields.get("content").is_some() { "content" } else { "input" };
    let input = fields.get(name).ok_or_else(|| Failure::field("content", "is needed"))?;
    // As in llama-server: Euclidean norm (2), or not normalized (-1).
    let normalize = match fields.whole("embd_normalize", -1, i32::MAX.into())? {
        None | Some(2) => embedder.pooling() != Pooling::None,
        Some(-1) => false,
        Some(_) => return Err(Failure::unsupported("embd_normalize", "2 (length 1) or -1 (none)")),
    };
    let texts = texts(&model, input, field(name), false).await?;
    let vectors = model.vectors.embed(texts).await?;
    let rows = |vector: Vec<f32>| {
        let mut rows: Vec<Vec<f32>> = vector.chunks(embedder.length()).map(<[f32]>::to_vec).collect();
        rows.iter_mut().filter(|_| normalize).for_each(|row| to_unit_length(row));
        rows
    };
    let items = vectors.into_iter().enumerate().map(|(index, vector)| Item { index, embedding: rows(vector) });
    Reply::of(&items.collect::<Vec<_>>())
}

/// `POST /api/embed`: Ollama's. Texts that are too long are truncated, unless `truncate` is false.
pub(super) async fn ollama_embed(call: Call) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Answer<'m> {
        model: &'m str,
        embeddings: Vec<Vec<f32>>,
        total_duration: u64,
        load_duration: u64,
        prompt_eval_count: usize,
    }
    let began = Instant::now();
    let body = call.object()?;
    let fields = Fields(&body);
    let model = ollama::wanted(&call, fields).await?;
    let embedder = pooled(&model)?;
    let dimensions = dimensions(fields, embedder)?;
    let cut = fields.flag_or("truncate", true)?;
    let is_empty = |input: &Json| input == "" || input.as_array().is_some_and(Vec::is_empty);
    let texts = match fields.get("input").filter(|input| !is_empty(input)) {
        Some(input) => texts(&model, input, field("input"), cut).await?,
        // Clients use this to load a model.
        None => Vec::new(),
    };
    let prompt_eval_count = texts.iter().map(Vec::len).sum();
    let mut embeddings = model.vectors.embed(texts).await?;
    shaped(&mut embeddings, dimensions);
    let total_duration = nanoseconds(began.elapsed());
    Reply::of(&Answer { model: &model.id, embeddings, total_duration, load_duration: 0, prompt_eval_count })
}

/// `POST /api/embeddings`: Ollama's older form, of one text.
pub(super) async fn ollama_embeddings(call: Call) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Answer {
        embedding: Vec<f32>,
    }
    let body = call.object()?;
    let fields = Fields(&body);
    let model = ollama::wanted(&call, fields).await?;
    pooled(&model)?;
    let texts = match fields.text("prompt")? {
        None | Some("") => Vec::new(),
        Some(text) => texts(&model, &text.into(), field("prompt"), true).await?,
    };
    let mut vectors = model.vectors.embed(texts).await?;
    shaped(&mut vectors, None);
    Reply::of(&Answer { embedding: vectors.pop().unwrap_or_default() })
}
