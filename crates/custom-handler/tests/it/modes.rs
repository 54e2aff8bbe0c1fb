//! The same functions in each of the three modes.

use std::path::{Path, PathBuf};

use custom_handler::testing::{Host, Level, Mode, eventually, level, read_json};
use reqwest::Method;
use serde_json::json;

use crate::handler::{behind_a_host, direct};
use crate::support::{Answer, Client, SOON};

in_each_mode! {
    a_function_answers_as_without_a_host;
    a_chunked_body_is_never_taken_for_an_empty_one;
    a_record_is_one_line_at_its_level;
    every_line_of_a_call_has_its_invocation;
    a_function_that_panics_is_a_refusal_and_the_handler_goes_on;
    the_host_answers_what_is_for_no_function;
    the_example_works;
}

/// Calls that are answered in the same way behind a host and without one.
async fn conversation(client: &Client) -> Vec<(u16, String, String)> {
    let mut seen = Vec::new();
    let plain = |method, path: &str| client.request(method, path);
    for request in [
        plain(Method::GET, "/api/things/x1"),
        plain(Method::GET, "/API/Things/x1/?a=1&b=%20"),
        plain(Method::GET, "/api/things/a%20b'").header("x-custom", "one, two"),
        plain(Method::GET, "/api/things/missing"),
        plain(Method::HEAD, "/api/things/x1"),
        plain(Method::HEAD, "/api/things/missing"),
        plain(Method::PUT, "/api/things/x1"),
        plain(Method::PUT, "/api/things/x1").body("sixteen bytes ä"),
        plain(Method::PUT, "/api/things/x1")
            .header("content-type", "application/json")
            .body(r#"{"a": 1}"#),
        plain(Method::PUT, "/api/things/x1")
            .header("content-type", "application/octet-stream")
            .body("binary"),
        plain(Method::PUT, "/api/things/x1").body("this is 17 bytes."),
    ] {
        let answer = client.send(request).await;
        let content_type = answer.header("content-type").to_owned();
        seen.push((answer.status, content_type, answer.text));
    }
    seen
}

async fn a_function_answers_as_without_a_host(mode: Mode) {
    let (host, _root) = behind_a_host(mode).await;
    let (through, expected) =
        (conversation(&Client::of(&host)).await, conversation(&direct().await).await);
    assert_eq!(through, expected);
    let statuses: Vec<_> = expected.iter().map(|(status, ..)| *status).collect();
    assert_eq!(statuses, [200, 200, 200, 404, 200, 404, 200, 200, 200, 200, 413]);
    let bodies: Vec<_> = expected.iter().map(|(.., body)| body.as_str()).collect();
    assert!(bodies[1].contains(r#""query":"a=1&b=%20""#), "{bodies:?}");
    assert!(bodies[2].contains(r#""id":"a b'""#) && bodies[2].contains("one, two"), "{bodies:?}");
    assert_eq!(bodies[4], "", "HEAD");
    assert_eq!(bodies[7], r#"{"put":"sixteen bytes ä"}"#);
    assert_eq!(bodies[8], r#"{"put":"{\"a\": 1}"}"#);
    assert_eq!(bodies[9], r#"{"put":"binary"}"#);

    // Far above what fits into a payload, the client still reads why.
    let huge = Client::of(&host)
        .send(Client::of(&host).request(Method::PUT, "/api/things/x").body(" ".repeat(2_000_000)))
        .await;
    assert_eq!(huge.status, 413);
    let refused = "PayloadTooLarge { limit: 1048576 }";
    assert_eq!(huge.text.contains(refused), mode == Mode::Payload, "{huge:?}");
}

async fn a_chunked_body_is_never_taken_for_an_empty_one(mode: Mode) {
    let (host, _root) = behind_a_host(mode).await;
    let client = Client::of(&host);
    let chunk = Ok::<_, std::io::Error>("chunked");
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter([chunk]));
    let answer = client.send(client.request(Method::PUT, "/api/things/x").body(body)).await;
    match mode {
        Mode::Proxy => {
            assert_eq!((answer.status, answer.json()), (200, json!({"put": "chunked"})));
        }
        // The host refuses it.
        Mode::Forward => assert_eq!((answer.status, answer.text.as_str()), (500, "")),
        Mode::Payload => {
            assert_eq!((answer.status, answer.json()), (400, json!({"error": "Dropped"})));
        }
    }
}

/// The handler's lines that tests look at.
fn said(host: &Host) -> Vec<(Level, String)> {
    let lines = host.lines();
    let said = lines.iter().filter(|(_, line)| line.contains("said"));
    said.map(|line| (level(line), line.1.clone())).collect()
}

/// Calls the function that logs, and waits for its lines.
async fn logged(host: &Host, request: reqwest::RequestBuilder) -> Vec<(Level, String)> {
    assert_eq!(Client::of(host).send(request).await.status, 200);
    eventually(SOON, "all lines of the call", async || said(host).len() >= 3).await;
    said(host)
}

async fn a_record_is_one_line_at_its_level(mode: Mode) {
    let (host, _root) = behind_a_host(mode).await;
    let lines = logged(&host, Client::of(&host).request(Method::GET, "/api/log")).await;
    let level_of = |text: &str| lines.iter().find(|(_, line)| line.contains(text)).unwrap().0;
    assert_eq!(level_of("said info"), Level::Information);
    assert_eq!(level_of("said a caution"), Level::Warning);
    assert_eq!(level_of("said an error"), Level::Error);
    assert!(lines.iter().any(|(_, line)| line.contains("nothing\\nwith a second line")));
}

async fn every_line_of_a_call_has_its_invocation(mode: Mode) {
    let (host, _root) = behind_a_host(mode).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    // An id that the client made up is not the host's.
    let request = Client::of(&host)
        .request(Method::GET, "/api/log")
        .header("traceparent", trace)
        .header("x-azure-functions-invocationid", "made-up");
    let lines = logged(&host, request).await;
    let ids: Vec<_> = lines.iter().map(|(_, line)| after(line, " invocation=")).collect();
    assert_eq!(ids[0].len(), 36, "{ids:?}");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for (_, line) in &lines {
        assert_eq!(after(line, " traceparent="), trace, "the client's");
    }
    // The host logs the handler's output already.
    assert_eq!((lines.len(), host.invocation_logs().len()), (3, 0), "each record is logged once");
}

fn after<'a>(line: &'a str, mark: &str) -> &'a str {
    let rest = line.split_once(mark).unwrap_or_else(|| panic!("no{mark} in {line}")).1;
    rest.split(' ').next().unwrap_or_default()
}

async fn a_function_that_panics_is_a_refusal_and_the_handler_goes_on(mode: Mode) {
    let (host, _root) = behind_a_host(mode).await;
    let client = Client::of(&host);
    let answer = client.get("/api/panic").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json(), json!({"method": "GET", "refused": "Failed"}));
    assert_eq!(client.get("/api/things/x").await.status, 200);
    assert_eq!(host.starts(), 1);

    eventually(SOON, "the panic and the refusal", async || said(&host).len() == 2).await;
    let mut lines = said(&host);
    lines.sort_by_key(|(level, _)| *level == Level::Error);
    let (refusal, panic) = (&lines[0], &lines[1]);
    assert!(refusal.0 == Level::Information && refusal.1.contains("refused: GET Failed"));
    assert!(panic.0 == Level::Error && panic.1.contains("said a panic\\nwith a second line"));
    assert_eq!(after(&refusal.1, " invocation="), after(&panic.1, " invocation="));
}

async fn the_host_answers_what_is_for_no_function(mode: Mode) {
    let (host, _root) = behind_a_host(mode).await;
    let client = Client::of(&host);
    for (method, path) in [
        (Method::GET, "/api/things"),
        (Method::DELETE, "/api/things/x"),
        (Method::GET, "/api/nothing"),
        (Method::GET, "/things/x"),
        (Method::POST, "/get"),
    ] {
        let answer = client.send(client.request(method, path)).await;
        assert_eq!((answer.status, answer.text.as_str()), (404, ""), "{path}");
    }
    // A line that comes after those of the refused calls would have come.
    logged(&host, client.request(Method::GET, "/api/log")).await;
    assert!(!said(&host).iter().any(|(_, line)| line.contains("refused")), "the handler saw one");
}

/// `examples/hello.rs`, on its own function app.
pub(crate) async fn example(mode: Mode) -> Host {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/function-app");
    Host::start(&root, mode, &example_binary(), []).await
}

pub(crate) fn example_binary() -> PathBuf {
    // Beside the folder that this test binary is in.
    let tests = std::env::current_exe().unwrap();
    let executable = tests.parent().unwrap().join("../examples/hello");
    assert!(executable.exists(), "build it first: cargo build -p custom-handler --example hello");
    executable
}

async fn the_example_works(mode: Mode) {
    let host = example(mode).await;
    let answer = Client::of(&host).get("/api/hello/Ada%20L").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "Hello, Ada L!"));
    let is_called = |line: &str| line.contains("hello was called invocation=");
    eventually(SOON, "the call's line", async || {
        host.lines().iter().any(|(_, line)| is_called(line))
    })
    .await;
}

#[test]
fn the_readme_shows_the_files_of_the_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for path in ["host.json", "hello/function.json"] {
        let path = folder.join("examples/function-app").join(path);
        read_json(&path);
        assert!(readme.contains(&std::fs::read_to_string(&path).unwrap()), "{}", path.display());
    }
}

#[tokio::test]
async fn a_request_for_no_function_is_refused() {
    let client = direct().await;
    let refused = |answer: &Answer| answer.json()["refused"].clone();

    let answer = client.get("/api/nothing").await;
    assert_eq!((answer.status, refused(&answer)), (404, json!("NoSuchPath")));
    let answer = client.get("/get").await;
    assert_eq!((answer.status, refused(&answer)), (404, json!("NoSuchPath")));
    let answer = client.post("/nothing", "{}").await;
    assert_eq!((answer.status, refused(&answer)), (404, json!("NoSuchPath")));

    let answer = client.send(client.request(Method::DELETE, "/api/things/x")).await;
    let allowed = json!("MethodNotAllowed([GET, HEAD, PUT])");
    assert_eq!((answer.status, refused(&answer)), (405, allowed));
    assert_eq!(answer.json()["method"], "DELETE");
}

#[tokio::test]
async fn the_ping_is_answered() {
    let answer = direct().await.get("/").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
}
