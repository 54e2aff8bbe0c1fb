//! The invocation payload: a request and its response as JSON, inside a `POST /{function name}`.
//!
//! Here the host accepts only a 2xx, so a response of any status is sent inside a 200. The answer's
//! `Logs` stay empty: the host logs them at Information, whatever their level, and logs the handler's
//! output as well, so that each record would appear twice.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use serde_json::value::RawValue;
use warp::http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use warp::http::{HeaderMap, Method, StatusCode, Uri};

use crate::body::{Body, BodyError, read_body};
use crate::router::{Request, dispatch};
use crate::{Function, Handler, Invocation, Refusal, Response};

/// The largest payload that is read, in bytes: far more than the body that an API of small JSON
/// objects accepts, so that usually the API refuses a body that is too large.
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
    // In an order: of names that differ in case only, the values are joined.
    #[serde(default)]
    headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    params: HashMap<String, String>,
    #[serde(default, deserialize_with = "body_text")]
    body: Option<String>,
}

/// A body is text. If a host sends a JSON body as JSON, the text is that JSON, to the letter: a field that
/// is there twice, for example, is for the application to refuse.
fn body_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let json = Box::<RawValue>::deserialize(deserializer)?;
    match json.get().as_bytes().first() {
        Some(b'"' | b'n') => serde_json::from_str(json.get()).map_err(de::Error::custom),
        _ => Ok(Some(Box::<str>::from(json).into())),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    outputs: Outputs,
    logs: [String; 0],
    return_value: Option<Value>,
}

/// The values of the output bindings by name: `res` is the `http` binding.
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

/// Why a payload holds no request.
enum BadPayload {
    /// It is not a payload of the host, for this reason.
    Malformed(String),
    /// It is larger than [`LARGEST_PAYLOAD`], because the client's body is large.
    TooLarge,
}

impl From<BodyError> for BadPayload {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => BadPayload::TooLarge,
            BodyError::Incomplete | BodyError::TooSlow | BodyError::Dropped => {
                BadPayload::Malformed("it is incomplete".to_owned())
            }
        }
    }
}

/// Answers `POST /{function name}` by dispatching the request inside the payload.
pub(crate) async fn answer<H: Handler>(
    handler: H,
    function: &Function,
    request: Request,
) -> Response {
    let invocation = Invocation::from_headers(&request.headers);
    let received = request.received;
    let payload = read_body(request.body, LARGEST_PAYLOAD).await.map_err(BadPayload::from);
    match payload.and_then(|payload| unwrap(function, &payload)) {
        Ok(Inner { method, uri, headers, body }) => {
            let is_head = method == Method::HEAD;
            let invocation = invocation.in_trace_of(&headers);
            let inner = Request { method, uri, headers, body: Body::ready(body), received };
            let response = dispatch(&handler, &invocation, inner).await;
            wrap(response, is_head).await
        }
        // The host's caller is to read this response, so it is sent as a function's is.
        Err(BadPayload::TooLarge) => {
            let refusal = Refusal::PayloadTooLarge { limit: LARGEST_PAYLOAD };
            let response = invocation.scope(|| handler.refuse(&request.method, refusal));
            wrap(response, false).await
        }
        // Only a host posts payloads. It makes a 500 of this.
        Err(BadPayload::Malformed(reason)) => {
            let detail = format!("not an invocation payload: {reason}");
            log::error!("{detail}");
            json(StatusCode::BAD_REQUEST, &serde_json::json!({ "detail": detail }))
        }
    }
}

/// The request inside a payload.
struct Inner {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BodyError>,
}

