//! Which values have which methods.

use super::value::Value;

const OF_STRINGS: [&str; 45] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const OF_DICTIONARIES: [&str; 11] =
    ["items", "keys", "values", "get", "copy", "pop", "popitem", "update", "clear", "setdefault", "fromkeys"];
const OF_LISTS: [&str; 11] =
    ["index", "count", "append", "extend", "insert", "pop", "remove", "reverse", "sort", "clear", "copy"];

/// Whether `value` has a method of that name.
pub(super) fn has_method(value: &Value, name: &str) -> bool {
    match value {
        Value::Str(_) => OF_STRINGS.contains(&name),
        Value::Dict(_) => OF_DICTIONARIES.contains(&name),
        Value::List(list) if list.is_tuple => matches!(name, "index" | "count"),
        Value::List(_) => OF_LISTS.contains(&name),
        Value::Loop(_) => matches!(name, "cycle" | "changed"),
        _ => false,
    }
}
