//! What llama-server's clients find besides answers: sleep, figures, preflights, progress, prompts, probabilities after the samplers.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::served::{Served, with};

fn completion(fields: &Json) -> Json {
    with(json!({ "prompt": "Once upon a time", "n_predict": 4, "temperature": 0, "seed": 1 }), fields)
}

fn chat(fields: &Json) -> Json {
    let messages = json!([{ "role": "user", "content": "Tell me a story." }]);
    with(json!({ "messages": messages, "max_tokens": 4, "temperature": 0 }), fields)
}

fn is_sleeping(served: &Served) -> bool {
    let props = served.get("/props");
    assert_eq!(props.status, 200, "{}", props.body);
    props.json()["is_sleeping"] == true
}

fn wait_for_sleep(served: &Served) {
    let start = Instant::now();
    while !is_sleeping(served) {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not sleep");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_idle_model_sleeps_and_wakes_for_the_next_request() {
    let served = Served::start("--keep-alive 1 --alias tiny");
    let first = served.ask("/completion", &completion(&json!({})));
    assert!(served.metric("llamacpp:predicted_tokens_seconds") > 0.0);
    // Tokens a second are those since the last time.
    assert_eq!(served.metric("llamacpp:predicted_tokens_seconds").to_string(), "0");
    let awake = (served.get("/metrics").body, served.get("/props").json(), served.get("/slots").body);
    wait_for_sleep(&served);
    // None of these wakes it, and the figures stay.
    assert_eq!(served.get("/health").status, 200);
    let listed = served.get("/models").json();
    assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["status"]["value"]), (&json!("tiny"), &json!("unloaded")));
    assert_eq!(served.get("/metrics").body, awake.0);
    assert_eq!(with(served.get("/props").json(), &json!({ "is_sleeping": false })), awake.1);
    let slots = served.get("/slots").json();
    assert_eq!(slots.as_array().map(Vec::len), awake.1["total_slots"].as_u64().and_then(|n| n.try_into().ok()));
    assert!(slots.as_array().expect("slots").iter().all(|slot| slot["is_processing"] == false), "{slots}");
    assert!(is_sleeping(&served));

    let before = served.metric("llamacpp:tokens_predicted_total");
    let again = served.ask("/completion", &completion(&json!({})));
    assert_eq!((&again["content"], &again["timings"]["cache_n"]), (&first["content"], &json!(0)));
    assert!(!is_sleeping(&served));
    // What is counted goes on from before.
    assert_eq!(served.metric("llamacpp:tokens_predicted_total") - before, 4.0);
    wait_for_sleep(&served);
    served.ask("/tokenize", &json!({ "content": "dog" }));
    assert!(!is_sleeping(&served));
}

#[test]
fn figures_agree_with_answers_and_can_be_switched_off() {
    let served = Served::start("");
    let (mut read, mut cached, mut answered) = (0.0, 0.0, 0.0);
    for n in [1, 4, 9] {
        let timings = served.ask("/completion", &completion(&json!({ "n_predict": n })))["timings"].clone();
        let number = |name: &str| timings[name].as_f64().expect("a number");
        read += number("prompt_n");
        cached += number("cache_n");
        answered += number("predicted_n");
    }
    assert!(cached > 0.0);
    for (name, value) in
        [("prompt_tokens_total", read), ("prompt_tokens_cached_total", cached), ("tokens_predicted_total", answered)]
    {
        assert_eq!(served.metric(&format!("llamacpp:{name}")), value, "{name}");
    }
    for name in ["num_drafts_total", "num_draft_tokens_total", "num_accepted_tokens_total"] {
        assert_eq!(served.metric(&format!("llamacpp:spec_decode_{name}")), 0.0, "{name}");
    }
    let quiet = Served::start("--no-slots --no-metrics");
    for path in ["/slots", "/metrics"] {
        let refused = quiet.get(path);
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (501, &json!("not_supported")), "{path}");
    }
}

