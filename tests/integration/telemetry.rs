//! Spans and metrics, as they arrive at a receiver of OTLP.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cache_aside_handler::telemetry::{METRICS, Metric};
use opentelemetry_proto::tonic::trace::v1::Span;
use regex::Regex;
use reqwest::Method;
use tokio::net::TcpListener;

use crate::support::client::json;
use crate::support::handler::Handler;
use crate::support::receiver::{Receiver, attributes};
use crate::support::{Answer, Azurite, Client, Redis, eventually, on_servers};
use test_programs::table_proxy::{Call, Fate, Proxy};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const INVOCATION: &str = "b8c2b1a0-1111-4222-8333-123456789abc";
const SECONDS: Duration = Duration::from_secs(20);

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

/// What a client sends through the host, in a trace that is sampled or not.
async fn call(client: &Client, method: Method, path: &str, body: &str, flags: &str) -> Answer {
    let request = json(client.request(method, path), body)
        .header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"))
        .header("x-azure-functions-invocationid", INVOCATION);
    client.send(request).await
}

/// The settings of a handler on real servers. Metrics are exported often, so that tests need not wait.
pub fn settings(receiver: &Receiver, redis: u16, table: u16) -> Vec<(&'static str, String)> {
    let mut settings = on_servers(redis, table);
    settings.extend([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200".to_owned()),
        ("CACHE_TTL", "1m".to_owned()),
        ("CACHE_NEGATIVE_TTL", "1m".to_owned()),
    ]);
    settings
}

pub async fn connected(settings: &[(&str, String)]) -> Handler {
    let handler = Handler::start(settings).await;
    handler.line_with("connected to Redis").await;
    handler.line_with("connected to the table").await;
    handler
}

/// Ends it as SIGTERM does, after which everything has been exported.
async fn stopped(mut handler: Handler) {
    handler.signal("TERM");
    handler.ended().await;
}

