//! Features of a chat template, found in its text. The template is not run, because it is an untrusted program.

/// Features of a chat template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateFeatures {
    /// Whether messages with the role `system` are supported.
    pub system: bool,
    /// Whether tools can be offered and called.
    pub tools: bool,
    /// Whether thinking can be switched on, or is separated from answers.
    pub thinking: bool,
}

impl TemplateFeatures {
    /// Finds the features in a template's text.
    #[must_use]
    pub fn of(source: &str) -> Self {
        let has = |parts: &[&str]| parts.iter().any(|part| source.contains(part));
        // As in Gemma: `{{ raise_exception('System role not supported') }}`.
        let refuses = source.split("raise_exception(").skip(1).any(|rest| {
            let message = rest.split(')').next().unwrap_or_default().to_lowercase();
            message.contains("system") && message.contains("not supported")
        });
        // Templates that print the name of any role support the system role too.
        let any_role = has(&["message['role']", "message.role", "message[\"role\"]"]);
        let names_roles = has(&["'user'", "\"user\""]);
        Self {
            system: !refuses && (has(&["'system'", "\"system\""]) || any_role && !names_roles),
            tools: has(&["tools", "tool_calls"]),
            thinking: has(&["enable_thinking", "<think>", "reasoning_content", "thinking", "reasoning_effort"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TemplateFeatures;

    #[test]
    fn features_are_told_from_the_text() {
        let of = |source| {
            let TemplateFeatures { system, tools, thinking } = TemplateFeatures::of(source);
            (system, tools, thinking)
        };
        assert_eq!(of("{% for m in messages %}{{ m.content }}{% endfor %}"), (false, false, false));
        let chatml = "{% for message in messages %}{{ '<|im_start|>' + message['role'] }}{% endfor %}";
        assert_eq!(of(chatml), (true, false, false));
        let gemma =
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}";
        assert_eq!(of(gemma), (false, false, false));
        let qwen = "{% if tools %}{{ tools }}{% endif %}{% if m.role == 'system' %}{% endif %}{% if enable_thinking %}";
        assert_eq!(of(qwen), (true, true, true));
    }
}
