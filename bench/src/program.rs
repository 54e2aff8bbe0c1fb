//! What is measured: the handler's release build and its peers, as processes of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_servers::{Process, Redis, free_port};

use crate::client::{Answer, Client};
use crate::processes;
use crate::table::{Table, connection_string};

/// A program that serves the users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The handler.
    Handler,
    /// Plain cache-aside in axum.
    Axum,
    /// Plain cache-aside in Node.js.
    Node,
    /// Plain cache-aside in Python.
    Python,
}

/// What a program uses.
#[derive(Clone, Copy, Default)]
pub(crate) struct With<'a> {
    /// The port of the table service, or of a proxy in front of it. Only the handler works without.
    pub(crate) table: Option<u16>,
    /// Only the handler works without.
    pub(crate) redis: Option<&'a Redis>,
    /// How long an entry is cached, if not for the default of 10 s.
    pub(crate) ttl: Option<Duration>,
    /// How many processes a peer in Node.js or Python starts; 1 if it is 0.
    pub(crate) workers: usize,
    /// Other variables for the handler. By default it logs errors only.
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

/// A running program.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Process,
}

/// Long enough for an entry not to expire during a measurement.
pub(crate) const LONG: Option<Duration> = Some(Duration::from_secs(24 * 60 * 60));

impl<'a> With<'a> {
    pub(crate) fn servers(table: &Table, redis: &'a Redis) -> Self {
        Self { table: Some(table.port()), redis: Some(redis), ..Self::default() }
    }
}

impl Program {
    pub(crate) const ALL: [Self; 4] = [Self::Handler, Self::Axum, Self::Node, Self::Python];
    pub(crate) const PEERS: [Self; 3] = [Self::Axum, Self::Node, Self::Python];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Axum => "axum",
            Self::Node => "Node.js",
            Self::Python => "Python",
        }
    }

    pub(crate) fn peers_folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
    }

    /// The program to execute. The variable `HANDLER` names another handler to measure.
    pub(crate) fn binary(self) -> PathBuf {
        let beside = |name| std::env::current_exe().unwrap().with_file_name(name);
        match self {
            Self::Handler => {
                std::env::var_os("HANDLER").map_or_else(|| beside("handler"), PathBuf::from)
            }
            Self::Axum => beside("peer-axum"),
            Self::Node => "node".into(),
            Self::Python => Self::peers_folder().join("python/.venv/bin/python"),
        }
    }

    /// What must be on the disk to run it, beside the language's own runtime.
    pub(crate) fn installed(self) -> PathBuf {
        match self {
            Self::Handler | Self::Axum => self.binary(),
            Self::Node => Self::peers_folder().join("node/node_modules"),
            Self::Python => Self::peers_folder().join("python/.venv"),
        }
    }

    /// Starts it and makes it ready to be measured: the first calls find the table, and open the
    /// connections.
    pub(crate) async fn start(self, with: With<'_>) -> Server {
        let port = free_port();
        let process = Process::start(self.command(port, with), port, "scripts/bench.sh");
        let server = Server { port, process };
        let mut client = server.client().await;
        let path = client.create_user().await;
        for _ in 0..2 {
            let answer = client.get(&path).await.unwrap();
            assert_eq!(answer.status, 200, "{self:?}: GET {path}: {}", answer.body);
        }
        server
    }

    /// Starts it without waiting for anything.
    pub(crate) fn spawn(self, with: With<'_>) -> Server {
        let port = free_port();
        Server { port, process: Process::spawn(self.command(port, with), "scripts/bench.sh") }
    }

    fn command(self, port: u16, with: With<'_>) -> Command {
        let mut command = Command::new(self.binary());
        match self {
            Self::Handler | Self::Axum => {}
            Self::Node => drop(command.arg(Self::peers_folder().join("node/main.js"))),
            Self::Python => drop(command.arg(Self::peers_folder().join("python/main.py"))),
        }
        command.env_clear();
        if let Some(port) = with.table {
            command.env("USERS_TABLE_CONNECTION", connection_string(port));
        }
        if let Some(redis) = with.redis {
            command.env("REDIS_URL", redis.url());
        }
        let ttl = with.ttl.map(|ttl| ttl.as_secs().to_string());
        if self == Self::Handler {
            command.env("RUST_LOG", "error");
            command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
            command.envs(ttl.map(|ttl| ("CACHE_TTL", ttl + "s")));
            command.envs(with.settings.iter().copied());
        } else {
            // Node.js is searched for.
            command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
            command.env("PORT", port.to_string());
            command.env("WORKERS", with.workers.max(1).to_string());
            command.envs(ttl.map(|ttl| ("CACHE_TTL", ttl)));
        }
        command
    }
}

impl Server {
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.port).await.unwrap()
    }

    /// Resident memory of all its processes, in megabytes.
    pub(crate) fn memory(&self) -> f64 {
        processes::tree(self.process.id()).iter().map(|id| processes::memory(*id, "VmRSS")).sum()
    }

    /// The highest that the resident memory of its first process ever was, in megabytes.
    pub(crate) fn peak_memory(&self) -> f64 {
        processes::memory(self.process.id(), "VmHWM")
    }

    /// How long its processes have used a processor so far, in seconds.
    pub(crate) fn processor_time(&self) -> f64 {
        processes::tree(self.process.id()).iter().map(|id| processes::processor_time(*id)).sum()
    }

    /// How many sockets its processes have open.
    pub(crate) fn sockets(&self) -> usize {
        processes::tree(self.process.id()).iter().map(|id| processes::sockets(*id)).sum()
    }

    /// The path of a new user who is cached, and the answer to a hit on them.
    pub(crate) async fn cached_user(&self) -> (String, Answer) {
        let mut client = self.client().await;
        let path = client.create_user().await;
        for _ in 0..2 {
            client.get(&path).await.unwrap();
        }
        let hit = client.get(&path).await.unwrap();
        (path, hit)
    }

    /// The path of a new user who is cached in Redis.
    pub(crate) async fn user_in_redis(&self) -> String {
        let (path, hit) = self.cached_user().await;
        assert_eq!(hit.source(), "redis", "GET {path}: {}", hit.body);
        path
    }
}
