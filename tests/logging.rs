//! What is logged gets its level from the host, by the stream that it goes to.

mod support;

use std::collections::BTreeMap;

use support::handler::{Stream, spawn};
use support::host::{Level, level};
use tokio::process::Command;

/// Set in the process that speaks.
const SPEAK: &str = "SPEAK";

/// Not a test: what the test below starts this file's own binary for.
#[test]
fn speaker() {
    if std::env::var(SPEAK).is_err() {
        return;
    }
    cache_aside::logging::start();
    log::info!("said info\nwith a second line, and warned of nothing");
    log::warn!("said a caution\r\nwith a second line");
    log::error!("said an error, a Warning in name only\nwith a second line");
    log::debug!("said debug, which nobody asked for");
    let panicked = std::thread::spawn(|| panic!("said a panic\nthat WARNS\nof itself")).join();
    assert!(panicked.is_err());
}

#[tokio::test]
async fn each_record_is_one_line_of_the_right_level() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "speaker", "--nocapture"]);
    let (mut child, lines) = spawn(command, &BTreeMap::from([(SPEAK.to_owned(), "1".to_owned())]));
    assert!(child.wait().await.unwrap().success());
    let is_record = |line: &&(Stream, String)| line.1.contains("said");
    support::eventually(std::time::Duration::from_secs(10), "the last line", || async {
        lines.lock().unwrap().iter().any(|(_, line)| line.contains("panic"))
    })
    .await;
    let lines = lines.lock().unwrap().clone();
    let mut levels: Vec<_> = lines.iter().filter(is_record).map(level).collect();
    levels.sort_by_key(|level| format!("{level:?}"));
    let expected = [Level::Error, Level::Error, Level::Information, Level::Warning];
    assert_eq!(levels, expected, "{lines:#?}");
    for (_, line) in lines.iter().filter(is_record) {
        let rest =
            if line.contains("panic") { "that W-ARNS\\nof itself" } else { "with a second line" };
        assert!(line.contains(rest), "one record, one line: {line}");
    }
}
