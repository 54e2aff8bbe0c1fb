//! The Redis adapter on a real server: the contract of caches, what other programs put under a key,
//! and a cluster.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_core::Stream;
use redis::RedisResult;
use redis::auth::{BasicAuth, StreamingCredentialsProvider};
use test_servers::{Redis, RedisCluster, eventually};

use super::{RedisCache, RedisOptions};
use crate::cache::{Cache, CacheErrorKind, Fill, Release};
use crate::observer::{Event, Observer};
use crate::slot::{Entry, Slot, Token};

const LONG: Duration = Duration::from_secs(60);

/// A server shared by tests that run at the same time; each uses its own key prefix.
type Shared = tokio::sync::Mutex<Weak<Redis>>;

fn connect(urls: &str, prefix: &str) -> RedisCache {
    let options = RedisOptions::new(urls.parse().unwrap()).key_prefix(prefix);
    RedisCache::connect(options.timeout(Duration::from_secs(5))).unwrap()
}

async fn on_a_server() -> (RedisCache, Arc<Redis>) {
    static SERVER: Shared = Shared::const_new(Weak::new());
    let mut shared = SERVER.lock().await;
    let server = shared.upgrade().unwrap_or_else(|| Arc::new(Redis::start()));
    *shared = Arc::downgrade(&server);
    (connect(&server.url(), &Token::new().to_string()), server)
}

/// One node that has all slots of the cluster.
async fn on_a_cluster() -> (RedisCache, Arc<Redis>) {
    static CLUSTER: Shared = Shared::const_new(Weak::new());
    let mut shared = CLUSTER.lock().await;
    let server = match shared.upgrade() {
        Some(server) => server,
        None => Arc::new(RedisCluster::of_one().await),
    };
    *shared = Arc::downgrade(&server);
    let cache = connect(&format!("{0},{0}", server.url()), &Token::new().to_string());
    eventually(Duration::from_secs(10), "the client has connected", || async {
        Cache::<String, String>::probe(&cache).await.is_ok()
    })
    .await;
    (cache, server)
}

/// A server for one test; keys have the prefix `p:`.
fn own_server() -> (RedisCache, Redis) {
    let server = Redis::start();
    (connect(&server.url(), "p:"), server)
}

/// Notes whether the circuit is open, each time that changes.
#[derive(Default)]
struct Circuits(Mutex<Vec<bool>>);

impl Observer for Circuits {
    fn observe(&self, event: Event<'_>) {
        if let Event::Circuit { is_open } = event {
            self.0.lock().unwrap().push(is_open);
        }
    }
}

#[tokio::test]
async fn an_observer_is_told_once_that_redis_fails_and_once_that_it_works_again() {
    let (mut server, seen) = (Redis::start(), Arc::new(Circuits::default()));
    let options = RedisOptions::new(server.url().parse().unwrap());
    let options = options.observer(Arc::clone(&seen) as Arc<dyn Observer>);
    let cache = RedisCache::connect(options.timeout(Duration::from_secs(5))).unwrap();
    assert_eq!(slot(&cache).await, Slot::Nothing);
    assert!(seen.0.lock().unwrap().is_empty(), "it worked from the start");
    server.stop();
    for _ in 0..10 {
        let got: Result<Slot<String>, _> = cache.get(&key()).await;
        got.unwrap_err();
    }
    assert_eq!(*seen.0.lock().unwrap(), [true]);
    let skipped: Result<Slot<String>, _> = cache.get(&key()).await;
    assert_eq!(skipped.unwrap_err().kind(), CacheErrorKind::Skipped);
    server.restart();
    eventually(Duration::from_secs(10), "it is told", || async {
        *seen.0.lock().unwrap() == [true, false]
    })
    .await;
}

struct NoCredentials;

impl StreamingCredentialsProvider for NoCredentials {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        unreachable!("nothing is connected")
    }
}

#[tokio::test]
async fn sentinels_are_refused_together_with_credentials() {
    let options = RedisOptions::new("redis-sentinel://127.0.0.1:1/mymaster".parse().unwrap());
    let error = RedisCache::connect(options.credentials(Arc::new(NoCredentials))).err().unwrap();
    assert!(error.to_string().contains("only a password in the URL"), "{error}");
}

mod server_contract {
    crate::cache_contract!(super::on_a_server());
}

mod cluster_contract {
    crate::cache_contract!(super::on_a_cluster());
}

fn key() -> String {
    "key".to_owned()
}

async fn slot(cache: &RedisCache) -> Slot<String> {
    cache.get(&key()).await.unwrap()
}

async fn is_fenced(cache: &RedisCache) -> bool {
    matches!(slot(cache).await, Slot::Fence(_))
}

async fn lease(cache: &RedisCache) -> Slot<String> {
    cache.lease(&key(), Token::new(), LONG).await.unwrap()
}

async fn fill_without_lease(cache: &RedisCache) -> Fill {
    let entry = Entry { loaded: 1, expires: 2, found: Some("x".to_owned()) };
    cache.fill(&key(), Token::new(), &entry, LONG).await.unwrap()
}

async fn fence(cache: &RedisCache) -> Token {
    let token = Token::new();
    Cache::<String, String>::fence(cache, &key(), token, LONG).await.unwrap();
    token
}

