//! Calls of `get` and `write`: they begin, continue, and return, or are dropped.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::unconstrained;

use super::{Process, Violation, World};
use crate::tests::scheduled::action::{Actor, Kind};
use crate::tests::scheduled::event::Event;
use crate::tests::scheduled::network::{KEY, Network, StoreError, Version};
use crate::tests::scheduled::scope::{Guarantee, PROCESSES};
use crate::{Because, Load, Observer, Read, Source, observer};

/// What a call returns.
pub(super) enum Ended {
    Read(Result<Read<Version>, StoreError>),
    Written(Result<Version, StoreError>),
}

/// Whether a call can continue.
pub(super) struct Woken {
    is_woken: AtomicBool,
    network: Arc<Network>,
}

impl Woken {
    pub(super) fn new(network: &Arc<Network>) -> Self {
        Self { is_woken: AtomicBool::new(false), network: Arc::clone(network) }
    }

    fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.network.notify();
    }
}

/// What the pattern has told of since the last look, with the subject that the event has.
#[derive(Default)]
pub(super) struct Observed(Mutex<Vec<Event>>);

impl Observer for Observed {
    fn observe(&self, event: observer::Event<'_>) {
        use crate::FenceEnd::*;
        let event = match event {
            observer::Event::LeaseWait { .. } => Event::StopsWaitingForLease,
            observer::Event::Fence(Released) => Event::EndsReleased,
            observer::Event::Fence(NotPlaced) => Event::EndsNotPlaced,
            observer::Event::Fence(Lost) => Event::EndsLost,
            observer::Event::Fence(ReleaseOverdue) => Event::EndsOverdue,
            observer::Event::Fence(Left) => Event::EndsLeft,
            observer::Event::ReleaseOverdue => Event::OwesRelease,
            observer::Event::OverdueReleaseEnded => Event::RetryEnds,
            _ => return,
        };
        self.0.lock().unwrap().push(event);
    }
}

impl World {
    pub(super) fn begin(&mut self, actor: Actor) {
        let must_see = self.visible();
        let process = self.process_of(actor);
        self.remember(actor, "begins");
        let Process { pattern, connection, .. } = &self.processes[process];
        let (pattern, connection) = (Arc::clone(pattern), connection.clone());
        let future: Pin<Box<dyn Future<Output = Ended>>> = match actor {
            Actor::Reader(_) => Box::pin(unconstrained(async move {
                Ended::Read(pattern.get(&KEY, || connection.load()).await)
            })),
            _ => Box::pin(unconstrained(async move {
                let written = pattern.write(&KEY, || connection.write()).await;
                Ended::Written(written.map(|written| written.value))
            })),
        };
        let caller = self.caller(actor);
        caller.has_begun = true;
        caller.future = Some(future);
        caller.must_see = must_see;
        caller.woken.is_woken.store(true, Ordering::SeqCst);
        let is_reader = matches!(actor, Actor::Reader(_));
        self.note(actor, if is_reader { Event::BeginsRead } else { Event::BeginsWrite });
    }

    pub(super) fn drop_call(&mut self, actor: Actor) {
        self.meet_others(actor);
        self.remember(actor, "is dropped");
        let is_reader = matches!(actor, Actor::Reader(_));
        self.note(actor, if is_reader { Event::ReaderDropped } else { Event::WriterDropped });
        self.caller(actor).future = None;
        let sent = std::mem::take(&mut *self.network.requests());
        for request in sent {
            if request.actor == actor && request.reply_to.is_some() {
                self.give_up(request);
            } else {
                self.network.put(request);
            }
        }
    }

    /// Lets each call run that can, until all of them wait.
    pub(super) async fn continue_calls(&mut self) {
        loop {
            for index in 0..self.callers.len() {
                self.continue_call(index);
            }
            self.notice_observed();
            if self.processes.iter().any(|process| process.retries > 0) {
                // Those run in tasks of their own.
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                self.notice_observed();
            }
            if !self.callers.iter().any(|caller| caller.woken.is_woken()) {
                return;
            }
        }
    }

