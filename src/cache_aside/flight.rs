//! Concurrent loads of one key inside this process: one reader flies, others may share the landing.
//!
//! Single-flight as libraries have it lets a reader join a load that began before a write which the
//! reader has already seen answered: it would get a value older than its own past. So here a reader
//! may take another's result only if
//!
//! - it boarded before the step that produced the result was sent, or
//! - the result was accepted as the cache's entry, and it boarded before that fill was sent: the
//!   cache accepts a fill only if no write has begun since the lease.
//!
//! In the order of events:
//!
//! 1. The first reader to find nothing boards as the leader.
//! 2. Readers that board now sit early. The leader sends a lease, then the load; before each, it
//!    counts a step.
//! 3. Readers that board after the load was sent sit late.
//! 4. The leader closes the flight and sends the fill. Who comes now leads a flight of its own.
//! 5. The flight lands. Early seats take the result; late ones only if the fill was accepted, and
//!    look again otherwise.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::ports::Key;

/// The flights of a process, at most one open per key.
pub struct Flights<T> {
    // A std mutex: it is held for a map operation, never across an await.
    open: Mutex<HashMap<Key, Open<T>>>,
}

/// A flight that can be boarded.
struct Open<T> {
    steps: u32,
    landing: watch::Receiver<Option<Landing<T>>>,
}

#[derive(Clone)]
struct Landing<T> {
    result: T,
    /// How many steps had been counted when the result's own was sent.
    produced_by: u32,
    filled: bool,
}

/// A place on a flight.
pub enum Seat<'a, T> {
    /// This reader loads, for all that join it.
    Leader(Leader<'a, T>),
    /// Another is loading.
    Joiner(Joiner<T>),
}

/// The reader that loads. Dropped without landing, it sends its joiners to look again.
pub struct Leader<'a, T> {
    flights: &'a Flights<T>,
    key: Key,
    steps: u32,
    closed: bool,
    landing: watch::Sender<Option<Landing<T>>>,
}

/// A reader that waits for another's load.
pub struct Joiner<T> {
    steps: u32,
    landing: watch::Receiver<Option<Landing<T>>>,
}

impl<T> Flights<T> {
    /// No flights yet.
    pub fn new() -> Self {
        Self { open: Mutex::new(HashMap::new()) }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Key, Open<T>>> {
        // Nothing panics while it is held, and a map is whole after each of our operations.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the open flight of this key, or leads a new one.
    pub fn board(&self, key: Key) -> Seat<'_, T> {
        let mut open = self.open();
        if let Some(flight) = open.get(&key) {
            return Seat::Joiner(Joiner { steps: flight.steps, landing: flight.landing.clone() });
        }
        let (sender, receiver) = watch::channel(None);
        open.insert(key, Open { steps: 0, landing: receiver });
        Seat::Leader(Leader { flights: self, key, steps: 0, closed: false, landing: sender })
    }
}

impl<T> Leader<'_, T> {
    /// A step that may produce the result is about to be sent: who boards from now on is late for it.
    pub fn step(&mut self) {
        self.steps += 1;
        if let Some(flight) = self.flights.open().get_mut(&self.key) {
            flight.steps = self.steps;
        }
    }

    /// The fill is about to be sent: nobody boards any more.
    pub fn close(&mut self) {
        if !self.closed {
            self.closed = true;
            self.flights.open().remove(&self.key);
        }
    }

    /// Shares the result of the last step; `filled` says that the cache accepted it as its entry.
    pub fn land(mut self, result: T, filled: bool) {
        self.close();
        let landing = Landing { result, produced_by: self.steps, filled };
        self.landing.send_replace(Some(landing));
    }
}

impl<T> Drop for Leader<'_, T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T: Clone> Joiner<T> {
    /// Waits for the landing. `None`: this reader may not take the result, and must look again.
    pub async fn landing(mut self) -> Option<T> {
        // An error means that the leader is gone without landing.
        let landing = self.landing.wait_for(Option::is_some).await.ok()?.clone()?;
        let early = self.steps < landing.produced_by;
        (early || landing.filled).then_some(landing.result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    const KEY: Key = Key { kind: "user", id: Ulid(1) };

    fn lead<'a>(flights: &'a Flights<&'static str>) -> Leader<'a, &'static str> {
        match flights.board(KEY) {
            Seat::Leader(leader) => leader,
            Seat::Joiner(_) => panic!("a flight is open"),
        }
    }

    fn join(flights: &Flights<&'static str>) -> Joiner<&'static str> {
        match flights.board(KEY) {
            Seat::Leader(_) => panic!("no flight is open"),
            Seat::Joiner(joiner) => joiner,
        }
    }

    #[tokio::test]
    async fn who_boards_before_the_load_is_sent_shares_it_even_if_the_fill_is_refused() {
        let flights = Flights::new();
        let mut leader = lead(&flights);
        let early = join(&flights);
        leader.step();
        let late = join(&flights);
        leader.land("loaded", false);
        assert_eq!(early.landing().await, Some("loaded"));
        assert_eq!(late.landing().await, None);
    }

    #[tokio::test]
    async fn who_boards_after_the_load_was_sent_shares_it_only_if_it_was_filled() {
        let flights = Flights::new();
        let mut leader = lead(&flights);
        leader.step();
        let late = join(&flights);
        leader.close();
        leader.land("loaded", true);
        assert_eq!(late.landing().await, Some("loaded"));
    }

    #[tokio::test]
    async fn who_comes_after_the_fill_was_sent_leads_a_flight_of_its_own() {
        let flights = Flights::new();
        let mut first = lead(&flights);
        first.step();
        first.close();
        let mut second = lead(&flights);
        first.land("old", true);
        let joiner = join(&flights);
        second.step();
        second.land("new", true);
        assert_eq!(joiner.landing().await, Some("new"));
    }

    #[tokio::test]
    async fn only_the_step_that_produced_the_result_decides_who_was_early() {
        let flights = Flights::new();
        let mut leader = lead(&flights);
        leader.step(); // a lease that another holds
        let between = join(&flights);
        leader.step(); // the load
        leader.land("loaded", false);
        assert_eq!(between.landing().await, Some("loaded"));
    }

    #[tokio::test]
    async fn joiners_of_a_leader_that_is_gone_look_again() {
        let flights = Flights::new();
        let leader = lead(&flights);
        let joiner = join(&flights);
        drop(leader);
        assert_eq!(joiner.landing().await, None);
        lead(&flights);
    }
}
