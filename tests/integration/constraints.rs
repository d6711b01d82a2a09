//! Answers that have to be something: whatever the model would rather say, they are.

use std::sync::Arc;

use gguf_toolkit::engine::{
    Batcher, BatcherOptions, Chat, ChatOptions, Constraint, Error, GenerationOptions, Grammar, Request, Sampler,
    SamplerOptions, Session, SessionOptions, Stop, TokenTrie, Update,
};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::tokenizer::EncodeOptions;
use serde_json::{Value as Json, json};

use super::storyteller;

/// Seeds of each schema and grammar.
const SEEDS: u64 = 25;

struct Constrained {
    model: Arc<Model>,
    session: Session,
    trie: TokenTrie,
}

impl Constrained {
    fn new() -> Self {
        let model = Arc::new(Model::from_reader(&storyteller::f16()).expect("loads"));
        let session = Session::new(model.clone(), Arc::new(Pool::new(2)), SessionOptions::default());
        let trie = TokenTrie::new(model.tokenizer()).expect("a trie");
        Self { model, session, trie }
    }

    fn compile(&self, grammar: &Grammar) -> Constraint {
        self.trie.compile(grammar).unwrap_or_else(|error| panic!("{grammar:?}: {error}"))
    }

    /// What the model says under a constraint, hot, with a seed.
    fn say(&mut self, constraint: &Constraint, seed: u64) -> (String, Stop) {
        let prompt = self.model.tokenizer().encode("Once upon a time", EncodeOptions::default()).expect("encodes");
        let options = SamplerOptions { seed, temperature: 1.5, top_k: 0, ..SamplerOptions::default() };
        let mut sampler = Sampler::for_model(options, self.model.tokenizer());
        let options = GenerationOptions {
            max_tokens: Some(1500),
            constraint: Some(constraint.clone()),
            ..GenerationOptions::default()
        };
        let answer = self.session.generate(&prompt, &mut sampler, options, &mut |_| true).expect("answers");
        (answer.text, answer.stop)
    }
}

/// Whether JSON is valid by a schema of the kinds that are tried here.
fn is_valid(value: &Json, schema: &Json, root: &Json) -> bool {
    let Json::Object(map) = schema else { return schema != &Json::Bool(false) };
    map.iter().all(|(keyword, rule)| match keyword.as_str() {
        "type" => match rule {
            Json::Array(types) => types.iter().any(|rule| is_type(value, rule)),
            rule => is_type(value, rule),
        },
        "const" => value == rule,
        "enum" => rule.as_array().expect("an array").contains(value),
        "$ref" => {
            let place = rule.as_str().expect("a text").trim_start_matches('#');
            is_valid(value, root.pointer(place).expect("a place"), root)
        }
        "anyOf" => rule.as_array().expect("an array").iter().any(|schema| is_valid(value, schema, root)),
        "oneOf" => {
            rule.as_array().expect("an array").iter().filter(|schema| is_valid(value, schema, root)).count() == 1
        }
        "allOf" => rule.as_array().expect("an array").iter().all(|schema| is_valid(value, schema, root)),
        "properties" => rule
            .as_object()
            .expect("an object")
            .iter()
            .all(|(name, schema)| value.get(name).is_none_or(|value| is_valid(value, schema, root))),
        "required" => {
            !value.is_object()
                || rule
                    .as_array()
                    .expect("an array")
                    .iter()
                    .all(|name| value.get(name.as_str().expect("a text")).is_some())
        }
        "additionalProperties" => value.as_object().is_none_or(|object| {
            object.iter().all(|(name, value)| schema["properties"].get(name).is_some() || is_valid(value, rule, root))
        }),
        "items" => value.as_array().is_none_or(|items| {
            let skipped = schema["prefixItems"].as_array().map_or(0, Vec::len);
            items.iter().skip(skipped).all(|item| is_valid(item, rule, root))
        }),
        "prefixItems" => value.as_array().is_none_or(|items| {
            items.iter().zip(rule.as_array().expect("an array")).all(|(item, schema)| is_valid(item, schema, root))
        }),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().expect("a number")),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().expect("a number")),
        "minLength" => {
            value.as_str().is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().expect("a number"))
        }
        "maxLength" => {
            value.as_str().is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().expect("a number"))
        }
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a number")),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().expect("a number")),
        "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > rule.as_f64().expect("a number")),
        "multipleOf" => value.as_f64().is_none_or(|number| number % rule.as_f64().expect("a number") == 0.0),
        "pattern" => value.as_str().is_none_or(|text| {
            regex::Regex::new(rule.as_str().expect("a text")).expect("an expression").is_match(text)
        }),
        "format" => {
            let date = regex::Regex::new(r"^\d{4}-\d\d-\d\d$").expect("an expression");
            value.as_str().is_none_or(|text| date.is_match(text))
        }
        "$defs" | "title" | "description" | "default" => true,
        other => panic!("{other}: not known to this test"),
    })
}

