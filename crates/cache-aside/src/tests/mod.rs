//! The pattern as a whole: readers and writers of two processes that share one cache and one store,
//! whose steps a test can hold back.
//!
//! All tests run on one thread with the clock paused: time passes only when every task waits, so the
//! tests depend on the order of events and never on the speed of the machine.

mod audit;
mod deadlines;
mod local_copies;
mod observer;
mod outages;
mod reads;
pub(crate) mod scheduled;
mod world;
mod writes;
