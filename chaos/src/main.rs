//! `make chaos`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a run that cannot go on fails

use std::path::Path;
use std::process::{self, ExitCode};
use std::time::Duration;

use chaos::regime::Regime;
use chaos::report;
use chaos::run::Plan;
use chaos::weakened::Weakening;
use test_programs::program::Program;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

/// How long a run may take in which something must be caught.
const CAUGHT_WITHIN: Duration = Duration::from_secs(180);

const USAGE: &str = "\
usage: chaos [--seconds N] [--seed N] [--only NAME] [--program NAME]
  --seconds N     how long the traffic of all regimes lasts together, 600 by default
  --seed N        determines the faults and what clients send, but not when exactly; random by default
  --only NAME     one regime: crashes, losses, outages, failovers; or weakened, the rules that are left out;
                  or one of those by its number: rule-4
  --program NAME  plain cache-aside instead of the handler: axum, node or python, without faults, until it is
                  caught";

/// What was asked for.
struct Options {
    seconds: u64,
    seed: u64,
    only: Option<String>,
    program: Program,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::read(std::env::args().skip(1));
    let Some(options) = options else {
        eprintln!("{USAGE}");
        process::exit(2);
    };
    tokio::select! {
        all_held = run(&options) => if all_held { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        // Whatever it has started ends with it.
        signal = ended() => {
            eprintln!("ended by {signal}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    /// `None` if something is not allowed.
    fn read(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self {
            seconds: 600,
            seed: rand::random_range(1..1_000_000),
            only: None,
            program: Program::Handler,
        };
        while let Some(option) = arguments.next() {
            let value = arguments.next()?;
            match option.as_str() {
                "--seconds" => options.seconds = value.parse().ok()?,
                "--seed" => options.seed = value.parse().ok()?,
                "--only" => options.only = Some(value),
                "--program" => {
                    let name = value.to_lowercase();
                    let named = |it: &Program| it.name().to_lowercase().starts_with(&name);
                    options.program = Program::ALL.into_iter().find(named)?;
                }
                _ => return None,
            }
        }
        let plans = options.plans();
        (!plans.is_empty()).then_some(options)
    }

    fn plan(&self, regime: Regime, with_copies: bool) -> Plan {
        Plan {
            regime,
            with_copies,
            program: self.program,
            executable: None,
            weakening: None,
            seed: self.seed,
            time: CAUGHT_WITHIN,
            enough: None,
            until_contradiction: true,
            shows_progress: true,
        }
    }

    /// What to run, and how each must end.
    fn plans(&self) -> Vec<Plan> {
        if self.program != Program::Handler {
            return vec![self.plan(Regime::ALL[0].clone(), false)];
        }
        let is_chosen = |name: &str| self.only.as_deref().is_none_or(|only| only == name);
        let regimes: Vec<_> = Regime::ALL.into_iter().filter(|it| is_chosen(it.name)).collect();
        let shares: u32 = regimes.iter().map(|regime| 2 * regime.share).sum();
        let mut plans = Vec::new();
        for with_copies in [false, true] {
            for regime in &regimes {
                let time = Duration::from_secs(self.seconds) * regime.share / shares;
                let plan = self.plan(regime.clone(), with_copies);
                plans.push(Plan { time, until_contradiction: false, ..plan });
            }
        }
        for weakening in Weakening::ALL {
            if is_chosen("weakened") || is_chosen(&format!("rule-{}", weakening.number())) {
                let (regime, with_copies) = weakening.regime();
                plans.push(Plan { weakening: Some(weakening), ..self.plan(regime, with_copies) });
            }
        }
        plans
    }
}

/// Returns whether everything held, and what was left out was caught.
async fn run(options: &Options) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/chaos");
    println!("seed {}", options.seed);
    let (mut all_held, mut operations, mut faults) = (true, 0, 0);
    let plans = options.plans();
    for (nth, plan) in plans.iter().enumerate() {
        eprintln!("{} of {}: {}, {}", nth + 1, plans.len(), plan.name(), says(plan));
        let outcome = plan.run().await;
        print!("{}", report::describe(plan, &outcome));
        let is_weakened = plan.weakening.is_some();
        let is_caught = !outcome.contradictions.is_empty();
        if is_weakened {
            println!("  {}", if is_caught { "caught" } else { "NOT CAUGHT" });
            all_held &= is_caught;
            continue;
        }
        all_held &= outcome.holds();
        operations += outcome.operations;
        faults += outcome.faults.values().sum::<usize>();
        if let Some(files) = report::save(plan, &outcome, &folder).expect("a file of the history") {
            println!("  saved: target/chaos/{}", files.map(file_name).join(" and "));
        }
    }
    println!(
        "{operations} operations, {faults} faults: {}",
        match all_held {
            true => "everything holds",
            false => "NOT everything holds",
        }
    );
    all_held
}

fn says(plan: &Plan) -> String {
    match (plan.weakening, plan.program) {
        (Some(weakening), _) => format!("{}; must be caught", weakening.what()),
        (None, Program::Handler) => plan.regime.what.to_owned(),
        (None, _) => "plain cache-aside in two processes on one Redis".to_owned(),
    }
}

fn file_name(path: std::path::PathBuf) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Waits for a signal to end.
async fn ended() -> &'static str {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler of signals");
    tokio::select! {
        _ = ctrl_c() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
    }
}
