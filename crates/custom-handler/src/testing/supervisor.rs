//! Starting the handler, and starting it again when it ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::app::FunctionApp;
use super::call::new_id;
use super::process::{Lines, free_port, spawn};
use crate::PORT_VARIABLE;

/// How long the host waits for the handler's first response, `initializationTimeout`:
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/Configuration/HttpWorkerOptions.cs>.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);

/// The host shuts down after this many errors of the handler, `ErrorEventsThreshold`:
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/HttpFunctionInvocationDispatcher.cs>.
const MOST_ERRORS: u32 = 3;

/// An error that occurs this long after the one before starts a new count, `AddOrUpdateErrorBucket`
/// in the same file.
const ERRORS_FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 60);

/// A handler that ends with this code has nothing more to do: it is not started again.
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/WorkerConstants.cs>.
const SUCCESS: i32 = 0;

/// A handler that ends with this code asks to be started again, which is no error. From the same
/// file.
const RESTART: i32 = 200;

/// What is known of the handler's process.
#[derive(Default)]
pub(super) struct Worker {
    /// Of the running process, once it is ready.
    pub(super) pid: Option<u32>,
    pub(super) port: u16,
    /// Of each start.
    pub(super) lines: Vec<Lines>,
    pub(super) starts: u32,
    errors: u32,
    last_error: Option<Instant>,
    /// The host has given up, or its handler has ended for good.
    pub(super) over: bool,
}

/// Starts the handler, waits for its first response, starts it again when it ends in error, and gives
/// up after too many errors.
pub(super) async fn supervise(
    app: Arc<FunctionApp>,
    settings: BTreeMap<String, String>,
    worker: Arc<Mutex<Worker>>,
) {
    // Each start gets the same port: measured.
    let port = free_port();
    loop {
        let (mut child, lines) = spawn(command(&app), &environment(&app, &settings, port));
        {
            let mut worker = worker.lock().unwrap();
            worker.lines.push(lines);
            worker.starts += 1;
            worker.port = port;
        }
        let pid = child.id();
        let ping = async {
            until_it_answers(port).await;
            worker.lock().unwrap().pid = pid;
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = child.wait() => ended.unwrap(),
            () = ping => unreachable!(),
        };
        let mut worker = worker.lock().unwrap();
        worker.pid = None;
        if !worker.starts_again(ended.code(), Instant::now()) {
            worker.over = true;
            return;
        }
    }
}

/// The working directory is the root: measured.
fn command(app: &FunctionApp) -> Command {
    let mut command = Command::new(app.executable());
    command.args(app.arguments()).current_dir(&app.root);
    command
}

/// The app settings, and the variables from
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/HttpWorkerProcess.cs>.
fn environment(
    app: &FunctionApp,
    settings: &BTreeMap<String, String>,
    port: u16,
) -> BTreeMap<String, String> {
    let mut environment = settings.clone();
    for name in [PORT_VARIABLE, "FUNCTIONS_HTTPWORKER_PORT"] {
        environment.insert(name.to_owned(), port.to_string());
    }
    environment.insert("FUNCTIONS_CUSTOMHANDLER_WORKER_ID".to_owned(), new_id());
    let root = app.root.to_string_lossy().into_owned();
    environment.insert("FUNCTIONS_APP_ROOT_PATH".to_owned(), root);
    environment
}

/// Any response, whatever its status, means that the handler is ready; a connection that is refused
/// means that it is not, `IsWorkerReady` in
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs>.
async fn until_it_answers(port: u16) {
    // No connection stays open: an idle one would be closed only by the end of the handler.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let begun = Instant::now();
    while http.get(format!("http://127.0.0.1:{port}/")).send().await.is_err() {
        assert!(begun.elapsed() < START_LIMIT, "the handler does not answer its host");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Worker {
    /// Counts an error, and decides whether the handler is started again after it has ended with this
    /// code; `None` if a signal ended it.
    ///
    /// From `OnProcessExited` in
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/ProcessManagement/WorkerProcess.cs>
    /// and the constants above.
    fn starts_again(&mut self, code: Option<i32>, now: Instant) -> bool {
        match code {
            Some(SUCCESS) => false,
            Some(RESTART) => true,
            _ => {
                let forgotten = |at: Instant| now.duration_since(at) > ERRORS_FORGOTTEN_AFTER;
                if self.last_error.is_some_and(forgotten) {
                    self.errors = 0;
                }
                self.errors += 1;
                self.last_error = Some(now);
                self.errors < MOST_ERRORS
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_error_is_the_last() {
        let (mut worker, now) = (Worker::default(), Instant::now());
        assert!(worker.starts_again(None, now));
        assert!(worker.starts_again(Some(RESTART), now));
        assert!(worker.starts_again(Some(1), now));
        assert!(worker.starts_again(Some(RESTART), now));
        assert!(!worker.starts_again(Some(101), now));
    }

    #[test]
    fn errors_are_forgotten_after_half_an_hour_without_one() {
        let (mut worker, now) = (Worker::default(), Instant::now());
        assert!(worker.starts_again(None, now));
        assert!(worker.starts_again(None, now));
        let later = now + ERRORS_FORGOTTEN_AFTER + Duration::from_secs(1);
        assert!(worker.starts_again(None, later));
        assert!(worker.starts_again(None, later));
        assert!(!worker.starts_again(None, later));
    }

    #[test]
    fn a_handler_that_ends_with_success_stays_down() {
        assert!(!Worker::default().starts_again(Some(SUCCESS), Instant::now()));
    }
}
