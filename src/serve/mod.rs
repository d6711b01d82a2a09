//! An HTTP server for models: the dialects of OpenAI, Anthropic, llama-server, Ollama and LM Studio on one port.
//!
//! A file for each dialect, and `page` for browsers; `router` has the table of routes. Requests become [`Request`](crate::engine::Request)s of an
//! [`engine::Batcher`](crate::engine::Batcher), whose updates become the pieces of an answer. `guard` says who may ask.

mod answers;
mod anthropic;
mod blocking;
mod call;
mod completions;
mod connections;
mod constraint;
mod decisions;
mod embeddings;
mod failure;
mod fields;
mod fit;
mod guard;
mod keep_alive;
mod llama;
mod lm_studio;
mod manage;
mod manager;
mod metrics;
mod models;
mod offers;
mod ollama;
mod openai;
mod openapi;
mod page;
mod prompt;
mod reply;
mod rerank;
mod response_items;
mod responses;
mod router;
mod settings;
mod slots;
mod stored;
mod timings;
mod tools;
mod vectors;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock, Mutex, RwLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};

use call::Call;
use connections::{Connection, Connections, Held};
use failure::{Dialect, Failure};
pub use guard::Access;
pub use keep_alive::KeepAlive;
pub use manager::{MakeOffer, Manager};
pub use models::{RequestDefaults, ServedModel};
use offers::Models;
pub use offers::{Labels, Load, Offer};
use page::File;
use reply::{Body, failed};
use router::Routes;
use stored::Responses;

/// Threads for connections; the rest of the machine is for the models.
const THREADS: usize = 2;
/// Time-outs for the head and the body of a request.
const HEAD_TIME: Duration = Duration::from_secs(15);
const BODY_TIME: Duration = Duration::from_secs(60);
/// Maximum bytes and number of a request's headers.
const HEAD_BYTES: usize = 64 << 10;
const HEADERS: usize = 100;
/// Interval at which the server checks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);
/// Interval at which it looks for room for a connection.
const SHORT: Duration = Duration::from_millis(5);
/// Time for requests to finish after that.
const GRACE: Duration = Duration::from_secs(30);

/// The routes as an OpenAPI document, made when it is first asked for.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| openapi::describe(&Routes::new(), true).to_string());
/// The same for a server that needs no key.
static OPEN_DOCUMENT: LazyLock<String> = LazyLock::new(|| openapi::describe(&Routes::new(), false).to_string());

/// Settings of a [`Server`].
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Access settings.
    pub access: Access,
    /// Whether requests for unknown models are answered by the first model.
    pub any_model: bool,
    /// Maximum bytes of a request's body.
    pub body_bytes: usize,
    /// Maximum open connections: for further ones, those that nothing is computed for are closed.
    pub connections: usize,
    /// Maximum bytes of models with their caches: models loaded on demand are unloaded to make room for others.
    pub memory: u64,
    /// How long a model that was loaded on demand, or that sleeps, stays loaded after its last request.
    pub keep_alive: KeepAlive,
    /// Whether browsers get a page at `/`.
    pub page: bool,
    /// The report of a comparison (HTML), which browsers get at `/report`.
    pub report: Option<String>,
    /// Whether `/slots` answers.
    pub slots: bool,
    /// Whether `/metrics` answers.
    pub metrics: bool,
    /// Whether answers to chats have their prompt (`__verbose`), as those of requests with `verbose`.
    pub verbose: bool,
    /// The folder that clients may keep states of slots in.
    pub slot_files: Option<PathBuf>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            access: Access::default(),
            any_model: false,
            body_bytes: 8 << 20,
            connections: 1024,
            memory: u64::MAX,
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            page: true,
            report: None,
            slots: true,
            metrics: true,
            verbose: false,
            slot_files: None,
        }
    }
}

/// An answered request, for a log. It contains no content of the request.
#[derive(Clone, Debug)]
pub struct Served<'r> {
    /// Its method.
    pub method: &'r str,
    /// Its path, without a query.
    pub path: &'r str,
    /// The answer's status.
    pub status: u16,
    /// Time until the answer began.
    pub time: Duration,
}

