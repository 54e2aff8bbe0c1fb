//! A stand-in for the Azure Functions host, to test a custom handler without Core Tools.
//!
//! It starts a handler, calls it and reads its output as the host does (version 4.1037 and later), from
//! the function app's own files. [`Host`] is the place to begin.
//!
//! Each rule of the host has a comment with a link to the host's source, or with "measured" where the
//! rule is the result of several parts and was observed on the real host. The stand-in implements the
//! rules that matter to a handler. It has no keys, no `/admin`, no limits on concurrent requests, and
//! no triggers but HTTP.
//!
//! Its functions panic when something goes wrong, because a test that panics fails.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on fails

mod app;
mod call;
mod forward;
mod level;
mod payload;
mod process;
mod proxy;
mod supervisor;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use warp::Filter;
use warp::path::FullPath;

pub use self::app::{FunctionApp, FunctionFolder, read_json};
use self::call::{Caller, Request};
pub use self::level::{Level, level};
pub use self::process::{Line, Lines, Stream, free_port, signal, spawn};
use self::supervisor::{START_LIMIT, Worker, supervise};

/// How the host calls an HTTP function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The request is proxied (`enableProxyingHttpRequest`).
    Proxy,
    /// A copy of the request is sent (`enableForwardingHttpRequest`).
    Forward,
    /// The request is sent inside a JSON payload (neither).
    Payload,
}

impl Mode {
    /// All modes.
    pub const ALL: [Mode; 3] = [Mode::Proxy, Mode::Forward, Mode::Payload];

    /// The app settings that select this mode, whatever `host.json` says.
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

/// A running host with its handler. Both end when it is dropped.
///
/// ```no_run
/// use std::path::Path;
/// use custom_handler::testing::{Host, Mode};
///
/// # async fn example() {
/// let root = Path::new(env!("CARGO_MANIFEST_DIR"));
/// let handler = Path::new("target/debug/handler"); // env!("CARGO_BIN_EXE_handler") in a test
/// for mode in Mode::ALL {
///     let host = Host::start(root, mode, handler, []).await;
///     let response = reqwest::get(format!("{}/api/hello/Ada", host.url())).await.unwrap();
///     assert_eq!(response.text().await.unwrap(), "Hello, Ada!");
/// }
/// # }
/// ```
pub struct Host {
    url: String,
    app: Arc<FunctionApp>,
    worker: Arc<Mutex<Worker>>,
    invocation_logs: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Host {
    fn drop(&mut self) {
        // The supervisor owns the handler's process, which is killed when it is dropped.
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Host {
    /// Starts a host on a function app in one of the modes, with an executable in place of the one
    /// that `host.json` names, and waits until its handler is ready.
    ///
    /// `settings` are app settings. They override those of `local.settings.json`, if the root has
    /// that file; an empty value removes a setting. The executable may be an absolute path, or one
    /// relative to the root.
    ///
    /// # Panics
    /// If the root is not a function app, or the handler does not start within 30 seconds.
    pub async fn start(
        root: &Path,
        mode: Mode,
        executable: &Path,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut settings: Vec<_> = settings.into_iter().collect();
        settings.extend(mode.settings());
        settings.push((
            "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath".to_owned(),
            executable.to_str().expect("a path in UTF-8").to_owned(),
        ));
        Self::start_in(root, settings).await
    }

    /// Starts a host on a function app as it is, and waits until its handler is ready.
    ///
    /// Mode and executable are those of `host.json` or of the settings, which are used as in
    /// [`Host::start`].
    ///
    /// # Panics
    /// As [`Host::start`].
    pub async fn start_in(
        root: &Path,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut app = FunctionApp::read(root);
        let mut environment = match root.join("local.settings.json").is_file() {
            true => app.local_settings(),
            false => BTreeMap::new(),
        };
        environment.extend(settings);
        environment.retain(|_, value| !value.is_empty());
        app.override_host(&environment);
        let app = Arc::new(app);

        let worker = Arc::<Mutex<Worker>>::default();
        let supervisor =
            tokio::spawn(supervise(Arc::clone(&app), environment, Arc::clone(&worker)));

        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let invocation_logs = Arc::<Mutex<Vec<String>>>::default();
        let caller = Caller::new(
            Arc::clone(&app),
            Arc::clone(&worker),
            Arc::clone(&invocation_logs),
            url.clone(),
        );
        let front = warp::method()
            .and(warp::path::full())
            .and(warp::query::raw().or(warp::any().map(String::new)).unify())
            .and(warp::header::headers_cloned())
            .and(warp::body::bytes())
            .and_then(move |method, path: FullPath, query: String, headers, body| {
                let path = path.as_str().to_owned();
                let request = Request { method, path, query, headers, body };
                let caller = caller.clone();
                async move { Ok::<_, Infallible>(caller.call(request).await) }
            });
        let server = tokio::spawn(warp::serve(front).incoming(listener).run());
        let host = Self { url, app, worker, invocation_logs, tasks: vec![supervisor, server] };
        host.is_ready().await;
        host
    }

    /// Waits until the running handler has answered the host's ping.
    async fn is_ready(&self) {
        eventually(START_LIMIT, "the handler answers the host", async || {
            let worker = self.worker.lock().unwrap();
            assert!(!worker.over, "the host has given up: {:#?}", worker.lines);
            worker.pid.is_some()
        })
        .await;
    }

    /// The URL of the host's public side, such as `http://127.0.0.1:41234`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The function app, with the settings applied to its `host.json`.
    pub fn app(&self) -> &FunctionApp {
        &self.app
    }

    /// The lines that the handler has written, in all of its starts.
    pub fn lines(&self) -> Vec<Line> {
        let worker = self.worker.lock().unwrap();
        worker.lines.iter().flat_map(|lines| lines.lock().unwrap().clone()).collect()
    }

    /// The log lines that the handler has returned with its responses, in the payload mode.
    pub fn invocation_logs(&self) -> Vec<String> {
        self.invocation_logs.lock().unwrap().clone()
    }

    /// How often the handler was started.
    pub fn starts(&self) -> u32 {
        self.worker.lock().unwrap().starts
    }

    /// Whether no handler will run any more: the host has given up on it, or it ended with code 0.
    pub fn is_over(&self) -> bool {
        self.worker.lock().unwrap().over
    }

    /// Sends the handler a signal by its name, such as `TERM`, as soon as it is ready.
    pub async fn signal(&self, name: &str) {
        self.is_ready().await;
        let pid = self.worker.lock().unwrap().pid.expect("a running handler");
        process::signal(pid, name);
    }
}

/// Waits until a condition holds, which it checks every 20 ms.
///
/// # Panics
/// If it does not hold within `bound`. The message has `what`, the condition in words.
pub async fn eventually(bound: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < bound, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
