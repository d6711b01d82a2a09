//! The program on a pseudo-terminal: a session of `gguf chat` as a person types it, and the pager.
#![allow(unsafe_code, reason = "the system's calls for pseudo-terminals")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::folder::Folder;

/// How long anything may take before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Rows of a terminal.
const ROWS: u16 = 40;

/// A program on a terminal of its own.
pub(crate) struct Terminal {
    keyboard: File,
    screen: Arc<(Mutex<Vec<u8>>, Condvar)>,
    child: Child,
    /// What has been looked at.
    seen: usize,
}

impl Terminal {
    /// Starts `gguf` with `args` on a terminal of so many columns.
    fn start(args: &[&str], columns: u16, folder: &Folder) -> Self {
        Self::start_in(args, columns, ROWS, folder)
    }

    /// The same with so many rows.
    pub(crate) fn start_in(args: &[&str], columns: u16, rows: u16, folder: &Folder) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
        command.args(args).current_dir(folder.root());
        Self::run_in(command, columns, rows, folder)
    }

    fn run(command: Command, columns: u16, folder: &Folder) -> Self {
        Self::run_in(command, columns, ROWS, folder)
    }

    fn run_in(mut command: Command, columns: u16, rows: u16, folder: &Folder) -> Self {
        let (mut master, mut slave) = (0, 0);
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the pointers are to live values, and null where the call allows it.
        let opened = unsafe {
            libc::openpty(&raw mut master, &raw mut slave, std::ptr::null_mut(), std::ptr::null(), &raw const size)
        };
        assert_eq!(opened, 0, "no pseudo-terminal");
        // SAFETY: both are open, and nobody else's.
        let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        command.env("TERM", "xterm").env("XDG_STATE_HOME", folder.root()).env_remove("NO_COLOR");
        let side = || Stdio::from(slave.try_clone().expect("a descriptor"));
        command.stdin(side()).stdout(side()).stderr(side());
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().expect("runs");
        drop((command, slave));
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().expect("a descriptor");
        let screen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                shared.0.lock().expect("a screen").extend_from_slice(&bytes[..n]);
                shared.1.notify_all();
            }
        });
        Self { keyboard, screen, child, seen: 0 }
    }

    /// Everything that has come, with the sequences that steer the terminal.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.screen.0.lock().expect("a screen").clone()
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("typed");
    }

    /// Waits for `text` after what has been looked at, and returns all from there to its end, without escapes.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let start = Instant::now();
        let (bytes, changed) = &*self.screen.clone();
        let mut bytes = bytes.lock().expect("a screen");
        loop {
            let shown = plain(&bytes);
            let new = &shown[self.seen..];
            if let Some(at) = new.find(text) {
                let upto = new[..at + text.len()].to_owned();
                self.seen += upto.len();
                return upto;
            }
            assert!(start.elapsed() < PATIENCE, "{text:?} has not come; there is {new:?}");
            bytes = changed.wait_timeout(bytes, Duration::from_millis(100)).expect("a screen").0;
        }
    }

    /// Everything that the program shows until it ends by itself.
    fn whole(self) -> String {
        let screen = self.screen.clone();
        assert_eq!(self.end(), Some(0));
        // The last bytes may still be on their way.
        std::thread::sleep(Duration::from_millis(100));
        plain(&screen.0.lock().expect("a screen"))
    }

    pub(crate) fn end(mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("has not ended; on the screen:\n{}", plain(&self.screen.0.lock().expect("a screen")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What is shown, without the sequences that steer the terminal.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                if chars.next() == Some('[') {
                    for c in chars.by_ref() {
                        if c.is_ascii_alphabetic() || c == '~' {
                            break;
                        }
                    }
                }
            }
            '\r' => {}
            c => out.push(c),
        }
    }
    out
}

