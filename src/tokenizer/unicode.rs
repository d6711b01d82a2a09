//! General categories of code points.

use std::sync::OnceLock;

use super::unicode_table::RUNS;

/// A general category, in the order of [`RUNS`]' numbers.
#[rustfmt::skip]
pub(super) const NAMES: [&str; 30] = [
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
    "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
];

/// Set of categories: bit `i` for the category `i` of [`NAMES`].
pub(super) type CategorySet = u32;

/// The categories whose names begin with `name` (`L`, `Lu` ...).
pub(super) fn named(name: &str) -> CategorySet {
    (0..).zip(NAMES).filter(|(_, category)| category.starts_with(name)).fold(0, |set, (i, _)| set | 1 << i)
}

/// The category of `c`, as a set of one.
pub(super) fn category(c: char) -> CategorySet {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table = vec![0; 0x11_0000];
        let ends = RUNS.iter().skip(1).map(|run| run.0).chain([0x11_0000]);
        for (&(start, number), end) in RUNS.iter().zip(ends) {
            if let Some(run) = table.get_mut(start as usize..end as usize) {
                run.fill(number);
            }
        }
        table
    });
    1 << table.get(c as usize).copied().unwrap_or(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_those_of_unicode() {
        for (c, name) in [('A', "Lu"), ('ß', "Ll"), ('中', "Lo"), ('ʰ', "Lm"), ('५', "Nd"), ('½', "No"), ('$', "Sc")]
        {
            assert_eq!(category(c), named(name), "{c}");
        }
        assert_ne!(category('\u{301}') & named("M"), 0);
        assert_eq!(named("N").count_ones(), 3);
    }
}
