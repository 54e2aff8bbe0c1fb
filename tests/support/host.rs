//! A stand-in for the Azure Functions host, which cannot be had everywhere: it starts the handler,
//! calls it and reads its logs as the host does (versions 4.1037 and later), from the function app's
//! own files.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use rand::RngExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::process::Command;
use warp::Filter;
use warp::http::Response;

use super::handler::{Lines, Stream, spawn};
use super::servers::free_port;
use super::{Client, eventually};

/// The version that the stand-in calls itself.
const VERSION: &str = "4.1037.0.0";
/// The host waits so long for the handler's first answer.
const START_LIMIT: Duration = Duration::from_secs(30);
/// So many errors of the handler, and the host shuts down.
const MOST_ERRORS: u32 = 3;
/// An error so long after the one before starts the count anew.
const ERRORS_FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 60);
/// A proxied request is sent so often while its connection fails.
const PROXY_ATTEMPTS: u32 = 10;

/// How the host calls an HTTP function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Proxy,
    Forward,
    Payload,
}

impl Mode {
    /// The app settings that give this mode, over a `host.json` that asks for the first.
    pub fn settings(self) -> Vec<(String, String)> {
        let flag = |name: &str, on: bool| {
            (format!("AzureFunctionsJobHost__customHandler__{name}"), on.to_string())
        };
        vec![
            flag("enableProxyingHttpRequest", self == Mode::Proxy),
            flag("enableForwardingHttpRequest", self != Mode::Payload),
        ]
    }
}

/// The level that the host gives a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Information,
    Warning,
    Error,
}

/// The level of a custom handler's line of output: the stream decides.
pub fn level((stream, line): &(Stream, String)) -> Level {
    match stream {
        Stream::Out => Level::Information,
        Stream::Err if line.to_lowercase().contains("warn") => Level::Warning,
        Stream::Err => Level::Error,
    }
}

/// A function, by its `function.json`.
#[derive(Clone, Debug)]
pub struct FunctionFolder {
    pub name: String,
    pub route: String,
    /// In capitals.
    pub methods: Vec<String>,
    pub trigger: Value,
    pub output: Value,
}

/// The function app's files.
#[derive(Debug)]
pub struct FunctionApp {
    pub root: PathBuf,
    pub host: Value,
    pub functions: Vec<FunctionFolder>,
}

impl FunctionApp {
    /// Reads `host.json` and each folder with a `function.json`, as they are in the root.
    pub fn read(root: &Path) -> Self {
        let host = read_json(&root.join("host.json"));
        let mut functions: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|folder| folder.join("function.json").is_file())
            .map(|folder| {
                let bindings = read_json(&folder.join("function.json"))["bindings"].clone();
                let binding = |kind: &str| {
                    let mut all = bindings.as_array().unwrap().iter();
                    all.find(|binding| binding["type"] == kind).cloned().unwrap_or_default()
                };
                let (trigger, output) = (binding("httpTrigger"), binding("http"));
                let name = folder.file_name().unwrap().to_string_lossy().into_owned();
                let methods = trigger["methods"].as_array().cloned().unwrap_or_default();
                FunctionFolder {
                    route: trigger["route"].as_str().unwrap_or(&name).to_owned(),
                    methods: methods.iter().map(|it| it.as_str().unwrap().to_uppercase()).collect(),
                    name,
                    trigger,
                    output,
                }
            })
            .collect();
        functions.sort_by(|one, other| one.name.cmp(&other.name));
        Self { root: root.to_owned(), host, functions }
    }

    /// The app settings in `local.settings.json`, which Core Tools hands to the host.
    pub fn local_settings(&self) -> BTreeMap<String, String> {
        let values = read_json(&self.root.join("local.settings.json"))["Values"].clone();
        serde_json::from_value(values).unwrap()
    }

    /// `host.json` with the app settings named `AzureFunctionsJobHost__…` over it.
    pub fn override_host(&mut self, settings: &BTreeMap<String, String>) {
        for (name, value) in settings {
            let Some(path) = name.strip_prefix("AzureFunctionsJobHost__") else { continue };
            let mut place = &mut self.host;
            for step in path.split("__") {
                let known = place.as_object().and_then(|object| {
                    object.keys().find(|key| key.eq_ignore_ascii_case(step)).cloned()
                });
                place = &mut place[known.unwrap_or_else(|| step.to_owned())];
            }
            *place = value.parse::<bool>().map_or_else(|_| json!(value), Value::Bool);
        }
    }

    fn mode(&self) -> Mode {
        let handler = &self.host["customHandler"];
        match (&handler["enableProxyingHttpRequest"], &handler["enableForwardingHttpRequest"]) {
            (Value::Bool(true), _) => Mode::Proxy,
            (_, Value::Bool(true)) => Mode::Forward,
            _ => Mode::Payload,
        }
    }

    fn function_timeout(&self) -> Duration {
        let text = self.host["functionTimeout"].as_str().unwrap_or("00:30:00");
        let parts = text.split(':').map(|part| part.parse::<u64>().unwrap());
        Duration::from_secs(parts.fold(0, |total, part| total * 60 + part))
    }

    /// The function that a request is for, with the values of its route.
    fn route(
        &self,
        method: &Method,
        path: &str,
    ) -> Option<(&FunctionFolder, BTreeMap<String, String>)> {
        let prefix = self.host["extensions"]["http"]["routePrefix"].as_str().unwrap_or("api");
        let decode = |segment: &str| {
            percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
        };
        let segments: Vec<_> = path.trim_matches('/').split('/').map(decode).collect();
        self.functions.iter().find_map(|function| {
            let route = format!("{prefix}/{}", function.route);
            let expected: Vec<_> = route.split('/').collect();
            if expected.len() != segments.len()
                || !function.methods.iter().any(|it| it == method.as_str())
            {
                return None;
            }
            let mut params = BTreeMap::new();
            for (expected, segment) in expected.iter().zip(&segments) {
                match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(name) => {
                        params.insert(name.to_owned(), segment.clone());
                    }
                    None if expected.eq_ignore_ascii_case(segment) => {}
                    None => return None,
                }
            }
            Some((function, params))
        })
    }
}

