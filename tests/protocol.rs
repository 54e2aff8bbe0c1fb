//! The pattern as a whole: readers and writers of two processes on one Redis, with a store whose
//! calls are held up where it hurts.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cache_aside::cache::RedisCache;
use cache_aside::cache_aside::{
    Because, Cache, CacheAside, Condition, Key, Read, Slot, Store, Times, Token, Via, WriteError,
};
use support::doubles::{CutCache, StagedStore};
use support::{Redis, eventually};
use tokio::task::JoinHandle;
use ulid::Ulid;

const KEY: Key = Key { kind: "user", id: Ulid(1) };

/// Two processes' worth of the pattern, `a` and `b`, on one Redis and one store.
struct Pair {
    a: Arc<CacheAside<String>>,
    b: Arc<CacheAside<String>>,
    /// The way of `a` to Redis.
    way: Arc<CutCache>,
    cache: Arc<dyn Cache<String>>,
    store: Arc<StagedStore>,
    redis: Redis,
}

fn times() -> Times {
    Times {
        ttl: Duration::from_secs(60),
        ttl_jitter: 0.1,
        negative_ttl: Duration::from_secs(60),
        lease_ttl: Duration::from_secs(30),
        fence_ttl: Duration::from_secs(40),
        stale_grace: Duration::from_secs(60),
        cache_timeout: Duration::from_secs(1),
        store_timeout: Duration::from_secs(30),
    }
}

impl Pair {
    async fn start(times: Times) -> Self {
        let redis = Redis::start();
        let connect = || -> Arc<dyn Cache<String>> {
            Arc::new(RedisCache::new(&redis.access(), "p:", Duration::from_secs(1)).unwrap())
        };
        let store = Arc::new(StagedStore::default());
        store.inner.insert(KEY, &"old".to_owned()).await.unwrap();
        let way = Arc::new(CutCache::new(connect()));
        let pattern = |cache: Arc<dyn Cache<String>>| {
            Arc::new(CacheAside::new(cache, Arc::clone(&store) as _, times.clone()))
        };
        let (a, b) = (pattern(Arc::clone(&way) as _), pattern(connect()));
        Self { a, b, way, cache: connect(), store, redis }
    }

    async fn slot(&self) -> Slot<String> {
        self.cache.get(KEY).await.unwrap()
    }

    /// Starts a read and waits until its load has reached the store.
    async fn read_in_the_store(&self, of: &Arc<CacheAside<String>>) -> JoinHandle<Read<String>> {
        let before = self.store.loads();
        let read = spawn_read(of);
        eventually(Duration::from_secs(5), "the load reaches the store", || async {
            self.store.loads() > before
        })
        .await;
        read
    }
}

fn spawn_read(of: &Arc<CacheAside<String>>) -> JoinHandle<Read<String>> {
    let of = Arc::clone(of);
    tokio::spawn(async move { of.get(KEY).await.unwrap() })
}

fn spawn_update(of: &Arc<CacheAside<String>>, value: &'static str) -> JoinHandle<()> {
    let of = Arc::clone(of);
    tokio::spawn(async move { update(&of, value).await.unwrap() })
}

async fn update(of: &CacheAside<String>, value: &str) -> Result<(), WriteError> {
    of.update(KEY, &value.to_owned(), &Condition::Exists).await.map(|_| ())
}

fn value(read: &Read<String>) -> &str {
    &read.found.as_ref().expect("a value").value
}

const fn from_store(because: Because, filled: bool, collapsed: bool) -> Via {
    Via::Store { because, filled, collapsed }
}

fn is_hit(read: &Read<String>) -> bool {
    matches!(read.via, Via::Hit { .. })
}

async fn fenced(pair: &Pair) {
    eventually(Duration::from_secs(5), "the fence stands", || async {
        matches!(pair.slot().await, Slot::Fence(_))
    })
    .await;
}

#[tokio::test]
async fn a_lease_held_by_another_process_is_waited_for() {
    let pair = Pair::start(times()).await;
    let gate = pair.store.hold_next_load();
    let first = pair.read_in_the_store(&pair.a).await;
    let second = spawn_read(&pair.b);
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().via, from_store(Because::Nothing, true, false));
    let second = second.await.unwrap();
    assert!(is_hit(&second), "{second:?}");
    assert_eq!(pair.store.loads(), 1);
}

