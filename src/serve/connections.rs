//! The open connections. When there are too many, those that nothing is computed for make room, the longest idle first: clients that
//! only wait, or that send their requests slowly, keep nobody out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;

/// All open connections.
pub(super) struct Connections {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: BTreeMap<u64, Arc<Connection>>,
    next: u64,
}

/// An open connection.
pub(super) struct Connection {
    /// Answers that are being made.
    answers: AtomicUsize,
    idle_since: Mutex<Instant>,
    close: Notify,
}

/// The place of a connection, until it is dropped.
pub(super) struct Place {
    id: u64,
    pub(super) connection: Arc<Connection>,
    connections: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().all.remove(&self.id);
    }
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. Where there are too many, the longest idle one is closed; `None` if all are being answered.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.lock().all.len() >= self.most && !self.close_idle() {
            return None;
        }
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        let connection = Arc::new(Connection {
            answers: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            close: Notify::new(),
        });
        open.all.insert(id, connection.clone());
        Some(Place { id, connection, connections: self.clone() })
    }

    /// Closes the longest idle connection. Returns false if there is none.
    pub(super) fn close_idle(&self) -> bool {
        let mut open = self.lock();
        let idle = open.all.iter().filter(|(_, connection)| connection.answers.load(Ordering::Acquire) == 0);
        let Some(id) = idle.min_by_key(|(_, connection)| *lock(&connection.idle_since)).map(|(id, _)| *id) else {
            return false;
        };
        if let Some(connection) = open.all.remove(&id) {
            connection.close.notify_one();
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Says that an answer is being made, until the value is dropped.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.answers.fetch_add(1, Ordering::AcqRel);
        Answering(self.clone())
    }

    /// Waits until the connection is to make room.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }
}

/// An answer that is being made.
pub(super) struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        *lock(&self.0.idle_since) = Instant::now();
        self.0.answers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body of an answer that is being made until the last of it has been sent.
pub(super) struct Held<B> {
    body: B,
    _answering: Option<Answering>,
}

impl<B> Held<B> {
    pub(super) fn new(body: B, answering: Option<Answering>) -> Self {
        Self { body, _answering: answering }
    }
}

impl<B: hyper::body::Body + Unpin> hyper::body::Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_connection_makes_room() {
        let connections = Arc::new(Connections::new(2));
        let is_open = |place: &Place| connections.lock().all.contains_key(&place.id);
        let first = connections.enter().expect("a place");
        let second = connections.enter().expect("a place");
        drop(first.connection.answering());
        let third = connections.enter().expect("that of the second");
        assert!(is_open(&first) && !is_open(&second) && is_open(&third));
        let (busy, also) = (first.connection.answering(), third.connection.answering());
        assert!(connections.enter().is_none());
        drop(busy);
        // What has no place any more takes none from others.
        drop(second);
        assert!(connections.enter().is_some());
        drop((also, third));
        assert!(connections.enter().is_some());
    }
}
