//! The spans: a request, and what it asked Redis and the table.
//!
//! None of them has an id of a user or a URL with one: paths are those of the route, and the keys of the
//! table are left out.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cache_aside::{CacheError, CacheErrorKind, Source, Step};
use custom_handler::Invocation;
use custom_handler::http::{Method, StatusCode};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use super::otel::{Otel, attributes};

tokio::task_local! {
    /// The span of the request that the task is working on.
    static CURRENT: SpanContext;
}

/// A request in progress. If it is dropped before it has ended, its call has panicked, or was dropped
/// because its client has gone away.
pub(crate) struct RequestSpan {
    otel: Arc<Otel>,
    span: Option<Span>,
    method: &'static str,
    route: Option<&'static str>,
    received: Instant,
}

impl RequestSpan {
    pub(super) fn begin(
        otel: Arc<Otel>,
        method: &Method,
        route: Option<&'static str>,
        received: Instant,
        is_traced: bool,
    ) -> Self {
        let method = known(method);
        let span = is_traced.then(|| {
            let builder = SpanBuilder::from_name(method).with_kind(SpanKind::Server);
            let builder = builder.with_start_time(SystemTime::now() - received.elapsed());
            let mut span = start(&otel.tracer, &parent(), builder);
            // Most requests are not traced: these do not cost them anything.
            if span.is_recording() {
                span.set_attribute(KeyValue::new("http.request.method", method));
                span.set_attribute(KeyValue::new("url.scheme", "http"));
                span.set_attribute(KeyValue::new("faas.trigger", "http"));
                if let Some(route) = route {
                    let path = format!("/{route}");
                    span.update_name(format!("{method} {path}"));
                    span.set_attribute(KeyValue::new("http.route", path.clone()));
                    span.set_attribute(KeyValue::new("url.path", path));
                }
                span.set_attributes(invocation_id());
            }
            span
        });
        Self { otel, span, method, route, received }
    }

    /// Works on the request: what it asks Redis and the table is recorded as a child of this span.
    pub(crate) async fn scope<T>(&self, work: Pin<&mut impl Future<Output = T>>) -> T {
        match &self.span {
            Some(span) => CURRENT.scope(span.span_context().clone(), work).await,
            None => work.await,
        }
    }

    /// The request has been answered; `read` says where the user came from, if it was a read.
    pub(crate) fn end(mut self, status: StatusCode, read: Option<Source>) {
        let took = self.received.elapsed().as_secs_f64();
        let code = i64::from(status.as_u16());
        let error = status.is_server_error().then(|| status.as_str().to_owned());
        let mut values = vec![
            KeyValue::new("http.request.method", self.method),
            KeyValue::new("url.scheme", "http"),
            KeyValue::new("http.response.status_code", code),
        ];
        values.extend(self.route.map(|route| KeyValue::new("http.route", format!("/{route}"))));
        values.extend(error.clone().map(|error| KeyValue::new("error.type", error)));
        self.otel.instruments.server_requests.record(took, &values);

        let Some(mut span) = self.span.take() else { return };
        if span.is_recording() {
            span.set_attribute(KeyValue::new("http.response.status_code", code));
            if let Some(source) = read {
                let is_found = status != StatusCode::NOT_FOUND;
                span.set_attributes(attributes(Some(source), is_found));
            }
            if let Some(error) = error {
                span.set_attribute(KeyValue::new("error.type", error));
                span.set_status(Status::error(""));
            }
        }
        span.end();
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new("error.type", "dropped"));
            span.set_status(Status::error("the call panicked, or its client has gone away"));
        }
    }
}

/// A step on Redis that has ended.
pub(super) struct RedisCall<'a> {
    pub(super) step: Step,
    pub(super) took: Duration,
    pub(super) error: Option<&'a CacheError>,
}

impl RedisCall<'_> {
    /// A hit is a plain `GET`; each other step is a script, which the client calls by its digest.
    fn operation(&self) -> (&'static str, Option<&'static str>) {
        match self.step {
            Step::Get => ("GET", None),
            script => ("EVALSHA", Some(script.name())),
        }
    }

    /// By the conventions for Redis (<https://opentelemetry.io/docs/specs/semconv/db/redis/>).
    pub(super) fn attributes(&self) -> Vec<KeyValue> {
        let (operation, script) = self.operation();
        let mut attributes = vec![
            KeyValue::new("db.system.name", "redis"),
            KeyValue::new("db.operation.name", operation),
        ];
        attributes.extend(script.map(|name| KeyValue::new("db.stored_procedure.name", name)));
        attributes.extend(self.error.map(|error| {
            let kind = match error.kind() {
                CacheErrorKind::Timeout => "timeout",
                _ => "_OTHER",
            };
            KeyValue::new("error.type", kind)
        }));
        attributes
    }
}

