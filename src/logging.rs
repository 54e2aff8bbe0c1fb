//! Which stream a record goes to, so that the Functions host gives it the right level.
//!
//! For a custom handler the host logs each line of stdout as Information and each line of stderr as
//! Error, or as Warning if it contains `warn` in any case. So warnings and errors go to stderr and
//! all else to stdout, one line a record; a warning's line says `WARN`, an error's says `warn`
//! nowhere.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::SystemTime;

use env_logger::{Builder, Env, Logger, Target};
use log::{Level, Log, Metadata, Record};

use crate::functions::Invocation;

/// What is logged if `RUST_LOG` says nothing. The HTTP server's own messages are about peers that
/// hang up, which is no concern of ours.
pub const DEFAULT_FILTER: &str = "info,warp=off";

/// Logs from now on, filtered by `RUST_LOG`; a panic is logged as an error, on one line.
pub fn start() {
    let streams = Streams { out: logger(Target::Stdout), err: logger(Target::Stderr) };
    log::set_max_level(streams.out.filter());
    if log::set_boxed_logger(Box::new(streams)).is_ok() {
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    }
}

struct Streams {
    out: Logger,
    err: Logger,
}

fn logger(target: Target) -> Logger {
    Builder::from_env(Env::default().default_filter_or(DEFAULT_FILTER))
        .target(target)
        .format(|stream, record| {
            let invocation = Invocation::current().unwrap_or_default();
            let text = line(record, &invocation);
            invocation.collect(|| text.clone());
            writeln!(stream, "{} {text}", humantime::format_rfc3339_millis(SystemTime::now()))
        })
        .build()
}

/// Whether a record may hold a secret: below its warnings, the Azure SDK tells whole requests, with the
/// signature in the URL and the user in the body.
fn is_unsafe(metadata: &Metadata) -> bool {
    let target = metadata.target();
    metadata.level() > Level::Warn
        && ["azure_", "typespec_"].iter().any(|prefix| target.starts_with(prefix))
}

impl Log for Streams {
    fn enabled(&self, metadata: &Metadata) -> bool {
        !is_unsafe(metadata) && self.out.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if is_unsafe(record.metadata()) {
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

/// A record as one line: level, target, message, and the invocation it belongs to.
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

/// The text with each `warn` spelled so that the host does not take an error for a warning.
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
    fn an_error_does_not_pass_for_a_warning_and_a_warning_does() {
        assert_eq!(written(Level::Error, "Warned, WARN"), "ERROR t: W-arned, W-ARN");
        assert!(written(Level::Warn, "x").contains("WARN"));
    }
}
