//! Rules of the protocol, each of which can be left out from outside: a proxy between the handlers and
//! Redis alters their steps, or a handler gets a setting that it must not have. A check is worth what it
//! catches, so each must be caught.
//!
//! The numbers are those of the mutations in the model of the protocol, `crates/cache-aside/tests/model`.
//! Not here are those that concern what a process does by itself: who may share a load, from when a copy is
//! counted, and the deadlines of fences with different TTLs.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::Script;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::regime::Regime;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakening {
    /// A write has no fence.
    NoFence,
    /// A second writer's fence replaces the first's.
    FenceReplacesFence,
    /// A release removes the key although another writer's token is in it.
    ReleaseEndsAllFences,
    /// A fill does not check its lease.
    FillWithoutLease,
    /// A release does nothing unless a fence is there.
    ReleaseKeepsEntries,
    /// A request for a lease is executed again later, right behind a release.
    LeaseRepeated,
    /// After an outcome that is unknown, the fence is released.
    UnknownIsReleased,
    /// A handler does not wait for the local copies of the others.
    NoWaitForCopies,
    /// A release says that it has found its token, whether or not it has.
    LostFenceIsNotNoticed,
}

const LEASE: &str = include_str!("../../crates/cache-aside/src/redis/lease.lua");
const FILL: &str = include_str!("../../crates/cache-aside/src/redis/fill.lua");
const FENCE: &str = include_str!("../../crates/cache-aside/src/redis/fence.lua");
const RELEASE: &str = include_str!("../../crates/cache-aside/src/redis/release.lua");

/// A fence of this writer alone.
const FENCE_ALONE: &str = "
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('SET', KEYS[1], string.format('fence %s=%.0f', ARGV[1], deadline), 'PX', ARGV[2])
return 1";

const DELETE: &str = "return redis.call('DEL', KEYS[1])";

const FILL_ANYWAY: &str = "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1";

impl Weakening {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NoFence,
        Self::FenceReplacesFence,
        Self::ReleaseEndsAllFences,
        Self::FillWithoutLease,
        Self::ReleaseKeepsEntries,
        Self::LeaseRepeated,
        Self::UnknownIsReleased,
        Self::NoWaitForCopies,
        Self::LostFenceIsNotNoticed,
    ];

    /// Its number among the mutations of the protocol.
    pub fn number(self) -> u8 {
        match self {
            Self::NoFence => 1,
            Self::FenceReplacesFence => 2,
            Self::ReleaseEndsAllFences => 3,
            Self::FillWithoutLease => 4,
            Self::ReleaseKeepsEntries => 7,
            Self::LeaseRepeated => 8,
            Self::UnknownIsReleased => 9,
            Self::NoWaitForCopies => 11,
            Self::LostFenceIsNotNoticed => 12,
        }
    }

    /// What is left out, in words.
    pub fn what(self) -> &'static str {
        match self {
            Self::NoFence => "the fence is left out",
            Self::FenceReplacesFence => "a second writer's fence replaces the first's",
            Self::ReleaseEndsAllFences => "a release ends the fences of other writers",
            Self::FillWithoutLease => "a fill does not check its lease",
            Self::ReleaseKeepsEntries => {
                "a release keeps an entry that stands in place of its fence"
            }
            Self::LeaseRepeated => "a request for a lease is executed again after a write",
            Self::UnknownIsReleased => "the fence of a write with an unknown outcome is released",
            Self::NoWaitForCopies => "a handler does not wait for local copies",
            Self::LostFenceIsNotNoticed => "a writer does not notice that its fence was lost",
        }
    }

    /// In which regime it must be caught, and whether with local copies.
    pub fn regime(self) -> (Regime, bool) {
        let name = match self {
            Self::ReleaseKeepsEntries | Self::LostFenceIsNotNoticed => "losses",
            _ => "crashes",
        };
        // While one handler has seen a newer value, another may have an older copy: that shows at once what
        // is otherwise seldom seen.
        let with_copies = !matches!(self, Self::FillWithoutLease | Self::LeaseRepeated);
        (Regime::named(name).expect("one of the regimes"), with_copies)
    }

    /// A setting that one of the handlers has instead of its own.
    pub fn setting(self) -> Option<(&'static str, String)> {
        (self == Self::NoWaitForCopies).then(|| ("CACHE_LOCAL_TTL", "0s".to_owned()))
    }
}

/// A proxy between the handlers and Redis that leaves a rule out.
pub struct WeakeningProxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

struct Weakener {
    weakening: Weakening,
    redis: u16,
    hashes: Hashes,
    /// The writers that have placed a fence.
    fenced: Mutex<HashSet<Vec<u8>>>,
    /// The last lease that was requested for each key, and its TTL.
    leases: Mutex<HashMap<Vec<u8>, [Vec<u8>; 2]>>,
}

