//! Searching for a schedule in which a read returns an older version than it must: all schedules, or many
//! at random; and then for a short one.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::action::{Action, Actor, Class, Fate};
use super::event::Event;
use super::scope::Scope;
use super::weakening::Weakening;
use super::world::{Violation, World};

/// Decides what happens next.
trait Scheduler {
    /// One of the actions, or `None` to end the schedule here.
    fn choose(&mut self, world: &World) -> Option<Action>;
}

/// What has happened in one schedule.
struct Execution {
    actions: Vec<Action>,
    violation: Option<Violation>,
    happened: Vec<u64>,
    /// What each call has returned, if all of them have ended.
    results: Option<Vec<String>>,
    story: String,
}

/// Runs one schedule, on a clock that stands still unless the scheduler moves it.
fn execute(scope: Scope, scheduler: &mut impl Scheduler, tells: bool) -> Execution {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let _weakened = Weakening::of(scope.mutation);
    runtime.block_on(async {
        let mut world = World::new(scope, tells);
        let mut actions = Vec::new();
        while world.violation.is_none() {
            let Some(action) = scheduler.choose(&world) else { break };
            world.perform(action).await;
            actions.push(action);
        }
        Execution {
            actions,
            violation: world.violation,
            happened: world.happened.clone(),
            results: world.results(),
            story: world.into_story(),
        }
    })
}

/// What a search has found.
pub(super) struct Search {
    scope: Scope,
    how: String,
    /// How many schedules were run. In an exhaustive search, most are only the rest of one, from where they
    /// part from an earlier one to where they meet one again.
    schedules: u64,
    /// The length of the longest one, in actions.
    longest: usize,
    time: Duration,
    /// How often each event has happened.
    happened: Vec<u64>,
    pub(super) counterexample: Option<Counterexample>,
}

/// A schedule in which a read returns an older version than it must.
pub(super) struct Counterexample {
    /// How long it was when it was found.
    found: usize,
    /// The shortest one that was made from it.
    actions: Vec<Action>,
    violation: Violation,
    story: String,
}

impl Search {
    fn new(scope: Scope) -> Self {
        let (how, time) = (String::new(), Duration::ZERO);
        let happened = vec![0; Event::ALL.len()];
        Self { scope, how, schedules: 0, longest: 0, time, happened, counterexample: None }
    }

    /// Adds what has happened in a schedule. Returns whether the search is over.
    fn add(&mut self, execution: &Execution) -> bool {
        self.schedules += 1;
        self.longest = self.longest.max(execution.actions.len());
        for (sum, count) in self.happened.iter_mut().zip(&execution.happened) {
            *sum += count;
        }
        if execution.violation.is_some() {
            self.counterexample = Some(shorten(self.scope, &execution.actions));
        }
        execution.violation.is_some()
    }

    /// How often this has happened.
    pub(super) fn count_of(&self, event: Event) -> u64 {
        self.happened[event as usize]
    }
}

/// Runs all schedules, or as many as it takes to find a counterexample.
pub(super) fn exhaustive(scope: Scope) -> Search {
    let start = Instant::now();
    let mut search = Search::new(scope);
    let mut tree = Tree { prunes: true, ..Tree::default() };
    while !search.add(&execute(scope, &mut tree, false)) && tree.backtrack() {}
    search.time = start.elapsed();
    search.how = format!("all schedules, {} situations", tree.situations.len());
    search
}

/// The schedules that have been run and are still to be run: a path through the tree of all choices.
#[derive(Default)]
struct Tree {
    path: Vec<Choice>,
    /// How far the schedule that is running has come.
    depth: usize,
    /// Whether schedules that lead where another has led are not followed further.
    prunes: bool,
    /// Where schedules have led.
    situations: HashSet<u64>,
}

struct Choice {
    chosen: Action,
    to_explore: Vec<Action>,
}

impl Scheduler for Tree {
    fn choose(&mut self, world: &World) -> Option<Action> {
        if self.depth == self.path.len() {
            if !self.situations.insert(world.situation()) && self.prunes {
                return None;
            }
            let mut to_explore = world.enabled();
            to_explore.reverse();
            self.path.push(Choice { chosen: to_explore.pop()?, to_explore });
        }
        let chosen = self.path[self.depth].chosen;
        self.depth += 1;
        Some(chosen)
    }
}

impl Tree {
    /// Goes back to the last choice that leaves something to explore, and takes the next.
    fn backtrack(&mut self) -> bool {
        self.depth = 0;
        while let Some(choice) = self.path.last_mut() {
            if let Some(next) = choice.to_explore.pop() {
                choice.chosen = next;
                return true;
            }
            self.path.pop();
        }
        false
    }
}

/// Runs schedules at random, each with a seed of its own, the first of which is given.
pub(super) fn random(scope: Scope, seed: u64, schedules: u64) -> Search {
    let start = Instant::now();
    let mut search = Search::new(scope);
    search.how = format!("random, from seed {seed}");
    for seed in (seed..).take(schedules as usize) {
        if search.add(&execute(scope, &mut Dice::new(seed), false)) {
            search.how += &format!(", the last one's seed is {seed}");
            break;
        }
    }
    search.time = start.elapsed();
    search
}

/// Chooses at random.
///
/// Each schedule has weights of its own for the classes of actions, so that some have many faults, some none,
/// some let time pass often, and so on (*swarm testing*). Each actor has a weight, too, which changes now and
/// then, so that some run on while others stand still: choices that were all equally likely would hardly ever
/// let a call begin after many others have ended.
struct Dice {
    rng: SmallRng,
    classes: [u32; Class::COUNT],
    actors: HashMap<Option<Actor>, u32>,
}

