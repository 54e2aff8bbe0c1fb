//! Whether two schedules have led to the same situation.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::Instant;

use super::{Caller, World};
use crate::tests::scheduled::action::{Actor, Kind};
use crate::tests::scheduled::network::{Message, Reply, Request, Version};
use crate::tests::scheduled::scope::PROCESSES;
use crate::{Entry, Fill, Release, Slot};

impl World {
    /// A call is told something, or continues.
    pub(super) fn remember(&mut self, actor: Actor, told: impl Hash) {
        let now = self.millis(Instant::now());
        let process = self.process_of(actor);
        let others = self.meets_others(actor, process).then(|| self.histories(process));
        let history = match actor {
            Actor::Background(process) => &mut self.processes[process].history,
            _ => &mut self.caller(actor).history,
        };
        *history = hash((*history, now, told, others));
    }

    /// Whether what this call does can depend on what others in its process have done: they share loads,
    /// copies and overdue releases.
    fn meets_others(&self, actor: Actor, process: usize) -> bool {
        let may_share_load = |caller: &Caller| {
            let is_other_reader = caller.actor != actor && matches!(caller.actor, Actor::Reader(_));
            is_other_reader && caller.process == process && caller.has_begun
        };
        self.scope.has_copies()
            || self.processes[process].retries > 0
            || matches!(actor, Actor::Reader(_))
                && self.callers.iter().any(|caller| caller.actor == actor && !caller.is_alone)
                && self.callers.iter().any(may_share_load)
    }

    /// From now on, what this call does can depend on others.
    pub(super) fn meet_others(&mut self, actor: Actor) {
        if let Some(caller) = self.callers.iter_mut().find(|caller| caller.actor == actor) {
            caller.is_alone = false;
        }
    }

    fn histories(&self, process: usize) -> Vec<u64> {
        let callers = self.callers.iter().filter(|caller| caller.process == process);
        let background = self.processes[process].history;
        callers.map(|caller| caller.history).chain([background]).collect()
    }

    /// Time has passed, for everyone.
    pub(super) fn remember_time(&mut self) {
        for index in 0..self.callers.len() {
            self.remember(self.callers[index].actor, "time passes");
        }
        for process in 0..PROCESSES {
            self.remember(Actor::Background(process), "time passes");
        }
    }

    fn millis(&self, moment: Instant) -> u128 {
        moment.saturating_duration_since(self.server.epoch).as_millis()
    }

    /// A hash of all on which it depends what can happen from here on. Where two schedules have led to the
    /// same situation, only one of them has to be followed further.
    pub(in super::super) fn situation(&self) -> u64 {
        let requests = self.network.requests();
        let requests: Vec<_> = requests
            .iter()
            .map(|request| {
                let Request { actor, message, sent, reply, reply_to } = request;
                let reply = reply.as_ref().map(|reply| self.told(message, reply));
                (*actor, self.content(message), self.millis(*sent), reply, reply_to.is_some())
            })
            .collect();
        let must_see: Vec<_> = self
            .callers
            .iter()
            .map(|caller| caller.future.as_ref().map(|_| caller.must_see))
            .collect();
        let histories: Vec<_> = (0..PROCESSES).map(|process| self.histories(process)).collect();
        let server = &self.server;
        let stored =
            (self.slot_content(), self.millis(server.changed), server.stored, server.removal);
        let left = (self.faults, self.losses, self.jumps);
        let now = self.millis(Instant::now());
        hash((requests, must_see, histories, stored, left, self.visible(), now))
    }

    fn slot_content(&self) -> u64 {
        match self.server.slot() {
            Slot::Nothing | Slot::Foreign => 0,
            Slot::Entry(entry) => hash(self.entry_content(&entry)),
            Slot::Lease(token) => hash(self.network.name(token)),
            Slot::Fence(fence) => {
                let named = fence.writers().map(|(token, until)| (self.network.name(token), until));
                hash(named.collect::<Vec<_>>())
            }
        }
    }

    fn entry_content(&self, entry: &Entry<Version>) -> (Option<Version>, u64, u64) {
        (entry.found, entry.loaded - self.server.unix_epoch, entry.expires - self.server.unix_epoch)
    }

    fn content(&self, message: &Message) -> (Kind, u64) {
        let content = match message {
            Message::Get | Message::Load | Message::Write => 0,
            Message::Fill(token, entry, _) => {
                hash((self.network.name(*token), self.entry_content(entry)))
            }
            Message::Lease(token, _)
            | Message::Forfeit(token)
            | Message::Fence(token, _)
            | Message::Release(token) => hash(self.network.name(*token)),
        };
        (message.kind(), content)
    }

    /// What a reply to this message tells the code: it does not look at the tokens of others.
    pub(super) fn told(&self, message: &Message, reply: &Reply) -> u64 {
        match reply {
            Reply::Slot(Slot::Entry(entry)) => hash(("entry", self.entry_content(entry))),
            Reply::Slot(Slot::Lease(holder)) => {
                let is_own = matches!(message, Message::Lease(token, _) if token == holder);
                hash(("lease", is_own))
            }
            Reply::Slot(Slot::Fence(_)) => hash("fence"),
            Reply::Slot(Slot::Nothing | Slot::Foreign) => hash("nothing"),
            Reply::Fill(fill) => hash(("fill", *fill == Fill::Accepted)),
            Reply::Release(release) => hash(("release", *release == Release::Found)),
            Reply::Done => hash("done"),
            Reply::Loaded(found) => hash(("loaded", found)),
            Reply::Written(version) => hash(("written", version)),
            Reply::Refused => hash("refused"),
            Reply::Lost => hash("lost"),
        }
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
