//! Audits: what they find, and what they must not mistake for a finding.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::world::{
    Process, SECOND, StoreError, World, done, is_hit, is_local, long_policy, until,
};
use crate::{Audit, Slot};

#[tokio::test(start_paused = true)]
async fn a_cached_value_that_the_store_has_too_agrees() {
    let world = World::new(long_policy());
    assert_eq!(world.a.audit().await, Ok(Audit::Inconclusive), "nothing is cached");
    world.a.value().await;
    assert_eq!(world.b.audit().await, Ok(Audit::Agrees));
    world.a.remove().await.unwrap();
    assert_eq!(world.a.get().await.unwrap().value, None);
    assert_eq!(world.b.audit().await, Ok(Audit::Agrees), "neither has a value");
    assert!(is_hit(world.a.get().await.unwrap().source), "it is still cached");
}

#[tokio::test(start_paused = true)]
async fn a_change_by_another_program_is_found_and_the_entry_removed() {
    let world = World::new(long_policy().local_ttl(SECOND));
    world.a.value().await;
    assert!(is_local(world.a.read().await.1));
    world.store.change_behind_our_back("changed");
    assert_eq!(world.a.audit().await, Ok(Audit::Differs));
    assert_eq!(world.slot().await, Slot::Nothing);
    assert_eq!(world.a.value().await, "changed", "its own copy is gone, too");
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_was_rolled_back_is_found() {
    let world = World::new(long_policy());
    world.a.value().await;
    let before = world.slot().await;
    world.a.update("new").await.unwrap();
    world.restore(before).await;
    assert_eq!(world.b.value().await, "old");
    assert_eq!(world.b.audit().await, Ok(Audit::Differs));
    assert_eq!(world.b.value().await, "new");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_could_not_reach_the_cache_is_found() {
    let world = World::new(long_policy());
    world.b.value().await;
    world.a.cache.is_cut.store(true, Ordering::SeqCst);
    world.a.cache.loses_releases.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap();
    assert_eq!(world.b.audit().await, Ok(Audit::Differs));
    assert_eq!(world.b.value().await, "new");
}

#[tokio::test(start_paused = true)]
async fn a_write_during_an_audit_is_not_a_finding() {
    // The load of the audit returns the value from before the write, or that from after it.
    for (hold_load, value) in [(true, "old"), (false, "new")] {
        let world = World::new(long_policy());
        world.a.value().await;
        let (load, got) = (world.store.loading.hold_next(), world.a.cache.got.hold_next());
        let audit = world.a.start_audit();
        until("it has read the entry", || world.a.cache.got.is_reached()).await;
        if hold_load {
            got.let_go();
            until("it loads", || world.store.loading.is_reached()).await;
        }
        world.b.update("new").await.unwrap();
        got.let_go();
        load.let_go();
        // With the old value the audit has seen what was right then.
        let expected = if value == "old" { Audit::Agrees } else { Audit::Inconclusive };
        assert_eq!(done(audit).await, Ok(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn an_audit_whose_load_fails_changes_nothing() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    assert_eq!(world.a.audit().await, Err(StoreError::Unreachable));
    assert!(is_hit(world.a.read().await.1));
}

/// Readers, writers and audits of two processes, which pause at random.
#[tokio::test(start_paused = true)]
async fn ordinary_reads_and_writes_cause_no_findings() {
    let world = World::new(long_policy().ttl(SECOND).negative_ttl(SECOND).local_ttl(SECOND / 100));
    world.store.longest_pause.store(20, Ordering::SeqCst);
    let ends = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for process in [&world.a, &world.b, &world.a, &world.b] {
        let (process, ends) = (Arc::clone(process), Arc::clone(&ends));
        tasks.push(tokio::spawn(async move {
            let mut agrees = 0;
            while !ends.load(Ordering::SeqCst) {
                agrees += work(&process).await;
            }
            agrees
        }));
    }
    sleep(600 * SECOND).await;
    ends.store(true, Ordering::SeqCst);
    let mut agrees = 0;
    for task in tasks {
        agrees += done(task).await;
    }
    assert!(agrees > 1000, "{agrees} audits found an entry");
}

/// A write now and then, a read, and an audit. Returns whether the audit found that both agree.
async fn work(process: &Process) -> usize {
    if rand::random_ratio(1, 10) {
        process.update(&format!("{}", rand::random::<u32>())).await.unwrap();
    }
    process.get().await.unwrap();
    sleep(Duration::from_millis(rand::random_range(0..20))).await;
    let audit = process.audit().await;
    assert_ne!(audit, Ok(Audit::Differs));
    usize::from(audit == Ok(Audit::Agrees))
}