#[test]
fn a_session_as_a_person_types_it() {
    let folder = Folder::new("chat-terminal");
    let saved = folder.path("saved.json");
    let saved = saved.to_str().expect("UTF-8");
    let mut chat = Terminal::start(&["chat", "-t", "0", "-c", "256", "-v"], 80, &folder);
    chat.expect("/help for commands");
    chat.expect("> ");
    chat.type_in("Hello!\n");
    chat.expect("Hello! I am a tiny storyteller.");
    chat.expect("context ");
    // Lines that come at once, as a paste without brackets: none is lost.
    chat.type_in("Who are you?\n/tokens\n/set top-k 7\n/set\n");
    chat.expect("I am a very small language model.");
    chat.expect("4 messages, ");
    chat.expect("top-k is 7");
    chat.expect("top-k 7");
    // Every command says what it did, and every range is known.
    for (line, answer) in [
        ("/set temperature -1", "temperature -1: must be a number from 0 to 2"),
        ("/set max-tokens abc", "max-tokens abc: must be a whole number from 0"),
        ("/set top_p 0.5", "top-p is 0.5"),
        ("/set parameter min_p 0.1", "min-p is 0.1"),
        ("/set repeat-last-n -1", "repeat-last-n is -1"),
        ("/set nonsense 1", "no setting is called nonsense"),
        ("/set system Be kind.", "the system prompt is set"),
        ("/system", "Be kind."),
        ("/system none", "no system prompt from here on"),
        ("/undo", "taken back: Who are you?"),
        ("/think on", "knows no thinking"),
        ("/load /nowhere/at/all", "No such file"),
    ] {
        chat.type_in(&format!("{line}\n"));
        chat.expect(answer);
    }
    chat.type_in(&format!("/save {saved}\n/save {saved}\n/clear\n/tokens\n/load {saved}\n/tokens\n"));
    chat.expect("2 messages written");
    chat.expect("--force replaces it");
    chat.expect("the conversation is forgotten");
    chat.expect("0 messages, ");
    chat.expect("2 messages read");
    chat.expect("2 messages, ");
    chat.type_in("/retry\n");
    chat.expect("Hello! I am a tiny storyteller.");
    chat.expect("seed ");
    // Three quotes on one line are one message; what only looks like a command is one too.
    chat.type_in("\"\"\"Hello!\"\"\"\n");
    chat.expect("seed ");
    chat.type_in("/home/me is a folder\n");
    chat.expect("seed ");
    // A message longer than the context: refused, and nothing is lost.
    chat.type_in("/tokens\n");
    chat.expect("6 messages, ");
    chat.type_in(&format!("{}\n/tokens\n", "word ".repeat(300)));
    chat.expect("do not fit the context of 256 (--context N sets a larger one");
    chat.expect("6 messages, ");
    // More than the context holds: said, and it goes on.
    chat.type_in("/set max-tokens 30\n");
    chat.expect("max-tokens is 30");
    for _ in 0..5 {
        chat.type_in("Tell me a long story about a fox and a child.\n");
        chat.expect("seed ");
    }
    chat.expect("full > ");
    assert!(plain(&chat.screen.0.lock().expect("a screen")).contains("are forgotten"));
    // Ctrl-C at the prompt does not end it; the end of the text does.
    chat.type_in("\x03");
    chat.expect("Ctrl-D or /exit ends");
    // Between two prompts the terminal itself would take the end of the text, and nobody would read it.
    chat.expect("> ");
    chat.type_in("\x04");
    assert_eq!(chat.end(), Some(0));
    // What was typed is there the next time.
    let mut chat = Terminal::start(&["chat", "-t", "0", "-n", "4"], 80, &folder);
    chat.expect("> ");
    chat.type_in("\x1b[A");
    chat.expect("Tell me a long story about a fox");
    chat.type_in("\x03");
    chat.expect("Ctrl-D or /exit ends");
    chat.type_in("/exit\n");
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn answers_stop_at_control_c_and_wrap_at_words() {
    let folder = Folder::new("chat-terminal-interrupt");
    let mut chat = Terminal::start(&["chat", "-t", "0", "-v", "-s", "Tell long stories."], 30, &folder);
    chat.expect("> ");
    chat.type_in("/set ignored\n");
    chat.expect("/set lists them");
    chat.expect("> ");
    chat.type_in("Tell me a story.\n");
    let story = chat.expect("\n\n") + &chat.expect("seed ");
    let lines: Vec<&str> = story.lines().filter(|line| !line.contains("> ") && !line.contains("tokens")).collect();
    assert!(lines.len() > 3, "{story}");
    for line in &lines {
        assert!(line.chars().count() <= 30, "{line:?} in {story}");
    }
    // Ctrl-C while an answer runs: the answer stops, the conversation goes on.
    chat.type_in("/set max-tokens 900\n/set repeat-penalty 1.3\n");
    chat.expect("repeat-penalty is 1.3");
    chat.type_in("Tell me a story about a fox, a bear, a kite, a king, a ship and the sea.\n");
    chat.expect("sea.");
    chat.expect(" was ");
    chat.type_in("\x03");
    chat.expect("seed ");
    chat.type_in("/tokens\n/exit\n");
    chat.expect("4 messages");
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn the_prompt_stays_out_of_standard_output() {
    let folder = Folder::new("chat-terminal-tee");
    let log = folder.path("log");
    let script = format!("{} chat -t 0 | cat > {}", env!("CARGO_BIN_EXE_gguf"), log.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]);
    let mut chat = Terminal::run(shell, 80, &folder);
    chat.expect("> ");
    chat.type_in("Hello!\n");
    chat.expect("> ");
    chat.type_in("/exit\n");
    assert_eq!(chat.end(), Some(0));
    let text = std::fs::read_to_string(log).expect("a log");
    assert_eq!(text, "Hello! I am a tiny storyteller. Ask me for a story about an animal, a child or a place.\n");
}

/// What a command shows on a terminal of forty rows, with these variables.
fn shown(args: &[&str], variables: &[(&str, &str)], folder: &Folder) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    command.args(args).env_remove("PAGER").env_remove("GGUF_PAGER").env_remove("NO_PAGER");
    command.envs(variables.iter().copied());
    Terminal::run(command, 80, folder).whole()
}

