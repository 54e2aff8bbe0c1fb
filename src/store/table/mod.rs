//! Azure Table Storage, or Azurite, as the store.
//!
//! The client library's own retries are off, because it would repeat any write. Here a load and an
//! insert are tried again, each attempt with an equal share of the call's timeout. An update, a put and
//! a delete are not sent again once an outcome is unknown: a first attempt that is delayed and is applied
//! after its repetition was answered would undo a later write, and no cache can repair that.
//! Nothing is repeated while the table is slow.

mod access;
#[cfg(test)]
mod answers;
mod availability;
mod calls;
mod fault;
mod identity;
mod observed;
mod row;
mod throttle;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::{Etag, HttpClient, RetryOptions, TransportOptions};
use azure_data_tables::IfMatchCondition;
use azure_data_tables::clients::{EntityClient, TableClient, TableServiceClientBuilder};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::telemetry::Telemetry;
use crate::users::{User, UserId};

use super::{
    Condition, ETag, LoadError, Put, PutCondition, Store, StoreKind, Versioned, WriteError,
};

pub use self::access::TableAccess;
use self::calls::Calls;
use self::fault::Fault;
use self::observed::Observed;
use self::row::{PARTITION, Row};
pub use self::throttle::Concurrency;

/// How often a put tries both to insert and to merge. Each further round means that the user was created
/// and deleted by others in between.
const PUT_ROUNDS: u32 = 3;

/// Idle connections are closed after this time. Azure's front ends drop connections that have been
/// idle for some minutes, and a request on such a connection would be lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A store in one table.
pub struct TableStore {
    access: TableAccess,
    name: String,
    table: Arc<OnceLock<TableClient>>,
    calls: Calls,
    telemetry: Telemetry,
}

fn client(access: &TableAccess, table: &str, telemetry: Telemetry) -> reqwest::Result<TableClient> {
    // The library's default client closes each connection after one request. Redirects are not
    // followed: the service sends none, and a write that is redirected would become a read.
    let client = reqwest::Client::builder()
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let mut client: Arc<dyn HttpClient> = Arc::new(client);
    if telemetry.is_on() {
        client = Arc::new(Observed { client, telemetry });
    }
    Ok(client_over(client, access, table))
}

fn client_over(http: Arc<dyn HttpClient>, access: &TableAccess, table: &str) -> TableClient {
    TableServiceClientBuilder::with_location(access.location(), access.credentials())
        .transport(TransportOptions::new(http))
        .retry(RetryOptions::none())
        .build()
        .table_client(table)
}

impl TableStore {
    /// A store in the table of this name, which is created when a request finds it missing. Connects
    /// when it is first used. `timeout` is the bound on each call: the wait for its turn and all of its
    /// attempts together.
    pub fn new(
        access: TableAccess,
        name: &str,
        timeout: Duration,
        concurrency: Concurrency,
        telemetry: Telemetry,
    ) -> Self {
        let calls = Calls::new(access.endpoint(), timeout, concurrency);
        telemetry.observe_table(calls.load());
        Self { calls, access, name: name.to_owned(), table: Arc::default(), telemetry }
    }

    /// The client. Created on first use, because reading the system's certificates would delay the
    /// start.
    async fn table(&self) -> azure_core::Result<&TableClient> {
        if self.table.get().is_none() {
            let (table, access, name) =
                (Arc::clone(&self.table), self.access.clone(), self.name.clone());
            let telemetry = self.telemetry.clone();
            // A blocking task runs to its end even if the waiting caller times out.
            let create = tokio::task::spawn_blocking(move || {
                table.get().is_some()
                    || client(&access, &name, telemetry)
                        .is_ok_and(|client| table.set(client).is_ok())
            });
            let _ = create.await;
        }
        self.table.get().ok_or_else(|| {
            let message = "no HTTP client: check that the system's certificates can be read";
            azure_core::Error::message(azure_core::error::ErrorKind::Credential, message)
        })
    }

