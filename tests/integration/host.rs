//! The handler behind the Functions host, in each of the three ways that the host may call it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::support::client::json as with_json;
use crate::support::connection_string;
use crate::support::host::{FunctionApp, Host, Level, Mode, level, repository};
use crate::support::{Answer, Azurite, Client, eventually, fresh_table, settings, start};
use cache_aside_handler::api::{ENDPOINTS, Endpoint};
use reqwest::Method;
use serde_json::{Value, json};
use test_programs::table_proxy::{Call, Fate, Proxy};

/// The embedded default: without the settings for Redis and the table in `local.settings.json`.
fn embedded() -> Vec<(&'static str, String)> {
    vec![("REDIS_URL", String::new()), ("USERS_TABLE_CONNECTION", String::new())]
}

macro_rules! in_each_mode {
    ($($story:ident;)*) => {
        in_each_mode! { @ proxied Proxy: $($story)* }
        in_each_mode! { @ forwarded Forward: $($story)* }
        in_each_mode! { @ payload Payload: $($story)* }
    };
    (@ $module:ident $mode:ident: $($story:ident)*) => {
        mod $module {$(
            #[tokio::test]
            async fn $story() { super::$story(super::Mode::$mode).await }
        )*}
    };
}

in_each_mode! {
    a_conversation_is_the_same_as_without_a_host;
    lines_get_their_level;
    every_line_of_a_request_has_its_invocation_id;
    a_handler_that_is_killed_is_started_again_and_the_host_gives_up_at_last;
    the_host_answers_requests_that_are_for_no_function;
}

/// What can be compared of a response: no dates, no times, no random ids.
fn seen(answer: &Answer, id: &str) -> Value {
    let header = |name: &str| answer.header(name).replace(id, "ID");
    let cache_status = header("cache-status");
    let cache_status = cache_status.split("ttl=").next().unwrap_or_default().to_owned();
    let cache_control = header("cache-control");
    // Forwarding sorts them.
    let cache_control: BTreeSet<_> = cache_control.split(", ").collect();
    json!({
        "status": answer.status,
        "body": answer.text.replace(id, "ID"),
        "content-type": header("content-type"),
        "cache-control": cache_control,
        "location": header("location"),
        "etag": header("etag"),
        "cache-status": cache_status,
        "retry-after": header("retry-after"),
        "content-security-policy": header("content-security-policy"),
        "server-timing": !header("server-timing").is_empty(),
    })
}

