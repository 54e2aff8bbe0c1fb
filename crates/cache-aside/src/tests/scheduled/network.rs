//! What the code talks to: a cache and a store, whose requests wait until the scheduler decides what becomes
//! of them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::action::{Actor, Kind};
use super::scope::Mutation;
use crate::cache::CacheErrorKind;
use crate::{Cache, CacheError, Entry, Fill, LoadError, Outcome, Release, Slot, Token, WriteError};

pub(super) const KEY: u64 = 1;

/// The place of a value in the order in which the store applied the writes; 0 is the value that was there at
/// the beginning. The values are the versions themselves.
pub(super) type Version = u64;

#[derive(Clone, Debug)]
pub(super) enum Message {
    Get,
    Lease(Token, Duration),
    Fill(Token, Entry<Version>, Duration),
    Forfeit(Token),
    Fence(Token, Duration),
    Release(Token),
    Load,
    Write,
}

impl Message {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Get => Kind::Get,
            Self::Lease(..) => Kind::Lease,
            Self::Fill(..) => Kind::Fill,
            Self::Forfeit(_) => Kind::Forfeit,
            Self::Fence(..) => Kind::Fence,
            Self::Release(_) => Kind::Release,
            Self::Load => Kind::Load,
            Self::Write => Kind::Write,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Slot(Slot<Version>),
    Fill(Fill),
    Done,
    Release(Release),
    Loaded(Option<Version>),
    /// This version was written.
    Written(Version),
    /// The store has refused the write.
    Refused,
    /// There is no reply.
    Lost,
}

/// A request on its way.
pub(super) struct Request {
    pub(super) actor: Actor,
    pub(super) message: Message,
    pub(super) sent: Instant,
    /// The reply, once the request was executed and while the reply is held back.
    pub(super) reply: Option<Reply>,
    /// `None` if nobody waits for the reply.
    pub(super) reply_to: Option<oneshot::Sender<Reply>>,
}

/// The requests of all processes.
#[derive(Default)]
pub(super) struct Network {
    requests: Mutex<Vec<Request>>,
    /// Whose call runs at the moment.
    speaker: Mutex<Option<Actor>>,
    /// Whose tokens are whose.
    tokens: Mutex<Vec<(Token, Actor)>>,
    notice: Mutex<Notice>,
}

/// Whether a request was sent, or a call can continue, since the scheduler began to wait for that.
#[derive(Default)]
struct Notice {
    was_given: bool,
    waker: Option<Waker>,
}

impl Network {
    pub(super) fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap()
    }

    pub(super) fn set_speaker(&self, speaker: Option<Actor>) {
        *self.speaker.lock().unwrap() = speaker;
    }

    /// Puts a request where it belongs: those of an actor are in the order of their sending.
    pub(super) fn put(&self, request: Request) {
        let mut requests = self.requests();
        let place = requests.partition_point(|other| other.actor <= request.actor);
        requests.insert(place, request);
    }

    /// A name for a token that is the same in each run: who sent it first, and its number. `None` for one
    /// that is not meant to be anybody's.
    pub(super) fn name(&self, token: Token) -> Option<(Actor, usize)> {
        let tokens = self.tokens.lock().unwrap();
        let (_, owner) = *tokens.iter().find(|(sent, _)| *sent == token)?;
        let mut of_owner = tokens.iter().filter(|(_, actor)| *actor == owner);
        Some((owner, of_owner.position(|(sent, _)| *sent == token)?))
    }

    /// Something has happened while the scheduler may be waiting.
    pub(super) fn notify(&self) {
        let mut notice = self.notice.lock().unwrap();
        notice.was_given = true;
        if let Some(waker) = notice.waker.take() {
            waker.wake();
        }
    }

    /// Begins to wait.
    pub(super) fn forget_notice(&self) {
        *self.notice.lock().unwrap() = Notice::default();
    }

    /// Whether something has happened; if not, the waker is woken when it does.
    pub(super) fn was_notified(&self, waker: &Waker) -> bool {
        let mut notice = self.notice.lock().unwrap();
        notice.waker = Some(waker.clone());
        notice.was_given
    }

    async fn send(&self, process: usize, message: Message) -> Reply {
        let actor = self.speaker.lock().unwrap().unwrap_or(Actor::Background(process));
        if let Message::Lease(token, _) | Message::Fence(token, _) = &message {
            self.tokens.lock().unwrap().push((*token, actor));
        }
        let (reply_to, reply) = oneshot::channel();
        let (sent, reply_to) = (Instant::now(), Some(reply_to));
        self.put(Request { actor, message, sent, reply: None, reply_to });
        self.notify();
        reply.await.unwrap_or(Reply::Lost)
    }
}

