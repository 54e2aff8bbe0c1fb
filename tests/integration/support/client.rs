//! A client that reads whole responses.

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// A client of one handler.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    http: reqwest::Client,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The value of a header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible text"))
    }

    /// The source in the body of a read.
    pub fn source(&self) -> String {
        self.json()["source"].as_str().unwrap_or_default().to_owned()
    }

    /// The name of the user in a read.
    pub fn name(&self) -> String {
        self.json()["data"]["Name"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub fn new(base: String) -> Self {
        // A new connection for each call, so that each call reaches the process that is running now.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { base, http }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.expect("an answer")
    }

    pub async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: impl Into<String>) -> Answer {
        self.send(json(self.request(Method::POST, path), body)).await
    }

    pub async fn put(&self, path: &str, body: impl Into<String>) -> Answer {
        self.send(json(self.request(Method::PUT, path), body)).await
    }

    pub async fn patch(&self, path: &str, body: impl Into<String>) -> Answer {
        self.send(json(self.request(Method::PATCH, path), body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Creates a user with this name and returns its path.
    pub async fn create(&self, name: &str) -> String {
        let answer = self.post("/api/users", serde_json::json!({ "name": name }).to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("location").to_owned()
    }
}

/// Adds a JSON body to a request, unless it is empty.
pub fn json(request: RequestBuilder, body: impl Into<String>) -> RequestBuilder {
    let body = body.into();
    if body.is_empty() {
        return request;
    }
    request.header("content-type", "application/json").body(body)
}
