//! Tokenizers, converted from `tokenizer.json` as a user would, against the `tokenizers` crate on the same file.
//!
//! Where both differ on purpose, a case names the texts and the reason; everything else has to be the same.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use gguf_toolkit::convert::Folder as Checkpoint;
use gguf_toolkit::tokenizer::{EncodeOptions, TokenKind, Tokenizer, byte_character, pre_tokenizer_flags};
use serde_json::{Value as Json, json};
use unicode_normalization::{char::is_combining_mark, is_nfc};

use super::folder::Folder;
use super::goldens::golden;
use super::shared::{json as read_json, testdata};

/// Texts on which a tokenizer may differ from the reference, and why.
struct Exception {
    reason: &'static str,
    /// Of a text, and whether special tokens are taken for what they spell.
    applies: fn(&str, bool) -> bool,
}

/// A tokenizer of this crate and the same one of the other crate.
struct Pair {
    name: String,
    ours: Tokenizer,
    reference: tokenizers::Tokenizer,
    exceptions: Vec<Exception>,
}

impl Pair {
    /// The tokenizers of a checkpoint's folder.
    fn open(name: &str, folder: &Path) -> Self {
        let ours = convert(folder).unwrap_or_else(|e| panic!("{name}: {e}"));
        let reference = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json"));
        let reference = reference.unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.to_owned(), ours, reference, exceptions: Vec::new() }
    }

    /// The tokenizers that `json` describes.
    fn made(folder: &Folder, name: &str, json: &Json, class: &str) -> Self {
        write_checkpoint(&folder.path(name), json, class);
        Self::open(name, &folder.path(name))
    }

    fn except(mut self, reason: &'static str, applies: fn(&str, bool) -> bool) -> Self {
        self.exceptions.push(Exception { reason, applies });
        self
    }

    /// Compares both on all texts. Every exception has to be needed.
    fn compare(&mut self) {
        let failures = self.differences();
        let shown: Vec<&String> = failures.iter().take(20).collect();
        assert!(failures.is_empty(), "{}: {} texts differ\n{shown:#?}", self.name, failures.len());
    }

    /// The texts that differ without an exception, and exceptions that are not needed.
    fn differences(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut needed = vec![false; self.exceptions.len()];
        for parse_special in [false, true] {
            self.reference.set_encode_special_tokens(!parse_special);
            for text in texts() {
                let options = EncodeOptions { add_special: false, parse_special };
                let found = self.ours.encode(&text, options).expect("encodes");
                let expected = self.reference.encode_fast(text.as_str(), false).expect("encodes");
                if found == expected.get_ids() {
                    continue;
                }
                let exception = self.exceptions.iter().position(|exception| (exception.applies)(&text, parse_special));
                match exception {
                    Some(i) => needed[i] = true,
                    None => failures.push(self.difference(&text, &found, expected.get_ids())),
                }
            }
        }
        let needless = self.exceptions.iter().zip(needed).filter(|(_, needed)| !needed);
        failures.extend(needless.map(|(exception, _)| format!("needless exception: {}", exception.reason)));
        failures
    }

    /// The first tokens that differ.
    fn difference(&self, text: &str, found: &[u32], expected: &[u32]) -> String {
        let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
        let show = |ids: &[u32]| -> Vec<String> {
            let pieces = ids.iter().skip(same.saturating_sub(1)).take(6);
            pieces.map(|&id| String::from_utf8_lossy(self.ours.piece(id)).into_owned()).collect()
        };
        let text: String = text.chars().take(60).collect();
        format!("{text:?}: {:?}, not {:?}", show(found), show(expected))
    }

    /// Fails unless texts come back from their tokens, but for what `normalized` does to them.
    fn assert_round_trips(&self, normalized: impl Fn(&str) -> String) {
        for text in texts() {
            let tokens = self.ours.encode(&text, EncodeOptions::default()).expect("encodes");
            let back = self.ours.decode(&tokens, true);
            assert_eq!(back, normalized(&text), "{}", self.name);
        }
    }
}

/// The tokenizer of a checkpoint's folder, as a converted file has it.
fn convert(folder: &Path) -> Result<Tokenizer, gguf_toolkit::convert::Error> {
    gguf_toolkit::convert::tokenizer(&Checkpoint::open(folder).expect("a folder"), None)
}

