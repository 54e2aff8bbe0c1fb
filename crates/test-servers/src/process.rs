//! A server's process.

use std::collections::BTreeSet;
use std::io::{PipeReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A process, killed by its id when it is dropped.
pub struct Process(Child);

impl Process {
    /// Starts a server and waits until it accepts connections on `port`. If the program is missing,
    /// the test fails with the command that installs it.
    pub fn start(command: Command, port: u16, install: &str) -> Self {
        let (mut process, mut output) = Self::with_output(command, install);
        process.wait_until_it_listens(port, &mut output);
        discard(output);
        process
    }

    /// Starts a program, and waits for nothing.
    pub fn spawn(command: Command, install: &str) -> Self {
        let (process, output) = Self::with_output(command, install);
        discard(output);
        process
    }

    fn with_output(mut command: Command, install: &str) -> (Self, PipeReader) {
        let program = command.get_program().to_string_lossy().into_owned();
        let (output, writer) = std::io::pipe().expect("a pipe");
        let errors = writer.try_clone().expect("a pipe");
        command.stdin(Stdio::null()).stdout(writer).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{program} does not start ({error}): install it with `{install}`")
        });
        // With `command` its ends of the pipe are dropped, so that the output ends with the program.
        (Self(child), output)
    }

    fn wait_until_it_listens(&mut self, port: u16, output: &mut PipeReader) {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = self.0.try_wait().expect("its status") {
                let mut text = String::new();
                let _ = output.read_to_string(&mut text);
                panic!("the server ended with {status}: {text}");
            }
            assert!(start.elapsed() < Duration::from_secs(30), "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits until it has ended by itself.
    pub fn wait(mut self) {
        let start = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) {
            assert!(start.elapsed() < Duration::from_secs(30), "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the output: a full pipe would block the server.
fn discard(mut output: PipeReader) {
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
}

/// A port that was free a moment ago. Each port is returned once: two servers on the same port would
/// be mistaken for each other.
pub fn free_port() -> u16 {
    static RETURNED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        if RETURNED.lock().unwrap().insert(port) {
            return port;
        }
    }
}
