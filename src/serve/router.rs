//! The table of routes, and how a request finds its row.

use std::future::Future;
use std::pin::Pin;

use hyper::Method;

use super::call::Call;
use super::failure::{Dialect, Failure};
use super::reply::Reply;
use super::{anthropic, completions, embeddings, llama, metrics, ollama, openai, responses};

type Answering = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send>>;
type Handler = Box<dyn Fn(Call) -> Answering + Send + Sync>;

/// A route.
pub(super) struct Route {
    method: Method,
    /// Its path; `/*` at the end stands for anything.
    path: &'static str,
    pub(super) dialect: Dialect,
    /// Needs no key.
    pub(super) is_open: bool,
    pub(super) handler: Handler,
}

fn route<F>(
    method: &Method,
    path: &'static str,
    dialect: Dialect,
    handler: impl Fn(Call) -> F + Send + Sync + 'static,
) -> Route
where
    F: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    let handler: Handler = Box::new(move |call| Box::pin(handler(call)));
    Route { method: method.clone(), path, dialect, is_open: false, handler }
}

/// A route that needs no key.
fn open(route: Route) -> Route {
    Route { is_open: true, ..route }
}

/// All routes.
pub(super) struct Routes(Vec<Route>);

impl Routes {
    #[rustfmt::skip]
    pub(super) fn new() -> Self {
        use Dialect::{Anthropic, Ollama, OpenAi};
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        Self(vec![
            open(route(&get, "/health", OpenAi, llama::health)),
            open(route(&get, "/v1/health", OpenAi, llama::health)),
            route(&post, "/v1/chat/completions", OpenAi, openai::chat),
            route(&post, "/chat/completions", OpenAi, openai::chat),
            route(&post, "/v1/completions", OpenAi, completions::completions),
            route(&post, "/v1/embeddings", OpenAi, embeddings::embeddings),
            route(&get, "/v1/models", OpenAi, openai::models),
            route(&get, "/models", OpenAi, openai::models),
            route(&get, "/v1/models/*", OpenAi, openai::model),
            route(&post, "/v1/responses", OpenAi, responses::create),
            route(&post, "/responses", OpenAi, responses::create),
            route(&get, "/v1/responses/*", OpenAi, responses::get),
            route(&delete, "/v1/responses/*", OpenAi, responses::delete),
            route(&post, "/v1/responses/*", OpenAi, responses::cancel),
            route(&post, "/v1/messages", Anthropic, anthropic::messages),
            route(&post, "/v1/messages/count_tokens", Anthropic, anthropic::count_tokens),
            route(&post, "/completion", OpenAi, llama::completion),
            route(&post, "/completions", OpenAi, llama::completion),
            route(&post, "/tokenize", OpenAi, llama::tokenize),
            route(&post, "/detokenize", OpenAi, llama::detokenize),
            route(&post, "/apply-template", OpenAi, llama::apply_template),
            route(&post, "/embedding", OpenAi, embeddings::embedding),
            route(&post, "/embeddings", OpenAi, embeddings::embedding),
            route(&get, "/props", OpenAi, llama::props),
            route(&get, "/slots", OpenAi, llama::slots),
            route(&get, "/metrics", OpenAi, metrics::metrics),
            route(&get, "/", Ollama, ollama::root),
            route(&get, "/api/version", Ollama, ollama::version),
            route(&get, "/api/tags", Ollama, ollama::tags),
            route(&get, "/api/ps", Ollama, ollama::running),
            route(&post, "/api/show", Ollama, ollama::show),
            route(&post, "/api/generate", Ollama, ollama::generate),
            route(&post, "/api/chat", Ollama, ollama::chat),
            route(&post, "/api/embed", Ollama, embeddings::ollama_embed),
            route(&post, "/api/embeddings", Ollama, embeddings::ollama_embeddings),
        ])
    }

    /// The route of a request, and what follows its path.
    pub(super) fn find(&self, method: &Method, path: &str) -> Result<(&Route, String), Failure> {
        let rest = |route: &Route| match route.path.strip_suffix('*') {
            Some(start) => path.strip_prefix(start).filter(|rest| !rest.is_empty()),
            None => (path == route.path).then_some(""),
        };
        let mut at = self.0.iter().filter_map(|route| Some((route, rest(route)?))).peekable();
        if at.peek().is_none() {
            return Err(Failure::no_route(path));
        }
        // HEAD asks for the head of what GET would give.
        let fits = |own: &Method| own == method || method == Method::HEAD && own == Method::GET;
        let found = at.find(|(route, _)| fits(&route.method)).ok_or_else(Failure::method)?;
        Ok((found.0, decoded(found.1)))
    }

    /// Whose shapes a path speaks, for failures.
    pub(super) fn dialect(path: &str) -> Dialect {
        if path.starts_with("/api/") {
            Dialect::Ollama
        } else if path.starts_with("/v1/messages") {
            Dialect::Anthropic
        } else {
            Dialect::OpenAi
        }
    }
}

/// A path with its `%XX` read.
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
