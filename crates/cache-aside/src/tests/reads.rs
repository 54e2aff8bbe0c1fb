//! Reads: leases, fences of other processes, and shared loads.

use std::sync::atomic::Ordering;

use super::world::{KEY, SECOND, World, done, is_hit, loaded, long_policy, until};
use crate::{Because, Load, Slot};

#[tokio::test(start_paused = true)]
async fn the_first_read_loads_and_the_second_is_a_hit() {
    let world = World::new(long_policy());
    assert_eq!(world.a.read().await, ("old".into(), loaded(Because::NotCached, Load::Stored)));
    assert!(is_hit(world.b.read().await.1));
    assert_eq!(world.store.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_the_lease_of_another_process() {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let first = world.loading(&world.a).await;
    let second = world.b.start_read();
    world.b.waits_for_lease().await;
    load.let_go();
    assert_eq!(done(first).await.source, loaded(Because::NotCached, Load::Stored));
    assert!(is_hit(done(second).await.source));
    assert_eq!(world.store.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn readers_of_one_process_wait_together_for_the_lease_of_another() {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let first = world.loading(&world.b).await;
    let leader = world.a.start_read();
    world.a.waits_for_lease().await;
    let looks_before = world.a.cache.gets.load(Ordering::SeqCst);
    let joiners = [world.a.joining().await, world.a.joining().await];
    load.let_go();
    for read in joiners.into_iter().chain([first, leader]) {
        assert_eq!(done(read).await.value.as_deref(), Some("old"));
    }
    let looks = world.a.cache.gets.load(Ordering::SeqCst) - looks_before;
    assert_eq!(looks, 3, "each joiner looked once, and the leader once more");
}

#[tokio::test(start_paused = true)]
async fn a_reader_does_not_wait_long_for_a_lease_and_then_does_not_fill() {
    let world = World::new(long_policy());
    world.crashed_reader().await;
    let start = tokio::time::Instant::now();
    assert_eq!(world.b.read().await, ("old".into(), loaded(Because::Leased, Load::NotStored)));
    assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
    assert!(matches!(world.slot().await, Slot::Lease(_)));
}

/// A look changes nothing, and costs the cache less.
#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_for_a_lease_looks_without_requesting_it() {
    let world = World::new(long_policy());
    world.crashed_reader().await;
    world.a.value().await;
    assert_eq!(world.a.cache.gets.load(Ordering::SeqCst), 1 + 9, "it looks after each pause");
    assert_eq!(world.a.cache.leases.lock().unwrap().len(), 1);
}

/// A lease request that was sent before may still execute, after a write, and would then allow its
/// old load to be filled.
#[tokio::test(start_paused = true)]
async fn no_lease_is_requested_twice_with_the_same_token() {
    let world = World::new(long_policy());
    world.crashed_reader().await;
    let read = world.a.start_read();
    world.a.waits_for_lease().await;
    for _ in 0..2 {
        // The lease ends, and another reader takes it before the next request arrives.
        let request = world.a.cache.leasing.hold_next();
        world.lose_key().await;
        until("it requests the lease", || world.a.cache.leasing.is_reached()).await;
        world.crashed_reader().await;
        request.let_go();
        let looks = world.a.cache.gets.load(Ordering::SeqCst);
        until("it looks", || world.a.cache.gets.load(Ordering::SeqCst) > looks).await;
    }
    assert_eq!(done(read).await.source, loaded(Because::Leased, Load::NotStored));
    let tokens = world.a.cache.leases.lock().unwrap().clone();
    assert_eq!(tokens.len(), 3);
    for (at, token) in tokens.iter().enumerate() {
        assert!(!tokens[..at].contains(token), "{tokens:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_finds_a_fence_loads_and_does_not_fill() {
    let world = World::new(long_policy());
    let writer = world.other_writer().await;
    for _ in 0..2 {
        assert_eq!(world.a.read().await.1, loaded(Because::Fenced, Load::NotStored));
    }
    world.release(writer).await;
    assert_eq!(world.a.read().await.1, loaded(Because::NotCached, Load::Stored));
}

#[tokio::test(start_paused = true)]
async fn a_reader_overtaken_by_a_write_does_not_fill_the_old_value() {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let slow = world.loading(&world.a).await; // it has read "old" and holds the lease
    world.b.update("new").await.unwrap();
    load.let_go();
    let slow = done(slow).await;
    assert_eq!(slow.value.as_deref(), Some("old"));
    assert_eq!(slow.source, loaded(Because::NotCached, Load::NotStored));
    for process in [&world.a, &world.b] {
        assert_eq!(process.value().await, "new");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_reads_in_two_processes_causes_one_load() {
    let world = World::new(long_policy());
    let process = |n| if n % 2 == 0 { &world.a } else { &world.b };
    let reads: Vec<_> = (0..100).map(|n| process(n).start_read()).collect();
    for read in reads {
        assert_eq!(done(read).await.value.as_deref(), Some("old"));
    }
    assert_eq!(world.store.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn readers_of_one_process_share_a_load_that_was_cached() {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let first = world.loading(&world.a).await;
    let late = world.a.joining().await;
    load.let_go();
    assert_eq!(done(first).await.source, loaded(Because::NotCached, Load::Stored));
    assert_eq!(done(late).await.source, loaded(Because::NotCached, Load::Shared));
    assert_eq!(world.store.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_past_the_cache_takes_no_longer_than_its_load() {
    let world = World::new(long_policy());
    world.a.cache.is_cut.store(true, Ordering::SeqCst);
    let start = tokio::time::Instant::now();
    assert_eq!(world.a.read().await.1, loaded(Because::CacheUnavailable, Load::NotStored));
    let writer = world.other_writer().await;
    assert_eq!(world.b.read().await.1, loaded(Because::Fenced, Load::NotStored));
    world.release(writer).await;
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);
}

/// Nothing is cached, so readers that joined late start again together, and share one load.
#[tokio::test(start_paused = true)]
async fn a_burst_of_reads_past_the_cache_causes_few_loads() {
    let world = World::new(long_policy());
    world.a.cache.is_cut.store(true, Ordering::SeqCst);
    let load = world.store.loading.hold_next();
    let first = world.loading(&world.a).await;
    let mut late = Vec::new();
    for _ in 0..100 {
        late.push(world.a.joining().await);
    }
    load.let_go();
    done(first).await;
    for read in late {
        assert_eq!(done(read).await.value.as_deref(), Some("old"));
    }
    assert_eq!(world.store.loads(), 2, "one for the first reader, one for the 100 others");
}

/// The reader's process has a load in progress that began before the write.
#[tokio::test(start_paused = true)]
async fn a_read_that_begins_after_a_write_does_not_share_a_load_from_before_it() {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let slow = world.loading(&world.a).await;
    world.b.update("new").await.unwrap();
    let after = world.a.joining().await;
    load.let_go();
    assert_eq!(done(slow).await.value.as_deref(), Some("old"));
    assert_eq!(done(after).await.value.as_deref(), Some("new"));
}

/// The cache has accepted the fill, and a write has begun and completed before the reader learns
/// that it was accepted.
#[tokio::test(start_paused = true)]
async fn a_read_that_begins_after_the_fill_was_sent_does_not_share_the_load() {
    let world = World::new(long_policy());
    let fill = world.a.cache.filled.hold_next();
    let slow = world.a.start_read();
    until("the fill is executed", || world.a.cache.filled.is_reached()).await;
    world.b.update("new").await.unwrap();
    let after = world.a.start_read();
    until("the later read has joined or finished", || after.is_finished() || world.a.joiners() > 0)
        .await;
    fill.let_go();
    assert_eq!(done(slow).await.value.as_deref(), Some("old"));
    assert_eq!(done(after).await.value.as_deref(), Some("new"));
}

/// The lease request finds the entry of another process, and a write has begun and completed before
/// its answer arrives.
#[tokio::test(start_paused = true)]
async fn a_read_that_begins_after_the_lease_was_requested_does_not_share_the_entry_it_found() {
    let world = World::new(long_policy());
    let request = world.a.cache.leasing.hold_next();
    let slow = world.a.start_read();
    until("it requests the lease", || world.a.cache.leasing.is_reached()).await;
    world.b.value().await; // fills "old"
    let answer = world.a.cache.leased.hold_next();
    request.let_go();
    until("the request is executed", || world.a.cache.leased.is_reached()).await;
    world.b.update("new").await.unwrap();
    let after = world.a.joining().await;
    answer.let_go();
    let slow = done(slow).await;
    assert_eq!((slow.value.as_deref(), is_hit(slow.source)), (Some("old"), true));
    assert_eq!(done(after).await.value.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn joiners_load_for_themselves_when_their_leader_is_dropped() {
    let world = World::new(long_policy());
    let _never = world.store.loading.hold_next();
    let leader = world.loading(&world.a).await;
    let joiner = world.a.joining().await;
    leader.abort();
    assert_eq!(done(joiner).await.value.as_deref(), Some("old"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_forfeits_its_lease() {
    let world = World::new(long_policy());
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    assert!(world.a.get().await.is_err());
    assert_eq!(world.slot().await, Slot::Nothing);
}

#[tokio::test(start_paused = true)]
async fn what_another_program_wrote_is_removed_and_the_value_is_cached() {
    let world = World::new(long_policy());
    world.a.cache.is_foreign.store(true, Ordering::SeqCst);
    assert_eq!(world.a.read().await, ("old".into(), loaded(Because::NotCached, Load::Stored)));
    assert!(is_hit(world.a.read().await.1));
}

#[tokio::test(start_paused = true)]
async fn not_found_is_cached_until_someone_writes() {
    let world = World::new(long_policy());
    world.a.remove().await.unwrap();
    assert_eq!(world.a.get().await.unwrap().source, loaded(Because::NotCached, Load::Stored));
    let again = world.b.get().await.unwrap();
    assert!(again.value.is_none() && is_hit(again.source), "{again:?}");
    world.b.update("new").await.unwrap();
    assert_eq!(world.a.value().await, "new");
}

#[tokio::test(start_paused = true)]
async fn not_found_is_not_cached_with_a_negative_ttl_of_zero() {
    let world = World::new(long_policy().negative_ttl(std::time::Duration::ZERO));
    world.a.remove().await.unwrap();
    for _ in 0..2 {
        let read = world.a.get().await.unwrap();
        assert_eq!(read.source, loaded(Because::NotCached, Load::NotStored));
        assert_eq!(world.slot().await, Slot::Nothing);
    }
}

#[tokio::test(start_paused = true)]
async fn entries_that_are_stored_together_do_not_expire_together() {
    let world = World::new(long_policy());
    for key in KEY..KEY + 30 {
        world.a.get_key(key).await.unwrap();
    }
    let ttls = world.a.cache.fills.lock().unwrap().clone();
    let (shortest, longest) = (*ttls.iter().min().unwrap(), *ttls.iter().max().unwrap());
    assert!(shortest > 53 * SECOND && longest <= 60 * SECOND, "60 s less up to 10 %: {ttls:?}");
    assert!(longest - shortest > SECOND, "spread over 6 s: {ttls:?}");
}
