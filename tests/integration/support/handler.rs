//! The handler's binary as a process of its own, without a host.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::Duration;

use custom_handler::testing::{self, Lines};
use tokio::process::{Child, Command};

use super::{Client, eventually, free_port};

/// A running handler. It is killed when it is dropped.
pub struct Handler {
    pub client: Client,
    pub port: u16,
    pub lines: Lines,
    child: Child,
}

impl Drop for Handler {
    fn drop(&mut self) {
        // A failed test shows what its handler logged.
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
        let command = Command::new(env!("CARGO_BIN_EXE_handler"));
        let (child, lines) = testing::spawn(command, &environment);
        Self { client: Client::new(format!("http://127.0.0.1:{port}")), port, lines, child }
    }

    pub async fn ready(&self) {
        eventually(Duration::from_secs(30), "the handler answers", || async {
            let ping = self.client.request(reqwest::Method::GET, "/");
            self.client.try_send(ping).await.is_ok()
        })
        .await;
    }

    /// Waits for a line in its log that contains this text, and returns it.
    pub async fn line_with(&self, text: &str) -> String {
        let find = || {
            let lines = self.lines.lock().unwrap();
            lines.iter().map(|(_, line)| line.clone()).find(|line| line.contains(text))
        };
        eventually(Duration::from_secs(20), text, || async { find().is_some() }).await;
        find().unwrap()
    }

    /// Whether a line in its log contains this text.
    pub fn logged(&self, text: &str) -> bool {
        self.count_of(text) > 0
    }

    /// How many lines in its log contain this text.
    pub fn count_of(&self, text: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|(_, line)| line.contains(text)).count()
    }

    /// How many of its threads have a name that begins like this.
    pub fn threads_named(&self, name: &str) -> usize {
        let id = self.child.id().expect("a running handler");
        let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
        let names = threads.map(|it| std::fs::read_to_string(it.unwrap().path().join("comm")));
        names.filter(|it| it.as_ref().is_ok_and(|it| it.starts_with(name))).count()
    }

    pub fn signal(&self, name: &str) {
        testing::signal(self.child.id().expect("a running handler"), name);
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        ended.expect("the handler ends").unwrap()
    }
}
