//! The signals that end a handler.

use std::fmt;
use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`, from a container runtime.
    Terminate,
    /// `SIGINT`, from Ctrl-C; Core Tools passes it on.
    Interrupt,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
        })
    }
}

/// Completes when the process receives `SIGTERM` or `SIGINT`.
///
/// From this call on, neither signal ends the process by itself, also a second one. The Functions host
/// ends its handler by `SIGKILL`, so nothing may depend on what a handler does after a signal.
///
/// # Errors
/// The operating system does not let the process handle one of the signals.
///
/// # Panics
/// Outside of a Tokio runtime.
pub fn stop_signal() -> io::Result<impl Future<Output = Signal> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Signal::Terminate,
            _ = interrupt.recv() => Signal::Interrupt,
        }
    })
}
