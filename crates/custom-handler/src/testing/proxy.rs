//! The proxying mode: the request as the client sent it.

use std::convert::Infallible;
use std::time::Duration;

use reqwest::header::HeaderValue;

use super::call::{
    Caller, Reply, Request, copied_headers, empty, invocation_headers, new_id, pass_back,
};

/// How often a request is sent while its connection fails, `MaxRetries` in
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/HttpProxyService/RetryProxyHandler.cs>
/// (before mid-2025 in `src/WebJobs.Script.Grpc/Server`).
const ATTEMPTS: u32 = 10;

/// The first pause between two attempts, which is doubled up to the longest. From the same file.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

impl Caller {
    /// Sends the request. If the connection fails, a request without a body is sent again, whatever
    /// its method. The body of a request that has one was read by the first attempt, so the further
    /// ones are in vain, and the reply is an empty 500: measured.
    pub(super) async fn proxy(&self, request: &Request) -> Reply {
        let mut path = request.path.clone();
        if !request.query.is_empty() {
            path = format!("{path}?{}", request.query);
        }
        // A client's own values are replaced: measured.
        let mut headers = copied_headers(request);
        let id = new_id();
        headers.extend(invocation_headers(&id));
        headers.insert("x-ms-invocation-id", id.parse().unwrap());
        headers.insert("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
        headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        headers.insert("x-forwarded-host", HeaderValue::from_static("localhost"));
        let (mut pause, longest) = PAUSES;
        for attempt in 1..=ATTEMPTS {
            if attempt == 1 || request.body.is_empty() {
                let call = self.request(request.method.clone(), &path, headers.clone());
                if let Ok(response) = call.body(body_as_it_came(request)).send().await {
                    return pass_back(response).await;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        empty(500)
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
