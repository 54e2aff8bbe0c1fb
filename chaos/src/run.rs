//! A run of one regime: it starts the servers, lets clients and faults loose on them, ends them in order, and
//! checks what the clients saw.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use test_programs::client::{Client, Request};
use test_programs::program::Program;
use test_programs::table::Table;
use test_programs::table_proxy::Proxy;
use test_programs::tcp_proxy::TcpProxy;
use test_servers::{Redis, RedisCluster, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::checker::{Contradiction, Guarantee, check};
use crate::clients::{ChaosClient, Role, Tally, Traffic};
use crate::faults::{RedisKind, Servers};
use crate::handlers::{Footprint, Handler, Launch};
use crate::history::{Call, Clock, Effect, History, Operation, Time, Value};
use crate::regime::{Regime, TABLE_CALLS};
use crate::users::{User, Users, name, value};
use crate::weakened::{Weakening, WeakeningProxy};

/// How many users are read and written at the same time.
const USERS: usize = 12;
/// The clients of each handler.
const READERS: usize = 5;
const WRITERS: usize = 2;
/// How long a user is in use, in milliseconds.
const LIVES: std::ops::Range<u64> = 1_000..8_000;
/// How long everything has to calm down before the end is checked: longer than anything can be stale.
const CALM: Duration = Duration::from_secs(4);
/// How much more memory a handler may hold at the end than it did after a second of traffic, in megabytes.
const MORE_MEMORY: f64 = 16.0;
/// Long enough for anything that ends at all.
const LONG: Duration = Duration::from_secs(30);

/// What to run, for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What happens, and what must hold.
    pub regime: Regime,
    /// Whether handlers have local copies.
    pub with_copies: bool,
    /// Which program serves the users.
    pub program: Program,
    /// Its executable, if not the one that was built beside this one.
    pub executable: Option<PathBuf>,
    /// A rule of the protocol that is left out.
    pub weakening: Option<Weakening>,
    /// Determines which faults happen and what clients send, but not when exactly.
    pub seed: u64,
    /// How long the traffic lasts.
    pub time: Duration,
    /// It ends before that when there has been enough.
    pub enough: Option<Enough>,
    /// Whether it ends at the first contradiction.
    pub until_contradiction: bool,
    /// Whether progress is shown.
    pub shows_progress: bool,
}

/// How much there must have been, at least, in a run that is not to take all of its time.
#[derive(Clone, Copy, Debug)]
pub struct Enough {
    /// Operations of clients.
    pub operations: u64,
    /// Faults.
    pub faults: usize,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What had to hold.
    pub guarantee: Guarantee,
    /// How long the traffic lasted.
    pub lasted: Duration,
    /// Numbers by name, in the order in which they are shown.
    pub figures: Vec<(&'static str, u64)>,
    /// How many operations there were.
    pub operations: u64,
    /// How often each fault happened.
    pub faults: BTreeMap<&'static str, usize>,
    /// The users whose history has a contradiction, the shortest one first.
    pub contradictions: Vec<(String, Contradiction, History)>,
    /// What else should not have happened.
    pub failures: Vec<String>,
    /// What a handler that was never killed held at first, and in the end.
    pub footprints: Option<(Footprint, Footprint)>,
}

impl Outcome {
    /// Whether everything held.
    pub fn holds(&self) -> bool {
        self.contradictions.is_empty() && self.failures.is_empty()
    }
}

impl Plan {
    /// The name of the run.
    pub fn name(&self) -> String {
        let copies = if self.with_copies { "-copies" } else { "" };
        match (self.program, self.weakening) {
            (Program::Handler, None) => format!("{}{copies}", self.regime.name),
            (Program::Handler, Some(weakening)) => {
                format!("{}{copies}-without-rule-{}", self.regime.name, weakening.number())
            }
            (program, _) => program.name().to_owned(),
        }
    }

