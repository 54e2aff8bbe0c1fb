//! The endpoints: one function each, named as the function folders are.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use warp::Filter;
use warp::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use warp::http::{HeaderMap, Method};
use warp::reply::Response;

use crate::cache_aside::{CacheAside, Condition, Via, WriteError};
use crate::functions::{self, Function, Invocation, Matched, Params};

use super::health::Probes;
use super::reply::{self, ApiError, Source};
use super::request::{EntityTags, LARGEST_BODY, parse_name};
use super::{Name, User, UserId};

/// The functions of the app; the folder of each has its name.
pub static FUNCTIONS: [&Function; 6] =
    [&USERS_CREATE, &USERS_GET, &USERS_UPDATE, &USERS_DELETE, &HEALTH, &LIVE];

/// The log target of the one line per request, so that it can be turned off on its own.
const REQUEST_LOG: &str = "request";

/// What the endpoints work with.
pub struct Api {
    users: CacheAside<User>,
    probes: Probes,
}

impl Api {
    /// An API over these users.
    pub fn new(users: CacheAside<User>) -> Self {
        Self { users, probes: Probes::default() }
    }
}

/// What an endpoint is called with.
struct Call {
    params: Params,
    headers: HeaderMap,
    body: Bytes,
}

static USERS_CREATE: Function =
    Function { name: "users-create", route: "api/users", methods: &[Method::POST] };

/// Creates a user, with the name given or a random one.
async fn users_create(api: Arc<Api>, call: Call) -> Result<Response, ApiError> {
    let name = parse_name(&call.headers, &call.body)?.unwrap_or_else(Name::random);
    let user = User::new(UserId::random(), name);
    let written = api.users.insert(user.id().key(), &user).await;
    let written = written.map_err(|error| ApiError::from_write(error, user.id()))?;
    Ok(reply::with_timing(reply::created(&user, &written.outcome), written.timing))
}

static USERS_GET: Function =
    Function { name: "users-get", route: "api/users/{id}", methods: &[Method::GET, Method::HEAD] };

/// Answers a user, and where it came from.
async fn users_get(api: Arc<Api>, call: Call) -> Result<Response, ApiError> {
    let id = call.user_id()?;
    let read = api.users.get(id.key()).await?;
    let source = Source(match read.via {
        Via::Hit { .. } => api.users.cache().kind(),
        Via::Store { .. } => "table",
        Via::Stale { .. } => "memory",
    });
    let mut response = match &read.found {
        None => call.no_such_user().into_response(),
        Some(stored) => match call.entity_tags(IF_NONE_MATCH) {
            Some(tags) if tags.match_weakly(&stored.etag) => reply::not_modified(&stored.etag),
            _ => reply::read(&stored.value, &stored.etag, source),
        },
    };
    response.extensions_mut().insert(source);
    Ok(reply::with_timing(reply::with_cache_status(response, read.via), read.timing))
}

static USERS_UPDATE: Function =
    Function { name: "users-update", route: "api/users/{id}", methods: &[Method::PATCH] };

/// Renames a user.
async fn users_update(api: Arc<Api>, call: Call) -> Result<Response, ApiError> {
    let name = parse_name(&call.headers, &call.body)?.ok_or_else(|| {
        ApiError::BadRequest("name is missing: send {\"name\":\"Ada Lovelace\"}".to_owned())
    })?;
    let id = call.user_id()?;
    let user = User::new(id, name);
    let written = api.users.update(id.key(), &user, &call.condition()).await;
    let written = written.map_err(|error| call.failed_write(error))?;
    Ok(reply::with_timing(reply::updated(&user, &written.outcome), written.timing))
}

static USERS_DELETE: Function =
    Function { name: "users-delete", route: "api/users/{id}", methods: &[Method::DELETE] };

/// Deletes a user.
async fn users_delete(api: Arc<Api>, call: Call) -> Result<Response, ApiError> {
    let id = call.user_id()?;
    let written = api.users.delete(id.key(), &call.condition()).await;
    let written = written.map_err(|error| call.failed_write(error))?;
    Ok(reply::with_timing(reply::deleted(), written.timing))
}

static HEALTH: Function = Function { name: "health", route: "api/health", methods: &[Method::GET] };

/// Tells how the cache and the table are, by trying them.
async fn health(api: Arc<Api>, _: Call) -> Result<Response, ApiError> {
    Ok(reply::health(&api.probes.health(&api.users).await))
}

static LIVE: Function = Function { name: "live", route: "api/live", methods: &[Method::GET] };

