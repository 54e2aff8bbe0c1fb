//! Azure Table Storage, or Azurite, as the store.
//!
//! The client library's own retries are off, since it would repeat any write. Here a load and an
//! insert are tried again within the bound, each attempt with a part of it; an update and a delete
//! are sent once: a stalled first attempt that lands after its repetition was answered would undo a
//! later write, and no cache can repair that.

mod access;
mod fault;
mod identity;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::{Etag, RetryOptions, TransportOptions};
use azure_data_tables::IfMatchCondition;
use azure_data_tables::clients::{EntityClient, TableClient, TableServiceClientBuilder};
use backon::{ExponentialBuilder, Retryable};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout;
use ulid::Ulid;

use crate::cache_aside::{Condition, ETag, Key, LoadError, Store, Stored, WriteError};

pub use self::access::TableAccess;
use self::fault::{Fault, chain};

/// A call that may be repeated is tried so many times, each with this part of the bound.
const ATTEMPTS: u32 = 3;

/// The pauses between attempts, doubled and jittered; they count towards the bound.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));

/// An idle connection is closed before the service would close it, and a request be lost with it:
/// Azure's front ends drop connections that were idle for some minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A store in one table. Values are entities: they serialize with their `PartitionKey` and `RowKey`.
pub struct TableStore {
    access: TableAccess,
    name: String,
    bound: Duration,
    table: Arc<OnceLock<TableClient>>,
}

fn client(access: &TableAccess, table: &str) -> reqwest::Result<TableClient> {
    // The library's default client closes each connection after one request. The service does not
    // redirect; whatever else does must not turn a write into a read that succeeds.
    let client = reqwest::Client::builder()
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let service = TableServiceClientBuilder::with_location(access.location(), access.credentials())
        .transport(TransportOptions::new(Arc::new(client)))
        .retry(RetryOptions::none())
        .build();
    Ok(service.table_client(table))
}

/// A call with a bound on it.
async fn bounded<T>(
    bound: Duration,
    call: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let said = || Fault::Unknown(format!("no answer within {bound:?}"));
    timeout(bound, call).await.unwrap_or_else(|_| Err(said()))
}

impl TableStore {
    /// A store in the table of this name, which is created when a call finds it missing. Connects
    /// when first used. `bound` is for each call, all of its attempts together.
    pub fn new(access: TableAccess, name: &str, bound: Duration) -> Self {
        Self { access, name: name.to_owned(), bound, table: Arc::default() }
    }

    /// The client, made by whoever needs it first: reading the system's certificates takes longer
    /// than a start may.
    async fn table(&self) -> azure_core::Result<&TableClient> {
        if self.table.get().is_none() {
            let (made, access, name) =
                (Arc::clone(&self.table), self.access.clone(), self.name.clone());
            // A blocking task is carried through, although who waits for it gives up.
            let make = tokio::task::spawn_blocking(move || {
                made.get().is_some()
                    || client(&access, &name).is_ok_and(|table| made.set(table).is_ok())
            });
            let _ = make.await;
        }
        self.table.get().ok_or_else(|| {
            let said = "no HTTP client: check that the system's certificates can be read";
            azure_core::Error::message(azure_core::error::ErrorKind::Credential, said)
        })
    }

    async fn entity(&self, key: Key) -> azure_core::Result<EntityClient> {
        // Keys go into the URL between quotes, unescaped: a ULID and a constant are safe there.
        Ok(self.table().await?.partition_key_client(key.kind).entity_client(key.id.to_string()))
    }

