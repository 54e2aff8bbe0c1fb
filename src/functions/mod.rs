//! The Azure Functions host's side of a custom handler: which function a request is for, in which
//! invocation, and the invocation payload. Knows nothing of users: another custom handler in Rust
//! could take this room over as it stands.
//!
//! The host calls a handler in one of three ways
//! (<https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers>): it proxies the
//! HTTP request as it came, or forwards a copy of it, both to the function's own path; or it posts a
//! JSON payload to `/{function name}`. A handler that serves all three at once works behind every
//! host, whatever its `host.json` says.

mod body;
mod function;
mod invocation;
mod payload;

pub use self::body::{BodyError, read_body};
pub use self::function::{Function, Matched, Params, ping, route};
pub use self::invocation::{Invocation, invocation};
pub use self::payload::payloads;
