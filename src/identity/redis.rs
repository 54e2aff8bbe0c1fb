//! An identity as Redis's credentials: the token is the password, and a new one is sent before it
//! expires
//! (<https://learn.microsoft.com/azure/redis/entra-for-authentication>).

use std::pin::Pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{Stream, stream};
use redis::auth::{BasicAuth, StreamingCredentialsProvider};
use redis::{ErrorKind, RedisError, RedisResult};
use serde::Deserialize;
use time::OffsetDateTime;

use super::Identity;

/// The scope of Azure's Redis services.
const SCOPE: &str = "https://redis.azure.com/.default";

/// A new token is requested this long before the old one expires. The SDK renews it at the same time.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// If a token could not be obtained, or is about to expire, the next one is requested after this
/// time.
const PAUSE: Duration = Duration::from_secs(1);

/// Gives this identity's tokens to Redis.
pub struct RedisCredentials(pub Identity);

impl StreamingCredentialsProvider for RedisCredentials {
    /// The first token at once, and each further one when the one before is about to expire.
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        let start = (self.0.clone(), Duration::ZERO);
        Box::pin(stream::unfold(start, |(identity, pause)| async move {
            tokio::time::sleep(pause).await;
            let (credentials, next) = match identity.token(SCOPE).await {
                Ok(token) => {
                    let left = token.expires_on.unix_timestamp()
                        - OffsetDateTime::now_utc().unix_timestamp();
                    let left = Duration::from_secs(left.max(0) as u64);
                    (credentials(token.token.secret()), left.saturating_sub(RENEW_BEFORE))
                }
                Err(error) => (Err(refused(error.to_string())), PAUSE),
            };
            if let Err(error) = &credentials {
                log::error!("cannot log in to Redis: {error}");
            }
            Some((credentials, (identity, next.max(PAUSE))))
        }))
    }
}

fn refused(cause: String) -> RedisError {
    (ErrorKind::AuthenticationFailed, "no credentials", cause).into()
}

/// The user name is the identity's object id, which the token contains.
fn credentials(token: &str) -> RedisResult<BasicAuth> {
    #[derive(Deserialize)]
    struct Claims {
        oid: String,
    }
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok());
    match claims {
        Some(Claims { oid }) => Ok(BasicAuth::new(oid, token.to_owned())),
        None => Err(refused("the token has no oid claim".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_the_user_name_is_the_oid_of_the_claims() {
        let examples = [
            "h.eyJhdWQiOiJ4Iiwib2lkIjoiMTExMTExMTEtMjIyMiJ9.s",
            "h.eyJvaWQiOiIiLCJvaWQiOiJ4In0.s",
            "h.e30.s",
            "a.b.c",
        ];
        fuzzing::check!(text, examples, |token| {
            match credentials(token) {
                Ok(login) => {
                    assert_eq!(login.password(), token);
                    let claims = token.split('.').collect::<Vec<_>>()[1];
                    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
                    let text = String::from_utf8_lossy(&claims);
                    let oid = serde_json::to_string(login.username()).unwrap();
                    // As it stands there, unless it has escapes.
                    assert!(text.contains(&oid) || text.contains('\\'), "{text}");
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.contains("the token has no oid claim") && message.len() < 100);
                }
            }
        });
    }

    #[test]
    fn the_user_name_is_the_object_id_in_the_token() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"aud":"x","oid":"11111111-2222"}"#);
        let token = format!("h.{claims}.s");
        let credentials = credentials(&token).unwrap();
        assert_eq!((credentials.username(), credentials.password()), ("11111111-2222", &*token));
        for token in ["", "a.b.c", "h.e30.s"] {
            assert!(super::credentials(token).is_err());
        }
    }
}
