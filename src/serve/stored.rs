//! Stored responses, which later requests can continue, within a memory limit.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value as Json, json};

/// Maximum bytes of all stored responses.
const MOST_BYTES: usize = 64 << 20;

/// A response and its conversation. They are stored as text, which needs less memory than JSON values.
pub(super) struct Stored {
    response: String,
    input: String,
    messages: String,
}

impl Stored {
    /// `messages` are those of the whole conversation, including the answer.
    pub(super) fn new(response: &Json, input: &Json, messages: &[Json]) -> Self {
        let messages = Json::from(messages).to_string();
        Self { response: response.to_string(), input: input.to_string(), messages }
    }

    fn bytes(&self) -> usize {
        self.response.len() + self.input.len() + self.messages.len()
    }

    pub(super) fn response(&self) -> Json {
        serde_json::from_str(&self.response).unwrap_or_default()
    }

    pub(super) fn messages(&self) -> Vec<Json> {
        serde_json::from_str(&self.messages).unwrap_or_default()
    }

    /// The input of the request, as items with ids.
    pub(super) fn input_items(&self) -> Vec<Json> {
        let items = match serde_json::from_str(&self.input).unwrap_or_default() {
            Json::Array(items) => items,
            text => vec![json!({ "role": "user", "content": [{ "type": "input_text", "text": text }] })],
        };
        let named = |(i, mut item): (usize, Json)| {
            for (name, value) in [("id", json!(format!("item_{i}"))), ("type", json!("message"))] {
                if let Some(map) = item.as_object_mut() {
                    map.entry(name).or_insert(value);
                }
            }
            item
        };
        items.into_iter().enumerate().map(named).collect()
    }
}

/// All stored responses.
#[derive(Default)]
pub(super) struct Responses(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// By the salt of the request's API key, and the id.
    all: HashMap<(u64, String), Arc<Stored>>,
    /// The oldest first.
    order: VecDeque<(u64, String)>,
    bytes: usize,
}

impl Responses {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A response of a request with the same key.
    pub(super) fn find(&self, salt: u64, id: &str) -> Option<Arc<Stored>> {
        self.lock().all.get(&(salt, id.to_owned())).cloned()
    }

    pub(super) fn remove(&self, salt: u64, id: &str) -> bool {
        let mut kept = self.lock();
        let key = (salt, id.to_owned());
        kept.order.retain(|other| *other != key);
        kept.drop_one(&key)
    }

    /// Stores a response; the oldest are removed to make room.
    pub(super) fn insert(&self, salt: u64, id: String, stored: Stored) {
        let mut kept = self.lock();
        kept.bytes += stored.bytes();
        kept.order.push_back((salt, id.clone()));
        kept.all.insert((salt, id), Arc::new(stored));
        while kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.order.pop_front() else { return };
            kept.drop_one(&oldest);
        }
    }
}

impl Kept {
    fn drop_one(&mut self, key: &(u64, String)) -> bool {
        let removed = self.all.remove(key);
        self.bytes -= removed.as_ref().map_or(0, |stored| stored.bytes());
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_keys_see_their_own() {
        let responses = Responses::default();
        let text = "x".repeat(MOST_BYTES / 5);
        let insert = |id: &str| responses.insert(1, id.to_owned(), Stored::new(&json!(id), &json!(text), &[]));
        ["a", "b", "c", "d", "e", "f"].into_iter().for_each(insert);
        assert!(responses.find(1, "a").is_none() && responses.find(1, "b").is_none());
        assert_eq!(responses.find(1, "c").map(|stored| stored.response()), Some(json!("c")));
        assert!(responses.find(2, "c").is_none());
        assert!(!responses.remove(2, "c") && responses.remove(1, "c") && !responses.remove(1, "c"));
        insert("g");
        assert!(responses.find(1, "d").is_some());
        let kept = responses.lock();
        assert_eq!(kept.order.len(), kept.all.len());
    }
}
