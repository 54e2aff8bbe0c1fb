//! Log records as lines, each on the stream that makes the Functions host log it at its level.
//!
//! For a custom handler the host logs each line of stdout as Information, and each line of stderr as
//! Error, or as Warning if it contains `warn` in any case
//! ([`WorkerProcess`](https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/ProcessManagement/WorkerProcess.cs)).
//! So warnings and errors go to stderr, and all other records go to stdout. One record is one line.
//! The line of a warning contains `WARN`; the line of an error does not contain `warn` anywhere.
//!
//! A record that is logged during a call ends with the invocation's id, and with the trace if there is
//! one: ` invocation=… traceparent=…`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::SystemTime;

use env_logger::{Builder, Env, Logger, Target};
use log::{Level, Log, Metadata, Record};

use crate::Invocation;

/// What is logged when neither `RUST_LOG` nor the application says otherwise. The messages of the
/// HTTP server, under `warp`, are about clients that disconnect.
pub const DEFAULT_FILTER: &str = "info,warp=off";

/// Core Tools sets this variable
/// ([`Constants`](https://github.com/Azure/azure-functions-core-tools/blob/main/src/Cli/func/Common/Constants.cs)).
const CORE_TOOLS: &str = "FUNCTIONS_CORETOOLS_ENVIRONMENT";

/// The logger, before it is started.
///
/// ```
/// use custom_handler::logging::Logging;
///
/// // A client library whose debug records contain passwords.
/// Logging::new()
///     .default_filter("info,warp=off,noisy=warn")
///     .exclude(|record| record.target().starts_with("sdk::") && record.level() > log::Level::Warn)
///     .start();
/// log::info!("listening");
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is logged until it is started"]
pub struct Logging {
    default_filter: String,
    excluded: Excluded,
}

/// A record that one of these is true for is dropped.
#[derive(Clone, Debug, Default)]
struct Excluded(Vec<fn(&Metadata) -> bool>);

impl Excluded {
    fn contains(&self, metadata: &Metadata) -> bool {
        self.0.iter().any(|excludes| excludes(metadata))
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self::new()
    }
}

impl Logging {
    /// A logger with [`DEFAULT_FILTER`].
    pub fn new() -> Self {
        Self { default_filter: DEFAULT_FILTER.to_owned(), excluded: Excluded::default() }
    }

    /// Replaces the filter that applies when `RUST_LOG` is not set, in
    /// [env_logger's syntax](https://docs.rs/env_logger/0.11/env_logger/#enabling-logging).
    pub fn default_filter(mut self, filter: impl Into<String>) -> Self {
        self.default_filter = filter.into();
        self
    }

    /// Drops the records that this is true for, whatever the filter says. Use it for records that may
    /// contain secrets. Can be called several times.
    pub fn exclude(mut self, excludes: fn(&Metadata) -> bool) -> Self {
        self.excluded.0.push(excludes);
        self
    }

    /// Logs from now on, filtered by `RUST_LOG`. A panic is logged as an error, on one line.
    ///
    /// Does nothing if the process has a logger already.
    pub fn start(self) {
        let (out, err) = (self.logger(Target::Stdout), self.logger(Target::Stderr));
        let streams = Streams { out, err, excluded: self.excluded };
        log::set_max_level(streams.out.filter());
        if log::set_boxed_logger(Box::new(streams)).is_ok() {
            std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
        }
    }

    fn logger(&self, target: Target) -> Logger {
        // Core Tools writes the time before each line; the host in a container does not.
        let has_time = std::env::var_os(CORE_TOOLS).is_none();
        Builder::from_env(Env::default().default_filter_or(&self.default_filter))
            .target(target)
            .format(move |stream, record| {
                let invocation = Invocation::current().unwrap_or_default();
                let text = line(record, &invocation);
                match has_time {
                    true => {
                        let time = humantime::format_rfc3339_millis(SystemTime::now());
                        writeln!(stream, "{time} {text}")
                    }
                    false => writeln!(stream, "{text}"),
                }
            })
            .build()
    }
}

struct Streams {
    out: Logger,
    err: Logger,
    excluded: Excluded,
}

impl Log for Streams {
    fn enabled(&self, metadata: &Metadata) -> bool {
        !self.excluded.contains(metadata) && self.out.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if self.excluded.contains(record.metadata()) {
            return;
        }
        match record.level() {
            Level::Error | Level::Warn => self.err.log(record),
            Level::Info | Level::Debug | Level::Trace => self.out.log(record),
        }
    }

    fn flush(&self) {
        self.out.flush();
        self.err.flush();
    }
}

/// A record as one line: level, target, message, and the invocation that it belongs to.
fn line(record: &Record, invocation: &Invocation) -> String {
    let mut line = format!("{:<5} {}: {}", record.level(), record.target(), record.args());
    if line.contains(['\n', '\r']) {
        line = line.replace('\r', "\\r").replace('\n', "\\n");
    }
    if let Some(id) = invocation.id() {
        let _ = write!(line, " invocation={id}"); // writing to a String cannot fail
    }
    if let Some(traceparent) = invocation.traceparent() {
        let _ = write!(line, " traceparent={traceparent}");
    }
    if record.level() == Level::Error {
        line = without_warn(line);
    }
    line
}

/// The text with a hyphen in each `warn`, so that the host does not log an error as a warning.
fn without_warn(mut text: String) -> String {
    while let Some(at) = text.to_ascii_lowercase().find("warn") {
        text.insert(at + 1, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(level: Level, message: &str) -> String {
        let args = format_args!("{message}").to_string();
        line(
            &Record::builder().level(level).target("t").args(format_args!("{args}")).build(),
            &Invocation::default(),
        )
    }

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(written(Level::Info, "a\r\nb"), "INFO  t: a\\r\\nb");
    }

    #[test]
    fn only_a_warning_contains_warn() {
        assert_eq!(written(Level::Error, "Warned, WARN"), "ERROR t: W-arned, W-ARN");
        assert!(written(Level::Warn, "x").contains("WARN"));
    }
}
