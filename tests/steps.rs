//! The six steps of the protocol, with the same tests on both cache adapters.

mod support;

use std::time::Duration;

use async_trait::async_trait;
use cache_aside::cache::{MemoryCache, RedisAccess, RedisCache};
use cache_aside::cache_aside::{
    Cache, ETag, Entry, Key, Slot, Stored, Token, lease_bytes, unix_millis,
};
use support::{Redis, eventually};
use ulid::Ulid;

const KEY: Key = Key { kind: "user", id: Ulid(1) };
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

/// An adapter, and a way to put what is not its own under a key.
#[async_trait]
trait Adapter: Send + Sync {
    fn cache(&self) -> &dyn Cache<String>;
    async fn put(&self, bytes: &[u8]);
}

struct InProcess(MemoryCache);

#[async_trait]
impl Adapter for InProcess {
    fn cache(&self) -> &dyn Cache<String> {
        &self.0
    }

    async fn put(&self, bytes: &[u8]) {
        self.0.put(KEY, bytes.to_vec(), LONG);
    }
}

struct OnRedis {
    cache: RedisCache,
    server: Redis,
}

impl OnRedis {
    fn start(arguments: &[&str]) -> Self {
        let server = Redis::with(arguments);
        let access = server.access();
        Self { cache: RedisCache::new(&access, "p:", Duration::from_secs(1)).unwrap(), server }
    }
}

#[async_trait]
impl Adapter for OnRedis {
    fn cache(&self) -> &dyn Cache<String> {
        &self.cache
    }

    async fn put(&self, bytes: &[u8]) {
        let mut connection = self.server.connection().await;
        redis::cmd("SET")
            .arg(format!("p:{KEY}"))
            .arg(bytes)
            .query_async::<()>(&mut connection)
            .await
            .unwrap();
    }
}

macro_rules! on_both {
    ($($story:ident;)*) => {
        mod memory {$(
            #[tokio::test]
            async fn $story() { super::$story(super::InProcess(Default::default())).await }
        )*}
        mod redis_server {$(
            #[tokio::test]
            async fn $story() { super::$story(super::OnRedis::start(&[])).await }
        )*}
    };
}

on_both! {
    a_lease_is_given_once;
    a_lease_ends_by_itself;
    a_fill_replaces_its_own_lease_and_no_other;
    a_fill_after_the_lease_has_ended_is_refused;
    an_entry_ends_by_itself;
    not_found_is_an_entry_too;
    a_forfeit_removes_its_own_lease_and_nothing_else;
    a_fence_breaks_a_lease_and_replaces_an_entry;
    a_lease_is_not_given_past_a_fence;
    a_late_lease_is_nobodys;
    writers_join_a_fence_and_the_last_release_removes_it;
    each_writer_has_its_own_deadline;
    a_short_fence_does_not_cut_a_long_one;
    a_fence_that_is_renewed_stands_its_full_time_again;
    a_release_removes_whatever_is_no_fence;
    a_release_with_a_strange_token_minds_no_fence;
    foreign_bytes_are_told_and_replaced;
}

fn entry(value: &str) -> Entry<String> {
    let found = Some(Stored { etag: ETag::new("W/\"1\""), value: value.to_owned() });
    Entry { loaded: unix_millis(), expires: unix_millis() + 10_000, found }
}

async fn slot(on: &impl Adapter) -> Slot<String> {
    on.cache().get(KEY).await.unwrap()
}

async fn lease(on: &impl Adapter) -> Token {
    let token = Token::new();
    assert_eq!(on.cache().lease(KEY, token, LONG).await.unwrap(), Slot::Lease(token));
    token
}

async fn fill(on: &impl Adapter, token: Token, entry: &Entry<String>) -> bool {
    on.cache().fill(KEY, token, entry, LONG).await.unwrap()
}

async fn fence(on: &impl Adapter, ttl: Duration) -> Token {
    let token = Token::new();
    on.cache().fence(KEY, token, ttl).await.unwrap();
    token
}

async fn is_fenced(on: &impl Adapter) -> bool {
    matches!(slot(on).await, Slot::Fence(_))
}

async fn becomes_nothing(on: &impl Adapter) {
    eventually(Duration::from_secs(5), "the slot is empty", || async {
        slot(on).await == Slot::Nothing
    })
    .await;
}

async fn a_lease_is_given_once(on: impl Adapter) {
    assert_eq!(slot(&on).await, Slot::Nothing);
    let held = lease(&on).await;
    assert_eq!(on.cache().lease(KEY, Token::new(), LONG).await.unwrap(), Slot::Lease(held));
    assert_eq!(slot(&on).await, Slot::Lease(held));
}

async fn a_lease_ends_by_itself(on: impl Adapter) {
    on.cache().lease(KEY, Token::new(), SHORT).await.unwrap();
    becomes_nothing(&on).await;
    lease(&on).await;
}

