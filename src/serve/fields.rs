//! The fields of a JSON body, read with their types checked. `null` is the same as no field.

use serde_json::{Map, Value as Json};

use super::failure::Failure;

/// An object of a request.
#[derive(Clone, Copy)]
pub(super) struct Fields<'b>(pub(super) &'b Map<String, Json>);

impl<'b> Fields<'b> {
    pub(super) fn get(self, name: &str) -> Option<&'b Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(self, name: &str, must: &str, read: impl Fn(&'b Json) -> Option<T>) -> Result<Option<T>, Failure> {
        self.get(name)
            .map(|value| read(value).ok_or_else(|| Failure::field(name, format!("must be {must}"))))
            .transpose()
    }

    pub(super) fn text(self, name: &str) -> Result<Option<&'b str>, Failure> {
        self.typed(name, "a string", Json::as_str)
    }

    pub(super) fn flag(self, name: &str) -> Result<bool, Failure> {
        self.flag_or(name, false)
    }

    pub(super) fn flag_or(self, name: &str, default: bool) -> Result<bool, Failure> {
        Ok(self.typed(name, "true or false", Json::as_bool)?.unwrap_or(default))
    }

    pub(super) fn list(self, name: &str) -> Result<Option<&'b Vec<Json>>, Failure> {
        self.typed(name, "an array", Json::as_array)
    }

    pub(super) fn object(self, name: &str) -> Result<Option<Fields<'b>>, Failure> {
        self.typed(name, "an object", |value| value.as_object().map(Fields))
    }

    /// A whole number in a range.
    pub(super) fn whole(self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Failure> {
        let must = format!("a whole number from {least} to {most}");
        // Some clients write 16.0.
        #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
        let of_float = |x: f64| (x.fract() == 0.0 && x.abs() < 9e15).then_some(x as i64);
        let read = |value: &Json| value.as_i64().or_else(|| value.as_f64().and_then(of_float));
        self.typed(name, &must, |value| read(value).filter(|n| (least..=most).contains(n)))
    }

    /// A number of tokens or choices: a whole number in a range.
    pub(super) fn count(self, name: &str, least: u32, most: u32) -> Result<Option<usize>, Failure> {
        Ok(self.whole(name, least.into(), most.into())?.and_then(|n| usize::try_from(n).ok()))
    }

    /// One string, or an array of them.
    pub(super) fn texts(self, name: &str) -> Result<Vec<String>, Failure> {
        let read = |value: &Json| match value {
            Json::String(text) => Some(vec![text.clone()]),
            Json::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        Ok(self.typed(name, "a string or an array of strings", read)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_and_ranges_are_told() {
        let body = json!({ "a": "x", "b": 3, "c": null, "d": 2.0, "e": ["x", "y"], "f": 2.5, "g": [1] });
        let fields = Fields(body.as_object().expect("an object"));
        assert_eq!(fields.text("a"), Ok(Some("x")));
        assert_eq!(fields.text("c"), Ok(None));
        assert_eq!((fields.count("b", 0, 9), fields.count("d", 0, 9)), (Ok(Some(3)), Ok(Some(2))));
        assert_eq!((fields.texts("a"), fields.texts("z")), (Ok(vec!["x".to_owned()]), Ok(vec![])));
        assert_eq!(fields.texts("e").map(|texts| texts.len()), Ok(2));
        for (error, expected) in [
            (fields.text("b").map(drop), "b must be a string"),
            (fields.count("b", 0, 2).map(drop), "b must be a whole number from 0 to 2"),
            (fields.count("f", 0, 9).map(drop), "f must be a whole number from 0 to 9"),
            (fields.texts("g").map(drop), "g must be a string or an array of strings"),
            (fields.flag("a").map(drop), "a must be true or false"),
        ] {
            assert_eq!(error.map_err(|failure| failure.message), Err(expected.to_owned()));
        }
    }
}
