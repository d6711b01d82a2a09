//! Chromium, driven by `chromedriver` over plain HTTP as WebDriver describes it (w3.org/TR/webdriver2).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

/// What the answers' objects call an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser without a window; it ends with the test.
pub(crate) struct Browser {
    driver: Child,
    address: String,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser with the session.
        let _ = self.ask("DELETE", "", &Json::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Browser {
    pub(crate) fn start() -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().expect("chromedriver is installed");
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let port = lines.find_map(|line| {
            let line = line.expect("text");
            let (_, port) = line.rsplit_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        // Whatever else it has to say must find a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!("127.0.0.1:{}", port.expect("a port"));
        let mut browser = Self { driver, address, session: String::new() };
        let options = json!({ "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let value = browser.call("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session = format!("/session/{}", value["sessionId"].as_str().unwrap_or_else(|| panic!("{value}")));
        browser
    }

    /// A request to the driver; the value of its answer.
    fn call(&self, method: &str, path: &str, body: &Json) -> Json {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.address).expect("listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let (address, length) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all((head + &body).as_bytes()).expect("sent");
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line.is_empty() {
                break;
            }
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).expect("whole");
        let mut answer: Json = serde_json::from_slice(&bytes).expect("JSON");
        answer["value"].take()
    }

    fn ask(&self, method: &str, path: &str, body: &Json) -> Json {
        let value = self.call(method, &format!("{}{path}", self.session), body);
        if value.is_object() && value.get("error").is_some() { json!({ "failed": value["message"] }) } else { value }
    }

    /// A request that must not fail.
    fn must(&self, method: &str, path: &str, body: &Json) -> Json {
        let value = self.ask(method, path, body);
        assert!(value.get("failed").is_none(), "{path}: {}", value["failed"]);
        value
    }

    pub(crate) fn open(&self, url: &str) {
        self.must("POST", "/url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page; its result.
    pub(crate) fn script(&self, body: &str) -> Json {
        self.must("POST", "/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Waits until a script gives neither false nor nothing.
    pub(crate) fn wait(&self, condition: &str) -> Json {
        let start = Instant::now();
        loop {
            let value = self.script(&format!("return {condition}"));
            if !matches!(value, Json::Null | Json::Bool(false)) {
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "not so in time: {condition}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The last visible element of a selector.
    fn element(&self, selector: &str) -> String {
        let quoted = Json::from(selector);
        self.wait(&format!("[...document.querySelectorAll({quoted})].some((element) => element.checkVisibility())"));
        let found = self.script(&format!(
            "return [...document.querySelectorAll({quoted})].filter((element) => element.checkVisibility()).at(-1)"
        ));
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    /// Clicks the middle of the last such element, as a mouse does.
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.must("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Types into it, key by key; Enter is `\u{e007}`, Escape `\u{e00c}`.
    pub(crate) fn keys(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.must("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// The text of the last such element.
    pub(crate) fn text(&self, selector: &str) -> String {
        let element = self.element(selector);
        let text = self.must("GET", &format!("/element/{element}/text"), &Json::Null);
        text.as_str().expect("a text").to_owned()
    }

    pub(crate) fn count(&self, selector: &str) -> u64 {
        let count = self.script(&format!("return document.querySelectorAll({}).length", Json::from(selector)));
        count.as_u64().expect("a number")
    }

    /// A screen of so many points.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.must(
            "POST",
            "/goog/cdp/execute",
            &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": params }),
        );
    }

    /// What the page has complained of since the last time.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.must("POST", "/se/log", &json!({ "type": "browser" }));
        let severe = |entry: &&Json| entry["level"] == "SEVERE";
        log.as_array().expect("a list").iter().filter(severe).map(|entry| entry["message"].to_string()).collect()
    }
}
