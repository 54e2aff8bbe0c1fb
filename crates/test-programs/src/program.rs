//! The programs that serve users: the handler and its peers, as processes of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_servers::{Process, Redis, free_port};

use crate::client::{Answer, Client};
use crate::processes;
use crate::table::{Table, connection_string};

/// A program that serves the users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
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
pub struct With<'a> {
    /// The executable, if not the one that was built beside the program that is running.
    pub executable: Option<&'a Path>,
    /// Where it listens, if not on a free port.
    pub port: Option<u16>,
    /// The port of the table service, or of a proxy in front of it. Only the handler works without.
    pub table: Option<u16>,
    /// The port of Redis, or of a proxy in front of it. Only the handler works without.
    pub redis: Option<u16>,
    /// How long an entry is cached, if not for the default of 10 s.
    pub ttl: Option<Duration>,
    /// How many processes a peer in Node.js or Python starts; 1 if it is 0.
    pub workers: usize,
    /// Other variables for the handler. By default it logs errors only.
    pub settings: &'a [(&'a str, &'a str)],
}

/// A running program. It is killed when it is dropped.
pub struct Server {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    process: Process,
}

/// Long enough for an entry not to expire during a measurement.
pub const LONG: Option<Duration> = Some(Duration::from_secs(24 * 60 * 60));

/// What builds the programs and installs what they need.
const INSTALL: &str = "make bench-quick";

impl With<'_> {
    /// This table and this Redis, directly.
    pub fn servers(table: &Table, redis: &Redis) -> Self {
        Self { table: Some(table.port()), redis: Some(redis.port), ..Self::default() }
    }
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Handler, Self::Axum, Self::Node, Self::Python];
    /// What the handler is compared with.
    pub const PEERS: [Self; 3] = [Self::Axum, Self::Node, Self::Python];

    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Axum => "axum",
            Self::Node => "Node.js",
            Self::Python => "Python",
        }
    }

    /// Where the peers' code is.
    pub fn peers_folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/peers")
    }

    /// The program to execute. The variable `HANDLER` names another handler than the one that was built.
    pub fn binary(self) -> PathBuf {
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
    pub fn installed(self) -> PathBuf {
        match self {
            Self::Handler | Self::Axum => self.binary(),
            Self::Node => Self::peers_folder().join("node/node_modules"),
            Self::Python => Self::peers_folder().join("python/.venv"),
        }
    }

    /// Starts it and makes it ready to be used: the first calls find the table, and open the
    /// connections.
    pub async fn start(self, with: With<'_>) -> Server {
        let port = with.port.unwrap_or_else(free_port);
        let process = Process::start(self.command(port, with), port, INSTALL);
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
    pub fn spawn(self, with: With<'_>) -> Server {
        let port = with.port.unwrap_or_else(free_port);
        Server { port, process: Process::spawn(self.command(port, with), INSTALL) }
    }

    fn command(self, port: u16, with: With<'_>) -> Command {
        let mut command = Command::new(with.executable.map_or_else(|| self.binary(), Into::into));
        match self {
            Self::Handler | Self::Axum => {}
            Self::Node => drop(command.arg(Self::peers_folder().join("node/main.js"))),
            Self::Python => drop(command.arg(Self::peers_folder().join("python/main.py"))),
        }
        command.env_clear();
        if let Some(port) = with.table {
            command.env("USERS_TABLE_CONNECTION", connection_string(port));
        }
        if let Some(port) = with.redis {
            command.env("REDIS_URL", format!("redis://127.0.0.1:{port}"));
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
    /// A client of it.
    pub async fn client(&self) -> Client {
        Client::connect(self.port).await.unwrap()
    }

    /// Sends its first process a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Resident memory of all its processes, in megabytes.
    pub fn memory(&self) -> f64 {
        processes::tree(self.process.id()).iter().map(|id| processes::memory(*id, "VmRSS")).sum()
    }

    /// The highest that the resident memory of its first process ever was, in megabytes.
    pub fn peak_memory(&self) -> f64 {
        processes::memory(self.process.id(), "VmHWM")
    }

    /// How long its processes have used a processor so far, in seconds.
    pub fn processor_time(&self) -> f64 {
        processes::tree(self.process.id()).iter().map(|id| processes::processor_time(*id)).sum()
    }

    /// How many sockets its processes have open.
    pub fn sockets(&self) -> usize {
        processes::tree(self.process.id()).iter().map(|id| processes::sockets(*id)).sum()
    }

    /// The path of a new user who is cached, and the answer to a hit on them.
    pub async fn cached_user(&self) -> (String, Answer) {
        let mut client = self.client().await;
        let path = client.create_user().await;
        for _ in 0..2 {
            client.get(&path).await.unwrap();
        }
        let hit = client.get(&path).await.unwrap();
        (path, hit)
    }

    /// The path of a new user who is cached in Redis.
    pub async fn user_in_redis(&self) -> String {
        let (path, hit) = self.cached_user().await;
        assert_eq!(hit.source(), "redis", "GET {path}: {}", hit.body);
        path
    }
}
