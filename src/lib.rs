//! An Azure Functions custom handler that serves `/api/users` with the cache-aside pattern: Redis in
//! front of Azure Table Storage.
//!
//! The rooms of the house, and who knows whom:
//!
//! ```text
//! main ──► app ──► users ──► cache_aside ◄── cache, store ──► identity
//!           │        └─────► functions ◄── logging
//!           └────► settings
//! ```
//!
//! `app` and `settings` also know the rooms that they put together and configure.
//!
//! - [`cache_aside`]: the pattern. Knows no user, no HTTP, no Redis, no Azure. It owns the two ports,
//!   `Cache` and `Store`. Read this one to understand the rest.
//! - [`cache`]: adapters of `Cache`: Redis, with its Lua scripts beside it, and in process.
//! - [`store`]: adapters of `Store`: Azure Tables, and in process.
//! - [`identity`]: who the handler is to Azure, where it has no keys.
//! - [`users`]: what a user is, and the endpoints.
//! - [`functions`]: the Functions host's side: routes by function, invocations, the payload mode.
//! - [`settings`]: every environment variable, in one table.
//! - [`logging`]: which stream a record goes to.
//! - [`app`]: puts the parts together and serves them; what `main` and the tests start.

#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod app;
pub mod cache;
pub mod cache_aside;
pub mod functions;
pub mod identity;
pub mod logging;
pub mod settings;
pub mod store;
pub mod users;