async fn a_fill_replaces_its_own_lease_and_no_other(on: impl Adapter) {
    let token = lease(&on).await;
    assert!(!fill(&on, Token::new(), &entry("other")).await);
    assert!(fill(&on, token, &entry("Ann")).await);
    assert!(!fill(&on, token, &entry("again")).await, "the lease is spent");
    match slot(&on).await {
        Slot::Entry(entry) => assert_eq!(entry.found.unwrap().value, "Ann"),
        other => panic!("{other:?}"),
    }
    match on.cache().lease(KEY, Token::new(), LONG).await.unwrap() {
        Slot::Entry(entry) => assert_eq!(entry.found.unwrap().value, "Ann"),
        other => panic!("{other:?}"),
    }
}

async fn a_fill_after_the_lease_has_ended_is_refused(on: impl Adapter) {
    let token = Token::new();
    on.cache().lease(KEY, token, SHORT).await.unwrap();
    becomes_nothing(&on).await;
    assert!(!fill(&on, token, &entry("Ann")).await);
    assert_eq!(slot(&on).await, Slot::Nothing);
}

async fn an_entry_ends_by_itself(on: impl Adapter) {
    let token = lease(&on).await;
    assert!(on.cache().fill(KEY, token, &entry("Ann"), SHORT).await.unwrap());
    becomes_nothing(&on).await;
}

async fn not_found_is_an_entry_too(on: impl Adapter) {
    let token = lease(&on).await;
    let gone = Entry { loaded: 1, expires: 2, found: None };
    assert!(fill(&on, token, &gone).await);
    assert_eq!(slot(&on).await, Slot::Entry(gone));
}

async fn a_forfeit_removes_its_own_lease_and_nothing_else(on: impl Adapter) {
    let held = lease(&on).await;
    on.cache().forfeit(KEY, Token::new()).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Lease(held));
    on.cache().forfeit(KEY, held).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Nothing);

    let token = lease(&on).await;
    fill(&on, token, &entry("Ann")).await;
    on.cache().forfeit(KEY, token).await.unwrap();
    assert!(matches!(slot(&on).await, Slot::Entry(_)));
}

async fn a_fence_breaks_a_lease_and_replaces_an_entry(on: impl Adapter) {
    let held = lease(&on).await;
    let writer = fence(&on, LONG).await;
    assert!(!fill(&on, held, &entry("old")).await);
    assert!(is_fenced(&on).await);
    on.cache().release(KEY, writer).await.unwrap();
    assert!(!fill(&on, held, &entry("old")).await, "the lease is gone for good");

    let token = lease(&on).await;
    fill(&on, token, &entry("Ann")).await;
    fence(&on, LONG).await;
    assert!(is_fenced(&on).await);
}

async fn a_lease_is_not_given_past_a_fence(on: impl Adapter) {
    fence(&on, LONG).await;
    let answer = on.cache().lease(KEY, Token::new(), LONG).await.unwrap();
    assert!(matches!(answer, Slot::Fence(_)), "{answer:?}");
}

/// A lease whose answer was lost executes after a write: its reader has long gone on with another
/// token, so that nobody can fill it.
async fn a_late_lease_is_nobodys(on: impl Adapter) {
    let (lost, writer) = (Token::new(), fence(&on, LONG).await);
    on.cache().release(KEY, writer).await.unwrap();
    on.cache().lease(KEY, lost, SHORT).await.unwrap();
    let next = on.cache().lease(KEY, Token::new(), LONG).await.unwrap();
    assert_eq!(next, Slot::Lease(lost));
    becomes_nothing(&on).await;
}

async fn writers_join_a_fence_and_the_last_release_removes_it(on: impl Adapter) {
    let (first, second) = (fence(&on, LONG).await, fence(&on, LONG).await);
    on.cache().release(KEY, second).await.unwrap();
    assert!(is_fenced(&on).await);
    on.cache().release(KEY, second).await.unwrap(); // late, or twice: harmless
    assert!(is_fenced(&on).await);
    on.cache().release(KEY, first).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Nothing);
}

async fn each_writer_has_its_own_deadline(on: impl Adapter) {
    let (_dead, alive) = (fence(&on, SHORT).await, fence(&on, LONG).await);
    tokio::time::sleep(SHORT + Duration::from_millis(50)).await;
    assert!(is_fenced(&on).await);
    // The dead writer's deadline has passed: the other's release leaves nothing.
    on.cache().release(KEY, alive).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Nothing);
}

