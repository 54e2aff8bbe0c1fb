//! `make up` as people use it: on a terminal, ended with Ctrl-C. `func` is a stand-in that starts the
//! handler and needs its storage until it has ended, as the real one does.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};

use crate::support::host::repository;
use crate::support::{Client, eventually, free_port};

const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the handler that it finds in its environment. On SIGINT it ends the handler, and then says
/// whether its blob storage is still there.
const FUNC: &str = r#"#!/usr/bin/env bash
[ "$1" = --version ] && { echo 4.14.0; exit; }
[ "$1 $2" = "start --port" ] || { echo "func: unexpected arguments $*"; exit 1; }
executable=${AzureFunctionsJobHost__customHandler__description__defaultExecutablePath:-target/debug/handler}
FUNCTIONS_CUSTOMHANDLER_PORT=$3 "$executable" &
handler=$!
stop() {
  wait "$handler"
  (exec 3<>"/dev/tcp/127.0.0.1/$UP_BLOB_PORT") 2>/dev/null && echo "func: storage is there" || echo "func: storage is gone"
  exit 0
}
trap stop INT
while kill -0 "$handler" 2>/dev/null; do wait "$handler"; done
"#;

/// What `make up` needs, on ports of the test's own.
struct Up {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
    client: Client,
}

impl Up {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let func = folder.path().join("func");
        std::fs::write(&func, FUNC).unwrap();
        std::fs::set_permissions(&func, PermissionsExt::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let port = free_port();
        let mut environment = vec![
            ("PATH", format!("{}:{path}", folder.path().display())),
            ("UP_DATA", folder.path().join("data").display().to_string()),
            ("UP_HANDLER", env!("CARGO_BIN_EXE_handler").to_owned()),
            ("UP_PORT", port.to_string()),
        ];
        for name in ["UP_REDIS_PORT", "UP_BLOB_PORT", "UP_QUEUE_PORT", "UP_TABLE_PORT"] {
            environment.push((name, free_port().to_string()));
        }
        Self { folder, environment, client: Client::new(format!("http://127.0.0.1:{port}")) }
    }

    fn set(&mut self, name: &'static str, value: String) {
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value));
    }

    /// Runs it without a terminal until it ends by itself.
    fn run(&self) -> Output {
        let mut make = Command::new("make");
        make.arg("up").current_dir(repository()).envs(self.environment.clone());
        make.stdin(Stdio::null()).output().unwrap()
    }

    /// Starts it on a terminal, and waits until the API answers.
    async fn start(&self) -> Terminal {
        // A shell ignores SIGINT in what it starts in the background, and so would what that starts.
        let mut script = tokio::process::Command::new("env");
        script.args([
            "--default-signal=INT",
            "script",
            "--quiet",
            "--flush",
            "--return",
            "--command",
            "make up",
            "/dev/null",
        ]);
        script.current_dir(repository()).envs(self.environment.clone()).kill_on_drop(true);
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().expect("the program script, from util-linux");
        let (keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let text = Arc::<Mutex<String>>::default();
        let shown = Arc::clone(&text);
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut bytes).await {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        let terminal = Terminal { child, keyboard, text };
        eventually(PATIENCE, "the API answers", || async {
            let live = self.client.request(reqwest::Method::GET, "/api/live");
            self.client.try_send(live).await.is_ok()
        })
        .await;
        terminal
    }
}

struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    text: Arc<Mutex<String>>,
}

impl Terminal {
    /// Presses Ctrl-C, and returns what was shown in all, after everything has ended.
    async fn interrupt(mut self) -> String {
        self.keyboard.write_all(b"\x03").await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends after Ctrl-C").unwrap();
        self.text.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn after_ctrl_c_everything_ends_in_order_and_the_newest_users_are_kept() {
    let up = Up::new();
    let terminal = up.start().await;
    let path = up.client.create("Ann").await;
    let shown = terminal.interrupt().await;
    assert!(shown.contains("func: storage is there"), "func was ended first: {shown}");
    assert!(shown.contains("stopping (SIGINT)"), "the handler too: {shown}");
    let live = up.client.request(reqwest::Method::GET, "/api/live");
    assert!(up.client.try_send(live).await.is_err(), "the handler is gone");

    let terminal = up.start().await;
    assert_eq!(up.client.get(&path).await.name(), "Ann", "Azurite has saved its data");
    let shown = terminal.interrupt().await;
    assert!(!shown.contains("using the server"), "the first run has left none: {shown}");
}

#[test]
fn what_prevents_the_start_is_said_in_one_line() {
    let mut up = Up::new();
    let not_executable = up.folder.path().join("handler");
    std::fs::write(&not_executable, "").unwrap();
    for (name, value, expected) in [
        ("UP_HANDLER", "/nowhere/handler".to_owned(), "run cargo build"),
        ("UP_HANDLER", not_executable.display().to_string(), "is not executable"),
        ("CACHE_TTL", "soon".to_owned(), "CACHE_TTL=\"soon\" is not allowed"),
    ] {
        up.set(name, value);
        let output = up.run();
        assert!(!output.status.success());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(expected), "{error}");
        up.set("UP_HANDLER", env!("CARGO_BIN_EXE_handler").to_owned());
    }
}

/// An editor starts the handler itself, when a line says so.
#[tokio::test]
async fn with_the_argument_servers_only_the_servers_are_started() {
    let up = Up::new();
    let mut script = tokio::process::Command::new(repository().join("scripts/up.sh"));
    script.arg("servers").envs(up.environment.clone()).kill_on_drop(true);
    let mut child = script.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut shown = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        shown.push(line);
        if crate::editor::ends("servers").is_match(shown.last().unwrap()) {
            break;
        }
    }
    let listens = |name: &str| {
        let (_, port) = up.environment.iter().find(|(known, _)| *known == name).unwrap();
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok()
    };
    assert!(shown.last().unwrap().ends_with("/handler"), "{shown:?}");
    assert!(listens("UP_REDIS_PORT") && listens("UP_TABLE_PORT"), "{shown:?}");
    assert!(!listens("UP_PORT"), "{shown:?}");

    custom_handler::testing::signal(child.id().unwrap(), "TERM");
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(!listens("UP_REDIS_PORT") && !listens("UP_TABLE_PORT"));
}

/// A handler that ends although nobody asked for it is not a success.
#[tokio::test]
async fn a_func_that_ends_by_itself_is_a_failure() {
    let up = Up::new();
    std::fs::write(up.folder.path().join("func"), "#!/bin/sh\necho 4.14.0\n").unwrap();
    let output = tokio::task::spawn_blocking(move || up.run()).await.unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("has ended by itself, with code 0"), "{error}");
}
