//! Log records on the streams of a process, and the levels that the host gives them.

use std::collections::BTreeMap;
use std::time::Duration;

use custom_handler::logging::Logging;
use custom_handler::testing::{Level, Line, eventually, level, spawn};
use tokio::process::Command;

use crate::support::SOON;

/// Set in the process that logs.
const SPEAK: &str = "SPEAK";

/// Not a test: the tests below start this test binary for it.
#[test]
fn speaker() {
    if std::env::var(SPEAK).is_err() {
        return;
    }
    Logging::new()
        .default_filter("info,quiet=off")
        .exclude(|record| record.target() == "secret" && record.level() > log::Level::Warn)
        .exclude(|record| record.target() == "worse")
        .start();
    log::info!("said info\nwith a second line, and warned of nothing");
    log::warn!("said a caution\r\nwith a second line");
    log::error!("said an error, a Warning in name only\nwith a second line");
    log::debug!("said debug");
    log::error!(target: "quiet", "said what the filter drops");
    log::info!(target: "secret", "said a password");
    log::warn!(target: "secret", "said a secret's warning\nwith a second line");
    log::error!(target: "worse", "said another password");
    assert!(!log::log_enabled!(target: "secret", log::Level::Info));
    let panicked = std::thread::spawn(|| panic!("said a panic\nthat WARNS\nof itself")).join();
    assert!(panicked.is_err());
}

/// Not a test: a fault that lasts for longer than an interval of folding.
#[test]
fn repeater() {
    if std::env::var(SPEAK).is_err() {
        return;
    }
    Logging::new().start();
    let begun = std::time::Instant::now();
    for repetition in 0.. {
        log::warn!("said a caution {repetition}");
        log::info!("said info {repetition}");
        if begun.elapsed() > Duration::from_secs(7) {
            log::logger().flush();
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    log::error!("said the last words");
}

async fn spoken(variables: &[(&str, &str)]) -> Vec<Line> {
    spoken_by("logging::speaker", "said a panic", variables).await
}

/// The lines of a program that logs, of which this is the last one of its stderr.
async fn spoken_by(program: &str, last: &str, variables: &[(&str, &str)]) -> Vec<Line> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", program, "--nocapture"]);
    let mut environment = BTreeMap::from([(SPEAK.to_owned(), "1".to_owned())]);
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    environment.extend(variables.iter().map(owned));
    let (mut child, lines) = spawn(command, &environment);
    assert!(child.wait().await.unwrap().success(), "{lines:#?}");
    let has = |text: &str| lines.lock().unwrap().iter().any(|(_, line)| line.contains(text));
    eventually(SOON, "the last lines", async || has(last) && has("test result")).await;
    let lines = lines.lock().unwrap();
    lines.iter().filter(|(_, line)| line.contains("said")).cloned().collect()
}

#[tokio::test]
async fn each_record_is_one_line_at_its_level() {
    let lines = spoken(&[]).await;
    let level_of = |text: &str| {
        let found: Vec<_> = lines.iter().filter(|(_, line)| line.contains(text)).collect();
        assert_eq!(found.len(), 1, "{text}: {lines:#?}");
        level(found[0])
    };
    assert_eq!(level_of("said info"), Level::Information);
    assert_eq!(level_of("said a caution"), Level::Warning);
    assert_eq!(level_of("said an error"), Level::Error);
    assert_eq!(level_of("said a secret's warning"), Level::Warning);
    assert_eq!(level_of("said a panic"), Level::Error);
    assert_eq!(lines.len(), 5, "{lines:#?}");
    for (_, line) in &lines {
        let rest =
            if line.contains("panic") { "that W-ARNS\\nof itself" } else { "with a second line" };
        assert!(line.contains(rest), "one record, one line: {line}");
    }
}

#[tokio::test]
async fn the_variable_replaces_the_filter_but_what_is_excluded_stays_out() {
    let lines = spoken(&[("RUST_LOG", "trace")]).await;
    let has = |text: &str| lines.iter().any(|(_, line)| line.contains(text));
    assert!(has("said debug") && has("said what the filter drops"), "{lines:#?}");
    assert!(!has("password"), "{lines:#?}");
}

/// Core Tools writes the time before each line of a handler, and a container's host does not.
#[tokio::test]
async fn a_line_has_one_time() {
    let starts_with_time = |(_, line): &Line| line.as_bytes()[..4].iter().all(u8::is_ascii_digit);
    assert!(spoken(&[]).await.iter().all(starts_with_time));
    let lines = spoken(&[("FUNCTIONS_CORETOOLS_ENVIRONMENT", "true")]).await;
    let levels = ["INFO ", "WARN ", "ERROR"];
    assert!(lines.iter().all(|(_, line)| levels.contains(&&line[..5])), "{lines:#?}");
}

#[tokio::test]
async fn warnings_that_are_repeated_are_folded_and_counted() {
    let lines = spoken_by("logging::repeater", "said the last words", &[]).await;
    let texts = |part: &str| -> Vec<&str> {
        let texts = lines.iter().map(|(_, line)| line.as_str());
        texts.filter(|line| line.contains(part)).collect()
    };
    let (cautions, said) = (texts("said a caution"), texts("said info").len());
    assert_eq!(cautions.len(), 3, "the first, and those of two intervals: {cautions:#?}");
    assert!(cautions[0].ends_with("said a caution 0"), "{cautions:#?}");
    let folded = |line: &str| -> usize {
        let (_, count) = line.split_once("(the last of ").expect("it is folded");
        count.split(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(1 + folded(cautions[1]) + folded(cautions[2]), said, "none is lost: {cautions:#?}");
    assert!(cautions[2].contains(&format!("said a caution {}", said - 1)), "{cautions:#?}");
}