fn is_type(value: &Json, name: &Json) -> bool {
    match name.as_str().expect("a text") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other}: no type"),
    }
}

/// Schemas whose texts cannot become longer than the context.
fn schemas() -> Vec<Json> {
    let word = json!({ "type": "string", "maxLength": 8 });
    let object = |properties: Json, required: Json| json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    let mut recursive = object(json!({ "name": word, "child": { "$ref": "#/$defs/leaf" } }), json!(["name", "child"]));
    recursive["$defs"] = json!({ "leaf": { "anyOf": [{ "type": "null" }, { "type": "boolean" }] } });
    vec![
        json!({ "type": "integer", "minimum": -5, "maximum": 120 }),
        json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }),
        json!({ "type": "integer", "minimum": 0, "maximum": 1000, "multipleOf": 7 }),
        json!({ "type": ["boolean", "null"] }),
        json!({ "enum": ["red", "green", 3, null, { "a": [1] }] }),
        json!({ "const": { "b": "é\n\"" } }),
        json!({ "type": "string", "minLength": 3, "maxLength": 6 }),
        json!({ "type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$" }),
        json!({ "type": "string", "format": "date" }),
        json!({ "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 9 }, "minItems": 2, "maxItems": 5 }),
        json!({ "type": "array", "prefixItems": [word, { "type": "boolean" }], "items": false, "minItems": 2 }),
        object(
            json!({ "name": word, "age": { "type": "integer", "minimum": 0, "maximum": 150 } }),
            json!(["name", "age"]),
        ),
        object(json!({ "a": word, "b": { "type": "null" }, "c": { "type": "boolean" } }), json!(["b"])),
        object(
            json!({ "at": object(json!({ "x": { "enum": [1, 2] } }), json!(["x"])), "tag": word }),
            json!(["at", "tag"]),
        ),
        json!({ "anyOf": [{ "type": "boolean" }, object(json!({ "k": word }), json!(["k"]))] }),
        json!({ "oneOf": [{ "const": "a" }, { "type": "integer", "minimum": 1, "maximum": 3 }] }),
        json!({ "allOf": [{ "type": "integer", "minimum": 3 }, { "type": "integer", "maximum": 9 }] }),
        recursive,
    ]
}

#[test]
fn every_answer_is_valid_by_its_schema() {
    let mut constrained = Constrained::new();
    for schema in schemas() {
        let constraint = constrained.compile(&Grammar::JsonSchema(schema.clone()));
        for seed in 0..SEEDS {
            let (text, stop) = constrained.say(&constraint, seed);
            let value: Json =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{schema} seed {seed}: {e}: {text}"));
            assert!(is_valid(&value, &schema, &schema), "{schema} seed {seed}: {text}");
            // The digits of a number have no measure.
            assert!(stop == Stop::End || value.is_number(), "{schema} seed {seed}: {text}");
        }
    }
}

#[test]
fn every_answer_is_what_its_expression_or_grammar_describes() {
    let mut constrained = Constrained::new();
    for (grammar, expression) in [
        (Grammar::Regex("^[a-c]{2,5}/(x|yy)$".to_owned()), "^[a-c]{2,5}/(x|yy)$"),
        (Grammar::Regex("\\d+\\.\\d{2} (€|\\$)".to_owned()), "^\\d+\\.\\d{2} (€|\\$)$"),
        (Grammar::Gbnf("root ::= \"yes\" | \"no\" [!?]{1,3}".to_owned()), "^(yes|no[!?]{1,3})$"),
        (Grammar::Gbnf("root ::= [ab]{1,4} \"b\"".to_owned()), "^[ab]{1,4}b$"),
        (Grammar::Lark("start: WORD \".\"\nWORD: /[a-z]{1,9}/".to_owned()), "^[a-z]{1,9}\\.$"),
    ] {
        let constraint = constrained.compile(&grammar);
        let expected = regex::Regex::new(expression).expect("an expression");
        for seed in 0..SEEDS {
            let (text, _) = constrained.say(&constraint, seed);
            assert!(expected.is_match(&text), "{grammar:?} seed {seed}: {text:?}");
        }
    }
    // The same seed, the same text; and what is known of a constraint from one answer changes no other.
    let constraint = constrained.compile(&Grammar::JsonObject);
    let options = |text: &str| text.chars().take(40).collect::<String>();
    let (first, second) = (constrained.say(&constraint, 3).0, constrained.say(&constraint, 3).0);
    assert!(first == second && first.starts_with('{'), "{}", options(&first));
}

