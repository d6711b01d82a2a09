//! Manners of a terminal program that all commands share: inputs that are never overwritten, remarks that nobody can
//! read, names that could steer a terminal, examples that run.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use gguf_toolkit::files::Overwrite;
use gguf_toolkit::gguf::{Reader, SplitWriter, TensorInfo, TensorSpec};

use super::folder::Folder;
use super::quantize_command::{gguf, names, storyteller, text};
use super::shared::testdata;

/// Runs a command line in a shell whose `gguf` is the program.
fn shell(line: &str, folder: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_gguf")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(folder).env("PATH", path).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    // A command that reads nothing has gone before this is written.
    let _ = child.stdin.take().expect("piped").write_all(b"Once upon a time");
    child.wait_with_output().expect("ends")
}

#[test]
fn no_command_overwrites_what_it_reads() {
    let folder = Folder::new("manners-inputs");
    storyteller(&folder);
    let model = fs::read(folder.path("storyteller-F16.gguf")).expect("there");
    fs::hard_link(folder.path("storyteller-F16.gguf"), folder.path("hard.gguf")).expect("linked");
    std::os::unix::fs::symlink("storyteller-F16.gguf", folder.path("soft.gguf")).expect("linked");
    fs::write(folder.path("types.txt"), "attn_v=q8_0").expect("written");
    fs::create_dir(folder.path("checkpoint")).expect("a folder");
    for entry in fs::read_dir(testdata("storyteller")).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.path("checkpoint").join(path.file_name().expect("a name"))).expect("copied");
    }
    let files =
        ["added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "model.safetensors.index.json"];
    for file in files {
        fs::write(folder.path("checkpoint").join(file), "{}").expect("written");
    }
    let before = names(&folder);
    let commands = [
        "gguf logits storyteller-F16.gguf hi -o storyteller-F16.gguf --force",
        "gguf logits storyteller-F16.gguf hi -o hard.gguf --force",
        "gguf logits storyteller-F16.gguf hi -o soft.gguf --force",
        "gguf quantize storyteller-F16.gguf -t Q8_0 -o hard.gguf --force",
        "gguf quantize storyteller-F16.gguf -t Q8_0 --tensor-type-file types.txt -o types.txt --force",
        "gguf quantize storyteller-F16.gguf -t Q8_0 --tensor-type-file types.txt -o types.txt --force --dry-run",
        "gguf convert checkpoint -o checkpoint/config.json --force",
        "gguf convert checkpoint -o checkpoint/generation_config.json --force",
        "gguf convert checkpoint -o checkpoint/added_tokens.json --force",
        "gguf convert checkpoint -o checkpoint/model.safetensors --force",
        // Other files of the checkpoint, which were not needed.
        "gguf convert checkpoint -o checkpoint/vocab.json --force",
        "gguf convert checkpoint -o checkpoint/merges.txt --force",
        "gguf convert checkpoint -o checkpoint/chat_template.jinja --force",
        "gguf convert checkpoint -o checkpoint/model.safetensors.index.json --force",
    ];
    for command in commands {
        let output = shell(command, folder.root());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {stderr}");
        assert!(stderr.contains(": is an input, and would be overwritten"), "{command}: {stderr}");
        assert_eq!(names(&folder), before, "{command}");
    }
    assert_eq!(fs::read(folder.path("storyteller-F16.gguf")).expect("there"), model);
    // What is no input is replaced with --force, and with it alone.
    fs::write(folder.path("checkpoint/old.gguf"), "old").expect("written");
    assert_eq!(shell("gguf convert checkpoint -o checkpoint/old.gguf", folder.root()).status.code(), Some(2));
    assert_eq!(shell("gguf convert checkpoint -o checkpoint/old.gguf --force", folder.root()).status.code(), Some(0));
}

#[test]
fn the_demo_replaces_nothing_unless_forced() {
    let folder = Folder::new("manners-demo");
    fs::write(folder.path("storyteller-q5_k_m.gguf"), "mine").expect("written");
    let output = gguf(&["demo", "--keep", "."], folder.root());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(text(&output.stderr), "error: ./storyteller-q5_k_m.gguf: exists already (--force replaces it)\n");
    assert_eq!(names(&folder), ["storyteller-q5_k_m.gguf"]);
}

