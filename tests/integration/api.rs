//! The whole API, against real Redis and Azurite, and against the embedded default.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Answer, Azurite, Client, Redis, eventually, fresh_table, settings, start};
use base64::Engine;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};
use ulid::Ulid;

/// What the API runs on. The servers end with it.
struct Stack {
    client: Client,
    /// What a hit calls its source.
    cache: &'static str,
    _servers: Option<(Redis, Arc<Azurite>)>,
}

impl Stack {
    async fn embedded(given: &[(&str, String)]) -> Self {
        Self { client: start(&settings(given)).await, cache: "memory", _servers: None }
    }

    async fn servers(given: &[(&str, String)]) -> Self {
        let (redis, azurite) = (Redis::start(), Azurite::shared());
        let mut all = vec![
            ("REDIS_URL", redis.url()),
            ("USERS_TABLE_CONNECTION", azurite.connection_string()),
            ("USERS_TABLE_NAME", fresh_table()),
        ];
        all.extend(given.iter().cloned());
        let client = start(&settings(&all)).await;
        Self { client, cache: "redis", _servers: Some((redis, azurite)) }
    }

    async fn conditional(&self, method: Method, path: &str, header: &str, tag: &str) -> Answer {
        let request = self.client.request(method.clone(), path).header(header, tag);
        let request = match method {
            Method::PATCH | Method::PUT => {
                crate::support::client::json(request, r#"{"name":"Changed"}"#)
            }
            _ => request,
        };
        self.client.send(request).await
    }
}

/// Runs a story on both stacks.
macro_rules! on_both {
    ($($story:ident $(with [$($given:expr),*])?;)*) => {
        mod embedded {$(
            #[tokio::test]
            async fn $story() { super::$story(super::Stack::embedded(&[$($($given),*)?]).await).await }
        )*}
        mod servers {$(
            #[tokio::test]
            async fn $story() { super::$story(super::Stack::servers(&[$($($given),*)?]).await).await }
        )*}
    };
}

on_both! {
    a_user_is_created_with_a_random_name;
    a_user_is_created_with_a_given_name;
    the_first_read_is_the_tables_and_the_second_the_caches;
    an_entry_expires with [("CACHE_TTL", "400ms".to_owned()), ("CACHE_NEGATIVE_TTL", "0s".to_owned())];
    a_rename_is_seen_at_once;
    a_delete_is_seen_at_once;
    a_user_that_does_not_exist_is_not_found_and_that_is_remembered;
    not_found_is_not_remembered_when_turned_off with [("CACHE_NEGATIVE_TTL", "0s".to_owned())];
    an_id_in_lower_case_is_the_same_user;
    a_path_matches_in_any_case_and_percent_encoded;
    a_head_is_a_get_without_a_body;
    a_read_is_revalidated_with_its_etag;
    a_write_holds_to_if_match;
    a_put_creates_a_user_and_then_replaces_it;
    a_put_is_seen_at_once_by_who_was_told_that_there_is_no_such_user;
    a_put_in_lower_case_is_the_same_user;
    a_put_with_if_none_match_creates_and_never_replaces;
    a_put_with_if_match_replaces_and_never_creates;
    of_concurrent_puts_of_a_new_id_one_creates_it;
    health_names_each_part;
    the_handler_is_alive_and_answers_the_ping;
    the_demo_page_runs_nothing_but_its_own_script_and_style;
    the_demo_page_is_revalidated_with_its_etag;
    unknown_paths_and_methods_are_told_apart;
}

async fn a_user_is_created_with_a_random_name(stack: Stack) {
    for body in ["", "{}"] {
        let created = stack.client.post("/api/users", body).await;
        assert_eq!(created.status, 201);
        assert_eq!(created.header("content-type"), "application/json");
        assert_eq!(created.header("cache-control"), "private, no-cache");
        assert!(created.header("etag").starts_with("W/\""), "{created:?}");
        assert!(created.header("server-timing").contains("table;dur="), "{created:?}");

        let user = created.json();
        let id = user["RowKey"].as_str().unwrap();
        let name = user["Name"].as_str().unwrap();
        assert!(name.contains(' '), "a full name: {name}");
        let expected = format!(r#"{{"PartitionKey":"user","RowKey":"{id}","Name":"{name}"}}"#);
        assert_eq!(created.text, expected, "three fields, in order");
        assert_eq!(created.header("location"), format!("/api/users/{id}"));
    }
}

async fn a_user_is_created_with_a_given_name(stack: Stack) {
    let created = stack.client.post("/api/users", r#"{"name":"  Ängelica Hill "}"#).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.json()["Name"], "Ängelica Hill");
    let read = stack.client.get(created.header("location")).await;
    assert_eq!(read.json()["data"], created.json());
    assert_eq!(read.header("etag"), created.header("etag"));
}

async fn the_first_read_is_the_tables_and_the_second_the_caches(stack: Stack) {
    let path = stack.client.create("Ann").await;
    let id = path.strip_prefix("/api/users/").unwrap();
    let data = json!({"PartitionKey": "user", "RowKey": id, "Name": "Ann"});

    let first = stack.client.get(&path).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.json(), json!({"source": "table", "data": data}));
    assert!(first.text.starts_with(r#"{"source":"table","data":{"PartitionKey""#));
    assert_eq!(first.header("cache-status"), "cache-aside; fwd=miss; stored");
    assert!(first.header("server-timing").starts_with("cache;dur="));
    assert!(first.header("server-timing").contains(", table;dur="));

    let second = stack.client.get(&path).await;
    assert_eq!(second.status, 200);
    assert_eq!(second.json(), json!({"source": stack.cache, "data": data}));
    let ttl = second.header("cache-status").strip_prefix("cache-aside; hit; ttl=").unwrap();
    assert!((7..=9).contains(&ttl.parse::<i64>().unwrap()), "10s less jitter: {ttl}");
    assert_eq!(second.header("etag"), first.header("etag"));
    assert!(!second.header("server-timing").contains("table"), "{second:?}");
}

async fn an_entry_expires(stack: Stack) {
    let path = stack.client.create("Ann").await;
    for source in [stack.cache, "table"] {
        eventually(Duration::from_secs(10), source, || async {
            stack.client.get(&path).await.source() == source
        })
        .await;
    }
}

async fn a_rename_is_seen_at_once(stack: Stack) {
    let path = stack.client.create("Ann").await;
    for name in ["Bea", "Cleo"] {
        stack.client.get(&path).await;
        let renamed = stack.client.patch(&path, json!({ "name": name }).to_string()).await;
        assert_eq!(renamed.status, 200);
        assert_eq!(renamed.json()["Name"], name);
        let read = stack.client.get(&path).await;
        assert_eq!(read.json()["data"], renamed.json());
        assert_eq!(read.header("etag"), renamed.header("etag"));
        assert_eq!(read.source(), "table");
    }
    let merge_patch = stack.client.request(Method::PATCH, &path);
    let merge_patch =
        merge_patch.header("content-type", "application/merge-patch+json; charset=utf-8");
    assert_eq!(stack.client.send(merge_patch.body(r#"{"name":"Dora"}"#)).await.status, 200);
    assert_eq!(stack.client.get(&path).await.name(), "Dora");
}

async fn a_delete_is_seen_at_once(stack: Stack) {
    let path = stack.client.create("Ann").await;
    stack.client.get(&path).await;
    let deleted = stack.client.delete(&path).await;
    assert_eq!((deleted.status, &*deleted.text), (204, ""));
    assert_eq!(stack.client.get(&path).await.status, 404);
    assert_eq!(stack.client.delete(&path).await.status, 404);
    assert_eq!(stack.client.patch(&path, r#"{"name":"Bea"}"#).await.status, 404);
}

async fn a_user_that_does_not_exist_is_not_found_and_that_is_remembered(stack: Stack) {
    let path = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    let body = r#"{"user_id":"01KB584F3Y9AF31621Q7N62Q67","status":"Not found"}"#;
    let first = stack.client.get(path).await;
    assert_eq!((first.status, &*first.text), (404, body));
    assert_eq!(first.header("cache-status"), "cache-aside; fwd=miss; stored");
    let second = stack.client.get(path).await;
    assert_eq!((second.status, &*second.text), (404, body));
    assert!(second.header("cache-status").starts_with("cache-aside; hit; ttl="), "{second:?}");

    // What is no ULID can be nobody's id: neither the cache nor the table is asked.
    for id in ["nobody", "Z1KB584F3Y9AF31621Q7N62Q67", "01KB584F3Y9AF31621Q7N62Q6", "a%20b%27"] {
        let answer = stack.client.get(&format!("/api/users/{id}")).await;
        let decoded = id.replace("%20", " ").replace("%27", "'");
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json(), json!({"user_id": decoded, "status": "Not found"}));
        assert_eq!(answer.header("cache-status"), "");
    }
}

async fn not_found_is_not_remembered_when_turned_off(stack: Stack) {
    for _ in 0..2 {
        let answer = stack.client.get("/api/users/01KB584F3Y9AF31621Q7N62Q67").await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("cache-status"), "cache-aside; fwd=miss");
    }
}

async fn an_id_in_lower_case_is_the_same_user(stack: Stack) {
    let path = stack.client.create("Ann").await;
    let lower = path.to_lowercase();
    assert_eq!(stack.client.get(&lower).await.source(), "table");
    assert_eq!(stack.client.get(&path).await.source(), stack.cache);
    assert_eq!(stack.client.patch(&lower, r#"{"name":"Bea"}"#).await.status, 200);
    assert_eq!(stack.client.get(&path).await.name(), "Bea");
    assert_eq!(
        stack.client.get(&lower).await.json()["data"]["RowKey"],
        path["/api/users/".len()..]
    );
}

async fn a_path_matches_in_any_case_and_percent_encoded(stack: Stack) {
    let path = stack.client.create("Ann").await;
    let id = path.strip_prefix("/api/users/").unwrap();
    let encoded = format!("%{:02X}{}", id.as_bytes()[0], &id[1..]);
    for path in
        [format!("/API/Users/{id}"), format!("/%61pi/us%65rs/{encoded}"), format!("{path}/?x=1")]
    {
        assert_eq!(stack.client.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(stack.client.post("/API/USERS", "").await.status, 201);
}

async fn a_head_is_a_get_without_a_body(stack: Stack) {
    let path = stack.client.create("Ann").await;
    let (get, head) = (
        stack.client.get(&path).await,
        stack.client.send(stack.client.request(Method::HEAD, &path)).await,
    );
    assert_eq!((head.status, &*head.text), (200, ""));
    assert_eq!(head.header("etag"), get.header("etag"));
    assert!(head.header("cache-status").contains("hit"));
}

async fn a_read_is_revalidated_with_its_etag(stack: Stack) {
    let path = stack.client.create("Ann").await;
    let etag = stack.client.get(&path).await.header("etag").to_owned();
    let strong = etag.strip_prefix("W/").unwrap();
    for tags in [&etag, "*", strong, &format!("\"x\", {etag}")] {
        let answer = stack.conditional(Method::GET, &path, "if-none-match", tags).await;
        assert_eq!((answer.status, &*answer.text), (304, ""), "{tags}");
        assert_eq!(answer.header("etag"), etag);
        assert_eq!(answer.header("cache-control"), "private, no-cache");
        assert!(answer.header("cache-status").starts_with("cache-aside; hit"));
    }
    for tags in ["W/\"x\"", "nonsense"] {
        assert_eq!(stack.conditional(Method::GET, &path, "if-none-match", tags).await.status, 200);
    }
    stack.client.patch(&path, r#"{"name":"Bea"}"#).await;
    assert_eq!(stack.conditional(Method::GET, &path, "if-none-match", &etag).await.status, 200);
    let nobody = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    assert_eq!(stack.conditional(Method::GET, nobody, "if-none-match", "*").await.status, 404);
}

async fn a_write_holds_to_if_match(stack: Stack) {
    let path = stack.client.create("Ann").await;
    let old = stack.client.get(&path).await.header("etag").to_owned();
    let changed = stack.conditional(Method::PATCH, &path, "if-match", &old).await;
    assert_eq!(changed.status, 200);
    let new = changed.header("etag").to_owned();
    assert_ne!(old, new);

    for method in [Method::PATCH, Method::DELETE] {
        for tags in [&old, "W/\"x\"", "\"x\"", &format!("{old}, \"x\""), "nonsense"] {
            let refused = stack.conditional(method.clone(), &path, "if-match", tags).await;
            assert_eq!(refused.status, 412, "{method} {tags}");
            assert_eq!(refused.json()["status"], "Precondition failed");
        }
    }
    let listed =
        stack.conditional(Method::PATCH, &path, "if-match", &format!("\"x\", {new}")).await;
    assert_eq!(listed.status, 200);
    assert_eq!(stack.conditional(Method::PATCH, &path, "if-match", "*").await.status, 200);
    assert_eq!(stack.conditional(Method::DELETE, &path, "if-match", "*").await.status, 204);
    let nobody = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    for tags in ["*", &old, &format!("{old}, \"x\"")] {
        assert_eq!(stack.conditional(Method::DELETE, nobody, "if-match", tags).await.status, 404);
    }
}

/// The path of a user that does not exist.
fn nobody() -> String {
    format!("/api/users/{}", Ulid::generate())
}

async fn a_put_creates_a_user_and_then_replaces_it(stack: Stack) {
    let path = nobody();
    let id = path.strip_prefix("/api/users/").unwrap();
    let created = stack.client.put(&path, r#"{"name":" Ännchen "}"#).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header("location"), path);
    assert!(created.header("etag").starts_with("W/\""), "{created:?}");
    assert!(created.header("server-timing").contains("table;dur="), "{created:?}");
    let expected = format!(r#"{{"PartitionKey":"user","RowKey":"{id}","Name":"Ännchen"}}"#);
    assert_eq!(created.text, expected);

    let mut etag = created.header("etag").to_owned();
    // The same call again, as after a timeout, leaves the same user.
    for name in ["Ännchen", "Bea"] {
        let replaced = stack.client.put(&path, json!({ "name": name }).to_string()).await;
        assert_eq!(replaced.status, 200, "{replaced:?}");
        assert_eq!(replaced.header("location"), "");
        assert_ne!(replaced.header("etag"), etag);
        etag = replaced.header("etag").to_owned();
        let read = stack.client.get(&path).await;
        assert_eq!((&*read.name(), read.header("etag")), (name, &*etag));
        assert_eq!(read.json()["data"], replaced.json());
    }
    stack.client.delete(&path).await;
    assert_eq!(stack.client.put(&path, r#"{"name":"Cleo"}"#).await.status, 201);
    assert_eq!(stack.client.get(&path).await.name(), "Cleo");
}

async fn a_put_is_seen_at_once_by_who_was_told_that_there_is_no_such_user(stack: Stack) {
    let path = nobody();
    stack.client.get(&path).await;
    let remembered = stack.client.get(&path).await;
    assert_eq!(remembered.status, 404);
    assert!(remembered.header("cache-status").contains("; hit;"), "{remembered:?}");
    assert_eq!(stack.client.put(&path, r#"{"name":"Ann"}"#).await.status, 201);
    for source in ["table", stack.cache] {
        let read = stack.client.get(&path).await;
        assert_eq!((&*read.name(), &*read.source()), ("Ann", source));
    }
}

async fn a_put_in_lower_case_is_the_same_user(stack: Stack) {
    let path = nobody();
    let created = stack.client.put(&path.to_lowercase(), r#"{"name":"Ann"}"#).await;
    assert_eq!((created.status, created.header("location")), (201, &*path));
    assert_eq!(stack.client.put(&path, r#"{"name":"Bea"}"#).await.status, 200);
    assert_eq!(stack.client.get(&path.to_lowercase()).await.name(), "Bea");
}

async fn a_put_with_if_none_match_creates_and_never_replaces(stack: Stack) {
    let path = nobody();
    let created = stack.conditional(Method::PUT, &path, "if-none-match", "*").await;
    assert_eq!((created.status, created.header("location")), (201, &*path));
    stack.client.patch(&path, r#"{"name":"Ann"}"#).await;
    let refused = stack.conditional(Method::PUT, &path, "if-none-match", "*").await;
    assert_eq!(refused.status, 412);
    assert!(refused.json()["detail"].as_str().unwrap().contains("the user exists"), "{refused:?}");
    assert_eq!(stack.client.get(&path).await.name(), "Ann");

    // Tags are refused, also those of other versions and beside If-Match: they are not ignored.
    let etag = stack.client.get(&path).await.header("etag").to_owned();
    for tags in [&etag, "\"x\"", "nonsense"] {
        let refused = stack.conditional(Method::PUT, &path, "if-none-match", tags).await;
        assert_eq!(refused.status, 400, "{tags}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("must be *"), "{refused:?}");
    }
    for (if_match, if_none_match, status) in
        [("*", "*", 412), (&etag, "*", 412), ("*", "\"x\"", 400)]
    {
        let request = stack.client.request(Method::PUT, &path).header("if-match", if_match);
        let request = request.header("if-none-match", if_none_match).body(r#"{"name":"Bea"}"#);
        let refused = stack.client.send(request).await;
        assert_eq!(refused.status, status, "{if_match} {if_none_match}");
    }
    assert_eq!(stack.client.get(&path).await.name(), "Ann");
}

async fn a_put_with_if_match_replaces_and_never_creates(stack: Stack) {
    let path = nobody();
    for tags in ["*", "W/\"x\"", "\"x\"", "W/\"x\", \"y\"", "nonsense"] {
        let refused = stack.conditional(Method::PUT, &path, "if-match", tags).await;
        assert_eq!(refused.status, 412, "{tags}");
        assert_eq!(refused.json()["status"], "Precondition failed");
    }
    assert_eq!(stack.client.get(&path).await.status, 404, "it was not created");

    let old = stack.client.put(&path, r#"{"name":"Ann"}"#).await.header("etag").to_owned();
    let replaced = stack.conditional(Method::PUT, &path, "if-match", &old).await;
    assert_eq!((replaced.status, &replaced.json()["Name"]), (200, &json!("Changed")));
    let current = replaced.header("etag").to_owned();
    for tags in [&old, &format!("{old}, \"x\""), current.trim_start_matches("W/"), "nonsense"] {
        let refused = stack.conditional(Method::PUT, &path, "if-match", tags).await;
        assert_eq!(refused.status, 412, "{tags}");
    }
    for tags in [&format!("\"x\", {current}"), "*"] {
        let replaced = stack.conditional(Method::PUT, &path, "if-match", tags).await;
        assert_eq!(replaced.status, 200, "{tags}");
        assert_eq!(stack.client.get(&path).await.header("etag"), replaced.header("etag"));
    }
}

async fn of_concurrent_puts_of_a_new_id_one_creates_it(stack: Stack) {
    for _ in 0..5 {
        let path = nobody();
        let put = |name: &str| stack.client.put(&path, json!({ "name": name }).to_string());
        let (ann, bea) = tokio::join!(put("Ann"), put("Bea"));
        let mut statuses = [ann.status, bea.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 201]);
        let read = stack.client.get(&path).await;
        let replaced = if ann.status == 200 { ann } else { bea };
        assert_eq!(read.json()["data"], replaced.json(), "the one that replaced it came last");
    }
}

async fn health_names_each_part(stack: Stack) {
    let health = stack.client.get("/api/health").await;
    assert_eq!(health.status, 200);
    let health = health.json();
    assert_eq!(health["status"], "healthy");
    let (cache, store) = match stack.cache {
        "redis" => ("redis", "table"),
        _ => ("memory", "memory"),
    };
    for (part, kind) in [("cache", cache), ("store", store)] {
        assert_eq!(health[part]["kind"], kind);
        assert_eq!(health[part]["status"], "ok");
        assert!(health[part]["ms"].is_f64(), "{health}");
        assert!(health[part]["probe"].is_string(), "{health}");
    }
}

async fn the_handler_is_alive_and_answers_the_ping(stack: Stack) {
    for path in ["/api/live", "/"] {
        assert_eq!(stack.client.get(path).await.status, 200);
    }
}

async fn the_demo_page_runs_nothing_but_its_own_script_and_style(stack: Stack) {
    let page = stack.client.get("/api/demo").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let policy = page.header("content-security-policy");
    let sources = |directive: &str| {
        let found = policy.split("; ").find_map(|part| part.strip_prefix(directive));
        found.unwrap_or_else(|| panic!("no {directive} in {policy}")).trim().to_owned()
    };
    for (directive, start, end) in [
        ("script-src", "<script type=\"module\">", "</script>"),
        ("style-src", "<style>", "</style>"),
    ] {
        assert_eq!(page.text.matches(start).count(), 1);
        let content = page.text.split(start).nth(1).unwrap().split(end).next().unwrap();
        assert!(content.len() > 1000, "{content}");
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(content));
        assert_eq!(sources(directive), format!("'sha256-{hash}'"));
    }
    assert_eq!(sources("default-src"), "'none'");
    assert_eq!(sources("connect-src"), "'self'");
    assert_eq!(sources("require-trusted-types-for"), "'script'");
    // Nothing is loaded from elsewhere; the only address in the page is the name of SVG's namespace.
    let elsewhere = page.text.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"));
}

async fn the_demo_page_is_revalidated_with_its_etag(stack: Stack) {
    let page = stack.client.get("/api/demo").await;
    let etag = page.header("etag");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 20, "{etag}");
    assert_eq!(page.header("cache-control"), "no-cache");
    let head = stack.client.send(stack.client.request(Method::HEAD, "/api/demo")).await;
    assert_eq!((head.status, &*head.text, head.header("etag")), (200, "", etag));
    assert_eq!(head.header("content-length"), page.text.len().to_string());
    let same = stack.conditional(Method::GET, "/api/demo", "if-none-match", etag).await;
    assert_eq!((same.status, &*same.text, same.header("etag")), (304, "", etag));
    assert_eq!(same.header("cache-control"), "no-cache");
    let other = stack.conditional(Method::GET, "/api/demo", "if-none-match", "\"other\"").await;
    assert_eq!((other.status, other.text), (200, page.text.clone()));
}

async fn unknown_paths_and_methods_are_told_apart(stack: Stack) {
    for path in ["/api", "/api/user", "/users", "/api/users/x/y", "/index.html"] {
        let answer = stack.client.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["status"], "Not found");
        assert!(answer.json()["detail"].as_str().unwrap().contains("/api/users"));
    }
    for (method, path, allow) in [
        (Method::GET, "/api/users", "POST"),
        (Method::PUT, "/api/users", "POST"),
        (Method::POST, "/api/users/x", "GET, HEAD, PUT, PATCH, DELETE"),
        (Method::POST, "/api/health", "GET, HEAD"),
        (Method::DELETE, "/api/live", "GET, HEAD"),
        (Method::POST, "/api/demo", "GET, HEAD"),
        (Method::POST, "/api/openapi.json", "GET, HEAD"),
    ] {
        let answer = stack.client.send(stack.client.request(method, path)).await;
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.header("allow"), allow);
        assert_eq!(answer.json()["status"], "Method not allowed");
    }
}
