//! Time passes, and writes are given up.

use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use super::{LOCAL_TTL, World};
use crate::LATE_WRITE_MARGIN;
use crate::tests::scheduled::action::Kind;
use crate::tests::scheduled::event::Event;
use crate::tests::scheduled::network::Request;
use crate::tests::scheduled::scope::Mutation;

impl World {
    /// Lets time pass until then. The store gives up a write on the way once its time is over, and what it
    /// has given up is applied within the margin, or never.
    pub(super) async fn advance_to(&mut self, moment: Instant) {
        loop {
            self.end_writes();
            self.continue_calls().await;
            let next = self.next_end_of_write().map_or(moment, |end| end.min(moment));
            let now = Instant::now();
            if next <= now && moment <= now {
                return;
            }
            tokio::time::advance(next.saturating_duration_since(now)).await;
            self.remember_time();
        }
    }

    pub(super) async fn advance_to_end_of_pause(&mut self) {
        let longest = Instant::now() + 2 * LOCAL_TTL;
        let until = self.next_end_of_write().map_or(longest, |end| end.min(longest));
        let network = Arc::clone(&self.network);
        network.forget_notice();
        let woken = std::future::poll_fn(|cx| {
            if network.was_notified(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
        });
        // While this waits, the runtime has nothing to do, and moves the clock to the next timer.
        let _ = tokio::time::timeout_at(until, woken).await;
        self.remember_time();
        self.end_writes();
    }

    /// When the store gives up a write, or no longer applies one that it has given up.
    fn end_of_write(&self, request: &Request) -> Option<Instant> {
        if request.message.kind() != Kind::Write {
            return None;
        }
        let timeout = self.processes[self.process_of(request.actor)].policy.write_timeout;
        match request.reply_to {
            Some(_) => Some(request.sent + timeout),
            None if self.scope.is_mutated(Mutation::FenceTooShort) => None,
            None => Some(request.sent + timeout + LATE_WRITE_MARGIN),
        }
    }

    fn next_end_of_write(&self) -> Option<Instant> {
        self.network.requests().iter().filter_map(|request| self.end_of_write(request)).min()
    }

    fn end_writes(&mut self) {
        let sent = std::mem::take(&mut *self.network.requests());
        for request in sent {
            if self.end_of_write(&request).is_none_or(|end| end > Instant::now()) {
                self.network.put(request);
            } else if request.reply_to.is_some() {
                self.note(request.actor, Event::WriteTimesOut);
                self.give_up(request);
            } else {
                self.note(request.actor, Event::LateWriteDropped);
            }
        }
    }
}
