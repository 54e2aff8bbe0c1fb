//! The forwarding mode: a copy of the request. It is sent only once.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, HeaderValue};

use super::call::{
    Caller, INVOCATION_ID, Reply, Request, VERSION, copied_headers, empty, invocation_headers,
    new_id, pass_back,
};

impl Caller {
    /// From `ToHttpRequestMessage` in
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Extensions/HttpRequestExtensions.cs>.
    pub(super) async fn forward(&self, request: &Request) -> Reply {
        // A chunked body is refused before the handler is called: measured.
        if request.headers.contains_key("transfer-encoding") {
            return empty(500);
        }
        // Values of a repeated key are joined.
        let mut query = BTreeMap::<String, Vec<String>>::new();
        for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        let query: Vec<_> =
            query.iter().map(|(key, values)| format!("{key}={}", values.join(","))).collect();
        let mut path = request.path.clone();
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        // The host appends itself to `User-Agent`: `AddHeaders` in
        // https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs
        let mut headers = copied_headers(request);
        let agent = headers.get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or("");
        let agent = format!("{agent} Azure-Functions-Host/{VERSION}");
        headers.insert("user-agent", agent.trim().parse().unwrap());
        // A client's own id is not replaced, but joined with the host's; these headers are dropped:
        // measured.
        let mut added = invocation_headers(&new_id());
        join(&mut added, &headers);
        headers.extend(added);
        for dropped in ["content-encoding", "content-language", "content-md5"] {
            headers.remove(dropped);
        }
        let call = self.request(request.method.clone(), &path, headers);
        match call.body(request.body.clone()).send().await {
            Ok(response) => changed(pass_back(response).await),
            Err(_) => empty(500),
        }
    }
}

/// Puts the client's invocation id, if it sent one, before the host's.
fn join(added: &mut HeaderMap, client: &HeaderMap) {
    if let Some(theirs) = client.get(INVOCATION_ID) {
        let ours = added[INVOCATION_ID].to_str().unwrap();
        let joined = format!("{}, {ours}", theirs.to_str().unwrap());
        added.insert(INVOCATION_ID, joined.parse().unwrap());
    }
}

/// What the host changes in a response: the parts of `Cache-Control` are sorted, and `Allow` becomes
/// one header for each method (measured).
fn changed(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    if let Some(cache_control) = headers.get("cache-control").map(text) {
        let mut parts: Vec<_> = cache_control.split(", ").collect();
        parts.sort_unstable();
        headers.insert("cache-control", parts.join(", ").parse().unwrap());
    }
    if let Some(allow) = headers.remove("allow") {
        for method in text(&allow).split(", ") {
            headers.append("allow", method.parse().unwrap());
        }
    }
    reply
}
