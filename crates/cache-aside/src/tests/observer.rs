//! What an observer is told.

use std::sync::atomic::Ordering;

use super::world::{SECOND, World, done, long_policy, until};

#[tokio::test(start_paused = true)]
async fn a_miss_a_hit_and_a_write_are_told_step_by_step() {
    let world = World::new(long_policy());
    world.a.value().await;
    let miss = ["get", "lease", "fill", "fill accepted", "read miss/stored found"];
    assert_eq!(world.a.seen.take(), miss);
    world.a.value().await;
    assert_eq!(world.a.seen.take(), ["get", "read hit found"]);
    world.a.update("new").await.unwrap();
    assert_eq!(world.a.seen.take(), ["fence", "release", "fence Released"]);
    world.a.remove().await.unwrap();
    world.a.seen.take();
    assert_eq!(world.a.get().await.unwrap().value, None);
    assert_eq!(world.a.seen.take().last().unwrap(), "read miss/stored missing");
    assert_eq!(world.a.get().await.unwrap().value, None);
    assert_eq!(world.a.seen.take(), ["get", "read hit missing"]);
    assert!(world.b.seen.take().is_empty(), "it is told of its own process only");
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_lease_of_another_process_is_told() {
    let world = World::new(long_policy());
    world.crashed_reader().await;
    world.b.value().await;
    let seen = world.b.seen.take();
    let waits: Vec<u64> = seen
        .iter()
        .filter_map(|it| it.strip_prefix("waited ")?.strip_suffix(" ms")?.parse().ok())
        .collect();
    // The pauses are 2 ms, doubled up to 512 ms: 1,022 ms in all, and each may be a millisecond longer.
    assert!(matches!(waits[..], [1022..1032]), "{waits:?}");
    assert_eq!(seen.last().unwrap(), "read Leased/not stored found");
}

#[tokio::test(start_paused = true)]
async fn readers_that_share_a_load_are_told_apart_from_the_one_that_loads() {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let leader = world.loading(&world.a).await;
    let joiner = world.a.joining().await;
    load.let_go();
    done(leader).await;
    done(joiner).await;
    let mut reads = world.a.seen.take();
    reads.retain(|it| it.starts_with("read"));
    reads.sort();
    assert_eq!(reads, ["read miss/shared found", "read miss/stored found"]);
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_the_cache_refuses_is_told() {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let read = world.loading(&world.a).await;
    world.b.update("new").await.unwrap();
    load.let_go();
    done(read).await;
    assert!(world.a.seen.take().contains(&"fill refused".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_and_a_release_that_is_overdue_are_told() {
    let world = World::new(long_policy());
    world.a.cache.is_cut.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap();
    let seen = world.a.seen.take();
    let expected = ["fence failed", "release failed", "overdue", "fence ReleaseOverdue"];
    assert_eq!(seen, expected);
    world.a.value().await;
    assert_eq!(world.a.seen.take(), ["read CacheUnavailable/not stored found"]);
    world.a.cache.is_cut.store(false, Ordering::SeqCst);
    until("the release is no longer overdue", || {
        world.a.seen.take().contains(&"no longer overdue".to_owned())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_fence_is_told() {
    let world = World::new(long_policy());
    let last = |world: &World| world.a.seen.take().pop().unwrap();
    world.a.cache.loses_fences.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap();
    assert_eq!(last(&world), "fence NotPlaced");
    world.a.cache.loses_fences.store(false, Ordering::SeqCst);
    world.store.loses_answer.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap_err();
    assert_eq!(last(&world), "fence Left");
    world.lose_key().await;
    let held = world.store.writing.hold_next();
    let update = world.a.start_update("newer");
    until("the write reaches the store", || world.store.writing.is_reached()).await;
    world.lose_key().await;
    held.let_go();
    done(update).await.unwrap();
    assert_eq!(last(&world), "fence Lost");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_and_a_stale_copy_are_told() {
    let world = World::new(long_policy());
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    world.a.get().await.unwrap_err();
    let failed = ["get", "lease", "forfeit", "read failed"];
    assert_eq!(world.a.seen.take(), failed);
    world.store.is_unreachable.store(false, Ordering::SeqCst);
    world.a.value().await;
    world.lose_key().await;
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    world.a.value().await;
    assert_eq!(world.a.seen.take().last().unwrap(), "read stale found");
}

#[tokio::test(start_paused = true)]
async fn a_local_copy_is_told_and_asks_nobody() {
    let world = World::new(long_policy().local_ttl(SECOND));
    world.a.value().await;
    world.a.seen.take();
    world.a.value().await;
    assert_eq!(world.a.seen.take(), ["read local found"]);
}

#[tokio::test(start_paused = true)]
async fn each_audit_is_told_with_what_it_found() {
    let world = World::new(long_policy());
    let audited = async || {
        let _ = world.a.audit().await;
        world.a.seen.take()
    };
    assert_eq!(audited().await, ["get", "audit Inconclusive"]);
    world.a.value().await;
    world.a.seen.take();
    assert_eq!(audited().await, ["get", "audit Agrees"]);
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    assert_eq!(audited().await, ["get", "audit failed"]);
    world.store.is_unreachable.store(false, Ordering::SeqCst);
    world.store.change_behind_our_back("changed");
    assert_eq!(audited().await, ["get", "get", "release", "audit Differs"]);
}