/// The answer to a preflight of a page.
fn preflight(served: &Served, origin: &str) -> String {
    let head = format!(
        "Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: Authorization, X-Own\r\n"
    );
    let answer = served.request("OPTIONS", "/completions", &head, "");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{origin}");
    answer.head
}

#[test]
fn preflights_say_who_may_ask_and_tell_others_nothing() {
    let served = Served::start("--api-key first --allow-origin localhost");
    for origin in ["http://localhost:8080", "https://127.0.0.1", "http://[::1]:3000"] {
        let head = preflight(&served, origin);
        assert!(head.contains(&format!("access-control-allow-origin: {origin}\r\n")), "{head}");
        assert!(head.contains("access-control-allow-credentials: true"), "{head}");
        assert!(head.contains("access-control-allow-methods: get, post, delete, options"), "{head}");
        assert!(head.contains("access-control-allow-headers: authorization, x-own"), "{head}");
    }
    for origin in ["http://evil.com", "http://localhost.evil.com", "localhost", "null"] {
        assert!(!preflight(&served, origin).contains("access-control"), "{origin}");
        let asked = served.request("GET", "/health", &format!("Origin: {origin}\r\n"), "");
        assert_eq!(asked.status, 403, "{origin}");
    }
    let foreign = served.request("OPTIONS", "/completions", "Host: evil.com\r\nOrigin: http://localhost\r\n", "");
    assert_eq!(foreign.status, 403);
    let all = Served::start("--allow-origin *");
    for origin in ["web.mydomain.fr", "https://evil.com"] {
        let head = preflight(&all, origin);
        assert!(head.contains(&format!("access-control-allow-origin: {origin}\r\n")), "{head}");
        assert!(head.contains("access-control-allow-headers: *\r\n"), "{head}");
    }
}

/// Linux has all of 127.0.0.0/8.
#[cfg(target_os = "linux")]
#[test]
fn a_server_listens_at_several_addresses() {
    let served = Served::start("--host 127.0.0.1,127.0.0.2");
    let port = served.address.rsplit(':').next().expect("a port").to_owned();
    let second = Served { address: format!("127.0.0.2:{port}"), child: Command::new("true").spawn().expect("runs") };
    for server in [&served, &second] {
        assert_eq!(server.get("/health").json(), json!({ "status": "ok" }), "{}", server.address);
    }
}

/// As systemd starts it.
#[cfg(unix)]
#[test]
fn a_socket_that_is_there_already_is_listened_at() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve --port 1 -j 1";
    command.args(["-c", script, env!("CARGO_BIN_EXE_gguf")]).stdin(std::os::fd::OwnedFd::from(listener));
    let served = Served::spawned(command);
    assert_eq!(served.address, address);
    assert_eq!(served.get("/health").status, 200);
    // It stops by the signal that services are stopped with.
    let mut served = served;
    let kill = Command::new("kill").args(["-TERM", &served.child.id().to_string()]).status().expect("runs");
    assert!(kill.success());
    assert_eq!(served.child.wait().expect("ends").code(), Some(0));
}

#[test]
fn options_come_from_the_environment_too() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    command.env("GGUF_SERVE_PARALLEL", "3").env("GGUF_SERVE_NO_METRICS", "1").env("GGUF_SERVE_ALIAS", "tiny");
    // The command line comes first.
    let served = Served::with(command, "--alias named");
    let props = served.get("/props").json();
    assert_eq!((&props["total_slots"], &props["model_alias"]), (&json!(3), &json!("named")));
    assert_eq!(served.get("/metrics").status, 501);
}

#[test]
fn lists_of_models_have_names_and_tags() {
    let served = Served::start("--alias small --alias tiny --tag chat,fim --tag old");
    let model = served.get("/v1/models").json()["data"][0].clone();
    assert_eq!((&model["id"], &model["aliases"]), (&json!("small"), &json!(["small", "tiny"])));
    assert_eq!(model["tags"], json!(["chat", "fim", "old"]));
    assert_eq!(served.get("/v1/models/tiny").json()["id"], "small");
    let plain = Served::start("").get("/v1/models").json()["data"][0].clone();
    assert_eq!((&plain["aliases"], &plain["tags"]), (&json!([]), &json!([])));
}

