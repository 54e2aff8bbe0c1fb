//! A proxy in front of Azurite that counts calls, and answers, delays or loses some of them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use warp::Filter;
use warp::http::{HeaderMap, Method, Response};

/// What the proxy does with a call.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Forwards it.
    Pass,
    /// Forwards it after this time.
    Delay(Duration),
    /// Forwards it when this is true.
    Hold(watch::Receiver<bool>),
    /// Answers it instead of Azurite.
    Answer(u16, &'static str),
    /// Answers it instead of Azurite, and forwards it after this time.
    AnswerThenForward(u16, Duration),
    /// Redirects it to this location.
    Redirect(String),
    /// Forwards it and keeps the answer back for this time.
    DelayReply(Duration),
    /// Forwards it and never answers.
    LoseReply,
    /// Neither forwards nor answers it.
    Swallow,
}

type Decide = Arc<dyn Fn(&Call) -> Fate + Send + Sync>;

/// A call as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its path, in which quotes are not encoded.
    pub path: String,
}

impl Call {
    /// Whether it changes a row.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether it reads a row.
    pub fn is_read(&self) -> bool {
        self.method == Method::GET && self.path.contains("PartitionKey='user'")
    }
}

/// A running proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
    decide: Arc<Mutex<Decide>>,
}

impl Proxy {
    /// Starts a proxy for the server at this port, which forwards everything.
    pub async fn in_front_of(target: u16) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let decide: Decide = Arc::new(|_| Fate::Pass);
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            calls: Arc::default(),
            decide: Arc::new(Mutex::new(decide)),
        };
        let (seen, http) = (proxy.clone(), reqwest::Client::new());
        let pass = warp::method()
            .and(warp::path::full())
            .and(warp::header::headers_cloned())
            .and(warp::body::bytes())
            .and_then(move |method: Method, path: warp::path::FullPath, headers, body| {
                let call = Call { method, path: path.as_str().replace("%27", "'") };
                let url = format!("http://127.0.0.1:{target}{}", path.as_str());
                seen.clone().carry(call, http.clone(), url, headers, body)
            });
        tokio::spawn(warp::serve(pass).incoming(listener).run());
        proxy
    }

    /// Decides what happens to calls from now on.
    pub fn decide(&self, decide: impl Fn(&Call) -> Fate + Send + Sync + 'static) {
        *self.decide.lock().unwrap() = Arc::new(decide);
    }

    /// Decides what happens to the first such call. All others are forwarded.
    pub fn decide_once(&self, which: impl Fn(&Call) -> bool + Send + Sync + 'static, fate: Fate) {
        let fate = Mutex::new(Some(fate));
        self.decide(move |call| match which(call) {
            true => fate.lock().unwrap().take().unwrap_or(Fate::Pass),
            false => Fate::Pass,
        });
    }

    /// How many such calls there were.
    pub fn count(&self, which: impl Fn(&Call) -> bool) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| which(call)).count()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        self.calls.lock().unwrap().clear();
    }

    async fn carry(
        self,
        call: Call,
        http: reqwest::Client,
        url: String,
        headers: HeaderMap,
        body: bytes::Bytes,
    ) -> Result<Response<Vec<u8>>, Infallible> {
        let decide = Arc::clone(&self.decide.lock().unwrap());
        let fate = decide(&call);
        let method = call.method.clone();
        self.calls.lock().unwrap().push(call);
        match &fate {
            Fate::Answer(status, body) => {
                return Ok(Response::builder().status(*status).body((*body).into()).unwrap());
            }
            Fate::Redirect(location) => {
                let response = Response::builder().status(302).header("location", location);
                return Ok(response.body(Vec::new()).unwrap());
            }
            Fate::AnswerThenForward(status, pause) => {
                let pause = *pause;
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    let _ = forwarded(&http, method, url, &headers, body).send().await;
                });
                return Ok(Response::builder().status(*status).body(Vec::new()).unwrap());
            }
            Fate::Swallow => return std::future::pending().await,
            Fate::Delay(pause) => tokio::time::sleep(*pause).await,
            Fate::Hold(gate) => {
                // An error means that the test has ended.
                let _ = gate.clone().wait_for(|open| *open).await;
            }
            Fate::Pass | Fate::DelayReply(_) | Fate::LoseReply => {}
        }
        let Ok(reply) = forwarded(&http, method, url, &headers, body).send().await else {
            return Ok(Response::builder().status(502).body(Vec::new()).unwrap());
        };
        match fate {
            Fate::LoseReply => return std::future::pending().await,
            Fate::DelayReply(pause) => tokio::time::sleep(pause).await,
            _ => {}
        }
        let mut response = Response::builder().status(reply.status());
        for (name, value) in reply.headers() {
            if !["transfer-encoding", "connection", "content-length"].contains(&name.as_str()) {
                response = response.header(name, value);
            }
        }
        Ok(response.body(reply.bytes().await.unwrap_or_default().into()).unwrap())
    }
}

fn forwarded(
    http: &reqwest::Client,
    method: Method,
    url: String,
    headers: &HeaderMap,
    body: bytes::Bytes,
) -> reqwest::RequestBuilder {
    let mut request = http.request(method, url).body(body);
    for (name, value) in headers {
        if name != "host" && name != "content-length" {
            request = request.header(name, value);
        }
    }
    request
}
