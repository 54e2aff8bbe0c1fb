//! Invalid input, and what the API answers to each kind of it; and random input, which never causes a
//! 5xx and is read back as it was stored.

use crate::support::client::json as with_json;
use crate::support::{Answer, Azurite, Client, Redis, fresh_table, settings, start};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use regex::Regex;
use reqwest::Method;
use serde_json::{Value, json};

async fn embedded() -> Client {
    start(&settings(&[])).await
}

fn assert_error(answer: &Answer, status: u16, phrase: &str, detail: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    assert_eq!(body["status"], phrase);
    let detail_text = body["detail"].as_str().expect("a detail");
    assert!(detail_text.contains(detail), "{detail_text:?} does not say {detail:?}");
}

#[tokio::test]
async fn an_invalid_body_gets_an_error_that_says_what_is_wrong() {
    let client = embedded().await;
    let path = client.create("Ann").await;
    for (body, detail) in [
        ("x", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("\"Ann\"", "must be a JSON object"),
        ("[\"Ann\"]", "must be a JSON object"),
        ("{", "line 1 column 1"),
        ("{\"name\":\"Ann\"", "line 1 column 13"),
        ("{\"name\":\"Ann\"} x", "line 1 column 16"),
        ("{\"name\":\"Ann\",\"age\":7}", "`age`"),
        ("{\"Name\":\"Ann\"}", "`Name`"),
        ("{\"name\":\"Ann\",\"name\":\"Bea\"}", "duplicate field `name`"),
        ("{\"name\":7}", "name must be a string"),
        ("{\"name\":null}", "name must be a string"),
        ("{\"name\":[\"Ann\"]}", "name must be a string"),
        ("{\"name\":\"\"}", "name must be 1 to 256 characters"),
        ("{\"name\":\"  \"}", "name must be 1 to 256 characters"),
        ("{\"name\":\"a\\u0000b\"}", "control characters"),
        ("{\"name\":\"a\\nb\"}", "control characters"),
        ("{\"name\":\"a\\u202eb\"}", "the direction of text"),
        ("{\"name\":\"\\u2067Ann\\u2069\"}", "the direction of text"),
        ("{\"name\":\"\\u200b\"}", "at least one visible character"),
        ("{\"name\":\"\\u3164 \\u2800\"}", "at least one visible character"),
        ("{\"name\":\"\\ud800\"}", "line 1 column"),
    ] {
        for answer in [
            client.post("/api/users", body).await,
            client.patch(&path, body).await,
            client.put(&path, body).await,
        ] {
            assert_error(&answer, 400, "Bad request", detail);
        }
    }
    let long = json!({ "name": "x".repeat(257) }).to_string();
    assert_error(&client.post("/api/users", long).await, 400, "Bad request", "1 to 256 characters");
    let bad_utf8 = client.request(Method::POST, "/api/users").body(&b"{\"name\":\"\xff\"}"[..]);
    assert_error(&client.send(bad_utf8).await, 400, "Bad request", "line 1 column");
    assert_eq!(client.get(&path).await.name(), "Ann", "nothing was changed");
}

#[tokio::test]
async fn a_rename_and_a_put_need_a_name() {
    let client = embedded().await;
    let path = client.create("Ann").await;
    for body in ["", "{}"] {
        assert_error(&client.patch(&path, body).await, 400, "Bad request", "name is missing");
        assert_error(&client.put(&path, body).await, 400, "Bad request", "name is missing");
    }
}

#[tokio::test]
async fn a_put_needs_an_id_that_is_a_ulid() {
    let client = embedded().await;
    for id in ["x", "81KB584F3Y9AF31621Q7N62Q67", "01KB584F3Y9AF31621Q7N62Q6", "a%20b%27"] {
        let answer = client.put(&format!("/api/users/{id}"), r#"{"name":"Ann"}"#).await;
        assert_error(&answer, 400, "Bad request", "the id must be a ULID");
    }
    for id in ["00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"] {
        let path = format!("/api/users/{id}");
        assert_eq!(client.put(&path, r#"{"name":"Ann"}"#).await.status, 201, "{id}");
        assert_eq!(client.get(&path).await.name(), "Ann");
    }
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let client = embedded().await;
    let path = client.create("Ann").await;
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "é"]
    {
        for (method, path) in
            [(Method::POST, "/api/users"), (Method::PATCH, &*path), (Method::PUT, &*path)]
        {
            let request =
                client.request(method, path).header("content-type", content_type.as_bytes());
            let answer = client.send(request.body(r#"{"name":"Bea"}"#)).await;
            assert_error(&answer, 415, "Unsupported media type", "Content-Type: application/json");
        }
    }
    // A body without a type counts as JSON, and a type without a body does not matter.
    let untyped = client.request(Method::PATCH, &path).body(r#"{"name":"Bea"}"#);
    assert_eq!(client.send(untyped).await.json()["Name"], "Bea");
    let empty = client.request(Method::POST, "/api/users").header("content-type", "text/plain");
    assert_eq!(client.send(empty).await.status, 201);
}

#[tokio::test]
async fn a_body_over_16_kib_is_refused_whether_or_not_its_length_was_announced() {
    let client = embedded().await;
    let path = client.create("Ann").await;
    let largest = format!("{}{}", r#"{"name":"Bea"}"#, " ".repeat(16 * 1024 - 14));
    assert_eq!(client.patch(&path, largest.clone()).await.status, 200);
    for size in [16 * 1024 + 1, 300_000] {
        let body = format!("{largest}{}", " ".repeat(size - largest.len()));
        let announced = client.patch(&path, body.clone()).await;
        assert_error(&announced, 413, "Payload too large", "16384 bytes");
        let announced = client.put(&path, body.clone()).await;
        assert_error(&announced, 413, "Payload too large", "16384 bytes");
        let stream = reqwest::Body::wrap_stream(chunks(body));
        let chunked = client.send(client.request(Method::POST, "/api/users").body(stream)).await;
        assert_error(&chunked, 413, "Payload too large", "16384 bytes");
    }
    let stream = reqwest::Body::wrap_stream(chunks(r#"{"name":"Chunked"}"#.to_owned()));
    let chunked = client.send(client.request(Method::POST, "/api/users").body(stream)).await;
    assert_eq!((chunked.status, &chunked.json()["Name"]), (201, &json!("Chunked")));
}

fn chunks(body: String) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> {
    let chunks: Vec<_> = body.as_bytes().chunks(1000).map(|chunk| Ok(chunk.to_vec())).collect();
    futures_util::stream::iter(chunks)
}

/// Checks a property with this many random inputs, on a runtime that keeps running between them.
fn check<S: Strategy>(
    runtime: &tokio::runtime::Runtime,
    cases: u32,
    strategy: &S,
    property: impl AsyncFn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(strategy, |input| runtime.block_on(property(input)));
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn no_id_causes_a_5xx() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(embedded());
    let id = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..40),
        "[0-9A-Za-z]{26}".prop_map(String::into_bytes),
        "[0-7][0-9A-HJKMNP-TV-Z]{25}".prop_map(String::into_bytes),
    ];
    let ulid = Regex::new("^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$").unwrap();
    // The client removes dot segments from a path, even percent-encoded ones.
    let id = id.prop_filter("a dot segment", |id| id != b"." && id != b"..");
    check(&runtime, 500, &id, async |id: Vec<u8>| {
        let path = format!("/api/users/{}", percent_encode(&id, NON_ALPHANUMERIC));
        for method in [Method::GET, Method::DELETE, Method::PATCH] {
            let request = with_json(client.request(method, &path), r#"{"name":"Ann"}"#);
            let answer = client.send(request).await;
            prop_assert_eq!(answer.status, 404);
            prop_assert_eq!(&answer.json()["user_id"], &json!(String::from_utf8_lossy(&id)));
        }
        // Last, because it creates the user if the id is a ULID.
        let put = client.put(&path, r#"{"name":"Ann"}"#).await;
        let is_ulid = std::str::from_utf8(&id).is_ok_and(|id| ulid.is_match(id));
        prop_assert_eq!(put.status, if is_ulid { 201 } else { 400 }, "{:?}", put);
        Ok(())
    });
}

#[test]
fn no_body_causes_a_5xx() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(embedded());
    let path = runtime.block_on(client.create("Ann"));
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..200),
        "\\PC{1,60}".prop_map(|text| json!({ "name": text }).to_string().into_bytes()),
        "[{}\\[\\]\":,a-z0-9 ]{1,60}".prop_map(String::into_bytes),
    ];
    check(&runtime, 500, &body, async |body: Vec<u8>| {
        for (method, path) in
            [(Method::POST, "/api/users"), (Method::PATCH, &*path), (Method::PUT, &*path)]
        {
            let answer = client.send(client.request(method, path).body(body.clone())).await;
            prop_assert!([200, 201, 400].contains(&answer.status), "{answer:?}");
            let _: Value = answer.json();
        }
        Ok(())
    });
}

/// A name of any characters, including those that are special in JSON, URLs or tables.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{1,256}",
        proptest::collection::vec(any::<char>(), 1..60)
            .prop_map(|chars| chars.into_iter().collect()),
        "[ '\"\\\\/<>&%+;=#?\u{fffe}\u{feff}\u{200b}\u{10ffff}a]{1,40}",
        "[ \u{200b}\u{202a}-\u{202f}\u{2060}-\u{206a}\u{2800}\u{3164}\u{e0020}a]{1,4}",
    ]
}

/// Which names are valid, in the words of regular expressions, whose properties of characters have
/// another source than the handler's.
struct Rules {
    forbidden: Regex,
    visible: Regex,
}

impl Rules {
    fn new() -> Self {
        let forbidden = r"[\p{Cc}\x{202A}-\x{202E}\x{2066}-\x{2069}]";
        let visible = r"[^\p{White_Space}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\x{2800}]";
        Self { forbidden: Regex::new(forbidden).unwrap(), visible: Regex::new(visible).unwrap() }
    }

    fn allow(&self, name: &str) -> bool {
        let name = name.trim();
        (1..=256).contains(&name.chars().count())
            && !self.forbidden.is_match(name)
            && self.visible.is_match(name)
    }
}

fn what_was_stored_is_what_is_read_back(
    runtime: &tokio::runtime::Runtime,
    client: &Client,
    cases: u32,
) {
    let rules = Rules::new();
    let names = (any_name(), any_name(), any_name());
    check(runtime, cases, &names, async |names: (String, String, String)| {
        let body = |name: &str| json!({ "name": name }).to_string();
        let created = client.post("/api/users", body(&names.0)).await;
        if !rules.allow(&names.0) {
            prop_assert_eq!(created.status, 400);
            return Ok(());
        }
        prop_assert_eq!(created.status, 201, "{:?}", created);
        let path = created.header("location");
        for _ in 0..2 {
            prop_assert_eq!(client.get(path).await.name(), names.0.trim());
        }
        let mut stored = &names.0;
        for (method, name) in [(Method::PATCH, &names.1), (Method::PUT, &names.2)] {
            let changed = client.send(with_json(client.request(method, path), body(name))).await;
            let mut status = 400;
            if rules.allow(name) {
                (status, stored) = (200, name);
            }
            prop_assert_eq!(changed.status, status, "{:?}", changed);
            prop_assert_eq!(client.get(path).await.name(), stored.trim());
        }
        Ok(())
    });
}

#[test]
fn in_the_embedded_default_what_was_stored_is_what_is_read_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(embedded());
    what_was_stored_is_what_is_read_back(&runtime, &client, 300);
}

#[test]
fn in_redis_and_the_table_what_was_stored_is_what_is_read_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (redis, azurite) = (Redis::start(), Azurite::shared());
    let client = runtime.block_on(start(&settings(&[
        ("REDIS_URL", redis.url()),
        ("USERS_TABLE_CONNECTION", azurite.connection_string()),
        ("USERS_TABLE_NAME", fresh_table()),
    ])));
    what_was_stored_is_what_is_read_back(&runtime, &client, 100);
}
