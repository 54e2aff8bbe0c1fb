//! The handlers, or two processes of a peer: started, killed, stopped, and started again at the same port.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use test_programs::program::{Program, Server, With};
use test_servers::free_port;
use tokio::task::block_in_place;

/// What all handlers of a run are started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Which program it is.
    pub program: Program,
    /// Its executable, if not the one that was built beside this one.
    pub executable: Option<PathBuf>,
    /// The port of the table, or of a proxy in front of it.
    pub table: u16,
    /// The port of Redis, or of a proxy in front of it; `None` if a setting has the address.
    pub redis: Option<u16>,
    /// Variables by name.
    pub settings: Vec<(&'static str, String)>,
}

/// A handler, which may be dead at the moment.
pub struct Handler {
    /// Where it listens.
    pub port: u16,
    launch: Launch,
    server: Mutex<Option<Server>>,
    life: AtomicU64,
}

/// A life of a handler, from its start until it is about to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life(u64);

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Resident memory in megabytes.
    pub memory: f64,
    /// How many sockets are open.
    pub sockets: usize,
}

impl Launch {
    fn with<T>(&self, port: u16, start: impl FnOnce(With<'_>) -> T) -> T {
        let settings: Vec<_> =
            self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        start(With {
            executable: self.executable.as_deref(),
            port: Some(port),
            table: Some(self.table),
            redis: self.redis,
            ttl: None,
            workers: 1,
            settings: &settings,
        })
    }
}

impl Handler {
    /// Starts it, and does not wait until it answers.
    pub fn start(launch: Launch) -> Self {
        let port = free_port();
        let server = launch.with(port, |with| launch.program.spawn(with));
        Self { port, launch, server: Mutex::new(Some(server)), life: AtomicU64::new(0) }
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life that it is in; `None` while it is dead, or is about to be killed. A request that fails
    /// although its connection was made in the same life has no excuse.
    pub fn life(&self) -> Option<Life> {
        // Odd from before it is killed until it has been started again.
        let life = self.life.load(Ordering::SeqCst);
        life.is_multiple_of(2).then_some(Life(life))
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
        block_in_place(|| drop(self.server().take()));
    }

    /// Starts it again.
    pub fn restart(&self) {
        let server = self.launch.with(self.port, |with| self.launch.program.spawn(with));
        *self.server() = Some(server);
        self.life.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends it a signal by its name, such as `STOP`, if it lives.
    pub fn signal(&self, name: &str) {
        block_in_place(|| {
            if let Some(server) = &*self.server() {
                server.signal(name);
            }
        });
    }

    /// What it holds. `None` if it is dead.
    pub fn footprint(&self) -> Option<Footprint> {
        let server = self.server();
        let server = server.as_ref()?;
        Some(Footprint { memory: server.memory(), sockets: server.sockets() })
    }
}
