//! Handlers of the previous version and of this one use the same Redis during an update: what the
//! previous version wrote there is understood.

use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Redis, eventually, settings, start};

const ID: &str = "01KB584F3Y9AF31621Q7N62Q67";
const PATH: &str = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
const TOKEN: &str = "01KB584F3Y9AF31621Q7N62Q68";

/// A handler, and what it finds in Redis under the user's key.
async fn handler_that_finds(slot: &str) -> (Client, Redis) {
    let redis = Redis::start();
    let key = format!("shop:users:v1:user:{ID}");
    redis.command::<()>(&["SET", &key, slot, "PX", "30000"]).await;
    let given = [("REDIS_URL", redis.url()), ("CACHE_KEY_PREFIX", "shop:users:v1:".to_owned())];
    (start(&settings(&given)).await, redis)
}

#[tokio::test]
async fn an_entry_of_the_previous_version_is_a_hit() {
    let data = format!(r#"{{"PartitionKey":"user","RowKey":"{ID}","Name":"Angelica Hill"}}"#);
    let etag = r#"W/\"datetime'2026-11-24T21%3A47%3A43.8667079Z'\""#;
    let entry = format!(
        r#"{{"loaded":1764018071123,"expires":1764018081123,"found":{{"etag":"{etag}","value":{data}}}}}"#
    );
    let (client, _redis) = handler_that_finds(&entry).await;
    let read = client.get(PATH).await;
    assert_eq!(read.text, format!(r#"{{"source":"redis","data":{data}}}"#));
    assert_eq!(read.header("etag"), "W/\"datetime'2026-11-24T21%3A47%3A43.8667079Z'\"");
}

#[tokio::test]
async fn a_not_found_of_the_previous_version_is_a_hit() {
    let (client, _redis) =
        handler_that_finds(r#"{"loaded":1764018071123,"expires":1764018081123,"found":null}"#)
            .await;
    let read = client.get(PATH).await;
    assert_eq!(read.status, 404);
    assert!(read.header("cache-status").starts_with("cache-aside; hit; ttl="), "{read:?}");
    assert_eq!(read.json(), json!({"user_id": ID, "status": "Not found"}));
}

#[tokio::test]
async fn a_lease_of_the_previous_version_is_waited_for_and_not_filled() {
    let (client, redis) = handler_that_finds(&format!("lease {TOKEN}")).await;
    let read = client.get(PATH).await;
    assert_eq!(read.header("cache-status"), "cache-aside; fwd=miss; detail=lease");
    let key = format!("shop:users:v1:user:{ID}");
    assert_eq!(redis.command::<String>(&["GET", &key]).await, format!("lease {TOKEN}"));
}

#[tokio::test]
async fn a_fence_of_the_previous_version_keeps_readers_from_filling() {
    let deadline = 4_000_000_000_000_u64; // in the year 2096
    let fence = format!("fence {TOKEN}={deadline}");
    let (client, redis) = handler_that_finds(&fence).await;
    let read = client.get(PATH).await;
    assert_eq!(read.header("cache-status"), "cache-aside; fwd=bypass; detail=fence");

    // A write of this version joins that fence, and its release leaves the other writer in it.
    client.delete(PATH).await;
    let key = format!("shop:users:v1:user:{ID}");
    eventually(Duration::from_secs(5), "only the other writer is left", || async {
        redis.command::<String>(&["GET", &key]).await == fence
    })
    .await;
}
