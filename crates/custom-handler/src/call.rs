//! What an application implements ([`Handler`]), and what it is called with.

use std::time::Instant;

use bytes::Bytes;
use warp::http::header::ALLOW;
use warp::http::{HeaderMap, Method, StatusCode};

use crate::{BodyError, Function, Params, Response};

/// A custom handler: its functions, and its responses.
///
/// A clone is made for every request, so it should be cheap: put shared state behind an
/// [`Arc`](std::sync::Arc).
pub trait Handler: Clone + Send + Sync + 'static {
    /// An entry of the application's own table of endpoints. It contains the [`Function`], and
    /// whatever the application needs to call it. [`Function`] itself will do.
    type Endpoint: AsRef<Function> + Sync + 'static;

    /// The table of endpoints. If several match a request, the first is called.
    fn endpoints(&self) -> &'static [Self::Endpoint];

    /// Calls a function.
    ///
    /// A call whose method may change something (any but GET, HEAD, OPTIONS and TRACE) runs in a task
    /// of its own, so that it is completed even if its connection fails. While a call runs,
    /// [`Invocation::current`](crate::Invocation::current) returns its invocation, and every record that
    /// it logs carries the invocation's id. Neither is true in a task that the call spawns.
    fn call(&self, call: Call<Self::Endpoint>) -> impl Future<Output = Response> + Send;

    /// The response to a request for which no function is called, or whose function panicked.
    ///
    /// The method is passed for the application's log. It is the client's method, except for
    /// [`Refusal::PayloadTooLarge`], where that is not known: there it is the `POST` of the payload.
    /// Like a call, it runs within the request's invocation.
    ///
    /// By default it is an empty response with the [status](Refusal::status) of the refusal, and with
    /// `Allow` if that is 405.
    fn refuse(&self, method: &Method, refusal: Refusal) -> Response {
        let _ = method;
        let mut response = Response::default();
        *response.status_mut() = refusal.status();
        if let Refusal::MethodNotAllowed(methods) = refusal {
            let values = methods.iter().filter_map(|method| method.as_str().parse().ok());
            response.headers_mut().extend(values.map(|value| (ALLOW, value)));
        }
        response
    }

    /// The response to `GET /`, by which the host finds out that the handler is ready. It accepts
    /// any response; by default it is an empty 200.
    fn ready(&self) -> Response {
        Response::default()
    }
}

/// A call of one of the functions, the same in each of the three ways that the host may deliver it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call<E: 'static> {
    /// The entry of the function in [`Handler::endpoints`].
    pub endpoint: &'static E,
    /// The request's method: one of the function's.
    pub method: Method,
    /// The values of the route's parameters.
    pub params: Params,
    /// The query string, percent-encoded and without the question mark; empty if there is none.
    pub query: String,
    /// The client's headers, with those that the host adds.
    pub headers: HeaderMap,
    /// The body. Empty if the function's [`body_limit`](Function::body_limit) is 0.
    pub body: Result<Bytes, BodyError>,
    /// When the head of the request arrived, before its body was read.
    pub received: Instant,
}

/// Why a request is answered without calling a function.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No function has this path. (Behind a host, the host answers such requests itself.)
    NoSuchPath,
    /// The path is a function's, but not with this method. These are the methods that it has. (Behind
    /// a host, the host answers such requests itself.)
    MethodNotAllowed(Vec<Method>),
    /// The body of the client's request makes an invocation payload that is too large.
    PayloadTooLarge {
        /// The largest payload, in bytes.
        limit: usize,
    },
    /// The function panicked. The panic is in the log if [`logging`](crate::logging) was started.
    Failed,
}

impl Refusal {
    /// The status for this refusal: 404, 405, 413 or 500.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::NoSuchPath => StatusCode::NOT_FOUND,
            Refusal::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
