//! The page of `gguf serve`: what is sent to whom, and with real clicks, what it does in Chromium.

use serde_json::{Value as Json, json};

use crate::browser::Browser;
use crate::served::Served;

/// What Chromium says that it takes.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

/// A header of an answer's head, which is in small letters.
fn header<'h>(head: &'h str, name: &str) -> &'h str {
    head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default()
}

#[test]
fn browsers_get_the_page_and_other_clients_what_they_had() {
    let served = Served::start("");
    let page = served.request("GET", "/", BROWSER, "");
    assert_eq!((page.status, header(&page.head, "content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
    assert_eq!(header(&page.head, "vary"), "accept");
    let policy = header(&page.head, "content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("data:"), "{policy}");
    for other in ["", "Accept: */*\r\n", "Accept: application/json\r\n"] {
        assert_eq!(served.request("GET", "/", other, "").body, "Ollama is running");
    }
    assert_eq!(served.request("POST", "/", BROWSER, "").status, 405);
    let head = served.request("HEAD", "/", BROWSER, "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn files_have_types_tags_and_the_policy() {
    let served = Served::start("");
    let page = served.request("GET", "/", BROWSER, "");
    let mut files: Vec<&str> = page.body.split("=\"/page/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    files.push("markdown.js");
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        let answer = served.request("GET", &format!("/page/{file}"), "Accept: */*\r\n", "");
        let kind = match file.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!((answer.status, header(&answer.head, "content-type")), (200, kind), "{file}");
        assert_eq!(header(&answer.head, "x-content-type-options"), "nosniff");
        assert_eq!(header(&answer.head, "cache-control"), "no-cache");
        assert!(!header(&answer.head, "content-security-policy").is_empty());
        let known = format!("If-None-Match: {}\r\n", header(&answer.head, "etag"));
        let again = served.request("GET", &format!("/page/{file}"), &known, "");
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{file}");
    }
    for missing in ["/page/", "/page/nothing.js", "/page/../serve/mod.rs", "/page/%2e%2e/mod.rs"] {
        assert_eq!(served.request("GET", missing, BROWSER, "").status, 404, "{missing}");
    }
}

#[test]
fn the_page_needs_no_key_but_a_known_host() {
    let served = Served::start("--api-key secret");
    assert_eq!(served.request("GET", "/", BROWSER, "").status, 200);
    assert_eq!(served.request("GET", "/page/main.js", "", "").status, 200);
    // What the page asks for needs the key, and so does what others get there.
    assert_eq!(served.request("GET", "/", "", "").status, 401);
    assert_eq!(served.request("GET", "/v1/models", "", "").status, 401);
    for path in ["/", "/page/main.js"] {
        let stranger = format!("{BROWSER}Host: evil.example\r\n");
        assert_eq!(served.request("GET", path, &stranger, "").status, 403, "{path}");
    }
}

#[test]
fn a_server_may_have_no_page() {
    let served = Served::start("--no-page");
    assert_eq!(served.request("GET", "/", BROWSER, "").body, "Ollama is running");
    assert_eq!(served.request("GET", "/page/main.js", "", "").status, 404);
}

/// The page in a browser, ready for a prompt.
fn shown(served: &Served) -> Browser {
    let browser = Browser::start();
    browser.open(&format!("http://{}/", served.address));
    browser.wait("document.querySelector('.pane-head select')?.value === 'storyteller'");
    browser
}

const IDLE: &str = "!document.body.classList.contains('busy')";

/// Sends a prompt and waits for the answers.
fn ask(browser: &Browser, prompt: &str) {
    let before = browser.count(".message.assistant");
    browser.keys("#prompt", &format!("{prompt}{ENTER}"));
    browser.wait(&format!("document.querySelectorAll('.message.assistant').length > {before} && {IDLE}"));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_conversation_in_a_browser() {
    let served = Served::start("-n 24");
    let browser = shown(&served);
    ask(&browser, "Tell me a story.");
    let first = browser.text(".message.assistant .content");
    assert!(first.len() > 10, "{first}");
    let stats = browser.text(".stats");
    assert!(stats.contains("24 tokens") && stats.contains("tokens/s") && stats.contains("first after"), "{stats}");
    assert!(browser.text(".notes").contains("Cut off"));

    // The same answer with its probabilities, of which one leads to another.
    browser.click("[data-act=showTokens]");
    browser.wait("document.querySelectorAll('.token').length > 10");
    assert_eq!(browser.text(".versions"), "2/2");
    let tokens =
        browser.script("return [...document.querySelectorAll('.token')].map((token) => token.textContent).join('')");
    assert!(tokens.as_str().is_some_and(|text| text.trim().starts_with(&first[..10])), "{tokens} {first}");
    browser.click(".token:nth-child(3)");
    browser.click(".alternatives button");
    browser.wait(&format!("document.querySelector('.message.assistant .versions').textContent === '3/3' && {IDLE}"));
    browser.click("[data-act='turn-1']");
    browser.click("[data-act='turn-1']");
    assert_eq!(browser.text(".message.assistant .content"), first);

    // Another prompt in place of the first; both stay.
    browser.click(".message.user [data-act=edit]");
    browser.keys(".edit textarea", &format!(" Now!{ENTER}"));
    browser.wait(&format!("document.querySelector('.message.user .versions')?.textContent === '2/2' && {IDLE}"));
    assert_eq!(browser.text(".message.user .content"), "Tell me a story. Now!");
    browser.click(".message.user [data-act='turn-1']");
    assert_eq!(browser.text(".message.user .content"), "Tell me a story.");

    // All of it is there again after the page was left.
    browser.wait("document.querySelectorAll('.item').length === 1");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let here = browser.script("return location.href");
    browser.open("about:blank");
    browser.open(here.as_str().expect("an address"));
    browser.wait("document.querySelectorAll('.message').length === 2");
    assert_eq!(browser.text(".message.assistant .content"), first);
    assert_eq!(browser.text("#title"), "Tell me a story.");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn answers_are_stopped_and_gone_on_with() {
    // The end of an answer never comes by itself.
    let served = Served::start("-n 3000 --ctx 4000");
    let browser = shown(&served);
    browser.click(".open-settings");
    browser.keys("#settings [data-name=temperature]", "1.5");
    browser.click("#settings button.main");
    browser.keys("#prompt", &format!("A long story{ENTER}"));
    browser.wait("document.querySelector('.message.assistant .content')?.textContent.length > 5");
    browser.keys("#prompt", ESCAPE);
    browser.wait(IDLE);
    if browser.text(".message.assistant").contains("Stopped.") {
        let before = browser.text(".message.assistant .content");
        browser.click(".notes button");
        browser.wait("document.querySelector('.message.assistant .notes').textContent === ''");
        browser.keys("#prompt", ESCAPE);
        browser.wait(IDLE);
        assert!(browser.text(".message.assistant .content").starts_with(&before));
        assert_eq!(browser.count(".message"), 2);
    }
    drop(served);
    // The server is gone.
    ask(&browser, "And now?");
    assert!(browser.text(".error").contains("cannot be reached"));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn conversations_are_found_renamed_deleted_and_brought_back() {
    let served = Served::start("-n 4");
    let browser = shown(&served);
    ask(&browser, "About whales");
    browser.click(".side-head .new");
    browser.wait("document.querySelectorAll('.message').length === 0");
    ask(&browser, "About trains");
    browser.wait("document.querySelectorAll('.item').length === 2");
    browser.keys("body", "\u{e009}k\u{e000}");
    browser.wait("document.activeElement.type === 'search'");
    browser.keys("#sidebar input[type=search]", "WHALES");
    browser.wait("document.querySelectorAll('.item').length === 1");
    browser.click(".item .open");
    browser.wait("document.querySelector('#title').textContent === 'About whales'");
    browser.click("[aria-label='Rename About whales']");
    browser.keys(".item input", &format!("<b>Sea</b>{ENTER}"));
    browser.wait("document.querySelector('#title').textContent === '<b>Sea</b>'");
    browser.click("[aria-label='Delete <b>Sea</b>']");
    browser.wait("document.querySelectorAll('.item').length === 0 && document.querySelector('.toast')");
    browser.click(".toast button:not(.icon-button)");
    browser.wait("document.querySelectorAll('.item').length === 1");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn panes_side_by_side_on_a_desk_and_a_telephone() {
    let served = Served::start("-n 8");
    let browser = shown(&served);
    browser.click("#add-pane");
    browser.wait("document.querySelectorAll('.pane').length === 2");
    ask(&browser, "Both of you");
    assert_eq!((browser.count(".message.user"), browser.count(".message.assistant")), (2, 2));
    for (width, height) in [(1920, 1080), (1024, 768), (390, 844)] {
        browser.resize(width, height);
        let fits = format!("document.documentElement.scrollWidth <= {width} && innerWidth === {width}");
        browser.wait(&fits);
        let inside =
            "[...document.querySelectorAll('.messages')].every((part) => part.scrollWidth <= part.clientWidth)";
        browser.wait(inside);
    }
    // On a telephone, the list covers the conversation.
    assert_eq!(browser.script("return document.querySelector('#sidebar').inert"), true);
    browser.click("#menu");
    browser.click(".item .open");
    browser.wait("document.querySelector('#sidebar').inert");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// What Hugging Face has is searched, shown with badges, fetched with a bar, loaded and unloaded.
#[cfg(feature = "net")]
#[test]
#[ignore = "needs chromium and chromedriver"]
fn models_are_found_fetched_and_loaded() {
    use super::folder::Folder;
    use super::pull::{model_bytes, noise, program};
    use super::servers::{Hub, Server};
    let home = Folder::new("page-models");
    let hub = Hub::default().with("org/Tiny-GGUF", "tiny-F16.gguf", model_bytes("page-models-model")).with(
        "org/Tiny-GGUF",
        "tiny-Q8_0.gguf",
        noise(4096, 1),
    );
    // Slow enough to be seen.
    let hub = Server::start(move |request| {
        let mut reply = hub.answer(request);
        reply.pause = std::time::Duration::from_millis(if request.is_for_a_file() { 20 } else { 0 });
        reply
    });
    std::fs::write(home.path("report.html"), "<!doctype html><title>Report</title><h1>Compared</h1>").expect("written");
    let served = Served::with(program(home.root(), &hub.url, &hub.url), "--manage --report report.html");
    let browser = shown(&served);
    browser.click("#library-button");
    browser
        .wait("document.querySelector('#own-models [data-model=storyteller] .badge.good')?.textContent === 'loaded'");
    browser.keys("#library input[type=search]", &format!("nothing of this name{ENTER}"));
    browser.wait("document.querySelector('#found-models').textContent === 'Nothing found.'");
    browser.script("document.querySelector('#library input[type=search]').value = ''");
    browser.keys("#library input[type=search]", &format!("tiny{ENTER}"));
    browser.click("#found-models .repository");
    let row = "#found-models [data-model='org/Tiny-GGUF:F16']";
    browser.wait(&format!("document.querySelector(\"{row} .badge.good\")?.textContent === 'fits'"));
    let about = browser.text(&format!("{row} .hint"));
    assert!(about.contains("7.40 MB") && about.contains("bits/weight") && about.contains("tokens/s"), "{about}");
    browser.click(&format!("{row} button"));
    browser.wait(&format!(
        "(({{ value }}) => value > 0 && value < 1)(document.querySelector(\"{row} progress\") ?? {{}})"
    ));
    for (width, height) in [(1920, 1080), (1024, 768), (390, 844)] {
        browser.resize(width, height);
        let inside =
            "(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(document.querySelector('.library-body'))";
        browser.wait(&format!("document.documentElement.scrollWidth <= {width} && {inside}"));
    }
    // It is here, and the server offers it.
    browser
        .wait(&format!("[...document.querySelectorAll(\"{row} .badge\")].some((part) => part.textContent === 'here')"));
    let own = "#own-models [data-model='org/Tiny-GGUF:F16']";
    browser.wait(&format!("document.querySelector(\"{own} .badge.good\")?.textContent === 'fits'"));
    browser.click(&format!("{own} button"));
    browser.wait(&format!("document.querySelector(\"{own} .badge.good\")?.textContent === 'loaded'"));
    browser.click(&format!("{own} button"));
    browser.wait(&format!("document.querySelector(\"{own} .badge.good\")?.textContent === 'fits'"));
    browser.wait("document.querySelector('#library a').getAttribute('href') === '/report'");
    browser.click("#library header button");
    browser.wait(
        "[...document.querySelectorAll('.pane-head option')].some((option) => option.value === 'org/Tiny-GGUF:F16')",
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
    browser.open(&format!("http://{}/report", served.address));
    browser.wait("document.querySelector('h1').textContent === 'Compared'");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_server_that_fetches_nothing_says_so() {
    let served = Served::start("");
    let browser = shown(&served);
    browser.click("#library-button");
    browser.wait("document.querySelector('#library').textContent.includes('started with --manage')");
    assert_eq!(browser.count("#library input, #library a"), 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_key_and_a_schema() {
    let served = Served::start("--api-key secret");
    let browser = Browser::start();
    browser.open(&format!("http://{}/", served.address));
    browser.keys("#key input", &format!("wrong{ENTER}"));
    browser.wait("document.querySelector('#key').textContent.includes('does not know')");
    browser.keys("#key input", &format!("secret{ENTER}"));
    browser.wait("document.querySelector('.pane-head select')?.value === 'storyteller'");
    assert_eq!(
        browser.script("return [sessionStorage.getItem('api-key'), JSON.stringify(localStorage).includes('secret')]"),
        json!(["secret", false])
    );
    // A schema that is none is told before anything is asked.
    browser.click(".open-settings");
    browser.keys("#settings textarea[placeholder^='{']", "{");
    browser.click("#settings button.main");
    assert!(browser.text("#settings .error").contains("not JSON"));
    browser.keys("#settings textarea[placeholder^='{']", "}");
    browser.click("#settings button.main");
    browser.wait("!document.querySelector('#settings').open");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn nothing_that_is_said_becomes_html() {
    let served = Served::start("-n 4");
    let browser = shown(&served);
    let evil = "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script>";
    ask(&browser, evil);
    assert_eq!(browser.text(".message.user .content"), evil);
    // What an answer looks like as elements; `render` is at the place of the server's text.
    browser.script(
        "import('/page/markdown.js').then(({ Markdown }) => { window.render = (text) => { const root = \
         document.createElement('div'); new Markdown(root).update(text); return root.innerHTML; }; });",
    );
    browser.wait("typeof window.render === 'function'");
    for (text, expected) in [
        ("<b onclick=x>*a*</b>", "<p>&lt;b onclick=x&gt;<em>a</em>&lt;/b&gt;</p>"),
        ("[a](javascript:alert(1)) [b](data:text/html,x)", "<p><span>a</span> <span>b</span></p>"),
        (
            "**a *b* c** _d_ e_f_g `*h*` ~~i~~",
            "<p><strong>a <em>b</em> c</strong> <em>d</em> e_f_g <code>*h*</code> <del>i</del></p>",
        ),
        ("2 * 3 * 4 ** 5", "<p>2 * 3 * 4 ** 5</p>"),
        ("# A\n\ntext\nmore\n\n---", "<h3>A</h3><p>text<br>more</p><hr>"),
        ("1. a\n   - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"),
        ("3) a\n\n   b", "<ol start=\"3\"><li><p>a</p><p>b</p></li></ol>"),
        ("> a\nb\n> - c", "<blockquote><p>a<br>b</p><ul><li>c</li></ul></blockquote>"),
        ("\\*a\\* \\", "<p>*a* \\</p>"),
        ("a | b", "<p>a | b</p>"),
    ] {
        assert_eq!(browser.script(&format!("return render({})", Json::from(text))), expected, "{text}");
    }
    let count = |text: &str, selector: &str| {
        browser.script(&format!(
            "return (render({}).match(new RegExp({}, 'g')) ?? []).length",
            Json::from(text),
            Json::from(selector)
        ))
    };
    assert_eq!(count("| a | b |\n|---|--:|\n| 1 | `x|y` |\n| 2 |", "<t[hd][ >]"), 6);
    assert_eq!(count("![x](https://evil.example/x.png)", "<img"), 0);
    assert_eq!(count("https://a.example/b_(c). <https://d.example>", "rel=\"noopener noreferrer nofollow\""), 2);
    assert_eq!(count("```rust\nfn main() {} // <x>\n```\ntext", "hl-keyword|hl-comment|&lt;x&gt;|<p>text"), 4);
    // Deep and long texts end in time, and no depth breaks the page.
    for text in [
        "> ".repeat(5000),
        "- ".repeat(5000),
        "[".repeat(20000),
        "*a ".repeat(20000),
        "**a*_".repeat(5000),
        "`a``".repeat(9000),
    ] {
        assert!(browser.script(&format!("return render({}).length", Json::from(text))).as_u64().is_some());
    }
    assert_eq!(browser.script("return window.hit ?? null"), Json::Null);
    assert_eq!(browser.count(".messages img, .messages script"), 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