/// Called for each request.
pub type Log = Box<dyn Fn(&Served<'_>) + Send + Sync>;

/// A listening server.
pub struct Server {
    listeners: Vec<std::net::TcpListener>,
    addresses: Vec<SocketAddr>,
    state: Arc<State>,
}

struct State {
    models: Arc<Models>,
    responses: Arc<Responses>,
    routes: Routes,
    options: ServerOptions,
    report: Option<Bytes>,
    manager: Option<Arc<Manager>>,
    slot_files: Option<Arc<PathBuf>>,
    log: Option<Log>,
}

impl Server {
    /// Listens at `addresses`; port 0 is any free one, the same for all of them.
    ///
    /// Clients may change models where there is a `manager`.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn bind(
        addresses: &[SocketAddr],
        offers: Vec<Offer>,
        options: ServerOptions,
        manager: Option<Manager>,
        log: Option<Log>,
    ) -> io::Result<Self> {
        let mut listeners = Vec::<std::net::TcpListener>::new();
        for address in addresses {
            let first = listeners.first().map(std::net::TcpListener::local_addr).transpose()?;
            let port = if address.port() == 0 { first.map_or(0, |first| first.port()) } else { address.port() };
            listeners.push(std::net::TcpListener::bind(SocketAddr::new(address.ip(), port))?);
        }
        Self::on(listeners, offers, options, manager, log)
    }

    /// Serves at `listeners`, which listen already.
    ///
    /// # Errors
    /// When they are no such sockets.
    pub fn on(
        listeners: Vec<std::net::TcpListener>,
        offers: Vec<Offer>,
        options: ServerOptions,
        manager: Option<Manager>,
        log: Option<Log>,
    ) -> io::Result<Self> {
        listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
        let bound = listeners.iter().map(std::net::TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        offers.iter().for_each(|offer| offer.begin(options.keep_alive));
        let models = Arc::new(Models {
            offers: RwLock::new(offers.into_iter().map(Arc::new).collect()),
            any_name: options.any_model,
            memory: options.memory,
            keep_alive: options.keep_alive,
            since: models::now(),
            loading: Arc::default(),
            asked: Notify::new(),
            scraped: Mutex::default(),
        });
        let report = options.report.clone().map(Bytes::from);
        let (routes, manager) = (Routes::new(), manager.map(Arc::new));
        let slot_files = options.slot_files.clone().map(Arc::new);
        let state = State { models, responses: Arc::default(), routes, options, report, manager, slot_files, log };
        Ok(Self { listeners, addresses: bound, state: Arc::new(state) })
    }

    /// The addresses that it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `should_stop` returns true, which is polled. Then no further requests are accepted, and running ones have half a
    /// minute to finish.
    ///
    /// # Errors
    /// When threads or the network event loop cannot be created.
    pub fn run(self, should_stop: &(dyn Fn() -> bool + Sync)) -> io::Result<()> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(THREADS).thread_name("http").enable_io().enable_time().build()?;
        let Self { listeners, state, .. } = self;
        let result = runtime.block_on(async {
            let listeners = listeners.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?;
            accept(listeners, &state, should_stop).await
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    }
}

async fn accept(
    listeners: Vec<TcpListener>,
    state: &Arc<State>,
    should_stop: &(dyn Fn() -> bool + Sync),
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    // Every connection has a sender; none is left when all have ended.
    let (alive, mut all_ended) = mpsc::channel::<()>(1);
    let connections = Arc::new(Connections::new(state.options.connections));
    let forgetting = tokio::spawn(forget_idle(state.models.clone()));
    // The listener that is asked first changes, so that none has to wait for another.
    let mut turn = 0;
    let mut accepted = None;
    while !should_stop() {
        if accepted.is_none() {
            let next = next_connection(&listeners, &mut turn);
            match tokio::time::timeout(LOOK, next).await {
                Err(_) => continue,
                Ok(Ok(next)) => accepted = Some(next),
                Ok(Err(_)) => {
                    // Too many open files: one less, and the next try may succeed.
                    connections.close_idle();
                    tokio::time::sleep(SHORT).await;
                    continue;
                }
            }
        }
        let Some(place) = connections.enter() else {
            tokio::time::sleep(SHORT).await;
            continue;
        };
        let Some((stream, address)) = accepted.take() else { continue };
        let (state, stopping, alive) = (state.clone(), stopping.clone(), alive.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, address, state, stopping, place.connection.clone()) => {}
                () = place.connection.closed() => {}
            }
            drop((place, alive));
        });
    }
    forgetting.abort();
    drop((listeners, alive));
    let _ = stop.send(true);
    let _ = tokio::time::timeout(GRACE, all_ended.recv()).await;
    Ok(())
}

/// The next connection to any of the listeners, and the listener's address.
async fn next_connection(listeners: &[TcpListener], turn: &mut usize) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|context| {
        for i in (*turn..listeners.len()).chain(0..*turn) {
            if let Poll::Ready(accepted) = listeners[i].poll_accept(context) {
                *turn = (i + 1) % listeners.len();
                return Poll::Ready(accepted.and_then(|(stream, _)| Ok((stream, listeners[i].local_addr()?))));
            }
        }
        Poll::Pending
    })
    .await
}

/// Lets go of models on demand when they have been idle for as long as they are kept.
async fn forget_idle(models: Arc<Models>) {
    loop {
        let asked = models.asked.notified();
        match models.next_look() {
            Some(time) => drop(tokio::time::timeout(time, asked).await),
            None => asked.await,
        }
        let idle = models.take_idle();
        if !idle.is_empty() {
            // One that is dropped waits for its thread.
            tokio::task::spawn_blocking(move || drop(idle));
        }
    }
}

