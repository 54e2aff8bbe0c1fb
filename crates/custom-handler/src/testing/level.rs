//! The level that the host gives to a line of the handler's output.

use super::process::{Line, Stream};

/// The level of a line in the host's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A line of stdout.
    Information,
    /// A line of stderr that contains `warn`, in any case.
    Warning,
    /// Any other line of stderr.
    Error,
}

/// The level that the host gives to a line of a custom handler's output.
///
/// From `OnErrorDataReceived` and `OnOutputDataReceived` in
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/ProcessManagement/WorkerProcess.cs>,
/// where a custom handler has `UseStdErrorStreamForErrorsOnly`:
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/HttpWorkerDescription.cs>.
pub fn level((stream, line): &Line) -> Level {
    match stream {
        Stream::Out => Level::Information,
        Stream::Err if line.to_lowercase().contains("warn") => Level::Warning,
        Stream::Err => Level::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_decides_the_level() {
        for (stream, line, expected) in [
            (Stream::Out, "ERROR", Level::Information),
            (Stream::Out, "WARN", Level::Information),
            (Stream::Err, "INFO", Level::Error),
            (Stream::Err, "INFO: Forewarned", Level::Warning),
        ] {
            assert_eq!(level(&(stream, line.to_owned())), expected, "{stream:?} {line}");
        }
    }
}
