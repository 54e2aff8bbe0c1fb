//! Real servers on free ports, in folders of their own, which end with the test that started them.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use cache_aside::cache::RedisAccess;
use tempfile::TempDir;

/// A process, ended by its id when dropped.
pub struct Process(Child);

impl Process {
    fn start(mut command: Command, install: &str) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| {
            panic!("{program} does not start ({error}): install it with `{install}`")
        }))
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits until the port takes connections.
    fn ready(mut self, port: u16) -> Self {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = self.0.try_wait().expect("its status") {
                let mut said = String::new();
                let _ = self.0.stdout.take().map(|mut out| out.read_to_string(&mut said));
                panic!("the server ended with {status}: {said}");
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        // Nobody reads it: the server must not block on a full pipe.
        if let Some(mut out) = self.0.stdout.take() {
            std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        }
        self
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago, and is handed out once: two servers that were told the same
/// one would pass for each other.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// A `redis-server`.
pub struct Redis {
    pub port: u16,
    arguments: Vec<String>,
    folder: TempDir,
    process: Option<Process>,
}

impl Redis {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        let folder = TempDir::new().unwrap();
        let mut redis = Self { port: free_port(), arguments, folder, process: None };
        redis.restart();
        redis
    }

    /// Starts it, or starts it again, on the same port, empty.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.arg("--dir").arg(self.folder.path()).args(&self.arguments);
        let process = Process::start(command, "apt-get install redis-server");
        self.process = Some(process.ready(self.port));
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("a running server").signal(name);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn access(&self) -> RedisAccess {
        RedisAccess { url: self.url().parse().unwrap(), identity: None }
    }

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

/// An `azurite-table`.
pub struct Azurite {
    pub port: u16,
    arguments: Vec<String>,
    folder: TempDir,
    process: Mutex<Option<Process>>,
}

impl Azurite {
    /// One for all tests of this process that run at the same time: it takes a second to start, and
    /// tests with a table each do not meet.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Azurite>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let azurite = Arc::new(Self::start());
            *shared = Arc::downgrade(&azurite);
            azurite
        })
    }

    /// One of the test's own, to be stopped and broken.
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(arguments: &[&str]) -> Self {
        let azurite = Self {
            port: free_port(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            folder: TempDir::new().unwrap(),
            process: Mutex::new(None),
        };
        azurite.restart();
        azurite
    }

    /// Starts it, or starts it again, on the same port, with what it had written.
    pub fn restart(&self) {
        self.stop();
        let mut command = azurite_command(self.port, self.folder.path());
        command.args(&self.arguments);
        let process = Process::start(command, "npm install -g azurite").ready(self.port);
        *self.process.lock().unwrap() = Some(process);
    }

    /// Ends it so that it writes first what it holds: `azurite-table` does so on SIGINT only.
    pub fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.signal("INT");
            let _ = process.0.wait();
        }
    }

    pub fn signal(&self, name: &str) {
        self.process.lock().unwrap().as_ref().expect("a running server").signal(name);
    }

    pub fn connection_string(&self) -> String {
        connection_string(self.port)
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        self.process.get_mut().unwrap().take();
    }
}

/// The connection string of an Azurite, or of a proxy in front of one, at this port.
pub fn connection_string(port: u16) -> String {
    format!("UseDevelopmentStorage=true;TableEndpoint=http://127.0.0.1:{port}/devstoreaccount1")
}

fn azurite_command(port: u16, folder: &Path) -> Command {
    let mut command = Command::new("azurite-table");
    command.args(["--silent", "--skipApiVersionCheck", "--disableTelemetry"]);
    command.args(["--tablePort", &port.to_string()]).arg("--location").arg(folder);
    command
}
