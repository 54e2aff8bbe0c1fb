//! The clients: each has a connection to one handler, sends one request after the other, and records
//! what came of each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use test_programs::client::{Answer, Client, Request};
use test_programs::program::Program;
use tokio::time::{Instant, sleep, timeout};

use crate::handlers::{Handler, Life};
use crate::history::{Call, Clock, Effect, Operation, Time, Value};
use crate::users::{User, Users, name, value};

/// The longest time in which a handler must answer, or close the connection. It is longer than all its
/// own bounds together, with the longest time for which it is stopped.
const LIMIT: Duration = Duration::from_secs(20);
/// How long a handler may take to start.
const START: Duration = Duration::from_secs(10);

/// What clients share.
pub struct Traffic {
    /// The clock of the run.
    pub clock: Clock,
    /// What serves them.
    pub handlers: Vec<Handler>,
    /// Which program that is. The peers have fewer calls.
    pub program: Program,
    /// Whom they read and write.
    pub users: Users,
    /// What happened.
    pub tally: Tally,
    /// The longest pause of a writer, in milliseconds.
    pub longest_pause: u64,
    /// Set when they should end.
    pub ends: AtomicBool,
}

/// What happened, in numbers, and what should not have happened.
#[derive(Default)]
pub struct Tally {
    /// Requests with an answer from which something follows.
    pub reads: AtomicU64,
    /// Writes that were sent.
    pub writes: AtomicU64,
    /// Writes without an answer, or whose answer says that the outcome is unknown.
    pub unknown: AtomicU64,
    /// Requests that were answered with `503`, and which did nothing.
    pub unavailable: AtomicU64,
    /// Requests without an answer because their handler was killed.
    pub broken_off: AtomicU64,
    /// Reads whose answer was marked as stale.
    pub stale: AtomicU64,
    /// Reads that were answered from Redis or from a local copy.
    pub hits: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It reads, many times in a row.
    Reader,
    /// It writes, and reads now and then.
    Writer,
}

/// A version that the client has seen.
struct Version {
    user: usize,
    value: Value,
    etag: String,
}

/// A client of one handler.
pub struct ChaosClient {
    traffic: Arc<Traffic>,
    handler: usize,
    role: Role,
    random: StdRng,
    connection: Option<(Client, Life)>,
    /// What it has seen last.
    versions: Vec<Version>,
}

/// A request that a client has chosen.
struct Choice {
    call: Call,
    /// The number of the name to write.
    number: Option<u64>,
    effect: Effect,
    condition: Option<(&'static str, String)>,
}

impl Tally {
    /// All requests with an answer or without.
    pub fn operations(&self) -> u64 {
        self.reads.load(Ordering::Relaxed) + self.writes.load(Ordering::Relaxed)
    }

    /// Notes what should not have happened.
    pub fn fail(&self, failure: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
    }

    /// What should not have happened.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Call {
    fn method(self) -> &'static str {
        self.name().split(' ').next().unwrap_or_default()
    }
}

impl ChaosClient {
    /// A client of the handler with this number. `seed` determines what it sends.
    pub fn new(traffic: Arc<Traffic>, handler: usize, role: Role, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { traffic, handler, role, random, connection: None, versions: Vec::new() }
    }

    /// Sends requests until the traffic ends.
    pub async fn run(mut self) {
        while !self.traffic.ends.load(Ordering::Relaxed) {
            let (burst, pause) = match self.role {
                Role::Reader => (self.random.random_range(1..=32), self.random.random_range(0..25)),
                Role::Writer => (1, self.random.random_range(0..self.traffic.longest_pause)),
            };
            for _ in 0..burst {
                let user = self.traffic.users.pick(&mut self.random);
                let choice = self.choose(&user);
                self.request(&user, choice).await;
            }
            sleep(Duration::from_millis(pause)).await;
        }
    }

    fn choose(&mut self, user: &User) -> Choice {
        let read = Choice {
            call: Call::Get,
            number: None,
            effect: Effect::Read(Value::None),
            condition: None,
        };
        if self.role == Role::Reader {
            return read;
        }
        let version = self.versions.iter().find(|version| version.user == user.number);
        let if_match = version.map(|version| (version.value, version.etag.clone()));
        let is_peer = self.traffic.program != Program::Handler;
        let dice = self.random.random_range(0..100);
        let write = |call, old: Option<Value>, condition| {
            let number = self.traffic.users.fresh_name();
            let new = Value::Number(number);
            let effect = old.map_or(Effect::Write(new), |old| Effect::Replace { old, new });
            Choice { call, number: Some(number), effect, condition }
        };
        match (dice, if_match) {
            (0..30, _) => read,
            _ if is_peer => write(Call::Patch, None, None),
            (30..60, _) => write(Call::Patch, None, None),
            (60..75, _) => write(Call::Put, None, None),
            (75..78, _) => {
                let condition = Some(("If-None-Match", "*".to_owned()));
                write(Call::PutIfNoneMatch, Some(Value::None), condition)
            }
            (78..81, version) if user.claim_deletion() => {
                let (call, effect, condition) = match version {
                    Some((old, etag)) if dice == 78 => {
                        let effect = Effect::Replace { old, new: Value::None };
                        (Call::DeleteIfMatch, effect, Some(("If-Match", etag)))
                    }
                    _ => (Call::Delete, Effect::Write(Value::None), None),
                };
                Choice { call, number: None, effect, condition }
            }
            (81.., Some((old, etag))) => {
                let call = if dice % 2 == 0 { Call::PatchIfMatch } else { Call::PutIfMatch };
                write(call, Some(old), Some(("If-Match", etag)))
            }
            _ => read,
        }
    }

