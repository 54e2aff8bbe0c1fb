//! What becomes of a request.

use super::{Caller, World};
use crate::tests::scheduled::action::{Actor, Fate, Kind};
use crate::tests::scheduled::event::Event;
use crate::tests::scheduled::network::{Message, Reply, Request};
use crate::{Fill, Slot};

impl World {
    /// The place of the request that this actor waits for.
    pub(super) fn waiting(&self, actor: Actor) -> usize {
        let requests = self.network.requests();
        let waits = |request: &Request| request.actor == actor && request.reply_to.is_some();
        requests.iter().position(waits).expect("the actor waits")
    }

    pub(super) fn settle(&mut self, actor: Actor, fate: Fate) {
        let index = self.waiting(actor);
        let mut request = self.network.requests().remove(index);
        let kind = request.message.kind();
        if fate == Fate::TimedOut {
            self.note(actor, lost(kind, fate, actor));
            self.give_up(request);
            return;
        }
        if fate == Fate::Refused {
            self.note(actor, Event::WriteRefused);
            self.answer(request, Some(Reply::Refused));
            return;
        }
        let reply = self.execute(&request);
        let event = match fate {
            Fate::ReplyLost => lost(kind, fate, actor),
            Fate::ExecutedAndAgain if kind == Kind::Fence => Event::FencePlacedAndAgain,
            Fate::ExecutedAndAgain => Event::ReleasesAndAgain,
            _ => self.executed(&request, &reply),
        };
        self.note(actor, event);
        if fate == Fate::ReplyLost {
            self.answer(request, Some(Reply::Lost));
            return;
        }
        if fate == Fate::ExecutedAndAgain {
            let again = Request {
                message: request.message.clone(),
                reply_to: None,
                reply: None,
                ..request
            };
            self.network.put(again);
        }
        if self.is_held_back(actor, kind, &reply) {
            request.reply = Some(reply);
            self.network.put(request);
        } else {
            self.answer(request, Some(reply));
        }
    }

    /// Whether it can matter that a reply takes time. Otherwise it is the same as a sender that is slow with
    /// what it does next.
    fn is_held_back(&self, actor: Actor, kind: Kind, reply: &Reply) -> bool {
        let is_entry = match reply {
            Reply::Slot(slot) => matches!(slot, Slot::Entry(_)),
            Reply::Fill(fill) => *fill == Fill::Accepted,
            _ => false,
        };
        if is_entry && self.scope.has_copies() {
            return true; // it may become a copy when it arrives
        }
        // Meanwhile others may join the load, or lead another.
        let process = self.process_of(actor);
        let reads = |caller: &Caller| {
            let is_other = caller.process == process && caller.actor != actor;
            is_other && matches!(caller.actor, Actor::Reader(_)) && !caller.has_ended()
        };
        matches!(kind, Kind::Load | Kind::Fill) && self.callers.iter().any(reads)
    }

    /// Executes a request.
    fn execute(&mut self, request: &Request) -> Reply {
        match request.actor {
            Actor::Writer(writer) if request.message.kind() == Kind::Write => {
                let is_last = writer + 1 == self.scope.writers.len();
                Reply::Written(self.server.write(self.scope.removes && is_last))
            }
            _ => self.server.execute(&request.message),
        }
    }

