//! The table: an Azurite, and a bare client of it.

use std::sync::Arc;

use azure_core::{RetryOptions, StatusCode, TransportOptions};
use azure_data_tables::IfMatchCondition;
use azure_data_tables::clients::{TableClient, TableServiceClientBuilder};
use azure_storage::{CloudLocation, EMULATOR_ACCOUNT, EMULATOR_ACCOUNT_KEY, StorageCredentials};
use futures_util::{StreamExt as _, stream};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use test_servers::Azurite;

const NAME: &str = "users";
const PARTITION: &str = "user";
/// How many users are created or removed at the same time.
const CONCURRENCY: usize = 16;

/// A table service, and a client whose connections are kept alive.
pub struct Table {
    azurite: Azurite,
    client: TableClient,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    partition_key: String,
    row_key: String,
    name: String,
}

impl Row {
    fn new(id: &str, name: &str) -> Self {
        Self { partition_key: PARTITION.into(), row_key: id.into(), name: name.into() }
    }
}

impl Table {
    /// Starts the service, and creates the table.
    pub async fn start() -> Self {
        let azurite = Azurite::start();
        let location = CloudLocation::Custom {
            account: EMULATOR_ACCOUNT.to_owned(),
            uri: endpoint(azurite.port),
        };
        // As in the handler: the library's default client closes each connection after one request.
        let transport = TransportOptions::new(Arc::new(reqwest::Client::new()));
        let service =
            TableServiceClientBuilder::with_location(location, StorageCredentials::emulator())
                .transport(transport)
                .retry(RetryOptions::none())
                .build();
        let client = service.table_client(NAME);
        client.create().await.expect("a table");
        Self { azurite, client }
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.azurite.port
    }

    /// Creates users.
    pub async fn insert(&self, ids: &[String]) {
        let insert = async |id: &String| {
            let row = Row::new(id, "Ada Lovelace");
            self.client.insert::<_, IgnoredAny>(&row).unwrap().await.expect("an insert");
        };
        stream::iter(ids).for_each_concurrent(CONCURRENCY, insert).await;
    }

    /// Removes users.
    pub async fn delete(&self, ids: &[String]) {
        let delete = async |id: &String| {
            let entity = self.client.partition_key_client(PARTITION).entity_client(id);
            entity.delete().await.expect("a delete");
        };
        stream::iter(ids).for_each_concurrent(CONCURRENCY, delete).await;
    }

    /// Reads a user, whose name it returns. `None` if there is no such user.
    pub async fn read(&self, id: &str) -> Option<String> {
        let entity = self.client.partition_key_client(PARTITION).entity_client(id);
        match entity.get::<Row>().await {
            Ok(read) => Some(read.entity.name),
            Err(error) => {
                let status = error.as_http_error().map(|http| http.status());
                assert_eq!(status, Some(StatusCode::NotFound), "{error}");
                None
            }
        }
    }

    /// Ends it, and starts it again on the same port, with what it had.
    pub fn restart(&self) {
        self.azurite.restart();
    }

    /// Changes a user's name.
    pub async fn rename(&self, id: &str, name: &str) {
        let entity = self.client.partition_key_client(PARTITION).entity_client(id);
        let merge = entity.merge(Row::new(id, name), IfMatchCondition::Any).unwrap();
        merge.await.expect("a merge");
    }
}

fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}/{EMULATOR_ACCOUNT}")
}

/// The connection string of an Azurite, or of a proxy in front of one, in the form that all clients
/// read.
pub fn connection_string(port: u16) -> String {
    format!(
        "DefaultEndpointsProtocol=http;AccountName={EMULATOR_ACCOUNT};AccountKey={EMULATOR_ACCOUNT_KEY};TableEndpoint={};",
        endpoint(port)
    )
}

/// The id of the nth user of a series, a letter or a digit: a ULID whose last four digits, in the base
/// 32, are the number. `spread.lua` makes the same ids of the series `G`.
pub fn user_id(series: char, n: usize) -> String {
    let digit = |place: u32| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[n >> (5 * place) & 31] as char;
    format!("01BENCH{series}00000000000000{}{}{}{}", digit(3), digit(2), digit(1), digit(0))
}

/// The ids of the first users of a series.
pub fn user_ids(series: char, number: usize) -> Vec<String> {
    assert!(number <= 1 << 20, "four digits in the base 32");
    (0..number).map(|n| user_id(series, n)).collect()
}

/// The path of the user with this id.
pub fn path(id: &str) -> String {
    format!("/api/users/{id}")
}
