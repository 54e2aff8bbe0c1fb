//! Which function a request is for, and calling it.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use hyper::body::Incoming;
use warp::Filter;
use warp::http::{self, HeaderMap, Method, Uri};
use warp::path::FullPath;

use crate::body::{Body, BodyError, read_body};
use crate::{Call, Function, Handler, Invocation, Params, Refusal, Response, payload};

/// A request for a function, as the client sent it.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// As in the request line, percent-encoded.
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) received: Instant,
}

impl From<http::Request<Incoming>> for Request {
    fn from(request: http::Request<Incoming>) -> Self {
        let (http::request::Parts { method, uri, headers, .. }, body) = request.into_parts();
        Self { method, uri, headers, body: Body::Incoming(body), received: Instant::now() }
    }
}

/// All routes of a handler as one warp filter, for applications that combine it with filters of their
/// own: the functions at their own routes, as the host proxies and forwards requests;
/// `POST /{function name}`, as the host sends invocation payloads; `GET /`, the host's readiness ping;
/// and refusals for all other requests.
///
/// If a request is for a function's route and a payload's at the same time, which an empty route
/// prefix makes possible, it is for the function's.
///
/// [`serve`](crate::serve) answers in the same way, without a filter: a filter cannot take the headers
/// and the path out of the request, and has to copy them.
pub fn routes(
    handler: impl Handler,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().map(|query| format!("?{query}"));
    let query = query.or(warp::any().map(String::new)).unify();
    // There is no body if a filter before this one has read it.
    let body = warp::body::stream().map(whole_chunks).or_else(|_| {
        std::future::ready(Ok::<_, Infallible>((Body::ready(Err(BodyError::Incomplete)),)))
    });
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(body)
        .then(move |method, path: FullPath, query: String, headers, body| {
            let received = Instant::now();
            // It was one before warp took it apart.
            let uri = format!("{}{query}", path.as_str()).parse().unwrap_or_default();
            answer(handler.clone(), Request { method, uri, headers, body, received })
        })
}

fn whole_chunks<S, B, E>(body: S) -> Body
where
    S: Stream<Item = Result<B, E>> + Send + 'static,
    B: Buf,
{
    Body::chunks(body.map(|chunk| match chunk {
        Ok(mut chunk) => Ok(chunk.copy_to_bytes(chunk.remaining())),
        Err(_) => Err(BodyError::Incomplete),
    }))
}

/// Answers a request.
pub(crate) async fn answer<H: Handler>(handler: H, request: Request) -> Response {
    let found = find(handler.endpoints(), &request.method, request.uri.path());
    if found.is_err() {
        if let Some(function) = invoked(handler.endpoints(), &request) {
            // Boxed, so that calls in the other modes do not have to reserve space for it.
            return Box::pin(payload::answer(handler, function, request)).await;
        }
        if request.method == Method::GET && request.uri.path() == "/" {
            return handler.ready();
        }
    }
    let invocation = Invocation::from_headers(&request.headers);
    call_or_refuse(&handler, &invocation, request, found).await
}

/// Calls the function that a request is for, or refuses the request.
pub(crate) async fn dispatch<H: Handler>(
    handler: &H,
    invocation: &Invocation,
    request: Request,
) -> Response {
    let found = find(handler.endpoints(), &request.method, request.uri.path());
    call_or_refuse(handler, invocation, request, found).await
}

/// The endpoint that a request is for.
fn find<E: AsRef<Function>>(
    endpoints: &'static [E],
    method: &Method,
    path: &str,
) -> Result<(&'static E, Params), Refusal> {
    let mut allowed = Vec::new();
    for endpoint in endpoints {
        let function = endpoint.as_ref();
        let Some(params) = function.params(path) else { continue };
        if function.methods.contains(method) {
            return Ok((endpoint, params));
        }
        allowed.extend_from_slice(function.methods);
    }
    Err(match allowed.is_empty() {
        true => Refusal::NoSuchPath,
        false => Refusal::MethodNotAllowed(allowed),
    })
}

/// The function that a request has an invocation payload for.
fn invoked<E: AsRef<Function>>(
    endpoints: &'static [E],
    request: &Request,
) -> Option<&'static Function> {
    let name = request.uri.path().strip_prefix('/')?;
    let name = name.strip_suffix('/').unwrap_or(name);
    let mut functions = endpoints.iter().map(AsRef::as_ref);
    functions.find(|function| request.method == Method::POST && function.name == name)
}

