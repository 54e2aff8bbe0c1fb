//! The metrics: one table of their names, and the instruments.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};

/// A metric that the handler exports. The README, `docs/operate.md`, the dashboard and the alert rules
/// use the same names, which a test compares with this table.
#[derive(Debug)]
pub struct Metric {
    /// Its name in OpenTelemetry.
    pub name: &'static str,
    /// What it measures with.
    pub kind: Kind,
    /// Its unit in the notation of UCUM; a word in braces says what is counted.
    pub unit: &'static str,
    /// The attributes that a value may have.
    pub attributes: &'static [&'static str],
    /// What it says.
    pub meaning: &'static str,
}

/// What a metric measures with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that grows and falls, and is the sum over all processes.
    UpDownCounter,
    /// A distribution.
    Histogram,
}

/// Boundaries in seconds that the conventions give for requests by HTTP
/// (<https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>).
const HTTP_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Boundaries in seconds that they give for database calls
/// (<https://opentelemetry.io/docs/specs/semconv/db/database-metrics/>). Those for the waits for leases
/// are the same.
const DB_BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

const SERVER_REQUESTS: Metric = Metric {
    name: "http.server.request.duration",
    kind: Kind::Histogram,
    unit: "s",
    attributes: &[
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "url.scheme",
        "error.type",
    ],
    meaning: "how long requests took, from the arrival of the head to the response",
};
const CLIENT_REQUESTS: Metric = Metric {
    name: "http.client.request.duration",
    kind: Kind::Histogram,
    unit: "s",
    attributes: &[
        "http.request.method",
        "server.address",
        "server.port",
        "http.response.status_code",
        "error.type",
    ],
    meaning: "how long the table service took to answer, each attempt on its own, without the wait for its turn",
};
const REDIS_CALLS: Metric = Metric {
    name: "db.client.operation.duration",
    kind: Kind::Histogram,
    unit: "s",
    attributes: &["db.system.name", "db.operation.name", "db.stored_procedure.name", "error.type"],
    meaning: "how long steps on Redis took; steps that were skipped because Redis is failing are not among them",
};
const READS: Metric = Metric {
    name: "cache_aside.reads",
    kind: Kind::Counter,
    unit: "{read}",
    attributes: &["cache_aside.outcome", "cache_aside.reason"],
    meaning: "reads of a user, by outcome: hit, negative (a hit that says \"not found\"), local, miss, collapsed (another read's load), bypass, stale or error; for the middle three why: not_cached, leased, fenced or cache_unavailable",
};
const FILLS: Metric = Metric {
    name: "cache_aside.fills",
    kind: Kind::Counter,
    unit: "{fill}",
    attributes: &["cache_aside.outcome"],
    meaning: "entries that readers wanted to store, by outcome: accepted, refused (a write came in between, or the lease had expired) or unknown",
};
const LEASE_WAITS: Metric = Metric {
    name: "cache_aside.lease.wait.duration",
    kind: Kind::Histogram,
    unit: "s",
    attributes: &[],
    meaning: "how long reads waited for the load of another handler",
};
const FENCES: Metric = Metric {
    name: "cache_aside.fences",
    kind: Kind::Counter,
    unit: "{fence}",
    attributes: &["cache_aside.outcome"],
    meaning: "fences of writes, by what became of them: released, not_placed, lost, release_overdue, or left because the outcome of the write is unknown",
};
const AUDITS: Metric = Metric {
    name: "cache_aside.audits",
    kind: Kind::Counter,
    unit: "{audit}",
    attributes: &["cache_aside.outcome"],
    meaning: "audits of hits (CACHE_AUDIT), by what they found: agrees, differs (a finding), inconclusive (the entry had ended or changed meanwhile) or failed (the table could not be read)",
};
const OVERDUE_RELEASES: Metric = Metric {
    name: "cache_aside.releases.overdue",
    kind: Kind::UpDownCounter,
    unit: "{release}",
    attributes: &[],
    meaning: "releases of fences that have not reached Redis yet; this handler reads those users from the table meanwhile",
};
const CIRCUIT: Metric = Metric {
    name: "cache_aside.redis.circuit.open",
    kind: Kind::UpDownCounter,
    unit: "{circuit}",
    attributes: &[],
    meaning: "1 while Redis counts as failing and reads do without it, otherwise 0",
};
const CALLS_IN_FLIGHT: Metric = Metric {
    name: "cache_aside.table.calls.in_flight",
    kind: Kind::UpDownCounter,
    unit: "{call}",
    attributes: &[],
    meaning: "calls to the table in progress; at most TABLE_CALLS",
};
const CALLS_WAITING: Metric = Metric {
    name: "cache_aside.table.calls.waiting",
    kind: Kind::UpDownCounter,
    unit: "{call}",
    attributes: &[],
    meaning: "calls to the table that wait for their turn; at most TABLE_QUEUE",
};
const CALLS_REFUSED: Metric = Metric {
    name: "cache_aside.table.calls.refused",
    kind: Kind::Counter,
    unit: "{call}",
    attributes: &["cache_aside.reason"],
    meaning: "calls to the table that were not made, because the queue was full (queue_full) or their turn did not come in time (waited_too_long)",
};