/// The connection of a process to the cache and to the store.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) network: Arc<Network>,
    pub(super) process: usize,
    pub(super) mutation: Option<Mutation>,
}

/// Why a load or a write failed.
#[derive(Clone, Debug)]
pub(super) enum StoreError {
    LoadFailed,
    Refused,
    OutcomeUnknown,
    /// An unknown outcome that is taken for a refusal.
    OutcomeMistaken,
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl LoadError for StoreError {
    fn is_outage(&self) -> bool {
        true
    }
}

impl WriteError for StoreError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Refused | Self::OutcomeMistaken => Outcome::NotApplied,
            Self::LoadFailed | Self::OutcomeUnknown => Outcome::Unknown,
        }
    }
}

impl Connection {
    fn is_mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    async fn step(&self, message: Message) -> Result<Reply, CacheError> {
        match self.network.send(self.process, message).await {
            Reply::Lost => Err(CacheError::new("no reply").with_kind(CacheErrorKind::Timeout)),
            reply => Ok(reply),
        }
    }

    pub(super) async fn load(&self) -> Result<Option<Version>, StoreError> {
        match self.network.send(self.process, Message::Load).await {
            Reply::Loaded(found) => Ok(found),
            _ => Err(StoreError::LoadFailed),
        }
    }

    pub(super) async fn write(&self) -> Result<Version, StoreError> {
        match self.network.send(self.process, Message::Write).await {
            Reply::Written(version) => Ok(version),
            Reply::Refused => Err(StoreError::Refused),
            _ if self.is_mutated(Mutation::ReleaseUnknown) => Err(StoreError::OutcomeMistaken),
            _ => Err(StoreError::OutcomeUnknown),
        }
    }
}

fn slot(reply: Reply) -> Slot<Version> {
    let Reply::Slot(slot) = reply else { panic!("{reply:?} is no slot") };
    slot
}

impl Cache<u64, Version> for Connection {
    async fn get(&self, _: &u64) -> Result<Slot<Version>, CacheError> {
        self.step(Message::Get).await.map(slot)
    }

    async fn lease(
        &self,
        _: &u64,
        token: Token,
        ttl: Duration,
    ) -> Result<Slot<Version>, CacheError> {
        let reply = self.step(Message::Lease(token, ttl)).await;
        if reply.is_err() && self.is_mutated(Mutation::LeaseResent) {
            return self.step(Message::Lease(token, ttl)).await.map(slot);
        }
        reply.map(slot)
    }

    async fn fill(
        &self,
        _: &u64,
        token: Token,
        entry: &Entry<Version>,
        ttl: Duration,
    ) -> Result<Fill, CacheError> {
        match self.step(Message::Fill(token, entry.clone(), ttl)).await? {
            Reply::Fill(fill) => Ok(fill),
            reply => panic!("{reply:?} answers no fill"),
        }
    }

    async fn forfeit(&self, _: &u64, token: Token) -> Result<(), CacheError> {
        self.step(Message::Forfeit(token)).await.map(|_| ())
    }

    async fn fence(&self, _: &u64, token: Token, ttl: Duration) -> Result<(), CacheError> {
        if self.is_mutated(Mutation::NoFence) {
            return Ok(());
        }
        let reply = self.step(Message::Fence(token, ttl)).await;
        if self.is_mutated(Mutation::UnansweredFenceTrusted) {
            return Ok(());
        }
        reply.map(|_| ())
    }

    async fn release(&self, _: &u64, token: Token) -> Result<Release, CacheError> {
        match self.step(Message::Release(token)).await? {
            Reply::Release(release) => Ok(release),
            reply => panic!("{reply:?} answers no release"),
        }
    }

    async fn probe(&self) -> Result<(), CacheError> {
        Ok(())
    }
}
