//! The proxying mode: the request as the client sent it.

use std::convert::Infallible;
use std::time::Duration;

use reqwest::header::HeaderValue;

use super::call::{Caller, Reply, Request, copied_headers, empty, new_id, pass_back};

/// How often a request is sent while its connection fails, `MaxRetries` in
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/HttpProxyService/RetryProxyHandler.cs>
/// (before mid-2025 in `src/WebJobs.Script.Grpc/Server`).
const ATTEMPTS: u32 = 10;

impl Caller {
    /// Sends the request, and sends it again while the connection fails, whatever its method.
    pub(super) async fn proxy(&self, request: &Request) -> Reply {
        let invocation = new_id();
        let mut path = request.path.clone();
        if !request.query.is_empty() {
            path = format!("{path}?{}", request.query);
        }
        let mut headers = copied_headers(request);
        // A client's own values are replaced: measured.
        headers.insert("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
        headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        headers.insert("x-forwarded-host", HeaderValue::from_static("localhost"));
        for attempt in 0..ATTEMPTS {
            let sent = self
                .request(request.method.clone(), &path, &invocation)
                .headers(headers.clone())
                .body(body_as_it_came(request))
                .send()
                .await;
            match sent {
                Ok(response) => return pass_back(response).await,
                // At most `MaximumDelay`, from the same file as `ATTEMPTS`.
                Err(_) => {
                    let pause = 50 * (1 << attempt.min(2)) + 50;
                    tokio::time::sleep(Duration::from_millis(pause.min(250))).await;
                }
            }
        }
        empty(502)
    }
}

/// The body, with its length where that was announced, and in chunks where it was not: measured.
fn body_as_it_came(request: &Request) -> reqwest::Body {
    match request.headers.contains_key("transfer-encoding") {
        true => {
            let chunk = Ok::<_, Infallible>(request.body.clone());
            reqwest::Body::wrap_stream(futures_util::stream::iter([chunk]))
        }
        false => request.body.clone().into(),
    }
}