pub fn read_json(path: &Path) -> Value {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is known of the handler's process.
struct Worker {
    pid: Option<u32>,
    port: u16,
    lines: Vec<Lines>,
    starts: u32,
    errors: u32,
    last_error: Option<Instant>,
    /// The host has given up, or its handler has ended for good.
    over: bool,
}

/// A running host. It, and its handler, end when it is dropped.
pub struct Host {
    /// A client of the host's public side.
    pub client: Client,
    pub app: Arc<FunctionApp>,
    worker: Arc<Mutex<Worker>>,
    invocation_logs: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Host {
    fn drop(&mut self) {
        // The supervisor owns the handler's process, which is killed with it.
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Host {
    /// Starts a host on this repository's function app in one of the modes, with settings over those
    /// of `local.settings.json` (an empty value takes one away).
    pub async fn start(mode: Mode, settings: &[(&str, String)]) -> Self {
        let mut settings: Vec<_> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        settings.extend(mode.settings());
        // Where this run of the tests has built it.
        let executable = "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath";
        settings.push((executable.to_owned(), env!("CARGO_BIN_EXE_handler").to_owned()));
        Self::start_in(Path::new(env!("CARGO_MANIFEST_DIR")), settings).await
    }

    /// Starts a host on the function app in this folder.
    pub async fn start_in(root: &Path, settings: Vec<(String, String)>) -> Self {
        let mut app = FunctionApp::read(root);
        let mut environment = match root.join("local.settings.json").is_file() {
            true => app.local_settings(),
            false => BTreeMap::new(),
        };
        environment.extend(settings);
        environment.retain(|_, value| !value.is_empty());
        app.override_host(&environment);
        let app = Arc::new(app);

        let worker = Arc::new(Mutex::new(Worker {
            pid: None,
            port: 0,
            lines: Vec::new(),
            starts: 0,
            errors: 0,
            last_error: None,
            over: false,
        }));
        let supervisor =
            tokio::spawn(supervise(Arc::clone(&app), environment, Arc::clone(&worker)));

        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let public = format!("http://{}", listener.local_addr().unwrap());
        let invocation_logs = Arc::<Mutex<Vec<String>>>::default();
        let caller = Caller {
            app: Arc::clone(&app),
            worker: Arc::clone(&worker),
            invocation_logs: Arc::clone(&invocation_logs),
            public: public.clone(),
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
        };
        let front = warp::method()
            .and(warp::path::full())
            .and(warp::query::raw().or(warp::any().map(String::new)).unify())
            .and(warp::header::headers_cloned())
            .and(warp::body::bytes())
            .and_then(move |method, path: warp::path::FullPath, query: String, headers, body| {
                let path = path.as_str().to_owned();
                let request = Request { method, path, query, headers, body };
                let caller = caller.clone();
                async move { Ok::<_, Infallible>(caller.call(request).await) }
            });
        let server = tokio::spawn(warp::serve(front).incoming(listener).run());
        let client = Client::new(public);
        let host = Self { client, app, worker, invocation_logs, tasks: vec![supervisor, server] };
        host.is_ready().await;
        host
    }

    async fn is_ready(&self) {
        eventually(START_LIMIT, "the handler answers the host", || async {
            let worker = self.worker.lock().unwrap();
            assert!(!worker.over, "the host has given up: {:#?}", worker.lines);
            worker.pid.is_some()
        })
        .await;
    }

    /// The handler's lines, of all its starts.
    pub fn lines(&self) -> Vec<(Stream, String)> {
        let worker = self.worker.lock().unwrap();
        worker.lines.iter().flat_map(|lines| lines.lock().unwrap().clone()).collect()
    }

    /// The lines that came with answers, in the payload mode.
    pub fn invocation_logs(&self) -> Vec<String> {
        self.invocation_logs.lock().unwrap().clone()
    }

    /// How often the handler was started.
    pub fn starts(&self) -> u32 {
        self.worker.lock().unwrap().starts
    }

    /// Whether the host has given up on the handler, or the handler has ended for good.
    pub fn is_over(&self) -> bool {
        self.worker.lock().unwrap().over
    }

    /// Sends the handler a signal, once the host knows it as ready.
    pub async fn signal(&self, name: &str) {
        self.is_ready().await;
        let pid = self.worker.lock().unwrap().pid.expect("a running handler");
        super::handler::signal(pid, name);
    }
}

/// Starts the handler, waits for its first answer, starts it again when it ends in error, gives up
/// after too many errors.
async fn supervise(
    app: Arc<FunctionApp>,
    settings: BTreeMap<String, String>,
    worker: Arc<Mutex<Worker>>,
) {
    loop {
        let port = free_port();
        let description = &app.host["customHandler"]["description"];
        let executable = description["defaultExecutablePath"].as_str().expect("an executable");
        let mut environment = settings.clone();
        for name in ["FUNCTIONS_CUSTOMHANDLER_PORT", "FUNCTIONS_HTTPWORKER_PORT"] {
            environment.insert(name.to_owned(), port.to_string());
        }
        environment.insert("FUNCTIONS_CUSTOMHANDLER_WORKER_ID".to_owned(), new_id());
        let root = app.root.to_string_lossy().into_owned();
        environment.insert("FUNCTIONS_APP_ROOT_PATH".to_owned(), root);
        let mut command = Command::new(app.root.join(executable));
        command.current_dir(&app.root);
        let (mut child, lines) = spawn(command, &environment);
        {
            let mut worker = worker.lock().unwrap();
            worker.lines.push(lines);
            worker.starts += 1;
            worker.port = port;
        }
        let pid = child.id();
        let ping = async {
            let client = Client::new(format!("http://127.0.0.1:{port}"));
            let begun = Instant::now();
            while client.try_send(client.request(Method::GET, "/")).await.is_err() {
                assert!(begun.elapsed() < START_LIMIT, "the handler does not answer its host");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            worker.lock().unwrap().pid = pid;
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = child.wait() => ended.unwrap(),
            () = ping => unreachable!(),
        };
        let mut worker = worker.lock().unwrap();
        worker.pid = None;
        match ended.code() {
            Some(0) => {
                worker.over = true;
                return;
            }
            Some(200) => {}
            _ => {
                let forgotten = |at: Instant| at.elapsed() > ERRORS_FORGOTTEN_AFTER;
                if worker.last_error.is_some_and(forgotten) {
                    worker.errors = 0;
                }
                worker.errors += 1;
                worker.last_error = Some(Instant::now());
                if worker.errors >= MOST_ERRORS {
                    worker.over = true;
                    return;
                }
            }
        }
    }
}

/// A request as the host's public side has received it.
struct Request {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    /// In two of the modes the host looks at the announced length, and not at the body.
    fn announced_body(&self) -> Option<Bytes> {
        let length = self.headers.get("content-length")?.to_str().ok()?.parse::<usize>().ok()?;
        (length > 0).then(|| self.body.clone())
    }
}

/// Calls the handler.
#[derive(Clone)]
struct Caller {
    app: Arc<FunctionApp>,
    worker: Arc<Mutex<Worker>>,
    invocation_logs: Arc<Mutex<Vec<String>>>,
    public: String,
    http: reqwest::Client,
}

type Reply = Response<Vec<u8>>;

fn plain(status: u16) -> Reply {
    Response::builder().status(status).body(Vec::new()).unwrap()
}

/// An id as .NET writes one.
fn new_id() -> String {
    let digits = format!("{:032x}", rand::rng().random::<u128>());
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

fn traceparent() -> String {
    let mut random = rand::rng();
    format!("00-{:032x}-{:016x}-01", random.random::<u128>(), random.random::<u64>())
}

/// Headers of one connection, which are not passed on (RFC 9110, 7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    ["host", "connection", "transfer-encoding", "content-length", "keep-alive", "te", "upgrade"]
        .contains(&name.as_str())
}

impl Caller {
    async fn call(self, request: Request) -> Reply {
        let Some((function, params)) = self.app.route(&request.method, &request.path) else {
            return plain(404);
        };
        let (name, function) = (function.name.clone(), function.clone());
        let limit = self.app.function_timeout();
        let call = async {
            match self.app.mode() {
                Mode::Proxy => self.proxy(&request).await,
                Mode::Forward => self.forward(&request).await,
                Mode::Payload => self.payload(&request, &function, &params).await,
            }
        };
        match tokio::time::timeout(limit, call).await {
            Ok(reply) => reply,
            Err(_) => {
                let pid = self.worker.lock().unwrap().pid;
                pid.into_iter().for_each(|pid| super::handler::signal(pid, "KILL"));
                panic!("{name} ran into its functionTimeout of {limit:?}");
            }
        }
    }

    /// A request to the handler with the headers that each mode adds.
    fn request(&self, method: Method, path: &str, invocation: &str) -> RequestBuilder {
        let port = self.worker.lock().unwrap().port;
        self.http
            .request(method, format!("http://127.0.0.1:{port}{path}"))
            .header("x-azure-functions-invocationid", invocation)
            .header("x-azure-functions-hostversion", VERSION)
    }

    fn copied_headers(&self, request: &Request) -> HeaderMap {
        let mut headers = request.headers.clone();
        headers.remove("x-azure-functions-invocationid");
        headers.remove("x-azure-functions-hostversion");
        let hops: Vec<_> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
        hops.iter().for_each(|name| {
            headers.remove(name);
        });
        headers.entry("traceparent").or_insert(traceparent().parse().unwrap());
        headers
    }

    /// As it came, and again while the connection fails, whatever the method.
    async fn proxy(&self, request: &Request) -> Reply {
        let invocation = new_id();
        let mut path = request.path.clone();
        if !request.query.is_empty() {
            path = format!("{path}?{}", request.query);
        }
        let mut headers = self.copied_headers(request);
        headers.insert("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
        headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        headers.insert("x-forwarded-host", HeaderValue::from_static("localhost"));
        for attempt in 0..PROXY_ATTEMPTS {
            let sent = self
                .request(request.method.clone(), &path, &invocation)
                .headers(headers.clone())
                .body(body_as_it_came(request))
                .send()
                .await;
            match sent {
                Ok(response) => return pass_back(response).await,
                Err(_) => {
                    let pause = 50 * (1 << attempt.min(2)) + 50;
                    tokio::time::sleep(Duration::from_millis(pause.min(250))).await;
                }
            }
        }
        plain(502)
    }

    /// A copy: a chunked body is lost, repeated query keys are joined.
    async fn forward(&self, request: &Request) -> Reply {
        let mut query = BTreeMap::<String, Vec<String>>::new();
        for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        let query: Vec<_> =
            query.iter().map(|(key, values)| format!("{key}={}", values.join(","))).collect();
        let mut path = request.path.clone();
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let mut headers = self.copied_headers(request);
        let agent = headers.get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or("");
        let agent = format!("{agent} Azure-Functions-Host/{VERSION}");
        headers.insert("user-agent", agent.trim().parse().unwrap());
        let mut call = self.request(request.method.clone(), &path, &new_id()).headers(headers);
        if let Some(body) = request.announced_body() {
            call = call.body(body);
        }
        match call.send().await {
            Ok(response) => pass_back(response).await,
            Err(_) => plain(500),
        }
    }

    /// The invocation payload, and the answer inside the answer.
    async fn payload(
        &self,
        request: &Request,
        function: &FunctionFolder,
        params: &BTreeMap<String, String>,
    ) -> Reply {
        let mut headers = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in &request.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.entry(name.to_string()).or_default().push(value);
        }
        let query: BTreeMap<_, _> =
            request.query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let url = format!("{}{}?{}", self.public, request.path, request.query);
        let mut trigger = json!({
            "Url": url.trim_end_matches('?'),
            "Method": request.method.as_str(),
            "Query": query,
            "Headers": headers,
            "Params": params,
            "Identities": [],
        });
        if let Some(body) = request.announced_body() {
            let content_type = request.headers.get("content-type");
            let content_type = content_type.and_then(|it| it.to_str().ok()).unwrap_or("");
            let is_binary = content_type.starts_with("application/octet-stream")
                || content_type.starts_with("multipart/");
            trigger["Body"] = match is_binary {
                true => base64::engine::general_purpose::STANDARD.encode(body).into(),
                false => String::from_utf8_lossy(&body).into(),
            };
        }
        let trigger_name = function.trigger["name"].as_str().unwrap_or_default();
        let mut metadata = json!({
            "Headers": headers, "Query": query,
            "sys": {"MethodName": function.name, "UtcNow": "2026-01-01T00:00:00Z", "RandGuid": new_id()},
        });
        for (name, value) in params {
            // Strings arrive encoded as JSON a second time.
            metadata[name] = json!(value).to_string().into();
        }
        let payload = json!({"Data": {trigger_name: trigger}, "Metadata": metadata});
        let sent = self
            .request(Method::POST, &format!("/{}", function.name), &new_id())
            .header("content-type", "application/json")
            .header("traceparent", traceparent())
            .body(payload.to_string())
            .send()
            .await;
        let Ok(response) = sent else { return plain(500) };
        let content_type = response.headers().get("content-type").cloned();
        let is_json = content_type
            .is_some_and(|it| it.to_str().unwrap_or("").starts_with("application/json"));
        if !response.status().is_success() || !is_json {
            return plain(500);
        }
        let Ok(answer) =
            response.bytes().await.map(|bytes| serde_json::from_slice::<Value>(&bytes))
        else {
            return plain(500);
        };
        let answer = answer.unwrap_or_default();
        let logs = field(&answer, "Logs").as_array().cloned().unwrap_or_default();
        let logs = logs.iter().filter_map(|line| line.as_str().map(str::to_owned));
        self.invocation_logs.lock().unwrap().extend(logs);

        let output_name = function.output["name"].as_str().unwrap_or_default();
        let output = field(field(&answer, "Outputs"), output_name);
        if output.is_null() {
            return plain(500); // what the binding's name does not fit is not found
        }
        let status = field(output, "statusCode").as_u64().unwrap_or(200) as u16;
        let mut reply = Response::builder().status(status);
        for (name, value) in field(output, "headers").as_object().into_iter().flatten() {
            reply = reply.header(name, value.as_str().expect("header values are strings"));
        }
        let body = match field(output, "body") {
            Value::String(text) => text.clone().into_bytes(),
            Value::Null => Vec::new(),
            json => json.to_string().into_bytes(),
        };
        reply.body(body).unwrap()
    }
}

/// A field by its name, in any case.
fn field<'a>(object: &'a Value, name: &str) -> &'a Value {
    static NULL: Value = Value::Null;
    let found = object.as_object().and_then(|object| {
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    });
    found.unwrap_or(&NULL)
}

/// With a length where there was one, in chunks where there was none.
fn body_as_it_came(request: &Request) -> reqwest::Body {
    match request.headers.contains_key("transfer-encoding") {
        true => {
            let chunk = Ok::<_, Infallible>(request.body.clone());
            reqwest::Body::wrap_stream(futures_util::stream::iter([chunk]))
        }
        false => request.body.clone().into(),
    }
}

async fn pass_back(response: reqwest::Response) -> Reply {
    let mut reply = Response::builder().status(response.status());
    for (name, value) in response.headers() {
        if !is_hop_by_hop(name) {
            reply = reply.header(name, value);
        }
    }
    match response.bytes().await {
        Ok(body) => reply.body(body.into()).unwrap(),
        Err(_) => plain(502),
    }
}