/// Tells that the handler is there, whatever the cache and the table do.
async fn live(_: Arc<Api>, _: Call) -> Result<Response, ApiError> {
    Ok(reply::alive())
}

impl Call {
    fn given_id(&self) -> &str {
        self.params.get("id")
    }

    /// The user that the path names. What is no ULID is nobody's id, and goes no further.
    fn user_id(&self) -> Result<UserId, ApiError> {
        self.given_id().parse().map_err(|_| self.no_such_user())
    }

    fn no_such_user(&self) -> ApiError {
        ApiError::NoSuchUser(self.given_id().to_owned())
    }

    fn failed_write(&self, error: WriteError) -> ApiError {
        ApiError::from_write(error, self.given_id())
    }

    fn entity_tags(&self, name: HeaderName) -> Option<EntityTags> {
        EntityTags::read(&self.headers, name)
    }

    fn condition(&self) -> Condition {
        self.entity_tags(IF_MATCH).map_or(Condition::Exists, EntityTags::into_condition)
    }
}

/// All endpoints, called directly, proxied or forwarded at `/api/…`, or by an invocation payload at
/// `/{function name}`; the host's readiness ping; and an answer to whatever is none of them.
pub fn routes(
    api: Arc<Api>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let endpoints = endpoint(&USERS_GET, &api, users_get)
        .or(endpoint(&USERS_CREATE, &api, users_create))
        .unify()
        .or(endpoint(&USERS_UPDATE, &api, users_update))
        .unify()
        .or(endpoint(&USERS_DELETE, &api, users_delete))
        .unify()
        .or(endpoint(&HEALTH, &api, health))
        .unify()
        .or(endpoint(&LIVE, &api, live))
        .unify();
    let invoked = functions::payloads(&FUNCTIONS, endpoints.clone().or(nowhere()).unify());
    let ping = functions::ping().map(reply::alive);
    endpoints.or(invoked).unify().or(ping).unify().or(nowhere()).unify()
}

/// The filter of one endpoint. The call runs as a task of its own, within its invocation: a caller
/// that hangs up does not leave a fence or a lease behind, and every log line knows the invocation.
fn endpoint<H, F>(
    function: &'static Function,
    api: &Arc<Api>,
    handle: H,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection>
+ Clone
+ Send
+ Sync
+ 'static
+ use<H, F>
where
    H: Fn(Arc<Api>, Call) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let api = Arc::clone(api);
    functions::route(function).and(functions::invocation()).and(warp::body::stream()).then(
        move |matched: Matched, invocation: Invocation, headers, body| {
            let api = Arc::clone(&api);
            async move {
                let begun = Instant::now();
                let Matched { method, params } = matched;
                let logged_method = method.clone();
                let answer = async move {
                    let body = match method {
                        Method::POST | Method::PATCH => {
                            functions::read_body(body, LARGEST_BODY).await?
                        }
                        _ => Bytes::new(),
                    };
                    handle(api, Call { params, headers, body }).await
                };
                let answer = async move {
                    let response = answer.await.unwrap_or_else(ApiError::into_response);
                    log_request(&logged_method, function.route, &response, begun);
                    response
                };
                invocation.run(answer).await.unwrap_or_else(|_panic| {
                    ApiError::Internal("the handler failed; its log says how").into_response()
                })
            }
        },
    )
}

/// `404` for an unknown path, `405` for a known path with another method. (Behind the host, the host
/// answers both.)
fn nowhere()
-> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    warp::method().and(warp::path::full()).map(|method: Method, path: warp::path::FullPath| {
        let begun = Instant::now();
        let allowed: Vec<Method> = FUNCTIONS
            .iter()
            .filter(|function| function.params(path.as_str()).is_some())
            .flat_map(|function| function.methods.iter().cloned())
            .collect();
        let error = match allowed.is_empty() {
            true => ApiError::NoSuchPath,
            false => ApiError::MethodNotAllowed(allowed),
        };
        let response = error.into_response();
        log_request(&method, "-", &response, begun);
        response
    })
}

/// One line per request. The route, not the path: a path holds an id, which is personal data.
fn log_request(method: &Method, route: &str, response: &Response, begun: Instant) {
    let source = response.extensions().get::<Source>().map_or("-", |source| source.0);
    log::info!(
        target: REQUEST_LOG,
        "{method} /{route} {} source={source} ms={:.3}",
        response.status().as_u16(),
        begun.elapsed().as_secs_f64() * 1000.0
    );
}
