//! Log records as lines, each on the stream that makes the Functions host log it at its level.
//!
//! For a custom handler the host logs each line of stdout as Information, and each line of stderr as
//! Error, or as Warning if it contains `warn` in any case
//! ([`WorkerProcess`](https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/ProcessManagement/WorkerProcess.cs)).
//! So warnings and errors go to stderr, and all other records go to stdout. One record is one line.
//! The line of a warning contains `WARN`; the line of an error does not contain `warn` anywhere.
//!
//! Warnings and errors that are repeated are folded: of those from one place in the code, the first is
//! written at once, and then only the last of every five seconds, with their number. The host stores
//! every line, and stored lines cost money.
//!
//! A record that is logged during a call ends with the invocation's id, and with the trace if there is
//! one: ` invocation=… traceparent=…`.

mod folding;

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::SystemTime;

use env_logger::{Builder, Env, Target};
use log::{Level, Log, Metadata, Record};

use crate::Invocation;

use self::folding::{Fate, Folding, INTERVAL, Summary};

/// What is logged when neither `RUST_LOG` nor the application says otherwise.
pub const DEFAULT_FILTER: &str = "info";

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
///     .default_filter("info,noisy=warn")
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
    /// Call [`flush`](log::Log::flush) of [`log::logger`] before the process ends: it writes what has
    /// been folded until then.
    ///
    /// Does nothing if the process has a logger already.
    pub fn start(self) {
        let (out, err) = (self.logger(Target::Stdout), self.logger(Target::Stderr));
        let streams = Streams { out, err, excluded: self.excluded, folding: Folding::default() };
        log::set_max_level(streams.out.filter());
        if log::set_boxed_logger(Box::new(Logger(Arc::new(streams)))).is_ok() {
            std::panic::set_hook(Box::new(log_panic));
        }
    }

    fn logger(&self, target: Target) -> env_logger::Logger {
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

/// Logs a panic as a record of the place where it happened.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let mut record = Record::builder();
    record.level(Level::Error).target("panic");
    if let Some(location) = panic.location() {
        record.file(Some(location.file())).line(Some(location.line()));
    }
    log::logger().log(&record.args(format_args!("{panic}")).build());
}

struct Streams {
    out: env_logger::Logger,
    err: env_logger::Logger,
    excluded: Excluded,
    folding: Folding,
}

impl Streams {
    fn write(&self, summaries: &[Summary]) {
        for Summary { level, target, text } in summaries {
            let mut record = Record::builder();
            record.level(*level).target(target);
            self.err.log(&record.args(format_args!("{text}")).build());
        }
    }

    /// Writes what is folded, interval by interval, until nothing is repeated any more.
    fn write_folded(&self) {
        loop {
            std::thread::sleep(INTERVAL);
            match self.folding.end_interval() {
                Some(summaries) => self.write(&summaries),
                None => return,
            }
        }
    }
}

struct Logger(Arc<Streams>);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        !self.0.excluded.contains(metadata) && self.0.out.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if self.0.excluded.contains(record.metadata()) {
            return;
        }
        if record.level() > Level::Warn {
            return self.0.out.log(record);
        }
        if !self.0.err.matches(record) {
            return;
        }
        match self.0.folding.fate(record) {
            Fate::Fold => {}
            Fate::Write => self.0.err.log(record),
            Fate::WriteAndBegin => {
                self.0.err.log(record);
                let streams = Arc::clone(&self.0);
                // A thread and not a task, because programs log outside of runtimes, too. If it cannot
                // be started, `flush` still writes what has been folded.
                let thread = std::thread::Builder::new().name("log".to_owned());
                let _ = thread.spawn(move || streams.write_folded());
            }
        }
    }

    fn flush(&self) {
        self.0.write(&self.0.folding.take());
        self.0.out.flush();
        self.0.err.flush();
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