    async fn entity(&self, partition: &str, row: &str) -> azure_core::Result<EntityClient> {
        // The library puts keys into the URL between quotes and does not escape them. A constant
        // and a ULID need no escaping.
        Ok(self.table().await?.partition_key_client(partition).entity_client(row))
    }

    async fn user_entity(&self, id: UserId) -> azure_core::Result<EntityClient> {
        self.entity(PARTITION, &id.to_string()).await
    }

    /// Sends a request. If the table is missing, creates it and sends the request again.
    async fn send<T, F>(&self, request: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = azure_core::Result<T>>,
    {
        match request().await.map_err(Fault::from) {
            Err(Fault::NoTable) => {
                self.create_table().await?;
                request().await.map_err(Fault::from)
            }
            outcome => outcome,
        }
    }

    async fn create_table(&self) -> Result<(), Fault> {
        match async { self.table().await?.create().await }.await {
            Ok(_) => {
                log::info!("created the table {}", self.name);
                Ok(())
            }
            Err(error) => match error.as_http_error().and_then(|http| http.error_code()) {
                Some("TableAlreadyExists") => Ok(()), // created by another process meanwhile
                // The request that found no table was not applied, whatever happened to this one.
                _ => {
                    let fault = Fault::from(error);
                    let cause = fault.outage().unwrap_or("an unexpected answer");
                    Err(Fault::Refused(format!("the table cannot be created: {cause}")))
                }
            },
        }
    }

    /// Reads an entity, once.
    async fn read<T: DeserializeOwned + Send>(
        &self,
        partition: &str,
        row: &str,
    ) -> Result<Option<Versioned<T>>, Fault> {
        match self.send(|| async { self.entity(partition, row).await?.get::<T>().await }).await {
            Ok(found) => {
                let etag = ETag::new(found.etag.to_string());
                Ok(Some(Versioned { etag, value: found.entity }))
            }
            Err(Fault::NotFound) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn read_user(&self, id: UserId) -> Result<Option<Versioned<User>>, Fault> {
        match self.read::<Row>(PARTITION, &id.to_string()).await? {
            Some(row) => {
                let user = row.map(User::from);
                let is_asked_for = user.value.id == id;
                let unreadable = || Fault::Unreadable("the row of another user".to_owned());
                is_asked_for.then_some(Some(user)).ok_or_else(unreadable)
            }
            None => Ok(None),
        }
    }

    /// Adds a row, once.
    async fn insert_row(&self, row: &Row) -> Result<ETag, Fault> {
        let insert = || async { self.table().await?.insert::<_, IgnoredAny>(row)?.await };
        Ok(ETag::new(self.send(insert).await?.etag.to_string()))
    }

    /// Changes a row, once. A merge, not a replacement: columns that other programs have added stay.
    async fn merge_row(
        &self,
        id: UserId,
        row: &Row,
        if_match: IfMatchCondition,
    ) -> Result<ETag, Fault> {
        let merge = || async { self.user_entity(id).await?.merge(row, if_match.clone())?.await };
        Ok(ETag::new(self.send(merge).await?.etag.to_string()))
    }

    /// Adds a row or changes it. The service has an operation for that, but it does not tell which of
    /// them it did. Each request here is sent only after a definite refusal of the one before.
    async fn insert_or_merge_row(&self, id: UserId, row: &Row) -> Result<Put, Fault> {
        for _ in 0..PUT_ROUNDS {
            match self.insert_row(row).await {
                Err(Fault::Exists) => {}
                outcome => return outcome.map(Put::Created),
            }
            match self.merge_row(id, row, IfMatchCondition::Any).await {
                Err(Fault::NotFound) => {} // deleted meanwhile
                outcome => return outcome.map(Put::Replaced),
            }
        }
        Err(Fault::Refused("others keep creating and deleting the user".to_owned()))
    }

    /// The one tag to send as `If-Match`, for a condition that may list several.
    async fn if_match(&self, id: UserId, condition: &Condition) -> Result<IfMatchCondition, Fault> {
        let etag = match condition {
            Condition::Exists => return Ok(IfMatchCondition::Any),
            Condition::OneOf(etags) => match &etags[..] {
                // The service answers 400 to a tag that is not in its own notation, and a header that is
                // sent is ASCII.
                [etag] if etag.as_str().starts_with("W/\"") && etag.as_str().is_ascii() => {
                    etag.clone()
                }
                // Find out which of them is current. If that changes before the write, the write
                // fails.
                etags => {
                    let id = id.to_string();
                    let current = self.read::<IgnoredAny>(PARTITION, &id);
                    let current = self.calls.before_a_write(current).await?;
                    let current = current.ok_or(Fault::NotFound)?.etag;
                    if !etags.contains(&current) {
                        return Err(Fault::ConditionFailed);
                    }
                    current
                }
            },
        };
        Ok(IfMatchCondition::Etag(Etag::from(etag.as_str())))
    }
}

#[async_trait]
impl Store for TableStore {
    async fn load(&self, id: UserId) -> Result<Option<Versioned<User>>, LoadError> {
        Ok(self.calls.with_retries(|| self.read_user(id)).await?)
    }

    async fn insert(&self, user: &User) -> Result<ETag, WriteError> {
        let row = Row::from(user);
        let insert = || async {
            match self.insert_row(&row).await {
                // If the stored user is the one that was sent, an earlier attempt was applied.
                Err(Fault::Exists) => match self.read_user(user.id).await {
                    Ok(Some(stored)) if stored.value == *user => Ok(stored.etag),
                    Ok(_) => Err(Fault::Exists),
                    // An earlier attempt may have been applied, so this is not a refusal.
                    Err(_) => Err(Fault::Unknown(
                        "the user exists already, and cannot be read back".to_owned(),
                    )),
                },
                outcome => outcome,
            }
        };
        Ok(self.calls.with_retries(insert).await?)
    }

    async fn update(&self, user: &User, condition: &Condition) -> Result<ETag, WriteError> {
        let row = Row::from(user);
        let update = async {
            let if_match = self.if_match(user.id, condition).await?;
            self.merge_row(user.id, &row, if_match).await
        };
        Ok(self.calls.once(update).await?)
    }

    async fn put(&self, user: &User, condition: &PutCondition) -> Result<Put, WriteError> {
        let row = Row::from(user);
        let put = async {
            match condition {
                PutCondition::Always => self.insert_or_merge_row(user.id, &row).await,
                PutCondition::Absent => self.insert_row(&row).await.map(Put::Created),
                PutCondition::Present(condition) => {
                    let if_match = self.if_match(user.id, condition).await?;
                    self.merge_row(user.id, &row, if_match).await.map(Put::Replaced)
                }
            }
        };
        match self.calls.once(put).await {
            Err(Fault::Exists | Fault::NotFound) => Err(WriteError::PreconditionFailed),
            outcome => Ok(outcome?),
        }
    }

    async fn delete(&self, id: UserId, condition: &Condition) -> Result<(), WriteError> {
        let delete = async {
            let if_match = self.if_match(id, condition).await?;
            let entity = self.user_entity(id).await?;
            self.send(|| entity.delete().if_match(if_match.clone()).into_future()).await
        };
        self.calls.once(delete).await?;
        Ok(())
    }

    async fn probe(&self) -> Result<(), LoadError> {
        // Not a call that waits for its turn: a busy table is not a broken one.
        self.calls.aside(self.read::<IgnoredAny>("probe", "probe")).await?;
        Ok(())
    }

    fn probe_description(&self) -> &'static str {
        "GET of an unused row"
    }

    fn kind(&self) -> StoreKind {
        StoreKind::Table
    }
}
