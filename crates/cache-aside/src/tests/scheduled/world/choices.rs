//! What can happen next.

use super::{Caller, World};
use crate::Slot;
use crate::tests::scheduled::action::{Action, Fate, Kind};
use crate::tests::scheduled::network::Request;

impl World {
    /// All that can happen next. Nothing, once all reads have ended: then nothing can go wrong any more.
    pub(in super::super) fn enabled(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.callers.iter().filter(|caller| caller.is_reader()).all(Caller::has_ended) {
            self.add_requests(&mut actions);
            self.add_calls(&mut actions);
            self.add_environment(&mut actions);
        }
        actions
    }

    /// What may become of the requests on the way.
    fn add_requests(&self, actions: &mut Vec<Action>) {
        let mut add = |action| {
            if !actions.contains(&action) {
                actions.push(action);
            }
        };
        for request in self.network.requests().iter() {
            let actor = request.actor;
            match (&request.reply_to, &request.reply) {
                (None, _) => add(Action::ExecuteLate(actor, request.message.kind())),
                (Some(_), Some(_)) => add(Action::Deliver(actor)),
                (Some(_), None) => {
                    add(Action::Settle(actor, Fate::Executed));
                    if self.faults > 0 {
                        let faults = self.faults_of(request).iter();
                        faults.for_each(|fate| add(Action::Settle(actor, *fate)));
                    }
                }
            }
        }
    }

    fn add_calls(&self, actions: &mut Vec<Action>) {
        for (index, caller) in self.callers.iter().enumerate() {
            if !caller.has_begun {
                // Readers of one process are alike: they begin in order.
                let is_alike = |other: &Caller| {
                    other.is_reader() && caller.is_reader() && other.process == caller.process
                };
                let before = &self.callers[..index];
                if before.iter().all(|before| before.has_begun || !is_alike(before)) {
                    actions.push(Action::Begin(caller.actor));
                }
            } else if caller.is_running() && self.faults > 0 {
                actions.push(Action::Drop(caller.actor));
            }
        }
    }

    /// What the cache and time may do.
    fn add_environment(&self, actions: &mut Vec<Action>) {
        let slot = self.server.slot();
        if self.losses > 0 {
            match slot {
                Slot::Entry(_) | Slot::Lease(_) => actions.push(Action::Expire),
                Slot::Fence(_) if self.scope.loses_keys() => actions.push(Action::LoseKey),
                _ => {}
            }
            if self.scope.has_copies() {
                actions.push(Action::AgeCopies);
            }
        }
        if self.jumps > 0 {
            let retries = self.processes.iter().any(|process| process.retries > 0);
            if retries || self.callers.iter().any(|caller| self.sleeps(caller)) {
                actions.push(Action::EndPause);
            }
            if matches!(slot, Slot::Fence(_)) {
                actions.push(Action::EndFence);
            }
        }
    }

    /// Whether a call waits for nothing but time, as far as one can tell from outside. (If not, nothing happens
    /// when time passes.)
    fn sleeps(&self, caller: &Caller) -> bool {
        let requests = self.network.requests();
        let waits = |request: &Request| request.actor == caller.actor && request.reply_to.is_some();
        let leads =
            |other: &Caller| other.process == caller.process && other.leads && other.is_running();
        let has_joined = caller.is_reader() && !caller.leads && self.callers.iter().any(leads);
        caller.is_running() && !requests.iter().any(waits) && !has_joined
    }

    /// What else may become of a request, besides being executed and answered.
    fn faults_of(&self, request: &Request) -> &'static [Fate] {
        use Fate::*;
        match request.message.kind() {
            Kind::Get | Kind::Load => &[TimedOut], // which is the same as a reply that is lost
            // One that executes late is the same as a lease that expires then.
            Kind::Forfeit => &[TimedOut],
            // A lease is never resent, and a fill that executes twice is refused the second time.
            Kind::Lease | Kind::Fill => &[ReplyLost, TimedOut],
            Kind::Fence => {
                let is_its = |caller: &&Caller| caller.actor == request.actor;
                let has_written = self.callers.iter().any(|it| is_its(&it) && it.has_written);
                let may_be_late = has_written || self.scope.fence_may_be_late();
                match (may_be_late, self.scope.fence_may_be_resent()) {
                    (true, true) => &[ReplyLost, TimedOut, ExecutedAndAgain],
                    (true, false) => &[ReplyLost, TimedOut],
                    (false, true) => &[ReplyLost, ExecutedAndAgain],
                    (false, false) => &[ReplyLost],
                }
            }
            Kind::Release if self.scope.release_may_be_late() => {
                &[ReplyLost, TimedOut, ExecutedAndAgain]
            }
            Kind::Release => &[ReplyLost, ExecutedAndAgain],
            Kind::Write => &[ReplyLost, TimedOut, Refused],
        }
    }
}
