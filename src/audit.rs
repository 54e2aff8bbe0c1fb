//! Audits of hits: is what was cached what the table has?
//!
//! The claim that reads are not stale, checked in production, as Meta's Polaris and Uber's CacheInspector do.
//! [`CacheAside::audit`](cache_aside::CacheAside::audit) says what is a finding. Here is decided which hits
//! are audited, and a finding is reported.

use std::sync::Arc;

use cache_aside::Audit;
use tokio::sync::Semaphore;

use crate::store::LoadError;

/// How many audits may be in progress. A hit beyond that is not audited: audits must never become load.
const IN_PROGRESS: usize = 4;

/// Audits a share of the hits.
pub struct Auditor {
    /// From 0, none, to 1, all of them.
    share: f64,
    permits: Arc<Semaphore>,
}

impl Auditor {
    /// Audits this share of the hits, from 0 to 1, as far as few enough are in progress.
    pub fn new(share: f64) -> Self {
        Self { share, permits: Arc::new(Semaphore::new(IN_PROGRESS)) }
    }

    /// Starts an audit, if this hit is one of those to be audited. It does not keep the hit waiting.
    pub(crate) fn may_audit<F>(&self, audit: impl FnOnce() -> F)
    where
        F: Future<Output = Result<Audit, LoadError>> + Send + 'static,
    {
        if self.share == 0.0 || rand::random::<f64>() >= self.share {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            let audit = audit();
            tokio::spawn(async move {
                report(audit.await);
                drop(permit);
            });
        }
    }
}

fn report(audit: Result<Audit, LoadError>) {
    match audit {
        Ok(Audit::Differs) => log::warn!(
            "audit: a cached user was not the one in the table, and has been removed from the cache: \
             another program has changed the row, Redis was rolled back, or a handler could not reach Redis"
        ),
        Ok(audit) => log::debug!("audit: {audit:?}"),
        Err(error) => log::debug!("audit: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// How many of a thousand hits are audited, if no audit ends before all of them have begun.
    fn begun(share: f64) -> usize {
        let (auditor, begun) = (Auditor::new(share), AtomicUsize::new(0));
        for _ in 0..1000 {
            auditor.may_audit(|| {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::pending()
            });
        }
        begun.into_inner()
    }

    #[tokio::test]
    async fn few_audits_are_in_progress_at_the_same_time() {
        assert_eq!(begun(1.0), IN_PROGRESS);
        assert_eq!(begun(0.0), 0);
    }

    #[tokio::test]
    async fn a_share_of_the_hits_is_audited() {
        let (auditor, mut begun) = (Auditor::new(0.1), 0);
        for _ in 0..10_000 {
            auditor.may_audit(|| {
                begun += 1;
                std::future::ready(Ok(Audit::Agrees))
            });
            tokio::task::yield_now().await;
        }
        // 1,000 on average; the standard deviation is 30.
        assert!((700..1300).contains(&begun), "{begun}");
    }
}