    /// Runs it.
    pub async fn run(&self) -> Outcome {
        let (servers, traffic) = self.start().await;
        let guarantee = self.regime.guarantee(self.with_copies);
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        let mut seeds = StdRng::seed_from_u64(self.seed);
        let before = traffic.handlers[0].footprint();
        for handler in 0..traffic.handlers.len() {
            for nth in 0..READERS + WRITERS {
                let role = if nth < READERS { Role::Reader } else { Role::Writer };
                let client = ChaosClient::new(Arc::clone(&traffic), handler, role, seeds.random());
                clients.spawn(client.run());
            }
        }
        let mut others = JoinSet::new();
        others.spawn(renew(Arc::clone(&traffic), seeds.random()));
        sleep(Duration::from_secs(1)).await;
        let warm = traffic.handlers[0].footprint();
        // The peers are caught lying without any.
        if self.program == Program::Handler {
            for lane in self.regime.lanes {
                let lane = lane.run(seeds.random(), Arc::clone(&traffic), Arc::clone(&servers));
                others.spawn(lane);
            }
        }
        self.wait(begun, guarantee, &traffic, &servers).await;
        let lasted = begun.elapsed();
        traffic.ends.store(true, Ordering::SeqCst);
        join("the faults", others).await;
        join("the clients", clients).await;
        if !self.until_contradiction {
            sleep(CALM).await;
            self.check_the_end(&traffic, &servers).await;
        }
        let after = traffic.handlers[0].footprint();
        let footprints = match (before, warm, after) {
            (Some(before), Some(warm), Some(after)) => {
                Some((Footprint { memory: warm.memory, ..before }, after))
            }
            _ => None,
        };
        if let Some((first, last)) = footprints.filter(|_| !self.until_contradiction) {
            check_footprints(&traffic.tally, first, last);
        }
        let contradictions = contradictions(&traffic, guarantee).await;
        let Tally { reads, writes, unknown, unavailable, broken_off, stale, hits, .. } =
            &traffic.tally;
        let figures = [
            ("reads", reads),
            ("hits", hits),
            ("writes", writes),
            ("writes of unknown outcome", unknown),
            ("broken off", broken_off),
            ("503", unavailable),
            ("marked stale", stale),
        ];
        Outcome {
            guarantee,
            lasted,
            figures: figures.map(|(name, it)| (name, it.load(Ordering::Relaxed))).to_vec(),
            operations: traffic.tally.operations(),
            faults: servers.faults.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            contradictions,
            failures: traffic.tally.failures(),
            footprints,
        }
    }

    /// Starts the servers and the handlers, and creates the first users.
    async fn start(&self) -> (Arc<Servers>, Arc<Traffic>) {
        let table = Table::start().await;
        let table_proxy = Proxy::in_front_of(table.port()).await;
        let redis = match self.regime.is_cluster {
            true => RedisKind::Cluster(RedisCluster::start(Duration::from_millis(800)).await),
            false => RedisKind::Server(Redis::start()),
        };
        let number = if self.program == Program::Handler { 3 } else { 2 };
        let (mut handlers, mut lines) = (Vec::new(), Vec::new());
        let mut weakened = None;
        for nth in 0..number {
            let mut settings = self.regime.settings(self.with_copies);
            settings.extend(self.weakening.filter(|_| nth == 1).and_then(Weakening::setting));
            let port = match &redis {
                RedisKind::Cluster(cluster) => {
                    settings.push(("REDIS_URL", cluster.url()));
                    None
                }
                RedisKind::Server(redis) if self.regime.has_lines => {
                    let line = TcpProxy::in_front_of(redis.port).await;
                    let port = line.port;
                    lines.push(line);
                    Some(port)
                }
                RedisKind::Server(redis) => match self.weakening {
                    Some(weakening) => {
                        if weakened.is_none() {
                            let proxy = WeakeningProxy::in_front_of(redis.port, weakening).await;
                            weakened = Some(proxy.port);
                        }
                        weakened
                    }
                    None => Some(redis.port),
                },
            };
            let launch = Launch {
                program: self.program,
                executable: self.executable.clone(),
                table: table_proxy.port,
                redis: port,
                settings,
            };
            handlers.push(Handler::start(launch));
        }
        for handler in &handlers {
            eventually(LONG, "the handler answers", || answers(handler.port)).await;
        }
        let mut users = Vec::new();
        let mut random = StdRng::seed_from_u64(self.seed);
        for nth in 0..USERS {
            users.push(new_user(nth, nth as u64, &handlers, self.program, &mut random).await);
        }
        let traffic = Traffic {
            clock: Clock::start(),
            handlers,
            program: self.program,
            users: Users::new(users, USERS as u64),
            tally: Tally::default(),
            // With local copies a write takes long, and no hit is possible meanwhile.
            longest_pause: if self.with_copies { 600 } else { 60 },
            ends: AtomicBool::new(false),
        };
        let servers = Servers {
            table,
            table_proxy,
            redis: tokio::sync::Mutex::new(redis),
            lines,
            faults: Mutex::default(),
        };
        (Arc::new(servers), Arc::new(traffic))
    }