/// Writes a folder with a tokenizer alone.
fn write_checkpoint(folder: &Path, json: &Json, class: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    let config = json!({ "architectures": [class], "model_type": "made" });
    for (name, json) in [("tokenizer.json", json), ("config.json", &config)] {
        std::fs::write(folder.join(name), json.to_string()).expect("written");
    }
}

fn corpus() -> String {
    std::fs::read_to_string(testdata("tokenizers/corpus.txt")).expect("readable")
}

/// The corpus, its paragraphs, its lines with and without their ends, and pieces of it put together.
fn texts() -> Vec<String> {
    let corpus = corpus();
    let paragraphs = corpus.split("\n\n").filter(|text| !text.is_empty()).map(str::to_owned);
    let mut texts: Vec<String> = paragraphs.collect();
    for line in corpus.split_inclusive('\n') {
        texts.push(line.to_owned());
        texts.push(line.trim_end_matches('\n').to_owned());
    }
    let ends: Vec<usize> = corpus.char_indices().map(|(at, _)| at).chain([corpus.len()]).collect();
    let mut random = Random(1);
    for _ in 0..2000 {
        let mut text = String::new();
        for _ in 0..=random.below(6) {
            let start = random.below(ends.len());
            let end = (start + 1 + random.below(12)).min(ends.len() - 1);
            text.push_str(&corpus[ends[start]..ends[end]]);
            text.push_str(GLUE[random.below(GLUE.len())]);
        }
        texts.push(text);
    }
    texts.push(corpus);
    texts.retain(|text| !text.is_empty());
    texts
}

/// What pieces of text are put together with.
const GLUE: [&str; 24] = [
    "",
    "",
    "",
    "",
    "",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    "'s",
    "1",
    "123",
    ".",
    "!",
    "\u{301}",
    "\u{200d}",
    "\u{a0}",
    "<s>",
    "</s>",
    "<|endoftext|>",
    "<|im_end|>",
    "[MASK]",
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ z >> 31) >> 33).expect("31 bits") % n
    }
}

/// A vocabulary of byte-pair merges: tokens in the order of their ids, and pairs that make the later ones.
struct Merges {
    tokens: Vec<String>,
    pairs: Vec<(String, String)>,
}

/// Merges the commonest pairs of `symbols`, wherever they are: what keeps a text from being merged then shows.
fn train(symbols: impl Iterator<Item = String>, count: usize) -> Merges {
    let mut tokens: Vec<String> = Vec::new();
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut text: Vec<usize> = Vec::new();
    for symbol in symbols {
        let id = *ids.entry(symbol.clone()).or_insert(tokens.len());
        if id == tokens.len() {
            tokens.push(symbol);
        }
        text.push(id);
    }
    let mut pairs = Vec::new();
    while pairs.len() < count {
        let mut counts: HashMap<(usize, usize), usize> = HashMap::new();
        for pair in text.windows(2) {
            *counts.entry((pair[0], pair[1])).or_default() += 1;
        }
        let best = counts.into_iter().map(|(pair, count)| (count, std::cmp::Reverse(pair))).max();
        let Some((_, std::cmp::Reverse((left, right)))) = best else { break };
        let joined = format!("{}{}", tokens[left], tokens[right]);
        let id = *ids.entry(joined.clone()).or_insert(tokens.len());
        if id == tokens.len() {
            tokens.push(joined);
        }
        pairs.push((tokens[left].clone(), tokens[right].clone()));
        let mut merged = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let here = text.get(at..at + 2) == Some(&[left, right]);
            merged.push(if here { id } else { text[at] });
            at += if here { 2 } else { 1 };
        }
        text = merged;
    }
    Merges { tokens, pairs }
}

impl Merges {
    /// Those of tokens that `keep` keeps, each as it stands for text in a vocabulary.
    fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let tokens: Vec<String> =
            self.tokens.iter().filter(|token| token.chars().count() == 1 || keep(token)).cloned().collect();
        let kept: HashSet<&str> = tokens.iter().map(String::as_str).collect();
        let all = |(a, b): &&(String, String)| {
            [a, b, &format!("{a}{b}")].into_iter().all(|token| kept.contains(token.as_str()))
        };
        let pairs = self.pairs.iter().filter(all).cloned().collect();
        Self { tokens: tokens.clone(), pairs }
    }

    fn model(&self, byte_fallback: bool, ignore_merges: bool) -> Json {
        let vocab: serde_json::Map<String, Json> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
        json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": byte_fallback,
            "ignore_merges": ignore_merges, "vocab": vocab, "merges": self.pairs,
        })
    }
}