async fn release(cache: &RedisCache, token: Token) {
    Cache::<String, String>::release(cache, &key(), token).await.unwrap();
}

#[tokio::test]
async fn foreign_bytes_are_reported_and_replaced() {
    let (cache, server) = own_server();
    for bytes in [&b"{'id': 'a Python dict'}"[..], b"\xff\x00", b"lease x", b"fence "] {
        let put = async || {
            let mut connection = server.connection().await;
            let mut set = redis::cmd("SET");
            set.arg("p:key").arg(bytes).query_async::<()>(&mut connection).await.unwrap();
        };
        put().await;
        assert_eq!(slot(&cache).await, Slot::Foreign);
        assert_eq!(lease(&cache).await, Slot::Foreign);
        assert_eq!(fill_without_lease(&cache).await, Fill::Refused);
        release(&cache, Token::new()).await;
        assert_eq!(slot(&cache).await, Slot::Nothing);

        put().await;
        let writer = fence(&cache).await;
        assert!(is_fenced(&cache).await);
        release(&cache, writer).await;
        assert_eq!(slot(&cache).await, Slot::Nothing);
    }
}

/// Whatever is there, a writer's fence stands until it is released, and then it is gone; readers see it as
/// long as it stands.
#[test]
fn a_fence_can_be_placed_and_released_whatever_is_there() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let (cache, server) = own_server();
    let mut connection = runtime.block_on(server.connection());
    let set = |connection: &mut redis::aio::MultiplexedConnection, bytes: &[u8]| {
        let mut set = redis::cmd("SET");
        runtime.block_on(set.arg("p:key").arg(bytes).query_async::<()>(connection)).unwrap();
    };
    let connection = std::cell::RefCell::new(&mut connection);
    let slot = || runtime.block_on(slot(&cache));
    let release = |token| runtime.block_on(Cache::<String, String>::release(&cache, &key(), token));
    fuzzing::Examples::new(super::slot_bytes::tests::EXAMPLES).and_edited_ones(300, &|bytes| {
        set(&mut connection.borrow_mut(), bytes);
        let before = slot();
        let token = runtime.block_on(fence(&cache));
        let Slot::Fence(fence) = slot() else { panic!("no fence") };
        let is_ours = |(writer, _): &(Token, u64)| *writer == token;
        let (ours, others): (Vec<_>, Vec<_>) = fence.writers().partition(is_ours);
        assert_eq!(ours.len(), 1);
        let now = ours[0].1 - LONG.as_millis() as u64;
        let mut expected: Vec<_> = match &before {
            Slot::Fence(fence) => fence.clone().without_expired(now).writers().collect(),
            _ => Vec::new(),
        };
        match before {
            // Of foreign bytes, the part that looks like a writer is kept.
            Slot::Foreign => expected.clone_from(&others),
            _ => assert_eq!(others, expected),
        }

        assert_eq!(release(token), Ok(Release::Found));
        if let Slot::Fence(fence) = slot() {
            expected.retain(|writer| fence.writers().any(|it| it == *writer));
            assert_eq!(fence.writers().collect::<Vec<_>>(), expected);
        }

        // What readers do with foreign bytes.
        set(&mut connection.borrow_mut(), bytes);
        assert_eq!(release(Token::new()), Ok(Release::NotFound));
        let after = slot();
        assert!(matches!(after, Slot::Nothing | Slot::Fence(_)), "{after:?}");
    });
}

#[tokio::test]
async fn a_key_of_another_type_is_foreign_and_replaced() {
    let (cache, server) = own_server();
    let push = async || server.command::<i64>(&["RPUSH", "p:key", "x"]).await;
    push().await;
    assert_eq!(slot(&cache).await, Slot::Foreign);
    assert_eq!(lease(&cache).await, Slot::Foreign);
    assert_eq!(fill_without_lease(&cache).await, Fill::Refused);
    Cache::<String, String>::forfeit(&cache, &key(), Token::new()).await.unwrap();
    assert_eq!(slot(&cache).await, Slot::Foreign);
    release(&cache, Token::new()).await;
    assert_eq!(slot(&cache).await, Slot::Nothing);

    push().await;
    fence(&cache).await;
    assert!(is_fenced(&cache).await);
}

#[tokio::test]
async fn the_bytes_in_redis_are_as_documented() {
    let (cache, server) = own_server();
    let Slot::Lease(token) = lease(&cache).await else { panic!("no lease") };
    let text: String = server.command(&["GET", "p:key"]).await;
    assert_eq!(text, format!("lease {token}"));

    let entry = Entry { loaded: 1, expires: 2, found: Some("Ann".to_owned()) };
    assert_eq!(cache.fill(&key(), token, &entry, LONG).await.unwrap(), Fill::Accepted);
    let text: String = server.command(&["GET", "p:key"]).await;
    assert_eq!(text, r#"{"loaded":1,"expires":2,"found":"Ann"}"#);

    let token = fence(&cache).await;
    let text: String = server.command(&["GET", "p:key"]).await;
    assert!(text.starts_with(&format!("fence {token}=")), "{text}");
}
