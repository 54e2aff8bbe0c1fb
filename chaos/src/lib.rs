//! `make chaos`: several handlers, Redis and the table, all of them real, and clients that read and write
//! a few users through HTTP while handlers, Redis and the connections between them are killed, hung, cut
//! off and restarted. What the clients saw is recorded, and checked against what is guaranteed.
//!
//! Read [`history`] and [`checker`] first, then [`regime`], which says what may happen and what must hold
//! then.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a run that cannot go on fails

pub mod checker;
pub mod clients;
pub mod faults;
pub mod handlers;
pub mod history;
pub mod regime;
pub mod report;
pub mod run;
pub mod users;
pub mod weakened;
