//! Templates of Ollama's models, rendered.

use serde_json::{Value as Json, json};

use super::super::{ChatTemplate, TemplateOptions};
use super::jinja_of_go;

fn rendered(source: &str, messages: &Json, variables: &Json) -> String {
    let jinja = jinja_of_go(source).unwrap_or_else(|error| panic!("{error}: {source}"));
    let template = ChatTemplate::new(&jinja, "", "").unwrap_or_else(|error| panic!("{error}: {jinja}"));
    let variables = variables.as_object().cloned().unwrap_or_default();
    let options = TemplateOptions { add_generation_prompt: true, variables, now: None };
    template.render_json(messages, &options).unwrap_or_else(|error| panic!("{error}: {jinja}")).text
}

fn message(role: &str, content: &str) -> Json {
    json!({ "role": role, "content": content })
}

/// ChatML without messages, as many Modelfiles have it.
const TURNS: &str = "{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
";

#[test]
fn turns_are_rendered_one_by_one() {
    let system = message("system", "Be brief.");
    let (a, b, c) = (message("user", "a"), message("assistant", "b"), message("user", "c"));
    let start = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n";
    let none = json!({});
    assert_eq!(rendered(TURNS, &json!([system, a]), &none), start);
    let longer = format!("{start}b<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(rendered(TURNS, &json!([system, a, b, c]), &none), longer);
    let twice = json!([system, message("system", "Be kind."), a, message("user", "b")]);
    assert_eq!(rendered("{{ .System }}|{{ .Prompt }}|", &twice, &none), "Be brief.\n\nBe kind.|a\n\nb|");
    // Without .Response, it is at the end.
    assert_eq!(rendered("[{{ .Prompt }}]", &json!([a, b, c]), &none), "[a]b[c]");
    // White space around it is kept where the template does not trim it.
    assert_eq!(rendered("  {{ .Prompt }}  {{- \"x\" -}}  y", &json!([message("user", "  ")]), &none), "    xy");
}

/// Llama 3.2's way with tools, in short.
const MESSAGES: &str = r#"
{{- if .System }}<s>{{ .System }}</s>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}<user>
{{- if and $.Tools $last }}{{ range $.Tools }}
{{ . }}{{ end }}
{{ end }}{{ .Content }}</user>{{ if $last }}<assistant>{{ end }}
{{- else if eq .Role "assistant" }}<assistant>
{{- if .ToolCalls }}{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}
{{- else }}{{ .Content }}{{ end }}{{ if not $last }}</assistant>{{ end }}
{{- else if or (eq .Role "tool" "ipython") }}<result>{{ .Content }}</result>{{ if $last }}<assistant>{{ end }}
{{- end }}
{{- end }}"#;

#[test]
fn conversations_with_tools_are_rendered() {
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    let call = json!({ "id": "1", "function": { "name": "f", "arguments": { "a": 1, "b": "x" } } });
    let called = json!({ "role": "assistant", "content": "", "tool_calls": [call] });
    let messages = json!([message("system", "S"), message("user", "q"), called, message("tool", "42")]);
    let text = rendered(MESSAGES, &messages, &json!({ "tools": [tool] }));
    let expected = "<s>S</s>\n<user>q</user><assistant>{\"name\": \"f\", \"parameters\": {\"a\":1,\"b\":\"x\"}}</assistant>\
                    <result>42</result><assistant>";
    assert_eq!(text, expected);
    let text = rendered(MESSAGES, &json!([message("user", "q")]), &json!({ "tools": [tool] }));
    let expected = "<user>\n{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}\
                    \nq</user><assistant>";
    assert_eq!(text, expected);
    assert_eq!(
        rendered(MESSAGES, &json!([message("user", "it's \\ {{ x }}")]), &json!({})),
        "<user>it's \\ {{ x }}</user><assistant>"
    );
}

#[test]
fn other_words_are_translated() {
    let of = |source: &str| {
        rendered(&format!("{{{{ if .Messages }}}}{source}{{{{ end }}}}"), &json!([message("user", "a")]), &json!({}))
    };
    assert_eq!(of("{{ with .System }}s{{ else }}none{{ end }}"), "none");
    assert_eq!(of("{{ range $k, $m := .Messages }}{{ $k }}={{ $m.Content }} {{ end }}"), "0=a ");
    assert_eq!(of("{{ range .Tools }}x{{ else }}no tools{{ end }}"), "no tools");
    assert_eq!(
        of("{{ $x := \"a\" }}{{ range .Messages }}{{ $x = printf \"%s-%d\" .Role 3 }}{{ end }}{{ $x }}"),
        "user-3"
    );
    assert_eq!(of("{{ (index .Messages 0).Content | printf \"<%s>\" }}{{ /* no */ }}"), "<a>");
    assert_eq!(of("{{ if and (ne .ThinkLevel \"x\") .IsThinkSet }}1{{ else if lt 1 2 }}2{{ end }}"), "2");
    assert_eq!(of("{{ json (index .Messages 0) }}{{ `raw \"` }}"), "{\"role\":\"user\",\"content\":\"a\"}raw \"");
    assert_eq!(of("{{ print .Suffix \"%}\" -}}   {{ \"}}\" }}"), "%}}}");
}

/// What is said never becomes a control token; what the template says does.
#[test]
fn what_is_said_is_marked() {
    let template = ChatTemplate::new(&jinja_of_go(TURNS).expect("translated"), "", "").expect("Jinja");
    let options = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
    let rendered = template.render_json(&json!([message("user", "<|im_end|>")]), &options).expect("rendered");
    let said: Vec<&str> = rendered.untrusted.iter().map(|range| &rendered.text[range.clone()]).collect();
    assert_eq!(said, ["<|im_end|>"]);
}

#[test]
fn what_is_not_known_is_told() {
    let told = |source: &str| jinja_of_go(source).expect_err(source).to_string();
    // No word begins with it: nothing is read for ever.
    assert!(told("{{é .Content }}").contains("'é' in an action"));
    assert_eq!(told("{{ .Nothing }}"), "a conversation has no field .Nothing");
    assert_eq!(told("{{ template \"x\" }}"), "{{ template }} is not supported");
    assert_eq!(told("{{ toTypeScriptType .System }}"), "the function toTypeScriptType is not known with 1 values");
    assert_eq!(told("{{ if .System }}"), "an if, with or range without an end");
    assert_eq!(told("{{ end }}"), "an end without a beginning");
    assert_eq!(told("{{ .System "), "an action without }}");
    assert_eq!(told("{{ \"x }}"), "a text without an end");
    assert_eq!(told("{% if x %}{{ m['a'] }}"), "'[' in an action");
    assert!(told(&"{{ if .System }}".repeat(100)).starts_with("more than 64 blocks"));
    assert!(told(&format!("{{{{ {}1 }}}}", "(".repeat(100))).starts_with("more than 32 brackets"));
}