/// Every command that says something on standard error, where that cannot be written.
#[test]
fn remarks_that_cannot_be_written_change_nothing() {
    let folder = Folder::new("manners-stderr");
    storyteller(&folder);
    let checkpoint = testdata("storyteller").display().to_string();
    let commands = [
        ("gguf logits --ids 1 >/dev/null", 0),
        ("gguf tokenize hi >/dev/null", 0),
        ("gguf chat -p hi -n 2 --verbose >/dev/null", 0),
        ("gguf inspect nowhere.gguf", 2),
        ("gguf quantize storyteller-F16.gguf -t Q4_K_M -o q.gguf", 0),
        ("gguf bench --shape llama-tiny --save tiny.gguf", 0),
        (&format!("gguf convert {checkpoint} -o c.gguf"), 0),
        ("gguf no-such-command", 2),
    ];
    for (command, code) in commands {
        for where_to in ["2>/dev/full", "2>&-"] {
            let output = shell(&format!("rm -f q.gguf c.gguf tiny.gguf; {command} {where_to}"), folder.root());
            assert_eq!(output.status.code(), Some(code), "{command} {where_to}");
            let made =
                command.split_whitespace().last().filter(|name| command.contains("-o ") && name.ends_with(".gguf"));
            assert!(made.is_none_or(|name| folder.path(name).exists()), "{command} {where_to}");
        }
    }
    for command in ["gguf inspect", "gguf tokenize hi", "gguf quantize --list-types", "gguf logits --ids 1"] {
        let output = shell(&format!("{command} >/dev/full"), folder.root());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(stderr.contains("error: No space left on device"), "{command}: {stderr}");
    }
}

#[test]
fn names_of_files_cannot_steer_the_terminal() {
    let folder = Folder::new("manners-names");
    storyteller(&folder);
    fs::rename(folder.path("storyteller-F16.gguf"), folder.path("\x1b[31mred.gguf")).expect("renamed");
    fs::write(folder.path("text.txt"), "Once upon a time there was a dog. ".repeat(20)).expect("written");
    let commands = [
        "gguf inspect $'\\e[31mred.gguf'",
        "gguf tokenize $'\\e[31mred.gguf' hi",
        "gguf logits $'\\e[31mred.gguf' hi -o $'\\e[31mx.st'",
        "gguf perplexity $'\\e[31mred.gguf' -c 64 --chunks 1 -f text.txt",
        "gguf perplexity $'\\e[31mred.gguf' -f /dev/null",
        "gguf bench $'\\e[31mred.gguf' -p 4 -n 1 -r 1",
        "gguf bench --shape llama-tiny --save $'\\e[31mtiny.gguf'",
        "gguf chat $'\\e[31mred.gguf' -p hi -n 2 -t 0",
        "gguf quantize $'\\e[31mred.gguf' -t Q8_0",
        "gguf inspect $'\\e[31mnone.gguf'",
        "gguf convert $'\\e[31mnone'",
        "gguf detokenize $'\\e[31mred.gguf' 99999",
    ];
    for command in commands {
        let output = shell(command, folder.root());
        for bytes in [&output.stdout, &output.stderr] {
            assert!(!bytes.contains(&0x1b), "{command}: {:?}", String::from_utf8_lossy(bytes));
        }
    }
}

/// Does what a user of another account sees: a dry run tells of a folder that cannot be written to.
#[test]
fn dry_runs_tell_of_folders_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("manners-folder");
    storyteller(&folder);
    let program = folder.path("gguf");
    fs::copy(env!("CARGO_BIN_EXE_gguf"), &program).expect("copied");
    fs::set_permissions(folder.root(), fs::Permissions::from_mode(0o555)).expect("set");
    let mut command = Command::new(&program);
    command.args(["quantize", "storyteller-F16.gguf", "-t", "Q8_0", "--dry-run"]).current_dir(folder.root());
    // The superuser may write anywhere.
    if fs::write(folder.path("probe"), "").is_ok() {
        fs::remove_file(folder.path("probe")).expect("removed");
        command.uid(65534);
    }
    let output = command.output().expect("runs");
    fs::set_permissions(folder.root(), fs::Permissions::from_mode(0o755)).expect("set");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr.starts_with("error: storyteller-Q8_0.gguf: cannot create: Permission denied"), "{stderr}");
}

/// The examples in the help of a command. A long one is broken over two lines there.
fn examples(command: &str, folder: &Path) -> Vec<String> {
    let help = gguf(&[command, "--help"], folder);
    let help = text(&help.stdout).to_owned();
    let lines = help.lines().skip_while(|line| !line.starts_with("Examples:")).skip(1);
    let mut examples: Vec<String> = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()).map(str::trim) {
        match examples.last_mut() {
            Some(last) if !["gguf ", "cat ", "GGUF_MODELS="].iter().any(|first| line.starts_with(first)) => {
                last.push(' ');
                last.push_str(line);
            }
            _ => examples.push(line.to_owned()),
        }
    }
    examples
}

