//! A writer and eight readers race for five seconds: with plain cache-aside, and with this library.
//! A read is stale if it is older than a write that had returned before the read began.
//!
//! `cargo run --release -p cache-aside --example race`

#![allow(clippy::expect_used)] // a poisoned lock cannot be repaired here

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache_aside::{CacheAside, MemoryCache, Policy};
use tokio::time::sleep;

/// The value is a version number; the store takes up to four milliseconds for each request.
#[derive(Default)]
struct Store(AtomicU64);

async fn delay() {
    sleep(Duration::from_micros(rand::random_range(0..4000))).await;
}

impl Store {
    async fn load(&self) -> Result<Option<u64>, Infallible> {
        let version = self.0.load(SeqCst);
        delay().await;
        Ok(Some(version))
    }

    async fn save(&self, version: u64) -> Result<(), Infallible> {
        delay().await;
        self.0.store(version, SeqCst);
        Ok(())
    }
}

enum Cached {
    Plain(Mutex<Option<u64>>),
    Ours(Box<CacheAside<u64, u64, Infallible>>),
}

impl Cached {
    async fn read(&self, store: &Store) -> u64 {
        match self {
            Self::Plain(cache) => {
                let cached = *cache.lock().expect("nothing panics");
                if let Some(version) = cached {
                    return version;
                }
                let Ok(version) = store.load().await;
                *cache.lock().expect("nothing panics") = version;
                version.unwrap_or_default()
            }
            Self::Ours(ours) => {
                let Ok(read) = ours.get(&1, || store.load()).await;
                read.value.unwrap_or_default()
            }
        }
    }

    async fn write(&self, store: &Store, version: u64) {
        match self {
            Self::Plain(cache) => {
                let Ok(()) = store.save(version).await;
                *cache.lock().expect("nothing panics") = None;
            }
            Self::Ours(ours) => {
                let Ok(_) = ours.write(&1, || store.save(version)).await;
            }
        }
    }
}

async fn race(name: &str, cached: Cached) {
    let (cached, store) = (Arc::new(cached), Arc::new(Store::default()));
    let (written, end) = (Arc::new(AtomicU64::new(0)), Instant::now() + Duration::from_secs(5));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (cached, store, written) = (cached.clone(), store.clone(), written.clone());
        readers.spawn(async move {
            let (mut reads, mut stale) = (0, 0);
            while Instant::now() < end {
                let at_least = written.load(SeqCst);
                stale += u64::from(cached.read(&store).await < at_least);
                reads += 1;
                tokio::task::yield_now().await;
            }
            (reads, stale)
        });
    }
    for version in 1.. {
        cached.write(&store, version).await;
        written.store(version, SeqCst); // no read that begins now may return an older one
        sleep(Duration::from_millis(5)).await;
        if Instant::now() > end {
            break;
        }
    }
    let counts = readers.join_all().await;
    let sum = |count: fn(&(u64, u64)) -> u64| counts.iter().map(count).sum::<u64>();
    println!("{name:18} {:8} reads, {:8} stale", sum(|it| it.0), sum(|it| it.1));
}

#[tokio::main]
async fn main() {
    race("plain cache-aside", Cached::Plain(Mutex::default())).await;
    let ours = CacheAside::new(MemoryCache::default(), Policy::default());
    race("this library", Cached::Ours(Box::new(ours))).await;
}
