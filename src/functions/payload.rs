//! The invocation payload: a request and its answer as JSON, inside a `POST /{function name}`.
//!
//! The host takes nothing but a 2xx for an answer here, so an answer of any status travels inside a
//! 200, with the log lines that were written for it.

use std::collections::HashMap;
use std::convert::Infallible;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tower_service::Service;
use warp::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use warp::http::{HeaderMap, Method, Request, StatusCode};
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::body::{BodyError, read_body};
use super::{Function, Invocation};

/// The largest payload that is taken, in bytes: far more than any body that an API of small JSON
/// objects takes, so that it is the API that refuses those.
const LARGEST_PAYLOAD: usize = 1024 * 1024;

/// The name of the trigger's binding in `function.json`.
const TRIGGER: &str = "req";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Payload {
    data: HashMap<String, HttpRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HttpRequest {
    url: String,
    method: String,
    #[serde(default)]
    headers: HashMap<String, Vec<String>>,
    #[serde(default)]
    params: HashMap<String, String>,
    #[serde(default, deserialize_with = "body_text")]
    body: Option<String>,
}

/// A body is text; should a host send JSON as JSON, its text is the same.
fn body_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        json => Some(json.to_string()),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    outputs: Outputs,
    logs: Vec<String>,
    return_value: Option<Value>,
}

/// The output bindings by name: `res` is the one of `http`.
#[derive(Serialize)]
struct Outputs {
    res: HttpResponse,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpResponse {
    status_code: u16,
    headers: HashMap<String, String>,
    body: String,
}

/// A payload that cannot be answered as it should be.
enum BadPayload {
    /// Not one of the host's, and why.
    Malformed(String),
    /// Larger than is taken: the caller's body was.
    TooLarge,
}

impl From<BodyError> for BadPayload {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => BadPayload::TooLarge,
            BodyError::Broken | BodyError::TooSlow => {
                BadPayload::Malformed("it broke off".to_owned())
            }
        }
    }
}

impl BadPayload {
    fn into_answer(self) -> Response {
        match self {
            // Nobody but the host posts payloads; what it makes of this is a 500.
            BadPayload::Malformed(what) => {
                let detail = format!("not an invocation payload: {what}");
                log::error!("{detail}");
                json(StatusCode::BAD_REQUEST, &serde_json::json!({ "detail": detail }))
            }
            // The host's caller is to read this one, so it travels as an answer.
            BadPayload::TooLarge => {
                let detail = format!("the request must be at most {LARGEST_PAYLOAD} bytes");
                let body = serde_json::json!({"status": "Payload too large", "detail": detail});
                let status_code = StatusCode::PAYLOAD_TOO_LARGE.as_u16();
                let content_type = (CONTENT_TYPE.to_string(), "application/json".to_owned());
                let headers = HashMap::from([content_type]);
                answer(HttpResponse { status_code, headers, body: body.to_string() }, Vec::new())
            }
        }
    }
}

/// Answers `POST /{function name}` by calling `app` with the request inside the payload.
pub fn payloads<F>(
    functions: &'static [&'static Function],
    app: F,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static
where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    warp::post()
        .and(warp::path::param::<String>())
        .and(warp::path::end())
        .and_then(move |name: String| {
            let function = functions.iter().find(|function| function.name == name);
            std::future::ready(function.copied().ok_or_else(warp::reject::not_found))
        })
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |function: &'static Function, headers: HeaderMap, body| {
            let app = app.clone();
            async move {
                let invocation = Invocation::collecting(&headers);
                let payload = read_body(body, LARGEST_PAYLOAD).await.map_err(BadPayload::from);
                let request =
                    payload.and_then(|payload| unwrap(function, &payload, invocation.clone()));
                let request = match request {
                    Ok(request) => request,
                    Err(bad) => return bad.into_answer(),
                };
                let head = request.method() == Method::HEAD;
                // A task of its own: warp does not let one filter's future poll another's.
                let call = tokio::spawn(async move { warp::service(app).call(request).await });
                match call.await {
                    Ok(Ok(response)) => wrap(response, head, &invocation).await,
                    Err(error) => {
                        log::error!("the call failed: {error}");
                        json(StatusCode::INTERNAL_SERVER_ERROR, &"the call failed")
                    }
                }
            }
        })
}

/// The request inside a payload.
fn unwrap(
    function: &Function,
    payload: &[u8],
    invocation: Invocation,
) -> Result<Request<Full<Bytes>>, BadPayload> {
    let bad = BadPayload::Malformed;
    let mut payload: Payload = serde_json::from_slice(payload).map_err(|error| {
        // Not the error's own words, which may quote a header.
        let (what, line, column) = (error.classify(), error.line(), error.column());
        bad(format!("{what:?} error at line {line} column {column}"))
    })?;
    let inner = payload
        .data
        .remove(TRIGGER)
        .ok_or_else(|| bad(format!("Data has no {TRIGGER}, the trigger's binding")))?;

    let path = function
        .path(|name| inner.params.get(name).cloned())
        .ok_or_else(|| bad(format!("Params lacks one of {}", function.route)))?;
    let uri = match inner.url.split_once('?') {
        Some((_, query)) => format!("{path}?{query}"),
        None => path,
    };
    let mut headers = HeaderMap::new();
    for (name, values) in &inner.headers {
        // Headers that the host could receive are headers that can be set; others are left out.
        if let (Ok(name), Ok(value)) =
            (name.parse::<HeaderName>(), HeaderValue::from_str(&values.join(", ")))
        {
            headers.insert(name, value);
        }
    }
    headers.remove(CONTENT_LENGTH); // of the body as it came, not as it is here
    let body = body(inner.body.unwrap_or_default(), &headers);

    let mut request = Request::builder()
        .method(inner.method.as_str())
        .uri(uri)
        .body(Full::new(body))
        .map_err(|error| bad(error.to_string()))?;
    *request.headers_mut() = headers;
    request.extensions_mut().insert(invocation);
    Ok(request)
}

/// The body's bytes: the host sends a binary one as base64.
fn body(text: String, headers: &HeaderMap) -> Bytes {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_binary = content_type.is_some_and(|content_type| {
        let content_type = content_type.to_ascii_lowercase();
        content_type.starts_with("application/octet-stream")
            || content_type.starts_with("multipart/")
    });
    match is_binary.then(|| BASE64.decode(&text)) {
        Some(Ok(bytes)) => bytes.into(),
        _ => text.into(),
    }
}

/// The answer to a payload: the response, and the log lines.
async fn wrap(response: Response, head: bool, invocation: &Invocation) -> Response {
    let (parts, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) if !head => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        _ => String::new(), // a body in memory cannot fail
    };
    let headers = parts.headers.keys().map(|name| {
        let values = parts.headers.get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (name.to_string(), values.join(", "))
    });
    let res = HttpResponse { status_code: parts.status.as_u16(), headers: headers.collect(), body };
    answer(res, invocation.take_lines())
}

fn answer(res: HttpResponse, logs: Vec<String>) -> Response {
    json(StatusCode::OK, &Answer { outputs: Outputs { res }, logs, return_value: None })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Text, numbers and maps with text for keys, which JSON can always express.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
