//! What the handler tells about itself: log records, which go to stdout and stderr, and, with
//! `OTEL_EXPORTER_OTLP_ENDPOINT`, spans and metrics, which are exported by OTLP.
//!
//! Log records are not exported: the Functions host does that, and would export them twice.
//!
//! Spans are recorded when a step ends, with an explicit start and end. The trace that they belong to is
//! that of the request, which the task knows while the request is in progress.

mod export;
mod logs;
mod metrics;
mod otel;
mod sampling;
mod spans;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_aside::Observer;
use reqwest::Url;

pub use self::logs::{DEFAULT_FILTER, start as start_logging};
pub use self::metrics::{Kind, METRICS, Metric, TableLoad};
use self::otel::Otel;
pub use self::otel::StartError;
pub(crate) use self::spans::{Exchange, ExchangeEnd, RequestSpan};

/// Spans and metrics, if they are exported. Cheap to clone.
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<Otel>>);

impl Telemetry {
    /// Nothing is recorded.
    pub fn off() -> Self {
        Self(None)
    }

    /// Spans and metrics are exported to this endpoint from now on; `None`: nothing is recorded.
    ///
    /// # Errors
    /// A variable that the exporter reads is not valid.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(endpoint: Option<&Url>) -> Result<Self, StartError> {
        match endpoint {
            Some(endpoint) if !otel::is_disabled() => {
                Ok(Self(Some(Arc::new(Otel::start(endpoint)?))))
            }
            _ => Ok(Self(None)),
        }
    }

    /// What observes the pattern; `None` if nothing is recorded.
    pub fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.0.clone().map(|otel| otel as Arc<dyn Observer>)
    }

    /// Steps of the cache are calls to Redis from now on, and its circuit is reported.
    pub fn cache_is_redis(&self) {
        if let Some(otel) = &self.0 {
            otel.cache_is_redis();
        }
    }

    /// Reports how loaded the calls to the table are.
    pub fn observe_table(&self, load: impl Fn() -> TableLoad + Send + Sync + 'static) {
        if let Some(otel) = &self.0 {
            otel.observe_table(load);
        }
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A request begins; `None` if nothing is recorded. `is_traced` says whether it gets a span.
    pub(crate) fn begin_request(
        &self,
        method: &custom_handler::http::Method,
        route: Option<&'static str>,
        received: Instant,
        is_traced: bool,
    ) -> Option<Box<RequestSpan>> {
        let otel = Arc::clone(self.0.as_ref()?);
        Some(Box::new(RequestSpan::begin(otel, method, route, received, is_traced)))
    }

    /// An exchange with the table service has ended.
    pub(crate) fn exchanged(&self, exchange: &Exchange<'_>) {
        if let Some(otel) = &self.0 {
            otel.exchanged(exchange);
        }
    }

    /// Exports what is left, for at most this time.
    pub async fn flush(&self, time: Duration) {
        if let Some(otel) = &self.0 {
            otel.flush(time).await;
        }
    }
}
