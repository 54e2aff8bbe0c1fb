//! How long calls take at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::{Process, SECOND, World, done, long_policy};
use crate::{Because, Load, Policy, Source};

#[tokio::test(start_paused = true)]
async fn a_reader_does_not_wait_for_ever_for_the_load_of_another() {
    let world = World::new(long_policy());
    let _never_ends = world.store.loading.hold_next();
    let leader = world.loading(&world.a).await;
    let begun = Instant::now();
    let joiner = done(world.a.joining().await).await;
    let took = begun.elapsed();
    let longest = long_policy().build().unwrap().longest_lead();
    assert!((longest..longest + SECOND / 100).contains(&took), "{took:?} instead of {longest:?}");
    assert_eq!(joiner.source, Source::Store { because: Because::Leased, load: Load::NotStored });
    assert!(!leader.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_slow_cache_does_not_prolong_the_wait_for_a_lease() {
    let policy = long_policy().cache_timeout(SECOND).load_timeout(SECOND);
    let longest = policy.clone().build().unwrap().longest_lead();
    for _ in 0..20 {
        let world = World::new(policy.clone());
        world.crashed_reader().await;
        world.a.cache.longest_pause.store(999, Ordering::SeqCst);
        let begun = Instant::now();
        world.a.value().await;
        let took = begun.elapsed();
        // After the first look, which finds that nothing is cached.
        assert!(took <= SECOND + longest, "{took:?} instead of {longest:?}");
    }
}

/// Slow steps that fail now and then, slow loads, and writers that never stop, so that no load can be
/// cached and readers join too late again and again.
#[tokio::test(start_paused = true)]
async fn no_call_takes_longer_than_the_policy_says() {
    let step = Duration::from_millis(100);
    for local_ttl in [Duration::ZERO, step] {
        let policy = Policy::builder()
            .ttl(SECOND)
            .negative_ttl(SECOND)
            .local_ttl(local_ttl)
            .lease_ttl(SECOND)
            .cache_timeout(step)
            .load_timeout(SECOND)
            .write_timeout(SECOND);
        let longest = policy.clone().build().unwrap();
        let world = World::new(policy);
        // Timers may end a millisecond late.
        world.store.longest_pause.store(498, Ordering::SeqCst);
        let ends = Arc::new(AtomicBool::new(false));
        let (mut readers, mut writers) = (Vec::new(), Vec::new());
        for process in [&world.a, &world.b] {
            process.cache.longest_pause.store(98, Ordering::SeqCst);
            process.cache.one_fails_in.store(20, Ordering::SeqCst);
            for _ in 0..10 {
                readers.push(tokio::spawn(slowest(Arc::clone(process), Arc::clone(&ends), read)));
            }
            for _ in 0..2 {
                writers.push(tokio::spawn(slowest(Arc::clone(process), Arc::clone(&ends), write)));
            }
        }
        sleep(2000 * SECOND).await;
        ends.store(true, Ordering::SeqCst);
        let (mut slowest_read, mut slowest_write) = (Duration::ZERO, Duration::ZERO);
        for reader in readers {
            slowest_read = slowest_read.max(done(reader).await);
        }
        for writer in writers {
            slowest_write = slowest_write.max(done(writer).await);
        }
        // It must come near enough to the bound to say something about it.
        let read = longest.longest_read() / 3..=longest.longest_read();
        let write = longest.longest_write() / 2..=longest.longest_write();
        println!("{slowest_read:?} {read:?} {slowest_write:?} {write:?}");
        assert!(read.contains(&slowest_read), "{slowest_read:?} instead of {read:?}");
        assert!(write.contains(&slowest_write), "{slowest_write:?} instead of {write:?}");
    }
}

/// How long the slowest of the calls takes that are made until the end.
async fn slowest<F: Future<Output = ()>>(
    process: Arc<Process>,
    ends: Arc<AtomicBool>,
    call: impl Fn(Arc<Process>) -> F,
) -> Duration {
    let mut slowest = Duration::ZERO;
    while !ends.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(rand::random_range(0..200))).await;
        let begun = Instant::now();
        call(Arc::clone(&process)).await;
        slowest = slowest.max(begun.elapsed());
    }
    slowest
}

async fn read(process: Arc<Process>) {
    process.get().await.unwrap();
}

async fn write(process: Arc<Process>) {
    process.update("new").await.unwrap();
}
