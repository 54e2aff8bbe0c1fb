//! What goes wrong: the faults, and lanes of faults, which follow one after the other in each lane while
//! the lanes go on side by side. A lane's seed determines its faults, their lengths and the pauses between
//! them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use test_programs::table::Table;
use test_programs::table_proxy::{Call, Fate, Proxy};
use test_programs::tcp_proxy::{Route, TcpProxy};
use test_servers::{Redis, RedisCluster, eventually};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::clients::Traffic;

/// What can be broken, besides the handlers.
pub struct Servers {
    /// The table.
    pub table: Table,
    /// In front of it.
    pub table_proxy: Proxy,
    /// Redis.
    pub redis: tokio::sync::Mutex<RedisKind>,
    /// Between each handler and Redis, where connections are cut.
    pub lines: Vec<TcpProxy>,
    /// How often each fault happened.
    pub faults: Mutex<BTreeMap<&'static str, usize>>,
}

/// Redis, as a server or as a cluster.
pub enum RedisKind {
    /// One server.
    Server(Redis),
    /// A cluster.
    Cluster(RedisCluster),
}

/// Faults of one kind, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Handlers are killed, or stopped for at most this time. The first of them is never killed.
    Handlers {
        /// In milliseconds.
        longest_stop: u64,
    },
    /// Loads are slow, fail or hang; writes are slow, or applied after they were answered with `503`;
    /// the table is restarted.
    Table,
    /// Loads and writes are slow.
    SlowTable,
    /// Redis loses keys: all of them, or one now and then because it is full.
    Losses,
    /// Redis hangs, is killed and started again empty, or is cut off from handlers.
    Outages,
    /// The masters of a cluster are killed or hang, and replicas take over.
    Failovers,
}

