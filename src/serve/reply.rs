//! Answers as bytes: one JSON document, a text, or a stream.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value as Json;
use tokio::sync::mpsc;

use super::failure::{Dialect, Failure};

/// Maximum unsent pieces of a stream.
const PIECES: usize = 16;
/// A stream says that it lives when nothing has come for so long.
pub(super) const PING: Duration = Duration::from_secs(15);

/// What a page may do that is not one of the program's.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";

/// The result of a route.
pub(super) enum Reply {
    Json(Json),
    Text(&'static str, String),
    /// A status without a body.
    Empty(u16),
    /// A page that is not one of the program's: it may show what it has in it, and nothing else.
    Page(Bytes),
    /// Metrics for Prometheus, with the start time of the process (seconds since 1970).
    Figures(String, u64),
    Stream(Form, mpsc::Receiver<Bytes>),
}

/// The form of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-sent events.
    Events,
    /// Lines of JSON.
    Lines,
}

/// The receiver of a stream's objects.
pub(super) struct Sink {
    form: Form,
    sender: mpsc::Sender<Bytes>,
}

impl Sink {
    /// Sends an object; waits while the client is behind.
    pub(super) async fn send(&self, json: &Json) {
        match self.form {
            Form::Events => self.raw(format!("data: {json}\n\n")).await,
            Form::Lines => self.raw(format!("{json}\n")).await,
        }
    }

    /// Sends an object as an event of this name.
    pub(super) async fn event(&self, name: &str, json: &Json) {
        self.raw(format!("event: {name}\ndata: {json}\n\n")).await;
    }

    /// The end of OpenAI's streams.
    pub(super) async fn done(&self) {
        self.raw("data: [DONE]\n\n".to_owned()).await;
    }

    /// Keeps the connection of a waiting client alive.
    pub(super) async fn ping(&self) {
        if self.form == Form::Events {
            self.raw(": ping\n\n".to_owned()).await;
        }
    }

    async fn raw(&self, text: String) {
        // If the client has disconnected, the sending task is ended.
        let _ = self.sender.send(Bytes::from(text)).await;
    }
}

impl Reply {
    /// The JSON of a value.
    pub(super) fn of(value: &impl serde::Serialize) -> Result<Self, Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::server(error.to_string()))?;
        Ok(Self::Text("application/json; charset=utf-8", text))
    }

    /// A stream of what `work` sends. It is cancelled when the client disconnects.
    pub(super) fn stream<F: Future<Output = ()> + Send + 'static>(form: Form, work: impl FnOnce(Sink) -> F) -> Self {
        let (sender, receiver) = mpsc::channel(PIECES);
        let work = work(Sink { form, sender: sender.clone() });
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                () = sender.closed() => {}
            }
        });
        Self::Stream(form, receiver)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let since = if let Self::Figures(_, since) = &self { Some(*since) } else { None };
        let status = if let Self::Empty(status) = &self { *status } else { 200 };
        let is_page = matches!(self, Self::Page(_));
        let (kind, body) = match self {
            Self::Figures(text, _) => ("text/plain; version=0.0.4", Body::full(text)),
            Self::Json(json) => ("application/json; charset=utf-8", Body::full(json.to_string())),
            Self::Text(kind, text) => (kind, Body::full(text)),
            Self::Empty(_) => ("text/plain; charset=utf-8", Body::full(String::new())),
            Self::Page(bytes) => ("text/html; charset=utf-8", Body::Full(Some(bytes))),
            Self::Stream(Form::Events, receiver) => ("text/event-stream", Body::Stream(receiver)),
            Self::Stream(Form::Lines, receiver) => ("application/x-ndjson", Body::Stream(receiver)),
        };
        let mut response = Response::new(body);
        set(&mut response, header::CONTENT_TYPE, kind);
        set(&mut response, header::CACHE_CONTROL, "no-cache");
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        if is_page {
            set(&mut response, header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
            set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        }
        if let Some(since) = since {
            response.headers_mut().insert(HeaderName::from_static("process-start-time-unix"), since.into());
        }
        response
    }
}

/// The response for an error.
pub(super) fn failed(failure: &Failure, dialect: Dialect) -> Response<Body> {
    let mut response = Reply::Json(failure.body(dialect)).into_response();
    *response.status_mut() = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = failure.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(allow) = failure.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    if failure.status == 401 {
        set(&mut response, header::WWW_AUTHENTICATE, "Bearer");
    }
    response
}

pub(super) fn set(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// The body of a response.
pub(super) enum Body {
    Full(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body {
    pub(super) fn full(text: String) -> Self {
        Self::Full(Some(Bytes::from(text)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(receiver) => {
                receiver.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
