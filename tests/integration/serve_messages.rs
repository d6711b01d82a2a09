//! Anthropic's messages over HTTP.

use serde_json::{Value as Json, json};

use super::served::{Served, with};

fn body(content: &Json) -> Json {
    let messages = json!([{ "role": "user", "content": content }]);
    json!({ "model": "storyteller", "max_tokens": 12, "temperature": 0, "messages": messages })
}

#[test]
fn a_message_is_answered_whole_and_in_events() {
    let served = Served::start("");
    let story = body(&json!([{ "type": "text", "text": "Tell me a story." }]));
    let whole = served.ask("/v1/messages", &story);
    assert_eq!((&whole["type"], &whole["role"]), (&json!("message"), &json!("assistant")));
    assert!(whole["id"].as_str().is_some_and(|id| id.starts_with("msg_")));
    assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!("max_tokens"), &json!(null)));
    assert_eq!(whole["content"][0]["type"], "text");
    let text = whole["content"][0]["text"].as_str().expect("text");
    // The other dialects say the same.
    let chat =
        json!({ "messages": [{ "role": "user", "content": "Tell me a story." }], "max_tokens": 12, "temperature": 0 });
    assert_eq!(served.ask("/v1/chat/completions", &chat)["choices"][0]["message"]["content"], text);
    let counted = served.ask("/v1/messages/count_tokens", &story)["input_tokens"].as_u64().expect("a number");
    assert_eq!(whole["usage"]["input_tokens"], counted);
    assert_eq!(whole["usage"]["output_tokens"], 12);

    let answer = served.post("/v1/messages", &with(story.clone(), &json!({ "stream": true })));
    assert!(answer.head.contains("content-type: text/event-stream"), "{}", answer.head);
    let events = answer.named_events();
    assert!(events.iter().all(|(name, event)| event["type"] == *name));
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "ping").collect();
    assert_eq!(names[..2], ["message_start", "content_block_start"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert!(names[2..names.len() - 3].iter().all(|name| *name == "content_block_delta"), "{names:?}");
    let deltas = events.iter().map(|(_, event)| &event["delta"]);
    let streamed: String = deltas.filter_map(|delta| delta["text"].as_str()).collect();
    assert_eq!(streamed, text);
    // The prompt is known the second time, but for its last token.
    let start = &events[0].1["message"];
    assert_eq!(start["usage"]["cache_read_input_tokens"].as_u64(), Some(counted - 1));
    assert_eq!((&start["usage"]["input_tokens"], &start["content"]), (&json!(1), &json!([])));
    let (_, end) = events.iter().find(|(name, _)| name == "message_delta").expect("an end");
    assert_eq!((&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(12)));

    let word = text.split_whitespace().nth(2).expect("words");
    let stopped = served.ask("/v1/messages", &with(story, &json!({ "stop_sequences": [word] })));
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(word)));
    assert_eq!(stopped["content"][0]["text"].as_str(), Some(&text[..text.find(word).expect("there")]));
}

#[test]
fn a_system_text_and_the_beginning_of_an_answer_are_read() {
    let served = Served::start("");
    let count = |fields: &Json| {
        served.ask("/v1/messages/count_tokens", &with(body(&json!("Hi")), fields))["input_tokens"].as_u64()
    };
    let plain = count(&json!({}));
    assert!(count(&json!({ "system": "Be brief." })) > plain);
    assert_eq!(
        count(&json!({ "system": [{ "type": "text", "text": "Be brief." }] })),
        count(&json!({ "system": "Be brief." }))
    );
    let begun =
        json!({ "messages": [{ "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Once" }] });
    let answer = served.ask("/v1/messages", &with(body(&json!("Hi")), &begun));
    assert!(!answer["content"][0]["text"].as_str().expect("text").starts_with("Once"), "{answer}");
}

#[test]
fn a_model_that_thinks_gives_blocks_of_thinking() {
    let folder = super::folder::Folder::new("serve-messages");
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n\
        {% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}";
    std::fs::write(folder.path("think.jinja"), template).expect("written");
    let served = Served::start(&format!("--chat-template {}", folder.path("think.jinja").display()));
    let asked = with(body(&json!("Hi")), &json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }));
    let whole = served.ask("/v1/messages", &asked);
    let blocks = whole["content"].as_array().expect("blocks");
    assert_eq!((blocks.len(), &blocks[0]["type"]), (1, &json!("thinking")), "{whole}");
    let events = served.post("/v1/messages", &with(asked, &json!({ "stream": true }))).named_events();
    let thinking: String = events.iter().filter_map(|(_, event)| event["delta"]["thinking"].as_str()).collect();
    assert_eq!(Some(thinking.trim_end()), blocks[0]["thinking"].as_str());
    assert!(events.iter().any(|(_, event)| event["delta"]["type"] == "signature_delta"));
    // Nobody who has not asked for it gets any.
    let plain = served.ask("/v1/messages", &body(&json!("Hi")));
    assert_eq!(plain["content"][0]["type"], "text");
}

#[test]
fn errors_have_the_shape_of_the_dialect() {
    let served = Served::start("--ctx 64 --api-key secret");
    let post = |key: &str, body: &Json| {
        let head = format!("X-Api-Key: {key}\r\nAnthropic-Version: 2026-10-21\r\n");
        let answer = served.request("POST", "/v1/messages", &head, &body.to_string());
        let json = answer.json();
        assert_eq!(json["type"], "error", "{json}");
        (answer.status, json["error"]["type"].as_str().unwrap_or_default().to_owned())
    };
    let hi = body(&json!("Hi"));
    let kind = |status: u16, kind: &str| (status, kind.to_owned());
    assert_eq!(post("wrong", &hi), kind(401, "authentication_error"));
    assert_eq!(post("secret", &with(hi.clone(), &json!({ "model": "claude" }))), kind(404, "not_found_error"));
    assert_eq!(post("secret", &body(&json!("long ".repeat(100)))), kind(400, "invalid_request_error"));
    for wrong in [
        json!({ "messages": null }),
        json!({ "max_tokens": "many" }),
        json!({ "thinking": { "type": "much" } }),
        json!({ "system": 3 }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "image", "source": {} }] }] }),
    ] {
        assert_eq!(post("secret", &with(hi.clone(), &wrong)), kind(400, "invalid_request_error"), "{wrong}");
    }
}
