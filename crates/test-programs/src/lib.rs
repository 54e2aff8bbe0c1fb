//! What tests, measurements and `make chaos` are built on: the handler and its peers as processes, a
//! client that costs little, the table with a client of its own, and proxies that break connections.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on fails

pub mod client;
pub mod processes;
pub mod program;
pub mod table;
pub mod table_proxy;
pub mod tcp_proxy;