async fn call_or_refuse<H: Handler>(
    handler: &H,
    invocation: &Invocation,
    request: Request,
    found: Result<(&'static H::Endpoint, Params), Refusal>,
) -> Response {
    let Request { method, uri, headers, body, received } = request;
    let (endpoint, params) = match found {
        Ok(found) => found,
        Err(refusal) => return invocation.scope(|| handler.refuse(&method, refusal)),
    };
    let work = |handler: H, method| async move {
        let body = match endpoint.as_ref().body_limit {
            0 => Ok(Bytes::new()),
            limit => read_body(body, limit).await,
        };
        let query = uri.query().unwrap_or_default().to_owned();
        handler.call(Call { endpoint, method, params, query, headers, body, received }).await
    };
    // A safe method (RFC 9110, section 9.2.1) changes nothing, so its call may be dropped midway, as it
    // is when the process is killed. This saves a task.
    let result = match method.is_safe() {
        true => invocation.run(pin!(work(handler.clone(), method.clone()))).await,
        false => invocation.run_to_completion(work(handler.clone(), method.clone())).await,
    };
    result.unwrap_or_else(|_| invocation.scope(|| handler.refuse(&method, Refusal::Failed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn function(
        name: &'static str,
        route: &'static str,
        methods: &'static [Method],
    ) -> Function {
        Function { name, route, methods, body_limit: 0 }
    }

    static FUNCTIONS: [Function; 4] = [
        function("get", "api/users/{id}", &[Method::GET, Method::HEAD]),
        function("me", "api/users/me", &[Method::GET]),
        function("delete", "api/users/{id}", &[Method::DELETE]),
        function("list", "api/users", &[Method::GET]),
    ];

    fn found(method: Method, path: &str) -> Result<&'static str, Refusal> {
        find(&FUNCTIONS, &method, path).map(|(function, _)| function.name)
    }

    #[test]
    fn the_first_function_with_the_path_and_the_method_is_called() {
        assert_eq!(found(Method::GET, "/api/users/x"), Ok("get"));
        assert_eq!(found(Method::GET, "/api/users/me"), Ok("get"));
        assert_eq!(found(Method::DELETE, "/api/users/x"), Ok("delete"));
        assert_eq!(found(Method::GET, "/api/users"), Ok("list"));
    }

    #[test]
    fn a_method_that_no_function_of_the_path_has_is_refused_with_those_they_have() {
        let allowed = vec![Method::GET, Method::HEAD, Method::DELETE];
        let refusal = Refusal::MethodNotAllowed(allowed);
        assert_eq!(found(Method::PUT, "/api/users/x"), Err(refusal));
    }

    #[test]
    fn a_path_that_no_function_has_is_refused() {
        assert_eq!(found(Method::GET, "/api/groups"), Err(Refusal::NoSuchPath));
    }

    fn request(method: Method, path: &str) -> Request {
        let (uri, headers) = (path.parse().unwrap(), HeaderMap::new());
        let (body, received) = (Body::ready(Ok(Bytes::new())), Instant::now());
        Request { method, uri, headers, body, received }
    }

    #[test]
    fn a_payload_is_a_post_to_the_name_of_a_function() {
        let invoked = |method, path| {
            invoked(&FUNCTIONS, &request(method, path)).map(|function| function.name)
        };
        assert_eq!(invoked(Method::POST, "/list"), Some("list"));
        assert_eq!(invoked(Method::POST, "/list/"), Some("list"));
        for path in ["/", "/LIST", "/list/x", "//list", "/list//", "/other"] {
            assert_eq!(invoked(Method::POST, path), None, "{path}");
        }
        assert_eq!(invoked(Method::GET, "/list"), None);
    }

    /// Only what a handler must have.
    #[derive(Clone)]
    struct Minimal;

    impl Handler for Minimal {
        type Endpoint = Function;

        fn endpoints(&self) -> &'static [Function] {
            static SAME: [Function; 1] = [function("same", "same", &[Method::POST, Method::PUT])];
            &SAME
        }

        async fn call(&self, _: Call<Function>) -> Response {
            Response::new("called".into())
        }
    }

    /// A filter of an application's own passes what is not for the handler's functions to the handler.
    #[tokio::test]
    async fn the_routes_can_be_combined_with_other_filters() {
        use warp::Reply;

        #[derive(Clone)]
        struct Echo;

        impl Handler for Echo {
            type Endpoint = Function;

            fn endpoints(&self) -> &'static [Function] {
                static ECHO: [Function; 1] = [Function {
                    name: "echo",
                    route: "api/echo/{text}",
                    methods: &[Method::POST],
                    body_limit: 10,
                }];
                &ECHO
            }

            async fn call(&self, call: Call<Function>) -> Response {
                let Call { params, query, headers, body, .. } = call;
                let own = headers.get("x-own").map_or("", |value| value.to_str().unwrap());
                Response::new(format!("{} {query} {own} {body:?}", params.get("text")).into())
            }
        }

        let own = warp::path!("own").map(|| Response::new("own".into()));
        let both = own.or(routes(Echo)).unify().map(Reply::into_response);
        let request = |path| warp::test::request().method("POST").path(path).header("x-own", "7");
        let response = request("/api/echo/a%20b?x=1").body("body").reply(&both).await;
        assert_eq!(response.body(), r#"a b x=1 7 Ok(b"body")"#);
        let response = request("/api/echo/a").body("12345678901").reply(&both).await;
        assert_eq!(response.body(), "a  7 Err(TooLarge)");
        assert_eq!(request("/own").reply(&both).await.body(), "own");
        assert_eq!(request("/other").reply(&both).await.status(), 404);
    }

    #[tokio::test]
    async fn a_function_whose_route_is_its_name_is_called_at_its_route() {
        let response = answer(Minimal, request(Method::POST, "/same")).await;
        assert_eq!(response.status(), 200); // as a payload it would be malformed
    }

    #[tokio::test]
    async fn a_handler_need_not_say_how_it_refuses() {
        let response = answer(Minimal, request(Method::GET, "/same")).await;
        let allowed: Vec<_> = response.headers().get_all("allow").iter().collect();
        assert_eq!(response.status(), 405);
        assert_eq!(allowed, ["POST", "PUT"]);
        let response = answer(Minimal, request(Method::GET, "/other")).await;
        assert_eq!((response.status().as_u16(), response.headers().len()), (404, 0));
    }

    #[tokio::test]
    async fn the_ping_is_a_get_of_the_root() {
        assert_eq!(answer(Minimal, request(Method::GET, "/")).await.status(), 200);
        for (method, path) in [(Method::HEAD, "/"), (Method::GET, "//")] {
            assert_eq!(answer(Minimal, request(method, path)).await.status(), 404, "{path}");
        }
    }
}