#[test]
fn what_is_longer_than_the_terminal_goes_through_a_pager() {
    let folder = Folder::new("pager");
    let marks = ("PAGER", "sed 's/^/PAGED /'");
    for args in [&["inspect", "--full"][..], &["inspect", "--vocab"], &["inspect", "--tensors"], &["chat", "--help"]] {
        let paged = shown(args, &[marks], &folder);
        assert!(
            paged.lines().count() > 40 && paged.lines().all(|line| line.starts_with("PAGED ")),
            "{args:?}: {paged}"
        );
        // The same text, without a pager: none is wanted, or there is none.
        let text = paged.replace("PAGED ", "");
        for none in
            [&[("PAGER", "")][..], &[("PAGER", "cat")], &[marks, ("NO_PAGER", "1")], &[marks, ("GGUF_PAGER", "")]]
        {
            assert!(shown(args, none, &folder) == text, "{args:?} {none:?}");
        }
        let missing = shown(args, &[("PAGER", "no-such-pager-anywhere")], &folder);
        assert!(missing.ends_with(&text), "{args:?}: {missing}");
    }
    // The program's own variable counts more.
    assert!(shown(&["help", "chat"], &[marks, ("GGUF_PAGER", "sed 's/^/OURS /'")], &folder).starts_with("OURS "));
    // What fits is printed; so is everything in a pipe.
    assert!(!shown(&["inspect"], &[marks], &folder).contains("PAGED"));
    assert!(!shown(&["man", "--help"], &[marks], &folder).contains("PAGED"));
    let piped = Command::new(env!("CARGO_BIN_EXE_gguf")).args(["inspect", "--full"]).env(marks.0, marks.1).output();
    assert!(!String::from_utf8_lossy(&piped.expect("runs").stdout).contains("PAGED"));
    // A reader who has seen enough, and Ctrl-C, which is the pager's.
    assert!(shown(&["inspect", "--full"], &[("PAGER", "head -n 2")], &folder).lines().count() == 2);
    // It comes when all has been read: before that, it would end `cat`.
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    command
        .args(["inspect", "--full"])
        .env("PAGER", "trap 'echo caught' INT; cat > all; echo waits; read x < /dev/tty");
    command.current_dir(folder.root());
    let mut program = Terminal::run(command, 80, &folder);
    program.expect("waits");
    program.type_in("\x03");
    program.expect("caught");
    program.type_in("\n");
    assert_eq!(program.end(), Some(0));
    assert!(std::fs::read_to_string(folder.path("all")).expect("written").contains("general.architecture"));
}
