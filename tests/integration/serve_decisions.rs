//! Decisions over HTTP: probabilities of answers are those of the model's tokens.

use serde_json::{Value as Json, json};

use super::served::Served;

/// The probability of the next token's text, without case and space before it, of those in `texts`.
fn shares(served: &Served, messages: &Json, texts: &[String]) -> Vec<f64> {
    let prompt = served.ask("/apply-template", &json!({ "messages": messages }));
    let ask =
        json!({ "prompt": prompt["prompt"], "n_predict": 1, "n_probs": 4096, "temperature": 0, "ignore_eos": true });
    let answer = served.ask("/completion", &ask);
    let top = answer["completion_probabilities"][0]["top_logprobs"].as_array().expect("probabilities");
    let share = |text: &String| {
        let of = |token: &&Json| token["token"].as_str().is_some_and(|own| own.trim_start() == text);
        top.iter().filter(of).map(|token| token["logprob"].as_f64().expect("a number").exp()).sum::<f64>()
    };
    texts.iter().map(share).collect()
}

/// A question and the letters or words of its options, with the text that the model is expected to read.
fn asked(count: usize) -> (Json, Vec<String>, String) {
    let letters: Vec<String> = (b'A'..).take(count).map(|letter| char::from(letter).to_string()).collect();
    let options: Json = letters.iter().map(|letter| json!({ "value": format!("word {letter}") })).collect();
    let lines: String = letters.iter().map(|letter| format!("{letter}. word {letter}\n")).collect();
    let text = format!("Which comes next?\n\nAnswer with the letter of one option alone.\n{lines}");
    let question = json!({ "type": "choice", "name": "next", "instructions": "Which comes next?", "choices": options });
    (question, letters, text)
}

#[test]
fn probabilities_are_those_of_the_options_tokens() {
    let served = Served::start("");
    let input = "Tell me a story.";
    let (two, all) = (asked(2), asked(26));
    let predicate = json!({ "type": "predicate", "name": "ball", "instructions": "The girl has a ball." });
    let questions = json!([two.0, all.0, predicate]);
    let answer = served.ask("/v1/decisions", &json!({ "input": input, "questions": questions }));
    assert_eq!((answer["answers"].as_array().map(Vec::len), &answer["usage"]["output_tokens"]), (Some(3), &json!(3)));
    let mut answered = 0;
    for (i, (_, letters, text)) in [two, all].into_iter().enumerate() {
        let messages = json!([{ "role": "user", "content": format!("{input}\n\n{text}") }]);
        let shares = shares(&served, &messages, &letters);
        let (sum, found) = (shares.iter().sum::<f64>(), &answer["answers"][i]);
        if sum < 0.01 {
            assert_eq!(*found, json!({ "type": "refusal", "name": "next" }), "{sum}");
            continue;
        }
        answered += 1;
        for (j, share) in shares.iter().enumerate() {
            let found = found["probabilities"][j]["probability"].as_f64().expect("a number");
            assert!((found - share / sum).abs() < 1e-6, "{j}: {found}, not {}", share / sum);
        }
        let best = (0..shares.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).expect("options");
        assert_eq!(found["choice"], format!("word {}", letters[best]));
    }
    assert!(answered > 0, "{answer}");
    // Each question alone has the same bits.
    for (i, question) in questions.as_array().expect("questions").iter().enumerate() {
        let alone = served.ask("/v1/decisions", &json!({ "input": input, "questions": [question] }));
        assert_eq!(alone["answers"][0], answer["answers"][i]);
    }
    let empty = served.post("/v1/decisions", &json!({ "input": input, "questions": [] }));
    assert_eq!(empty.status, 400);
}
