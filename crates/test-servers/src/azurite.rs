//! An `azurite-table`.

use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use tempfile::TempDir;

use crate::process::{Process, free_port};

/// A running `azurite-table`.
pub struct Azurite {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    arguments: Vec<String>,
    folder: TempDir,
    process: Mutex<Option<Process>>,
}

impl Azurite {
    /// One server for all tests of this process that run at the same time. It takes a second to
    /// start, and tests that each use a table of their own do not affect each other.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Azurite>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let azurite = Arc::new(Self::start());
            *shared = Arc::downgrade(&azurite);
            azurite
        })
    }

    /// A server for one test, which may stop and break it.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server for one test with these command-line arguments.
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

    /// Starts it again, on the same port and with what it had written to disk.
    pub fn restart(&self) {
        self.stop();
        let mut command = Command::new("azurite-table");
        command.args(["--silent", "--skipApiVersionCheck", "--disableTelemetry"]);
        command.args(["--tablePort", &self.port.to_string()]);
        command.arg("--location").arg(self.folder.path()).args(&self.arguments);
        let process = Process::start(command, self.port, "npm install -g azurite");
        *self.process.lock().unwrap() = Some(process);
    }

    /// Ends it after it has written what it holds to disk, which `azurite-table` does on SIGINT only.
    pub fn stop(&self) {
        if let Some(process) = self.process.lock().unwrap().take() {
            process.signal("INT");
            process.wait();
        }
    }

    /// Sends it a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        self.process.lock().unwrap().as_ref().expect("a running server").signal(name);
    }

    /// The connection string of this server.
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
