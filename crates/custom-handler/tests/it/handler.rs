//! The handler that the tests call: in this process, or behind the stand-in, for which this test binary
//! is the executable.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use custom_handler::http::{Method, StatusCode};
use custom_handler::logging::Logging;
use custom_handler::testing::{Host, Mode};
use custom_handler::{
    BodyError, Call, Function, Handler, Invocation, Limits, PORT_VARIABLE, Refusal, Response,
    serve, stop_signal,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::Client;

/// An endpoint with more in it than its function.
pub(crate) struct Endpoint {
    function: Function,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Get,
    Put,
    Log,
    Panic,
    Once,
    Wait,
}

impl AsRef<Function> for Endpoint {
    fn as_ref(&self) -> &Function {
        &self.function
    }
}

const fn endpoint(
    kind: Kind,
    name: &'static str,
    route: &'static str,
    methods: &'static [Method],
    body_limit: usize,
) -> Endpoint {
    Endpoint { function: Function { name, route, methods, body_limit }, kind }
}

static ENDPOINTS: [Endpoint; 6] = [
    endpoint(Kind::Get, "get", "api/things/{id}", &[Method::GET, Method::HEAD], 0),
    endpoint(Kind::Put, "put", "api/things/{id}", &[Method::PUT], 16),
    endpoint(Kind::Log, "log", "api/log", &[Method::GET], 0),
    endpoint(Kind::Panic, "panic", "api/panic", &[Method::GET], 0),
    endpoint(Kind::Once, "once", "api/once", &[Method::GET, Method::POST], 16),
    endpoint(Kind::Wait, "wait", "api/wait", &[Method::GET], 0),
];

/// The handler under test.
#[derive(Clone, Default)]
pub(crate) struct Things(Arc<Waiting>);

/// Of the function `wait`: a call has begun, and it may end.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) begun: Notify,
    pub(crate) may_end: Notify,
    pub(crate) ended: AtomicUsize,
}

impl Things {
    pub(crate) fn waiting(&self) -> Arc<Waiting> {
        Arc::clone(&self.0)
    }
}

impl Handler for Things {
    type Endpoint = Endpoint;

    fn endpoints(&self) -> &'static [Endpoint] {
        &ENDPOINTS
    }

    async fn call(&self, call: Call<Endpoint>) -> Response {
        let id = call.params.get("id");
        match call.endpoint.kind {
            Kind::Get if id == "missing" => response(404, &json!({"missing": id})),
            Kind::Get => {
                let custom = call.headers.get("x-custom").map(|value| value.to_str().unwrap());
                let body = call.body.map(|body| body.len()).map_err(|error| format!("{error:?}"));
                let seen = json!({
                    "id": id,
                    "query": call.query,
                    "custom": custom,
                    "announced": call.headers.contains_key("content-length"),
                    "body": body,
                });
                response(200, &seen)
            }
            Kind::Put => match &call.body {
                Ok(body) => response(200, &json!({"put": String::from_utf8_lossy(body)})),
                Err(BodyError::TooLarge) => response(413, &json!({"error": "too large"})),
                Err(error) => response(400, &json!({"error": format!("{error:?}")})),
            },
            Kind::Log => {
                log::info!("said info, and warned of nothing\nwith a second line");
                log::warn!("said a caution");
                log::error!("said an error, a Warning in name only");
                response(200, &json!({}))
            }
            Kind::Panic => panic!("said a panic\nwith a second line"),
            Kind::Once => {
                // The first process holds the call, and is killed; the second answers it.
                let marker = Path::new("held"); // the working directory is the function app's
                if marker.exists() {
                    let invocation = Invocation::current().unwrap();
                    return response(200, &json!({"invocation": invocation.id()}));
                }
                std::fs::write(marker, "").unwrap();
                log::info!("said that it holds the call");
                std::future::pending().await
            }
            Kind::Wait => {
                self.0.begun.notify_one();
                self.0.may_end.notified().await;
                self.0.ended.fetch_add(1, Ordering::SeqCst);
                response(200, &json!({"waited": true}))
            }
        }
    }

    fn refuse(&self, method: &Method, refusal: Refusal) -> Response {
        log::info!("said that it refused: {method} {refusal:?}");
        response(
            refusal.status().as_u16(),
            &json!({"method": method.as_str(), "refused": format!("{refusal:?}")}),
        )
    }
}

fn response(status: u16, body: &Value) -> Response {
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let content_type = "application/json".parse().unwrap();
    response.headers_mut().insert("content-type", content_type);
    response
}

/// Not a test: the handler as a program, when the stand-in has started this test binary.
#[test]
fn program() {
    let Ok(port) = std::env::var(PORT_VARIABLE) else { return };
    Logging::new().start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stop = stop_signal().unwrap();
        let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
        let stop = async {
            log::info!("said that it stops: {}", stop.await);
        };
        serve(listener, Things::default(), Limits::default(), stop).await;
    });
}

/// The function app of the handler, with this test binary as its executable, in a folder of its own.
pub(crate) fn function_app(mode: Mode) -> TempDir {
    let root = TempDir::new().unwrap();
    let write = |path: &str, content: Value| {
        std::fs::write(root.path().join(path), content.to_string()).unwrap();
    };
    write(
        "host.json",
        json!({
            "version": "2.0",
            "customHandler": {
                "description": {
                    "defaultExecutablePath": std::env::current_exe().unwrap(),
                    "arguments": ["--exact", "handler::program", "--nocapture"],
                },
                "enableProxyingHttpRequest": mode == Mode::Proxy,
                "enableForwardingHttpRequest": mode == Mode::Forward,
            },
        }),
    );
    for endpoint in &ENDPOINTS {
        let Function { name, route, methods, .. } = endpoint.function;
        std::fs::create_dir(root.path().join(name)).unwrap();
        let methods: Vec<_> = methods.iter().map(|it| it.as_str().to_lowercase()).collect();
        let route = route.strip_prefix("api/").unwrap();
        let trigger =
            json!({"type": "httpTrigger", "name": "req", "methods": methods, "route": route});
        let output = json!({"type": "http", "name": "res"});
        write(&format!("{name}/function.json"), json!({"bindings": [trigger, output]}));
    }
    root
}

/// Starts the handler behind the stand-in. The folder must be kept as long as the host.
pub(crate) async fn behind_a_host(mode: Mode) -> (Host, TempDir) {
    let root = function_app(mode);
    // With one thread, the test runner would write before the first line of the handler.
    let settings = [("RUST_TEST_THREADS".to_owned(), "2".to_owned())];
    (Host::start_in(root.path(), settings).await, root)
}

/// Starts the handler in this process. It ends with the test.
pub(crate) async fn direct() -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(
        listener,
        Things::default(),
        Limits::default(),
        std::future::pending::<()>(),
    ));
    Client::new(url)
}
