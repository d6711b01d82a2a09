//! Text that tracks the origin of its parts: the template itself, or untrusted sources (messages, tools, documents).

use std::rc::Rc;

/// A string of a template.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    text: Rc<str>,
    /// Byte ranges that are from messages, tools or documents, sorted and disjoint.
    untrusted: Option<Rc<[(usize, usize)]>>,
    /// Whether it is Python's Markup: HTML, so that text added to it is escaped.
    pub(super) markup: bool,
}

impl Text {
    pub(super) fn new(text: impl Into<Rc<str>>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Untrusted text, such as that of a message.
    pub(super) fn untrusted(text: &str) -> Self {
        let untrusted: Option<Rc<[_]>> = (!text.is_empty()).then(|| Rc::from([(0, text.len())]));
        Self { text: text.into(), untrusted, markup: false }
    }

    /// The same text, Markup or not.
    pub(super) fn with_markup(self, markup: bool) -> Self {
        Self { markup, ..self }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The untrusted ranges.
    pub(super) fn ranges(&self) -> &[(usize, usize)] {
        self.untrusted.as_deref().unwrap_or(&[])
    }

    /// Text derived from this one: untrusted as a whole if a part of this one is.
    pub(super) fn made(&self, text: impl AsRef<str>) -> Self {
        let made = if self.untrusted.is_some() { Self::untrusted(text.as_ref()) } else { Self::new(text.as_ref()) };
        Self { markup: self.markup, ..made }
    }

    /// A part of this text, `part` being a slice of it.
    pub(super) fn part(&self, part: &str) -> Self {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        debug_assert!(start + part.len() <= self.text.len(), "a slice of it");
        let end = start + part.len();
        let inside = self.ranges().iter().map(|&(a, b)| (a.max(start), b.min(end))).filter(|(a, b)| a < b);
        let untrusted: Vec<_> = inside.map(|(a, b)| (a - start, b - start)).collect();
        Self { text: part.into(), untrusted: (!untrusted.is_empty()).then(|| untrusted.into()), markup: self.markup }
    }

    /// As Markup, escaped unless it is Markup already.
    pub(super) fn escaped(&self) -> Self {
        if self.markup { self.clone() } else { self.escaped_again() }
    }

    /// Escaped, even if it is Markup already.
    pub(super) fn escaped_again(&self) -> Self {
        let mut out = Builder::default();
        let mut done = 0;
        for (at, c) in self.text.char_indices() {
            let entity = match c {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '\'' => "&#39;",
                '"' => "&#34;",
                _ => continue,
            };
            out.push(&self.part(&self.text[done..at]));
            out.push_str(entity);
            done = at + c.len_utf8();
        }
        out.push(&self.part(&self.text[done..]));
        Self { markup: true, ..out.finish() }
    }
}

/// Builds a text.
#[derive(Default)]
pub(super) struct Builder {
    text: String,
    untrusted: Vec<(usize, usize)>,
}

impl Builder {
    pub(super) fn push(&mut self, text: &Text) {
        let start = self.text.len();
        for &(a, b) in text.ranges() {
            match self.untrusted.last_mut() {
                Some(last) if last.1 == start + a => last.1 = start + b,
                _ => self.untrusted.push((start + a, start + b)),
            }
        }
        self.text.push_str(text.as_str());
    }

    /// Adds text of the template.
    pub(super) fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn finish(self) -> Text {
        let untrusted = (!self.untrusted.is_empty()).then(|| self.untrusted.into());
        Text { text: self.text.into(), untrusted, markup: false }
    }

    pub(super) fn into_parts(self) -> (String, Vec<(usize, usize)>) {
        (self.text, self.untrusted)
    }
}
