//! The handler under measurement: the release build, as a process of its own.

use std::path::PathBuf;
use std::process::Command;

use test_servers::{Azurite, Process, Redis, free_port};

use crate::client::Client;

/// A running handler.
pub(crate) struct Handler {
    pub(crate) port: u16,
    process: Process,
}

/// What a handler uses.
#[derive(Default)]
pub(crate) struct With<'a> {
    pub(crate) azurite: Option<&'a Azurite>,
    pub(crate) redis: Option<&'a Redis>,
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

impl Handler {
    /// Starts a handler. Unless the settings say otherwise, it logs errors only.
    pub(crate) async fn start(with: With<'_>) -> Self {
        let port = free_port();
        let binary = std::env::var_os("HANDLER").map_or_else(
            || std::env::current_exe().unwrap().with_file_name("handler"),
            PathBuf::from,
        );
        let mut command = Command::new(binary);
        command.env_clear().env("RUST_LOG", "error");
        command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
        if let Some(azurite) = with.azurite {
            command.env("USERS_TABLE_CONNECTION", azurite.connection_string());
        }
        if let Some(redis) = with.redis {
            command.env("REDIS_URL", redis.url());
        }
        command.envs(with.settings.iter().copied());
        let process = Process::start(command, port, "cargo build --release");
        let handler = Self { port, process };
        // The first create finds the table, and waits for the connections.
        handler.client().await.create_users(1).await;
        handler
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.port).await.unwrap()
    }

    /// Resident memory, in megabytes: now (`VmRSS`), or at its highest (`VmHWM`).
    pub(crate) fn memory(&self, which: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("/proc, which only Linux has");
        let line = status.lines().find(|line| line.starts_with(which)).unwrap();
        let kilobytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes / 1024.0
    }

    /// How many sockets it has open.
    pub(crate) fn sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        let targets = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }
}