/// By which the steps are called.
struct Hashes {
    lease: String,
    fill: String,
    fence: String,
    release: String,
}

impl WeakeningProxy {
    /// Starts a proxy for the server at this port.
    pub async fn in_front_of(redis: u16, weakening: Weakening) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hash = |text| Script::new(text).get_hash().to_owned();
        let hashes = Hashes {
            lease: hash(LEASE),
            fill: hash(FILL),
            fence: hash(FENCE),
            release: hash(RELEASE),
        };
        let weakener = Arc::new(Weakener {
            weakening,
            redis,
            hashes,
            fenced: Mutex::default(),
            leases: Mutex::default(),
        });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let weakener = Arc::clone(&weakener);
                tokio::spawn(async move {
                    // An error means that one of them has closed the connection.
                    let _ = weakener.carry(client).await;
                });
            }
        });
        Self { port }
    }
}

impl Weakener {
    async fn carry(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.redis)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let mut from_client = BufReader::new(from_client);
        let replies = async { tokio::io::copy(&mut from_server, &mut to_client).await.map(drop) };
        let commands = async {
            loop {
                let command = self.weakened(read_command(&mut from_client).await?);
                to_server.write_all(&command_bytes(&command)).await?;
            }
        };
        tokio::select! {
            ended = replies => ended,
            ended = commands => ended,
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Vec<u8>, [Vec<u8>; 2]>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The command that is sent instead: `EVAL` of another script, if this one is a step to alter.
    fn weakened(&self, command: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let [name, hash, ..] = &command[..] else { return command };
        if !name.eq_ignore_ascii_case(b"EVALSHA") {
            return command;
        }
        let is = |step: &str| hash == step.as_bytes();
        let Hashes { lease, fill, fence, release } = &self.hashes;
        let script = match self.weakening {
            Weakening::NoFence if is(fence) => "return 1",
            Weakening::FenceReplacesFence if is(fence) => FENCE_ALONE,
            Weakening::ReleaseEndsAllFences if is(release) => DELETE,
            Weakening::FillWithoutLease if is(fill) => FILL_ANYWAY,
            Weakening::ReleaseKeepsEntries if is(release) => {
                let keeps = "if string.sub(redis.call('GET', KEYS[1]) or 'fence', 1, 5) ~= 'fence' then return 0 end";
                return altered(command, &format!("{keeps}\n{RELEASE}"));
            }
            Weakening::LostFenceIsNotNoticed if is(release) => {
                return altered(command, &RELEASE.replace("return found", "return 1"));
            }
            Weakening::UnknownIsReleased if is(fence) => {
                // The arguments are EVALSHA, hash, 1, key, token, TTL.
                let token = command.get(4).cloned().unwrap_or_default();
                let is_first =
                    self.fenced.lock().unwrap_or_else(PoisonError::into_inner).insert(token);
                // Not by its hash: if Redis did not know that yet, the same fence would be sent again.
                if is_first { FENCE } else { RELEASE }
            }
            // The arguments are EVALSHA, hash, 1, key, lease, TTL.
            Weakening::LeaseRepeated if is(lease) => {
                if let [_, _, _, key, lease, ttl] = &command[..] {
                    self.leases().insert(key.clone(), [lease.clone(), ttl.clone()]);
                }
                return command;
            }
            Weakening::LeaseRepeated if is(release) => {
                let Some(arguments) = command.get(3).and_then(|key| self.leases().remove(key))
                else {
                    return command;
                };
                let lease = "redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[3])";
                let script = RELEASE.replace("return found", &format!("{lease}\nreturn found"));
                return [altered(command, &script), arguments.to_vec()].concat();
            }
            _ => return command,
        };
        altered(command, script)
    }
}

/// The same command with another script.
fn altered(mut command: Vec<Vec<u8>>, script: &str) -> Vec<Vec<u8>> {
    command[0] = b"EVAL".to_vec();
    command[1] = script.as_bytes().to_vec();
    command
}

/// Reads a command: an array of strings (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
async fn read_command(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Vec<Vec<u8>>> {
    let words = read_length(from, b'*').await?;
    let mut command = Vec::with_capacity(words);
    for _ in 0..words {
        let length = read_length(from, b'$').await?;
        let mut word = vec![0; length + 2];
        from.read_exact(&mut word).await?;
        word.truncate(length);
        command.push(word);
    }
    Ok(command)
}

async fn read_length(from: &mut (impl AsyncBufReadExt + Unpin), kind: u8) -> io::Result<usize> {
    let mut line = String::new();
    from.read_line(&mut line).await?;
    let number = line.strip_prefix(kind as char).and_then(|number| number.trim_end().parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn command_bytes(command: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