/// A fault, which lasts for a while.
#[derive(Clone, Debug)]
enum Fault {
    KillHandler(usize),
    StopHandler(usize),
    /// Loads, writes or both take so much longer.
    Slow {
        loads: Option<Duration>,
        writes: Option<Duration>,
    },
    FailLoads(u16),
    HangLoads,
    LateWrites(Duration),
    RestartTable,
    FlushRedis,
    FillRedis,
    HangRedis,
    KillRedis,
    CutOff(Vec<usize>, Route),
    /// Of which pair of a master and its replica, and by which signal.
    FailOver(usize, &'static str),
}

/// How long after its answer a write may at most be applied. It is well below the margin that handlers
/// allow for that.
const LATEST: u64 = cache_aside::LATE_WRITE_MARGIN.as_millis() as u64 / 2;

/// Enough to have something removed for nearly each key that is added.
const SPACE: u64 = 1024 * 1024;
const FILLER: usize = 10 * 1024;

fn millis(random: &mut StdRng, range: Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

impl Servers {
    fn count(&self, fault: &'static str) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner).entry(fault).or_default() += 1;
    }

    /// How many faults there were.
    pub fn number_of_faults(&self) -> usize {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Lane {
    /// Lets faults happen until the traffic ends. None is left afterwards.
    pub async fn run(self, seed: u64, traffic: Arc<Traffic>, servers: Arc<Servers>) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut pause = millis(&mut random, 300..1000);
        loop {
            let paused = Instant::now();
            while paused.elapsed() < pause {
                if traffic.ends.load(Ordering::Relaxed) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
            let (fault, lasts) = self.next(&mut random, traffic.handlers.len());
            servers.count(fault.name());
            fault.happen(lasts, &traffic, &servers, &mut random).await;
            pause = millis(&mut random, 100..1200);
        }
    }

    /// The next fault, and how long it lasts.
    fn next(self, random: &mut StdRng, handlers: usize) -> (Fault, Duration) {
        let handler = random.random_range(0..handlers);
        match self {
            Self::Handlers { longest_stop } => match handler {
                0 => (Fault::StopHandler(handler), millis(random, 50..longest_stop)),
                _ if random.random_ratio(1, 3) => {
                    (Fault::StopHandler(handler), millis(random, 50..longest_stop))
                }
                _ => (Fault::KillHandler(handler), millis(random, 0..500)),
            },
            Self::Table => match random.random_range(0..12) {
                0..6 => Fault::slow(random),
                6 => (Fault::FailLoads(500), millis(random, 200..800)),
                7 => (Fault::FailLoads(503), millis(random, 200..800)),
                8 => (Fault::HangLoads, millis(random, 200..800)),
                9..11 => (Fault::LateWrites(millis(random, 1..LATEST)), millis(random, 100..600)),
                _ => (Fault::RestartTable, Duration::ZERO),
            },
            Self::SlowTable => Fault::slow(random),
            Self::Losses if random.random_ratio(3, 4) => (Fault::FlushRedis, Duration::ZERO),
            Self::Losses => (Fault::FillRedis, millis(random, 500..2000)),
            Self::Outages => match random.random_range(0..8) {
                0..2 => (Fault::HangRedis, millis(random, 50..2000)),
                2 => (Fault::KillRedis, millis(random, 0..1500)),
                of => {
                    let route = if of % 2 == 0 { Route::Cut } else { Route::Hung };
                    let mut cut_off = vec![handler];
                    if random.random_ratio(1, 4) {
                        cut_off.push((handler + 1) % handlers);
                    }
                    // Often for a moment only: the connection is made again at once.
                    let lasts = if random.random() {
                        millis(random, 0..50)
                    } else {
                        millis(random, 50..2500)
                    };
                    (Fault::CutOff(cut_off, route), lasts)
                }
            },
            Self::Failovers => {
                let signal = if random.random() { "KILL" } else { "STOP" };
                (Fault::FailOver(random.random_range(0..3), signal), millis(random, 0..1000))
            }
        }
    }
}

impl Fault {
    /// Loads, writes or both are slow for a while.
    fn slow(random: &mut StdRng) -> (Self, Duration) {
        let kind = random.random_range(0..3);
        let loads = (kind != 0).then(|| millis(random, 20..1300));
        let writes = (kind != 1).then(|| millis(random, 20..500));
        (Self::Slow { loads, writes }, millis(random, 300..2000))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::KillHandler(_) => "handler killed",
            Self::StopHandler(_) => "handler stopped",
            Self::Slow { writes: None, .. } => "loads slow",
            Self::Slow { loads: None, .. } => "writes slow",
            Self::Slow { .. } => "loads and writes slow",
            Self::FailLoads(_) => "loads fail",
            Self::HangLoads => "loads hang",
            Self::LateWrites(_) => "writes applied late",
            Self::RestartTable => "table restarted",
            Self::FlushRedis => "Redis emptied",
            Self::FillRedis => "Redis full",
            Self::HangRedis => "Redis hung",
            Self::KillRedis => "Redis killed",
            Self::CutOff(_, Route::Cut) => "handler cut off",
            Self::CutOff(..) => "handler cut off without notice",
            Self::FailOver(_, "KILL") => "master killed",
            Self::FailOver(..) => "master hung",
        }
    }

    /// Begins it, waits, and ends it.
    async fn happen(
        self,
        lasts: Duration,
        traffic: &Traffic,
        servers: &Servers,
        random: &mut StdRng,
    ) {
        match self {
            Self::KillHandler(handler) => {
                let handler = &traffic.handlers[handler];
                handler.kill();
                sleep(lasts).await;
                handler.restart();
            }
            Self::StopHandler(handler) => {
                let handler = &traffic.handlers[handler];
                handler.signal("STOP");
                sleep(lasts).await;
                handler.signal("CONT");
            }
            Self::Slow { loads, writes } => {
                // Before the table has executed it, or after.
                let slow = move |call: &Call| {
                    let pause = if call.is_write() { writes } else { loads };
                    let before = rand::random();
                    pause.map(|it| if before { Fate::Delay(it) } else { Fate::DelayReply(it) })
                };
                servers.meanwhile(lasts, slow).await;
            }
            Self::FailLoads(status) => {
                let fails = move |call: &Call| call.is_read().then_some(Fate::Answer(status, ""));
                servers.meanwhile(lasts, fails).await;
            }
            Self::HangLoads => {
                servers.meanwhile(lasts, |call| call.is_read().then_some(Fate::Swallow)).await;
            }
            Self::LateWrites(pause) => {
                let late = move |call: &Call| {
                    call.is_write().then_some(Fate::AnswerThenForward(503, pause))
                };
                servers.meanwhile(lasts, late).await;
            }
            Self::RestartTable => {
                // What it was sent before must be applied by then, since it would be lost otherwise.
                servers.table_proxy.decide(|_| Fate::Answer(503, ""));
                sleep(Duration::from_millis(LATEST + 500)).await;
                block_in_place(|| servers.table.restart());
                servers.table_proxy.decide(|_| Fate::Pass);
            }
            Self::FlushRedis => {
                servers.server().await.command::<()>(&["FLUSHALL"]).await;
            }
            Self::FillRedis => fill(&*servers.server().await, lasts, random).await,
            Self::HangRedis => {
                let redis = servers.server().await;
                block_in_place(|| redis.signal("STOP"));
                sleep(lasts).await;
                block_in_place(|| redis.signal("CONT"));
            }
            Self::KillRedis => {
                let mut redis = servers.server().await;
                block_in_place(|| redis.stop());
                sleep(lasts).await;
                block_in_place(|| redis.restart());
            }
            Self::CutOff(handlers, route) => {
                for handler in &handlers {
                    servers.lines[*handler].set(route.clone());
                }
                sleep(lasts).await;
                for handler in &handlers {
                    servers.lines[*handler].set(Route::Open);
                }
            }
            Self::FailOver(pair, signal) => {
                let mut redis = servers.redis.lock().await;
                let RedisKind::Cluster(cluster) = &mut *redis else {
                    panic!("a failover needs a cluster")
                };
                fail_over(cluster, pair, signal, lasts).await;
            }
        }
    }
}

impl Servers {
    /// The one Redis server.
    async fn server(&self) -> tokio::sync::MappedMutexGuard<'_, Redis> {
        tokio::sync::MutexGuard::map(self.redis.lock().await, |kind| match kind {
            RedisKind::Server(redis) => redis,
            RedisKind::Cluster(_) => panic!("this fault is one of a single server"),
        })
    }

    /// For this time, this happens to three of four calls.
    async fn meanwhile(
        &self,
        lasts: Duration,
        fate: impl Fn(&Call) -> Option<Fate> + Send + Sync + 'static,
    ) {
        self.table_proxy.decide(move |call| match rand::random_ratio(3, 4) {
            true => fate(call).unwrap_or(Fate::Pass),
            false => Fate::Pass,
        });
        sleep(lasts).await;
        self.table_proxy.decide(|_| Fate::Pass);
    }
}

/// Leaves Redis so little memory that it removes keys, whichever they are, and adds some all the time.
async fn fill(redis: &Redis, lasts: Duration, random: &mut StdRng) {
    let mut connection = redis.connection().await;
    let info: String = redis.command(&["INFO", "memory"]).await;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.and_then(|text| text.trim().parse().ok()).expect("used_memory");
    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", &(used + SPACE).to_string()]).await;
    let filler = vec![b'x'; FILLER];
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        let mut pipeline = redis::pipe();
        for _ in 0..10 {
            let key = format!("filler:{}", random.random_range(0..1_000_000));
            pipeline.cmd("SET").arg(key).arg(&filler).arg("PX").arg(3000).ignore();
        }
        pipeline.query_async::<()>(&mut connection).await.expect("keys that are added");
        sleep(Duration::from_millis(10)).await;
    }
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
}

/// Kills the master of a pair, or stops it, until its replica has taken over; then it becomes the replica.
async fn fail_over(cluster: &mut RedisCluster, pair: usize, signal: &str, lasts: Duration) {
    let (mut master, mut replica) = (pair, pair + 3);
    let role: String = cluster.nodes[master].command(&["INFO", "replication"]).await;
    if role.contains("role:slave") {
        (master, replica) = (replica, master);
    }
    block_in_place(|| match signal {
        "KILL" => cluster.nodes[master].stop(),
        _ => cluster.nodes[master].signal(signal),
    });
    cluster.is_promoted(replica).await;
    sleep(lasts).await;
    block_in_place(|| match signal {
        "KILL" => cluster.nodes[master].restart(),
        _ => cluster.nodes[master].signal("CONT"),
    });
    let replica = &cluster.nodes[master];
    eventually(Duration::from_secs(60), "the old master is a replica in step", || async {
        let info: String = replica.command(&["INFO", "replication"]).await;
        info.contains("role:slave") && info.contains("master_link_status:up")
    })
    .await;
}