    /// What has happened when a request was executed and will be answered.
    fn executed(&self, request: &Request, reply: &Reply) -> Event {
        let is_own =
            |holder| matches!(request.message, Message::Lease(token, _) if token == holder);
        let caller = self.callers.iter().find(|caller| caller.actor == request.actor);
        match (request.message.kind(), reply) {
            (Kind::Get, Reply::Slot(Slot::Entry(_))) => Event::GetFindsEntry,
            (Kind::Get, _) => Event::GetFindsNoEntry,
            (Kind::Lease, Reply::Slot(Slot::Entry(_))) => Event::LeaseFindsEntry,
            (Kind::Lease, Reply::Slot(Slot::Fence(_))) => Event::LeaseFindsFence,
            (Kind::Lease, Reply::Slot(Slot::Lease(holder))) if is_own(*holder) => {
                Event::LeaseGranted
            }
            (Kind::Lease, _) => Event::LeaseFindsLease,
            (Kind::Fill, Reply::Fill(Fill::Accepted)) => Event::FillAccepted,
            (Kind::Fill, _) => Event::FillRefused,
            (Kind::Forfeit, _) => Event::Forfeits,
            (Kind::Fence, _) => match caller {
                Some(caller) if caller.has_written => Event::FencesUnknown,
                Some(caller) if caller.fences > 1 => Event::FencesAgain,
                _ => Event::FencePlaced,
            },
            (Kind::Release, _) => match request.actor {
                Actor::Background(_) => Event::Retries,
                _ => Event::Releases,
            },
            (Kind::Load, _) => Event::Loads,
            (Kind::Write, _) => Event::WriteApplied,
        }
    }

    /// Answers a request, with the reply that was held back if there is no other.
    pub(super) fn answer(&mut self, mut request: Request, reply: Option<Reply>) {
        let reply = reply.or(request.reply.take()).expect("there is a reply");
        if let Some(caller) = self.callers.iter_mut().find(|caller| caller.actor == request.actor) {
            caller.is_alone = !caller.leads && matches!(reply, Reply::Slot(Slot::Entry(_)));
        }
        self.remember(request.actor, self.told(&request.message, &reply));
        if let Some(reply_to) = request.reply_to {
            let _ = reply_to.send(reply); // it may have been dropped
        }
    }

    /// The sender gives up. The request may still be executed, unless that would make no difference.
    pub(super) fn give_up(&mut self, mut request: Request) {
        if let Some(reply_to) = request.reply_to.take() {
            self.meet_others(request.actor);
            self.remember(request.actor, "gives up");
            let _ = reply_to.send(Reply::Lost);
        }
        let kind = request.message.kind();
        let was_executed = request.reply.is_some();
        if !was_executed && !matches!(kind, Kind::Get | Kind::Load | Kind::Forfeit) {
            self.network.put(request);
        }
    }

    pub(super) fn execute_late(&mut self, actor: Actor, kind: Kind) {
        let index = self.network.requests().iter().position(|request| {
            request.actor == actor && request.reply_to.is_none() && request.message.kind() == kind
        });
        let request = self.network.requests().remove(index.expect("there is such a request"));
        self.execute(&request);
        let event = match kind {
            Kind::Lease => Event::LateLease,
            Kind::Fill => Event::LateFill,
            Kind::Fence => Event::LateFence,
            Kind::Release => Event::LateRelease,
            Kind::Write => Event::LateWrite,
            Kind::Get | Kind::Load | Kind::Forfeit => panic!("a late {kind:?} makes no difference"),
        };
        self.note(actor, event);
    }
}

/// What has happened when a request gets no reply.
fn lost(kind: Kind, fate: Fate, actor: Actor) -> Event {
    match (kind, fate, actor) {
        (Kind::Release, _, Actor::Background(_)) => Event::RetryFails,
        (Kind::Get, ..) => Event::GetFails,
        (Kind::Load, ..) => Event::LoadFails,
        (Kind::Forfeit, ..) => Event::ForfeitFails,
        (Kind::Lease, Fate::ReplyLost, _) => Event::LeaseReplyLost,
        (Kind::Lease, ..) => Event::LeaseTimesOut,
        (Kind::Fill, Fate::ReplyLost, _) => Event::FillReplyLost,
        (Kind::Fill, ..) => Event::FillTimesOut,
        (Kind::Fence, Fate::ReplyLost, _) => Event::FenceReplyLost,
        (Kind::Fence, ..) => Event::FenceTimesOut,
        (Kind::Release, Fate::ReplyLost, _) => Event::ReleaseReplyLost,
        (Kind::Release, ..) => Event::ReleaseTimesOut,
        (Kind::Write, Fate::ReplyLost, _) => Event::WriteAnswerLost,
        (Kind::Write, ..) => Event::WriteTimesOut,
    }
}