    /// One request; a missing table is created, and the request sent again.
    async fn once<T, F>(&self, request: impl Fn() -> F) -> Result<T, Fault>
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
                Some("TableAlreadyExists") => Ok(()), // another was faster
                // The request that found no table was not carried out, whatever became of this one.
                _ => Err(Fault::Refused(format!("the table cannot be created: {}", chain(&error)))),
            },
        }
    }

    /// A request that may be sent again, within the bound. Once the outcome of an attempt is unknown
    /// no later one can refuse it.
    async fn repeated<T, F>(&self, request: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let attempt_bound = self.bound / ATTEMPTS;
        let doubt = AtomicBool::new(false);
        let attempt = || async {
            let outcome = bounded(attempt_bound, request()).await;
            if let Err(Fault::Unknown(_)) = outcome {
                doubt.store(true, Ordering::Relaxed);
            }
            outcome
        };
        let (shortest, longest) = RETRY_PAUSES;
        let pauses = ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .with_max_times(ATTEMPTS as usize - 1)
            .with_jitter();
        let attempts = attempt.retry(pauses).when(Fault::is_transient);
        match bounded(self.bound, attempts).await {
            Err(Fault::Refused(said) | Fault::NotSent(said)) if doubt.load(Ordering::Relaxed) => {
                Err(Fault::Unknown(said))
            }
            outcome => outcome,
        }
    }

    async fn get<V: DeserializeOwned + Send>(&self, key: Key) -> Result<Option<Stored<V>>, Fault> {
        match self.once(|| async { self.entity(key).await?.get::<V>().await }).await {
            Ok(found) => {
                let etag = ETag::new(found.etag.to_string());
                Ok(Some(Stored { etag, value: found.entity }))
            }
            Err(Fault::NotFound) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// The one tag that the service compares with, for a condition that may list several.
    async fn if_match(&self, key: Key, condition: &Condition) -> Result<IfMatchCondition, Fault> {
        let etag = match condition {
            Condition::Exists => return Ok(IfMatchCondition::Any),
            Condition::OneOf(etags) => match &etags[..] {
                // To a tag that is not of its own form the service answers 400, as if it were ours.
                [etag] if etag.as_str().starts_with("W/\"") => etag.clone(),
                etags => {
                    // Which of them is current? If that changes before the write, the write fails.
                    let current = bounded(self.bound / 2, self.get::<IgnoredAny>(key)).await;
                    let current = current.map_err(Fault::before_the_write)?;
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
impl<V> Store<V> for TableStore
where
    V: Serialize + DeserializeOwned + PartialEq + Send + Sync,
{
    fn kind(&self) -> &'static str {
        "table"
    }

    async fn load(&self, key: Key) -> Result<Option<Stored<V>>, LoadError> {
        Ok(self.repeated(|| self.get(key)).await?)
    }

    async fn insert(&self, key: Key, value: &V) -> Result<ETag, WriteError> {
        let insert = || async {
            let insert = self.once(|| async {
                self.table().await?.insert::<_, IgnoredAny>(value)?.await.map(|done| done.etag)
            });
            match insert.await {
                // An attempt before this one has landed, if what is there is what was sent.
                Err(Fault::Exists) => match self.get::<V>(key).await {
                    Ok(Some(stored)) if stored.value == *value => Ok(stored.etag),
                    Ok(_) => Err(Fault::Exists),
                    // An earlier attempt may have landed: this must not pass for a refusal.
                    Err(_) => Err(Fault::Unknown("it exists, and cannot be read back".to_owned())),
                },
                outcome => outcome.map(|etag| ETag::new(etag.to_string())),
            }
        };
        Ok(self.repeated(insert).await?)
    }

    async fn update(&self, key: Key, value: &V, condition: &Condition) -> Result<ETag, WriteError> {
        let update = async {
            let if_match = self.if_match(key, condition).await?;
            // A merge, not a replacement: columns that other programs have added stay.
            self.once(|| async { self.entity(key).await?.merge(value, if_match.clone())?.await })
                .await
        };
        Ok(ETag::new(bounded(self.bound, update).await?.etag.to_string()))
    }

    async fn delete(&self, key: Key, condition: &Condition) -> Result<(), WriteError> {
        let delete = async {
            let if_match = self.if_match(key, condition).await?;
            let entity = self.entity(key).await?;
            self.once(|| entity.delete().if_match(if_match.clone()).into_future()).await
        };
        bounded(self.bound, delete).await?;
        Ok(())
    }

    async fn probe(&self) -> Result<(), LoadError> {
        let nobody = Key { kind: "probe", id: Ulid::nil() };
        bounded(self.bound, self.get::<IgnoredAny>(nobody)).await?;
        Ok(())
    }

    fn probe_name(&self) -> &'static str {
        "GET of an unused row"
    }
}