#[tokio::test]
async fn a_lease_whose_holder_died_is_not_waited_for_for_long_and_not_filled() {
    let pair = Pair::start(times()).await;
    pair.cache.lease(KEY, Token::new(), Duration::from_secs(30)).await.unwrap();
    let read = pair.b.get(KEY).await.unwrap();
    assert_eq!(read.via, from_store(Because::Lease, false, false));
    assert!(matches!(pair.slot().await, Slot::Lease(_)));
}

#[tokio::test]
async fn a_read_past_another_process_s_fence_loads_and_does_not_fill() {
    let pair = Pair::start(times()).await;
    let writer = Token::new();
    pair.cache.fence(KEY, writer, Duration::from_secs(30)).await.unwrap();
    for _ in 0..2 {
        let read = pair.a.get(KEY).await.unwrap();
        assert_eq!(read.via, from_store(Because::Fence, false, false));
    }
    pair.cache.release(KEY, writer).await.unwrap();
    let read = pair.a.get(KEY).await.unwrap();
    assert_eq!(read.via, from_store(Because::Nothing, true, false));
}

#[tokio::test]
async fn a_reader_overtaken_by_a_write_does_not_fill_the_old_value_in() {
    let pair = Pair::start(times()).await;
    let gate = pair.store.hold_next_load();
    let slow = pair.read_in_the_store(&pair.a).await; // has read "old", holds the lease
    update(&pair.b, "new").await.unwrap();
    gate.add_permits(1);
    let slow = slow.await.unwrap();
    assert_eq!((value(&slow), slow.via), ("old", from_store(Because::Nothing, false, false)));
    for process in [&pair.a, &pair.b] {
        assert_eq!(value(&process.get(KEY).await.unwrap()), "new");
    }
}

/// The reader's process has a load in hand that began before the write. To share it would be to go
/// back in time.
#[tokio::test]
async fn a_read_that_begins_after_a_write_does_not_share_a_load_from_before_it() {
    let pair = Pair::start(times()).await;
    let gate = pair.store.hold_next_load();
    let slow = pair.read_in_the_store(&pair.a).await;
    update(&pair.b, "new").await.unwrap();
    let after = spawn_read(&pair.a);
    tokio::time::sleep(Duration::from_millis(50)).await; // it boards, late
    gate.add_permits(1);
    assert_eq!(value(&slow.await.unwrap()), "old");
    assert_eq!(value(&after.await.unwrap()), "new");
}

/// The cache has accepted the fill, and a write has come and gone before its reader hears of it: who
/// begins now may not share what was filled in.
#[tokio::test]
async fn a_read_that_begins_after_the_fill_was_sent_does_not_share_its_load() {
    let pair = Pair::start(times()).await;
    let gate = pair.way.hold_next_fill();
    let slow = spawn_read(&pair.a);
    eventually(Duration::from_secs(5), "the fill is done", || async {
        matches!(pair.slot().await, Slot::Entry(_))
    })
    .await;
    update(&pair.b, "new").await.unwrap();
    let after = spawn_read(&pair.a);
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.add_permits(1);
    assert_eq!(value(&slow.await.unwrap()), "old");
    assert_eq!(value(&after.await.unwrap()), "new");
}

/// One that was sent before may yet execute, after a write, and would let its old load be filled in.
#[tokio::test]
async fn no_lease_is_asked_for_twice_with_the_same_token() {
    let pair = Pair::start(times()).await;
    pair.cache.lease(KEY, Token::new(), Duration::from_secs(30)).await.unwrap();
    pair.a.get(KEY).await.unwrap();
    let tokens = pair.way.leases.lock().unwrap().clone();
    assert!(tokens.len() > 5, "it looked again and again: {tokens:?}");
    for (at, token) in tokens.iter().enumerate() {
        assert!(!tokens[..at].contains(token), "{tokens:?}");
    }
}

#[tokio::test]
async fn a_burst_of_reads_costs_one_load() {
    let pair = Pair::start(times()).await;
    let reads: Vec<_> =
        (0..100).map(|n| spawn_read(if n % 2 == 0 { &pair.a } else { &pair.b })).collect();
    for read in reads {
        assert_eq!(value(&read.await.unwrap()), "old");
    }
    assert_eq!(pair.store.loads(), 1);
}

/// Without the cache no load can be filled in, so who comes late must look again: all of them at once,
/// and once for all.
#[tokio::test]
async fn a_burst_of_reads_past_the_cache_costs_a_few_loads() {
    let pair = Pair::start(times()).await;
    pair.way.cut.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let before = pair.store.loads();
        let gate = pair.store.hold_next_load();
        let first = pair.read_in_the_store(&pair.a).await;
        let late: Vec<_> = (0..100).map(|_| spawn_read(&pair.a)).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        gate.add_permits(1);
        first.await.unwrap();
        for read in late {
            assert_eq!(value(&read.await.unwrap()), "old");
        }
        let loads = pair.store.loads() - before;
        assert!(loads <= 4, "{loads} loads for 101 reads");
    }
}

