//! The HTTP API: its endpoints, and what they read from requests and write to responses.

mod demo;
mod endpoints;
mod entity_tags;
mod error;
mod health;
mod reply;
mod request;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use custom_handler::http::Method;
use custom_handler::{Call, Function, Handler, Refusal, Response};

use crate::repository::Repository;
use crate::telemetry::{RequestSpan, Telemetry};

use self::error::ApiError;
use self::health::Probes;
use self::reply::{Origin, Reply};
use self::request::MAX_BODY_LENGTH;

/// An endpoint: the function as the host knows it, and what answers its calls.
pub struct Endpoint {
    /// The name of its folder, its route and its methods.
    pub function: Function,
    operation: Operation,
}

/// What answers the calls of an endpoint.
enum Operation {
    UsersGet,
    UsersCreate,
    UsersPut,
    UsersUpdate,
    UsersDelete,
    Health,
    Live,
    Demo,
    OpenApi,
}

impl Operation {
    /// Whether its calls get a span. Those of the probes, every few seconds, would be most of all traces.
    fn is_traced(&self) -> bool {
        !matches!(self, Operation::Health | Operation::Live)
    }
}

impl AsRef<Function> for Endpoint {
    fn as_ref(&self) -> &Function {
        &self.function
    }
}

/// The endpoints. Each has a folder of its function's name, with a `function.json` in it.
pub static ENDPOINTS: [Endpoint; 9] = [
    Endpoint {
        function: Function {
            name: "users-get",
            route: "api/users/{id}",
            methods: &[Method::GET, Method::HEAD],
            body_limit: 0,
        },
        operation: Operation::UsersGet,
    },
    Endpoint {
        function: Function {
            name: "users-create",
            route: "api/users",
            methods: &[Method::POST],
            body_limit: MAX_BODY_LENGTH,
        },
        operation: Operation::UsersCreate,
    },
    Endpoint {
        function: Function {
            name: "users-put",
            route: "api/users/{id}",
            methods: &[Method::PUT],
            body_limit: MAX_BODY_LENGTH,
        },
        operation: Operation::UsersPut,
    },
    Endpoint {
        function: Function {
            name: "users-update",
            route: "api/users/{id}",
            methods: &[Method::PATCH],
            body_limit: MAX_BODY_LENGTH,
        },
        operation: Operation::UsersUpdate,
    },
    Endpoint {
        function: Function {
            name: "users-delete",
            route: "api/users/{id}",
            methods: &[Method::DELETE],
            body_limit: 0,
        },
        operation: Operation::UsersDelete,
    },
    Endpoint {
        function: Function {
            name: "health",
            route: "api/health",
            methods: &[Method::GET, Method::HEAD],
            body_limit: 0,
        },
        operation: Operation::Health,
    },
    Endpoint {
        function: Function {
            name: "live",
            route: "api/live",
            methods: &[Method::GET, Method::HEAD],
            body_limit: 0,
        },
        operation: Operation::Live,
    },
    Endpoint {
        function: Function {
            name: "demo",
            route: "api/demo",
            methods: &[Method::GET, Method::HEAD],
            body_limit: 0,
        },
        operation: Operation::Demo,
    },
    Endpoint {
        function: Function {
            name: "openapi",
            route: "api/openapi.json",
            methods: &[Method::GET, Method::HEAD],
            body_limit: 0,
        },
        operation: Operation::OpenApi,
    },
];

/// The log target of the line for each request, so that it can be switched off on its own.
const REQUEST_LOG: &str = "request";

/// Stands for the route of a request that is for none.
const NO_ROUTE: &str = "-";

/// The API over a repository of users. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

struct Parts {
    users: Repository,
    probes: Probes,
    telemetry: Telemetry,
}

impl Api {
    /// The API over these users.
    pub fn new(users: Repository, telemetry: Telemetry) -> Self {
        Self(Arc::new(Parts { users, probes: Probes::default(), telemetry }))
    }

    pub(crate) fn users(&self) -> &Repository {
        &self.0.users
    }
}

impl Handler for Api {
    type Endpoint = Endpoint;

    fn endpoints(&self) -> &'static [Endpoint] {
        &ENDPOINTS
    }

    async fn call(&self, call: Call<Endpoint>) -> Response {
        let (endpoint, method, received) = (call.endpoint, call.method.clone(), call.received);
        let work = pin!(self.reply(call));
        let route = endpoint.function.route;
        let is_traced = endpoint.operation.is_traced();
        let request = self.0.telemetry.begin_request(&method, Some(route), received, is_traced);
        let reply = match request {
            None => work.await,
            // Boxed, so that without telemetry no space is reserved for it.
            Some(request) => Box::pin(observed(request, work)).await,
        };
        log_request(&method, route, &reply, received);
        reply.response
    }

    fn refuse(&self, method: &Method, refusal: Refusal) -> Response {
        let received = Instant::now();
        // The span of a call that has panicked has been recorded.
        let is_traced = refusal != Refusal::Failed;
        let reply = Reply::from(ApiError::from(refusal).into_response());
        if let Some(request) = self.0.telemetry.begin_request(method, None, received, is_traced) {
            request.end(reply.response.status(), None);
        }
        log_request(method, NO_ROUTE, &reply, received);
        reply.response
    }

    fn ready(&self) -> Response {
        reply::alive()
    }
}

/// Works on a request within its span.
async fn observed(request: Box<RequestSpan>, work: Pin<&mut impl Future<Output = Reply>>) -> Reply {
    let reply = request.scope(work).await;
    request.end(reply.response.status(), reply.origin.map(Origin::source));
    reply
}

impl Api {
    async fn reply(&self, call: Call<Endpoint>) -> Reply {
        // Boxed, except for a read, so that a hit does not have to reserve space for the others.
        let reply = match call.endpoint.operation {
            Operation::UsersGet => endpoints::users_get(self, &call).await,
            Operation::UsersCreate => Box::pin(endpoints::users_create(self, call)).await,
            Operation::UsersPut => Box::pin(endpoints::users_put(self, call)).await,
            Operation::UsersUpdate => Box::pin(endpoints::users_update(self, call)).await,
            Operation::UsersDelete => Box::pin(endpoints::users_delete(self, call)).await,
            Operation::Health => Box::pin(endpoints::health(self)).await,
            Operation::Live => Ok(reply::alive().into()),
            Operation::Demo => Ok(demo::page(&call.headers).into()),
            Operation::OpenApi => Ok(reply::openapi().into()),
        };
        reply.unwrap_or_else(|error| error.into_response().into())
    }
}

/// One line for each request. It has the route instead of the path, because a path contains an id,
/// which is personal data.
fn log_request(method: &Method, route: &str, reply: &Reply, received: Instant) {
    let slash = if route == NO_ROUTE { "" } else { "/" };
    let status = reply.response.status().as_u16();
    let ms = received.elapsed().as_secs_f64() * 1000.0;
    match &reply.origin {
        Some(origin) => {
            log::info!(target: REQUEST_LOG, "{method} {slash}{route} {status} {origin} ms={ms:.3}");
        }
        None => log::info!(target: REQUEST_LOG, "{method} {slash}{route} {status} ms={ms:.3}"),
    }
}
