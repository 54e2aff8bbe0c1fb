//! What operators use has the names of the metrics in the code: the README, docs/operate.md, the dashboard
//! and the alert rules.

use std::collections::BTreeSet;

use cache_aside_handler::telemetry::{Kind, METRICS, Metric};
use regex::Regex;
use serde_json::Value;

const OPERATE: &str = include_str!("../../docs/operate.md");
const DASHBOARD: &str = include_str!("../../docs/operate/dashboard.json");
const ALERTS: &str = include_str!("../../docs/operate/alerts.yaml");

/// The name that Prometheus' OTLP receiver gives a metric
/// (<https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>): the unit is
/// appended unless it is a word in braces, and `_total` to what only grows.
fn in_prometheus(metric: &Metric) -> String {
    let unit = match metric.unit {
        "s" => "_seconds",
        unit if unit.starts_with('{') => "",
        unit => panic!("{}: {unit}", metric.name),
    };
    let total = if metric.kind == Kind::Counter { "_total" } else { "" };
    format!("{}{unit}{total}", metric.name.replace('.', "_"))
}

/// The names of the series of a metric.
fn series(metric: &Metric) -> Vec<String> {
    let name = in_prometheus(metric);
    match metric.kind {
        Kind::Histogram => ["bucket", "count", "sum"].map(|it| format!("{name}_{it}")).to_vec(),
        Kind::Counter | Kind::UpDownCounter => vec![name],
    }
}

/// The labels that an attribute becomes.
fn labels() -> BTreeSet<String> {
    let attributes = METRICS.iter().flat_map(|metric| metric.attributes);
    attributes.map(|attribute| attribute.replace('.', "_")).collect()
}

/// The words in a text that are names of metrics or labels of ours, or look like one.
fn names(text: &str) -> BTreeSet<String> {
    let pattern =
        Regex::new(r"(?-u:\b)(?:cache_aside|http|db|error|url|server|faas)_[a-z_]+").unwrap();
    pattern.find_iter(text).map(|it| it.as_str().to_owned()).collect()
}

/// Panics unless each name in these expressions is a series or a label, and returns the metrics that are
/// used.
fn check_expressions<'a>(expressions: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'static str> {
    let (labels, mut used) = (labels(), BTreeSet::new());
    for name in expressions.into_iter().flat_map(names) {
        match METRICS.iter().find(|metric| series(metric).contains(&name)) {
            Some(metric) => _ = used.insert(metric.name),
            None => assert!(labels.contains(&name), "{name} is neither a series nor a label"),
        }
    }
    used
}

fn all() -> BTreeSet<&'static str> {
    METRICS.iter().map(|metric| metric.name).collect()
}

#[test]
fn the_dashboard_shows_every_metric_by_its_name() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    assert_eq!(check_expressions(expressions), all());
    // The variable's query and the legends, too.
    assert!(check_expressions([DASHBOARD]).len() == METRICS.len());
}

#[test]
fn the_alert_rules_use_metrics_by_their_names_and_the_guide_has_each_alert() {
    let used = check_expressions([ALERTS]);
    assert!(used.len() > 6, "{used:?}");
    let alerts: Vec<_> =
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 8, "{alerts:?}");
    let rows: Vec<_> = OPERATE
        .lines()
        .filter_map(|line| line.strip_prefix("| `CacheAside")?.split('`').next())
        .map(|name| format!("CacheAside{name}"))
        .collect();
    assert_eq!(rows, alerts);
}

#[test]
fn the_guide_explains_every_metric() {
    for metric in METRICS {
        let row = format!("| `{}` | `{}` | ", metric.name, in_prometheus(metric));
        assert!(OPERATE.contains(&row), "docs/operate.md has no row that begins with {row}");
    }
    let series: BTreeSet<_> = METRICS.iter().flat_map(|metric| series(metric)).collect();
    let short: BTreeSet<_> = METRICS.iter().map(|metric| in_prometheus(metric)).collect();
    let labels = labels();
    for name in names(OPERATE) {
        let is_known = series.contains(&name) || short.contains(&name) || labels.contains(&name);
        assert!(is_known, "{name} in docs/operate.md is neither a metric nor a label");
    }
}

/// A row of the README's table.
fn readme_row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::UpDownCounter => "up-down counter",
        Kind::Histogram => "histogram",
    };
    let attributes: Vec<_> = metric.attributes.iter().map(|it| format!("`{it}`")).collect();
    let attributes = if attributes.is_empty() { "none".to_owned() } else { attributes.join(", ") };
    let unit = metric.unit.trim_matches(['{', '}']);
    format!("| `{}` | {kind} | {unit} | {attributes} | {} |", metric.name, metric.meaning)
}

/// If it is not, replace the README's rows with those that this test prints.
#[test]
fn the_table_of_metrics_in_the_readme_is_the_one_in_the_code() {
    let rows: Vec<_> = METRICS.iter().map(|metric| readme_row(metric)).collect();
    let expected = rows.join("\n");
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&expected), "the README's table of metrics is not this:\n{expected}");
}