/// The spans of a request, and the names of their children in the order in which those ended.
fn requests(spans: &[Span]) -> Vec<(&Span, Vec<&str>)> {
    let mut requests: Vec<_> = spans.iter().filter(|span| span.kind == SERVER).collect();
    requests.sort_by_key(|span| span.start_time_unix_nano);
    let children = |request: &Span| {
        let is_child = |span: &&Span| span.parent_span_id == request.span_id;
        let mut children: Vec<_> = spans.iter().filter(is_child).collect();
        children.sort_by_key(|span| span.end_time_unix_nano);
        children.iter().map(|span| span.name.as_str()).collect()
    };
    requests.into_iter().map(|request| (request, children(request))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn known_traffic_makes_known_spans_and_metrics_and_no_user_is_in_them() {
    let (redis, azurite, receiver) = (Redis::start(), Azurite::shared(), Receiver::start().await);
    let settings = settings(&receiver, redis.port, azurite.port);
    let (_, table) = settings.iter().find(|(name, _)| *name == "USERS_TABLE_NAME").unwrap();
    let handler = connected(&settings).await;
    let client = handler.client.clone();
    let absent = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    let name = r#"{"name":"Zaphod Quux"}"#;
    let created = call(&client, Method::POST, "/api/users", name, "01").await;
    let path = created.header("location").to_owned();
    for (method, path, body, expected) in [
        (Method::GET, &*path, "", 200),
        (Method::GET, &*path, "", 200),
        (Method::PATCH, &*path, r#"{"name":"Trillian Astra"}"#, 200),
        (Method::GET, absent, "", 404),
        (Method::GET, absent, "", 404),
        (Method::DELETE, &*path, "", 204),
        (Method::GET, "/api/users", "", 405),
        (Method::GET, "/api/health", "", 200),
    ] {
        assert_eq!(call(&client, method, path, body, "01").await.status, expected, "{path}");
    }
    stopped(handler).await;

    let spans = receiver.spans();
    let requests = requests(&spans);
    let entity = format!("/devstoreaccount1/{table}({{keys}})");
    let [get, merge, delete] = ["GET", "MERGE", "DELETE"].map(|it| format!("{it} {entity}"));
    let insert = format!("POST /devstoreaccount1/{table}");
    let miss = vec!["GET", "EVALSHA lease", &get, "EVALSHA fill"];
    let write = |change| vec!["EVALSHA fence", change, "EVALSHA release"];
    let names: Vec<_> =
        requests.iter().map(|(span, of)| (span.name.as_str(), of.clone())).collect();
    let expected = [
        ("POST /api/users", vec![&*insert]),
        ("GET /api/users/{id}", miss.clone()),
        ("GET /api/users/{id}", vec!["GET"]),
        ("PATCH /api/users/{id}", write(&merge)),
        ("GET /api/users/{id}", miss),
        ("GET /api/users/{id}", vec!["GET"]),
        ("DELETE /api/users/{id}", write(&delete)),
        ("GET", vec![]),
    ];
    assert_eq!(names, expected);
    for span in &spans {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert_eq!(attributes(&span.attributes)["faas.invocation_id"], INVOCATION);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    for (span, _) in &requests {
        assert_eq!(hex(&span.parent_span_id), PARENT);
        assert!(span.status.as_ref().is_none_or(|status| status.code != ERROR));
    }
    let of = |index: usize| attributes(&requests[index].0.attributes);
    let hit = of(2);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/api/users/{id}"),
        ("url.path", "/api/users/{id}"),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("faas.trigger", "http"),
        ("cache_aside.outcome", "hit"),
    ] {
        assert_eq!(hit[key], value, "{key}");
    }
    let outcome = |index| {
        (of(index)["cache_aside.outcome"].clone(), of(index).get("cache_aside.reason").cloned())
    };
    assert_eq!(outcome(1), ("miss".to_owned(), Some("not_cached".to_owned())));
    assert_eq!(outcome(5), ("negative".to_owned(), None));
    assert!(!of(7).contains_key("url.path"), "a path of no route can be anything");

    let child =
        |name: &str| attributes(&spans.iter().find(|it| it.name == name).unwrap().attributes);
    let fill = child("EVALSHA fill");
    assert_eq!(fill["db.system.name"], "redis");
    assert_eq!(fill["db.operation.name"], "EVALSHA");
    assert_eq!(fill["db.stored_procedure.name"], "fill");
    let load = child(&get);
    let url = format!("http://127.0.0.1:{}/devstoreaccount1/{table}(REDACTED)", azurite.port);
    assert_eq!((&*load["url.full"], &*load["url.template"]), (&*url, &*entity));
    assert_eq!(load["server.address"], "127.0.0.1");
    assert_eq!(load["server.port"], azurite.port.to_string());
    assert_eq!(load["http.response.status_code"], "200");
    assert!(!load["azure.service.request.id"].is_empty());
    assert!(spans.iter().filter(|span| span.kind != SERVER).all(|span| span.kind == CLIENT));

    let route = ("http.route", "/api/users/{id}");
    let served =
        |expected: &[(&str, &str)]| receiver.count("http.server.request.duration", expected);
    assert_eq!(served(&[route, ("http.request.method", "GET")]), 4);
    assert_eq!(served(&[route, ("http.response.status_code", "404")]), 2);
    assert_eq!(served(&[("http.route", "/api/health"), ("url.scheme", "http")]), 1);
    assert_eq!(served(&[("http.response.status_code", "405")]), 1);
    let reads = |outcome| receiver.sum("cache_aside.reads", &[("cache_aside.outcome", outcome)]);
    let counted = ["hit", "negative", "miss", "local", "bypass", "error"].map(reads);
    assert_eq!(counted, [Some(1), Some(1), Some(2), None, None, None]);
    let sum = |name, outcome| receiver.sum(name, &[("cache_aside.outcome", outcome)]);
    assert_eq!(sum("cache_aside.fills", "accepted"), Some(2));
    assert_eq!(sum("cache_aside.fences", "released"), Some(2));
    let script = |name| {
        receiver.count("db.client.operation.duration", &[("db.stored_procedure.name", name)])
    };
    assert_eq!(["lease", "fill", "fence", "release"].map(script), [2; 4]);
    assert_eq!(receiver.count("db.client.operation.duration", &[("db.operation.name", "GET")]), 4);
    let loads = [("http.request.method", "GET"), ("http.response.status_code", "200")];
    assert_eq!(receiver.count("http.client.request.duration", &loads), 1);
    assert_eq!(receiver.sum("cache_aside.redis.circuit.open", &[]), Some(0));
    assert_eq!(receiver.sum("cache_aside.releases.overdue", &[]), Some(0));
    assert_eq!(receiver.sum("cache_aside.table.calls.in_flight", &[]), Some(0));
    assert_eq!(receiver.sum("cache_aside.table.calls.waiting", &[]), Some(0));
    assert_eq!(receiver.sum("cache_aside.table.calls.refused", &[]), Some(0));
    let bounds = |name: &str| receiver.histogram(name)[0].explicit_bounds.clone();
    assert_eq!(bounds("http.server.request.duration")[..3], [0.005, 0.01, 0.025]);
    assert_eq!(bounds("db.client.operation.duration")[..3], [0.001, 0.005, 0.01]);

    let resource = receiver.resource();
    assert_eq!(resource["service.name"], "cache-aside-handler");
    assert_eq!(resource["service.instance.id"].len(), 26);
    let id = path.rsplit('/').next().unwrap();
    for text in [id, "01KB584F3Y9AF31621Q7N62Q67", "Zaphod", "Trillian", "SharedKey"] {
        assert!(!receiver.has_text(text), "{text}");
    }
    assert!(receiver.has_text(INVOCATION), "texts would be found");
}

/// Every metric that arrives is in the table, with its unit and with no attribute beyond those that it
/// names; and nearly every metric of the table arrives.
#[tokio::test]
async fn the_metrics_are_those_of_the_table() {
    let (mut redis, azurite, receiver) =
        (Redis::start(), Azurite::shared(), Receiver::start().await);
    let mut settings = settings(&receiver, redis.port, azurite.port);
    settings.push(("CACHE_AUDIT", "100%".to_owned()));
    let handler = connected(&settings).await;
    let path = handler.client.create("Ann").await;
    for _ in 0..2 {
        handler.client.get(&path).await;
    }
    let agrees = [("cache_aside.outcome", "agrees")];
    eventually(SECONDS, "the audit of the hit shows", || async {
        receiver.sum("cache_aside.audits", &agrees) == Some(1)
    })
    .await;
    redis.stop();
    handler.client.get(&path).await;
    handler.client.patch(&path, r#"{"name":"Bob"}"#).await;
    let gauge = |name| receiver.sum(name, &[]);
    eventually(SECONDS, "the outage shows", || async {
        gauge("cache_aside.redis.circuit.open") == Some(1)
            && gauge("cache_aside.releases.overdue") == Some(1)
    })
    .await;
    handler.client.get(&path).await;
    redis.restart();
    eventually(SECONDS, "the recovery shows", || async {
        gauge("cache_aside.redis.circuit.open") == Some(0)
            && gauge("cache_aside.releases.overdue") == Some(0)
    })
    .await;
    stopped(handler).await;
    let outage = [("cache_aside.outcome", "bypass"), ("cache_aside.reason", "cache_unavailable")];
    assert_eq!(receiver.sum("cache_aside.reads", &outage), Some(2));
    let overdue = [("cache_aside.outcome", "release_overdue")];
    assert_eq!(receiver.sum("cache_aside.fences", &overdue), Some(1));
    let failed = [("error.type", "_OTHER"), ("db.system.name", "redis")];
    assert!(receiver.count("db.client.operation.duration", &failed) > 0);

    let arrived = receiver.metrics();
    let table: BTreeMap<_, _> =
        METRICS.iter().map(|it| (it.name.to_owned(), it.unit.to_owned())).collect();
    let not_here = BTreeSet::from(["cache_aside.lease.wait.duration".to_owned()]);
    let expected = table.into_iter().filter(|(name, _)| !not_here.contains(name)).collect();
    assert_eq!(arrived, expected);
    for metric in METRICS.iter().filter(|it| !not_here.contains(it.name)) {
        for key in receiver.keys(metric.name) {
            assert!(metric.attributes.contains(&key.as_str()), "{}: {key}", metric.name);
        }
    }
}

/// Prometheus sees no increase in a series that begins with 1.
#[tokio::test]
async fn what_alerts_watch_the_increase_of_has_the_value_0_from_the_start() {
    let receiver = Receiver::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    stopped(Handler::start(&[endpoint]).await).await;
    let alerts = include_str!("../../docs/operate/alerts.yaml");
    let pattern =
        Regex::new(r#"increase\((\w+)_total\{cache_aside_outcome=~?"([a-z_|]+)"\}"#).unwrap();
    let mut outcomes = 0;
    for (_, [name, words]) in pattern.captures_iter(alerts).map(|it| it.extract()) {
        let is_it = |metric: &&&Metric| metric.name.replace('.', "_") == name;
        let metric = METRICS.iter().find(is_it).unwrap();
        for word in words.split('|') {
            let value = receiver.sum(metric.name, &[("cache_aside.outcome", word)]);
            assert_eq!(value, Some(0), "{name} {word}");
            outcomes += 1;
        }
    }
    assert_eq!((outcomes, alerts.matches("increase(").count()), (5, 3));
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_has_no_spans_but_is_measured() {
    let (redis, azurite, receiver) = (Redis::start(), Azurite::shared(), Receiver::start().await);
    let handler = connected(&settings(&receiver, redis.port, azurite.port)).await;
    let absent = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    call(&handler.client, Method::GET, absent, "", "00").await;
    stopped(handler).await;
    assert!(receiver.spans().is_empty(), "{:?}", receiver.spans());
    assert_eq!(receiver.sum("cache_aside.reads", &[]), Some(1));
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one() {
    let receiver = Receiver::start().await;
    let handler = Handler::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())]).await;
    handler.client.create("Ann").await;
    stopped(handler).await;
    let spans = receiver.spans();
    assert_eq!(spans.len(), 1, "the store and the cache are in process: {spans:?}");
    assert!(spans[0].parent_span_id.is_empty() && spans[0].trace_id != [0; 16]);
    assert!(!receiver.metrics().contains_key("db.client.operation.duration"));
}

/// A call that its time ran out for is recorded, and so are calls that had to wait.
#[tokio::test]
async fn a_table_that_does_not_answer_shows_in_spans_and_metrics() {
    let (redis, azurite, receiver) = (Redis::start(), Azurite::shared(), Receiver::start().await);
    let proxy = Proxy::in_front_of(azurite.port).await;
    let mut settings = settings(&receiver, redis.port, proxy.port);
    settings.extend([
        ("TABLE_TIMEOUT", "900ms".to_owned()),
        ("TABLE_CALLS", "1".to_owned()),
        ("TABLE_QUEUE", "1".to_owned()),
    ]);
    let handler = connected(&settings).await;
    proxy.decide(|call: &Call| if call.is_read() { Fate::Swallow } else { Fate::Pass });
    let ids =
        ["01KB584F3Y9AF31621Q7N62Q67", "01KB584F3Y9AF31621Q7N62Q68", "01KB584F3Y9AF31621Q7N62Q69"];
    let paths = ids.map(|id| format!("/api/users/{id}"));
    let [one, two, three] = paths.each_ref().map(|path| handler.client.get(path));
    let seen = async {
        eventually(SECONDS, "the load of the table shows", || async {
            receiver.sum("cache_aside.table.calls.in_flight", &[]) == Some(1)
        })
        .await;
    };
    let (one, two, three, ()) = tokio::join!(one, two, three, seen);
    assert!([one, two, three].iter().all(|answer| answer.status == 503));
    stopped(handler).await;
    let refused =
        |reason| receiver.sum("cache_aside.table.calls.refused", &[("cache_aside.reason", reason)]);
    assert_eq!(refused("queue_full"), Some(1));
    assert_eq!(refused("waited_too_long"), Some(1));
    let timeouts = [("error.type", "timeout"), ("http.request.method", "GET")];
    assert!(receiver.count("http.client.request.duration", &timeouts) > 0);
    assert_eq!(receiver.sum("cache_aside.reads", &[("cache_aside.outcome", "error")]), Some(3));
    let spans = receiver.spans();
    let failed: Vec<_> = requests(&spans).into_iter().map(|(span, _)| span).collect();
    assert_eq!(failed.len(), 3);
    for span in failed {
        assert_eq!(span.status.as_ref().unwrap().code, ERROR);
        assert_eq!(attributes(&span.attributes)["error.type"], "503");
    }
}

/// The host ends its handler with SIGKILL. This test exports as often as a handler does by default.
#[tokio::test]
async fn what_a_handler_that_is_killed_did_seconds_before_has_arrived() {
    let receiver = Receiver::start().await;
    let mut handler = Handler::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())]).await;
    let path = handler.client.create("Ann").await;
    for _ in 0..20 {
        assert_eq!(handler.client.get(&path).await.status, 200);
    }
    tokio::time::sleep(Duration::from_millis(6500)).await;
    handler.signal("KILL");
    handler.ended().await;
    let route = [("http.route", "/api/users/{id}")];
    assert_eq!(receiver.count("http.server.request.duration", &route), 20);
    assert_eq!(receiver.spans().len(), 21);
}

#[tokio::test]
async fn a_receiver_that_cannot_be_reached_costs_no_request_anything_and_is_logged_once() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let silent = silent.local_addr().map(|it| it.port()).map(|port| (port, silent)).unwrap();
    for (port, timeout) in [(1, "10000"), (silent.0, "300")] {
        let mut handler = Handler::start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", timeout.to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ])
        .await;
        let path = handler.client.create("Ann").await;
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(handler.client.get(&path).await.status, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let line = handler.line_with("cannot be exported").await;
        assert!(line.contains("requests are served as before"), "{line}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(handler.count_of("cannot be exported"), 1);
        let begun = Instant::now();
        handler.signal("TERM");
        handler.ended().await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn without_the_variable_nothing_is_created() {
    let receiver = Receiver::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    let off = ("OTEL_SDK_DISABLED", "true".to_owned());
    let threads = |handler: &Handler| handler.threads_named("OpenTelemetry");
    let on = Handler::start(std::slice::from_ref(&endpoint)).await;
    eventually(SECONDS, "one thread for spans and one for metrics", async || threads(&on) == 2)
        .await;
    for settings in [vec![], vec![endpoint, off]] {
        let handler = Handler::start(&settings).await;
        handler.client.create("Ann").await;
        assert_eq!(threads(&handler), 0, "{settings:?}");
    }
}
