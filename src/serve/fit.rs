//! Whether a model fits this machine, and the report of a comparison: what the page shows besides conversations.

use serde_json::json;

use super::blocking::blocking;
use super::call::Call;
use super::failure::Failure;
use super::fields::Fields;
use super::reply::Reply;
use crate::cpu::KvType;
use crate::gguf::Reader;
use crate::inspect::{Fit, Verdict};
use crate::memory;

/// Tokens of context, where a request does not say and the model was trained on more.
const USUAL_CONTEXT: usize = 4096;
/// Most tokens of context that are asked for.
const MOST_CONTEXT: u32 = 1 << 30;

/// `POST /models/fit`: the estimate of `gguf inspect --fit` for a model of this server. Nothing is measured: that would disturb
/// requests under way.
pub(super) async fn fit(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let name = fields.text("model")?.ok_or_else(|| Failure::field("model", "is required"))?;
    let offer = call.models().offer(name)?;
    let wanted = fields.count("context", 1, MOST_CONTEXT)?;
    let Some(path) = offer.path.clone() else {
        return Ok(Reply::Json(json!({ "model": offer.id, "fit": null, "loaded": true })));
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let work = move || {
        let reader = Reader::open(&path).map_err(|_| Failure::server("the file cannot be read"))?;
        let fit = Fit::of(&reader).map_err(|error| Failure::invalid(error.to_string()))?;
        let context = wanted.unwrap_or_else(|| fit.context_length().min(USUAL_CONTEXT));
        let needs = fit.needs(context, KvType::F16, threads);
        // What a loaded model takes is taken already.
        let is_loaded = offer.model().is_some();
        let verdict = memory::available().filter(|_| !is_loaded).map(|available| needs.verdict(available));
        Ok(Reply::Json(json!({
            "model": offer.id, "loaded": is_loaded, "context": context, "fit": verdict.map(Verdict::name),
            "needs_bytes": needs.total(), "weight_bytes": needs.weights, "cache_bytes": needs.cache,
            "available_bytes": memory::available(),
        })))
    };
    blocking(work).await
}

/// `GET /report`.
pub(super) async fn report(call: Call) -> Result<Reply, Failure> {
    call.report.map(Reply::Page).ok_or_else(|| Failure::not_found("this server has no report of a comparison"))
}
