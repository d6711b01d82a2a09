//! llama.cpp's built-in templates by name, for files without a (valid) template. The texts are those of its `llama-chat.cpp`.

/// A template: its name, what each message `m` becomes, and how an answer begins.
struct Builtin {
    name: &'static str,
    message: &'static str,
    answer: &'static str,
}

const fn row(name: &'static str, message: &'static str, answer: &'static str) -> Builtin {
    Builtin { name, message, answer }
}

/// A condition for opening a turn: a system message is put into the first user turn.
const OPEN_TURN: &str = "loop.first or loop.previtem.role == 'assistant'";

#[rustfmt::skip]
const TABLE: &[Builtin] = &[
    row("chatml", "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}", "<|im_start|>assistant\n"),
    row("llama2", "{{ '[INST] ' if OPEN }}{{ m.content + {'system': '\n', 'user': ' [/INST]'}.get(m.role, '</s>') }}", ""),
    row("llama2-sys", "{{ '[INST] ' if OPEN }}{{ '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' if m.role == 'system' \
        else m.content + {'user': ' [/INST]'}.get(m.role, '</s>') }}", ""),
    row("llama2-sys-bos", "{{ '[INST] ' if loop.first else '<s>[INST] ' if OPEN }}{{ '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' \
        if m.role == 'system' else m.content + {'user': ' [/INST]'}.get(m.role, '</s>') }}", ""),
    row("llama2-sys-strip", "{{ '[INST] ' if OPEN }}{{ '<<SYS>>\n' + m.content.strip() + '\n<</SYS>>\n\n' if m.role == 'system' \
        else m.content.strip() + {'user': ' [/INST]'}.get(m.role, '</s>') }}", ""),
    row("llama3", "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content.strip() + '<|eot_id|>' }}",
        "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    row("mistral-v1", "{{ ' [INST] ' if OPEN }}{{ ' ' if m.role == 'assistant' }}{{ m.content \
        + {'system': '\n\n', 'user': ' [/INST]'}.get(m.role, '</s>') }}", ""),
    row("mistral-v3", "{{ '[INST] ' if OPEN }}{{ ' ' + m.content.strip() + '</s>' if m.role == 'assistant' \
        else m.content + {'system': '\n\n'}.get(m.role, '[/INST]') }}", ""),
    row("mistral-v3-tekken", "{{ '[INST]' if OPEN }}{{ m.content + {'system': '\n\n', 'user': '[/INST]'}.get(m.role, '</s>') }}", ""),
    row("mistral-v7", "{{ {'system': '[SYSTEM_PROMPT] ', 'user': '[INST] '}.get(m.role, ' ') + m.content \
        + {'system': '[/SYSTEM_PROMPT]', 'user': '[/INST]'}.get(m.role, '</s>') }}", ""),
    row("mistral-v7-tekken", "{{ {'system': '[SYSTEM_PROMPT]', 'user': '[INST]'}.get(m.role, '') + m.content \
        + {'system': '[/SYSTEM_PROMPT]', 'user': '[/INST]'}.get(m.role, '</s>') }}", ""),
    row("phi3", "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}", "<|assistant|>\n"),
    row("phi4", "{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}", "<|im_start|>assistant<|im_sep|>"),
    row("falcon3", "{{ '<|' + m.role + '|>\n' + m.content + '\n' }}", "<|assistant|>\n"),
    row("zephyr", "{{ '<|' + m.role + '|>\n' + m.content + '<|endoftext|>\n' }}", "<|assistant|>\n"),
    row("monarch", "{{ ('' if loop.first else '<s>') + m.role + '\n' + m.content + '</s>\n' }}", "<s>assistant\n"),
    row("gemma", "{% if m.role != 'system' %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}\
        {{ loop.previtem.content.strip() + '\n\n' if not loop.first and loop.previtem.role == 'system' }}\
        {{ m.content.strip() + '<end_of_turn>\n' }}{% endif %}", "<start_of_turn>model\n"),
    row("openchat", "{{ m.content + '<|end_of_turn|>' if m.role == 'system' \
        else 'GPT4 Correct ' + m.role.capitalize() + ': ' + m.content + '<|end_of_turn|>' }}", "GPT4 Correct Assistant:"),
    row("vicuna", "{{ {'user': 'USER: ', 'assistant': 'ASSISTANT: '}.get(m.role, '') + m.content \
        + {'system': '\n\n', 'assistant': '</s>\n'}.get(m.role, '\n') }}", "ASSISTANT:"),
    row("vicuna-orca", "{{ {'system': 'SYSTEM: ', 'user': 'USER: '}.get(m.role, 'ASSISTANT: ') + m.content \
        + {'assistant': '</s>\n'}.get(m.role, '\n') }}", "ASSISTANT:"),
    row("deepseek", "{{ {'user': '### Instruction:\n', 'assistant': '### Response:\n'}.get(m.role, '') + m.content \
        + {'user': '\n', 'assistant': '\n<|EOT|>\n'}.get(m.role, '') }}", "### Response:\n"),
    row("deepseek2", "{{ {'user': 'User: ', 'assistant': 'Assistant: '}.get(m.role, '') + m.content \
        + {'assistant': '<｜end▁of▁sentence｜>'}.get(m.role, '\n\n') }}", "Assistant:"),
    row("deepseek3", "{{ {'user': '<｜User｜>', 'assistant': '<｜Assistant｜>'}.get(m.role, '') + m.content \
        + {'system': '\n\n', 'assistant': '<｜end▁of▁sentence｜>'}.get(m.role, '') }}", "<｜Assistant｜>"),
    row("command-r", "{{ '<|START_OF_TURN_TOKEN|><|' + {'system': 'SYSTEM', 'user': 'USER'}.get(m.role, 'CHATBOT') + '_TOKEN|>' \
        + m.content.strip() + '<|END_OF_TURN_TOKEN|>' }}", "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"),
    row("chatglm3", "{{ '[gMASK]sop' if loop.first }}{{ '<|' + m.role + '|>\n ' + m.content }}", "<|assistant|>"),
    row("chatglm4", "{{ '[gMASK]<sop>' if loop.first }}{{ '<|' + m.role + '|>\n' + m.content }}", "<|assistant|>\n"),
    row("glmedge", "{{ '<|' + m.role + '|>\n' + m.content }}", "<|assistant|>"),
    row("minicpm", "{{ '<用户>' + m.content.strip() + '<AI>' if m.role == 'user' else m.content.strip() }}", ""),
    row("granite", "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\n' }}",
        "<|start_of_role|>assistant<|end_of_role|>"),
    row("seed_oss", "{{ '<seed:bos>' + m.role + '\n' + (m.content.strip() if m.role == 'assistant' else m.content) + '<seed:eos>' }}",
        "<seed:bos>assistant\n"),
];

/// The source of llama.cpp's template `name`.
#[must_use]
pub fn builtin_template(name: &str) -> Option<String> {
    let row = TABLE.iter().find(|row| row.name == name)?;
    let message = row.message.replace("OPEN", OPEN_TURN);
    let answer = row.answer.replace('\n', "\\n");
    Some(format!("{{% for m in messages %}}{message}{{% endfor %}}{{{{ '{answer}' if add_generation_prompt }}}}"))
}

/// The names of all built-in templates.
pub fn builtin_template_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.name)
}

