//! The cache or the store cannot be reached: overdue releases and stale copies.

use std::sync::atomic::Ordering;

use tokio::time::sleep;

use super::world::{SECOND, StoreError, World, done, is_hit, loaded, long_policy, until};
use crate::{Because, Load, Source};

#[tokio::test(start_paused = true)]
async fn a_writer_that_cannot_reach_the_cache_releases_as_soon_as_it_can() {
    let world = World::new(long_policy());
    assert_eq!(world.b.value().await, "old");
    world.a.cache.is_cut.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap();
    assert_eq!(world.b.value().await, "old", "allowed until the release arrives");
    let expected = ("new".into(), loaded(Because::CacheUnavailable, Load::NotStored));
    assert_eq!(world.a.read().await, expected);

    world.a.cache.is_cut.store(false, Ordering::SeqCst);
    sleep(SECOND).await; // the longest pause between two attempts
    assert_eq!(world.b.value().await, "new");
    assert_eq!(world.a.cache.fences(), 1, "the fence is not tried again");
}

/// The connection works again, but the release has not been tried again yet.
#[tokio::test(start_paused = true)]
async fn a_process_does_not_use_an_entry_that_it_still_has_to_release() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.a.cache.is_cut.store(true, Ordering::SeqCst);
    world.a.cache.loses_releases.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap();
    world.a.cache.is_cut.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        let expected = ("new".into(), loaded(Because::CacheUnavailable, Load::NotStored));
        assert_eq!(world.a.read().await, expected);
    }
    world.a.cache.loses_releases.store(false, Ordering::SeqCst);
    sleep(SECOND).await;
    assert_eq!(world.a.value().await, "new");
    assert!(is_hit(world.a.read().await.1));
}

/// The outcome of the write is unknown, and neither of its fences reached the cache.
#[tokio::test(start_paused = true)]
async fn a_process_does_not_use_an_entry_from_before_a_write_with_an_unknown_outcome() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.a.cache.is_cut.store(true, Ordering::SeqCst);
    world.a.cache.loses_releases.store(true, Ordering::SeqCst);
    world.store.loses_answer.store(true, Ordering::SeqCst);
    assert_eq!(world.a.update("new").await, Err(StoreError::TimedOut));
    world.a.cache.is_cut.store(false, Ordering::SeqCst);
    let expected = ("new".into(), loaded(Because::CacheUnavailable, Load::NotStored));
    assert_eq!(world.a.read().await, expected);
    world.a.cache.loses_releases.store(false, Ordering::SeqCst);
    sleep(SECOND).await;
    assert_eq!(world.b.value().await, "new", "the release has removed the old entry");
}

/// The first fence was placed, and the second one was not: the first one must last until it expires.
#[tokio::test(start_paused = true)]
async fn a_write_with_an_unknown_outcome_stays_in_the_fence_that_was_placed() {
    let world = World::new(long_policy());
    let write = world.store.writing.hold_next();
    world.store.loses_answer.store(true, Ordering::SeqCst);
    let writer = world.a.start_update("new");
    until("the write reaches the store", || world.store.writing.is_reached()).await;
    world.a.cache.loses_fences.store(true, Ordering::SeqCst);
    write.let_go();
    assert_eq!(done(writer).await, Err(StoreError::TimedOut));
    assert!(world.is_fenced().await);
    sleep(39 * SECOND).await;
    assert!(world.is_fenced().await, "its 40 s count from the first fence");
}

#[tokio::test(start_paused = true)]
async fn an_overdue_release_is_given_up_when_no_old_entry_can_be_left() {
    let world = World::new(long_policy());
    world.a.cache.loses_releases.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap();
    sleep(89 * SECOND).await; // the lease's TTL and the entry's are 90 s together
    assert_eq!(world.a.read().await.1, loaded(Because::CacheUnavailable, Load::NotStored));
    sleep(2 * SECOND).await;
    assert_eq!(world.a.read().await.1, loaded(Because::NotCached, Load::Stored));
}

