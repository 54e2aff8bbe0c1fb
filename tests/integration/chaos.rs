//! `make chaos` for a moment: what it breaks and what it checks are in the package `chaos`.

use std::path::Path;
use std::time::Duration;

use chaos::regime::Regime;
use chaos::report::{describe, save};
use chaos::run::Plan;
use chaos::weakened::Weakening;
use test_programs::program::Program;

/// On any machine, since a run ends with its number of operations and faults, or with what it catches.
const LONG: Duration = Duration::from_secs(120);

fn plan(regime: Regime, with_copies: bool) -> Plan {
    Plan {
        regime,
        with_copies,
        program: Program::Handler,
        executable: Some(env!("CARGO_BIN_EXE_handler").into()),
        weakening: None,
        seed: rand::random_range(1..1_000_000),
        time: LONG,
        enough: Some((8_000, 8)),
        until_contradiction: false,
        shows_progress: false,
    }
}

async fn holds(regime: &str, with_copies: bool) {
    let plan = plan(Regime::named(regime).unwrap(), with_copies);
    let outcome = plan.run().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/chaos");
    save(&plan, &outcome, &folder).unwrap();
    let description = describe(&plan, &outcome);
    println!("{description}");
    assert!(outcome.holds(), "{description}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_linearizable_while_handlers_are_killed_and_the_table_fails() {
    holds("crashes", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_local_copies_are_linearizable_while_handlers_are_killed_and_the_table_fails() {
    holds("crashes", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_see_every_answered_write_while_redis_loses_keys() {
    holds("losses", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_too_old_while_redis_is_killed_hung_and_cut_off() {
    holds("outages", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_too_old_while_a_cluster_fails_over() {
    holds("failovers", true).await;
}

/// Those that show within seconds. `make chaos` has the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_the_protocol_that_is_left_out_is_noticed() {
    for weakening in [
        Weakening::NoFence,
        Weakening::FillWithoutLease,
        Weakening::ReleaseKeepsEntries,
        Weakening::NoWaitForCopies,
        Weakening::LostFenceIsNotNoticed,
    ] {
        let (regime, with_copies) = weakening.regime();
        let plan = plan(regime, with_copies);
        let plan =
            Plan { weakening: Some(weakening), enough: None, until_contradiction: true, ..plan };
        let outcome = plan.run().await;
        assert!(!outcome.contradictions.is_empty(), "not noticed: {}", weakening.what());
    }
}