async fn a_short_fence_does_not_cut_a_long_one(on: impl Adapter) {
    let long = fence(&on, LONG).await;
    let short = fence(&on, SHORT).await;
    tokio::time::sleep(SHORT + Duration::from_millis(50)).await;
    assert!(is_fenced(&on).await);
    on.cache().release(KEY, short).await.unwrap();
    assert!(is_fenced(&on).await);
    on.cache().release(KEY, long).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Nothing);
    // And alone, a short one does end.
    fence(&on, SHORT).await;
    becomes_nothing(&on).await;
}

async fn a_fence_that_is_renewed_stands_its_full_time_again(on: impl Adapter) {
    let writer = fence(&on, SHORT).await;
    on.cache().fence(KEY, writer, LONG).await.unwrap();
    tokio::time::sleep(SHORT + Duration::from_millis(50)).await;
    assert!(is_fenced(&on).await);
    on.cache().release(KEY, writer).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Nothing);
}

async fn a_release_removes_whatever_is_no_fence(on: impl Adapter) {
    let token = lease(&on).await;
    on.cache().release(KEY, Token::new()).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Nothing);
    assert!(!fill(&on, token, &entry("old")).await);

    let token = lease(&on).await;
    fill(&on, token, &entry("Ann")).await;
    on.cache().release(KEY, Token::new()).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Nothing);
    on.cache().release(KEY, Token::new()).await.unwrap(); // of nothing: harmless
}

async fn a_release_with_a_strange_token_minds_no_fence(on: impl Adapter) {
    fence(&on, LONG).await;
    on.cache().release(KEY, Token::new()).await.unwrap();
    assert!(is_fenced(&on).await);
}

async fn foreign_bytes_are_told_and_replaced(on: impl Adapter) {
    for bytes in [&b"{'id': 'a Python dict'}"[..], b"\xff\x00", b"lease x", b"fence "] {
        on.put(bytes).await;
        assert_eq!(slot(&on).await, Slot::Foreign);
        let answer = on.cache().lease(KEY, Token::new(), LONG).await.unwrap();
        assert_eq!(answer, Slot::Foreign);
        assert!(!fill(&on, Token::new(), &entry("x")).await);
        on.cache().release(KEY, Token::new()).await.unwrap();
        assert_eq!(slot(&on).await, Slot::Nothing);

        on.put(bytes).await;
        let writer = fence(&on, LONG).await;
        assert!(is_fenced(&on).await);
        on.cache().release(KEY, writer).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_foreign_and_replaced() {
    let on = OnRedis::start(&[]);
    let key = format!("p:{KEY}");
    let push = async || on.server.command::<i64>(&["RPUSH", &key, "x"]).await;
    push().await;
    assert_eq!(slot(&on).await, Slot::Foreign);
    assert_eq!(on.cache().lease(KEY, Token::new(), LONG).await.unwrap(), Slot::Foreign);
    assert!(!fill(&on, Token::new(), &entry("x")).await);
    on.cache().forfeit(KEY, Token::new()).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Foreign);
    on.cache().release(KEY, Token::new()).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Nothing);

    push().await;
    fence(&on, LONG).await;
    assert!(is_fenced(&on).await);
}

#[tokio::test]
async fn what_is_in_redis_reads_as_documented() {
    let on = OnRedis::start(&[]);
    let key = format!("p:{KEY}");
    let token = lease(&on).await;
    let text: Vec<u8> = on.server.command(&["GET", &key]).await;
    assert_eq!(text, lease_bytes(token));
    let written = entry("Ann");
    fill(&on, token, &written).await;
    let text: String = on.server.command(&["GET", &key]).await;
    let (loaded, expires) = (written.loaded, written.expires);
    assert_eq!(
        text,
        format!(
            r#"{{"loaded":{loaded},"expires":{expires},"found":{{"etag":"W/\"1\"","value":"Ann"}}}}"#
        )
    );
}

/// One node that owns all slots: the cluster client, its redirections aside, does all it does.
#[tokio::test]
async fn the_steps_work_on_a_cluster() {
    let server = Redis::with(&["--cluster-enabled", "yes"]);
    let _: String = server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    eventually(Duration::from_secs(10), "the cluster is up", || async {
        server.command::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")
    })
    .await;
    let seeds = format!("{0},{0}", server.url()).parse().unwrap();
    let access = RedisAccess { url: seeds, identity: None };
    let cache = RedisCache::new(&access, "p:", Duration::from_secs(1)).unwrap();
    let on = OnRedis { cache, server };
    eventually(Duration::from_secs(10), "the client has connected", || async {
        Cache::<String>::probe(&on.cache).await.is_ok()
    })
    .await;

    let token = lease(&on).await;
    assert!(fill(&on, token, &entry("Ann")).await);
    assert!(matches!(slot(&on).await, Slot::Entry(_)));
    let writer = fence(&on, LONG).await;
    assert!(is_fenced(&on).await);
    on.cache().release(KEY, writer).await.unwrap();
    assert_eq!(slot(&on).await, Slot::Nothing);
}
