//! An identity as a credential of the table library, which belongs to an older SDK than
//! `azure_identity` does.

use async_trait::async_trait;
use azure_core::auth::{AccessToken, TokenCredential};
use azure_core::error::{Error, ErrorKind};
use time::OffsetDateTime;

use crate::identity::Identity;

/// The scope of the table service
/// (<https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory>).
const SCOPE: &str = "https://storage.azure.com/.default";

/// Gives this identity's tokens to the table library.
#[derive(Debug)]
pub(super) struct IdentityCredential(pub(super) Identity);

#[async_trait]
impl TokenCredential for IdentityCredential {
    async fn get_token(&self, _: &[&str]) -> azure_core::Result<AccessToken> {
        let token = self.0.token(SCOPE).await;
        let token =
            token.map_err(|error| Error::message(ErrorKind::Credential, error.to_string()))?;
        let expires_on = OffsetDateTime::from_unix_timestamp(token.expires_on.unix_timestamp())
            .map_err(|error| Error::message(ErrorKind::Credential, error.to_string()))?;
        let secret = token.token.secret().to_owned();
        Ok(AccessToken { token: secret.into(), expires_on })
    }

    async fn clear_cache(&self) -> azure_core::Result<()> {
        Ok(()) // the identity renews its tokens before they expire
    }
}