pub(super) fn redis_call(tracer: &SdkTracer, call: &RedisCall<'_>, attributes: Vec<KeyValue>) {
    let name = match call.operation() {
        (operation, None) => operation.into(),
        (operation, Some(script)) => format!("{operation} {script}").into(),
    };
    ended(tracer, name, call.took, call.error.is_some(), attributes);
}

/// An exchange with the table service that has ended: one attempt, and not the wait for its turn.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    /// The request's method.
    pub(crate) method: &'a str,
    /// The URL without the keys and the query.
    pub(crate) url: &'a str,
    /// The path, with `{keys}` for the keys.
    pub(crate) template: &'a str,
    /// The server's name.
    pub(crate) host: &'a str,
    /// The server's port.
    pub(crate) port: u16,
    /// How long it took until the head of the answer had arrived.
    pub(crate) took: Duration,
    /// How it ended.
    pub(crate) end: ExchangeEnd<'a>,
}

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum ExchangeEnd<'a> {
    /// With an answer, and the service's id of the request.
    Answer(u16, Option<&'a str>),
    /// With an error of the connection.
    NoConnection,
    /// It was given up, because its time was over.
    TimedOut,
}

impl Exchange<'_> {
    /// The word for `error.type`. That there is no such user, that there is one already, and that a
    /// condition does not hold are no errors.
    fn error(&self) -> Option<String> {
        match self.end {
            ExchangeEnd::Answer(status, _) if status < 400 => None,
            ExchangeEnd::Answer(404 | 409 | 412, _) => None,
            ExchangeEnd::Answer(status, _) => Some(status.to_string()),
            ExchangeEnd::NoConnection => Some("connection".to_owned()),
            ExchangeEnd::TimedOut => Some("timeout".to_owned()),
        }
    }

    /// By the conventions for HTTP clients (<https://opentelemetry.io/docs/specs/semconv/http/>).
    pub(super) fn attributes(&self) -> Vec<KeyValue> {
        let mut attributes = vec![
            KeyValue::new("http.request.method", self.method.to_owned()),
            KeyValue::new("server.address", self.host.to_owned()),
            KeyValue::new("server.port", i64::from(self.port)),
        ];
        if let ExchangeEnd::Answer(status, _) = self.end {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        attributes.extend(self.error().map(|error| KeyValue::new("error.type", error)));
        attributes
    }
}

pub(super) fn exchange(tracer: &SdkTracer, exchange: &Exchange<'_>, mut attributes: Vec<KeyValue>) {
    attributes.push(KeyValue::new("url.full", exchange.url.to_owned()));
    attributes.push(KeyValue::new("url.template", exchange.template.to_owned()));
    if let ExchangeEnd::Answer(_, Some(id)) = exchange.end {
        attributes.push(KeyValue::new("azure.service.request.id", id.to_owned()));
    }
    let name = format!("{} {}", exchange.method, exchange.template).into();
    ended(tracer, name, exchange.took, exchange.error().is_some(), attributes);
}

/// Records a call to a server that has just ended, if it was made for a request that is recorded.
fn ended(
    tracer: &SdkTracer,
    name: std::borrow::Cow<'static, str>,
    took: Duration,
    has_failed: bool,
    mut attributes: Vec<KeyValue>,
) {
    let Ok(request) = CURRENT.try_with(SpanContext::clone) else { return };
    if !request.is_sampled() {
        return;
    }
    attributes.extend(invocation_id());
    let end = SystemTime::now();
    let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Client);
    let builder = builder.with_start_time(end - took).with_attributes(attributes);
    let mut span = start(tracer, &request, builder);
    if has_failed {
        span.set_status(Status::error(""));
    }
    span.end_with_timestamp(end);
}

fn start(tracer: &SdkTracer, parent: &SpanContext, builder: SpanBuilder) -> Span {
    // A sampler would take an invalid parent for one that is not sampled.
    let context = match parent.is_valid() {
        true => Context::new().with_remote_span_context(parent.clone()),
        false => Context::new(),
    };
    tracer.build_with_context(builder, &context)
}

/// The trace that the client or the host has started; invalid, and so no parent, if there is none.
fn parent() -> SpanContext {
    let invocation = Invocation::current();
    let parse = |traceparent: &str| {
        let mut parts = traceparent.split('-').skip(1);
        let trace = TraceId::from_hex(parts.next()?).ok()?;
        let span = SpanId::from_hex(parts.next()?).ok()?;
        let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
        Some(SpanContext::new(trace, span, flags, true, TraceState::default()))
    };
    let parent = invocation.as_ref().and_then(Invocation::traceparent).and_then(parse);
    parent.unwrap_or(SpanContext::NONE)
}

/// By this id, the host's records of the invocation are found: its span is not an ancestor of ours.
fn invocation_id() -> Option<KeyValue> {
    let invocation = Invocation::current()?;
    Some(KeyValue::new("faas.invocation_id", invocation.id()?.to_owned()))
}

/// The method's name, or `_OTHER` for one that is not known, as the conventions say: a client can send any
/// text.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}
