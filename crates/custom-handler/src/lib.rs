#![doc = include_str!("../README.md")]

mod body;
mod call;
mod connection;
mod function;
mod invocation;
pub mod logging;
mod payload;
mod router;
mod server;
mod signal;
#[cfg(feature = "testing")]
pub mod testing;

pub use warp::http;
pub use warp::reply::Response;

pub use self::body::BodyError;
pub use self::call::{Call, Handler, Refusal};
pub use self::function::{Function, Params};
pub use self::invocation::Invocation;
pub use self::router::routes;
pub use self::server::{Limits, serve};
pub use self::signal::{Stop, stop_signal};

/// The environment variable in which the host passes the port that the handler must listen on, on
/// `127.0.0.1`: <https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers>.
pub const PORT_VARIABLE: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";
