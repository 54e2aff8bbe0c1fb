//! A `redis-server`, or a server that takes the same command-line arguments.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use tempfile::TempDir;

use crate::process::{Process, free_port};

/// A running `redis-server`, without persistence. The variable `REDIS_SERVER` names another program
/// to start in its place, such as `valkey-server`.
pub struct Redis {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// A sentinel must have a configuration file, in which it stores what it learns.
    file: Option<PathBuf>,
    arguments: Vec<String>,
    folder: TempDir,
    process: Option<Process>,
}

impl Redis {
    /// Starts a server.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with these command-line arguments.
    pub fn with(arguments: &[&str]) -> Self {
        Self::configured(None, arguments)
    }

    /// Starts a sentinel with this configuration.
    pub fn sentinel(configuration: &str) -> Self {
        Self::configured(Some(configuration), &["--sentinel"])
    }

    fn configured(configuration: Option<&str>, arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let file = configuration.map(|text| {
            let file = folder.path().join("redis.conf");
            fs::write(&file, text).unwrap();
            file
        });
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        let mut redis = Self { port: free_port(), file, arguments, folder, process: None };
        redis.restart();
        redis
    }

    /// Starts it again, on the same port and empty.
    pub fn restart(&mut self) {
        self.stop();
        let program = env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(program);
        if let Some(file) = &self.file {
            command.arg(file);
        }
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.arg("--dir").arg(self.folder.path()).args(&self.arguments);
        self.process = Some(Process::start(command, self.port, "apt-get install redis-server"));
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Sends it a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("a running server").signal(name);
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Sends a command, as `redis-cli` would.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut self.connection().await).await.unwrap()
    }
}