    /// A connection to the handler, and the life in which it was made. `None` if the traffic ends first.
    async fn connect(&mut self) -> Option<&mut (Client, Life)> {
        let handler = &self.traffic.handlers[self.handler];
        if self.connection.as_ref().is_some_and(|(_, life)| Some(*life) != handler.life()) {
            self.connection = None; // it is one to a dead process
        }
        let mut alive_since = None;
        while self.connection.is_none() {
            if self.traffic.ends.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(life) = handler.life() {
                if let Ok(client) = Client::connect(handler.port).await {
                    self.connection = Some((client, life));
                    break;
                }
                let (since, first) = *alive_since.get_or_insert((Instant::now(), life));
                if first != life {
                    alive_since = None;
                } else if since.elapsed() > START {
                    let failure = format!("handler {} does not accept connections", self.handler);
                    self.traffic.tally.fail(failure);
                    alive_since = None;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
        self.connection.as_mut()
    }

    async fn request(&mut self, user: &User, choice: Choice) {
        let traffic = Arc::clone(&self.traffic);
        let (tally, handler) = (&traffic.tally, self.handler);
        let is_deletion = choice.effect.written() == Some(Value::None);
        let Some((client, life)) = self.connect().await else {
            if is_deletion {
                user.return_deletion();
            }
            return;
        };
        let life = *life;
        let Choice { call, number, effect, condition } = choice;
        let body =
            number.map_or(String::new(), |number| format!(r#"{{"name":"{}"}}"#, name(number)));
        let request = Request {
            method: call.method(),
            path: &user.path,
            condition: condition.as_ref().map(|(name, value)| (*name, value.as_str())),
            body: &body,
        };
        let start = traffic.clock.now();
        let operation = Operation { start, end: Time::NEVER, effect, call, handler: handler as u8 };
        let write = effect.written().map(|_| user.recorder.begin(operation));
        count(if write.is_some() { &tally.writes } else { &tally.reads });
        let answer = timeout(LIMIT, client.send(request)).await;
        let end = traffic.clock.now();
        let failure = match answer {
            Ok(Ok(answer)) => {
                let effects = effects(&operation, &answer, traffic.program, tally);
                let Effects { written, seen } = match effects {
                    Ok(effects) => effects,
                    Err(unexpected) => {
                        tally.fail(format!("{} at {start} s: {unexpected}", call.name()));
                        return;
                    }
                };
                if let (Some(write), Some(written)) = (write, written) {
                    user.recorder.end(write, end, written);
                    if is_deletion && written == Effect::Nothing {
                        user.return_deletion();
                    }
                    if let Some(value) = written.written() {
                        self.remember(user, value, answer.etag);
                    }
                } else if let Some(Effect::Read(value)) = seen {
                    self.remember(user, value, answer.etag);
                }
                if let Some(effect) = seen {
                    user.recorder.add(Operation { effect, end, ..operation });
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {LIMIT:?}"),
        };
        self.connection = None;
        if write.is_some() {
            count(&tally.unknown);
        }
        if traffic.handlers[handler].life() == Some(life) {
            tally.fail(format!(
                "handler {handler} lived, and did not answer {} {} at {start} s: {failure}",
                call.name(),
                user.path
            ));
        } else {
            count(&tally.broken_off);
        }
    }

    /// For later conditional writes.
    fn remember(&mut self, user: &User, value: Value, etag: String) {
        self.versions.retain(|version| version.user != user.number);
        if !etag.is_empty() {
            if self.versions.len() > 2 * self.traffic.users.places() {
                self.versions.remove(0);
            }
            self.versions.push(Version { user: user.number, value, etag });
        }
    }
}

/// What follows from an answer.
struct Effects {
    /// For a write: what it did. `None` if that is unknown.
    written: Option<Effect>,
    /// What it saw.
    seen: Option<Effect>,
}

/// What follows from an answer.
fn effects(
    operation: &Operation,
    answer: &Answer,
    program: Program,
    tally: &Tally,
) -> Result<Effects, String> {
    let refused = |seen| Ok(Effects { written: Some(Effect::Nothing), seen });
    let (call, effect) = (operation.call, operation.effect);
    match (call, answer.status) {
        (Call::Get, 200) => {
            if answer.cache_status.contains("table-unavailable") {
                count(&tally.stale);
                return Ok(Effects { written: None, seen: None });
            }
            if answer.source() != "table" {
                count(&tally.hits);
            }
            let value = value(answer.name());
            let value = value.ok_or_else(|| format!("an unknown name: {}", answer.body))?;
            Ok(Effects { written: None, seen: Some(Effect::Read(value)) })
        }
        // Something has been replaced or not, as the status tells. Only what was created shows what was
        // there before: nothing.
        (Call::Put | Call::PutIfNoneMatch, 201) => {
            let new = effect.written().unwrap_or(Value::None);
            let written = Some(Effect::Replace { old: Value::None, new });
            Ok(Effects { written, seen: None })
        }
        (Call::Patch | Call::PatchIfMatch | Call::Put | Call::PutIfMatch, 200)
        | (Call::Delete | Call::DeleteIfMatch, 204) => {
            Ok(Effects { written: Some(effect), seen: None })
        }
        (
            Call::Get | Call::Patch | Call::PatchIfMatch | Call::Delete | Call::DeleteIfMatch,
            404,
        ) => refused(Some(Effect::Read(Value::None))),
        (
            Call::PatchIfMatch | Call::PutIfMatch | Call::PutIfNoneMatch | Call::DeleteIfMatch,
            412,
        ) => {
            let Effect::Replace { old, .. } = effect else { return refused(None) };
            refused(Some(Effect::ReadOther(old)))
        }
        (_, 503)
            if program == Program::Handler && !answer.body.contains("may have been applied") =>
        {
            count(&tally.unavailable);
            refused(None)
        }
        (Call::Get, _) if program != Program::Handler => refused(None),
        (_, status) if status == 503 || program != Program::Handler => {
            count(&tally.unknown);
            Ok(Effects { written: None, seen: None })
        }
        (_, status) => Err(format!("{status}: {}", answer.body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Value = Value::Number(1);
    const NEW: Value = Value::Number(2);

    /// What the call does and sees, if this is the answer.
    fn follows(call: Call, effect: Effect, status: u16, body: &str) -> [Option<Effect>; 2] {
        let (start, end) = (Time(1), Time::NEVER);
        let operation = Operation { start, end, effect, call, handler: 0 };
        let answer = Answer { status, body: body.to_owned(), ..Answer::default() };
        let effects = effects(&operation, &answer, Program::Handler, &Tally::default()).unwrap();
        [effects.written, effects.seen]
    }

    #[test]
    fn an_answer_says_what_was_written_and_seen() {
        use Effect::{Nothing, Read, ReadOther, Write};
        let replace = Effect::Replace { old: OLD, new: NEW };
        let create = Effect::Replace { old: Value::None, new: NEW };
        let user = r#"{"source":"redis","data":{"PartitionKey":"user","RowKey":"1","Name":"v2"}}"#;
        let nothing_changed = "the table is unavailable and nothing was changed: try again";
        let unknown = "the table did not answer in time and the change may have been applied: read";
        for (call, effect, status, body, expected) in [
            (Call::Get, Read(OLD), 200, user, [None, Some(Read(NEW))]),
            (Call::Get, Read(OLD), 404, "", [Some(Nothing), Some(Read(Value::None))]),
            (Call::Get, Read(OLD), 503, nothing_changed, [Some(Nothing), None]),
            (Call::Patch, Write(NEW), 200, "", [Some(Write(NEW)), None]),
            (Call::Patch, Write(NEW), 404, "", [Some(Nothing), Some(Read(Value::None))]),
            (Call::Patch, Write(NEW), 503, nothing_changed, [Some(Nothing), None]),
            (Call::Patch, Write(NEW), 503, unknown, [None, None]),
            (Call::PatchIfMatch, replace, 200, "", [Some(replace), None]),
            (Call::PatchIfMatch, replace, 412, "", [Some(Nothing), Some(ReadOther(OLD))]),
            (Call::Put, Write(NEW), 200, "", [Some(Write(NEW)), None]),
            (Call::Put, Write(NEW), 201, "", [Some(create), None]),
            (Call::PutIfNoneMatch, create, 412, "", [Some(Nothing), Some(ReadOther(Value::None))]),
            (Call::Delete, Write(Value::None), 204, "", [Some(Write(Value::None)), None]),
        ] {
            assert_eq!(follows(call, effect, status, body), expected, "{call:?} {status} {body}");
        }
    }

    #[test]
    fn an_answer_that_no_call_may_have_is_a_failure() {
        let (start, end, call) = (Time(1), Time::NEVER, Call::Get);
        let operation = Operation { start, end, effect: Effect::Read(OLD), call, handler: 0 };
        let answer = Answer { status: 500, ..Answer::default() };
        assert!(effects(&operation, &answer, Program::Handler, &Tally::default()).is_err());
    }
}
