//! OpenAI's responses over HTTP.

use serde_json::{Value as Json, json};

use super::served::{Served, with};

fn body(input: &Json) -> Json {
    json!({ "model": "storyteller", "max_output_tokens": 12, "temperature": 0, "input": input })
}

fn text(response: &Json) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{response}"))
}

#[test]
fn a_response_is_given_whole_and_in_events() {
    let served = Served::start("");
    let whole = served.ask("/v1/responses", &body(&json!("Tell me a story.")));
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(whole["incomplete_details"], json!({ "reason": "max_output_tokens" }));
    let item = &whole["output"][0];
    assert_eq!(
        (&item["type"], &item["role"], &item["status"]),
        (&json!("message"), &json!("assistant"), &json!("incomplete"))
    );
    assert_eq!(whole["usage"]["output_tokens"], 12);
    let chat =
        json!({ "messages": [{ "role": "user", "content": "Tell me a story." }], "max_tokens": 12, "temperature": 0 });
    assert_eq!(served.ask("/v1/chat/completions", &chat)["choices"][0]["message"]["content"], text(&whole));

    let asked = with(
        body(&json!([{ "role": "user", "content": [{ "type": "input_text", "text": "Tell me a story." }] }])),
        &json!({
            "stream": true, "top_logprobs": 2,
        }),
    );
    let events = served.post("/v1/responses", &asked).named_events();
    let numbers = events.iter().map(|(_, event)| event["sequence_number"].as_u64());
    assert!(numbers.eq((0..events.len() as u64).map(Some)));
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names[..4],
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    );
    assert_eq!(
        names[names.len() - 4..],
        ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"]
    );
    assert!(names[4..names.len() - 4].iter().all(|name| *name == "response.output_text.delta"), "{names:?}");
    let streamed: String = events.iter().filter_map(|(_, event)| event["delta"].as_str()).collect();
    assert_eq!(streamed, text(&whole));
    let last = &events.last().expect("events").1["response"];
    assert_eq!(text(last), text(&whole));
    assert_eq!(last["output"][0]["content"][0]["logprobs"].as_array().map(Vec::len), Some(12));
    let ids: Vec<&Json> = events.iter().filter_map(|(_, event)| event.get("item_id")).collect();
    assert!(ids.iter().all(|id| **id == last["output"][0]["id"]) && !ids.is_empty());
}

#[test]
fn responses_are_stored_and_gone_on_from() {
    let served = Served::start("--api-key first --api-key second");
    let ask = |key: &str, method: &str, path: &str, body: &Json| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = served.request(method, path, &format!("X-Api-Key: {key}\r\n"), &body);
        (answer.status, answer.json())
    };
    let create = |fields: &Json| ask("first", "POST", "/v1/responses", &with(body(&json!("And then?")), fields));
    let (_, first) = ask("first", "POST", "/v1/responses", &body(&json!("Tell me a story.")));
    let path = format!("/v1/responses/{}", first["id"].as_str().expect("an id"));
    assert_eq!(ask("first", "GET", &path, &json!(null)), (200, first.clone()));
    let (_, items) = ask("first", "GET", &format!("{path}/input_items"), &json!(null));
    assert_eq!(items["data"][0]["content"][0]["text"], "Tell me a story.");
    // Another key's.
    assert_eq!(ask("second", "GET", &path, &json!(null)).0, 404);

    let (status, second) = create(&json!({ "previous_response_id": first["id"] }));
    assert_eq!((status, &second["previous_response_id"]), (200, &first["id"]));
    // The same as with all that was said.
    let messages = json!([
        { "role": "user", "content": "Tell me a story." }, { "role": "assistant", "content": text(&first) },
        { "role": "user", "content": "And then?" },
    ]);
    let (_, said) = create(&json!({ "input": messages, "store": false }));
    assert_eq!(text(&said), text(&second));
    assert_eq!(said["usage"]["input_tokens"], second["usage"]["input_tokens"]);
    assert_eq!(
        ask("first", "GET", &format!("/v1/responses/{}", said["id"].as_str().expect("an id")), &json!(null)).0,
        404
    );
    let (_, brief) = create(&json!({ "previous_response_id": first["id"], "instructions": "Be brief." }));
    assert!(brief["usage"]["input_tokens"].as_u64() > second["usage"]["input_tokens"].as_u64());

    assert_eq!(ask("first", "POST", &format!("{path}/cancel"), &json!(null)).0, 400);
    assert_eq!(ask("second", "DELETE", &path, &json!(null)).0, 404);
    let (status, deleted) = ask("first", "DELETE", &path, &json!(null));
    assert_eq!((status, &deleted["deleted"]), (200, &json!(true)));
    assert_eq!(create(&json!({ "previous_response_id": first["id"] })).0, 404);
    for wrong in [
        json!({ "background": true }),
        json!({ "input": null }),
        json!({ "input": [] }),
        json!({ "input": [{ "type": "web_search_call" }] }),
        json!({ "max_output_tokens": "many" }),
        json!({ "conversation": "c" }),
    ] {
        assert_eq!(create(&wrong).0, 400, "{wrong}");
    }
}
