//! The HTTP client of the table, observed: each request of the SDK, each attempt on its own.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use azure_core::headers::REQUEST_ID;
use azure_core::{HttpClient, Request, Response, Url};

use crate::telemetry::{Exchange, ExchangeEnd, Telemetry};

/// Stands for the keys in the path of a span.
const KEYS: &str = "({keys})";
/// Stands for the keys in the URL of a span.
const REDACTED: &str = "(REDACTED)";

/// A client whose exchanges are recorded.
pub(super) struct Observed {
    pub(super) client: Arc<dyn HttpClient>,
    pub(super) telemetry: Telemetry,
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.client.fmt(f)
    }
}

#[async_trait]
impl HttpClient for Observed {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let exchange = InProgress::begin(&self.telemetry, request);
        let answer = self.client.execute_request(request).await;
        exchange.end(match &answer {
            Ok(response) => {
                let id = response.headers().get_optional_str(&REQUEST_ID);
                ExchangeEnd::Answer(u16::from(response.status()), id)
            }
            Err(_) => ExchangeEnd::NoConnection,
        });
        answer
    }
}

/// An exchange in progress. If it is dropped before it has ended, its time was over.
struct InProgress<'a> {
    telemetry: &'a Telemetry,
    request: &'a Request,
    begun: Instant,
    has_ended: bool,
}

impl<'a> InProgress<'a> {
    fn begin(telemetry: &'a Telemetry, request: &'a Request) -> Self {
        Self { telemetry, request, begun: Instant::now(), has_ended: false }
    }

    fn end(mut self, end: ExchangeEnd<'_>) {
        self.has_ended = true;
        self.record(end);
    }

    fn record(&self, end: ExchangeEnd<'_>) {
        let url = self.request.url();
        self.telemetry.exchanged(&Exchange {
            method: self.request.method().as_ref(),
            url: &without_keys(url),
            template: &template(url),
            host: url.host_str().unwrap_or_default(),
            port: url.port_or_known_default().unwrap_or_default(),
            took: self.begun.elapsed(),
            end,
        });
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.record(ExchangeEnd::TimedOut);
        }
    }
}

/// The path up to the keys, and whether there are any.
fn resource(url: &Url) -> (&str, bool) {
    match url.path().split_once('(') {
        Some((resource, _)) => (resource, true),
        None => (url.path(), false),
    }
}

/// The path with a placeholder for the keys.
fn template(url: &Url) -> String {
    let (resource, has_keys) = resource(url);
    format!("{resource}{}", if has_keys { KEYS } else { "" })
}

/// The URL without the keys, one of which is a user's id, and without the query, which can be a shared
/// access signature.
fn without_keys(url: &Url) -> String {
    let (resource, has_keys) = resource(url);
    let origin = url.origin().ascii_serialization();
    format!("{origin}{resource}{}", if has_keys { REDACTED } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_neither_keys_nor_a_signature() {
        let table = "https://shop.table.core.windows.net/users";
        let user = "(PartitionKey='user',RowKey='01KB584F3Y9AF31621Q7N62Q67')";
        let url = |text: String| Url::parse(&text).unwrap();
        let entity = url(format!("{table}{user}?sig=secret"));
        assert_eq!(without_keys(&entity), format!("{table}(REDACTED)"));
        assert_eq!(template(&entity), "/users({keys})");
        let inserts = url(format!("{table}?sig=secret"));
        assert_eq!(without_keys(&inserts), table);
        assert_eq!(template(&inserts), "/users");
        let emulated = url(format!("http://127.0.0.1:10002/devstoreaccount1/users{user}"));
        let expected = "http://127.0.0.1:10002/devstoreaccount1/users(REDACTED)";
        assert_eq!(without_keys(&emulated), expected);
    }
}
