//! Whether the cache and the store work, found out by trying them.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Mutex;

use crate::cache::CacheKind;
use crate::repository::Repository;
use crate::store::StoreKind;

/// How long a report is reused, so that the probes of many clients do not become load.
const REUSED_FOR: Duration = Duration::from_secs(1);

/// The health of the handler and its parts.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Health {
    status: Status,
    cache: Part<CacheKind>,
    store: Part<StoreKind>,
}

/// The health of the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// Both parts work.
    Healthy,
    /// The cache does not work: requests are served from the store.
    Degraded,
    /// The store does not work.
    Unhealthy,
}

/// The health of a part.
#[derive(Clone, Debug, Serialize)]
struct Part<Kind> {
    kind: Kind,
    /// What was tried.
    probe: &'static str,
    status: PartStatus,
    /// How long that took, in milliseconds.
    ms: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum PartStatus {
    Ok,
    Unreachable,
}

impl Health {
    async fn probe(users: &Repository) -> Self {
        let (cache_kind, store_kind) = (users.cache_kind(), users.store_kind());
        let (cache, store) = tokio::join!(
            Part::probe(cache_kind, cache_kind.probe_description(), users.probe_cache()),
            Part::probe(store_kind, users.store_probe_description(), users.probe_store()),
        );
        let status = match (store.status, cache.status) {
            (PartStatus::Ok, PartStatus::Ok) => Status::Healthy,
            (PartStatus::Ok, PartStatus::Unreachable) => Status::Degraded,
            (PartStatus::Unreachable, _) => Status::Unhealthy,
        };
        Self { status, cache, store }
    }

    /// Whether all requests can be served: they can without the cache, but not without the store.
    pub(super) fn can_serve(&self) -> bool {
        self.status != Status::Unhealthy
    }
}

impl<Kind: std::fmt::Debug> Part<Kind> {
    async fn probe<E: std::fmt::Display>(
        kind: Kind,
        description: &'static str,
        probe: impl Future<Output = Result<(), E>>,
    ) -> Self {
        let start = Instant::now();
        let status = match probe.await {
            Ok(()) => PartStatus::Ok,
            Err(error) => {
                log::warn!("health: {kind:?} is unreachable: {error}");
                PartStatus::Unreachable
            }
        };
        let ms = (start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        Self { kind, probe: description, status, ms }
    }
}

/// Probes both parts, one probe at a time, and reuses the report for a moment.
#[derive(Default)]
pub(super) struct Probes {
    // An async mutex: a client that asks during a probe waits for its result.
    last: Mutex<Option<(Instant, Health)>>,
}

impl Probes {
    /// The current health, at most one second old.
    pub(super) async fn health(&self, users: &Repository) -> Health {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, health)) if at.elapsed() < REUSED_FOR => health.clone(),
            _ => {
                let health = Health::probe(users).await;
                *last = Some((Instant::now(), health.clone()));
                health
            }
        }
    }
}
