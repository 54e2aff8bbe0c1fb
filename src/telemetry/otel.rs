//! The OpenTelemetry SDK: what is exported, where and how often, and what is made of what the pattern
//! tells its observer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cache_aside::{Audit, Because, CacheErrorKind, Event, FenceEnd, Fill, Load, Observer, Source};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    MetricExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider,
};
use reqwest::Url;
use ulid::Ulid;

use super::export::Client;
use super::metrics::{Instruments, TableLoad};
use super::sampling;
use super::spans::{self, RedisCall};

/// How long a span waits until it is exported, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise. The host
/// ends its handler with SIGKILL: what has not been exported by then is lost.
const SPANS_EVERY: Duration = Duration::from_secs(1);
/// How often metrics are exported, unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// The service's name, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says otherwise.
const SERVICE: &str = "cache-aside-handler";

/// A variable that the exporter reads is not valid.
#[derive(Debug, thiserror::Error)]
#[error("telemetry: {0}")]
pub struct StartError(#[from] opentelemetry_otlp::ExporterBuildError);

/// Records spans and metrics.
pub(super) struct Otel {
    pub(super) tracer: SdkTracer,
    pub(super) instruments: Instruments,
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Whether `OTEL_SDK_DISABLED` switches telemetry off.
pub(super) fn is_disabled() -> bool {
    std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"))
}

impl Otel {
    pub(super) fn start(endpoint: &Url) -> Result<Self, StartError> {
        if std::env::var("OTEL_EXPORTER_OTLP_PROTOCOL").is_ok_and(|it| it != "http/protobuf") {
            log::warn!(
                "OTEL_EXPORTER_OTLP_PROTOCOL: the handler exports by http/protobuf, and by nothing else"
            );
        }
        let resource = resource();
        let client = Client::new();
        let tracers = tracers(endpoint, client.clone(), resource.clone())?;
        let meters = meters(endpoint, client, resource)?;
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self {
            tracer: tracers.tracer_with_scope(scope.clone()),
            instruments: Instruments::new(meters.meter_with_scope(scope)),
            tracers,
            meters,
        })
    }

    pub(super) fn cache_is_redis(&self) {
        self.instruments.report_circuit();
    }

    pub(super) fn observe_table(&self, load: impl Fn() -> TableLoad + Send + Sync + 'static) {
        self.instruments.report_table(load);
    }

    /// Exports what is left. Both providers block, so a thread waits for them: it may outlive the time.
    pub(super) async fn flush(&self, time: Duration) {
        let (tracers, meters) = (self.tracers.clone(), self.meters.clone());
        let (done, is_done) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("telemetry".to_owned());
        let flush = move || {
            // What went wrong, the client has logged.
            let _ = (tracers.shutdown_with_timeout(time), meters.shutdown_with_timeout(time));
            let _ = done.send(());
        };
        if thread.spawn(flush).is_ok() {
            let _ = tokio::time::timeout(time, is_done).await;
        }
    }
}

/// The URL of a signal, or `None` if the exporter shall read it from a variable of its own.
fn url(endpoint: &Url, variable: &str, path: &str) -> Option<String> {
    let base = endpoint.as_str().trim_end_matches('/');
    (!is_set(variable)).then(|| format!("{base}{path}"))
}

fn tracers(
    endpoint: &Url,
    client: Client,
    resource: Resource,
) -> Result<SdkTracerProvider, StartError> {
    let mut exporter = SpanExporter::builder().with_http().with_http_client(client);
    if let Some(url) = url(endpoint, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/v1/traces") {
        exporter = exporter.with_endpoint(url);
    }
    let mut config = BatchConfigBuilder::default();
    if !is_set("OTEL_BSP_SCHEDULE_DELAY") {
        config = config.with_scheduled_delay(SPANS_EVERY);
    }
    let processor =
        BatchSpanProcessor::builder(exporter.build()?).with_batch_config(config.build()).build();
    let mut builder = SdkTracerProvider::builder().with_resource(resource);
    if !is_set("OTEL_TRACES_SAMPLER") {
        builder = builder.with_sampler(sampling::sampler());
    }
    Ok(builder.with_span_processor(processor).build())
}

fn meters(
    endpoint: &Url,
    client: Client,
    resource: Resource,
) -> Result<SdkMeterProvider, StartError> {
    let mut exporter = MetricExporter::builder().with_http().with_http_client(client);
    if let Some(url) = url(endpoint, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "/v1/metrics") {
        exporter = exporter.with_endpoint(url);
    }
    let mut reader = PeriodicReader::builder(exporter.build()?);
    if !is_set("OTEL_METRIC_EXPORT_INTERVAL") {
        reader = reader.with_interval(METRICS_EVERY);
    }
    let builder = SdkMeterProvider::builder().with_resource(resource);
    Ok(builder.with_reader(reader.build()).build())
}

/// What all spans and metrics have in common. Without an instance of its own, the counters of two
/// handlers would be mistaken for one.
fn resource() -> Resource {
    let given = Resource::builder().build();
    let mut resource = Resource::builder();
    let unknown = |name: &opentelemetry::Value| name.as_str().starts_with("unknown_service");
    if given.get(&"service.name".into()).is_none_or(|name| unknown(&name)) {
        resource = resource.with_service_name(SERVICE);
    }
    for (key, value) in [
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", Ulid::generate().to_string()),
    ] {
        if given.get(&key.into()).is_none() {
            resource = resource.with_attribute(KeyValue::new(key, value));
        }
    }
    resource.build()
}

impl Observer for Otel {
    fn observe(&self, event: Event<'_>) {
        let instruments = &self.instruments;
        let outcome = |word| [KeyValue::new("cache_aside.outcome", word)];
        match event {
            Event::Step { step, took, error } => {
                let is_redis = instruments.circuit.get().is_some();
                let is_skipped = error.is_some_and(|it| it.kind() == CacheErrorKind::Skipped);
                if is_redis && !is_skipped {
                    self.redis_called(&RedisCall { step, took, error });
                }
            }
            Event::Read { source, is_found, .. } => {
                instruments.reads.add(1, &attributes(source, is_found));
            }
            Event::Fill(fill) => instruments.fills.add(
                1,
                &outcome(match fill {
                    Some(Fill::Accepted) => "accepted",
                    Some(Fill::Refused) => "refused",
                    None => "unknown",
                }),
            ),
            Event::LeaseWait { waited } => {
                instruments.lease_waits.record(waited.as_secs_f64(), &[]);
            }
            Event::Fence(end) => instruments.fences.add(
                1,
                &outcome(match end {
                    FenceEnd::Released => "released",
                    FenceEnd::NotPlaced => "not_placed",
                    FenceEnd::Lost => "lost",
                    FenceEnd::ReleaseOverdue => "release_overdue",
                    FenceEnd::Left => "left",
                    _ => "_OTHER",
                }),
            ),
            Event::Audit(audit) => instruments.audits.add(
                1,
                &outcome(match audit {
                    Some(Audit::Agrees) => "agrees",
                    Some(Audit::Differs) => "differs",
                    Some(Audit::Inconclusive) => "inconclusive",
                    Some(_) => "_OTHER",
                    None => "failed",
                }),
            ),
            Event::ReleaseOverdue => instruments.overdue_releases.add(1, &[]),
            Event::OverdueReleaseEnded => instruments.overdue_releases.add(-1, &[]),
            Event::Circuit { is_open } => {
                if let Some(circuit) = instruments.circuit.get() {
                    circuit.store(is_open, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }
}

/// How the cache behaved in a read, as attributes of its span and of the counter of reads. There is no
/// convention for caches yet.
pub(super) fn attributes(source: Option<Source>, is_found: bool) -> Vec<KeyValue> {
    let (outcome, reason) = outcome(source, is_found);
    let mut attributes = vec![KeyValue::new("cache_aside.outcome", outcome)];
    attributes.extend(reason.map(|reason| KeyValue::new("cache_aside.reason", reason)));
    attributes
}

fn outcome(source: Option<Source>, is_found: bool) -> (&'static str, Option<&'static str>) {
    let (because, load) = match source {
        None => return ("error", None),
        Some(Source::Cache { .. }) if is_found => return ("hit", None),
        Some(Source::Cache { .. }) => return ("negative", None),
        Some(Source::LocalCopy { .. }) => return ("local", None),
        Some(Source::StaleCopy { .. }) => return ("stale", None),
        Some(Source::Store { because, load }) => (because, load),
        Some(_) => return ("_OTHER", None),
    };
    let (outcome, reason) = match because {
        Because::NotCached => ("miss", "not_cached"),
        Because::Leased => ("miss", "leased"),
        Because::Fenced => ("bypass", "fenced"),
        Because::CacheUnavailable => ("bypass", "cache_unavailable"),
        _ => ("_OTHER", "_OTHER"),
    };
    (if load == Load::Shared { "collapsed" } else { outcome }, Some(reason))
}

impl Otel {
    fn redis_called(&self, call: &RedisCall<'_>) {
        let attributes = call.attributes();
        self.instruments.redis_calls.record(call.took.as_secs_f64(), &attributes);
        spans::redis_call(&self.tracer, call, attributes);
    }

    pub(super) fn exchanged(&self, exchange: &spans::Exchange<'_>) {
        let attributes = exchange.attributes();
        self.instruments.client_requests.record(exchange.took.as_secs_f64(), &attributes);
        spans::exchange(&self.tracer, exchange, attributes);
    }
}
