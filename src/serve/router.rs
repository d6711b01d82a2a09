//! The table of routes, and the look-up of a request's route.

use std::future::Future;
use std::pin::Pin;

use hyper::Method;

use super::call::Call;
use super::failure::{Dialect, Failure};
use super::reply::Reply;
use super::{
    anthropic, completions, decisions, embeddings, fit, llama, lm_studio, manage, metrics, ollama, openai, rerank,
    responses, slots,
};

type Answering = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send>>;
type Handler = Box<dyn Fn(Call) -> Answering + Send + Sync>;

/// A route.
pub(super) struct Route {
    pub(super) method: Method,
    /// Its path; `/*` at the end matches anything.
    pub(super) path: &'static str,
    pub(super) dialect: Dialect,
    /// The name of its body's type.
    pub(super) body: Option<&'static str>,
    /// A short description.
    pub(super) summary: &'static str,
    /// Whether it needs no key.
    pub(super) is_open: bool,
    /// Whether it reads its body piece by piece: then it may be of any size.
    pub(super) is_upload: bool,
    pub(super) handler: Handler,
}

fn route<F>(
    method: Method,
    path: &'static str,
    dialect: Dialect,
    body: Option<&'static str>,
    summary: &'static str,
    handler: impl Fn(Call) -> F + Send + Sync + 'static,
) -> Route
where
    F: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    let handler: Handler = Box::new(move |call| Box::pin(handler(call)));
    Route { method, path, dialect, body, summary, is_open: false, is_upload: false, handler }
}

fn get<F>(
    path: &'static str,
    dialect: Dialect,
    summary: &'static str,
    handler: impl Fn(Call) -> F + Send + Sync + 'static,
) -> Route
where
    F: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    route(Method::GET, path, dialect, None, summary, handler)
}

/// A route whose body has the type `body` of `openapi.json`.
fn post<F>(
    path: &'static str,
    dialect: Dialect,
    body: &'static str,
    summary: &'static str,
    handler: impl Fn(Call) -> F + Send + Sync + 'static,
) -> Route
where
    F: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    route(Method::POST, path, dialect, Some(body), summary, handler)
}

fn delete<F>(
    path: &'static str,
    dialect: Dialect,
    summary: &'static str,
    handler: impl Fn(Call) -> F + Send + Sync + 'static,
) -> Route
where
    F: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    route(Method::DELETE, path, dialect, None, summary, handler)
}

/// A route that needs no key.
fn open(route: Route) -> Route {
    Route { is_open: true, ..route }
}

/// A route that reads its body piece by piece.
fn upload(route: Route) -> Route {
    Route { is_upload: true, ..route }
}

/// `GET /openapi.json`.
async fn document(call: Call) -> Result<Reply, Failure> {
    Ok(Reply::Text("application/json; charset=utf-8", call.document.to_string()))
}

/// All routes.
pub(super) struct Routes(Vec<Route>);

