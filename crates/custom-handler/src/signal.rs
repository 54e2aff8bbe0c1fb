//! When a handler should end, and with which exit code.

use std::fmt;
use std::io;
use std::os::unix::process::parent_id;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// The host sets this variable for the handler that it starts.
const STARTED_BY_HOST: &str = "FUNCTIONS_CUSTOMHANDLER_WORKER_ID";

/// The exit code by which a handler asks the host to start it again
/// ([`WorkerProcess`](https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/ProcessManagement/WorkerProcess.cs)).
/// After code 0 the host leaves the app without a handler, and each call gets a 500.
const RESTART: u8 = 200;

/// How often the handler looks whether its host is still there.
const HOST_CHECK: Duration = Duration::from_secs(1);

/// Why a handler should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// `SIGTERM`, from a container runtime.
    Terminate,
    /// `SIGINT`, from Ctrl-C.
    Interrupt,
    /// The host that started the handler has ended without ending the handler, as it does when it is
    /// killed. Nobody would use or end this process any more.
    HostEnded,
}

impl Stop {
    /// The code to end with. For a `SIGTERM` that reaches a handler which the host has started, it is
    /// the code that makes the host start it again; in all other cases it is 0.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Stop::Terminate if is_started_by_host() => ExitCode::from(RESTART),
            _ => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stop::Terminate => "SIGTERM",
            Stop::Interrupt => "SIGINT",
            Stop::HostEnded => "the host has ended",
        })
    }
}

fn is_started_by_host() -> bool {
    std::env::var_os(STARTED_BY_HOST).is_some()
}

/// Completes when the process receives `SIGTERM` or `SIGINT`, or when the host that has started it
/// ends.
///
/// From this call on, neither signal ends the process by itself, also a second one. The Functions host
/// ends its handler by `SIGKILL`, so nothing may depend on what a handler does afterwards.
///
/// # Errors
/// The operating system does not let the process handle one of the signals.
///
/// # Panics
/// Outside of a Tokio runtime.
pub fn stop_signal() -> io::Result<impl Future<Output = Stop> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let host = is_started_by_host().then(parent_id);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Stop::Terminate,
            _ = interrupt.recv() => Stop::Interrupt,
            () = ended(host) => Stop::HostEnded,
        }
    })
}

/// Completes when this process has another parent than `host`, which means that the host has ended.
///
/// The kernel's parent-death signal is no substitute: it is sent when the *thread* that started the
/// process ends, and .NET ends idle threads of its pool.
async fn ended(host: Option<u32>) {
    let Some(host) = host else { return std::future::pending().await };
    while parent_id() == host {
        tokio::time::sleep(HOST_CHECK).await;
    }
}
