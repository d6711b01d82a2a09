//! LM Studio's REST routes: `/api/v0` and `/api/v1`.

use serde_json::{Value as Json, json};

use super::served::{Served, with};

fn chat(fields: &Json) -> Json {
    let body =
        json!({ "model": "storyteller", "input": "Tell me a story.", "temperature": 0, "max_output_tokens": 12 });
    with(body, fields)
}

#[test]
fn models_are_listed_in_both_forms() {
    let served = Served::start("--alias org/tiny");
    let old = served.get("/api/v0/models").json()["data"][0].clone();
    assert_eq!((&old["id"], &old["publisher"], &old["type"]), (&json!("org/tiny"), &json!("org"), &json!("llm")));
    assert_eq!(
        (&old["state"], &old["loaded_context_length"], &old["arch"]),
        (&json!("loaded"), &json!(1024), &json!("llama"))
    );
    assert_eq!(served.get("/api/v0/models/org/tiny").json(), old);
    let missing = served.get("/api/v0/models/other");
    assert_eq!((missing.status, &missing.json()["error"]["code"]), (404, &json!("model_not_found")));
    let new = served.get("/api/v1/models").json()["models"][0].clone();
    assert_eq!((&new["key"], &new["format"], &new["type"]), (&json!("org/tiny"), &json!("gguf"), &json!("llm")));
    assert_eq!(new["loaded_instances"][0]["config"]["context_length"], 1024);
    assert!(new["quantization"]["bits_per_weight"].as_f64().is_some_and(|bits| bits > 1.0), "{new}");
    let loaded = served.ask("/api/v1/models/load", &json!({ "model": "org/tiny", "echo_load_config": true }));
    assert_eq!((&loaded["instance_id"], &loaded["status"]), (&json!("org/tiny"), &json!("loaded")));
    assert_eq!(loaded["load_config"]["context_length"], 1024);
    let stays = served.post("/api/v1/models/unload", &json!({ "instance_id": "org/tiny" }));
    assert_eq!(stays.status, 400);
    // Clients that ask for this would go on with WebSockets.
    assert_eq!(served.get("/lmstudio-greeting").status, 404);
}

#[test]
fn a_chat_is_answered_whole_in_a_stream_and_gone_on_with() {
    let served = Served::start("");
    let whole = served.ask("/api/v1/chat", &chat(&json!({})));
    assert_eq!((&whole["model_instance_id"], &whole["output"][0]["type"]), (&json!("storyteller"), &json!("message")));
    assert_eq!(whole["stats"]["total_output_tokens"], 12);
    let text = whole["output"][0]["content"].as_str().expect("a text");
    // The same as in OpenAI's dialect, and in the older form.
    let messages = json!([{ "role": "user", "content": "Tell me a story." }]);
    let body = json!({ "messages": messages, "temperature": 0, "max_tokens": 12 });
    let old = served.ask("/api/v0/chat/completions", &body);
    assert_eq!(old["choices"][0]["message"]["content"], text);
    assert_eq!(
        (&old["stats"]["stop_reason"], &old["model_info"]["arch"]),
        (&json!("maxPredictedTokensReached"), &json!("llama"))
    );
    let plain = served.ask("/api/v0/completions", &json!({ "prompt": "Once", "max_tokens": 2 }));
    assert!(plain["stats"]["generation_time"].is_f64(), "{plain}");
    assert_eq!(served.ask("/api/v0/embeddings", &json!({ "input": "a" }))["object"], "list");

    let events = served.post("/api/v1/chat", &chat(&json!({ "stream": true, "store": false }))).named_events();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[1]), ("chat.start", "prompt_processing.start"));
    assert!(
        names.ends_with(&["message.end", "chat.end"]) && names.contains(&"prompt_processing.progress"),
        "{names:?}"
    );
    let of =
        |wanted: &str| events.iter().filter(|(name, _)| name == wanted).map(|(_, event)| event).collect::<Vec<_>>();
    let streamed: String = of("message.delta").iter().filter_map(|event| event["content"].as_str()).collect();
    assert_eq!(streamed, text);
    let result = &of("chat.end")[0]["result"];
    assert_eq!((&result["output"], result.get("response_id")), (&whole["output"], None));

    let next = json!({ "input": "And then?", "previous_response_id": whole["response_id"] });
    let next = served.ask("/api/v1/chat", &chat(&next));
    let turns = json!([
        { "role": "user", "content": "Tell me a story." }, { "role": "assistant", "content": text },
        { "role": "user", "content": "And then?" },
    ]);
    let same = served.ask("/v1/chat/completions", &with(body, &json!({ "messages": turns })));
    assert_eq!(next["output"][0]["content"], same["choices"][0]["message"]["content"]);
    for (fields, param) in [
        (json!({ "input": 7 }), "input"),
        (json!({ "integrations": ["mcp/a"] }), "integrations"),
        (json!({ "reasoning": "much" }), "reasoning"),
        (json!({ "previous_response_id": "resp_none" }), "previous_response_id"),
    ] {
        let refused = served.post("/api/v1/chat", &chat(&fields));
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!(param)), "{}", refused.body);
    }
}
