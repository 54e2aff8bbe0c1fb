//! How the cache and the store are, by trying them.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Mutex;

use crate::cache_aside::CacheAside;

use super::User;

/// How long an answer is reused: probes of many callers must not become load.
const REUSED_FOR: Duration = Duration::from_secs(1);

/// How the whole and each part is.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    status: &'static str,
    cache: Part,
    store: Part,
}

#[derive(Clone, Debug, Serialize)]
struct Part {
    kind: &'static str,
    /// What was tried.
    probe: &'static str,
    status: &'static str,
    /// How long that took, in milliseconds.
    ms: f64,
}

impl Health {
    /// Whether requests can be served: without the cache they can, without the store they cannot.
    pub fn can_serve(&self) -> bool {
        self.store.is_ok()
    }
}

impl Part {
    async fn probe<E: std::fmt::Display>(
        kind: &'static str,
        probe: &'static str,
        call: impl Future<Output = Result<(), E>>,
    ) -> Self {
        let begun = Instant::now();
        let status = match call.await {
            Ok(()) => "ok",
            Err(error) => {
                log::warn!("health: {kind} is unreachable: {error}");
                "unreachable"
            }
        };
        let ms = (begun.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        Self { kind, probe, status, ms }
    }

    fn is_ok(&self) -> bool {
        self.status == "ok"
    }
}

/// Probes both parts, one probe at a time, and reuses the answer for a moment.
#[derive(Default)]
pub struct Probes {
    // An async mutex: who comes during a probe waits for its answer.
    last: Mutex<Option<(Instant, Health)>>,
}

impl Probes {
    /// How the parts are, or were within the last second.
    pub async fn health(&self, pattern: &CacheAside<User>) -> Health {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, health)) if at.elapsed() < REUSED_FOR => health.clone(),
            _ => {
                let health = probe(pattern).await;
                *last = Some((Instant::now(), health.clone()));
                health
            }
        }
    }
}

async fn probe(pattern: &CacheAside<User>) -> Health {
    let (cache, store) = (pattern.cache(), pattern.store());
    let (cache, store) = tokio::join!(
        Part::probe(cache.kind(), cache.probe_name(), cache.probe()),
        Part::probe(store.kind(), store.probe_name(), store.probe()),
    );
    let status = match (store.is_ok(), cache.is_ok()) {
        (true, true) => "healthy",
        (true, false) => "degraded",
        (false, _) => "unhealthy",
    };
    Health { status, cache, store }
}