impl Routes {
    #[rustfmt::skip]
    pub(super) fn new() -> Self {
        use Dialect::{Anthropic, Ollama, OpenAi};
        Self(vec![
            open(get("/health", OpenAi, "Whether the server computes", llama::health)),
            open(get("/v1/health", OpenAi, "Whether the server computes", llama::health)),
            get("/openapi.json", OpenAi, "This document", document),
            post("/v1/chat/completions", OpenAi, "Chat", "Answers a conversation", openai::chat),
            post("/chat/completions", OpenAi, "Chat", "Answers a conversation", openai::chat),
            post("/v1/chat/completions/input_tokens", OpenAi, "Chat", "Counts its tokens", openai::count_tokens),
            post("/chat/completions/input_tokens", OpenAi, "Chat", "Counts its tokens", openai::count_tokens),
            post("/v1/completions", OpenAi, "Completion", "Goes on with texts", completions::completions),
            post("/v1/embeddings", OpenAi, "Embeddings", "Makes vectors of texts", embeddings::embeddings),
            post("/v1/decisions", OpenAi, "Decisions", "Answers questions by probabilities", decisions::decisions),
            post("/v1/rerank", OpenAi, "Rerank", "Scores documents for a query", rerank::rerank),
            post("/v1/reranking", OpenAi, "Rerank", "Scores documents for a query", rerank::rerank),
            post("/rerank", OpenAi, "Rerank", "Scores documents for a query", rerank::rerank),
            post("/reranking", OpenAi, "Rerank", "Scores documents for a query", rerank::rerank),
            get("/v1/models", OpenAi, "Lists the models", openai::models),
            get("/models", OpenAi, "Lists the models", openai::models),
            get("/v1/models/*", OpenAi, "Describes a model", openai::model),
            post("/models/load", OpenAi, "ModelName", "Loads a model", llama::load),
            post("/models/unload", OpenAi, "ModelName", "Lets go of a model", llama::unload),
            post("/v1/responses", OpenAi, "Response", "Makes a response", responses::create),
            post("/responses", OpenAi, "Response", "Makes a response", responses::create),
            post("/v1/responses/input_tokens", OpenAi, "Response", "Counts its tokens", responses::count_tokens),
            get("/v1/responses/*", OpenAi, "Gives a stored response, or its input_items", responses::get),
            delete("/v1/responses/*", OpenAi, "Deletes a stored response", responses::delete),
            post("/v1/responses/*", OpenAi, "Any", "Refuses to cancel a response", responses::cancel),
            post("/v1/messages", Anthropic, "AnthropicMessages", "Answers a conversation", anthropic::messages),
            post("/v1/messages/count_tokens", Anthropic, "AnthropicMessages", "Counts its tokens", anthropic::count_tokens),
            post("/completion", OpenAi, "LlamaCompletion", "Goes on with texts", llama::completion),
            post("/completions", OpenAi, "LlamaCompletion", "Goes on with texts", llama::completion),
            post("/infill", OpenAi, "Infill", "Writes what comes between two texts", llama::infill),
            post("/tokenize", OpenAi, "Tokenize", "Turns a text to tokens", llama::tokenize),
            post("/detokenize", OpenAi, "Detokenize", "Turns tokens to a text", llama::detokenize),
            post("/apply-template", OpenAi, "Chat", "Shows the prompt of a conversation", llama::apply_template),
            post("/embedding", OpenAi, "LlamaEmbedding", "Makes vectors of texts or tokens", embeddings::embedding),
            post("/embeddings", OpenAi, "LlamaEmbedding", "Makes vectors of texts or tokens", embeddings::embedding),
            get("/props", OpenAi, "Describes the server's first model", llama::props),
            get("/slots", OpenAi, "What the first model computes", llama::slots),
            post("/slots/*", OpenAi, "Slot", "Saves, restores or erases the state of a slot", slots::act),
            get("/lora-adapters", OpenAi, "Lists the first model's adapters", llama::adapters),
            post("/lora-adapters", OpenAi, "Any", "Refuses to change adapters", llama::set_adapters),
            get("/metrics", OpenAi, "Figures in Prometheus' form", metrics::metrics),
            get("/", Ollama, "Says that it runs", ollama::root),
            get("/api/version", Ollama, "The version of Ollama's routes", ollama::version),
            get("/api/tags", Ollama, "Lists the models", ollama::tags),
            get("/api/ps", Ollama, "Lists the models that are loaded", ollama::running),
            post("/api/show", Ollama, "OllamaShow", "Describes a model", ollama::show),
            post("/api/generate", Ollama, "OllamaGenerate", "Answers a text", ollama::generate),
            post("/api/chat", Ollama, "OllamaChat", "Answers a conversation", ollama::chat),
            post("/api/embed", Ollama, "OllamaEmbed", "Makes vectors of texts", embeddings::ollama_embed),
            post("/api/embeddings", Ollama, "OllamaEmbeddings", "Makes the vector of a text", embeddings::ollama_embeddings),
            post("/api/pull", Ollama, "OllamaPull", "Fetches a model", manage::pull),
            post("/api/push", Ollama, "Any", "Refuses to send a model to a registry", ollama::push),
            post("/api/create", Ollama, "OllamaCreate", "Makes a model of another one", manage::create),
            post("/api/copy", Ollama, "OllamaCopy", "Gives a model a further name", manage::copy),
            delete("/api/delete", Ollama, "Removes a model", manage::delete),
            route(Method::HEAD, "/api/blobs/*", Ollama, None, "Whether a blob is there", manage::has_blob),
            upload(post("/api/blobs/*", Ollama, "Blob", "Takes the bytes of a blob", manage::take_blob)),
            post("/models/browse", OpenAi, "Browse", "Searches Hugging Face, or lists a repository's models", manage::browse),
            post("/models/fit", OpenAi, "Fit", "Whether a model fits, and how fast it would be", fit::fit),
            get("/api/v0/models", OpenAi, "Lists the models, as LM Studio", lm_studio::models_v0),
            get("/api/v0/models/*", OpenAi, "Describes a model, as LM Studio", lm_studio::model_v0_of),
            post("/api/v0/chat/completions", OpenAi, "Chat", "Answers a conversation, with figures", lm_studio::chat_v0),
            post("/api/v0/completions", OpenAi, "Completion", "Goes on with texts, with figures", lm_studio::completions_v0),
            post("/api/v0/embeddings", OpenAi, "Embeddings", "Makes vectors of texts", lm_studio::embeddings_v0),
            get("/api/v1/models", OpenAi, "Lists the models, as LM Studio", lm_studio::models_v1),
            post("/api/v1/models/load", OpenAi, "ModelName", "Loads a model", lm_studio::load),
            post("/api/v1/models/unload", OpenAi, "InstanceName", "Lets go of a model", lm_studio::unload),
            post("/api/v1/chat", OpenAi, "LmStudioChat", "Answers a message, as LM Studio", lm_studio::chat),
            get("/report", OpenAi, "The report of a comparison, for browsers", fit::report),
        ])
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// The route of a request, and the rest of its path.
    pub(super) fn find(&self, method: &Method, path: &str) -> Result<(&Route, String), Failure> {
        let rest = |route: &Route| match route.path.strip_suffix('*') {
            Some(start) => path.strip_prefix(start).filter(|rest| !rest.is_empty()),
            None => (path == route.path).then_some(""),
        };
        let mut at = self.0.iter().filter_map(|route| Some((route, rest(route)?))).peekable();
        if at.peek().is_none() {
            return Err(Failure::no_route(path));
        }
        // HEAD requests the head of what GET would return.
        let fits = |own: &Method| own == method || method == Method::HEAD && own == Method::GET;
        let all: Vec<(&Route, &str)> = at.collect();
        let found = all.iter().find(|(route, _)| fits(&route.method)).ok_or_else(|| {
            let mut methods: Vec<&str> = all.iter().map(|(route, _)| route.method.as_str()).collect();
            if methods.contains(&"GET") {
                methods.push("HEAD");
            }
            methods.sort_unstable();
            methods.dedup();
            Failure::method(methods.join(", "))
        })?;
        Ok((found.0, decoded(found.1)))
    }

    /// The dialect of a path, for errors.
    pub(super) fn dialect(path: &str) -> Dialect {
        let is_lm_studio = path.starts_with("/api/v0/") || path.starts_with("/api/v1/");
        if path.starts_with("/api/") && !is_lm_studio {
            Dialect::Ollama
        } else if path.starts_with("/v1/messages") {
            Dialect::Anthropic
        } else {
            Dialect::OpenAi
        }
    }
}

/// A path with `%XX` decoded.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits =
            (byte == b'%').then(|| after.get(..2)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_routes() {
        let routes = Routes::new();
        let find = |method: Method, path: &str| {
            routes.find(&method, path).map(|(route, rest)| (route.path, rest)).map_err(|failure| failure.status)
        };
        assert_eq!(find(Method::GET, "/v1/models/org/repo:Q4%5FK"), Ok(("/v1/models/*", "org/repo:Q4_K".to_owned())));
        assert_eq!(find(Method::HEAD, "/v1/models"), Ok(("/v1/models", String::new())));
        assert_eq!(find(Method::GET, "/v1/chat/completions"), Err(405));
        assert_eq!(find(Method::GET, "/v1/models/"), Err(404));
        assert_eq!(find(Method::GET, "/nothing"), Err(404));
        assert_eq!(decoded("a%2Fb%zz%4"), "a/b%zz%4");
    }
}
