//! `gguf chat A B`: columns on a pseudo-terminal, headings elsewhere, votes and scores.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::quantize_command::{gguf, storyteller, text};
use super::terminal::{PATIENCE, Terminal};

/// Two models: the storyteller in two types, `q8.gguf` and `q4.gguf`.
fn models(folder: &Folder) {
    storyteller(folder);
    for (ty, name) in [("Q8_0", "q8.gguf"), ("Q4_0", "q4.gguf")] {
        let made = gguf(&["quantize", "storyteller-F16.gguf", "-t", ty, "-o", name], folder.root());
        assert!(made.status.success(), "{made:?}");
    }
}

/// Runs `gguf chat` without a terminal, and with a state folder of its own.
fn chat(args: &[&str], folder: &Folder) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    command.arg("chat").args(args).current_dir(folder.root()).env("XDG_STATE_HOME", folder.root());
    command.stdin(Stdio::null()).output().expect("runs")
}

/// What stands on a terminal of this size after these bytes.
fn grid(bytes: &[u8], width: usize, height: usize) -> Vec<String> {
    let mut rows = vec![vec![' '; width]; height];
    let (mut x, mut y) = (0, 0);
    let shown = String::from_utf8_lossy(bytes);
    let mut chars = shown.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.clone().next() == Some('[') => {
                chars.next();
                let mut numbers = String::new();
                let end = chars.by_ref().find(|c| {
                    numbers.push(*c);
                    c.is_ascii_alphabetic()
                });
                numbers.pop();
                let mut parts = numbers.split(';').map(|n| n.parse::<usize>().unwrap_or(0));
                match end {
                    Some('H') => (y, x) = (parts.next().unwrap_or(1).max(1) - 1, parts.next().unwrap_or(1).max(1) - 1),
                    Some('J') => rows = vec![vec![' '; width]; height],
                    Some('K') => rows[y][x.min(width)..].fill(' '),
                    _ => {}
                }
            }
            '\r' => x = 0,
            '\n' => y = (y + 1).min(height - 1),
            c if y < height && x < width => {
                rows[y][x] = c;
                x += 1;
            }
            _ => {}
        }
    }
    rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect()
}

