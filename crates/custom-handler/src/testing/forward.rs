//! The forwarding mode: a copy of the request. It is sent only once.

use std::collections::BTreeMap;

use super::call::{Caller, Reply, Request, VERSION, copied_headers, empty, new_id, pass_back};

impl Caller {
    /// From `ToHttpRequestMessage` in
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Extensions/HttpRequestExtensions.cs>.
    pub(super) async fn forward(&self, request: &Request) -> Reply {
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
        let mut call = self.request(request.method.clone(), &path, &new_id()).headers(headers);
        if let Some(body) = request.announced_body() {
            call = call.body(body);
        }
        match call.send().await {
            Ok(response) => pass_back(response).await,
            Err(_) => empty(500),
        }
    }
}