/// Serves a connection to the listener at `address`.
async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    state: Arc<State>,
    mut stopping: watch::Receiver<bool>,
    own: Arc<Connection>,
) {
    // Tokens are small and should arrive one by one.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let (state, own) = (state.clone(), own.clone());
        async move { Ok::<_, Infallible>(serve(&state, address, request, &own).await) }
    });
    let mut builder = http1::Builder::new();
    // Some clients look for the names of headers as llama-server writes them.
    builder.title_case_headers(true);
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let stopped = async { stopping.wait_for(|stop| *stop).await.is_ok() };
    tokio::select! {
        // A client that disconnects is no error.
        _ = connection.as_mut() => return,
        _ = stopped => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn serve(
    state: &Arc<State>,
    address: SocketAddr,
    request: Request<Incoming>,
    connection: &Arc<Connection>,
) -> Response<Held<Body>> {
    let start = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut answering = None;
    let come = || answering = Some(connection.answering());
    let mut response = match answer(state, address, request, come).await {
        Ok(response) => response,
        Err((failure, dialect)) => failed(&failure, dialect),
    };
    allow_origin(state, origin.as_ref(), response.headers_mut());
    if let Some(log) = &state.log {
        let status = response.status().as_u16();
        log(&Served { method: method.as_str(), path: &path, status, time: start.elapsed() });
    }
    response.map(|body| Held::new(body, answering))
}

/// Answers a request. `come` is called when all of it has come.
async fn answer(
    state: &Arc<State>,
    address: SocketAddr,
    request: Request<Incoming>,
    come: impl FnOnce(),
) -> Result<Response<Body>, (Failure, Dialect)> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let guessed = Routes::dialect(&path);
    let access = &state.options.access;
    if request.method() == Method::OPTIONS && request.headers().contains_key(header::ORIGIN) {
        access.check_host(request.headers(), address).map_err(|failure| (failure, guessed))?;
        return Ok(preflight(access, request.headers()));
    }
    let page = File::wanted(request.method(), &path, request.headers()).filter(|_| state.options.page);
    let found = state.routes.find(request.method(), &path);
    // The page itself needs no key; it asks the user for one if the API needs it.
    let is_open = page.is_some() || found.as_ref().is_ok_and(|(route, _)| route.is_open);
    let salt = access.check(request.headers(), address, is_open).map_err(|failure| (failure, guessed))?;
    if let Some(file) = page {
        return Ok(file.response(request.headers()));
    }
    let (route, rest) = found.map_err(|failure| (failure, guessed))?;
    let tell = |failure| (failure, route.dialect);
    state.options.allows(route.path).map_err(tell)?;
    let (body, upload) = match request.into_body() {
        body if route.is_upload => (Bytes::new(), Some(body)),
        body => (read(body, state.options.body_bytes).await.map_err(tell)?, None),
    };
    come();
    let (models, responses, verbose) = (state.models.clone(), state.responses.clone(), state.options.verbose);
    let (manager, report) = (state.manager.clone(), state.report.clone());
    let document = if access.keys.is_empty() { &OPEN_DOCUMENT } else { &DOCUMENT };
    let (document, slot_files) = (document.as_str(), state.slot_files.clone());
    let call =
        Call { models, responses, document, rest, query, body, upload, manager, report, salt, verbose, slot_files };
    (route.handler)(call).await.map(reply::Reply::into_response).map_err(tell)
}

impl ServerOptions {
    /// Refuses routes that are switched off.
    fn allows(&self, path: &str) -> Result<(), Failure> {
        match path {
            "/slots" if !self.slots => Err(Failure::not_done("this server does not tell what it computes")),
            "/metrics" if !self.metrics => Err(Failure::not_done("this server does not tell its figures")),
            _ => Ok(()),
        }
    }
}

/// Reads a body, up to `limit` bytes and within the time-out.
async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, Failure> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Failure::too_large(limit));
    }
    let all = async {
        let mut bytes = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let frame = frame.map_err(|_| Failure::invalid("the body has not come whole"))?;
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > limit {
                    return Err(Failure::too_large(limit));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Bytes::from(bytes))
    };
    tokio::time::timeout(BODY_TIME, all).await.unwrap_or_else(|_| Err(Failure::too_slow()))
}

/// The answer to a CORS preflight request. Who may not ask learns nothing, not even that.
fn preflight(access: &Access, headers: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::Full(None));
    let may_read = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| access.may_read(origin));
    if !headers.get(header::ORIGIN).is_some_and(may_read) {
        return response;
    }
    reply::set(&mut response, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS");
    // Browsers may refuse to send `Authorization` for `*`: for origins that are named, the headers are, too.
    let named = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).filter(|_| !access.all_may_read());
    let usual = if access.all_may_read() { "*" } else { "authorization, content-type, x-api-key" };
    let allowed = named.cloned().unwrap_or(HeaderValue::from_static(usual));
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    response
}

/// Adds CORS headers for pages of configured origins.
fn allow_origin(state: &State, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if let Some(origin) = origin
        && origin.to_str().is_ok_and(|origin| state.options.access.may_read(origin))
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}