/// The write's fence and release are lost while an older read of the same process has sent its load.
/// The fill of that read is accepted, and still a read that begins after the write must not share it.
#[tokio::test(start_paused = true)]
async fn a_read_after_a_write_that_missed_the_cache_does_not_share_an_older_load() {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let older = world.loading(&world.a).await;
    world.a.cache.loses_releases.store(true, Ordering::SeqCst);
    world.a.cache.is_cut.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap();
    world.a.cache.is_cut.store(false, Ordering::SeqCst);
    let after = world.a.start_read();
    until("the later read has joined or finished", || after.is_finished() || world.a.joiners() > 0)
        .await;
    load.let_go();
    assert_eq!(done(older).await.source, loaded(Because::NotCached, Load::Stored));
    assert_eq!(done(after).await.value.as_deref(), Some("new"));
}

/// The same, with an older read that waits for the lease of another process and will find the entry
/// which that process fills in.
#[tokio::test(start_paused = true)]
async fn a_read_after_a_write_that_missed_the_cache_does_not_join_an_older_reader_waiting_for_a_lease()
 {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let other = world.loading(&world.b).await;
    let older = world.a.start_read();
    world.a.waits_for_lease().await;
    world.a.cache.loses_releases.store(true, Ordering::SeqCst);
    world.a.cache.loses_fences.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap();
    let after = world.a.start_read();
    until("the later read has joined or finished", || after.is_finished() || world.a.joiners() > 0)
        .await;
    load.let_go();
    assert_eq!(done(other).await.value.as_deref(), Some("old"));
    assert_eq!(done(older).await.value.as_deref(), Some("old"));
    assert_eq!(done(after).await.value.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_is_returned_while_the_store_is_unreachable_and_is_marked() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    assert!(is_hit(world.a.read().await.1), "the entry is still cached");
    sleep(61 * SECOND).await;
    let (value, source) = world.a.read().await;
    let Source::StaleCopy { seconds_left } = source else { panic!("{source:?}") };
    assert_eq!((&*value, (-8..0).contains(&seconds_left)), ("old", true), "{seconds_left}");
    assert!(world.b.get().await.is_err(), "the other process has no copy");

    // The TTL and the grace are 120 s together.
    sleep(60 * SECOND).await;
    assert!(world.a.get().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn no_stale_copy_replaces_an_error_that_is_not_an_outage() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.store.is_unreadable.store(true, Ordering::SeqCst);
    sleep(61 * SECOND).await;
    assert_eq!(world.a.get().await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test(start_paused = true)]
async fn a_write_drops_the_copy_of_its_own_process() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.a.update("new").await.unwrap();
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    assert!(world.a.get().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_load_that_began_before_a_write_is_not_kept() {
    let world = World::new(long_policy());
    let load = world.store.loading.hold_next();
    let slow = world.loading(&world.a).await;
    world.a.update("new").await.unwrap();
    load.let_go();
    assert_eq!(done(slow).await.value.as_deref(), Some("old"));
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    assert!(world.a.get().await.is_err(), "the old value must not come back");
}

/// Whether the write was applied is unknown, so the copy may be from before it.
/// A read bypasses the fence while the write is on its way, and keeps a copy of the old value.
#[tokio::test(start_paused = true)]
async fn a_copy_that_was_made_during_a_write_is_dropped_when_it_ends() {
    let world = World::new(long_policy());
    let write = world.store.writing.hold_next();
    let writer = world.a.start_update("new");
    until("the write reaches the store", || world.store.writing.is_reached()).await;
    assert_eq!(world.a.value().await, "old");
    write.let_go();
    done(writer).await.unwrap();
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    assert!(world.a.get().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_returns_has_dropped_the_copy() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.crashed_writer(&world.a).await;
    world.store.is_unreachable.store(true, Ordering::SeqCst);
    assert!(world.a.get().await.is_err());
}
