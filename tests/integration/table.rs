//! The table: its rows, other programs that use it, and requests that fail.

use std::sync::Arc;
use std::time::Duration;

use crate::support::connection_string;
use crate::support::handler::Handler;
use crate::support::{
    Answer, Azurite, Client, Redis, eventually, fresh_table, on_servers, settings, start,
};
use azure_data_tables::clients::{TableClient, TableServiceClientBuilder};
use azure_storage::{CloudLocation, StorageCredentials};
use reqwest::Method;
use serde_json::{Value, json};
use test_programs::table_proxy::{Call, Fate, Proxy};
use ulid::Ulid;

/// A handler with a table of its own, and another program's client for that table.
struct Setup {
    client: Client,
    proxy: Proxy,
    table: TableClient,
    _azurite: Arc<Azurite>,
}

impl Setup {
    async fn start(given: &[(&str, String)]) -> Self {
        let azurite = Azurite::shared();
        let proxy = Proxy::in_front_of(azurite.port).await;
        let name = fresh_table();
        let mut all = vec![
            ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
            ("USERS_TABLE_NAME", name.clone()),
        ];
        all.extend(given.iter().cloned());
        let client = start(&settings(&all)).await;
        let setup =
            Self { client, proxy, table: other_program(azurite.port, &name), _azurite: azurite };
        // The table is created in the background at the start.
        eventually(Duration::from_secs(10), "the table is there", || async {
            setup.rows().await.is_some()
        })
        .await;
        setup.proxy.forget();
        setup
    }

    /// All rows, without the columns that the service adds.
    async fn rows(&self) -> Option<Vec<Value>> {
        use futures_util::StreamExt;
        let mut pages = self.table.query().into_stream::<Value>();
        let mut rows = Vec::new();
        while let Some(page) = pages.next().await {
            rows.extend(page.ok()?.entities);
        }
        for row in &mut rows {
            let row = row.as_object_mut()?;
            row.retain(|name, _| !name.contains("odata.") && name != "Timestamp");
        }
        Some(rows)
    }

    async fn insert(&self, row: Value) {
        self.table.insert::<_, Value>(row).unwrap().await.unwrap();
    }
}

fn other_program(port: u16, table: &str) -> TableClient {
    let uri = format!("http://127.0.0.1:{port}/devstoreaccount1");
    let location = CloudLocation::Custom { account: "devstoreaccount1".to_owned(), uri };
    TableServiceClientBuilder::with_location(location, StorageCredentials::emulator())
        .retry(azure_core::RetryOptions::none())
        .build()
        .table_client(table)
}

fn writes(method: Method) -> impl Fn(&Call) -> bool + Send + Sync + 'static {
    move |call| call.method == method && !call.path.ends_with("/Tables")
}

/// The method with which the table client sends a rename.
fn merge() -> Method {
    Method::from_bytes(b"MERGE").unwrap()
}

fn assert_unavailable(answer: &Answer, detail: &str) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    let body = answer.json();
    assert_eq!(body["status"], "Service unavailable");
    assert!(body["detail"].as_str().unwrap().contains(detail), "{body}");
}

