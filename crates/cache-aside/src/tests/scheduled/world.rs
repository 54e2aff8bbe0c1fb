//! One schedule in progress: the calls, what they wait for, and what they have returned.

mod calls;
mod choices;
mod requests;
mod situation;
mod story;
mod time;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::calls::{Ended, Observed, Woken};
use super::action::{Action, Actor};
use super::event::Event;
use super::network::{Connection, Network, StoreError, Version};
use super::scope::{Copies, Mutation, PROCESSES, Scope};
use super::server::Server;
use crate::{CacheAside, Observer, Policy, Slot};

/// Long times, so that no copy is dropped by the real clock, which the memory of the copies goes by. Nothing
/// is waited for in reality.
const LOCAL_TTL: Duration = Duration::from_secs(60);

/// A read returned an older version than it had to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reader: Actor,
    pub(super) returned: Version,
    pub(super) must_see: Version,
}

pub(super) struct World {
    scope: Scope,
    network: Arc<Network>,
    server: Server,
    processes: Vec<Process>,
    callers: Vec<Caller>,
    /// The newest version whose write was answered.
    answered: Version,
    pub(super) violation: Option<Violation>,
    faults: usize,
    losses: usize,
    jumps: usize,
    /// How often each kind of event has happened.
    pub(super) happened: Vec<u64>,
    /// What has happened, in words, if somebody wants to read it.
    story: Option<Vec<String>>,
}

struct Process {
    policy: Policy,
    pattern: Arc<CacheAside<u64, Version, StoreError, Connection>>,
    connection: Connection,
    observed: Arc<Observed>,
    /// How many tasks try an overdue release again.
    retries: usize,
    /// The same as [`Caller::history`], for the tasks that try overdue releases again.
    history: u64,
}

/// One call of `get` or of `write`.
struct Caller {
    actor: Actor,
    process: usize,
    has_begun: bool,
    /// `None` before it begins and after it has ended.
    future: Option<Pin<Box<dyn Future<Output = Ended>>>>,
    /// Whether it can continue.
    woken: Arc<Woken>,
    /// What was visible when it began.
    must_see: Version,
    /// Whether it leads a load.
    leads: bool,
    /// Whether what it does next does not depend on the loads of others: it sends its first get, or has found
    /// an entry.
    is_alone: bool,
    /// Whether it has sent its write.
    has_written: bool,
    fences: usize,
    /// A hash of all that it has been told: it does the same whenever it is told the same.
    history: u64,
    /// What it has returned.
    result: String,
}

/// The policies of the processes differ, as those of two versions of a program may: the second one's writes
/// are given up sooner, and its fences are shorter.
fn policy(process: usize, scope: &Scope) -> Policy {
    let seconds = Duration::from_secs;
    let (write_timeout, fence_ttl) = [(300, 1000), (100, 250)][process];
    let writes_without_waiting =
        scope.is_mutated(Mutation::NoWaitAfterFence) && scope.writers.contains(&process);
    let local_ttl = match scope.copies {
        Copies::Local if !writes_without_waiting => LOCAL_TTL,
        _ => Duration::ZERO,
    };
    let policy = Policy::builder()
        .ttl(seconds(2000))
        .ttl_jitter(0.0)
        .negative_ttl(seconds(2000))
        .local_ttl(local_ttl)
        .lease_ttl(seconds(500))
        .load_timeout(seconds(500))
        .cache_timeout(seconds(10))
        .write_timeout(seconds(write_timeout))
        .fence_ttl(seconds(fence_ttl));
    policy.build().unwrap()
}