#[test]
fn what_is_compiled_once_serves_many_answers() {
    let mut constrained = Constrained::new();
    let ordered = |names: [&str; 2]| {
        let properties = names.iter().map(|name| ((*name).to_owned(), json!({ "type": "boolean" })));
        let properties = serde_json::Map::from_iter(properties);
        Grammar::JsonSchema(
            json!({ "type": "object", "properties": properties, "required": names, "additionalProperties": false }),
        )
    };
    let (first, second) = (constrained.compile(&ordered(["a", "b"])), constrained.compile(&ordered(["a", "b"])));
    // They share what was compiled, and not what is computed for an answer.
    assert_ne!(first, second);
    for seed in 0..5 {
        assert_eq!(constrained.say(&first, seed), constrained.say(&second, seed));
    }
    // Another order is another schema.
    let turned = constrained.compile(&ordered(["b", "a"]));
    let keys = |text: String| text.chars().find(|c| matches!(c, 'a' | 'b'));
    assert_eq!((keys(constrained.say(&second, 1).0), keys(constrained.say(&turned, 1).0)), (Some('a'), Some('b')));
}

#[test]
fn what_cannot_be_kept_to_is_refused() {
    let trie = Constrained::new().trie;
    let error = |grammar: Grammar| match trie.compile(&grammar) {
        Ok(_) => panic!("{grammar:?}"),
        Err(error @ (Error::Constraint { .. } | Error::Grammar { .. })) => error.to_string(),
        Err(other) => panic!("{other:?}"),
    };
    let schema = |schema: Json| error(Grammar::JsonSchema(schema));
    assert!(schema(json!({ "type": "integer", "minimum": 3, "maximum": 2 })).contains("minimum"));
    assert!(schema(json!({ "type": "array", "uniqueItems": true })).contains("uniqueItems"));
    assert!(schema(json!({ "$ref": "https://example.com/schema.json" })).contains("ref"));
    assert!(schema(json!({ "$ref": "file:///etc/passwd" })).contains("ref"));
    assert!(schema(json!([])).contains("must be an object"));
    assert!(schema(json!({ "enum": ["x".repeat(300 << 10)] })).contains("more than 262144 bytes"));
    assert!(error(Grammar::Regex("(a".to_owned())).contains("regex"));
    assert!(error(Grammar::Regex(String::new())).contains("empty"));
    assert!(error(Grammar::Lark("start: nothing".to_owned())).contains("nothing"));
    assert_eq!(error(Grammar::Gbnf("root ::= a".to_owned())), "grammar: line 1, column 10: no rule is called a");
}

#[test]
fn a_batch_keeps_each_answer_to_its_own_rule() {
    let constrained = Constrained::new();
    let batcher = Batcher::new(constrained.model.clone(), Arc::new(Pool::new(2)), BatcherOptions::default());
    let prompt = constrained.model.tokenizer().encode("Once", EncodeOptions::default()).expect("encodes");
    let grammars = schemas().into_iter().map(|schema| Some(Grammar::JsonSchema(schema))).chain([None]);
    let requests: Vec<_> = grammars
        .map(|grammar| {
            let constraint = grammar.as_ref().map(|grammar| constrained.compile(grammar));
            let generation = GenerationOptions { max_tokens: Some(400), constraint, ..GenerationOptions::default() };
            let sampler = SamplerOptions { seed: 5, ..SamplerOptions::default() };
            let request = Request { prompt: prompt.clone(), sampler, generation, ..Request::default() };
            (grammar, batcher.submit(request).expect("taken"))
        })
        .collect();
    for (grammar, updates) in requests {
        let mut text = String::new();
        for update in updates {
            match update {
                Update::Token { text: piece, .. } | Update::End { text: piece, .. } => text.push_str(&piece),
                Update::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
        match grammar {
            Some(Grammar::JsonSchema(schema)) => {
                let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{schema}: {e}: {text}"));
                assert!(is_valid(&value, &schema, &schema), "{schema}: {text}");
            }
            _ => assert!(!text.starts_with('{')),
        }
    }
}

#[test]
fn a_model_may_think_before_its_answer_is_bound() {
    let constrained = Constrained::new();
    let pool = Arc::new(Pool::new(2));
    // The storyteller knows no such marks: its template begins the thinking, and a budget ends it.
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}{# </think> #}";
    let options = ChatOptions {
        template: Some(template.to_owned()),
        think_budget: Some(6),
        grammar: Some(Grammar::Regex("[0-9]{3}".to_owned())),
        sampler: SamplerOptions { seed: 1, ..SamplerOptions::default() },
        ..ChatOptions::default()
    };
    let mut chat = Chat::new(constrained.model.clone(), pool, options).expect("a chat");
    for _ in 0..3 {
        let answer = chat.say("Once upon a time", &mut |_| true).expect("answers");
        let digits = answer.text.bytes().filter(u8::is_ascii_digit).count();
        assert!(answer.text.len() == 3 && digits == 3, "{}", answer.text);
        let last = chat.messages().last().expect("an answer");
        assert!(last.reasoning.as_ref().is_some_and(|text| text.len() > 6), "{last:?}");
        chat.clear();
    }
    // Another rule from here on, then none.
    chat.change(|options| options.grammar = Some(Grammar::Regex("x{2}".to_owned())));
    assert_eq!(chat.say("Once", &mut |_| true).expect("answers").text, "xx");
}
