//! The table and Redis without passwords: with the tokens of an identity, over TLS.

use std::time::Duration;

use crate::support::free_port;
use crate::support::handler::Handler;
use crate::support::identity::{Behaviour, CLIENT_ID, Certificate, IdentityEndpoint, OBJECT_ID};
use crate::support::{Azurite, eventually};

const STORAGE: &str = "https://storage.azure.com";
const REDIS: &str = "https://redis.azure.com";
const HOUR: Duration = Duration::from_secs(3600);
/// The SDK renews a token five minutes before it expires: this one two seconds after it was issued.
const SHORT: Duration = Duration::from_secs(302);
const LONG: Duration = Duration::from_secs(20);

struct Azure {
    certificate: Certificate,
    endpoint: IdentityEndpoint,
    azurite: Azurite,
}

impl Azure {
    async fn start(manner: Behaviour) -> Self {
        let certificate = Certificate::new();
        let azurite = Azurite::with(&[
            "--oauth",
            "basic",
            "--cert",
            &certificate.certificate(),
            "--key",
            &certificate.key(),
        ]);
        Self { certificate, endpoint: IdentityEndpoint::start(manner).await, azurite }
    }

    /// The settings of a handler that uses its identity.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let uri = format!("https://localhost:{}/devstoreaccount1", self.azurite.port);
        let mut settings = self.endpoint.environment();
        settings.extend([
            self.certificate.trust(),
            ("USERS_TABLE_CONNECTION__tableServiceUri", uri),
            ("USERS_TABLE_CONNECTION__credential", "managedidentity".to_owned()),
            ("USERS_TABLE_CONNECTION__clientId", CLIENT_ID.to_owned()),
        ]);
        settings
    }
}

#[tokio::test]
async fn a_user_is_created_and_read_with_a_token() {
    let azure = Azure::start(Behaviour::Tokens(HOUR)).await;
    let handler = Handler::start(&azure.settings()).await;
    let path = handler.client.create("Ann").await;
    assert_eq!(handler.client.get(&path).await.name(), "Ann");
    assert_eq!(handler.client.patch(&path, r#"{"name":"Bea"}"#).await.status, 200);
    assert_eq!(handler.client.delete(&path).await.status, 204);
    assert_eq!(azure.endpoint.requests(STORAGE), 1, "the token is cached");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let azure = Azure::start(Behaviour::Tokens(SHORT)).await;
    let handler = Handler::start(&azure.settings()).await;
    handler.client.create("Ann").await;
    assert_eq!(azure.endpoint.requests(STORAGE), 1);
    eventually(LONG, "a second token is requested", || async {
        handler.client.create("Ann").await;
        azure.endpoint.requests(STORAGE) > 1
    })
    .await;
    handler.client.create("Ann").await;
}

#[tokio::test]
async fn a_token_that_the_table_refuses_is_a_clear_error() {
    let azure = Azure::start(Behaviour::Expired).await;
    let handler = Handler::start(&azure.settings()).await;
    let refused = handler.client.post("/api/users", "").await;
    assert_eq!(refused.status, 503);
    assert!(refused.text.contains("nothing was changed"), "{refused:?}");
    let line = handler.line_with("a write was not applied").await;
    assert!(line.contains("40") && line.contains("Storage Table Data Contributor"), "{line}");
}

#[tokio::test]
async fn an_endpoint_without_a_token_is_reported_and_does_not_prevent_the_start() {
    let azure = Azure::start(Behaviour::Refuses).await;
    let handler = Handler::start(&azure.settings()).await;
    assert_eq!(handler.client.get("/api/live").await.status, 200);
    assert_eq!(handler.client.post("/api/users", "").await.status, 503);
    let line = handler.line_with("a write was not applied").await;
    assert!(line.contains("check that a managed identity is assigned"), "{line}");
    // Once there is an identity, it is used.
    azure.endpoint.set(Behaviour::Tokens(HOUR));
    eventually(LONG, "the identity is used", || async {
        handler.client.post("/api/users", "").await.status == 201
    })
    .await;

    // Nothing listens at the endpoint.
    let mut settings = azure.settings();
    settings[0].1 = format!("http://127.0.0.1:{}/msi/token", free_port());
    let handler = Handler::start(&settings).await;
    assert_eq!(handler.client.get("/api/live").await.status, 200);
    let answer = handler.client.post("/api/users", "").await;
    assert_eq!(answer.status, 503);
}

async fn hits(handler: &Handler) {
    let path = handler.client.create("Ann").await;
    eventually(LONG, "entries are served from Redis", || async {
        handler.client.get(&path).await.source() == "redis"
    })
    .await;
}

#[tokio::test]
async fn redis_accepts_a_user_and_a_password_over_tls() {
    let certificate = Certificate::new();
    let (redis, port) = certificate.redis_with_tls();
    // The permissions that the handler needs.
    let permissions = [
        "ACL", "SETUSER", "ann", "on", ">secret", "~*", "+get", "+set", "+del", "+evalsha",
        "+eval", "+script", "+time", "+client",
    ];
    redis.command::<()>(&permissions).await;
    let url = format!("rediss://ann:secret@localhost:{port}");
    let settings =
        |url: String| [certificate.trust(), ("REDIS_URL", url), ("REDIS_TIMEOUT", "1s".to_owned())];
    let handler = Handler::start(&settings(url.clone())).await;
    hits(&handler).await;

    // With a wrong password there is no cache, and everything else works.
    let handler = Handler::start(&settings(url.replace("secret", "hunter2"))).await;
    let path = handler.client.create("Ann").await;
    let read = handler.client.get(&path).await;
    assert_eq!((read.status, &*read.source()), (200, "table"));
    handler.line_with("is failing").await;
    assert!(!handler.logged("hunter2"));
}

#[tokio::test]
async fn redis_accepts_tokens_that_are_renewed() {
    let certificate = Certificate::new();
    let (redis, port) = certificate.redis_with_tls();
    let endpoint = IdentityEndpoint::start(Behaviour::Tokens(SHORT)).await;
    let password = |nth| format!(">{}", endpoint.token(REDIS, nth));
    let mut user: Vec<String> =
        ["ACL", "SETUSER", OBJECT_ID, "on", "~*", "+@all"].map(str::to_owned).into();
    user.extend((1..=60).map(password));
    redis.command::<()>(&user.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let mut settings = endpoint.environment();
    settings.extend([
        certificate.trust(),
        ("REDIS_URL", format!("rediss://localhost:{port}")),
        ("REDIS_TIMEOUT", "1s".to_owned()),
        ("REDIS_CREDENTIAL", "managedidentity".to_owned()),
        ("REDIS_CLIENT_ID", CLIENT_ID.to_owned()),
    ]);
    let handler = Handler::start(&settings).await;
    hits(&handler).await;
    eventually(LONG, "a second token is requested", || async { endpoint.requests(REDIS) > 1 })
        .await;

    // Redis no longer accepts the first token, and the connection is closed: the new one is used.
    let first = password(1).replacen('>', "<", 1);
    redis.command::<()>(&["ACL", "SETUSER", OBJECT_ID, &first]).await;
    redis.command::<i64>(&["CLIENT", "KILL", "USER", OBJECT_ID]).await;
    hits(&handler).await;
}
