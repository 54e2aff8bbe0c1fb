//! Sends what is exported, with the HTTP client that is in the build anyway, and says in the log when the
//! receiver cannot be reached: once, not for each export.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

/// The time without a failure after which exports are said to work again. Spans and metrics are exported
/// on their own, and one of them can fail while the other works.
const RECOVERY: Duration = Duration::from_secs(30);

/// How long an export may take, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The client of both exporters.
///
/// They call it in threads of their own, outside of the runtime; the requests are made within it.
#[derive(Clone, Debug)]
pub(super) struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    /// Made when it is first used, because reading the system's certificates takes time.
    client: OnceLock<reqwest::Client>,
    /// When an export last failed, until exports are said to work again.
    last_failure: Mutex<Option<Instant>>,
}

impl Client {
    /// A client on the current runtime.
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            runtime: Handle::current(),
            client: OnceLock::new(),
            last_failure: Mutex::new(None),
        }))
    }
}

impl Inner {
    fn client(&self) -> reqwest::Result<&reqwest::Client> {
        if self.client.get().is_none() {
            let redirects = reqwest::redirect::Policy::none();
            let client = reqwest::Client::builder().timeout(timeout()).redirect(redirects);
            let _ = self.client.set(client.build()?);
        }
        Ok(self.client.get_or_init(reqwest::Client::new))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, request) = (self.client()?.clone(), request.try_into()?);
        let exchange = async move {
            let answer = client.execute(request).await?;
            let status = answer.status();
            let headers = answer.headers().clone();
            Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
        };
        let (status, headers, body) = self.runtime.spawn(exchange).await??;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn note(&self, receiver: &str, failure: Option<&str>) {
        let mut last_failure = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        match (failure, *last_failure) {
            (Some(cause), None) => {
                log::warn!(
                    "spans and metrics cannot be exported to {receiver}: {cause}; requests are served as before"
                );
                *last_failure = Some(Instant::now());
            }
            (Some(_), Some(_)) => *last_failure = Some(Instant::now()),
            (None, Some(last)) if last.elapsed() > RECOVERY => {
                log::info!("spans and metrics are exported to {receiver} again");
                *last_failure = None;
            }
            (None, _) => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let receiver = request.uri().authority().map(|it| it.as_str().to_owned());
        let receiver = receiver.unwrap_or_default();
        // Without a user name and a password.
        let receiver = receiver.rsplit('@').next().unwrap_or_default();
        let sent = self.0.send(request).await;
        let failure = match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status())),
            Err(error) => Some(root_cause(&**error)),
        };
        self.0.note(receiver, failure.as_deref());
        sent
    }
}

/// The innermost cause, which is the one that tells something. The others repeat the URL.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout) {
        return "no answer in time".to_owned();
    }
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn timeout() -> Duration {
    let given = std::env::var("OTEL_EXPORTER_OTLP_TIMEOUT").ok();
    given.and_then(|ms| ms.parse().ok()).map_or(TIMEOUT, Duration::from_millis)
}