#[cfg(test)]
mod tests {
    use super::super::{ChatTemplate, Message, TemplateOptions};
    use super::*;

    /// The conversation and the texts of llama.cpp's own test.
    #[test]
    fn builtin_templates_give_what_they_give_in_llama_cpp() {
        let messages = [
            ("system", "You are a helpful assistant"),
            ("user", "Hello"),
            ("assistant", "Hi there"),
            ("user", "Who are you"),
            ("assistant", "   I am an assistant   "),
            ("user", "Another question"),
        ]
        .map(|(role, content)| Message::new(role, content));
        let options = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
        let expected = EXPECTED;
        for (name, expected) in expected {
            let source = builtin_template(name).expect("a built-in template");
            let rendered = ChatTemplate::new(&source, "", "").and_then(|t| t.render(&messages, &options));
            assert_eq!(rendered.expect("renders"), *expected, "{name}");
        }
        // All other templates must render.
        for name in builtin_template_names() {
            let source = builtin_template(name).expect("a built-in template");
            let rendered = ChatTemplate::new(&source, "", "").and_then(|t| t.render(&messages, &options));
            assert!(rendered.expect("renders").contains("Another question"), "{name}");
        }
    }

    #[rustfmt::skip]
    const EXPECTED: &[(&str, &str)] = &[
        ("chatml", "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi there<|im_end|>\n<|im_start|>user\nWho are you<|im_end|>\n<|im_start|>assistant\n   I am an assistant   <|im_end|>\n<|im_start|>user\nAnother question<|im_end|>\n<|im_start|>assistant\n"),
        ("llama2", "[INST] You are a helpful assistant\nHello [/INST]Hi there</s>[INST] Who are you [/INST]   I am an assistant   </s>[INST] Another question [/INST]"),
        ("llama2-sys-bos", "[INST] <<SYS>>\nYou are a helpful assistant\n<</SYS>>\n\nHello [/INST]Hi there</s><s>[INST] Who are you [/INST]   I am an assistant   </s><s>[INST] Another question [/INST]"),
        ("llama2-sys-strip", "[INST] <<SYS>>\nYou are a helpful assistant\n<</SYS>>\n\nHello [/INST]Hi there</s>[INST] Who are you [/INST]I am an assistant</s>[INST] Another question [/INST]"),
        ("monarch", "system\nYou are a helpful assistant</s>\n<s>user\nHello</s>\n<s>assistant\nHi there</s>\n<s>user\nWho are you</s>\n<s>assistant\n   I am an assistant   </s>\n<s>user\nAnother question</s>\n<s>assistant\n"),
        ("gemma", "<start_of_turn>user\nYou are a helpful assistant\n\nHello<end_of_turn>\n<start_of_turn>model\nHi there<end_of_turn>\n<start_of_turn>user\nWho are you<end_of_turn>\n<start_of_turn>model\nI am an assistant<end_of_turn>\n<start_of_turn>user\nAnother question<end_of_turn>\n<start_of_turn>model\n"),
        ("openchat", "You are a helpful assistant<|end_of_turn|>GPT4 Correct User: Hello<|end_of_turn|>GPT4 Correct Assistant: Hi there<|end_of_turn|>GPT4 Correct User: Who are you<|end_of_turn|>GPT4 Correct Assistant:    I am an assistant   <|end_of_turn|>GPT4 Correct User: Another question<|end_of_turn|>GPT4 Correct Assistant:"),
        ("deepseek", "You are a helpful assistant### Instruction:\nHello\n### Response:\nHi there\n<|EOT|>\n### Instruction:\nWho are you\n### Response:\n   I am an assistant   \n<|EOT|>\n### Instruction:\nAnother question\n### Response:\n"),
        ("vicuna", "You are a helpful assistant\n\nUSER: Hello\nASSISTANT: Hi there</s>\nUSER: Who are you\nASSISTANT:    I am an assistant   </s>\nUSER: Another question\nASSISTANT:"),
        ("vicuna-orca", "SYSTEM: You are a helpful assistant\nUSER: Hello\nASSISTANT: Hi there</s>\nUSER: Who are you\nASSISTANT:    I am an assistant   </s>\nUSER: Another question\nASSISTANT:"),
        ("command-r", "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>You are a helpful assistant<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hello<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hi there<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Who are you<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>I am an assistant<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Another question<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"),
        ("llama3", "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHi there<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWho are you<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nI am an assistant<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnother question<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
        ("phi3", "<|system|>\nYou are a helpful assistant<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi there<|end|>\n<|user|>\nWho are you<|end|>\n<|assistant|>\n   I am an assistant   <|end|>\n<|user|>\nAnother question<|end|>\n<|assistant|>\n"),
        ("chatglm3", "[gMASK]sop<|system|>\n You are a helpful assistant<|user|>\n Hello<|assistant|>\n Hi there<|user|>\n Who are you<|assistant|>\n    I am an assistant   <|user|>\n Another question<|assistant|>"),
        ("chatglm4", "[gMASK]<sop><|system|>\nYou are a helpful assistant<|user|>\nHello<|assistant|>\nHi there<|user|>\nWho are you<|assistant|>\n   I am an assistant   <|user|>\nAnother question<|assistant|>\n"),
        ("glmedge", "<|system|>\nYou are a helpful assistant<|user|>\nHello<|assistant|>\nHi there<|user|>\nWho are you<|assistant|>\n   I am an assistant   <|user|>\nAnother question<|assistant|>"),
        ("minicpm", "You are a helpful assistant<用户>Hello<AI>Hi there<用户>Who are you<AI>I am an assistant<用户>Another question<AI>"),
        ("deepseek2", "You are a helpful assistant\n\nUser: Hello\n\nAssistant: Hi there<｜end▁of▁sentence｜>User: Who are you\n\nAssistant:    I am an assistant   <｜end▁of▁sentence｜>User: Another question\n\nAssistant:"),
        ("granite", "<|start_of_role|>system<|end_of_role|>You are a helpful assistant<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Hello<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>Hi there<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Who are you<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>   I am an assistant   <|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Another question<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>"),
        ("mistral-v1", " [INST] You are a helpful assistant\n\nHello [/INST] Hi there</s> [INST] Who are you [/INST]    I am an assistant   </s> [INST] Another question [/INST]"),
        ("mistral-v3", "[INST] You are a helpful assistant\n\nHello[/INST] Hi there</s>[INST] Who are you[/INST] I am an assistant</s>[INST] Another question[/INST]"),
        ("mistral-v3-tekken", "[INST]You are a helpful assistant\n\nHello[/INST]Hi there</s>[INST]Who are you[/INST]   I am an assistant   </s>[INST]Another question[/INST]"),
        ("mistral-v7", "[SYSTEM_PROMPT] You are a helpful assistant[/SYSTEM_PROMPT][INST] Hello[/INST] Hi there</s>[INST] Who are you[/INST]    I am an assistant   </s>[INST] Another question[/INST]"),
        ("phi4", "<|im_start|>system<|im_sep|>You are a helpful assistant<|im_end|><|im_start|>user<|im_sep|>Hello<|im_end|><|im_start|>assistant<|im_sep|>Hi there<|im_end|><|im_start|>user<|im_sep|>Who are you<|im_end|><|im_start|>assistant<|im_sep|>   I am an assistant   <|im_end|><|im_start|>user<|im_sep|>Another question<|im_end|><|im_start|>assistant<|im_sep|>"),
        ("seed_oss", "<seed:bos>system\nYou are a helpful assistant<seed:eos><seed:bos>user\nHello<seed:eos><seed:bos>assistant\nHi there<seed:eos><seed:bos>user\nWho are you<seed:eos><seed:bos>assistant\nI am an assistant<seed:eos><seed:bos>user\nAnother question<seed:eos><seed:bos>assistant\n"),
    ];
}
