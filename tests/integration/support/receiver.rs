//! A receiver of OTLP by HTTP and protobuf, as a collector has one. It decodes what it receives with the
//! protocol's own definitions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use warp::Filter;
use warp::hyper::body::Bytes;

/// A running receiver.
#[derive(Clone)]
pub struct Receiver {
    pub port: u16,
    received: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    /// Every body, as it arrived.
    bytes: Vec<Bytes>,
    spans: Vec<Span>,
    /// The last value of each metric: they are cumulative.
    metrics: BTreeMap<String, Metric>,
    resource: Attributes,
}

/// Attributes as texts.
pub type Attributes = BTreeMap<String, String>;

impl Receiver {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Self { port, received: Arc::default() };
        let (traces, metrics) = (receiver.clone(), receiver.clone());
        let protobuf = warp::header::exact("content-type", "application/x-protobuf");
        let traces = warp::path!("v1" / "traces").and(protobuf).and(warp::body::bytes()).map(
            move |bytes: Bytes| {
                traces.traces(bytes);
                ""
            },
        );
        let metrics = warp::path!("v1" / "metrics").and(protobuf).and(warp::body::bytes()).map(
            move |bytes: Bytes| {
                metrics.metrics_arrived(bytes);
                ""
            },
        );
        tokio::spawn(warp::serve(traces.or(metrics)).incoming(listener).run());
        receiver
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn traces(&self, bytes: Bytes) {
        let request = ExportTraceServiceRequest::decode(bytes.clone()).expect("valid protobuf");
        let mut received = self.received.lock().unwrap();
        received.bytes.push(bytes);
        for resource in request.resource_spans {
            received.resource = attributes(&resource.resource.unwrap().attributes);
            for scope in resource.scope_spans {
                received.spans.extend(scope.spans);
            }
        }
    }

    fn metrics_arrived(&self, bytes: Bytes) {
        let request = ExportMetricsServiceRequest::decode(bytes.clone()).expect("valid protobuf");
        let mut received = self.received.lock().unwrap();
        received.bytes.push(bytes);
        for resource in request.resource_metrics {
            received.resource = attributes(&resource.resource.unwrap().attributes);
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                received.metrics.insert(metric.name.clone(), metric);
            }
        }
    }

    /// What describes the handler.
    pub fn resource(&self) -> Attributes {
        self.received.lock().unwrap().resource.clone()
    }

    /// All spans that have arrived.
    pub fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().spans.clone()
    }

    /// The names of the metrics that have arrived, and their units.
    pub fn metrics(&self) -> BTreeMap<String, String> {
        let received = self.received.lock().unwrap();
        received.metrics.values().map(|it| (it.name.clone(), it.unit.clone())).collect()
    }

    /// Whether a text occurs anywhere in what has arrived.
    pub fn has_text(&self, text: &str) -> bool {
        let received = self.received.lock().unwrap();
        let contains =
            |bytes: &Bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        received.bytes.iter().any(contains)
    }

    fn data(&self, name: &str) -> Option<Data> {
        self.received.lock().unwrap().metrics.get(name)?.data.clone()
    }

    /// The points of a histogram.
    pub fn histogram(&self, name: &str) -> Vec<HistogramDataPoint> {
        match self.data(name) {
            Some(Data::Histogram(histogram)) => histogram.data_points,
            None => Vec::new(),
            other => panic!("{name} is no histogram: {other:?}"),
        }
    }

    /// How many values with these attributes a histogram has.
    pub fn count(&self, name: &str, expected: &[(&str, &str)]) -> u64 {
        let points = self.histogram(name).into_iter();
        points.filter(|it| has(&it.attributes, expected)).map(|it| it.count).sum()
    }

    /// The sum of the values with these attributes; `None` if there is no such value.
    pub fn sum(&self, name: &str, expected: &[(&str, &str)]) -> Option<i64> {
        let Some(Data::Sum(sum)) = self.data(name) else { return None };
        let points: Vec<_> =
            sum.data_points.iter().filter(|it| has(&it.attributes, expected)).collect();
        let value = |value: &Option<Number>| match value {
            Some(Number::AsInt(value)) => *value,
            other => panic!("{name} is not a whole number: {other:?}"),
        };
        (!points.is_empty()).then(|| points.iter().map(|it| value(&it.value)).sum())
    }

    /// The keys of the attributes of a metric's values.
    pub fn keys(&self, name: &str) -> Vec<String> {
        let attributes: Vec<_> = match self.data(name) {
            Some(Data::Sum(it)) => {
                it.data_points.into_iter().flat_map(|it| it.attributes).collect()
            }
            Some(Data::Histogram(it)) => {
                it.data_points.into_iter().flat_map(|it| it.attributes).collect()
            }
            other => panic!("{name}: {other:?}"),
        };
        let mut keys: Vec<_> = attributes.into_iter().map(|it| it.key).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

/// Attributes as texts.
pub fn attributes(attributes: &[KeyValue]) -> Attributes {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("an attribute of another type: {other:?}"),
    };
    let pair =
        |it: &KeyValue| (it.key.clone(), text(it.value.as_ref().unwrap().value.as_ref().unwrap()));
    attributes.iter().map(pair).collect()
}

fn has(given: &[KeyValue], expected: &[(&str, &str)]) -> bool {
    let given = attributes(given);
    expected.iter().all(|(key, value)| given.get(*key).is_some_and(|it| it == value))
}