impl World {
    /// Nothing is cached, and nobody has begun. Call it on a runtime whose clock is paused.
    pub(super) fn new(scope: Scope, tells: bool) -> Self {
        let network = Arc::new(Network::default());
        let processes: Vec<_> = (0..PROCESSES)
            .map(|process| {
                let policy = policy(process, &scope);
                let (network, mutation) = (Arc::clone(&network), scope.mutation);
                let connection = Connection { network, process, mutation };
                let observed = Arc::new(Observed::default());
                let pattern = CacheAside::new(connection.clone(), policy.clone())
                    .observed_by(Arc::clone(&observed) as Arc<dyn Observer>);
                Process {
                    policy,
                    pattern: Arc::new(pattern),
                    connection,
                    observed,
                    retries: 0,
                    history: 0,
                }
            })
            .collect();
        let readers = (0..PROCESSES).flat_map(|process| vec![process; scope.readers[process]]);
        let readers = (0..).zip(readers).map(|(reader, process)| (Actor::Reader(reader), process));
        let writers = (0..).zip(scope.writers.iter().copied());
        let writers = writers.map(|(writer, process)| (Actor::Writer(writer), process));
        let callers = readers.chain(writers).map(|(actor, process)| Caller {
            actor,
            process,
            has_begun: false,
            future: None,
            woken: Arc::new(Woken::new(&network)),
            must_see: 0,
            leads: false,
            is_alone: true,
            has_written: false,
            fences: 0,
            history: 0,
            result: String::new(),
        });
        Self {
            callers: callers.collect(),
            server: Server::new(scope.mutation),
            network,
            processes,
            answered: 0,
            violation: None,
            faults: scope.limits.faults,
            losses: scope.limits.losses,
            jumps: scope.limits.jumps,
            happened: vec![0; Event::ALL.len()],
            story: tells.then(Vec::new),
            scope,
        }
    }

    /// What each call has returned, in the order of the calls, once there is nothing left to do.
    pub(super) fn results(&self) -> Option<Vec<String>> {
        self.enabled()
            .is_empty()
            .then(|| self.callers.iter().map(|caller| caller.result.clone()).collect())
    }

    /// What has happened, line by line.
    pub(super) fn into_story(self) -> String {
        self.story.unwrap_or_default().concat()
    }

    fn caller(&mut self, actor: Actor) -> &mut Caller {
        let caller = self.callers.iter_mut().find(|caller| caller.actor == actor);
        caller.expect("the actor has a call")
    }

    fn process_of(&self, actor: Actor) -> usize {
        match actor {
            Actor::Background(process) => process,
            _ => self.callers.iter().find(|caller| caller.actor == actor).unwrap().process,
        }
    }

    /// Does what was chosen, and lets all calls continue that can.
    pub(super) async fn perform(&mut self, action: Action) {
        if action.is_fault() {
            self.faults -= 1;
        }
        match action {
            Action::Begin(actor) => self.begin(actor),
            Action::Settle(actor, fate) => self.settle(actor, fate),
            Action::Deliver(actor) => {
                self.note(actor, Event::ReplyArrives);
                let index = self.waiting(actor);
                let request = self.network.requests().remove(index);
                self.answer(request, None);
            }
            Action::ExecuteLate(actor, kind) => self.execute_late(actor, kind),
            Action::Drop(actor) => self.drop_call(actor),
            Action::Expire | Action::LoseKey => {
                self.losses -= 1;
                let event = match self.server.slot() {
                    Slot::Entry(_) => Event::EntryExpires,
                    Slot::Lease(_) => Event::LeaseExpires,
                    _ => Event::KeyLost,
                };
                self.server.lose_key();
                self.note("the cache", event);
            }
            Action::AgeCopies => {
                self.losses -= 1;
                self.note("everyone", Event::CopiesAge);
                self.advance_to(Instant::now() + LOCAL_TTL / 2).await;
            }
            Action::EndPause => {
                self.jumps -= 1;
                self.note("everyone", Event::PauseEnds);
                self.advance_to_end_of_pause().await;
            }
            Action::EndFence => {
                self.jumps -= 1;
                let Slot::Fence(fence) = self.server.slot() else { panic!("there is no fence") };
                let deadline = fence.writers().map(|(_, deadline)| deadline).min();
                let deadline = deadline.expect("a fence has writers");
                self.advance_to(self.server.epoch + Duration::from_millis(deadline)).await;
                self.note("the cache", Event::FenceExpires);
            }
        }
        self.continue_calls().await;
    }
}

impl Caller {
    fn is_reader(&self) -> bool {
        matches!(self.actor, Actor::Reader(_))
    }

    fn is_running(&self) -> bool {
        self.future.is_some()
    }

    fn has_ended(&self) -> bool {
        self.has_begun && self.future.is_none()
    }
}
