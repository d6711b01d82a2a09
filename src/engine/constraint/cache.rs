//! What has been compiled for a model, so that requests with the same grammar or the same tools do not compile it again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Entries, at most: the one that has not been used for longest makes room.
const MOST: usize = 16;

/// What was compiled: of which kind, and its text. The order of properties counts, so that it is no JSON value.
pub(super) type Source = (&'static str, String);

/// What has been compiled, by its source.
pub(super) struct Cache<T>(Mutex<VecDeque<(Source, T)>>);

impl<T: Clone> Cache<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// What was made of `source`, or else what `compile` makes of it, which is kept. Two threads that ask for the same at once
    /// may both compile it.
    ///
    /// # Errors
    /// Those of `compile`; these are not kept.
    pub(super) fn get<E>(&self, source: Source, compile: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if let Some(found) = self.find(&source) {
            return Ok(found);
        }
        let made = compile()?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(other, _)| *other != source);
        all.push_back((source, made.clone()));
        if all.len() > MOST {
            all.pop_front();
        }
        Ok(made)
    }

    fn find(&self, source: &Source) -> Option<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(other, _)| other == source)?;
        let entry = all.remove(at)?;
        let found = entry.1.clone();
        all.push_back(entry);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_errors_do_not() {
        let cache = Cache::new();
        let mut made = 0;
        let mut get = |text: &str| {
            let before = made;
            let compile = || {
                made += 1;
                if text.is_empty() { Err("empty") } else { Ok(text.len()) }
            };
            let found = cache.get(("kind", text.to_owned()), compile);
            (found, made > before)
        };
        assert_eq!(get("first"), (Ok(5), true));
        assert_eq!((get(""), get("")), ((Err("empty"), true), (Err("empty"), true)));
        for n in 1..MOST {
            assert_eq!(get(&"x".repeat(n)), (Ok(n), true));
            assert_eq!(get("first"), (Ok(5), false), "it is used, and stays");
        }
        assert_eq!(get("one more"), (Ok(8), true));
        assert_eq!(get("x"), (Ok(1), true), "the oldest has made room");
        assert_eq!(get("first"), (Ok(5), false));
        assert_eq!(cache.get(("other", "first".to_owned()), || Ok::<_, ()>(0)), Ok(0), "another kind");
    }
}