/// Names of all commands, as the help lists them.
fn commands(folder: &Path) -> Vec<String> {
    let help = gguf(&["--help"], folder);
    let help = text(&help.stdout).to_owned();
    let lines = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    lines
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

/// What an example names is the small model here, and what takes minutes takes a second.
fn made_small(example: &str) -> String {
    let small = [
        ("llama-1b", "llama-tiny"),
        ("-c 256 --chunks 100", ""),
        // The folder has importance matrices as well.
        ("perplexity *.gguf", "perplexity model*.gguf"),
        ("wiki.test.raw", "text.txt"),
        ("0,4096", "0,64"),
        ("2G", "2M"),
        ("--port 9000", ""),
        ("--measure 5m", "--measure 1"),
        ("http://127.0.0.1:8080", "$(sed -n 's/^serving at //p' out.txt)"),
        ("--requests 64", "--requests 4 --max-tokens 4"),
    ];
    let example = small.iter().fold(example.to_owned(), |line, (from, to)| line.replace(from, to));
    let more = match example.split_whitespace().nth(1) {
        // It measures a server.
        Some("bench" | "ps") if example.contains("--url") => "; code=$?; kill $!; exit $code",
        Some("bench") if !example.contains("--save") => "-r 1",
        Some("perplexity") if example.contains("--tasks") || example.contains("--per-task") => "",
        Some("perplexity") if example.contains("--multiple-choice") => "",
        Some("perplexity") if !example.contains("--chunks") => "--chunks 2",
        Some("compare") => "-c 64 --chunks 2",
        Some("imatrix") if example.contains("-f ") => "-c 64 --chunks 2",
        Some("chat" | "run") => "-n 8",
        // It is ended as soon as it serves.
        Some("serve") => {
            "--port 0 > out.txt & while ! grep -q serving out.txt && kill -0 $!; do sleep 0.05; done; kill $!; wait $!"
        }
        // Its default output is the model that another example names.
        Some("merge") if !example.contains(" -o ") => "-o joined.gguf",
        _ => "",
    };
    let (line, comment) = example.split_once(" #").unwrap_or((&example, ""));
    let pipe = line.find(" |").filter(|_| !line.starts_with("cat ")).unwrap_or(line.len());
    let before = if example.contains("--url") {
        "gguf serve --port 0 > out.txt & while ! grep -q serving out.txt && kill -0 $!; do sleep 0.05; done; "
    } else {
        ""
    };
    format!("{before}{} {more} {} # {comment}", &line[..pipe], &line[pipe..])
}

/// Lays out the files that examples name.
fn lay_out(folder: &Folder) {
    storyteller(folder);
    let model = folder.path("storyteller-F16.gguf");
    for name in ["model.gguf", "f16.gguf", "q4_k_m.gguf", "llama-f16.gguf", "llama-F16.gguf"] {
        fs::copy(&model, folder.path(name)).expect("copied");
    }
    split_in_three(&model, &folder.path("llama-F16.gguf"));
    fs::remove_file(&model).expect("removed");
    std::os::unix::fs::symlink(testdata("storyteller"), folder.path("Llama-3.2-1B-Instruct")).expect("linked");
    let held_out = fs::read_to_string(testdata("storyteller/heldout.txt")).expect("text");
    for name in ["text.txt", "book.txt", "letter.txt", "prompt.txt"] {
        let wanted = if name == "text.txt" { held_out.len() } else { 600 };
        let end = (0..=wanted).rev().find(|&end| held_out.is_char_boundary(end)).unwrap_or(0);
        fs::write(folder.path(name), &held_out[..end]).expect("written");
    }
    for (name, tasks) in
        [("hellaswag.txt", "hellaswag.txt"), ("winogrande.csv", "winogrande.csv"), ("mmlu.bin", "multiple-choice.bin")]
    {
        fs::copy(testdata("tasks").join(tasks), folder.path(name)).expect("copied");
    }
    super::adapters::write_small(&testdata("storyteller"), &folder.path("my-adapter"));
    fs::write(folder.path("chat.jinja"), "{{ messages[0].content }}").expect("written");
    fs::write(folder.path("ids.txt"), "1 403 1501").expect("written");
    fs::write(folder.path("Modelfile"), "FROM llama3.2:1b\nSYSTEM Answer in one sentence.\n").expect("written");
    fs::write(folder.path("keys.txt"), "secret\n").expect("written");
    let line = "gguf imatrix model.gguf -f text.txt -c 64 --chunks 2 -o part.imatrix.gguf";
    assert!(shell(line, folder.root()).status.success(), "{line}");
    for name in ["news.imatrix.gguf", "code.imatrix.gguf"] {
        fs::copy(folder.path("part.imatrix.gguf"), folder.path(name)).expect("copied");
    }
}

/// Writes a model once more, as three files.
fn split_in_three(from: &Path, to: &Path) {
    let reader = Reader::open(from).expect("opens");
    let spec = |t: &TensorInfo| TensorSpec { name: t.name.clone(), shape: t.shape.clone(), ty: t.ty };
    let shards: Vec<Vec<TensorSpec>> = reader
        .tensors()
        .chunks(reader.tensors().len().div_ceil(3))
        .map(|part| part.iter().map(spec).collect())
        .collect();
    let mut writer = SplitWriter::create(to, Overwrite::Refuse, reader.metadata(), &shards).expect("created");
    for tensor in reader.tensors() {
        writer.write_tensor(&reader.data(tensor).expect("mapped")).expect("written");
    }
    writer.finish().expect("finished");
}

#[test]
fn every_example_of_every_help_runs() {
    let folder = Folder::new("manners-examples");
    let (mut run, mut failed) = (0, Vec::new());
    #[cfg(feature = "net")]
    let model = fs::read(storyteller(&folder)).expect("read");
    #[cfg(feature = "net")]
    let (_servers, net) = super::servers::of_examples(&model, &testdata("storyteller"));
    #[cfg(not(feature = "net"))]
    let net = "true";
    let made = Folder::new("manners-reranker");
    drop(super::rerankers::converted(&made, "bert"));
    for command in commands(folder.root()) {
        for example in examples(&command, folder.root()) {
            for entry in fs::read_dir(folder.root()).expect("a folder") {
                let path = entry.expect("an entry").path();
                let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            }
            lay_out(&folder);
            fs::copy(made.path("bert.gguf"), folder.path("reranker.gguf")).expect("copied");
            fs::write(folder.path("documents.txt"), "Cats eat mice.\nStocks fell on Monday.\n").expect("written");
            let mut line = made_small(&example);
            if ["rm", "show", "cp", "create"].contains(&&*command) {
                line = format!("gguf pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0 llama3.2:1b && {line}");
            }
            let output = shell(
                &format!(
                    "{net}; export HOME=$PWD/home; mkdir -p home/.local/share/bash-completion/completions home/.config/fish/completions; {line}"
                ),
                folder.root(),
            );
            if !output.status.success() {
                failed.push(format!(
                    "{example}
  {}",
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
            run += 1;
        }
    }
    assert!(failed.is_empty(), "{} examples fail:\n{}", failed.len(), failed.join("\n"));
    assert!(run > 40, "{run} examples");
}

#[test]
fn quiet_means_errors_alone() {
    let folder = Folder::new("manners-quiet");
    storyteller(&folder);
    let told = gguf(&["quantize", "storyteller-F16.gguf", "-t", "Q8_0", "-o", "loud.gguf"], folder.root());
    assert!(text(&told.stderr).contains("loud.gguf: "), "{told:?}");
    for quiet in ["-q", "--quiet"] {
        let args = ["quantize", "storyteller-F16.gguf", "-t", "Q8_0", "-o", "q.gguf", "--force", quiet];
        let output = gguf(&args, folder.root());
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    }
    // Before the command as well; results and errors are printed all the same.
    let output = gguf(&["-q", "inspect", "q.gguf", "nowhere.gguf"], folder.root());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("architecture"), "{output:?}");
    assert!(text(&output.stderr).starts_with("error: nowhere.gguf: "), "{output:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = Folder::new("manners-man");
    let output = gguf(&["man", "pages"], folder.root());
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""), "{output:?}");
    let help = gguf(&["--help"], folder.root());
    let commands: Vec<&str> = text(&help.stdout)
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        // Not what goes on in the next line.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    for command in &commands {
        let page = fs::read_to_string(folder.path(&format!("pages/gguf-{command}.1"))).expect("a page");
        let (name, usage) = (format!("gguf\\-{command}"), format!("\\fBgguf {command}\\fR"));
        assert!(page.contains(".SH NAME") && page.contains(&name), "{command}: {page}");
        assert!(page.contains(".SH SYNOPSIS") && page.contains(&usage), "{command}: {page}");
        assert!(page.contains(".SH OPTIONS") && page.contains("\\fB\\-\\-help\\fR"), "{command}: {page}");
        assert!(page.contains(".nf\n") && page.contains(".fi\n"), "{command} has no examples: {page}");
    }
    let pages = fs::read_dir(folder.path("pages")).expect("a folder").count();
    assert_eq!(pages, commands.len() + 1);
    let whole = gguf(&["man"], folder.root());
    assert!(fs::read(folder.path("pages/gguf.1")).expect("a page") == whole.stdout);
    assert!(text(&whole.stdout).contains("gguf\\-quantize(1)"), "{}", text(&whole.stdout));
    // Pages are outputs like others.
    let again = gguf(&["man", "pages"], folder.root());
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists already (--force replaces it)"), "{again:?}");
    assert!(gguf(&["man", "pages", "--force"], folder.root()).status.success());
}