/// The API's main calls and errors, in an order in which each response is known.
async fn conversation(client: &Client) -> Vec<(String, Value)> {
    let created = client.post("/api/users", r#"{"name":"Ännchen \"A\" <Hill>"}"#).await;
    let path = created.header("location").to_owned();
    let id = path.rsplit('/').next().unwrap().to_owned();
    let etag = created.header("etag").to_owned();
    let mut responses = vec![("create".to_owned(), seen(&created, &id))];

    let encoded = format!("/API/%75sers/{}?x=1&x=2", id.to_lowercase());
    let tagged = |method: Method, name: &str, tag: &str| {
        client.request(method, &path).header(name.to_owned(), tag.to_owned())
    };
    let body =
        |method: Method, path: &str, body: String| with_json(client.request(method, path), body);
    let plain = |method: Method, path: &str| client.request(method, path);
    let nobody = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    for (label, request) in [
        ("read from the table", plain(Method::GET, &path)),
        ("read from the cache", plain(Method::GET, &path)),
        ("read by another spelling", plain(Method::GET, &encoded)),
        ("head", plain(Method::HEAD, &path)),
        ("revalidate", tagged(Method::GET, "if-none-match", &etag)),
        ("rename", body(Method::PATCH, &path, r#"{"name":"Bea"}"#.into())),
        (
            "rename against an old tag",
            with_json(tagged(Method::PATCH, "if-match", &etag), r#"{"name":"C"}"#),
        ),
        ("delete against an old tag", tagged(Method::DELETE, "if-match", &etag)),
        (
            "put against an old tag",
            with_json(tagged(Method::PUT, "if-match", &etag), r#"{"name":"C"}"#),
        ),
        (
            "put of a new user only",
            with_json(tagged(Method::PUT, "if-none-match", "*"), r#"{"name":"C"}"#),
        ),
        ("put over what is there", body(Method::PUT, &path, r#"{"name":"Cleo"}"#.into())),
        ("read what was put", plain(Method::GET, &path)),
        ("put without a name", body(Method::PUT, &path, "{}".into())),
        ("put with a strange id", body(Method::PUT, "/api/users/x", r#"{"name":"C"}"#.into())),
        ("rename without a name", body(Method::PATCH, &path, "{}".into())),
        ("bad JSON", body(Method::POST, "/api/users", "{".into())),
        ("bad name", body(Method::POST, "/api/users", r#"{"name":""}"#.into())),
        (
            "another type",
            plain(Method::POST, "/api/users").header("content-type", "text/plain").body("x"),
        ),
        (
            "a binary body",
            plain(Method::POST, "/api/users")
                .header("content-type", "application/octet-stream")
                .body("x"),
        ),
        ("a large body", body(Method::POST, "/api/users", " ".repeat(16 * 1024 + 1))),
        ("nobody", plain(Method::GET, nobody)),
        ("nobody, with a strange id", plain(Method::GET, "/api/users/a%20b%2Fc'")),
        ("delete nobody", plain(Method::DELETE, nobody)),
        ("delete", plain(Method::DELETE, &path)),
        ("read what is gone", plain(Method::GET, &path)),
        ("put what is gone", body(Method::PUT, &encoded, r#"{"name":"Dora"}"#.into())),
        ("read what is there again", plain(Method::GET, &path)),
        ("live", plain(Method::GET, "/api/live")),
        ("head of live", plain(Method::HEAD, "/api/live")),
        ("head of health", plain(Method::HEAD, "/api/health")),
        ("demo", plain(Method::GET, "/api/demo")),
        ("head of demo", plain(Method::HEAD, "/api/demo")),
        ("revalidate demo", plain(Method::GET, "/api/demo").header("if-none-match", "*")),
        ("the OpenAPI document", plain(Method::GET, "/api/openapi.json")),
    ] {
        let answer = client.send(request).await;
        responses.push((label.to_owned(), seen(&answer, &id)));
    }
    responses
}

async fn a_conversation_is_the_same_as_without_a_host(mode: Mode) {
    let host = Host::start(mode, &embedded()).await;
    let direct = start(&settings(&[])).await;
    let (through, expected) = (conversation(&host.client).await, conversation(&direct).await);
    for (through, expected) in through.iter().zip(&expected) {
        assert_eq!(through, expected);
    }
    let statuses: Vec<_> =
        expected.iter().map(|(_, seen)| seen["status"].as_u64().unwrap()).collect();
    let known = [
        201, 200, 200, 200, 200, 304, 200, 412, 412, 412, 412, 200, 200, 400, 400, 400, 400, 400,
        415, 415, 413, 404, 404, 404, 204, 404, 201, 200, 200, 200, 200, 200, 200, 304, 200,
    ];
    assert_eq!(statuses, known);

    let health = host.client.get("/api/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("healthy")));
    // Also if the body is far too large for a payload, the client gets the reason.
    let huge = host.client.post("/api/users", " ".repeat(2_000_000)).await;
    assert_eq!((huge.status, &huge.json()["status"]), (413, &json!("Payload too large")));
    // A chunked body reaches the handler only if the host passes it on.
    let chunk = Ok::<_, std::io::Error>(r#"{"name":"Chunked"}"#);
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter([chunk]));
    let created =
        host.client.send(host.client.request(Method::POST, "/api/users").body(stream)).await;
    match mode {
        Mode::Proxy => {
            assert_eq!((created.status, &created.json()["Name"]), (201, &json!("Chunked")))
        }
        Mode::Forward => assert_eq!((created.status, &*created.text), (500, "")),
        Mode::Payload => {
            assert_eq!(
                (created.status, &created.json()["status"]),
                (411, &json!("Length required"))
            );
        }
    }
}

/// An unreachable table causes errors and warnings. A line break in the name of a variable causes a
/// record with a line break.
async fn lines_get_their_level(mode: Mode) {
    let mut settings = embedded();
    settings.push(("CACHE_A\nB", "x".to_owned()));
    settings.push(("USERS_TABLE_CONNECTION", connection_string(1)));
    settings.push(("TABLE_TIMEOUT", "200ms".to_owned()));
    let host = Host::start(mode, &settings).await;
    assert_eq!(host.client.post("/api/users", "").await.status, 503);

    let level_of = |text: &str| {
        let lines = host.lines();
        let lines: Vec<_> =
            lines.iter().filter(|(_, line)| line.contains(text)).map(level).collect();
        assert_eq!(lines.len(), 1, "{text}: {:#?}", host.lines());
        lines[0]
    };
    eventually(Duration::from_secs(10), "the request's line", || async {
        host.lines().iter().any(|(_, line)| line.contains("POST /api/users 503"))
    })
    .await;
    assert_eq!(level_of("listening on"), Level::Information);
    assert_eq!(level_of("POST /api/users 503"), Level::Information);
    assert_eq!(level_of("CACHE_A\\nB is set, but is not a setting"), Level::Warning);
    assert_eq!(level_of("a write was not applied"), Level::Error);
    for (stream, line) in host.lines() {
        let at = line.as_bytes().get(..5).unwrap_or_default();
        assert!(
            at.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-'),
            "a torn record: {stream:?} {line}"
        );
    }
}

async fn every_line_of_a_request_has_its_invocation_id(mode: Mode) {
    let mut settings = embedded();
    settings.push(("USERS_TABLE_CONNECTION", connection_string(1)));
    settings.push(("TABLE_TIMEOUT", "200ms".to_owned()));
    let host = Host::start(mode, &settings).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = host.client.request(Method::POST, "/api/users").header("traceparent", trace);
    // A client's own invocation id is not the host's.
    let request = request.header("x-azure-functions-invocationid", "made-up");
    assert_eq!(host.client.send(request).await.status, 503);

    let is_of_request =
        |line: &str| line.contains("a write was not applied") || line.contains(" 503 ");
    let lines = || -> Vec<String> {
        host.lines().into_iter().map(|(_, line)| line).filter(|line| is_of_request(line)).collect()
    };
    eventually(Duration::from_secs(10), "both lines", || async { lines().len() == 2 }).await;
    let ids: Vec<_> = lines().iter().map(|line| after(line, " invocation=")).collect();
    assert_eq!(ids[0].len(), 36, "{ids:?}");
    assert_eq!(ids[0], ids[1]);
    for line in lines() {
        assert_eq!(after(&line, " traceparent="), trace);
    }
    assert!(host.invocation_logs().is_empty(), "the host logs the handler's output already");
}

fn after(line: &str, mark: &str) -> String {
    let rest = line.split_once(mark).unwrap_or_else(|| panic!("no{mark} in {line}")).1;
    rest.split(' ').next().unwrap_or_default().to_owned()
}

async fn a_handler_that_is_killed_is_started_again_and_the_host_gives_up_at_last(mode: Mode) {
    let host = Host::start(mode, &embedded()).await;
    for start in 2..=3 {
        host.signal("KILL").await;
        eventually(Duration::from_secs(20), "the handler is back", || async {
            host.starts() == start && host.client.get("/api/live").await.status == 200
        })
        .await;
    }
    host.signal("KILL").await;
    eventually(Duration::from_secs(20), "the host gives up", || async { host.is_over() }).await;
    assert_eq!(host.starts(), 3);
}

async fn the_host_answers_requests_that_are_for_no_function(mode: Mode) {
    let host = Host::start(mode, &embedded()).await;
    for (method, path) in [
        (Method::GET, "/api/users"),
        (Method::PUT, "/api/users"),
        (Method::POST, "/api/users/x"),
        (Method::GET, "/api/nothing"),
        (Method::GET, "/users/x"),
        (Method::POST, "/users-get"),
    ] {
        let answer = host.client.send(host.client.request(method, path)).await;
        assert_eq!((answer.status, &*answer.text), (404, ""), "{path}");
    }
    let sent = |line: &(_, String)| line.1.contains("request:");
    assert!(!host.lines().iter().any(sent), "the handler received none of them");
}

/// A handler without Redis, whose calls to the table can be held up.
async fn on_a_table_behind_a_proxy() -> (Host, Proxy, Arc<Azurite>) {
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    let host = Host::start(
        Mode::Proxy,
        &[
            ("REDIS_URL", String::new()),
            ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
            ("USERS_TABLE_NAME", fresh_table()),
        ],
    )
    .await;
    (host, proxy, azurite)
}

/// The host sends a proxied call again if the handler dies while it works on it, whatever the method.
#[tokio::test]
async fn a_call_is_repeated_if_the_handler_dies_during_it() {
    let (host, proxy, _azurite) = on_a_table_behind_a_proxy().await;
    let path = host.client.create("Ann").await;

    proxy.decide_once(Call::is_read, Fate::Swallow);
    proxy.forget();
    let (client, read) = (host.client.clone(), path.clone());
    let in_progress = tokio::spawn(async move { client.get(&read).await });
    eventually(Duration::from_secs(10), "the call is in progress", || async {
        proxy.count(Call::is_read) > 0
    })
    .await;
    host.signal("KILL").await;
    let answer = in_progress.await.unwrap();
    assert_eq!((answer.status, answer.name().as_str()), (200, "Ann"));
    assert_eq!(host.starts(), 2);

    // A create without a name is repeated too, so there are two users if the first one was applied.
    let creates = |call: &Call| call.method == Method::POST && !call.path.ends_with("/Tables");
    for (body, status, sent) in [("", 201, 2), (r#"{"name":"Ann"}"#, 500, 1)] {
        proxy.decide_once(creates, Fate::LoseReply);
        proxy.forget();
        let client = host.client.clone();
        let in_progress = tokio::spawn(async move { client.post("/api/users", body).await });
        eventually(Duration::from_secs(10), "the create is in progress", || async {
            proxy.count(creates) > 0
        })
        .await;
        host.signal("KILL").await;
        assert_eq!(in_progress.await.unwrap().status, status, "{body}");
        assert_eq!(proxy.count(creates), sent, "{body}");
    }
}

/// The host does not send a call with a body again, so the client repeats it: there is one user, and it is
/// the one that was sent.
#[tokio::test]
async fn a_put_is_repeated_by_the_client_if_the_handler_dies_during_it() {
    let (host, proxy, _azurite) = on_a_table_behind_a_proxy().await;
    let (path, body) = ("/api/users/01KB584F3Y9AF31621Q7N62Q67", r#"{"name":"Ann"}"#);
    let inserts = |call: &Call| call.method == Method::POST && !call.path.ends_with("/Tables");
    host.client.create("Bea").await; // the table is there from now on
    proxy.forget();
    proxy.decide_once(inserts, Fate::LoseReply);
    let client = host.client.clone();
    let in_progress = tokio::spawn(async move { client.put(path, body).await });
    eventually(Duration::from_secs(10), "the row is there", || async {
        host.client.get(path).await.status == 200
    })
    .await;
    host.signal("KILL").await;
    let answer = in_progress.await.unwrap();
    assert_eq!((answer.status, &*answer.text), (500, ""));
    assert_eq!(proxy.count(inserts), 1);

    let repeated = host.client.put(path, body).await;
    assert_eq!((repeated.status, &repeated.json()["Name"]), (200, &json!("Ann")));
    assert_eq!(host.client.get(path).await.name(), "Ann");
}

/// In the order in which a container is told to stop: the handler first.
#[tokio::test]
async fn a_handler_that_is_terminated_is_started_again() {
    let host = Host::start(Mode::Proxy, &embedded()).await;
    host.signal("TERM").await;
    eventually(Duration::from_secs(20), "it is back", || async {
        host.starts() == 2 && host.client.get("/api/live").await.status == 200
    })
    .await;
    host.signal("INT").await;
    eventually(Duration::from_secs(20), "it has ended", || async { host.is_over() }).await;
}

#[test]
fn host_json_holds_what_the_host_needs() {
    let app = FunctionApp::read(repository());
    assert_eq!(app.host["version"], "2.0");
    let handler = &app.host["customHandler"];
    assert_eq!(handler["enableProxyingHttpRequest"], true);
    assert_eq!(handler["enableForwardingHttpRequest"], true);
    assert_eq!(handler["description"]["defaultExecutablePath"], "handler");
    assert_eq!(app.host["logging"]["console"]["isEnabled"], true);
    assert_eq!(app.host["logging"]["logLevel"]["Function"], "Warning", "two lines less per call");
    let sampling = &app.host["logging"]["applicationInsights"]["samplingSettings"];
    assert_eq!(sampling["excludedTypes"], "Request");
    assert!(app.host["extensions"].is_null(), "the routes in the binary have the default prefix");
    assert_eq!(app.host["functionTimeout"], "00:02:00");
}

#[test]
fn local_settings_start_the_debug_build_with_azurite_and_redis() {
    let mut app = FunctionApp::read(repository());
    let values = app.local_settings();
    assert_eq!(values["FUNCTIONS_WORKER_RUNTIME"], "custom");
    assert_eq!(values["AzureWebJobsStorage"], "UseDevelopmentStorage=true");
    app.override_host(&values);
    let executable = &app.host["customHandler"]["description"]["defaultExecutablePath"];
    assert_eq!(executable, "target/debug/handler");
    // The handler accepts them.
    let read = |name: &str| values.get(name).cloned();
    let settings =
        cache_aside_handler::settings::Settings::read(&read, values.keys().cloned()).unwrap();
    assert!(settings.redis.is_some() && settings.table.is_some());
}

#[test]
fn every_function_has_a_folder_and_every_folder_a_function() {
    let app = FunctionApp::read(repository());
    let folders: BTreeMap<_, _> = app.functions.iter().map(|it| (it.name.clone(), it)).collect();
    let names: Vec<_> = folders.keys().cloned().collect();
    let mut expected: Vec<_> =
        ENDPOINTS.iter().map(|endpoint| endpoint.function.name.to_owned()).collect();
    expected.sort();
    assert_eq!(names, expected);
    for Endpoint { function, .. } in &ENDPOINTS {
        let folder = folders[function.name];
        assert_eq!(format!("api/{}", folder.route), function.route);
        let methods: Vec<_> = function.methods.iter().map(Method::as_str).collect();
        assert_eq!(folder.methods, methods, "{}", function.name);
        assert_eq!(folder.trigger["name"], "req");
        assert_eq!(folder.trigger["direction"], "in");
        assert_eq!(folder.trigger["authLevel"], "anonymous");
        assert_eq!(folder.output["name"], "res");
        assert_eq!(folder.output["direction"], "out");
    }
}

/// `func azure functionapp publish` uploads a file if one of the lines with `!` is the beginning of its
/// path, or no other line matches; `**` matches every path
/// (<https://github.com/Azure/azure-functions-core-tools/blob/main/src/Cli/func/Common/GitIgnoreParser.cs>).
#[test]
fn only_the_function_app_is_published() {
    let rules = std::fs::read_to_string(repository().join(".funcignore")).unwrap();
    let rules = rules.lines().filter(|line| !line.starts_with('#'));
    let (included, ignored): (Vec<&str>, Vec<&str>) = rules.partition(|line| line.starts_with('!'));
    assert_eq!(ignored, ["**"]);
    let is_published =
        |path: &str| included.iter().any(|line| path.starts_with(line.trim_start_matches('!')));

    for endpoint in &ENDPOINTS {
        assert!(is_published(&format!("{}/function.json", endpoint.function.name)));
    }
    assert!(is_published("host.json") && is_published("handler"));
    let mut git = std::process::Command::new("git");
    let listed = git.arg("ls-files").current_dir(repository()).output().unwrap();
    let published = String::from_utf8(listed.stdout).unwrap();
    let published: Vec<_> = published.lines().filter(|path| is_published(path)).collect();
    assert_eq!(published.len(), ENDPOINTS.len() + 1, "{published:?}");
    for stray in ["secret.pem", "local.settings.json", "target/debug/handler", ".env", "src/x.rs"] {
        assert!(!is_published(stray), "{stray} would be published");
    }
}
