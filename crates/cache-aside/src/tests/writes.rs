//! Writes: fences, outcomes, and several writers at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::world::{SECOND, StoreError, World, done, is_hit, loaded, long_policy, until};
use crate::{Because, Load, Slot};

#[tokio::test(start_paused = true)]
async fn every_process_sees_a_write_that_has_returned() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.b.update("new").await.unwrap();
    for process in [&world.a, &world.b] {
        assert_eq!(process.value().await, "new");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fence_of_a_writer_that_crashed_expires() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.crashed_writer(&world.a).await;
    assert_eq!(world.b.read().await, ("old".into(), loaded(Because::Fenced, Load::NotStored)));
    sleep(41 * SECOND).await;
    assert_eq!(world.b.read().await, ("old".into(), loaded(Because::NotCached, Load::Stored)));
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_writers_to_finish_does_not_remove_the_fence_of_the_other() {
    let world = World::new(long_policy());
    world.a.value().await;
    let write = world.store.writing.hold_next();
    let slow = world.a.start_update("slow");
    until("the write reaches the store", || world.store.writing.is_reached()).await;
    world.b.update("quick").await.unwrap();
    assert_eq!(world.b.read().await, ("quick".into(), loaded(Because::Fenced, Load::NotStored)));
    write.let_go();
    done(slow).await.unwrap();
    for process in [&world.a, &world.b] {
        assert_eq!(process.value().await, "slow");
    }
    assert!(is_hit(world.b.read().await.1));
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_outcome_is_unknown_keeps_its_fence_for_the_full_time() {
    let world = World::new(long_policy());
    let write = world.store.writing.hold_next();
    world.store.loses_answer.store(true, Ordering::SeqCst);
    let writer = world.a.start_update("new");
    until("the write reaches the store", || world.store.writing.is_reached()).await;
    sleep(20 * SECOND).await;
    write.let_go();
    assert_eq!(done(writer).await, Err(StoreError::TimedOut));
    assert_eq!(world.b.read().await, ("new".into(), loaded(Because::Fenced, Load::NotStored)));
    sleep(39 * SECOND).await;
    assert!(world.is_fenced().await, "its 40 s count from the unknown outcome");
    sleep(2 * SECOND).await;
    assert_eq!(world.slot().await, Slot::Nothing);
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_releases_its_fence() {
    let world = World::new(long_policy());
    world.a.value().await;
    world.store.refuses.store(true, Ordering::SeqCst);
    assert_eq!(world.a.update("new").await, Err(StoreError::Refused));
    assert_eq!(world.slot().await, Slot::Nothing);
    assert_eq!(world.b.value().await, "old");
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_took_too_long_to_place_is_placed_again_before_the_write() {
    let ms = Duration::from_millis;
    let policy = long_policy().write_timeout(ms(100)).cache_timeout(ms(100));
    let world = World::new(policy.fence_ttl(ms(2400))); // which leaves 300 ms for the fence
    *world.a.cache.next_fence_takes.lock().unwrap() = Some(ms(400));
    world.a.update("new").await.unwrap();
    assert_eq!(world.a.cache.fences(), 2);
    *world.a.cache.next_fence_takes.lock().unwrap() = Some(ms(200));
    world.a.update("newer").await.unwrap();
    assert_eq!(world.a.cache.fences(), 3);
}

/// The fence was placed, and the process was paused before it noticed that the reply was lost.
#[tokio::test(start_paused = true)]
async fn a_fence_without_a_reply_that_took_too_long_is_placed_again_too() {
    let ms = Duration::from_millis;
    let policy = long_policy().write_timeout(ms(100)).cache_timeout(ms(100));
    let world = World::new(policy.fence_ttl(ms(2400))); // which leaves 300 ms for the fence
    world.a.cache.loses_replies_to_fences.store(true, Ordering::SeqCst);
    *world.a.cache.next_fence_takes.lock().unwrap() = Some(ms(2400));
    let write = world.store.writing.hold_next();
    let writer = world.a.start_update("new");
    until("the write reaches the store", || world.store.writing.is_reached()).await;
    assert!(world.is_fenced().await, "the first fence has expired");
    assert_eq!(world.a.cache.fences(), 2);
    write.let_go();
    done(writer).await.unwrap();
}