fn added(id: usize, content: &str, special: bool) -> Json {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": special,
    })
}

/// An added token with flags.
fn flagged(id: usize, content: &str, special: bool, flags: &[&str]) -> Json {
    let mut token = added(id, content, special);
    for flag in flags {
        token[flag] = true.into();
    }
    token
}

fn tokenizer_json(model: &Json, parts: &Json, added: &[Json]) -> Json {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": parts["normalizer"], "pre_tokenizer": parts["pre_tokenizer"],
        "post_processor": parts["post_processor"], "decoder": parts["decoder"], "model": model,
    })
}

/// Every golden that has such a file; those with equal files are one.
#[test]
fn goldens_encode_as_the_reference_does() {
    let mut seen = Vec::new();
    let mut names: Vec<String> = std::fs::read_dir(testdata("arch"))
        .expect("goldens")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    for name in names {
        let Ok(file) = std::fs::read(golden(&name).join("tokenizer.json")) else { continue };
        if seen.contains(&file) {
            continue;
        }
        let mut pair = Pair::open(&name, &golden(&name));
        pair.compare();
        pair.assert_round_trips(str::to_owned);
        seen.push(file);
    }
    assert!(seen.len() > 8, "{} files", seen.len());
}

/// The text that the characters of a byte-level token stand for; a number for every byte that is none.
fn text_of(token: &str) -> String {
    let byte = |c: char| (0..=255u8).find(|&byte| byte_character(byte) == c).expect("a byte");
    let bytes: Vec<u8> = token.chars().map(byte).collect();
    String::from_utf8_lossy(&bytes).replace(char::REPLACEMENT_CHARACTER, "1")
}