    fn continue_call(&mut self, index: usize) {
        let caller = &mut self.callers[index];
        let (actor, woken) = (caller.actor, Arc::clone(&caller.woken));
        if !woken.is_woken.swap(false, Ordering::SeqCst) {
            return;
        }
        let Some(mut future) = caller.future.take() else { return };
        self.remember(actor, "continues");
        self.network.set_speaker(Some(actor));
        let polled = future.as_mut().poll(&mut Context::from_waker(&Waker::from(woken)));
        self.network.set_speaker(None);
        match polled {
            Poll::Ready(ended) => return self.end(actor, ended),
            Poll::Pending => self.callers[index].future = Some(future),
        }
        let sent = self.network.requests().iter().rev().find_map(|request| {
            let is_its = request.actor == actor && request.reply_to.is_some();
            is_its.then(|| request.message.kind())
        });
        let caller = &mut self.callers[index];
        match sent {
            Some(Kind::Lease | Kind::Load) => caller.leads = true,
            Some(Kind::Write) => caller.has_written = true,
            Some(Kind::Fence) if !caller.has_written => caller.fences += 1,
            _ => {}
        }
    }

    /// A call has returned.
    fn end(&mut self, actor: Actor, ended: Ended) {
        self.caller(actor).result = match &ended {
            Ended::Read(Ok(read)) => format!("{:?} from {:?}", read.value, read.source),
            Ended::Read(Err(error)) | Ended::Written(Err(error)) => error.to_string(),
            Ended::Written(Ok(version)) => version.to_string(),
        };
        match ended {
            Ended::Read(Ok(read)) => {
                self.note(actor, returned(read.source));
                // What was removed, if the value is missing. There is at most one removal.
                let version = read.value.or(self.server.removal).expect("a value, or a removal");
                let must_see = self.caller(actor).must_see;
                if version < must_see {
                    let violation = Violation { reader: actor, returned: version, must_see };
                    self.violation = Some(violation);
                }
            }
            Ended::Read(Err(_)) => self.note(actor, Event::ReturnsError),
            Ended::Written(Ok(version)) => {
                self.answered = self.answered.max(version);
                self.note(actor, Event::Answers);
            }
            Ended::Written(Err(StoreError::Refused)) => self.note(actor, Event::AnswersRefused),
            Ended::Written(Err(_)) => self.note(actor, Event::AnswersUnknown),
        }
    }

    /// The newest version that a read which begins now must see.
    pub(super) fn visible(&self) -> Version {
        match self.scope.guarantee {
            // At any moment a reader in a third process, which cannot reach the cache, may have returned what
            // is in the store. (What a refused write tells its caller is no newer.)
            Guarantee::Linearizable => self.server.stored,
            Guarantee::ReadAfterAnsweredWrite => self.answered,
        }
    }

    /// Notes what the pattern has told its observers.
    fn notice_observed(&mut self) {
        for process in 0..PROCESSES {
            let observed = Arc::clone(&self.processes[process].observed);
            let events = std::mem::take(&mut *observed.0.lock().unwrap());
            for event in events {
                match event {
                    Event::OwesRelease => self.processes[process].retries += 1,
                    Event::RetryEnds => self.processes[process].retries -= 1,
                    _ => {}
                }
                self.note(Actor::Background(process), event);
            }
        }
    }
}

/// What has happened when a read returns a value.
fn returned(source: Source) -> Event {
    match source {
        Source::LocalCopy { .. } => Event::ReturnsCopy,
        Source::Cache { .. } => Event::ReturnsEntry,
        Source::Store { because: Because::Leased, .. } => Event::ReturnsLeased,
        Source::Store { load: Load::Stored, .. } => Event::ReturnsStored,
        Source::Store { load: Load::NotStored, .. } => Event::ReturnsNotStored,
        Source::Store { load: Load::Shared, .. } => Event::ReturnsShared,
        Source::StaleCopy { .. } => panic!("the policy allows no stale copies"),
    }
}