/// How often, in one of so many actions, the weights of the actors change.
const CHANGES: u32 = 8;

impl Dice {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let classes = std::array::from_fn(|class| match class {
            class if class == Class::Fault as usize => pick(&mut rng, [0, 1, 4, 16]),
            class if class == Class::Step as usize => 16,
            _ => pick(&mut rng, [1, 4, 16, 64]),
        });
        Self { rng, classes, actors: HashMap::new() }
    }
}

fn pick(rng: &mut SmallRng, weights: [u32; 4]) -> u32 {
    weights[rng.random_range(0..weights.len())]
}

impl Scheduler for Dice {
    fn choose(&mut self, world: &World) -> Option<Action> {
        let enabled = world.enabled();
        if self.rng.random_ratio(1, CHANGES) {
            self.actors.clear();
        }
        let weights: Vec<_> = enabled
            .iter()
            .map(|action| {
                let actor = self.actors.entry(action.actor());
                let actor = actor.or_insert_with(|| pick(&mut self.rng, [1, 16, 256, 4096]));
                self.classes[action.class() as usize] * *actor
            })
            .collect();
        let chosen = WeightedIndex::new(weights).ok()?; // an error if nothing can be chosen
        Some(enabled[chosen.sample(&mut self.rng)])
    }
}

/// Repeats a schedule, and leaves out what is not possible.
struct Replay<'a>(std::slice::Iter<'a, Action>);

impl Scheduler for Replay<'_> {
    fn choose(&mut self, world: &World) -> Option<Action> {
        let enabled = world.enabled();
        self.0.find(|action| enabled.contains(action)).copied()
    }
}

fn replay(scope: Scope, actions: &[Action], tells: bool) -> Execution {
    execute(scope, &mut Replay(actions.iter()), tells)
}

/// Leaves out of a schedule what it can do without: parts of it, from large to single actions, until nothing
/// more can be left out.
fn shorten(scope: Scope, found: &[Action]) -> Counterexample {
    let mut actions = found.to_vec();
    let mut part = actions.len() / 2;
    while part > 0 {
        let mut start = 0;
        let mut is_shorter = false;
        while start < actions.len() {
            let end = (start + part).min(actions.len());
            let rest = [&actions[..start], &actions[end..]].concat();
            let execution = replay(scope, &rest, false);
            if execution.violation.is_some() && execution.actions.len() < actions.len() {
                (actions, is_shorter) = (execution.actions, true);
            } else {
                start += part;
            }
        }
        if !is_shorter {
            part /= 2;
        }
    }
    // A step that fails, where it could as well succeed, would only distract.
    for index in 0..actions.len() {
        if let Some(Action::Settle(actor, _)) = actions.get(index).copied() {
            let mut simpler = actions.clone();
            simpler[index] = Action::Settle(actor, Fate::Executed);
            let execution = replay(scope, &simpler, false);
            if execution.violation.is_some() && execution.actions.len() <= actions.len() {
                actions = execution.actions;
            }
        }
    }
    let execution = replay(scope, &actions, true);
    let violation = execution.violation.expect("the same schedule has the same end");
    Counterexample { found: found.len(), actions, violation, story: execution.story }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, how, schedules, longest, time, counterexample, .. } = self;
        let seconds = time.as_secs_f64();
        write!(f, "{scope}: {how}: {schedules} schedules, ")?;
        write!(f, "at most {longest} actions long, {seconds:.1} s, ")?;
        match counterexample {
            Some(counterexample) => write!(f, "counterexample:\n{counterexample}"),
            None => f.write_str("no counterexample"),
        }
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, actions, violation, story } = self;
        let Violation { reader, returned, must_see } = violation;
        writeln!(f, "{} actions, shortened from {found}:", actions.len())?;
        write!(
            f,
            "{story}  {reader} returned v{returned}, although v{must_see} was visible when it began."
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::scope::{Copies, Guarantee, Limits};
    use super::super::{random_scope, tiny};
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let scope = random_scope(Guarantee::ReadAfterAnsweredWrite, Copies::Local);
        for seed in 0..200 {
            let [first, second] = [(), ()].map(|()| execute(scope, &mut Dice::new(seed), true));
            assert_eq!(first.actions, second.actions);
            assert_eq!(first.story, second.story);
        }
    }

    /// All results that a search comes upon.
    fn all_results(scope: Scope, prunes: bool) -> (u64, BTreeSet<Vec<String>>) {
        let mut tree = Tree { prunes, ..Tree::default() };
        let (mut schedules, mut results) = (0, BTreeSet::new());
        loop {
            schedules += 1;
            results.extend(execute(scope, &mut tree, false).results);
            if !tree.backtrack() {
                return (schedules, results);
            }
        }
    }

    /// Schedules that lead to the same situation have the same results from there on.
    #[test]
    fn no_result_is_missed_because_schedules_are_not_followed_further() {
        let tiny = tiny(Guarantee::Linearizable);
        let limits = |faults, losses, jumps| Limits { faults, losses, jumps };
        for scope in [
            Scope { readers: [1, 0], limits: limits(1, 1, 0), ..tiny },
            Scope { readers: [2, 0], writers: &[], limits: limits(1, 0, 1), ..tiny },
            Scope { readers: [1, 0], copies: Copies::Local, limits: limits(0, 1, 1), ..tiny },
            tiny,
        ] {
            let (schedules, results) = all_results(scope, false);
            let (pruned_schedules, pruned_results) = all_results(scope, true);
            println!(
                "{scope}: {pruned_schedules} of {schedules} schedules, {} results",
                results.len()
            );
            assert_eq!(results, pruned_results);
            assert!(pruned_schedules < schedules);
        }
    }
}
