//! What an app with an identity finds in Azure: an endpoint that issues tokens. And certificates,
//! because tokens are sent over TLS only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;
use warp::Filter;
use warp::http::Response;

use super::{Redis, free_port};

/// The identity's object id, which is its user name in Redis.
pub const OBJECT_ID: &str = "11111111-2222-4333-8444-555555555555";
/// The identity's client id.
pub const CLIENT_ID: &str = "66666666-7777-4888-9999-000000000000";
/// The secret that App Service sets in the app's environment.
const HEADER: &str = "only-this-app-knows";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What the endpoint does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// Issues tokens with this lifetime.
    Tokens(Duration),
    /// Issues expired tokens, and says that they are valid.
    Expired,
    /// Refuses to issue a token.
    Refuses,
}

/// An App Service identity endpoint
/// (<https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>).
#[derive(Clone)]
pub struct IdentityEndpoint {
    pub port: u16,
    started: u64,
    behaviour: Arc<Mutex<Behaviour>>,
    resources: Arc<Mutex<Vec<String>>>,
}

impl IdentityEndpoint {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = Self {
            port: listener.local_addr().unwrap().port(),
            started: now(),
            behaviour: Arc::new(Mutex::new(behaviour)),
            resources: Arc::default(),
        };
        let answering = endpoint.clone();
        let tokens = warp::path!("msi" / "token")
            .and(warp::get())
            .and(warp::query::<HashMap<String, String>>())
            .and(warp::header::optional::<String>("x-identity-header"))
            .map(move |query, header| answering.answer(&query, header));
        tokio::spawn(warp::serve(tokens).incoming(listener).run());
        endpoint
    }

    /// The environment of an app with this identity.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("IDENTITY_ENDPOINT", format!("http://127.0.0.1:{}/msi/token", self.port)),
            ("IDENTITY_HEADER", HEADER.to_owned()),
        ]
    }

    pub fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// How many tokens were requested for this resource.
    pub fn requests(&self, resource: &str) -> usize {
        self.resources.lock().unwrap().iter().filter(|requested| *requested == resource).count()
    }

    /// The token for the nth request for this resource. It is not signed, because nothing here checks
    /// signatures.
    pub fn token(&self, resource: &str, nth: usize) -> String {
        let lives = match *self.behaviour.lock().unwrap() {
            Behaviour::Expired => -60,
            Behaviour::Tokens(_) | Behaviour::Refuses => 3600,
        };
        let claims = json!({
            "aud": resource,
            "iss": "https://sts.windows.net/99999999-8888-4777-a666-555555555555/",
            "nbf": self.started - 600,
            "iat": self.started - 600,
            "exp": self.started as i64 + lives,
            "oid": OBJECT_ID,
            "nth": nth,
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.x", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims))
    }

    fn answer(&self, query: &HashMap<String, String>, header: Option<String>) -> Response<String> {
        let answer = |status, body: Value| {
            let response =
                Response::builder().status(status).header("content-type", "application/json");
            response.body(body.to_string()).unwrap()
        };
        let known = query.get("client_id").is_some_and(|id| id == CLIENT_ID);
        let behaviour = *self.behaviour.lock().unwrap();
        if header.as_deref() != Some(HEADER) || !known || behaviour == Behaviour::Refuses {
            return answer(400, json!({"statusCode": 400, "message": "no such identity"}));
        }
        let resource = query["resource"].clone();
        self.resources.lock().unwrap().push(resource.clone());
        let expires_on = match behaviour {
            Behaviour::Tokens(life) => now() + life.as_secs(),
            _ => now() + 3600,
        };
        answer(
            200,
            json!({
                "access_token": self.token(&resource, self.requests(&resource)),
                "expires_on": expires_on.to_string(),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": CLIENT_ID,
            }),
        )
    }
}

/// A certificate for `localhost`.
pub struct Certificate {
    folder: TempDir,
}

impl Certificate {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let generated = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), generated.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), generated.signing_key.serialize_pem())
            .unwrap();
        Self { folder }
    }

    pub fn certificate(&self) -> String {
        self.folder.path().join("cert.pem").to_string_lossy().into_owned()
    }

    pub fn key(&self) -> String {
        self.folder.path().join("key.pem").to_string_lossy().into_owned()
    }

    /// A port with this certificate, and the options of a Redis server or sentinel that listens there.
    pub fn tls_port(&self) -> (u16, Vec<(&'static str, String)>) {
        let port = free_port();
        let options = vec![
            ("tls-port", port.to_string()),
            ("tls-cert-file", self.certificate()),
            ("tls-key-file", self.key()),
            ("tls-ca-cert-file", self.certificate()),
            ("tls-auth-clients", "no".to_owned()),
        ];
        (port, options)
    }

    /// A Redis with a TLS port, and a plain port for the test.
    pub fn redis_with_tls(&self) -> (Redis, u16) {
        let (port, options) = self.tls_port();
        let arguments: Vec<_> =
            options.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        (Redis::with(&arguments.iter().map(String::as_str).collect::<Vec<_>>()), port)
    }

    /// The setting that makes a process trust it.
    pub fn trust(&self) -> (&'static str, String) {
        ("SSL_CERT_FILE", self.certificate())
    }
}
