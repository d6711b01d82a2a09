//! Settings that a `config.json` leaves out: each has the value that its class gives in transformers, as
//! `testdata/absent-settings.json` (by `tests/class_defaults.py`) tells; or the conversion is refused by the setting's
//! name.

use serde_json::Value as Json;

use super::folder::Folder;
use super::settings::{goldens, outcome};
use super::shared::{json as read_json, testdata};

/// transformers takes no checkpoint without it; its value follows from the model's class.
const KNOWN_BY_CLASS: &str = "model_type";

/// All settings of the text part: without them any may be named.
const PARTS: &str = "text_config";

/// Two settings of which transformers takes its own default of the one, though the other is given and says more.
const REFUSED: (&str, &str) = ("phi3long", "original_max_position_embeddings");

/// The class takes another rotary base than the one that published checkpoints have within `attn_config` (DBRX), or beside
/// `rope_parameters` (MiMo), as the reference converter does not: these convert as the whole.
const BASE_WITHIN: [(&str, &str); 3] =
    [("dbrx", "rope_parameters"), ("dbrx", "rope_parameters/rope_theta"), ("mimo2", "rope_parameters")];

/// All layers have an indexer of their own where the checkpoint does not say it; the file says it where the checkpoint does,
/// as the reference converter's.
const SAID_AS_GIVEN: (&str, &str) = ("glmdsa", "indexer_types");

/// Takes a setting out, by its path.
fn without(settings: &Json, place: &str) -> Json {
    let mut changed = settings.clone();
    let (parent, name) = place.rsplit_once('/').unwrap_or(("", place));
    let pointer = if parent.is_empty() { String::new() } else { format!("/{parent}") };
    changed.pointer_mut(&pointer).and_then(Json::as_object_mut).expect("an object").remove(name).expect("there");
    changed
}

#[test]
fn each_setting_that_is_left_out_is_what_its_class_gives() {
    let folder = Folder::new("absent-settings");
    let table = read_json(&testdata("absent-settings.json"));
    let mut faults = Vec::new();
    let mut count = 0;
    for (name, from, settings) in goldens(&folder) {
        let expected = &table[&name];
        let plain = outcome(&from, &settings);
        let names = |of: &str| -> Vec<String> {
            let list = expected[of].as_array().expect("a list").iter();
            list.map(|place| place.as_str().expect("a place").to_owned()).collect()
        };
        let mut check = |place: &str, expected: &Result<String, String>| {
            count += 1;
            let setting = place.rsplit('/').next().expect("a name");
            match (outcome(&from, &without(&settings, place)), expected) {
                (Ok(found), Ok(expected)) if found == *expected => {}
                (Err(error), Err(_)) if error.contains(setting) || setting == PARTS => {}
                (Ok(_), Ok(_)) if (&*name, place) == SAID_AS_GIVEN => {}
                (Err(error), Ok(_)) if (&*name, place) == REFUSED && error.contains(setting) => {}
                (found, expected) => {
                    let short = |text: &Result<String, String>| match text {
                        Ok(_) => "converts".to_owned(),
                        Err(error) => error.clone(),
                    };
                    faults.push(format!("{name}: {place}: {}, expected {}", short(&found), short(expected)));
                }
            }
        };
        for place in names("same").iter().filter(|place| *place != "architectures") {
            check(place, &plain);
        }
        for place in names("refused") {
            let refused = Err("a refusal".to_owned());
            check(&place, if place == KNOWN_BY_CLASS { &plain } else { &refused });
        }
        for (place, values) in expected["other"].as_object().expect("an object") {
            let mut written = settings.clone();
            written.as_object_mut().expect("settings").extend(values.as_object().expect("settings").clone());
            let whole = BASE_WITHIN.contains(&(&*name, &**place));
            let expected = if whole { plain.clone() } else { outcome(&from, &written) };
            check(place, &expected);
        }
    }
    assert!(faults.is_empty(), "{} of {count} differ:\n{}", faults.len(), faults.join("\n"));
    assert!(count > 1_000, "{count}");
}
