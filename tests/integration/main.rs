//! The handler as a whole, on real Redis and Azurite servers, behind the stand-in for the Functions
//! host, and as a process.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on fails
#![allow(unreachable_pub)] // a test binary exports nothing

mod support;

mod api;
mod audit;
mod bad_input;
mod chaos;
mod deadlines;
mod demo;
mod deployment;
mod editor;
mod host;
mod identity;
mod local_copies;
mod make_up;
mod openapi;
mod operate;
mod outages;
mod overload;
mod previous_version;
mod process;
mod redis_kinds;
mod settings;
mod store_contract;
mod table;
mod telemetry;
mod troubles;