/// Waits until the screen is as wanted.
fn wait(
    terminal: &Terminal,
    (width, height): (usize, usize),
    what: &str,
    wanted: impl Fn(&[String]) -> bool,
) -> Vec<String> {
    let start = Instant::now();
    loop {
        let rows = grid(&terminal.bytes(), width, height);
        if wanted(&rows) {
            return rows;
        }
        assert!(start.elapsed() < PATIENCE, "{what} has not come; there is\n{}", rows.join("\n"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The text of a column, line by line, between the second and the last rule.
fn column(rows: &[String], i: usize) -> Vec<String> {
    let body = rows.iter().skip_while(|row| !row.contains('┼')).skip(1).take_while(|row| !row.contains('┴'));
    body.map(|row| row.split('│').nth(i).unwrap_or_default().trim().to_owned()).collect()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has(rows: &[String], text: &str) -> bool {
    rows.iter().any(|row| row.contains(text))
}

/// Both columns say how fast they were.
fn done(rows: &[String]) -> bool {
    rows[1].matches("tokens/s").count() == 2
}

#[test]
fn two_models_answer_side_by_side() {
    let folder = Folder::new("several-columns");
    models(&folder);
    let question = "Tell me a story about a fox.";
    let size = (80, 20);
    let mut chat = Terminal::start_in(&["chat", "q8.gguf", "q4.gguf", "-t", "0", "-n", "60"], 80, 20, &folder);
    let rows = wait(&chat, size, "the line", |rows| has(rows, "Tab: column"));
    let names: Vec<&str> = rows[0].split('│').map(str::trim).collect();
    assert_eq!(names, ["q8", "q4"]);
    chat.type_in(&format!("{question}\r"));
    let rows = wait(&chat, size, "both answers", done);
    // Each column has what the model says alone, and no letter more.
    for (i, model) in ["q8.gguf", "q4.gguf"].into_iter().enumerate() {
        let alone = self::chat(&[model, "-p", question, "-t", "0", "-n", "60"], &folder);
        let expected = format!("> {question} {} (the most tokens of an answer are reached)", text(&alone.stdout));
        assert_eq!(words(&column(&rows, i).join(" ")), words(&expected), "{}", rows.join("\n"));
        assert!(rows[1].split('│').nth(i).is_some_and(|row| row.contains("60 tokens")), "{}", rows[1]);
    }
    // A second question with the first before it in both conversations; then the chosen column scrolls, and the other does not.
    chat.type_in("And then?\r");
    wait(&chat, size, "the second question", |rows| has(rows, "> And then?"));
    let rows = wait(&chat, size, "the second answers", done);
    assert!(!column(&rows, 0).contains(&format!("> {question}")), "{}", rows.join("\n"));
    chat.type_in("\x1b[5~\x1b[5~");
    let rows = wait(&chat, size, "the top", |rows| column(rows, 0)[0] == format!("> {question}"));
    assert_ne!(column(&rows, 1)[0], format!("> {question}"), "{}", rows.join("\n"));
    chat.type_in("\t\x1b[5~\x1b[5~\x1b[1;5B");
    let rows = wait(&chat, size, "the second column", |rows| rows[1].matches('↓').count() == 2);
    assert_eq!(column(&rows, 0)[0], format!("> {question}"));
    // A setting holds for both, and what is typed while they answer is taken after it.
    chat.type_in("/set max-tokens 90\r");
    wait(&chat, size, "the setting", |rows| has(rows, "max-tokens is 90"));
    chat.type_in("Tell me a long story about a bear and the sea.\r");
    chat.type_in("/tokens\r");
    wait(&chat, size, "the tokens", |rows| has(rows, "6 messages"));
    // One vote for each question.
    for (line, answer) in [
        ("/vote 3", "must be 1|2|tie"),
        ("/vote 1", "your vote is kept: for q8"),
        ("/vote 2", "this vote is in already"),
        ("/undo", "taken back: Tell me a long story"),
        ("/vote tie", "nothing has been answered yet"),
        ("/attach x", "/attach is for a chat with one model"),
    ] {
        chat.type_in(&format!("{line}\r"));
        wait(&chat, size, answer, |rows| has(rows, answer));
    }
    chat.type_in("\x03");
    wait(&chat, size, "advice", |rows| has(rows, "Ctrl-D or /exit ends"));
    chat.type_in("/exit\r");
    left(&chat);
    assert_eq!(chat.end(), Some(0));
    let votes = fs::read_to_string(folder.path("gguf/votes.jsonl")).expect("votes");
    let vote: Json = serde_json::from_str(votes.trim_end()).expect("one line");
    assert_eq!(vote["models"], json!(["q8", "q4"]));
    assert_eq!((&vote["winner"], &vote["blind"]), (&json!("q8"), &json!(false)));
    // What was typed is there the next time, in a chat with one model too.
    let mut chat = Terminal::start_in(&["chat", "-t", "0"], 80, 20, &folder);
    chat.expect("> ");
    chat.type_in("\x1b[A\x1b[A\x1b[A");
    chat.expect("/vote tie");
    chat.type_in("\x03\x04");
}

/// Waits until the program has given the screen back.
fn left(chat: &Terminal) {
    const LEAVE: &[u8] = b"\x1b[?1049l";
    let start = Instant::now();
    while !chat.bytes().windows(LEAVE.len()).any(|bytes| bytes == LEAVE) {
        assert!(start.elapsed() < PATIENCE, "the screen is not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn names_are_hidden_until_the_vote() {
    let folder = Folder::new("several-blind");
    models(&folder);
    let size = (60, 16);
    let args = ["chat", "q8.gguf", "q4.gguf", "--blind", "--parallel", "-t", "0", "-n", "12"];
    let mut chat = Terminal::start_in(&args, 60, 16, &folder);
    wait(&chat, size, "the line", |rows| has(rows, "Tab: column"));
    chat.type_in("Hello!\r");
    let rows = wait(&chat, size, "both answers", |rows| rows[1].matches("12 tokens").count() == 2);
    let names = |rows: &[String]| rows[0].split('│').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&rows), ["A", "B"]);
    // Neither names nor speeds tell which model it is.
    assert!(!has(&rows, "q4") && !has(&rows, "q8") && !has(&rows, "tokens/s"), "{}", rows.join("\n"));
    chat.type_in("/vote b\r");
    let rows = wait(&chat, size, "the names", |rows| has(rows, "your vote is kept: for B; A is q"));
    let [first, second] = &names(&rows)[..] else { panic!("two names") };
    assert!(has(&rows, &format!("A is {first}, B is {second}")), "{}", rows.join("\n"));
    let vote = fs::read_to_string(folder.path("gguf/votes.jsonl")).expect("votes");
    let vote: Json = serde_json::from_str(&vote).expect("a line");
    assert_eq!((&vote["winner"], &vote["blind"]), (&json!(second), &json!(true)));
    // They are hidden again for another conversation.
    chat.type_in("/clear\r");
    let rows = wait(&chat, size, "the letters", |rows| names(rows) == ["A", "B"]);
    assert!(!has(&rows, "> Hello!"), "{}", rows.join("\n"));
    chat.type_in("\x04");
    left(&chat);
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn without_room_or_terminal_answers_come_under_headings() {
    let folder = Folder::new("several-plain");
    models(&folder);
    let alone = |model: &str| {
        let output = chat(&[model, "-p", "Hello!", "-t", "0", "-n", "12"], &folder);
        text(&output.stdout).to_owned()
    };
    let expected = format!("=== q8 ===\n\n{}\n=== q4 ===\n\n{}", alone("q8.gguf"), alone("q4.gguf"));
    for args in [&["-p", "Hello!"][..], &["Hello!"], &["-p", "Hello!", "--parallel"]] {
        let output = chat(&[&["q8.gguf", "q4.gguf", "-t", "0", "-n", "12"], args].concat(), &folder);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected.as_str()), "{output:?}");
    }
    // Constraints hold for all.
    let output = chat(&["q8.gguf", "q4.gguf", "-p", "Hello!", "--regex", "yes|no"], &folder);
    let answers: Vec<&str> = text(&output.stdout).lines().filter(|line| ["yes", "no"].contains(line)).collect();
    assert_eq!(answers.len(), 2, "{output:?}");
    // Hidden names are told after the answers.
    let output = chat(&["q8.gguf", "q4.gguf", "-p", "Hello!", "--blind", "-n", "2"], &folder);
    assert!(text(&output.stdout).starts_with("=== A ===\n\n") && !text(&output.stdout).contains("q8"), "{output:?}");
    assert!(text(&output.stderr).contains("A is q") && text(&output.stderr).contains(", B is q"), "{output:?}");
    // A message that fits no context is an error of every model.
    let output = chat(&["q8.gguf", "q4.gguf", "-c", "64", "-p", &"word ".repeat(200)], &folder);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("error: q8: ") && text(&output.stderr).contains("error: q4: "), "{output:?}");
    // A conversation on a narrow terminal.
    let mut chat = Terminal::start_in(&["chat", "q8.gguf", "q4.gguf", "-t", "0", "-n", "12"], 39, 20, &folder);
    chat.expect("q8, q4 - /help for");
    chat.expect("> ");
    chat.type_in("Hello!\n");
    chat.expect("=== q8 ===");
    chat.expect("Hello! I am a tiny");
    chat.expect("=== q4 ===");
    chat.type_in("/vote 2\n");
    chat.expect("your vote is kept: for q4");
    chat.expect("> ");
    chat.type_in("/exit\n");
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn what_follows_the_first_model_is_a_model_or_the_message() {
    let folder = Folder::new("several-arguments");
    models(&folder);
    fs::copy(folder.path("q4.gguf"), folder.path("Hello")).expect("copied");
    // A file is a model, whatever it is called; -p is the message for sure.
    let output = chat(&["q8.gguf", "Hello", "-p", "Hello", "-n", "2"], &folder);
    assert!(text(&output.stdout).contains("=== Hello ==="), "{output:?}");
    let output = chat(&["q8.gguf", "Hello!", "-n", "2"], &folder);
    assert!(output.status.success() && !text(&output.stdout).contains("==="), "{output:?}");
    let many: Vec<String> = (0..10).map(|i| format!("{i}.gguf")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (args, expected) in [
        (&["q8.gguf", "Hello!", "q4.gguf"][..], "Hello!: no model of this name, and something follows it"),
        (&["q8.gguf", "nowhere.gguf"], "nowhere.gguf"),
        (&["q8.gguf", "q8.gguf", "-p", "x"], "q8.gguf: is named twice"),
        (&["q8.gguf", "Hello!", "-p", "x"], "a message after the model and one with -p"),
        (&["q8.gguf", "q4.gguf", "-p", "x", "--session", "s"], "--session is for one model"),
        (&["q8.gguf", "q4.gguf", "-p", "x", "--draft", "q4.gguf"], "--draft is for one model"),
        (&["q8.gguf", "q4.gguf", "-p", "x", "--tools", "t.json"], "--tools is for one model"),
        (&["q8.gguf", "q4.gguf", "-p", "x", "--lora", "a.gguf"], "--lora is for one model"),
        (&["q8.gguf", "-p", "x", "--blind"], "--blind is for several models"),
        (&["q8.gguf", "-p", "x", "--parallel"], "--parallel is for several models"),
        (&["--scores", "-p", "x"], "cannot be used with"),
        (&many, "10 models: at most 9 fit"),
    ] {
        let output = chat(args, &folder);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{args:?}: {output:?}");
        assert!(text(&output.stderr).contains(expected), "{args:?}: {output:?}");
    }
}

#[test]
fn votes_become_scores() {
    let folder = Folder::new("several-scores");
    let output = chat(&["--scores"], &folder);
    assert_eq!(text(&output.stdout), "no votes yet: /vote in a chat with several models keeps one\n");
    fs::create_dir(folder.path("gguf")).expect("a folder");
    let vote = |models: &[&str], winner: Option<&str>| {
        json!({ "version": 1, "models": models, "winner": winner, "blind": true, "message": "x" }).to_string()
    };
    let mut lines = vec![vote(&["small", "large"], Some("large")); 3];
    lines.push(vote(&["large", "small"], Some("small")));
    lines.push(vote(&["large", "small"], None));
    lines.push(vote(&["large", "small", "\x1b[31mred"], Some("large")));
    lines.push("{\"version\": 1, \"mod".to_owned());
    fs::write(folder.path("gguf/votes.jsonl"), lines.join("\n")).expect("written");
    let output = chat(&["--scores"], &folder);
    let shown = text(&output.stdout);
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["model", "rating", "wins", "losses", "ties"], "{shown}");
    assert_eq!((rows[1][0], &rows[1][2..]), ("large", &["5", "1", "1"][..]), "{shown}");
    assert!(rows.contains(&vec!["large", "small", "4", "1", "1"]), "{shown}");
    assert!(!shown.contains('\x1b'), "{shown}");
    let output = chat(&["--scores", "--json"], &folder);
    let scores: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&scores["version"], &scores["votes"]), (&json!(1), &json!(6)));
    assert_eq!(scores["pairs"][1], json!({ "models": ["large", "small"], "wins": [4, 1], "ties": 1 }));
    let rating = |i: usize| scores["models"][i]["rating"].as_f64().expect("a number");
    assert!(scores["models"][0]["name"] == "large" && rating(0) > 1050.0 && rating(1) < 1000.0, "{scores}");
}