    /// Waits until there has been enough, and shows what there is meanwhile.
    async fn wait(
        &self,
        begun: Instant,
        guarantee: Guarantee,
        traffic: &Traffic,
        servers: &Servers,
    ) {
        let mut shown = Instant::now();
        let is_enough = || {
            self.enough.is_some_and(|enough| {
                traffic.tally.operations() >= enough.operations
                    && servers.number_of_faults() >= enough.faults
            })
        };
        while begun.elapsed() < self.time && !is_enough() {
            sleep(Duration::from_millis(250)).await;
            servers.table_proxy.forget(); // it would remember all calls
            if self.shows_progress && shown.elapsed() > Duration::from_secs(5) {
                shown = Instant::now();
                eprintln!(
                    "  {}: {:.0} of {:.0} s, {} operations, {} faults",
                    self.name(),
                    begun.elapsed().as_secs_f64(),
                    self.time.as_secs_f64(),
                    traffic.tally.operations(),
                    servers.number_of_faults()
                );
            }
            if self.until_contradiction && !contradictions(traffic, guarantee).await.is_empty() {
                return;
            }
        }
    }

    /// Reads each user through each handler and from the table, now that everything works.
    async fn check_the_end(&self, traffic: &Traffic, servers: &Servers) {
        for user in traffic.users.all() {
            for (nth, handler) in traffic.handlers.iter().enumerate() {
                let start = traffic.clock.now();
                let read = timeout(LONG, final_read(handler.port, &user.path)).await;
                match read.unwrap_or_else(|_| Err(format!("nothing within {LONG:?}"))) {
                    Ok(value) => user.recorder.add(Operation {
                        start,
                        end: traffic.clock.now(),
                        effect: Effect::Read(value),
                        call: Call::Get,
                        handler: nth as u8,
                    }),
                    Err(error) => traffic.tally.fail(format!(
                        "handler {nth} does not answer GET {} in the end: {error}",
                        user.path
                    )),
                }
            }
            let start = traffic.clock.now();
            let row =
                timeout(LONG, servers.table.read(&user.id)).await.expect("a table that answers");
            let Some(stored) = row.as_deref().map_or(Some(Value::None), value) else {
                traffic.tally.fail(format!("the row of {} is not one that was written", user.id));
                continue;
            };
            let last = Operation {
                start,
                end: traffic.clock.now(),
                effect: Effect::Read(stored),
                call: Call::Table,
                handler: 0,
            };
            if let Err(lost) = check(&writes_and(last, &user), Guarantee::Linearizable) {
                traffic.tally.fail(format!("a write to {} was lost:\n{lost}", user.id));
            }
        }
    }
}

/// All writes of a user, and one read.
fn writes_and(read: Operation, user: &User) -> History {
    let mut history = user.history();
    history.operations.retain(|operation| operation.effect.written().is_some());
    history.operations.push(read);
    history
}

async fn join(what: &str, mut tasks: JoinSet<()>) {
    let ended = timeout(3 * LONG, async {
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a task that ends in order");
        }
    });
    assert!(ended.await.is_ok(), "{what} do not end");
}

