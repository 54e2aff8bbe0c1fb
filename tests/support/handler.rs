//! The built binary as a process of its own, without a host.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::servers::free_port;
use super::{Client, eventually};

/// Where a line of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// The lines that a process wrote, in the order in which they were read.
pub type Lines = Arc<Mutex<Vec<(Stream, String)>>>;

/// Starts a program with nothing in its environment but what is given, and collects its lines. It is
/// killed when the child is dropped.
pub fn spawn(mut command: Command, environment: &BTreeMap<String, String>) -> (Child, Lines) {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).envs(environment).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let lines = Lines::default();
    collect(child.stdout.take().unwrap(), Stream::Out, Arc::clone(&lines));
    collect(child.stderr.take().unwrap(), Stream::Err, Arc::clone(&lines));
    (child, lines)
}

fn collect(stream: impl AsyncRead + Unpin + Send + 'static, from: Stream, into: Lines) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            into.lock().unwrap().push((from, line));
        }
    });
}

/// Sends a process a signal by its name, such as `TERM`.
pub fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(sent.expect("kill").success());
}

/// A running handler.
pub struct Handler {
    pub client: Client,
    pub port: u16,
    pub lines: Lines,
    child: Child,
}

impl Drop for Handler {
    fn drop(&mut self) {
        // A test that fails tells what its handler had to say.
        if std::thread::panicking() {
            eprintln!("{:#?}", self.lines.lock());
        }
    }
}

impl Handler {
    /// Starts it and waits until it answers.
    pub async fn start(settings: &[(&str, String)]) -> Self {
        let handler = Self::spawn(settings);
        handler.ready().await;
        handler
    }

    /// Starts it and does not wait.
    pub fn spawn(settings: &[(&str, String)]) -> Self {
        let port = free_port();
        let mut environment: BTreeMap<_, _> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        environment.insert("FUNCTIONS_CUSTOMHANDLER_PORT".to_owned(), port.to_string());
        let (child, lines) = spawn(Command::new(env!("CARGO_BIN_EXE_handler")), &environment);
        Self { client: Client::new(format!("http://127.0.0.1:{port}")), port, lines, child }
    }

    pub async fn ready(&self) {
        eventually(Duration::from_secs(30), "the handler answers", || async {
            let ping = self.client.request(reqwest::Method::GET, "/");
            self.client.try_send(ping).await.is_ok()
        })
        .await;
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id().expect("a running handler"), name);
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        ended.expect("the handler ends").unwrap()
    }
}
