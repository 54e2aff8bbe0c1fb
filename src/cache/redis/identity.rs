//! An identity as Redis's credentials: the token is the password, and is handed in again before it ends.
//!
//! <https://learn.microsoft.com/azure/redis/entra-for-authentication>

use std::pin::Pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{Stream, stream};
use redis::auth::{BasicAuth, StreamingCredentialsProvider};
use redis::{ErrorKind, RedisError, RedisResult};
use serde::Deserialize;

use crate::cache_aside::unix_millis;
use crate::identity::Identity;

/// What Redis calls itself to Entra ID.
const SCOPE: &str = "https://redis.azure.com/.default";

/// A token is asked for again so long before it ends: the SDK renews it at the same moment.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// After a token could not be had, or was as good as over, the next is asked for so much later.
const PAUSE: Duration = Duration::from_secs(1);

/// Hands Redis this identity's tokens.
pub struct IdentityCredentials(pub Identity);

impl StreamingCredentialsProvider for IdentityCredentials {
    /// The first token at once, the next when that one is to be renewed, and so on.
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        let start = (self.0.clone(), Duration::ZERO);
        Box::pin(stream::unfold(start, |(identity, pause)| async move {
            tokio::time::sleep(pause).await;
            let (credentials, next) = match identity.token(SCOPE).await {
                Ok(token) => {
                    let left = token.expires_on.unix_timestamp() - (unix_millis() / 1000) as i64;
                    let left = Duration::from_secs(left.max(0) as u64);
                    (credentials(token.token.secret()), left.saturating_sub(RENEW_BEFORE))
                }
                Err(error) => (Err(refused(error.to_string())), PAUSE),
            };
            if let Err(error) = &credentials {
                log::error!("Redis: {error}");
            }
            Some((credentials, (identity, next.max(PAUSE))))
        }))
    }
}

fn refused(said: String) -> RedisError {
    (ErrorKind::AuthenticationFailed, "no credentials", said).into()
}

/// The user's name is the identity's object id, which the token tells.
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
    fn the_user_is_the_token_s_object_id() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"aud":"x","oid":"11111111-2222"}"#);
        let token = format!("h.{claims}.s");
        let credentials = credentials(&token).unwrap();
        assert_eq!((credentials.username(), credentials.password()), ("11111111-2222", &*token));
        for token in ["", "a.b.c", "h.e30.s"] {
            assert!(super::credentials(token).is_err());
        }
    }
}