#[tokio::test]
async fn a_row_has_three_columns() {
    let setup = Setup::start(&[]).await;
    let path = setup.client.create("Angelica Hill").await;
    setup.client.get(&path).await;
    let id = path.strip_prefix("/api/users/").unwrap();
    let row = |name: &str| json!({"PartitionKey": "user", "RowKey": id, "Name": name});
    assert_eq!(setup.rows().await.unwrap(), [row("Angelica Hill")]);
    setup.client.patch(&path, r#"{"name":"Ann"}"#).await;
    assert_eq!(setup.rows().await.unwrap(), [row("Ann")]);
    setup.client.delete(&path).await;
    assert!(setup.rows().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_row_of_another_program_is_served_and_keeps_its_other_columns() {
    let setup = Setup::start(&[]).await;
    let id = "01KB584F3Y9AF31621Q7N62Q67";
    setup.insert(json!({"PartitionKey": "user", "RowKey": id, "Name": "A\tB", "Age": 7})).await;
    let path = format!("/api/users/{id}");
    let read = setup.client.get(&path).await;
    assert_eq!(read.json()["data"], json!({"PartitionKey": "user", "RowKey": id, "Name": "A\tB"}));
    assert_eq!(setup.client.patch(&path, r#"{"name":"Ann"}"#).await.status, 200);
    let row = json!({"PartitionKey": "user", "RowKey": id, "Name": "Ann", "Age": 7});
    assert_eq!(setup.rows().await.unwrap(), [row]);
    assert_eq!(setup.client.put(&path, r#"{"name":"Bea"}"#).await.status, 200);
    let row = json!({"PartitionKey": "user", "RowKey": id, "Name": "Bea", "Age": 7});
    assert_eq!(setup.rows().await.unwrap(), [row]);
}

#[tokio::test]
async fn a_row_that_is_not_a_user_is_reported_and_can_be_repaired() {
    let setup = Setup::start(&[]).await;
    let id = "01KB584F3Y9AF31621Q7N62Q67";
    setup.insert(json!({"PartitionKey": "user", "RowKey": id, "Name": 7})).await;
    let path = format!("/api/users/{id}");
    let answer = setup.client.get(&path).await;
    assert_eq!(answer.status, 500);
    assert!(answer.json()["detail"].as_str().unwrap().contains("Name"), "{answer:?}");
    assert_eq!(setup.client.patch(&path, r#"{"name":"Ann"}"#).await.status, 200);
    assert_eq!(setup.client.get(&path).await.name(), "Ann");
}

#[tokio::test]
async fn a_change_by_another_program_shows_after_the_ttl() {
    let setup =
        Setup::start(&[("CACHE_TTL", "500ms".into()), ("CACHE_NEGATIVE_TTL", "0s".into())]).await;
    let path = setup.client.create("Ann").await;
    setup.client.get(&path).await;
    let id = path.strip_prefix("/api/users/").unwrap();
    let row = json!({"PartitionKey": "user", "RowKey": id, "Name": "Bea"});
    let entity = setup.table.partition_key_client("user").entity_client(id);
    entity.update(row, azure_data_tables::IfMatchCondition::Any).unwrap().await.unwrap();
    eventually(Duration::from_secs(5), "the change shows", || async {
        setup.client.get(&path).await.name() == "Bea"
    })
    .await;
}

#[tokio::test]
async fn a_missing_table_is_created_and_does_not_count_as_a_missing_user() {
    let setup = Setup::start(&[]).await;
    let path = setup.client.create("Ann").await;
    setup.table.delete().await.unwrap();
    let created = setup.client.post("/api/users", "").await;
    assert_eq!(created.status, 201);
    assert_eq!(setup.client.get(created.header("location")).await.status, 200);

    setup.table.delete().await.unwrap();
    let new = format!("/api/users/{}", Ulid::generate());
    assert_eq!(setup.client.put(&new, r#"{"name":"Ann"}"#).await.status, 201);

    setup.table.delete().await.unwrap();
    assert_eq!(setup.client.get(&path).await.status, 404);
    assert_eq!(setup.rows().await.unwrap(), [] as [Value; 0], "the table is there again");

    // If it cannot be created, it is unknown whether there is such a user.
    setup.table.delete().await.unwrap();
    setup.proxy.decide(|call| {
        match call.path.ends_with("/Tables") && call.method == Method::POST {
            true => Fate::Answer(403, ""),
            false => Fate::Pass,
        }
    });
    let other = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    assert_unavailable(&setup.client.get(other).await, "is unavailable");
    setup.proxy.decide(|_| Fate::Pass);
    setup.client.create("Bea").await;
    let row =
        json!({"PartitionKey": "user", "RowKey": &other["/api/users/".len()..], "Name": "Cleo"});
    setup.insert(row).await;
    assert_eq!(setup.client.get(other).await.name(), "Cleo", "not found was not remembered");
}

#[tokio::test]
async fn a_create_whose_reply_was_lost_is_a_201_and_one_row() {
    let setup = Setup::start(&[("TABLE_TIMEOUT", "1500ms".into())]).await;
    for fate in [Fate::LoseReply, Fate::Answer(503, "busy"), Fate::Answer(500, "")] {
        setup.proxy.forget();
        setup.proxy.decide_once(writes(Method::POST), fate.clone());
        let created = setup.client.post("/api/users", r#"{"name":"Ann"}"#).await;
        assert_eq!(created.status, 201, "{fate:?}: {created:?}");
        assert_eq!(setup.proxy.count(writes(Method::POST)), 2);
        let read = setup.client.get(created.header("location")).await;
        assert_eq!(read.header("etag"), created.header("etag"));
    }
    assert_eq!(setup.rows().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_create_that_may_have_been_applied_is_not_reported_as_refused() {
    let setup = Setup::start(&[("TABLE_TIMEOUT", "1500ms".into())]).await;
    let attempts = std::sync::atomic::AtomicUsize::new(0);
    let is_create = writes(Method::POST);
    setup.proxy.decide(move |call| match is_create(call) {
        false => Fate::Pass,
        true if attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => Fate::LoseReply,
        true => Fate::Answer(403, ""),
    });
    assert_unavailable(&setup.client.post("/api/users", "").await, "may have been applied");
    assert_eq!(setup.rows().await.unwrap().len(), 1, "and so it was");
}

/// What can happen to a write so that its outcome is unknown, and whether it is applied.
fn unknown_outcomes() -> [(Fate, bool); 6] {
    [
        (Fate::LoseReply, true),
        (Fate::Swallow, false),
        (Fate::Answer(503, "busy"), false),
        (Fate::Answer(500, ""), false),
        (Fate::Answer(429, ""), false),
        (Fate::Answer(408, ""), false),
    ]
}

#[tokio::test]
async fn a_write_whose_outcome_is_unknown_is_sent_once_and_reported_as_unknown() {
    let setup = Setup::start(&[("TABLE_TIMEOUT", "300ms".into())]).await;
    let path = setup.client.create("Ann").await;
    for (fate, applied) in unknown_outcomes() {
        setup.client.patch(&path, r#"{"name":"Ann"}"#).await;
        setup.proxy.forget();
        setup.proxy.decide_once(writes(merge()), fate.clone());
        let answer = setup.client.patch(&path, r#"{"name":"Bea"}"#).await;
        assert_unavailable(&answer, "may have been applied");
        assert_eq!(setup.proxy.count(writes(merge())), 1, "{fate:?}");
        // Its fence is still there: nothing is cached while the write may still be applied.
        let read = setup.client.get(&path).await;
        assert_eq!(read.name(), if applied { "Bea" } else { "Ann" }, "{fate:?}");
        assert_eq!(read.header("cache-status"), "cache-aside; fwd=bypass; detail=fence");
    }
    setup.proxy.decide_once(writes(Method::DELETE), Fate::LoseReply);
    assert_unavailable(&setup.client.delete(&path).await, "may have been applied");
    assert_eq!(setup.client.get(&path).await.status, 404);
}

/// Sends a PUT with this condition, if there is one.
async fn put(client: &Client, path: &str, condition: Option<(&str, &str)>) -> Answer {
    let mut request = client.request(Method::PUT, path).body(r#"{"name":"Bea"}"#);
    if let Some((header, tags)) = condition {
        request = request.header(header, tags);
    }
    client.send(request).await
}

/// Each request of a PUT, the insert and the merge, is sent once. The client repeats the PUT, and the
/// user is what it was to be.
#[tokio::test]
async fn a_put_whose_outcome_is_unknown_is_repeated_by_the_client_and_not_by_the_handler() {
    let setup = Setup::start(&[("TABLE_TIMEOUT", "300ms".into())]).await;
    for (fate, applied) in unknown_outcomes() {
        let path = format!("/api/users/{}", Ulid::generate());
        setup.client.get(&path).await; // remembered as not found
        setup.proxy.forget();
        setup.proxy.decide_once(writes(Method::POST), fate.clone());
        assert_unavailable(
            &put(&setup.client, &path, None).await,
            "the same request can be sent again",
        );
        let sent = (setup.proxy.count(writes(Method::POST)), setup.proxy.count(writes(merge())));
        assert_eq!(sent, (1, 0), "{fate:?}");
        // Its fence is still there: nothing is cached while the write may still be applied.
        let read = setup.client.get(&path).await;
        assert_eq!(read.status, if applied { 200 } else { 404 }, "{fate:?}");
        assert_eq!(read.header("cache-status"), "cache-aside; fwd=bypass; detail=fence");
        let repeated = put(&setup.client, &path, None).await;
        assert_eq!(repeated.status, if applied { 200 } else { 201 }, "{fate:?}");

        setup.client.patch(&path, r#"{"name":"Ann"}"#).await;
        setup.proxy.forget();
        setup.proxy.decide_once(writes(merge()), fate.clone());
        assert_unavailable(
            &put(&setup.client, &path, None).await,
            "the same request can be sent again",
        );
        let sent = (setup.proxy.count(writes(Method::POST)), setup.proxy.count(writes(merge())));
        assert_eq!(sent, (1, 1), "{fate:?}");
        let name = if applied { "Bea" } else { "Ann" };
        assert_eq!(setup.client.get(&path).await.name(), name, "{fate:?}");
        assert_eq!(put(&setup.client, &path, None).await.status, 200);
        assert_eq!(setup.client.get(&path).await.name(), "Bea");
    }
}

#[tokio::test]
async fn a_write_whose_outcome_is_unknown_is_answered_with_what_to_do() {
    let setup = Setup::start(&[("TABLE_TIMEOUT", "300ms".into())]).await;
    let path = setup.client.create("Ann").await;
    let etag = setup.client.get(&path).await.header("etag").to_owned();
    let new = format!("/api/users/{}", Ulid::generate());
    setup.proxy.decide(|call| match call.is_read() {
        true => Fate::Pass,
        false => Fate::Answer(500, ""),
    });
    for (path, condition, next_step) in [
        (&new, None, "the same request can be sent again"),
        (&path, Some(("if-match", "*")), "the same request can be sent again"),
        (&path, Some(("if-match", &*etag)), "read before trying again"),
        (&new, Some(("if-none-match", "*")), "read before trying again"),
    ] {
        assert_unavailable(&put(&setup.client, path, condition).await, next_step);
    }
    let renamed = setup.client.patch(&path, r#"{"name":"Bea"}"#).await;
    assert_unavailable(&renamed, "the same request can be sent again");
    assert_unavailable(&setup.client.delete(&path).await, "the same request can be sent again");
    let delete = setup.client.request(Method::DELETE, &path).header("if-match", &etag);
    assert_unavailable(&setup.client.send(delete).await, "read before trying again");
    let created = setup.client.post("/api/users", r#"{"name":"Bea"}"#).await;
    assert_unavailable(&created, "may create a second user; a PUT with an id of your own");
}

/// Between the insert and the merge of a PUT, another client may delete the user, and create it again.
#[tokio::test]
async fn a_put_goes_on_when_the_user_was_deleted_meanwhile_and_does_not_go_on_for_ever() {
    let exists = Fate::Answer(409, r#"{"code":"EntityAlreadyExists"}"#);
    let setup = Setup::start(&[]).await;
    let path = format!("/api/users/{}", Ulid::generate());
    setup.proxy.decide_once(writes(Method::POST), exists.clone());
    assert_eq!(put(&setup.client, &path, None).await.status, 201);
    let sent = (setup.proxy.count(writes(Method::POST)), setup.proxy.count(writes(merge())));
    assert_eq!(sent, (2, 1));
    assert_eq!(setup.client.get(&path).await.name(), "Bea");

    let path = format!("/api/users/{}", Ulid::generate());
    setup.proxy.forget();
    let is_insert = writes(Method::POST);
    setup.proxy.decide(move |call| if is_insert(call) { exists.clone() } else { Fate::Pass });
    assert_unavailable(&put(&setup.client, &path, None).await, "nothing was changed");
    let sent = (setup.proxy.count(writes(Method::POST)), setup.proxy.count(writes(merge())));
    assert_eq!(sent, (3, 3));
}

/// Two processes share Redis and the table.
#[tokio::test]
async fn a_put_in_one_process_is_seen_at_once_in_another_that_remembers_not_found() {
    let (redis, azurite) = (Redis::start(), Azurite::shared());
    let mut settings = on_servers(redis.port, azurite.port);
    settings.extend(["CACHE_TTL", "CACHE_NEGATIVE_TTL"].map(|name| (name, "60s".to_owned())));
    let (one, other) = tokio::join!(Handler::start(&settings), Handler::start(&settings));
    for _ in 0..5 {
        let path = format!("/api/users/{}", Ulid::generate());
        for client in [&one.client, &one.client, &other.client] {
            assert_eq!(client.get(&path).await.status, 404);
        }
        let remembered = other.client.get(&path).await;
        assert!(remembered.header("cache-status").contains("; hit;"), "{remembered:?}");
        assert_eq!(one.client.put(&path, r#"{"name":"Ann"}"#).await.status, 201);
        for client in [&other.client, &one.client] {
            let read = client.get(&path).await;
            assert_eq!((read.status, &*read.name()), (200, "Ann"), "{read:?}");
        }
        // Of two at the same time, one creates the user, and both processes see the later one.
        let path = format!("/api/users/{}", Ulid::generate());
        assert_eq!(other.client.get(&path).await.status, 404);
        let (ann, bea) = tokio::join!(
            one.client.put(&path, r#"{"name":"Ann"}"#),
            other.client.put(&path, r#"{"name":"Bea"}"#)
        );
        let later = match (ann.status, bea.status) {
            (201, 200) => bea,
            (200, 201) => ann,
            statuses => panic!("{statuses:?}"),
        };
        for client in [&one.client, &other.client] {
            assert_eq!(client.get(&path).await.json()["data"], later.json());
        }
    }
}

#[tokio::test]
async fn a_refused_write_is_reported_as_not_applied() {
    let setup = Setup::start(&[]).await;
    let path = setup.client.create("Ann").await;
    setup.proxy.decide_once(writes(merge()), Fate::Answer(403, ""));
    let answer = setup.client.patch(&path, r#"{"name":"Bea"}"#).await;
    assert_unavailable(&answer, "nothing was changed");
    assert_eq!(
        setup.client.get(&path).await.header("cache-status"),
        "cache-aside; fwd=miss; stored"
    );
}

/// With a list of tags, the handler first reads which one is current. If that fails, the write has
/// not been sent, and the error says so.
#[tokio::test]
async fn a_write_that_was_never_sent_is_not_reported_as_unknown() {
    let setup = Setup::start(&[("TABLE_TIMEOUT", "600ms".into())]).await;
    let path = setup.client.create("Ann").await;
    let etag = setup.client.get(&path).await.header("etag").to_owned();
    for fate in [Fate::Answer(503, ""), Fate::Swallow] {
        setup.proxy.decide_once(Call::is_read, fate);
        let rename = setup.client.request(Method::PATCH, &path);
        let rename = rename.header("if-match", format!("\"x\", {etag}")).body(r#"{"name":"Bea"}"#);
        assert_unavailable(&setup.client.send(rename).await, "nothing was changed");
        assert_eq!(setup.proxy.count(writes(merge())), 0);
    }
}

/// A client that follows a redirect sends a GET, and would take its 200 for the answer to the write.
#[tokio::test]
async fn a_redirected_write_is_not_a_success() {
    let setup = Setup::start(&[]).await;
    let path = setup.client.create("Ann").await;
    let elsewhere = Proxy::in_front_of(1).await;
    elsewhere.decide(|_| Fate::Answer(200, ""));
    let location = format!("http://127.0.0.1:{}/", elsewhere.port);
    setup.proxy.decide_once(writes(merge()), Fate::Redirect(location));
    let answer = setup.client.patch(&path, r#"{"name":"Bea"}"#).await;
    assert_unavailable(&answer, "may have been applied");
    assert_eq!(elsewhere.count(|_| true), 0, "the redirect was not followed");
}

#[tokio::test]
async fn a_load_is_repeated_within_its_time() {
    let setup = Setup::start(&[("TABLE_TIMEOUT", "900ms".into())]).await;
    for fate in [Fate::Answer(503, ""), Fate::Answer(500, "nonsense"), Fate::Swallow] {
        let path = setup.client.create("Ann").await;
        setup.proxy.decide_once(Call::is_read, fate.clone());
        let read = setup.client.get(&path).await;
        assert_eq!((read.status, read.source()), (200, "table".to_owned()), "{fate:?}");
    }
}

#[tokio::test]
async fn a_404_of_another_server_does_not_count_as_a_missing_user() {
    let setup = Setup::start(&[]).await;
    let path = setup.client.create("Ann").await;
    setup.proxy.decide(|call| if call.is_read() { Fate::Answer(404, "") } else { Fate::Pass });
    assert_unavailable(&setup.client.get(&path).await, "is unavailable");
    setup.proxy.decide(|_| Fate::Pass);
    assert_eq!(setup.client.get(&path).await.name(), "Ann");
}

#[tokio::test]
async fn two_handlers_with_different_tables_on_one_redis_never_serve_the_users_of_the_other() {
    let (redis, azurite) = (Redis::start(), Azurite::shared());
    let id = "01KB584F3Y9AF31621Q7N62Q67";
    let path = format!("/api/users/{id}");
    let mut handlers = Vec::new();
    for name in ["Ann", "Bea"] {
        let table = fresh_table();
        let program = other_program(azurite.port, &table);
        program.create().await.unwrap();
        let row = json!({"PartitionKey": "user", "RowKey": id, "Name": name});
        program.insert::<_, Value>(row).unwrap().await.unwrap();
        let client = start(&settings(&[
            ("REDIS_URL", redis.url()),
            ("USERS_TABLE_CONNECTION", azurite.connection_string()),
            ("USERS_TABLE_NAME", table),
        ]))
        .await;
        handlers.push((client, name));
    }
    for source in ["table", "redis"] {
        for (client, name) in &handlers {
            let read = client.get(&path).await;
            assert_eq!((read.name().as_str(), read.source().as_str()), (*name, source));
        }
    }
    // Nor do handlers without a table: a user that one of them does not have may exist in the other.
    let embedded = async || start(&settings(&[("REDIS_URL", redis.url())])).await;
    let (one, other) = (embedded().await, embedded().await);
    let path = one.create("Cleo").await;
    assert_eq!(other.get(&path).await.status, 404);
    assert_eq!(one.get(&path).await.name(), "Cleo");
}
