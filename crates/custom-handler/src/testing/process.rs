//! A program as a process of its own, and what it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// The stream that a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// stdout.
    Out,
    /// stderr.
    Err,
}

/// A line of output, without its line break.
pub type Line = (Stream, String);

/// The lines that a process has written so far, in the order in which they were read. The order of
/// lines of different streams is not certain.
pub type Lines = Arc<Mutex<Vec<Line>>>;

/// Starts a program, and collects its lines. Its environment is `environment` and the current `PATH`,
/// and nothing else. It is killed when the child is dropped.
///
/// # Panics
/// If the program cannot be started, or outside of a Tokio runtime.
pub fn spawn(mut command: Command, environment: &BTreeMap<String, String>) -> (Child, Lines) {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).envs(environment).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
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
///
/// # Panics
/// If the process does not exist, or there is no program `kill`.
pub fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(sent.expect("the program kill").success(), "cannot send {name} to {pid}");
}

/// A port of `127.0.0.1` that nothing listens on. A port is returned only once per process, so that
/// two servers that are started at the same time do not get the same one.
pub fn free_port() -> u16 {
    static RETURNED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        if RETURNED.lock().unwrap().insert(port) {
            return port;
        }
    }
}
