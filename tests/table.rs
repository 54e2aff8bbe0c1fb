//! The table: what is in it, who else reads and writes it, and what becomes of calls that go wrong.

mod support;

use std::sync::Arc;
use std::time::Duration;

use azure_data_tables::clients::{TableClient, TableServiceClientBuilder};
use azure_storage::{CloudLocation, StorageCredentials};
use reqwest::Method;
use serde_json::{Value, json};
use support::proxy::{Call, Fate, Proxy};
use support::servers::connection_string;
use support::{Answer, Azurite, Client, Redis, eventually, fresh_table, settings, start};

/// A handler with a table of its own, and another program's way to that table.
struct Stand {
    client: Client,
    proxy: Proxy,
    table: TableClient,
    _azurite: Arc<Azurite>,
}

impl Stand {
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
        let stand =
            Self { client, proxy, table: other_program(azurite.port, &name), _azurite: azurite };
        // The table is created in the background at the start.
        eventually(Duration::from_secs(10), "the table is there", || async {
            stand.rows().await.is_some()
        })
        .await;
        stand.proxy.forget();
        stand
    }

    /// All rows, without what the service adds to each.
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

/// The method that the table client sends a rename with.
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
async fn a_row_has_three_columns_and_no_more() {
    let stand = Stand::start(&[]).await;
    let path = stand.client.create("Angelica Hill").await;
    stand.client.get(&path).await;
    let id = path.strip_prefix("/api/users/").unwrap();
    let row = |name: &str| json!({"PartitionKey": "user", "RowKey": id, "Name": name});
    assert_eq!(stand.rows().await.unwrap(), [row("Angelica Hill")]);
    stand.client.patch(&path, r#"{"name":"Ann"}"#).await;
    assert_eq!(stand.rows().await.unwrap(), [row("Ann")]);
    stand.client.delete(&path).await;
    assert!(stand.rows().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_row_of_another_program_is_served_and_keeps_its_other_columns() {
    let stand = Stand::start(&[]).await;
    let id = "01KB584F3Y9AF31621Q7N62Q67";
    stand.insert(json!({"PartitionKey": "user", "RowKey": id, "Name": "A\tB", "Age": 7})).await;
    let path = format!("/api/users/{id}");
    let read = stand.client.get(&path).await;
    assert_eq!(read.json()["data"], json!({"PartitionKey": "user", "RowKey": id, "Name": "A\tB"}));
    assert_eq!(stand.client.patch(&path, r#"{"name":"Ann"}"#).await.status, 200);
    let row = json!({"PartitionKey": "user", "RowKey": id, "Name": "Ann", "Age": 7});
    assert_eq!(stand.rows().await.unwrap(), [row]);
}

#[tokio::test]
async fn a_row_that_is_no_user_is_told_and_can_be_mended() {
    let stand = Stand::start(&[]).await;
    let id = "01KB584F3Y9AF31621Q7N62Q67";
    stand.insert(json!({"PartitionKey": "user", "RowKey": id, "Name": 7})).await;
    let path = format!("/api/users/{id}");
    let answer = stand.client.get(&path).await;
    assert_eq!(answer.status, 500);
    assert!(answer.json()["detail"].as_str().unwrap().contains("Name"), "{answer:?}");
    assert_eq!(stand.client.patch(&path, r#"{"name":"Ann"}"#).await.status, 200);
    assert_eq!(stand.client.get(&path).await.name(), "Ann");
}

#[tokio::test]
async fn a_change_behind_the_handler_s_back_shows_after_the_ttl() {
    let stand =
        Stand::start(&[("CACHE_TTL", "500ms".into()), ("CACHE_NEGATIVE_TTL", "0s".into())]).await;
    let path = stand.client.create("Ann").await;
    stand.client.get(&path).await;
    let id = path.strip_prefix("/api/users/").unwrap();
    let row = json!({"PartitionKey": "user", "RowKey": id, "Name": "Bea"});
    let entity = stand.table.partition_key_client("user").entity_client(id);
    entity.update(row, azure_data_tables::IfMatchCondition::Any).unwrap().await.unwrap();
    eventually(Duration::from_secs(5), "the change shows", || async {
        stand.client.get(&path).await.name() == "Bea"
    })
    .await;
}

#[tokio::test]
async fn a_missing_table_is_created_and_is_no_missing_user() {
    let stand = Stand::start(&[]).await;
    let path = stand.client.create("Ann").await;
    stand.table.delete().await.unwrap();
    let created = stand.client.post("/api/users", "").await;
    assert_eq!(created.status, 201);
    assert_eq!(stand.client.get(created.header("location")).await.status, 200);

    stand.table.delete().await.unwrap();
    assert_eq!(stand.client.get(&path).await.status, 404);
    assert_eq!(stand.rows().await.unwrap(), [] as [Value; 0], "the table is there again");

    // Where it cannot be created, nobody knows whether there is such a user.
    stand.table.delete().await.unwrap();
    stand.proxy.decide(|call| {
        match call.path.ends_with("/Tables") && call.method == Method::POST {
            true => Fate::Answer(403, ""),
            false => Fate::Pass,
        }
    });
    let other = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    assert_unavailable(&stand.client.get(other).await, "cannot be reached");
    stand.proxy.decide(|_| Fate::Pass);
    stand.client.create("Bea").await;
    let row =
        json!({"PartitionKey": "user", "RowKey": &other["/api/users/".len()..], "Name": "Cleo"});
    stand.insert(row).await;
    assert_eq!(stand.client.get(other).await.name(), "Cleo", "not found was not remembered");
}

#[tokio::test]
async fn a_create_whose_reply_was_lost_is_a_201_and_one_row() {
    let stand = Stand::start(&[("TABLE_TIMEOUT", "1500ms".into())]).await;
    for fate in [Fate::LoseReply, Fate::Answer(503, "busy"), Fate::Answer(500, "")] {
        stand.proxy.forget();
        stand.proxy.decide_once(writes(Method::POST), fate.clone());
        let created = stand.client.post("/api/users", r#"{"name":"Ann"}"#).await;
        assert_eq!(created.status, 201, "{fate:?}: {created:?}");
        assert_eq!(stand.proxy.count(writes(Method::POST)), 2);
        let read = stand.client.get(created.header("location")).await;
        assert_eq!(read.header("etag"), created.header("etag"));
    }
    assert_eq!(stand.rows().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_create_that_may_have_landed_is_not_called_refused() {
    let stand = Stand::start(&[("TABLE_TIMEOUT", "1500ms".into())]).await;
    let attempts = std::sync::atomic::AtomicUsize::new(0);
    let is_create = writes(Method::POST);
    stand.proxy.decide(move |call| match is_create(call) {
        false => Fate::Pass,
        true if attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => Fate::LoseReply,
        true => Fate::Answer(403, ""),
    });
    assert_unavailable(&stand.client.post("/api/users", "").await, "may have been applied");
    assert_eq!(stand.rows().await.unwrap().len(), 1, "and so it was");
}

#[tokio::test]
async fn a_write_whose_outcome_is_unknown_is_sent_once_and_told_so() {
    let stand = Stand::start(&[("TABLE_TIMEOUT", "300ms".into())]).await;
    let path = stand.client.create("Ann").await;
    for (fate, applied) in [
        (Fate::LoseReply, true),
        (Fate::Swallow, false),
        (Fate::Answer(503, "busy"), false),
        (Fate::Answer(500, ""), false),
        (Fate::Answer(429, ""), false),
        (Fate::Answer(408, ""), false),
    ] {
        stand.client.patch(&path, r#"{"name":"Ann"}"#).await;
        stand.proxy.forget();
        stand.proxy.decide_once(writes(merge()), fate.clone());
        let answer = stand.client.patch(&path, r#"{"name":"Bea"}"#).await;
        assert_unavailable(&answer, "may have been applied");
        assert_eq!(stand.proxy.count(writes(merge())), 1, "{fate:?}");
        // Its fence stands: nothing is cached while the write may yet land.
        let read = stand.client.get(&path).await;
        assert_eq!(read.name(), if applied { "Bea" } else { "Ann" }, "{fate:?}");
        assert_eq!(read.header("cache-status"), "cache-aside; fwd=bypass; detail=fence");
    }
    stand.proxy.decide_once(writes(Method::DELETE), Fate::LoseReply);
    assert_unavailable(&stand.client.delete(&path).await, "may have been applied");
    assert_eq!(stand.client.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_refused_write_is_told_that_nothing_was_changed() {
    let stand = Stand::start(&[]).await;
    let path = stand.client.create("Ann").await;
    stand.proxy.decide_once(writes(merge()), Fate::Answer(403, ""));
    let answer = stand.client.patch(&path, r#"{"name":"Bea"}"#).await;
    assert_unavailable(&answer, "nothing was changed");
    assert_eq!(
        stand.client.get(&path).await.header("cache-status"),
        "cache-aside; fwd=miss; stored"
    );
}

/// A list of tags is settled by a read first. If that fails, the write has never been sent, and says so.
#[tokio::test]
async fn a_write_that_was_never_sent_is_not_called_unknown() {
    let stand = Stand::start(&[("TABLE_TIMEOUT", "600ms".into())]).await;
    let path = stand.client.create("Ann").await;
    let etag = stand.client.get(&path).await.header("etag").to_owned();
    for fate in [Fate::Answer(503, ""), Fate::Swallow] {
        stand.proxy.decide_once(Call::is_read, fate);
        let rename = stand.client.request(Method::PATCH, &path);
        let rename = rename.header("if-match", format!("\"x\", {etag}")).body(r#"{"name":"Bea"}"#);
        assert_unavailable(&stand.client.send(rename).await, "nothing was changed");
        assert_eq!(stand.proxy.count(writes(merge())), 0);
    }
}

/// A client that follows a redirect asks again with a GET, and takes its 200 for the write's.
#[tokio::test]
async fn a_redirected_write_is_no_success() {
    let stand = Stand::start(&[]).await;
    let path = stand.client.create("Ann").await;
    let elsewhere = Proxy::in_front_of(1).await;
    elsewhere.decide(|_| Fate::Answer(200, ""));
    let location = format!("http://127.0.0.1:{}/", elsewhere.port);
    stand.proxy.decide_once(writes(merge()), Fate::Redirect(location));
    let answer = stand.client.patch(&path, r#"{"name":"Bea"}"#).await;
    assert_unavailable(&answer, "may have been applied");
    assert_eq!(elsewhere.count(|_| true), 0, "nobody went there");
}

#[tokio::test]
async fn a_load_is_tried_again_within_its_bound() {
    let stand = Stand::start(&[("TABLE_TIMEOUT", "900ms".into())]).await;
    for fate in [Fate::Answer(503, ""), Fate::Answer(500, "nonsense"), Fate::Swallow] {
        let path = stand.client.create("Ann").await;
        stand.proxy.decide_once(Call::is_read, fate.clone());
        let read = stand.client.get(&path).await;
        assert_eq!((read.status, read.source()), (200, "table".to_owned()), "{fate:?}");
    }
}

#[tokio::test]
async fn a_404_that_is_not_the_table_s_own_is_no_missing_user() {
    let stand = Stand::start(&[]).await;
    let path = stand.client.create("Ann").await;
    stand.proxy.decide(|call| if call.is_read() { Fate::Answer(404, "") } else { Fate::Pass });
    assert_unavailable(&stand.client.get(&path).await, "cannot be reached");
    stand.proxy.decide(|_| Fate::Pass);
    assert_eq!(stand.client.get(&path).await.name(), "Ann");
}

#[tokio::test]
async fn two_handlers_with_different_tables_on_one_redis_never_serve_each_other_s_users() {
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
    // Nor do handlers without a table: what one remembers as not found, the other may have.
    let embedded = async || start(&settings(&[("REDIS_URL", redis.url())])).await;
    let (one, other) = (embedded().await, embedded().await);
    let path = one.create("Cleo").await;
    assert_eq!(other.get(&path).await.status, 404);
    assert_eq!(one.get(&path).await.name(), "Cleo");
}