fn unwrap(function: &Function, payload: &[u8]) -> Result<Inner, BadPayload> {
    let bad = BadPayload::Malformed;
    let mut payload: Payload = serde_json::from_slice(payload).map_err(|error| {
        // Not the error's own text, which may quote a header.
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
    let uri: Uri = uri.parse().map_err(|error| bad(format!("Url: {error}")))?;
    let method = Method::from_bytes(inner.method.as_bytes());
    let method = method.map_err(|error| bad(error.to_string()))?;

    let mut headers = HeaderMap::new();
    for (name, values) in &inner.headers {
        // What the host could receive as a header can be set as one; anything else is left out.
        if let (Ok(name), Ok(value)) =
            (name.parse::<HeaderName>(), HeaderValue::from_str(&values.join(", ")))
        {
            // `append` would panic.
            headers.try_append(name, value).map_err(|_| bad("too many headers".to_owned()))?;
        }
    }
    let body = body(inner.body, &headers);
    headers.remove(CONTENT_LENGTH); // of the body as the client sent it, not as it is here
    Ok(Inner { method, uri, headers, body })
}

/// The body's bytes: the host sends a binary body as base64, and drops a chunked one (measured).
fn body(text: Option<String>, headers: &HeaderMap) -> Result<Bytes, BodyError> {
    let Some(text) = text else {
        let is_chunked = headers.contains_key(TRANSFER_ENCODING);
        return if is_chunked { Err(BodyError::Dropped) } else { Ok(Bytes::new()) };
    };
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_binary = content_type.is_some_and(|content_type| {
        let content_type = content_type.to_ascii_lowercase();
        content_type.starts_with("application/octet-stream")
            || content_type.starts_with("multipart/")
    });
    Ok(match is_binary.then(|| BASE64.decode(&text)) {
        Some(Ok(bytes)) => bytes.into(),
        _ => text.into(),
    })
}

/// The answer to a payload: the response as JSON.
async fn wrap(response: Response, is_head: bool) -> Response {
    let (parts, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) if !is_head => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        _ => String::new(), // a body in memory cannot fail
    };
    let headers = parts.headers.keys().map(|name| {
        let values = parts.headers.get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (name.to_string(), values.join(", "))
    });
    let (status_code, headers) = (parts.status.as_u16(), headers.collect());
    let outputs = Outputs { res: HttpResponse { status_code, headers, body } };
    json(StatusCode::OK, &Answer { outputs, logs: [], return_value: None })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Text, numbers and maps with text as keys, which can always be written as JSON.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    static PUT: Function = Function {
        name: "put",
        route: "api/things/{id}",
        methods: &[Method::PUT],
        body_limit: 100,
    };

    const EXAMPLES: &[&str] = &[
        r#"{"Data":{"req":{"Url":"http://localhost/api/things/x?x=1&y=%20","Method":"PUT","Query":{"x":"1"},"Headers":{"Content-Type":["application/json"],"X-A":["b","c"],"Content-Length":["14"]},"Params":{"id":"x"},"Identities":[],"Body":"{\"name\":\"Ann\"}"}},"Metadata":{}}"#,
        r#"{"Data":{"req":{"Url":"/","Method":"GET","Params":{"id":"a/b ?#"},"Body":{"name":1.0,"name":[]}}}}"#,
        r#"{"Data":{"req":{"Url":"/","Method":"PUT","Params":{"id":"x"},"Headers":{"Content-Type":["application/octet-stream"]},"Body":"Yg=="}}}"#,
        r#"{"Data":{"req":{"Url":"/","Method":"PUT","Params":{"id":"x"},"Headers":{"Transfer-Encoding":["chunked"],"x-a":["1"],"X-A":["2"]},"Body":null}}}"#,
        r#"{"Data":{"req":{"Url":"?\n","Method":"G T","Params":{}}}}"#,
    ];

    fn unwrapped(bytes: &[u8]) -> Result<Inner, String> {
        unwrap(&PUT, bytes).map_err(|bad| match bad {
            BadPayload::Malformed(reason) => reason,
            BadPayload::TooLarge => panic!("it was read"),
        })
    }

    fn is_binary(headers: &HeaderMap) -> bool {
        let content_type =
            headers.get(CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
        content_type.is_some_and(|it| {
            it.starts_with(b"application/octet-stream") || it.starts_with(b"multipart/")
        })
    }

    /// Each part of the request is what the JSON has under its name; what is refused, is refused with words
    /// of this file.
    #[test]
    fn fuzz_the_request_in_a_payload_is_what_the_json_says() {
        fuzzing::check!(EXAMPLES, |bytes| {
            let Inner { method, uri, headers, body } = match unwrapped(bytes) {
                Ok(inner) => inner,
                Err(reason) => {
                    let reasons = [
                        " error at line ",
                        "Data has no req",
                        "Params lacks",
                        "Url: ",
                        "method",
                        "too many",
                    ];
                    assert!(reasons.iter().any(|known| reason.contains(known)), "{reason}");
                    return assert!(reason.len() < 100, "{reason}");
                }
            };
            // Text that is JSON, but not as a tree: it would be too deep.
            let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return };
            let request = &json["Data"]["req"];
            assert_eq!(method.as_str(), request["Method"]);
            let id = request["Params"]["id"].as_str().unwrap();
            match PUT.params(uri.path()) {
                Some(params) => assert_eq!(params.get("id"), id),
                None => assert_eq!(id, ""),
            }
            let url = request["Url"].as_str().unwrap();
            let query = url.split_once('?').map(|(_, query)| query.split('#').next().unwrap());
            assert_eq!(uri.query(), query);

            let given = request["Headers"].as_object().into_iter().flatten();
            let mut count = 0;
            for (name, values) in given {
                let values: Vec<_> = values
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|value| value.as_str().unwrap())
                    .collect();
                let value = HeaderValue::from_str(&values.join(", "));
                let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value) else { continue };
                if name != CONTENT_LENGTH {
                    assert!(headers.get_all(&name).iter().any(|it| it == value), "{name}");
                    count += 1;
                }
            }
            assert_eq!(headers.len(), count);

            let is_chunked = headers.contains_key(TRANSFER_ENCODING);
            match &request["Body"] {
                Value::Null if is_chunked => assert_eq!(body, Err(BodyError::Dropped)),
                Value::Null => assert_eq!(body, Ok(Bytes::new())),
                Value::String(text) => {
                    let bytes = body.unwrap();
                    let is_decoded = is_binary(&headers) && BASE64.encode(&bytes) == *text;
                    assert!(is_decoded || bytes == text.as_bytes());
                }
                json => {
                    let body = body.unwrap();
                    if !is_binary(&headers) {
                        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), *json);
                        assert!(bytes.windows(body.len()).any(|part| part == body));
                    }
                }
            }
        });
    }

    #[test]
    fn a_payload_may_have_many_headers_but_not_too_many() {
        let unwrapped = |count: usize| {
            let headers: HashMap<_, _> =
                (0..count).map(|number| (format!("x{number}"), ["1"])).collect();
            let request = serde_json::json!({
                "Url": "/", "Method": "PUT", "Params": {"id": "x"}, "Headers": headers,
            });
            let payload = serde_json::json!({"Data": {"req": request}}).to_string();
            assert!(payload.len() < LARGEST_PAYLOAD);
            unwrapped(payload.as_bytes()).map(|inner| inner.headers.len())
        };
        assert_eq!(unwrapped(10_000), Ok(10_000));
        assert_eq!(unwrapped(50_000), Err("too many headers".to_owned()));
    }

    #[test]
    fn a_json_body_and_headers_that_differ_in_case_are_passed_on_as_they_are() {
        let request = unwrapped(EXAMPLES[1].as_bytes()).unwrap();
        assert_eq!(request.body.unwrap(), r#"{"name":1.0,"name":[]}"#);
        let request = unwrapped(EXAMPLES[3].as_bytes()).unwrap();
        let values: Vec<_> = request.headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["2", "1"]);
    }
}
