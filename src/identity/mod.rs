//! The handler's identity in Azure, used instead of keys: tokens of a managed identity or of a
//! Kubernetes workload identity.
//!
//! `azure_identity` caches each token and renews it five minutes before it expires.

mod redis;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use azure_core_1::credentials::{AccessToken, TokenCredential};
use azure_identity::{
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use tokio::sync::OnceCell;

pub use self::redis::RedisCredentials;

/// Where tokens come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// The managed identity of a function app, a container app or a virtual machine.
    ManagedIdentity,
    /// A Kubernetes service account that is federated with an identity
    /// (<https://azure.github.io/azure-workload-identity>).
    WorkloadIdentity,
}

impl CredentialKind {
    /// The accepted texts, for messages to the user.
    pub const ALLOWED: &str = "managedidentity or workloadidentity";
}

impl FromStr for CredentialKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "managedidentity" => Ok(Self::ManagedIdentity),
            "workloadidentity" => Ok(Self::WorkloadIdentity),
            _ => Err(Self::ALLOWED),
        }
    }
}

/// An identity. Cheap to clone; clones share their tokens.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    kind: CredentialKind,
    client_id: Option<String>,
    credential: OnceCell<Arc<dyn TokenCredential>>,
}

/// No token could be obtained; the message says what to check.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot obtain a token: {cause}; check that {check}")]
pub struct NoToken {
    check: &'static str,
    cause: String,
}

impl Identity {
    /// An identity of this kind. If several are assigned, the client id says which one. Azure is not
    /// contacted before the first token is needed.
    pub fn new(kind: CredentialKind, client_id: Option<String>) -> Self {
        Self(Arc::new(Inner { kind, client_id, credential: OnceCell::new() }))
    }

    /// A token for this scope, such as `https://storage.azure.com/.default`.
    ///
    /// # Errors
    /// The identity endpoint cannot be reached, or refuses to issue a token.
    pub async fn token(&self, scope: &'static str) -> Result<AccessToken, NoToken> {
        let identity = self.clone();
        // In a task of its own: a caller that times out must not cancel what the next one needs.
        let token = tokio::spawn(async move {
            let credential = identity.0.credential.get_or_try_init(|| identity.credential());
            credential.await?.get_token(&[scope], None).await
        });
        match token.await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(error)) => Err(self.no_token(error.to_string())),
            Err(panic) => Err(self.no_token(panic.to_string())),
        }
    }

    async fn credential(&self) -> azure_core_1::Result<Arc<dyn TokenCredential>> {
        // The SDK's HTTP client needs a TLS provider for the whole process. An error means that there
        // is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client_id = self.0.client_id.clone();
        match self.0.kind {
            CredentialKind::ManagedIdentity => {
                let user_assigned_id = client_id.map(UserAssignedId::ClientId);
                let options =
                    ManagedIdentityCredentialOptions { user_assigned_id, ..Default::default() };
                Ok(ManagedIdentityCredential::new(Some(options))?)
            }
            CredentialKind::WorkloadIdentity => {
                let options = WorkloadIdentityCredentialOptions { client_id, ..Default::default() };
                Ok(WorkloadIdentityCredential::new(Some(options))?)
            }
        }
    }

    fn no_token(&self, cause: String) -> NoToken {
        let check = match self.0.kind {
            CredentialKind::ManagedIdentity => {
                "a managed identity is assigned to this app and its client id is configured"
            }
            CredentialKind::WorkloadIdentity => {
                "the service account is federated with the identity and the pod has the label azure.workload.identity/use"
            }
        };
        NoToken { check, cause }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("kind", &self.0.kind)
            .field("client_id", &self.0.client_id)
            .finish()
    }
}