#[test]
fn thinking_is_switched_off_for_a_server_or_a_request() {
    let folder = Folder::new("serve-think");
    let template = folder.path("template.jinja");
    let source =
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}A:<think>\n{% endif %}";
    std::fs::write(&template, source).expect("written");
    let start =
        |options: &str| Served::start(&format!("--chat-template {} {options}", template.to_str().expect("UTF-8")));
    let prompt = |served: &Served, fields: Json| {
        served.ask("/apply-template", &chat(&fields))["prompt"].as_str().expect("a text").to_owned()
    };
    let off = json!({ "chat_template_kwargs": { "enable_thinking": false } });
    let on = json!({ "chat_template_kwargs": { "enable_thinking": true } });
    let served = start("");
    assert!(prompt(&served, json!({})).ends_with("A:<think>\n"));
    assert!(prompt(&served, off.clone()).ends_with("A:<think>\n</think>"));
    assert!(prompt(&served, json!({ "reasoning_effort": "none" })).ends_with("A:<think>\n</think>"));
    let never = start("--no-think");
    assert!(prompt(&never, json!({})).ends_with("A:<think>\n</think>"));
    for asked in [on, json!({ "reasoning_effort": "low" })] {
        assert!(prompt(&never, asked).ends_with("A:<think>\n"));
    }
    // The answer begins after the thought.
    let answer = never.ask("/v1/chat/completions", &chat(&json!({})));
    assert!(answer["choices"][0]["message"].get("reasoning_content").is_none(), "{answer}");
    let always = start("--think");
    assert!(prompt(&always, json!({})).ends_with("A:<think>\n"));
    let count = |served: &Served| {
        let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 1 });
        served.ask("/v1/messages/count_tokens", &body)["input_tokens"].as_u64().expect("a number")
    };
    // Anthropic's clients have to ask for it, where the server does not say otherwise.
    assert!(count(&always) < count(&served));
    assert_eq!(count(&never), count(&served));
}

#[test]
fn a_chat_tells_its_prompt_and_goes_on_with_an_answer() {
    let served = Served::start("");
    let begun = |content: Json| {
        let messages =
            json!([{ "role": "user", "content": "Tell me a story." }, { "role": "assistant", "content": content }]);
        chat(
            &json!({ "messages": messages, "verbose": true, "add_generation_prompt": false, "continue_final_message": true }),
        )
    };
    let prompt = |answer: &Json| answer["__verbose"]["prompt"].as_str().expect("a prompt").to_owned();
    let whole = served.ask("/v1/chat/completions", &begun(json!("Whill")));
    assert!(prompt(&whole).ends_with("Whill"), "{whole}");
    let parts = json!([{ "type": "text", "text": "Wh" }, { "type": "text", "text": "ill" }]);
    assert!(prompt(&served.ask("/v1/chat/completions", &begun(parts))).ends_with("Wh\n\nill"));
    let streamed = with(begun(json!("Whill")), &json!({ "stream": true }));
    let (events, _) = served.post("/v1/chat/completions", &streamed).events();
    assert_eq!(events.last().map(prompt), Some(prompt(&whole)));
    assert!(served.ask("/v1/chat/completions", &chat(&json!({}))).get("__verbose").is_none());
    let verbose = Served::start("--verbose");
    assert!(prompt(&verbose.ask("/v1/chat/completions", &chat(&json!({})))).contains("Tell me a story."));
    let quiet = verbose.ask("/v1/chat/completions", &chat(&json!({ "verbose": false })));
    assert!(quiet.get("__verbose").is_none());
}

