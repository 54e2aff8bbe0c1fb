//! An Azure Functions custom handler that serves `/api/users` with the cache-aside pattern: Redis in
//! front of Azure Table Storage.
//!
//! The pattern itself is the library `cache-aside`, and the Functions host's side is the library
//! `custom-handler`. Here they become an application. Its modules, and which of them use which:
//!
//! ```text
//! main ──► app ──► api ──► repository ──► cache ──► identity
//!           │                    └──────► store ──┘
//!           └────► settings, telemetry
//! ```
//!
//! - [`repository`]: users, read and changed through the pattern. Start here.
//! - [`api`]: the endpoints: routes, requests, responses, errors.
//! - [`users`]: what a user is. All modules above use it.
//! - [`store`]: the interface to a store of users, on Azure Tables and in process.
//! - [`cache`]: the cache of users: Redis, or in process.
//! - [`identity`]: the handler's identity in Azure, used instead of keys.
//! - [`settings`]: every environment variable, in one table.
//! - [`telemetry`]: what is logged.
//! - [`app`]: puts the parts together and serves them; both `main` and the tests start it.

pub mod api;
pub mod app;
pub mod cache;
pub mod identity;
pub mod repository;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod users;
