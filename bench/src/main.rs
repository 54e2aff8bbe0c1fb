//! `make bench`: what the handler does and costs, measured in one run beside something comparable: its
//! peers, Redis, the table, or a constant answer. Other programs on the machine change the numbers, so
//! compare the ratios.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a measurement that cannot go on fails

mod contract;
mod counter;
mod crowd;
mod effort;
mod load;
mod machine;
mod measurements;
mod plots;
mod report;

use std::path::Path;
use std::process::{self, ExitCode};
use std::{env, fs};

use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::effort::Effort;
use crate::measurements::Measurement;
use crate::report::Report;
use test_programs::program::Program;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let is_quick = arguments.first().is_some_and(|argument| argument == "--quick");
    let effort = if is_quick { Effort::Quick } else { Effort::Full };
    arguments.drain(..usize::from(is_quick));
    let chosen = match (effort, &arguments[..]) {
        (Effort::Full, []) => Measurement::ALL.to_vec(),
        (Effort::Quick, []) => vec![Measurement::Hits],
        (_, names) => names.iter().map(|name| named(name)).collect(),
    };
    tokio::select! {
        () = make(&chosen, effort) => ExitCode::SUCCESS,
        // Whatever it has started ends with it.
        signal = ended() => {
            eprintln!("ended by {signal}");
            ExitCode::FAILURE
        }
    }
}

async fn make(chosen: &[Measurement], effort: Effort) {
    let mut report = Report::new();
    let is_measured = |program: &Program| {
        chosen.iter().any(|measurement| measurement.programs().contains(program))
    };
    let peers = Program::PEERS.into_iter().filter(is_measured);
    contract::check(&peers.collect::<Vec<_>>()).await;
    for measurement in chosen {
        measurement.make(effort, &mut report).await;
    }
    report.summarise();
    let is_complete = effort == Effort::Full && chosen == Measurement::ALL;
    write(&report, is_complete);
}

/// Waits for a signal to end.
async fn ended() -> &'static str {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler of signals");
    tokio::select! {
        _ = ctrl_c() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
    }
}

fn named(name: &str) -> Measurement {
    Measurement::named(name).unwrap_or_else(|| {
        let all = Measurement::ALL.map(Measurement::name).join(", ");
        eprintln!("{name} is not a measurement: choose from {all}");
        process::exit(2)
    })
}

/// Writes the results and the plots: those of a complete run where the README shows them, and others
/// where they replace nothing.
fn write(report: &Report, is_complete: bool) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = if is_complete { package } else { &package.join("../target/bench") };
    fs::create_dir_all(folder.join("plots")).expect("a folder for the results");
    let json = report.json().expect("figures that can be written as JSON");
    fs::write(folder.join("results.json"), json).expect("bench/results.json");
    plots::draw(report.figures(), &folder.join("plots"));
    let folder = if is_complete { "bench" } else { "target/bench" };
    eprintln!("written: {folder}/results.json, {folder}/plots");
}
