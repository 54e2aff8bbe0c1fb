//! What is printed of a run, and what is saved.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::history::{Operation, Value};
use crate::run::{Outcome, Plan, moment};

/// The first line of a saved history; each of the others is an operation.
#[derive(Serialize)]
struct Head<'a> {
    run: &'a str,
    seed: u64,
    guarantee: String,
    user: &'a str,
    initial: Value,
}

/// With commas: `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A run and what came of it, in a few lines.
pub fn describe(plan: &Plan, outcome: &Outcome) -> String {
    let mut text = format!("{} (seed {}): {}\n", plan.name(), plan.seed, outcome.guarantee);
    let seconds = outcome.lasted.as_secs_f64();
    let figures: Vec<_> = outcome
        .figures
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(name, number)| format!("{} {name}", grouped(*number)))
        .collect();
    let operations = grouped(outcome.operations);
    // Writing to a String does not fail.
    let _ = writeln!(text, "  {operations} operations in {seconds:.1} s: {}", figures.join(", "));
    let faults: Vec<_> =
        outcome.faults.iter().map(|(name, number)| format!("{number} {name}")).collect();
    let number: usize = outcome.faults.values().sum();
    if number > 0 {
        let _ = writeln!(text, "  {number} faults: {}", faults.join(", "));
    }
    if let Some((first, last)) = outcome.footprints {
        let _ = writeln!(
            text,
            "  handler 0: {:.0} MB and {} sockets at first, {:.0} MB and {} in the end",
            first.memory, first.sockets, last.memory, last.sockets
        );
    }
    for failure in outcome.failures.iter().take(5) {
        let _ = writeln!(text, "  FAILED: {failure}");
    }
    if outcome.failures.len() > 5 {
        let _ = writeln!(text, "  and {} more failures", outcome.failures.len() - 5);
    }
    if let Some((user, contradiction, _)) = outcome.contradictions.first() {
        let number = outcome.contradictions.len();
        let _ = writeln!(
            text,
            "  DOES NOT HOLD for {number} user{}; the shortest contradiction, complete after {:.3} s, of user {user}:",
            if number == 1 { "" } else { "s" },
            moment(contradiction).0 as f64 / 1e9
        );
        for line in contradiction.to_string().lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    if outcome.holds() {
        text.push_str("  holds\n");
    }
    text
}

/// Saves the history with the shortest contradiction, and the operations that contradict each other, as
/// JSON, one a line. Returns where; `None` if there is no contradiction.
///
/// # Errors
/// The files cannot be written.
pub fn save(plan: &Plan, outcome: &Outcome, folder: &Path) -> io::Result<Option<[PathBuf; 2]>> {
    let Some((user, contradiction, history)) = outcome.contradictions.first() else {
        return Ok(None);
    };
    std::fs::create_dir_all(folder)?;
    let name = plan.name();
    let guarantee = outcome.guarantee.to_string();
    let head = Head { run: &name, seed: plan.seed, guarantee, user, initial: history.initial };
    let file = |suffix: &str| folder.join(format!("{name}-{}{suffix}.jsonl", plan.seed));
    let files = [file(""), file("-contradiction")];
    let mut all = history.operations.clone();
    all.sort_by_key(|operation| (operation.start, operation.end));
    std::fs::write(&files[0], lines(&head, &all)?)?;
    std::fs::write(&files[1], lines(&head, &contradiction.operations)?)?;
    Ok(Some(files))
}

fn lines(head: &Head<'_>, operations: &[Operation]) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(head)? + "\n";
    for operation in operations {
        text.push_str(&serde_json::to_string(operation)?);
        text.push('\n');
    }
    Ok(text)
}
