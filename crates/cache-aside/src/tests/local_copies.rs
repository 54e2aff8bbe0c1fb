//! Local copies: hits without the cache, and the waits of writers that keep reads linearizable.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::{
    Process, StoreError, World, done, is_hit, is_local, loaded, long_policy, until,
};
use crate::{Because, Load, Policy};

const LOCAL_TTL: Duration = Duration::from_secs(1);

/// Time enough for a copy to end, and for less than two waits.
const ONE_WAIT: Duration = Duration::from_millis(1500);

fn world() -> World {
    World::new(long_policy().local_ttl(LOCAL_TTL))
}

/// How long a write waits.
fn wait() -> Duration {
    Policy::builder().local_ttl(LOCAL_TTL).build().unwrap().wait_for_copies()
}

/// The value is cached, and this process has a local copy.
async fn has_copy(process: &Process) {
    process.value().await;
    process.value().await;
    assert!(is_local(process.read().await.1));
}

/// Writes, and returns how long that took.
async fn timed_update(process: &Process, value: &str) -> Duration {
    let begun = Instant::now();
    process.update(value).await.unwrap();
    begun.elapsed()
}

/// Waits until a fence has been placed, and a little longer, so that its reply has arrived.
async fn fenced(process: &Process, fences: usize) {
    until("the fence is placed", || process.cache.fences() == fences).await;
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_copy_is_returned_without_asking_the_cache() {
    let world = world();
    assert!(is_hit_after_a_load(&world.a).await, "a fill that was accepted makes a copy");
    world.b.value().await;
    assert!(is_local(world.b.read().await.1), "and so does an entry that was found");
    let gets = world.b.cache.gets.load(Ordering::SeqCst);
    let read = world.b.get().await.unwrap();
    assert_eq!((read.value.as_deref(), read.timing.cache), (Some("old"), None));
    assert_eq!(world.b.cache.gets.load(Ordering::SeqCst), gets);
    sleep(LOCAL_TTL).await;
    assert!(is_hit(world.b.read().await.1));
}

async fn is_hit_after_a_load(process: &Process) -> bool {
    assert_eq!(process.read().await.1, loaded(Because::NotCached, Load::Stored));
    is_local(process.read().await.1)
}

#[tokio::test(start_paused = true)]
async fn without_a_local_ttl_every_hit_asks_the_cache_and_no_write_waits() {
    let world = World::new(long_policy());
    for _ in 0..3 {
        world.a.value().await;
    }
    assert!(is_hit(world.a.read().await.1));
    assert_eq!(timed_update(&world.b, "new").await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_copy_counts_from_the_moment_the_get_was_sent() {
    let world = world();
    world.a.value().await;
    let reply = world.b.cache.got.hold_next();
    let read = world.b.start_read();
    until("the reply is held back", || world.b.cache.got.is_reached()).await;
    sleep(LOCAL_TTL / 2).await;
    reply.let_go();
    done(read).await;
    assert!(is_local(world.b.read().await.1));
    sleep(LOCAL_TTL / 2).await;
    assert!(is_hit(world.b.read().await.1), "half of its time had passed when it was kept");
}

#[tokio::test(start_paused = true)]
async fn a_copy_counts_from_the_moment_the_fill_was_sent() {
    let world = world();
    let reply = world.a.cache.filled.hold_next();
    let read = world.a.start_read();
    until("the reply is held back", || world.a.cache.filled.is_reached()).await;
    sleep(LOCAL_TTL).await;
    reply.let_go();
    done(read).await;
    assert!(is_hit(world.a.read().await.1));
}

/// A process is paused after it has sent its get. When it goes on, the write is over.
#[tokio::test(start_paused = true)]
async fn a_process_that_was_paused_does_not_keep_what_a_write_has_changed() {
    let world = world();
    world.a.value().await;
    let reply = world.b.cache.got.hold_next();
    let read = world.b.start_read();
    until("the reply is held back", || world.b.cache.got.is_reached()).await;
    world.a.update("new").await.unwrap();
    reply.let_go();
    assert_eq!(done(read).await.value.as_deref(), Some("old"), "it began before the write");
    assert_eq!(world.b.value().await, "new");
}

#[tokio::test(start_paused = true)]
async fn a_write_is_sent_once_all_copies_from_before_its_fence_have_ended() {
    let world = world();
    has_copy(&world.b).await;
    let write = world.store.writing.hold_next();
    let writer = world.a.start_update("new");
    fenced(&world.a, 1).await;
    assert!(is_local(world.b.read().await.1), "the copy may still be used");
    until("the write is sent", || world.store.writing.is_reached()).await;
    let read = world.b.read().await;
    assert_eq!(read, ("old".into(), loaded(Because::Fenced, Load::NotStored)), "it has ended");
    write.let_go();
    done(writer).await.unwrap();
    assert_eq!(world.b.value().await, "new");
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_once_if_its_fence_has_stood() {
    let world = world();
    let took = timed_update(&world.a, "new").await;
    assert!((wait()..ONE_WAIT).contains(&took), "{took:?}");
    assert!(wait() > LOCAL_TTL, "clocks may run at different rates");

    world.store.refuses.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    assert_eq!(world.a.update("newer").await, Err(StoreError::Refused));
    assert!((wait()..ONE_WAIT).contains(&begun.elapsed()));
}

/// While the fence is lost, another process caches the old value, and keeps a copy.
#[tokio::test(start_paused = true)]
async fn a_write_whose_fence_was_lost_waits_again() {
    let world = world();
    let write = world.store.writing.hold_next();
    let writer = world.a.start_update("new");
    until("the write reaches the store", || world.store.writing.is_reached()).await;
    world.lose_key().await;
    has_copy(&world.b).await;
    write.let_go();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.b.read().await.0, "old", "the write has not been answered");
    done(writer).await.unwrap();
    assert_eq!(world.b.value().await, "new");
}

/// The fence of a write gets no reply: it may be placed late, after another process has cached the old
/// value, so that its token says nothing.
#[tokio::test(start_paused = true)]
async fn a_write_whose_fence_or_release_got_no_reply_waits_again() {
    let faults: [fn(&Process) -> &AtomicBool; 4] = [
        |process| &process.cache.loses_replies_to_fences,
        |process| &process.cache.loses_fences,
        |process| &process.cache.loses_replies_to_releases,
        |process| &process.cache.loses_releases,
    ];
    for fault in faults {
        let world = world();
        fault(&world.a).store(true, Ordering::SeqCst);
        let took = timed_update(&world.a, "new").await;
        assert!((2 * wait()..2 * ONE_WAIT).contains(&took), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_outcome_is_unknown_is_answered_without_another_wait() {
    let world = world();
    world.store.loses_answer.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    assert_eq!(world.a.update("new").await, Err(StoreError::TimedOut));
    assert!((wait()..ONE_WAIT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert!(world.is_fenced().await);
}

#[tokio::test(start_paused = true)]
async fn a_write_drops_the_copy_of_its_own_process_at_once() {
    let world = world();
    has_copy(&world.a).await;
    let writer = world.a.start_update("new");
    fenced(&world.a, 1).await;
    let expected = ("old".into(), loaded(Because::Fenced, Load::NotStored));
    assert_eq!(world.a.read().await, expected);
    done(writer).await.unwrap();
    assert_eq!(world.a.value().await, "new");
}

/// What was loaded past a fence may be older than the write that the fence is for.
#[tokio::test(start_paused = true)]
async fn what_was_loaded_past_a_fence_is_not_copied() {
    let world = world();
    let _writer = world.other_writer().await;
    for _ in 0..2 {
        let expected = ("old".into(), loaded(Because::Fenced, Load::NotStored));
        assert_eq!(world.a.read().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_past_a_fence_that_was_shared_is_not_copied_either() {
    let world = world();
    let _writer = world.other_writer().await;
    let lease = world.a.cache.leased.hold_next();
    let leader = world.a.start_read();
    until("the leader looks", || world.a.cache.leased.is_reached()).await;
    let joiner = world.a.joining().await;
    lease.let_go();
    done(leader).await;
    assert_eq!(done(joiner).await.source, loaded(Because::Fenced, Load::Shared));
    assert_eq!(world.a.read().await.1, loaded(Because::Fenced, Load::NotStored));
}

#[tokio::test(start_paused = true)]
async fn a_process_with_an_overdue_release_uses_no_copies() {
    let world = world();
    world.a.cache.loses_releases.store(true, Ordering::SeqCst);
    world.a.update("new").await.unwrap();
    for _ in 0..2 {
        let expected = ("new".into(), loaded(Because::CacheUnavailable, Load::NotStored));
        assert_eq!(world.a.read().await, expected);
    }
}

/// Neither of two processes returns an older value than one that has been returned before.
#[tokio::test(start_paused = true)]
async fn reads_do_not_go_backwards_while_a_write_waits() {
    let world = world();
    has_copy(&world.a).await;
    has_copy(&world.b).await;
    let writer = world.a.start_update("new");
    let mut has_seen_new = false;
    for _ in 0..2000 {
        for process in [&world.a, &world.b] {
            let value = process.value().await;
            assert!(value == "new" || !has_seen_new, "a read went back to {value}");
            has_seen_new |= value == "new";
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert!(writer.is_finished() && has_seen_new);
}

#[tokio::test(start_paused = true)]
async fn not_found_is_copied_too() {
    let world = world();
    world.a.remove().await.unwrap();
    for _ in 0..2 {
        assert_eq!(world.b.get().await.unwrap().value, None);
    }
    assert!(is_local(world.b.get().await.unwrap().source));
    world.a.update("again").await.unwrap();
    assert_eq!(world.b.value().await, "again");
}

/// The wait is part of the time that a fence must last.
#[tokio::test(start_paused = true)]
async fn a_fence_that_is_nearly_over_after_the_wait_is_placed_again() {
    let ms = Duration::from_millis;
    let policy = long_policy().write_timeout(ms(100)).cache_timeout(ms(100)).local_ttl(LOCAL_TTL);
    let world = World::new(policy.fence_ttl(ms(3400))); // which leaves 300 ms beside the wait
    *world.a.cache.next_fence_takes.lock().unwrap() = Some(ms(400));
    world.a.update("new").await.unwrap();
    assert_eq!(world.a.cache.fences(), 2);
    *world.a.cache.next_fence_takes.lock().unwrap() = Some(ms(200));
    world.a.update("newer").await.unwrap();
    assert_eq!(world.a.cache.fences(), 3);
}

/// The first fence may still execute, and put the token of the second back if that is lost.
#[tokio::test(start_paused = true)]
async fn a_fence_that_is_placed_again_is_not_trusted_if_the_first_got_no_reply() {
    let ms = Duration::from_millis;
    let policy = long_policy().write_timeout(ms(100)).cache_timeout(ms(100)).local_ttl(LOCAL_TTL);
    let world = World::new(policy.fence_ttl(ms(3400))); // which leaves 300 ms beside the wait
    world.a.cache.loses_replies_to_fences.store(true, Ordering::SeqCst);
    *world.a.cache.next_fence_takes.lock().unwrap() = Some(ms(400));
    let begun = Instant::now();
    let writer = world.a.start_update("new");
    sleep(ms(500)).await;
    world.a.cache.loses_replies_to_fences.store(false, Ordering::SeqCst);
    done(writer).await.unwrap();
    assert_eq!(world.a.cache.fences(), 2);
    assert!(begun.elapsed() >= ms(400) + 3 * wait(), "{:?}", begun.elapsed());
}
