//! The search for counterexamples, with stateright.

use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use crate::scope::{Mutation, Scope};
use crate::state::{State, Violation};
use crate::steps::{Event, Protocol, Step};

const NEVER_STALE: &str = "no read returns an older version than it must";

impl Model for Protocol {
    type State = State;
    /// Carries the state that it leads to, so that what enables a step and what it does are written in
    /// one place.
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.scope.faults)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        self.steps(state, actions);
    }

    fn next_state(&self, _: &State, step: Step) -> Option<State> {
        Some(step.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(NEVER_STALE, |_, state: &State| state.violation.is_none())]
    }
}

/// What a search has found.
pub(crate) struct Exploration {
    scope: Scope,
    mutation: Option<Mutation>,
    states: usize,
    /// The number of steps of the longest execution that cannot be shortened.
    depth: usize,
    time: Duration,
    pub(crate) happened: Vec<Event>,
    pub(crate) counterexample: Option<Counterexample>,
}

/// A shortest execution in which a read returns an older version than it must.
pub(crate) struct Counterexample(Path<State, Step>);

/// Explores all executions in a scope, or as many as it takes to find a counterexample.
pub(crate) fn explore(scope: Scope, mutation: Option<Mutation>) -> Exploration {
    let start = Instant::now();
    // One thread, so that the first counterexample that is found is a shortest one.
    let checker = Protocol::new(scope, mutation)
        .checker()
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    let happened = Event::ALL.iter().copied();
    Exploration {
        scope,
        mutation,
        states: checker.unique_state_count(),
        depth: checker.max_depth() - 1, // stateright counts states
        time: start.elapsed(),
        happened: happened.filter(|event| checker.model().has_happened(*event)).collect(),
        counterexample: checker.discovery(NEVER_STALE).map(Counterexample),
    }
}

impl fmt::Display for Exploration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, mutation, states, depth, time, counterexample, .. } = self;
        write!(f, "{scope}: ")?;
        if let Some(mutation) = mutation {
            write!(f, "{mutation:?}, ")?;
        }
        write!(f, "{states} states, {depth} steps deep, {:.1} s, ", time.as_secs_f64())?;
        match counterexample {
            Some(counterexample) => write!(f, "counterexample:\n{counterexample}"),
            None => f.write_str("no counterexample"),
        }
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.clone().into_vec();
        let steps = path.iter().filter_map(|(_, step)| step.as_ref());
        let lines: Vec<_> = steps
            .map(|Step { actor, event, next }| (format!("{actor} {event}"), next.to_string()))
            .collect();
        let width = lines.iter().map(|(step, _)| step.len()).max().unwrap_or_default();
        for (number, (step, state)) in (1..).zip(lines) {
            writeln!(f, "{number:3}. {step:width$}   {state}")?;
        }
        let Some(Violation { reader, returned, must_see }) = self.0.last_state().violation else {
            return Ok(());
        };
        write!(
            f,
            "     Reader {reader} returned v{returned}, although v{must_see} was visible when it began."
        )
    }
}
