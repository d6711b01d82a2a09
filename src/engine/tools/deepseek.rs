//! DeepSeek: V3 and R1 (a block of Markdown), V3.1 (bare JSON), V3.2 and V4 (parameters in tags).

use serde_json::{Map, Value as Json};

use super::grammar::{Rules, is_text};
use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, arguments_text, call, json_of, text};

const BEGIN: &str = "<｜tool▁calls▁begin｜>";
const END: &str = "<｜tool▁calls▁end｜>";
const CALL: &str = "<｜tool▁call▁begin｜>";
const CALL_END: &str = "<｜tool▁call▁end｜>";
const SEP: &str = "<｜tool▁sep｜>";
const MARKS: &[&str] = &[BEGIN, END, CALL, CALL_END, SEP];

pub(super) const V3: ToolSyntax = ToolSyntax {
    name: "deepseek-v3",
    is_of: |source| source.contains("tool▁call▁begin"),
    opens: &[(BEGIN, false), (CALL, false)],
    marks: MARKS,
    before_thinking: false,
    begun: false,
    read,
    grammar: v3_grammar,
};

pub(super) const V31: ToolSyntax = ToolSyntax {
    name: "deepseek-v3.1",
    is_of: |source| source.contains("tool▁call▁begin") && !source.contains("```"),
    opens: &[(BEGIN, false), (CALL, false)],
    marks: MARKS,
    before_thinking: false,
    begun: false,
    read,
    grammar: v31_grammar,
};

pub(super) const V32: ToolSyntax = ToolSyntax {
    name: "deepseek-v3.2",
    is_of: |source| source.contains("DSML"),
    opens: &[("<｜DSML｜function_calls>", false), ("<｜DSML｜tool_calls>", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read: read_dsml,
    grammar: |tools, marks| dsml_grammar(tools, marks, "</｜DSML｜function_calls>"),
};

pub(super) const V4: ToolSyntax = ToolSyntax {
    name: "deepseek-v4",
    is_of: |source| source.contains("DSML") && source.contains("tool_calls>") && !source.contains("function_calls>"),
    opens: &[("<｜DSML｜tool_calls>", false), ("<｜DSML｜function_calls>", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read: read_dsml,
    grammar: |tools, marks| dsml_grammar(tools, marks, "</｜DSML｜tool_calls>"),
};

/// One call, or several in a row.
fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    if reader.optional(BEGIN)? {
        return reader.section(END, one);
    }
    reader.space();
    Ok(vec![one(reader)?])
}

fn one(reader: &mut Reader<'_>) -> Read<ToolCall> {
    reader.mark(CALL)?;
    let first = reader.until(SEP)?.trim();
    reader.space();
    let (name, arguments) = if reader.peek()? == '{' {
        (first.to_owned(), reader.json()?)
    } else {
        // V3: the separator is between the kind and the name.
        let name = reader.until("\n")?.trim().to_owned();
        reader.space();
        reader.mark("```json")?;
        let arguments = reader.json()?;
        reader.space();
        reader.mark("```")?;
        (name, arguments)
    };
    if !arguments.is_object() {
        return Err(Stop::Not);
    }
    reader.close(CALL_END)?;
    Ok(ToolCall { name, arguments: arguments_text(&arguments) })
}

fn calls(tools: &Tools, marks: &Marks<'_>, one: impl Fn(&str, &Json) -> String) -> String {
    let all = tools.callable().map(|(name, schema)| one(name, schema)).collect::<Vec<_>>().join(" | ");
    let more = if tools.parallel { "(/\\n?/ call)*" } else { "" };
    format!(
        "start: /\\n?/ call {more} /\\n?/ {}\ncall: {} body {}\nbody: {all}\n",
        marks.lark(END),
        marks.lark(CALL),
        marks.lark(CALL_END)
    )
}

fn v31_grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    calls(tools, marks, |name, schema| format!("{} {} {}", text(name), marks.lark(SEP), json_of(schema)))
}

fn v3_grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    calls(tools, marks, |name, schema| {
        let before = text(&format!("{name}\n```json\n"));
        format!("\"function\" {} {before} {} \"\\n```\"", marks.lark(SEP), json_of(schema))
    })
}

/// `<｜DSML｜invoke name="f">`, then `<｜DSML｜parameter name="p" string="true">` for texts, `"false"` for JSON.
fn read_dsml(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.until("_calls>")?;
    let mut calls = Vec::new();
    loop {
        reader.space();
        if reader.is_at_end()
            || reader.optional("</｜DSML｜function_calls>")?
            || reader.optional("</｜DSML｜tool_calls>")?
        {
            return if calls.is_empty() { Err(Stop::Not) } else { Ok(calls) };
        }
        reader.mark("<｜DSML｜invoke name=\"")?;
        let name = reader.until("\">")?;
        let mut arguments = Map::new();
        loop {
            reader.space();
            if reader.optional("</｜DSML｜invoke>")? {
                break;
            }
            reader.mark("<｜DSML｜parameter name=\"")?;
            let parameter = reader.until("\" string=\"")?;
            let is_text = reader.until("\">")? == "true";
            let value = reader.until("</｜DSML｜parameter>")?;
            let value = if is_text { value.into() } else { serde_json::from_str(value).map_err(|_| Stop::Not)? };
            arguments.insert(parameter.to_owned(), value);
        }
        calls.push(call(name, arguments));
    }
}

fn dsml_grammar(tools: &Tools, marks: &Marks<'_>, end: &str) -> String {
    const PARAMETER: &str = "<｜DSML｜parameter name=\"";
    const PARAMETER_END: &str = "</｜DSML｜parameter>";
    let mut rules = Rules::new(marks);
    let end_call = marks.lark("</｜DSML｜invoke>");
    let call = rules.any_tool(tools, |rules, name, schema| {
        let arguments = rules.parameters(schema, |rules, parameter| match parameter {
            Some(parameter) => {
                let kind = is_text(&parameter.schema);
                let open = marks.lark(&format!("{PARAMETER}{}\" string=\"{kind}\">", parameter.name));
                format!("{open} {} \"\\n\"?", rules.bare(&parameter.schema, PARAMETER_END))
            }
            None => {
                let name = rules.until("[^\"<>\\n]+", "\" string=\"true\">");
                format!("{} {name} {} \"\\n\"?", marks.lark(PARAMETER), rules.any_bare(PARAMETER_END))
            }
        });
        format!("{} \"\\n\"? {arguments} {end_call}", marks.lark(&format!("<｜DSML｜invoke name=\"{name}\">")))
    });
    let calls = rules.repeated(tools, &call, "\"\\n\"?");
    rules.grammar(&format!("\"\\n\"? {calls} \"\\n\"? {}", marks.lark(end)))
}
