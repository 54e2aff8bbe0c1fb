//! An Azure Functions custom handler that serves `/api/users` with the cache-aside pattern: Redis in
//! front of Azure Table Storage.
//!
//! The pattern itself is the library `cache-aside`, and the interface to the Functions host is the
//! library `custom-handler`. This crate combines them. Each module uses only modules below it:
//!
//! - [`app`]: puts the parts together and serves them; both `main` and the tests start it.
//! - [`settings`]: every environment variable, in one table.
//! - [`command_line`]: what the command line asks for.
//! - [`api`]: the endpoints: routes, requests, responses, errors.
//! - [`repository`]: users, read and changed through the pattern. Start here.
//! - [`audit`]: which hits are compared with the store, and what is reported.
//! - [`cache`]: the cache of users: Redis, or in process.
//! - [`store`]: the interface to a store of users, on Azure Tables and in process.
//! - [`users`]: what a user is.
//! - [`identity`]: the handler's identity in Azure, used instead of keys.
//! - [`telemetry`]: what is logged.

pub mod api;
pub mod app;
pub mod audit;
pub mod cache;
pub mod command_line;
pub mod identity;
pub mod repository;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod users;