async fn answers(port: u16) -> bool {
    let Ok(mut client) = Client::connect(port).await else { return false };
    let answer = timeout(LONG, client.get("/api/live")).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200))
}

/// Reads a user, again if the table was not available.
async fn final_read(port: u16, path: &str) -> Result<Value, String> {
    let mut last = String::new();
    for _ in 0..20 {
        let mut client = Client::connect(port).await.map_err(|error| error.to_string())?;
        let answer = client.get(path).await.map_err(|error| error.to_string())?;
        match answer.status {
            200 if !answer.cache_status.contains("table-unavailable") => {
                return value(answer.name()).ok_or(answer.body);
            }
            404 => return Ok(Value::None),
            _ => last = answer.body,
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(last)
}

/// Creates a user with a name, or chooses an id that does not exist yet.
async fn new_user(
    number: usize,
    fresh_name: u64,
    handlers: &[Handler],
    program: Program,
    random: &mut StdRng,
) -> User {
    if program == Program::Handler && random.random_ratio(1, 4) {
        return User::absent(number);
    }
    for _ in 0..20 {
        let port = handlers[random.random_range(0..handlers.len())].port;
        let body = &format!(r#"{{"name":"{}"}}"#, name(fresh_name));
        let create = async {
            let mut client = Client::connect(port).await?;
            let request = Request { method: "POST", path: "/api/users", condition: None, body };
            client.send(request).await
        };
        match timeout(Duration::from_secs(2), create).await {
            Ok(Ok(answer)) if answer.status == 201 => {
                return User::present(number, answer.location, Value::Number(fresh_name));
            }
            // If one was created all the same, nobody knows of it.
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
    User::absent(number)
}

/// Puts new users in the place of others, each after some seconds.
async fn renew(traffic: Arc<Traffic>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let life = |random: &mut StdRng| Duration::from_millis(random.random_range(LIVES));
    let mut ends: Vec<_> =
        (0..traffic.users.places()).map(|_| Instant::now() + life(&mut random)).collect();
    let numbers = AtomicU64::new(traffic.users.places() as u64);
    while !traffic.ends.load(Ordering::Relaxed) {
        for (place, end) in ends.iter_mut().enumerate() {
            if *end < Instant::now() {
                let number = numbers.fetch_add(1, Ordering::Relaxed) as usize;
                let name = traffic.users.fresh_name();
                let (handlers, program) = (&traffic.handlers, traffic.program);
                let user = new_user(number, name, handlers, program, &mut random).await;
                traffic.users.replace(place, user);
                *end = Instant::now() + life(&mut random);
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The users whose history does not keep the guarantee.
async fn contradictions(
    traffic: &Traffic,
    guarantee: Guarantee,
) -> Vec<(String, Contradiction, History)> {
    let users = traffic.users.all();
    let found = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        for user in users {
            let history = user.history();
            if let Err(contradiction) = check(&history, guarantee) {
                found.push((user.id.clone(), contradiction, history));
            }
        }
        let first = |it: &Contradiction| it.operations.first().map(|operation| operation.start);
        found.sort_by_key(|(_, it, _)| (it.operations.len(), first(it)));
        found
    });
    found.await.expect("a checker that ends")
}

fn check_footprints(tally: &Tally, first: Footprint, last: Footprint) {
    if last.memory > first.memory + MORE_MEMORY {
        tally.fail(format!("memory has grown from {:.0} to {:.0} MB", first.memory, last.memory));
    }
    // It keeps connections to the table for a minute, and has one to Redis, or one to each node.
    let most = first.sockets + TABLE_CALLS;
    if last.sockets > most {
        tally
            .fail(format!("open sockets: {} at first, {} in the end", first.sockets, last.sockets));
    }
}

/// The moment at which a contradiction was complete: its last operation had begun.
pub fn moment(contradiction: &Contradiction) -> Time {
    let starts = contradiction.operations.iter().map(|operation| operation.start);
    starts.max().unwrap_or(Time(0))
}