#[tokio::test]
async fn readers_of_one_process_share_a_load_that_was_filled() {
    let pair = Pair::start(times()).await;
    let gate = pair.store.hold_next_load();
    let first = pair.read_in_the_store(&pair.a).await;
    let late = spawn_read(&pair.a);
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().via, from_store(Because::Nothing, true, false));
    assert_eq!(late.await.unwrap().via, from_store(Because::Nothing, true, true));
    assert_eq!(pair.store.loads(), 1);
}

#[tokio::test]
async fn a_writer_that_dies_between_fence_and_release_leaves_a_fence_that_ends() {
    let pair = Pair::start(Times {
        store_timeout: Duration::from_millis(100),
        cache_timeout: Duration::from_millis(100),
        fence_ttl: Duration::from_secs(3),
        ..times()
    })
    .await;
    pair.a.get(KEY).await.unwrap();
    let _never = pair.store.hold_next_update();
    let writer = spawn_update(&pair.a, "new");
    fenced(&pair).await;
    writer.abort();
    let read = pair.b.get(KEY).await.unwrap();
    assert_eq!((value(&read), read.via), ("old", from_store(Because::Fence, false, false)));
    eventually(Duration::from_secs(10), "the fence ends", || async {
        pair.b.get(KEY).await.unwrap().via == from_store(Because::Nothing, true, false)
    })
    .await;
}

#[tokio::test]
async fn of_two_writers_at_once_the_first_to_finish_does_not_lift_the_other_s_fence() {
    let pair = Pair::start(times()).await;
    pair.a.get(KEY).await.unwrap();
    let gate = pair.store.hold_next_update();
    let slow = spawn_update(&pair.a, "slow");
    fenced(&pair).await;
    update(&pair.b, "quick").await.unwrap();
    let read = pair.b.get(KEY).await.unwrap();
    assert_eq!((value(&read), read.via), ("quick", from_store(Because::Fence, false, false)));
    gate.add_permits(1);
    slow.await.unwrap();
    for process in [&pair.a, &pair.b] {
        assert_eq!(value(&process.get(KEY).await.unwrap()), "slow");
    }
    assert!(is_hit(&pair.b.get(KEY).await.unwrap()));
}

#[tokio::test]
async fn a_write_whose_outcome_is_unknown_keeps_its_fence() {
    let pair = Pair::start(times()).await;
    pair.a.get(KEY).await.unwrap();
    pair.store.next_update_unknown.store(true, Ordering::SeqCst);
    let unknown = update(&pair.a, "new").await.unwrap_err();
    assert!(!unknown.is_definite());
    let Slot::Fence(fence) = pair.slot().await else { panic!("no fence") };
    let left = fence.latest_deadline().unwrap() - cache_aside::cache_aside::unix_millis();
    assert!(left > 35_000, "its full 40s count from the unknown outcome: {left} ms left");
    assert_eq!(pair.way.fences.load(Ordering::SeqCst), 2);
    let read = pair.b.get(KEY).await.unwrap();
    assert_eq!((value(&read), read.via), ("new", from_store(Because::Fence, false, false)));
}

#[tokio::test]
async fn a_refused_write_releases_its_fence() {
    let pair = Pair::start(times()).await;
    pair.a.get(KEY).await.unwrap();
    let never = Condition::OneOf(Vec::new());
    let refused = pair.a.update(KEY, &"new".to_owned(), &never).await.unwrap_err();
    assert_eq!(refused, WriteError::PreconditionFailed);
    assert_eq!(pair.slot().await, Slot::Nothing);
    assert_eq!(value(&pair.b.get(KEY).await.unwrap()), "old");
}