/// All metrics.
pub const METRICS: [&Metric; 13] = [
    &SERVER_REQUESTS,
    &CLIENT_REQUESTS,
    &REDIS_CALLS,
    &READS,
    &FILLS,
    &LEASE_WAITS,
    &FENCES,
    &AUDITS,
    &OVERDUE_RELEASES,
    &CIRCUIT,
    &CALLS_IN_FLIGHT,
    &CALLS_WAITING,
    &CALLS_REFUSED,
];

/// How loaded the calls to the table are. The refusals are counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableLoad {
    /// Calls in progress.
    pub in_flight: usize,
    /// Calls that wait for their turn.
    pub waiting: usize,
    /// Calls that were refused because the queue was full.
    pub refused_by_queue: u64,
    /// Calls that were refused because their turn did not come in time.
    pub refused_by_time: u64,
}

/// What the values are recorded with.
pub(super) struct Instruments {
    meter: Meter,
    pub(super) server_requests: Histogram<f64>,
    pub(super) client_requests: Histogram<f64>,
    pub(super) redis_calls: Histogram<f64>,
    pub(super) reads: Counter<u64>,
    pub(super) fills: Counter<u64>,
    pub(super) lease_waits: Histogram<f64>,
    pub(super) fences: Counter<u64>,
    pub(super) audits: Counter<u64>,
    pub(super) overdue_releases: UpDownCounter<i64>,
    /// Whether the circuit is open; not set if the cache is not Redis.
    pub(super) circuit: Arc<OnceLock<AtomicBool>>,
}

impl Instruments {
    pub(super) fn new(meter: Meter) -> Self {
        let histogram = |metric: &Metric, buckets: &[f64]| {
            let builder = meter.f64_histogram(metric.name).with_unit(metric.unit);
            builder.with_description(metric.meaning).with_boundaries(buckets.to_vec()).build()
        };
        let counter = |metric: &Metric| {
            let builder = meter.u64_counter(metric.name).with_unit(metric.unit);
            builder.with_description(metric.meaning).build()
        };
        let instruments = Self {
            server_requests: histogram(&SERVER_REQUESTS, &HTTP_BUCKETS),
            client_requests: histogram(&CLIENT_REQUESTS, &HTTP_BUCKETS),
            redis_calls: histogram(&REDIS_CALLS, &DB_BUCKETS),
            reads: counter(&READS),
            fills: counter(&FILLS),
            lease_waits: histogram(&LEASE_WAITS, &DB_BUCKETS),
            fences: counter(&FENCES),
            audits: counter(&AUDITS),
            overdue_releases: meter
                .i64_up_down_counter(OVERDUE_RELEASES.name)
                .with_unit(OVERDUE_RELEASES.unit)
                .with_description(OVERDUE_RELEASES.meaning)
                .build(),
            circuit: Arc::default(),
            meter,
        };
        instruments.begin_rare_outcomes();
        instruments
    }

    /// Gives the outcomes whose increase is an alert the value 0: in a series that begins with 1,
    /// Prometheus sees no increase.
    fn begin_rare_outcomes(&self) {
        for (counter, outcomes) in [
            (&self.reads, &["stale"][..]),
            (&self.fences, &["lost", "not_placed", "release_overdue"]),
            (&self.audits, &["differs"]),
        ] {
            for outcome in outcomes {
                counter.add(0, &[KeyValue::new("cache_aside.outcome", *outcome)]);
            }
        }
    }

    /// Reports a number each time metrics are exported.
    fn report(&self, metric: &'static Metric, value: impl Fn() -> i64 + Send + Sync + 'static) {
        let builder = self.meter.i64_observable_up_down_counter(metric.name);
        let builder = builder.with_unit(metric.unit).with_description(metric.meaning);
        // The meter keeps the callback.
        let _ = builder.with_callback(move |observer| observer.observe(value(), &[])).build();
    }

    /// Reports the circuit of Redis from now on, even before it opens for the first time. So is the number
    /// of overdue releases: an alert needs a value to compare with.
    pub(super) fn report_circuit(&self) {
        self.overdue_releases.add(0, &[]);
        self.circuit.get_or_init(AtomicBool::default);
        let circuit = Arc::clone(&self.circuit);
        let is_open = move || circuit.get().is_some_and(|is_open| is_open.load(Ordering::Relaxed));
        self.report(&CIRCUIT, move || i64::from(is_open()));
    }

    pub(super) fn report_table(&self, load: impl Fn() -> TableLoad + Send + Sync + 'static) {
        let load = Arc::new(load);
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let (in_flight, waiting) = (Arc::clone(&load), Arc::clone(&load));
        self.report(&CALLS_IN_FLIGHT, move || number(in_flight().in_flight));
        self.report(&CALLS_WAITING, move || number(waiting().waiting));
        let builder = self.meter.u64_observable_counter(CALLS_REFUSED.name);
        let builder = builder.with_unit(CALLS_REFUSED.unit);
        let _ = builder
            .with_description(CALLS_REFUSED.meaning)
            .with_callback(move |observer| {
                let load = load();
                for (reason, refused) in [
                    ("queue_full", load.refused_by_queue),
                    ("waited_too_long", load.refused_by_time),
                ] {
                    observer.observe(refused, &[KeyValue::new("cache_aside.reason", reason)]);
                }
            })
            .build();
    }
}
