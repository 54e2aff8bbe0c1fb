//! The payload mode: the request inside a JSON payload, and the response inside a JSON answer.

use std::collections::BTreeMap;
use std::convert::Infallible;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;
use serde_json::{Value, json};
use warp::http::Response;

use super::app::FunctionFolder;
use super::call::{Caller, Reply, Request, empty, invocation_headers, new_id, traceparent};

impl Caller {
    /// Posts the payload to `/{function name}`: `ProcessDefaultInvocationRequest` in
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs>.
    pub(super) async fn payload(
        &self,
        request: &Request,
        function: &FunctionFolder,
        params: &BTreeMap<String, String>,
    ) -> Reply {
        let sent = self
            .request(Method::POST, &format!("/{}", function.name), invocation_headers(&new_id()))
            .header("content-type", "application/json")
            .header("traceparent", traceparent())
            .body(chunked(self.payload_for(request, function, params).to_string()))
            .send()
            .await;
        let Ok(response) = sent else { return empty(500) };
        // Only a 2xx with JSON is an answer: `EnsureSuccessStatusCode` and `ReadAsAsync` in the same
        // file.
        let content_type = response.headers().get("content-type").cloned();
        let is_json = content_type
            .is_some_and(|it| it.to_str().unwrap_or("").starts_with("application/json"));
        if !response.status().is_success() || !is_json {
            return empty(500);
        }
        let Ok(answer) = response.bytes().await else { return empty(500) };
        let answer = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
        // `ProcessLogsFromHttpResponse` in the same file.
        let logs = field(&answer, "Logs").as_array().cloned().unwrap_or_default();
        let logs = logs.iter().filter_map(|line| line.as_str().map(str::to_owned));
        self.invocation_logs.lock().unwrap().extend(logs);
        reply(field(field(&answer, "Outputs"), name(&function.output)))
    }

    /// `Data` and `Metadata`, from
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/MessageExtensions/ScriptInvocationContextExtensions.cs>.
    fn payload_for(
        &self,
        request: &Request,
        function: &FunctionFolder,
        params: &BTreeMap<String, String>,
    ) -> Value {
        let mut headers = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in &request.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.entry(name.to_string()).or_default().push(value);
        }
        let query: BTreeMap<_, _> =
            request.query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        // `GetRequestAsJObject` in
        // https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Extensions/HttpRequestExtensions.cs
        let url = format!("{}{}?{}", self.url, request.path, request.query);
        let mut trigger = json!({
            "Url": url.trim_end_matches('?'),
            "Method": request.method.as_str(),
            "Query": query,
            "Headers": headers,
            "Params": params,
            "Identities": [],
        });
        if let Some(body) = request.announced_body() {
            // A binary body is sent as base64: `IsMediaTypeOctetOrMultipart` in
            // https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Utility.cs
            let content_type = request.headers.get("content-type");
            let content_type = content_type.and_then(|it| it.to_str().ok()).unwrap_or("");
            let is_binary = content_type.starts_with("application/octet-stream")
                || content_type.starts_with("multipart/");
            trigger["Body"] = match is_binary {
                true => BASE64.encode(body).into(),
                false => String::from_utf8_lossy(&body).into(),
            };
        }
        let mut metadata = json!({
            "Headers": headers, "Query": query,
            "sys": {"MethodName": function.name, "UtcNow": "2026-01-01T00:00:00Z", "RandGuid": new_id()},
        });
        for (name, value) in params {
            // Text in `Metadata` is encoded as JSON a second time: measured.
            metadata[name] = json!(value).to_string().into();
        }
        json!({"Data": {name(&function.trigger): trigger}, "Metadata": metadata})
    }
}

/// The response of the `http` output binding. Without a value of its name the reply is a 500:
/// measured.
///
/// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/HttpScriptInvocationResultExtensions.cs>
fn reply(output: &Value) -> Reply {
    if output.is_null() {
        return empty(500);
    }
    let status = field(output, "statusCode").as_u64().unwrap_or(200) as u16;
    let mut reply = Response::builder().status(status);
    for (name, value) in field(output, "headers").as_object().into_iter().flatten() {
        reply = reply.header(name, value.as_str().expect("header values are text"));
    }
    // A response without a type gets this one, whatever its status: measured.
    let has_type = reply.headers_ref().is_some_and(|headers| headers.contains_key("content-type"));
    if !has_type {
        reply = reply.header("content-type", "text/plain; charset=utf-8");
    }
    let body = match field(output, "body") {
        Value::String(text) => text.clone().into_bytes(),
        Value::Null => Vec::new(),
        json => json.to_string().into_bytes(),
    };
    reply.body(body).unwrap()
}

/// The payload is sent in chunks: measured.
fn chunked(payload: String) -> reqwest::Body {
    let chunk = Ok::<_, Infallible>(payload);
    reqwest::Body::wrap_stream(futures_util::stream::iter([chunk]))
}

/// The name of a binding.
fn name(binding: &Value) -> &str {
    binding["name"].as_str().unwrap_or_default()
}

/// A field by its name, in any case, as the host reads JSON.
fn field<'a>(object: &'a Value, name: &str) -> &'a Value {
    static NULL: Value = Value::Null;
    let found = object.as_object().and_then(|object| {
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    });
    found.unwrap_or(&NULL)
}