#[tokio::test]
async fn a_fence_that_took_too_long_to_put_is_put_again_before_the_write() {
    let pair = Pair::start(Times {
        store_timeout: Duration::from_millis(100),
        cache_timeout: Duration::from_millis(100),
        fence_ttl: Duration::from_millis(2400), // 300 ms are left for the fence
        ..times()
    })
    .await;
    *pair.way.next_fence_takes.lock().unwrap() = Some(Duration::from_millis(400));
    update(&pair.a, "new").await.unwrap();
    assert_eq!(pair.way.fences.load(Ordering::SeqCst), 2);
    update(&pair.a, "newer").await.unwrap();
    assert_eq!(pair.way.fences.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_writer_that_cannot_reach_the_cache_releases_as_soon_as_it_can() {
    let pair = Pair::start(times()).await;
    assert_eq!(value(&pair.b.get(KEY).await.unwrap()), "old");
    pair.way.cut.store(true, Ordering::SeqCst);
    update(&pair.a, "new").await.unwrap();
    assert_eq!(
        value(&pair.b.get(KEY).await.unwrap()),
        "old",
        "which the guarantee allows, for now"
    );
    let read = pair.a.get(KEY).await.unwrap();
    assert_eq!((value(&read), read.via), ("new", from_store(Because::Unreachable, false, false)));

    pair.way.cut.store(false, Ordering::SeqCst);
    eventually(Duration::from_secs(5), "the release reaches the cache", || async {
        value(&pair.b.get(KEY).await.unwrap()) == "new"
    })
    .await;
    assert_eq!(pair.way.fences.load(Ordering::SeqCst), 1, "the fence is not tried again");
}

/// The way to the cache is back, and the release is not through yet: the writer's own process knows
/// that the entry there may be from before.
#[tokio::test]
async fn a_process_does_not_answer_an_entry_that_it_owes_a_release() {
    let pair = Pair::start(times()).await;
    pair.a.get(KEY).await.unwrap();
    for cut in [&pair.way.cut, &pair.way.cut_releases] {
        cut.store(true, Ordering::SeqCst);
    }
    update(&pair.a, "new").await.unwrap();
    pair.way.cut.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        let read = pair.a.get(KEY).await.unwrap();
        assert_eq!(
            (value(&read), read.via),
            ("new", from_store(Because::Unreachable, false, false))
        );
    }
    pair.way.cut_releases.store(false, Ordering::SeqCst);
    eventually(Duration::from_secs(5), "the release is through", || async {
        is_hit(&pair.a.get(KEY).await.unwrap())
    })
    .await;
    assert_eq!(value(&pair.a.get(KEY).await.unwrap()), "new");
}

/// The write's fence and release are lost while an older read of the same process is under way: who
/// begins after the write shares nothing with it.
#[tokio::test]
async fn a_read_after_a_write_that_missed_the_cache_shares_nothing_with_a_read_from_before_it() {
    // The older read has its load in hand, and its fill will be accepted.
    let pair = Pair::start(times()).await;
    let gate = pair.store.hold_next_load();
    let older = pair.read_in_the_store(&pair.a).await;
    pair.way.cut_releases.store(true, Ordering::SeqCst);
    pair.way.cut.store(true, Ordering::SeqCst);
    update(&pair.a, "new").await.unwrap();
    pair.way.cut.store(false, Ordering::SeqCst);
    let after = spawn_read(&pair.a);
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.add_permits(1);
    assert_eq!(older.await.unwrap().via, from_store(Because::Nothing, true, false));
    assert_eq!(value(&after.await.unwrap()), "new");

    // The older read waits for another process's lease, and will find what that one fills in.
    let pair = Pair::start(times()).await;
    let gate = pair.store.hold_next_load();
    let other = pair.read_in_the_store(&pair.b).await;
    let older = spawn_read(&pair.a);
    tokio::time::sleep(Duration::from_millis(50)).await;
    pair.way.cut_releases.store(true, Ordering::SeqCst);
    pair.way.cut_fences.store(true, Ordering::SeqCst);
    update(&pair.a, "new").await.unwrap();
    let after = spawn_read(&pair.a);
    tokio::time::sleep(Duration::from_millis(20)).await;
    gate.add_permits(1);
    assert_eq!(value(&other.await.unwrap()), "old");
    assert_eq!(value(&older.await.unwrap()), "old");
    assert_eq!(value(&after.await.unwrap()), "new");
}

#[tokio::test]
async fn a_failed_load_gives_its_lease_back() {
    let pair = Pair::start(times()).await;
    pair.store.unreachable.store(true, Ordering::SeqCst);
    assert!(pair.a.get(KEY).await.is_err());
    assert_eq!(pair.slot().await, Slot::Nothing);
}

#[tokio::test]
async fn not_found_is_cached_until_someone_writes() {
    let pair = Pair::start(times()).await;
    pair.a.delete(KEY, &Condition::Exists).await.unwrap();
    assert_eq!(pair.a.get(KEY).await.unwrap().via, from_store(Because::Nothing, true, false));
    let again = pair.b.get(KEY).await.unwrap();
    assert!(again.found.is_none() && is_hit(&again), "{again:?}");
    assert_eq!(update(&pair.b, "x").await.unwrap_err(), WriteError::NotFound);
    assert_eq!(pair.slot().await, Slot::Nothing);
}

#[tokio::test]
async fn foreign_bytes_are_removed_and_the_read_goes_on() {
    let pair = Pair::start(times()).await;
    pair.redis.command::<()>(&["SET", &format!("p:{KEY}"), "{'id': 'a Python dict'}"]).await;
    let read = pair.a.get(KEY).await.unwrap();
    assert_eq!((value(&read), read.via), ("old", from_store(Because::Nothing, true, false)));
    pair.redis.command::<()>(&["DEL", &format!("p:{KEY}")]).await;
    pair.redis.command::<()>(&["RPUSH", &format!("p:{KEY}"), "x"]).await;
    assert_eq!(pair.a.get(KEY).await.unwrap().via, from_store(Because::Nothing, true, false));
    assert!(is_hit(&pair.b.get(KEY).await.unwrap()));
}

#[tokio::test]
async fn entries_do_not_expire_together() {
    let pair = Pair::start(times()).await;
    let mut left = Vec::new();
    for id in 100..130 {
        let key = Key { kind: "user", id: Ulid(id) };
        pair.store.inner.insert(key, &"x".to_owned()).await.unwrap();
        pair.a.get(key).await.unwrap();
        left.push(pair.redis.command::<i64>(&["PTTL", &format!("p:{key}")]).await);
    }
    let (least, most) = (left.iter().min().unwrap(), left.iter().max().unwrap());
    assert!(*least > 50_000 && *most <= 60_000, "60s less up to 10%: {left:?}");
    assert!(most - least > 1_000, "spread over 6s: {left:?}");
}

#[tokio::test]
async fn while_the_store_is_unreachable_a_copy_is_answered_and_marked() {
    let pair =
        Pair::start(Times { ttl: Duration::from_millis(200), ttl_jitter: 0.0, ..times() }).await;
    pair.a.get(KEY).await.unwrap();
    pair.store.unreachable.store(true, Ordering::SeqCst);
    eventually(Duration::from_secs(5), "the entry expires", || async {
        matches!(pair.a.get(KEY).await.unwrap().via, Via::Stale { seconds_left } if seconds_left < 0)
    })
    .await;
    assert_eq!(value(&pair.a.get(KEY).await.unwrap()), "old");
    assert!(pair.b.get(KEY).await.is_err(), "the other process has no copy");

    // A write of this process drops the copy: what it wrote may not be followed by what was before.
    update(&pair.a, "new").await.unwrap();
    assert!(pair.a.get(KEY).await.is_err());
}

#[tokio::test]
async fn a_copy_from_a_load_that_began_before_a_write_is_not_kept() {
    let pair = Pair::start(times()).await;
    let gate = pair.store.hold_next_load();
    let slow = pair.read_in_the_store(&pair.a).await;
    update(&pair.a, "new").await.unwrap();
    gate.add_permits(1);
    assert_eq!(value(&slow.await.unwrap()), "old");
    pair.store.unreachable.store(true, Ordering::SeqCst);
    assert!(pair.a.get(KEY).await.is_err(), "the old value must not come back");
}

/// Whether such a write was applied, nobody knows; the copy may be from before it.
#[tokio::test]
async fn a_write_that_began_drops_the_copy_although_it_never_ends() {
    let pair = Pair::start(Times { ttl: Duration::from_millis(200), ..times() }).await;
    pair.a.get(KEY).await.unwrap();
    let _never = pair.store.hold_next_update();
    let writer = spawn_update(&pair.a, "new");
    fenced(&pair).await;
    tokio::time::sleep(Duration::from_millis(50)).await; // from the fence to the store
    writer.abort();
    pair.store.unreachable.store(true, Ordering::SeqCst);
    assert!(pair.a.get(KEY).await.is_err());
}

#[tokio::test]
async fn a_reader_that_hangs_up_leaves_the_others_to_load_for_themselves() {
    let pair = Pair::start(Times {
        lease_ttl: Duration::from_millis(300),
        store_timeout: Duration::from_millis(300),
        ..times()
    })
    .await;
    let _never = pair.store.hold_next_load();
    let leader = pair.read_in_the_store(&pair.a).await;
    let joiner = spawn_read(&pair.a);
    tokio::time::sleep(Duration::from_millis(50)).await;
    leader.abort();
    assert_eq!(value(&joiner.await.unwrap()), "old");
}