/// Pre-tokenizers as published files spell them, on merges that go beyond words wherever a pre-tokenizer lets them.
#[test]
fn pre_tokenizers_cut_as_the_reference_does() {
    let folder = Folder::new("reference-pre-tokenizers");
    let text = corpus();
    let alphabet = (0..=255u8).map(|byte| byte_character(byte).to_string());
    let merges = train(alphabet.chain(text.bytes().map(|byte| byte_character(byte).to_string())), 2500);
    let mut failures = Vec::new();
    let published = read_json(&testdata("tokenizers/pre_tokenizers.json"));
    for (i, parts) in published.as_array().expect("a list").iter().enumerate() {
        let name = parts["name"].as_str().expect("a name");
        let flags = pre_tokenizer_flags(name).expect("a known name");
        let mut parts = parts.clone();
        parts["decoder"] =
            json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
        // Vocabularies of these models have no tokens that their pre-tokenizers cut, and no file can cut them.
        let own = match name {
            "deepseek-llm" => Some(merges.only(|token| text_of(token).matches(char::is_numeric).count() < 2)),
            "falcon" => {
                let digits = |token: &str| token.chars().all(|c| c.is_ascii_digit());
                Some(merges.only(|token| digits(token) || !token.contains(char::is_numeric)))
            }
            _ => None,
        };
        let merges = own.as_ref().unwrap_or(&merges);
        let next = merges.tokens.len();
        let added =
            [added(next, "<|endoftext|>", true), added(next + 1, "<|im_end|>", true), added(next + 2, "[MASK]", false)];
        let json = tokenizer_json(&merges.model(false, flags.whole_words), &parts, &added);
        let folder = folder.path(&format!("{i}-{name}"));
        write_checkpoint(&folder, &json, "Made");
        if let Err(error) = convert(&folder) {
            failures.push(format!("{name}: {error}"));
            continue;
        }
        let mut pair = Pair::open(name, &folder);
        let found = &pair.ours.vocab().pre;
        if found != name {
            failures.push(format!("{name}: taken for {found}"));
        }
        if parts["normalizer"]["type"] == "NFC" {
            pair = pair.except("no GGUF file can ask for a normal form", |text, _| !is_nfc(text));
        }
        if name == "tiny_aya" {
            pair = pair.except("Oniguruma, which runs published tokenizers, has other word boundaries", |text, _| {
                text.contains(['\u{200c}', '\u{200d}', '½', '²', '³', '¹', '⅓', '¼', '①', '⓪', '㊿', '⁴'])
            });
        }
        let different = pair.differences();
        if !different.is_empty() {
            failures.push(format!(
                "{name}: {} texts differ: {:#?}",
                different.len(),
                different.iter().take(4).collect::<Vec<_>>()
            ));
        }
        pair.assert_round_trips(str::to_owned);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// White space beside added tokens, and words around them.
#[test]
fn flags_of_added_tokens_mean_what_the_reference_means() {
    let folder = Folder::new("reference-flags");
    let text = corpus();
    let alphabet = (0..=255u8).map(|byte| byte_character(byte).to_string());
    let merges = train(alphabet.chain(text.bytes().map(|byte| byte_character(byte).to_string())), 400);
    let next = merges.tokens.len();
    let tokens = [
        flagged(next, "<s>", true, &["lstrip"]),
        flagged(next + 1, "</s>", true, &["rstrip"]),
        flagged(next + 2, "<|endoftext|>", true, &["single_word"]),
        flagged(next + 3, "<|im_end|>", true, &["lstrip", "rstrip"]),
        flagged(next + 4, "[MASK]", false, &["single_word", "lstrip"]),
    ];
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let parts = json!({ "pre_tokenizer": byte_level, "decoder": byte_level });
    let json = tokenizer_json(&merges.model(false, false), &parts, &tokens);
    Pair::made(&folder, "bytes", &json, "Made").compare();
    // A token that is looked for in the normalized text begins with the space that normalizing puts there.
    let original = convert(&testdata("storyteller")).expect("converts");
    let prepend = json!({ "type": "Prepend", "prepend": "▁" });
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let normalizer = json!({ "type": "Sequence", "normalizers": [prepend, replace] });
    let mut json = sentencepiece_json(&original, &normalizer, &Json::Null);
    let mask = flagged(original.vocab_size(), "[MASK]", false, &["normalized"]);
    json["added_tokens"].as_array_mut().expect("a list").push(mask);
    Pair::made(&folder, "characters", &json, "LlamaForCausalLM").compare();
}

/// As transformers writes sentencepiece's merges: all that make a token, by its score.
fn sentencepiece_json(ours: &Tokenizer, normalizer: &Json, pre_tokenizer: &Json) -> Json {
    let vocab = ours.vocab();
    let text = |id: usize| std::str::from_utf8(&vocab.tokens[id]).expect("UTF-8");
    let ids: HashMap<&str, usize> = (0..vocab.tokens.len()).map(|id| (text(id), id)).collect();
    let mut order: Vec<usize> = (0..vocab.tokens.len()).filter(|&id| vocab.kinds[id] == TokenKind::Normal).collect();
    order.sort_by(|&a, &b| vocab.scores[b].total_cmp(&vocab.scores[a]));
    let mut pairs = Vec::new();
    for id in order {
        let splits = text(id).char_indices().skip(1).map(|(at, _)| text(id).split_at(at));
        let mut splits: Vec<(&str, &str)> =
            splits.filter(|(a, b)| ids.contains_key(a) && ids.contains_key(b)).collect();
        splits.sort_by_key(|(a, b)| (ids[a], ids[b]));
        pairs.extend(splits.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
    let tokens = (0..vocab.tokens.len()).map(|id| text(id).to_owned()).collect();
    let special =
        (0..vocab.tokens.len()).filter(|&id| matches!(vocab.kinds[id], TokenKind::Control | TokenKind::Unknown));
    let added: Vec<Json> = special.map(|id| added(id, text(id), true)).collect();
    let mut model = Merges { tokens, pairs }.model(true, false);
    model["unk_token"] = "<unk>".into();
    model["fuse_unk"] = true.into();
    tokenizer_json(&model, &json!({ "normalizer": normalizer, "pre_tokenizer": pre_tokenizer }), &added)
}

/// Sentencepiece's merges as scores again: from `tokenizer.json` alone, the same tokens as from `tokenizer.model`.
#[test]
fn sentencepiece_merges_encode_as_the_reference_does() {
    const LEADING: &str = "sentencepiece and llama.cpp put a space before a space, Metaspace does not";
    let folder = Folder::new("reference-sentencepiece");
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let prepend = json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, replace] });
    let metaspace = |scheme, split: bool| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split });
    let original = convert(&testdata("storyteller")).expect("converts");
    let made = |name: &str, normalizer: &Json, pre_tokenizer: &Json| {
        Pair::made(&folder, name, &sentencepiece_json(&original, normalizer, pre_tokenizer), "LlamaForCausalLM")
    };
    let leads = |text: &str, _| text.starts_with([' ', '▁']);
    let gemma =
        json!({ "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false });
    for mut pair in [
        made("gemma", &replace, &gemma),
        made("llama2", &prepend, &Json::Null),
        made("never", &Json::Null, &metaspace("never", false)),
        made("always", &Json::Null, &metaspace("always", false))
            .except(LEADING, leads)
            .except("the same after special tokens", |text, special| {
                special && SPELLED.iter().any(|token| text.contains(&format!("{token} ")))
            }),
        made("first", &Json::Null, &metaspace("first", false))
            .except(LEADING, leads)
            .except("llama.cpp puts a space after special tokens too, as older tokenizers did", |text, special| {
                special && SPELLED.iter().any(|token| text.contains(token))
            }),
    ] {
        let vocab = pair.ours.vocab();
        let prefix = vocab.add_space_prefix;
        assert_eq!(prefix, !matches!(pair.name.as_str(), "gemma" | "never"), "{}", pair.name);
        for (id, token) in vocab.tokens.iter().enumerate() {
            if vocab.kinds[id] == TokenKind::Normal && token.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() > 1 {
                assert_eq!(vocab.scores[id], original.vocab().scores[id], "{}: {id}", pair.name);
            }
        }
        pair.compare();
        // Texts that hold sentencepiece's own sign for a space come back with a space.
        pair.assert_round_trips(|text| text.replace('▁', " "));
    }
}

/// The special tokens of the storyteller that the corpus spells out.
const SPELLED: [&str; 5] = ["<s>", "<unk>", "<|im_start|>", "<|im_end|>", "</s>"];

/// Merges that are not all there are have no scores: they are kept as they are where a file can, and refused elsewhere.
#[test]
fn merges_of_characters_encode_as_the_reference_does() {
    let folder = Folder::new("reference-characters");
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let text = corpus();
    let mut counts: HashMap<char, usize> = HashMap::new();
    text.chars().for_each(|c| *counts.entry(c).or_default() += 1);
    // Rare characters are left to their bytes.
    let symbols = text.chars().filter(|c| counts[c] > 2).map(|c| c.to_string().replace(' ', "▁"));
    let mut merges = train(bytes.chain(symbols), 1800);
    // No token goes beyond a line, or from the bytes on.
    let within = |token: &str| token == "\n" || !token.contains('\n') && (token.len() == 6 || !token.contains("<0x"));
    merges.tokens.retain(|token| within(token));
    merges.pairs.retain(|(a, b)| [a, b, &format!("{a}{b}")].into_iter().all(|token| within(token)));
    let next = merges.tokens.len();
    let added = [added(next, "<s>", true), added(next + 1, "<|tool_call>", true), added(next + 2, "<b>", false)];
    let parts = json!({
        "normalizer": { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        "pre_tokenizer": { "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false },
    });
    let json = tokenizer_json(&merges.model(true, false), &parts, &added);
    let mut pair = Pair::made(&folder, "gemma4", &json, "Gemma4ForConditionalGeneration");
    assert_eq!((pair.ours.vocab().pre.as_str(), pair.ours.vocab().add_bos), ("gemma4", true));
    assert_eq!(pair.ours.kind(u32::try_from(next + 1).expect("small")), TokenKind::UserDefined);
    pair.compare();
    pair.assert_round_trips(|text| text.replace('▁', " "));
    write_checkpoint(&folder.path("other"), &json, "LlamaForCausalLM");
    let error = convert(&folder.path("other")).err().expect("refused").to_string();
    assert!(error.contains("model.merges: ") && error.contains("--pre default"), "{error}");
}

/// T5's tokenizer: from both of its files, against the crate and against what sentencepiece itself makes of each line.
#[test]
fn unigram_encodes_as_the_reference_does() {
    let from = testdata("tokenizers/t5");
    let folder = Folder::new("reference-t5");
    let json_alone = folder.path("json");
    std::fs::create_dir_all(&json_alone).expect("a folder");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(file), json_alone.join(file)).expect("copied");
    }
    let mut pair = Pair::open("t5", &json_alone)
        .except("sentencepiece does not find control tokens in a text", |text, special| {
            !special && ["</s>", "<unk>", "<pad>", "<extra_id_"].iter().any(|token| text.contains(token))
        })
        .except("for sentencepiece white space is what its map makes a space", |text, _| {
            text.contains(['\u{b}', '\u{c}', '\u{85}'])
        })
        .except("sentencepiece maps the longest match, wherever clusters of characters end", |text, _| {
            text.contains(is_combining_mark)
        })
        .except("sentencepiece puts a space before its own sign for a space", |text, _| text.contains('▁'));
    let model = convert(&from).expect("converts");
    let expected = read_json(&from.join("sentencepiece_ids.json"));
    let mut failures = Vec::new();
    for (line, expected) in corpus().split('\n').zip(expected.as_array().expect("lines")) {
        for tokenizer in [&pair.ours, &model] {
            let found = tokenizer.encode(line, EncodeOptions::default()).expect("encodes");
            if json!(found) != *expected {
                failures.push(format!("{line:?}: {found:?}, not {expected}"));
            }
        }
    }
    let options = EncodeOptions { add_special: true, ..EncodeOptions::default() };
    assert_eq!(pair.ours.encode("a", options).expect("encodes").last(), Some(&1));
    failures.extend(pair.differences());
    assert!(failures.is_empty(), "{} differences\n{:#?}", failures.len(), failures.iter().take(30).collect::<Vec<_>>());
}

/// BERT's tokenizer, with and without case.
#[test]
fn word_piece_encodes_as_the_reference_does() {
    let folder = Folder::new("reference-word-piece");
    let text = corpus();
    for (name, lowercase, strip_accents) in
        [("uncased", true, Json::Null), ("cased", false, Json::Null), ("accents", true, false.into())]
    {
        let folded: String = if lowercase { text.to_lowercase() } else { text.clone() };
        let pieces = train(folded.chars().map(String::from), 1200).tokens;
        let mut tokens: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).to_vec();
        for piece in pieces.iter().filter(|piece| !piece.contains(char::is_whitespace)) {
            tokens.extend([piece.clone(), format!("##{piece}")]);
        }
        let vocab: serde_json::Map<String, Json> =
            tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
        let model = json!({
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocab,
        });
        let special = |id: &str, ids: u32| json!({ "id": id, "ids": [ids], "tokens": [id] });
        let part = |kind: &str, id: &str| json!({ kind: { "id": id, "type_id": 0 } });
        let parts = json!({
            "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": strip_accents, "lowercase": lowercase },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [part("SpecialToken", "[CLS]"), part("Sequence", "A"), part("SpecialToken", "[SEP]")],
                "pair": [part("SpecialToken", "[CLS]"), part("Sequence", "A"), part("SpecialToken", "[SEP]"), part("Sequence", "B"), part("SpecialToken", "[SEP]")],
                "special_tokens": { "[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3) },
            },
        });
        let mut added: Vec<Json> = (0..4).map(|id| added(id, &tokens[id], true)).collect();
        added.push(flagged(4, "[MASK]", true, &["normalized"]));
        let json = tokenizer_json(&model, &parts, &added);
        let mut pair = Pair::made(&folder, name, &json, "BertModel")
            .except("for llama.cpp these are white space, not control characters", |text, _| {
                text.contains(['\u{b}', '\u{c}', '\u{85}'])
            })
            .except("in files, words begin with this sign", |text, _| text.contains('▁'));
        pair.compare();
        let options = EncodeOptions { add_special: true, ..EncodeOptions::default() };
        for (first, second) in [("Hello, world", "It's 12."), ("Ein Text", "zwei Texte")] {
            let expected = pair.reference.encode_fast(first, true).expect("encodes");
            assert_eq!(pair.ours.encode(first, options).expect("encodes"), expected.get_ids(), "{name}");
            let expected = pair.reference.encode_fast((first, second), true).expect("encodes");
            assert_eq!(pair.ours.encode_pair(first, second, options).expect("encodes"), expected.get_ids(), "{name}");
        }
    }
}