#[test]
fn the_progress_of_a_prompt_begins_with_what_is_cached() {
    let served = Served::start("");
    let messages = json!([{ "role": "user", "content": "This is a test. ".repeat(40) }]);
    let fields = json!({ "messages": messages, "stream": true, "return_progress": true, "timings_per_token": true,
        "logit_bias": { "2": false } });
    let mut cached = 0;
    for _ in 0..2 {
        let (events, _) = served.post("/v1/chat/completions", &chat(&fields)).events();
        let progress: Vec<&Json> = events.iter().filter_map(|event| event.get("prompt_progress")).collect();
        let number = |progress: &Json, name: &str| progress[name].as_u64().expect("a number");
        let [first, .., last] = progress.as_slice() else { panic!("{progress:?}") };
        assert_eq!(number(first, "cache"), number(first, "processed"));
        assert_eq!(number(last, "total"), number(last, "processed"));
        cached = number(first, "cache");
        let texts = events.iter().filter(|event| event["choices"][0]["delta"]["content"].is_string());
        let counts: Vec<u64> = texts.map(|event| event["timings"]["predicted_n"].as_u64().expect("figures")).collect();
        assert!(counts.is_sorted() && counts.last() == Some(&4), "{counts:?}");
    }
    assert!(cached > 0, "the second finds what the first has read");
    let body = json!({
        "input": "This is a test. ".repeat(40), "max_output_tokens": 4, "stream": true, "return_progress": true,
        "timings_per_token": true, "logit_bias": { "2": false },
    });
    let events = served.post("/v1/responses", &body).named_events();
    let of = |name: &str| events.iter().filter(|(kind, _)| kind == name).map(|(_, event)| event).collect::<Vec<_>>();
    let told: Vec<&Json> =
        of("response.in_progress").into_iter().filter(|e| e.get("prompt_progress").is_some()).collect();
    assert!(!told.is_empty() && told.iter().all(|event| event["timings"]["prompt_n"].is_u64()), "{told:?}");
    assert!(of("response.output_text.delta").iter().all(|event| event["timings"]["predicted_n"].is_u64()));
    let (name, last) = events.last().expect("events");
    assert_eq!((name.as_str(), &last["timings"]["predicted_n"]), ("response.completed", &json!(4)));
    assert_eq!(last["response"]["status"], "incomplete");
}

#[test]
fn completions_have_the_fields_and_probabilities_that_are_asked_for() {
    let served = Served::start("");
    let fields =
        json!({ "response_fields": ["content", "timings/predicted_n", "generation_settings/n_predict", "none"] });
    let few = served.ask("/completion", &completion(&fields));
    let mut names: Vec<&String> = few.as_object().expect("an object").keys().collect();
    names.sort();
    assert_eq!(names, ["content", "generation_settings/n_predict", "timings/predicted_n"]);
    assert_eq!((&few["timings/predicted_n"], &few["generation_settings/n_predict"]), (&json!(4), &json!(4)));

    let fields =
        json!({ "n_probs": 5, "post_sampling_probs": true, "temperature": 1.0, "top_k": 3, "min_p": 0, "top_p": 1 });
    let answer =
        served.ask("/completion", &completion(&with(fields.clone(), &json!({ "logit_bias": { "2": false } }))));
    let tokens = answer["completion_probabilities"].as_array().expect("probabilities");
    assert_eq!(tokens.len(), 4);
    for token in tokens {
        let top: Vec<f64> = token["top_probs"]
            .as_array()
            .expect("the likeliest")
            .iter()
            .map(|t| t["prob"].as_f64().expect("a number"))
            .collect();
        assert!(
            top.len() == 3 && top.is_sorted_by(|a, b| a >= b) && (top.iter().sum::<f64>() - 1.0).abs() < 1e-4,
            "{token}"
        );
        assert!(top.contains(&token["prob"].as_f64().expect("a number")) && token.get("logprob").is_none(), "{token}");
    }
    // The likeliest token is taken: there is no other.
    let greedy = served.ask("/completion", &completion(&with(fields, &json!({ "temperature": 0, "stream": false }))));
    let first = &greedy["completion_probabilities"][0];
    assert_eq!((&first["prob"], first["top_probs"].as_array().map(Vec::len)), (&json!(1.0), Some(1)));
}
