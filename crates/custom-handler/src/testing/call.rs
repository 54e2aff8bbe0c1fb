//! A request on the host's public side, and what the three modes have in common.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rand::RngExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use warp::http::Response;

use super::Mode;
use super::app::FunctionApp;
use super::process::signal;
use super::supervisor::Worker;

/// The header with the id of the invocation.
pub(super) const INVOCATION_ID: &str = "x-azure-functions-invocationid";

/// The host's version, in the headers that it adds.
pub(super) const VERSION: &str = "4.1037.0.0";

/// A request, as the host's public side has received it.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    /// The body, if its length was announced. A payload has only such a body: a chunked one is dropped, `ToHttpRequestMessage` and `GetRequestAsJObject` in
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Extensions/HttpRequestExtensions.cs>.
    pub(super) fn announced_body(&self) -> Option<Bytes> {
        let length = self.headers.get("content-length")?.to_str().ok()?.parse::<usize>().ok()?;
        (length > 0).then(|| self.body.clone())
    }
}

pub(super) type Reply = Response<Vec<u8>>;

/// A reply without a body.
pub(super) fn empty(status: u16) -> Reply {
    Response::builder().status(status).body(Vec::new()).unwrap()
}

/// Calls the handler.
#[derive(Clone)]
pub(super) struct Caller {
    app: Arc<FunctionApp>,
    worker: Arc<Mutex<Worker>>,
    pub(super) invocation_logs: Arc<Mutex<Vec<String>>>,
    /// The URL of the host's public side.
    pub(super) url: String,
    http: reqwest::Client,
}

impl Caller {
    pub(super) fn new(
        app: Arc<FunctionApp>,
        worker: Arc<Mutex<Worker>>,
        invocation_logs: Arc<Mutex<Vec<String>>>,
        url: String,
    ) -> Self {
        // When the host proxies or forwards, it passes redirects back: `AllowAutoRedirect` in
        // https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self { app, worker, invocation_logs, url, http: http.build().unwrap() }
    }

    /// Answers a request: an empty 404 if it is for no function, whether its path or its method is
    /// not known (measured).
    pub(super) async fn call(self, request: Request) -> Reply {
        let Some((function, params)) = self.app.route(&request.method, &request.path) else {
            return empty(404);
        };
        let limit = self.app.function_timeout();
        let call = async {
            match self.app.mode() {
                Mode::Proxy => self.proxy(&request).await,
                Mode::Forward => self.forward(&request).await,
                Mode::Payload => self.payload(&request, function, &params).await,
            }
        };
        match tokio::time::timeout(limit, call).await {
            Ok(reply) => reply,
            // The host replies with an empty 500 and restarts the handler: measured. The stand-in
            // panics instead, so that the test fails.
            Err(_) => {
                let pid = self.worker.lock().unwrap().pid;
                pid.into_iter().for_each(|pid| signal(pid, "KILL"));
                panic!("{} ran into its functionTimeout of {limit:?}", function.name);
            }
        }
    }

    /// A request to the handler.
    pub(super) fn request(&self, method: Method, path: &str, headers: HeaderMap) -> RequestBuilder {
        let port = self.worker.lock().unwrap().port;
        self.http.request(method, format!("http://127.0.0.1:{port}{path}")).headers(headers)
    }
}

/// The headers of a request that is passed on. The client's `traceparent` is passed on as it is, and
/// without telemetry the host adds none: measured.
pub(super) fn copied_headers(request: &Request) -> HeaderMap {
    let mut headers = request.headers.clone();
    let hops: Vec<_> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in &hops {
        headers.remove(name);
    }
    headers
}

/// The handler's response as the host passes it on when it was proxied or forwarded.
pub(super) async fn pass_back(response: reqwest::Response) -> Reply {
    let mut reply = Response::builder().status(response.status());
    for (name, value) in response.headers() {
        if !is_hop_by_hop(name) {
            reply = reply.header(name, value);
        }
    }
    match response.bytes().await {
        Ok(body) => reply.body(body.into()).unwrap(),
        Err(_) => empty(500),
    }
}

/// Headers of one connection, which are not passed on: RFC 9110, 7.6.1.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    ["host", "connection", "transfer-encoding", "content-length", "keep-alive", "te", "upgrade"]
        .contains(&name.as_str())
}

/// The headers by which the host names an invocation in each mode: `AddHeaders` in
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs>.
pub(super) fn invocation_headers(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(INVOCATION_ID, id.parse().unwrap());
    headers.insert("x-azure-functions-hostversion", HeaderValue::from_static(VERSION));
    headers
}

/// A random id as .NET writes it.
pub(super) fn new_id() -> String {
    let digits = format!("{:032x}", rand::rng().random::<u128>());
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// A random `traceparent`.
pub(super) fn traceparent() -> String {
    let mut random = rand::rng();
    format!("00-{:032x}-{:016x}-01", random.random::<u128>(), random.random::<u64>())
}
