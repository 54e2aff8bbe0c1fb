//! The address of a table service and the credentials for it, from a storage connection string or
//! with an identity.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use azure_core::Url;
use azure_storage::{CloudLocation, ConnectionString, EndpointProtocol, StorageCredentials};

use crate::identity::Identity;

use super::identity::IdentityCredential;

/// Azurite's account: <https://learn.microsoft.com/azure/storage/common/storage-use-azurite>.
const DEVELOPMENT_ACCOUNT: &str = azure_storage::EMULATOR_ACCOUNT;
/// Azurite's default port for tables, from the same page.
const DEVELOPMENT_PORT: u16 = 10002;

/// A table service and the credentials for it. `Debug` shows no secret.
#[derive(Clone)]
pub struct TableAccess {
    account: String,
    endpoint: Url,
    credentials: StorageCredentials,
}

/// A connection string is not valid. The message says what it must be, and does not repeat the
/// string, which contains a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConnectionString {
    /// It does not have the form `Name=value;Name=value`, or it has an unknown name or value.
    #[error(
        "a storage connection string as the Azure portal shows it, or UseDevelopmentStorage=true for Azurite"
    )]
    Syntax,
    /// It names no account.
    #[error("a storage connection string with AccountName")]
    NoAccount,
    /// It has neither a key nor a signature.
    #[error("a storage connection string with AccountKey or SharedAccessSignature")]
    NoCredentials,
    /// The key is not base64.
    #[error("a storage connection string whose AccountKey is base64, as the Azure portal shows it")]
    Key,
    /// The endpoint is not a URL.
    #[error("a storage connection string whose TableEndpoint is an http:// or https:// URL")]
    Endpoint,
}

impl FromStr for TableAccess {
    type Err = InvalidConnectionString;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use InvalidConnectionString as Invalid;

        // Values go into URLs, which are read without tabs and line breaks, and into headers.
        let is_sent = |char: char| char.is_ascii() && !char.is_ascii_control();
        if !text.split(';').all(|part| part.trim().chars().all(is_sent)) {
            return Err(Invalid::Syntax);
        }
        let parts = ConnectionString::new(text).map_err(|_| Invalid::Syntax)?;
        if parts.use_development_storage == Some(true) {
            let endpoint = match (parts.table_endpoint, parts.development_storage_proxy_uri) {
                (Some(endpoint), _) => endpoint.to_owned(),
                (None, proxy) => {
                    let host = proxy.unwrap_or("http://127.0.0.1").trim_end_matches('/');
                    format!("{host}:{DEVELOPMENT_PORT}/{DEVELOPMENT_ACCOUNT}")
                }
            };
            return Ok(Self {
                account: DEVELOPMENT_ACCOUNT.to_owned(),
                endpoint: parse_endpoint(&endpoint)?,
                credentials: StorageCredentials::emulator(),
            });
        }
        let endpoint = match (parts.table_endpoint, parts.account_name) {
            (Some(endpoint), _) => endpoint.to_owned(),
            (None, None) => return Err(Invalid::NoAccount),
            (None, Some(account)) => {
                let protocol = parts.default_endpoints_protocol.as_ref();
                let protocol = protocol.unwrap_or(&EndpointProtocol::Https);
                let suffix = parts.endpoint_suffix.unwrap_or("core.windows.net");
                let host = format!("{account}.table.{suffix}");
                // With a slash, say, the key would be for another host.
                let is_host = |char: char| char.is_ascii_alphanumeric() || ".-_:".contains(char);
                if !host.chars().all(is_host) {
                    return Err(Invalid::Syntax);
                }
                format!("{protocol}://{host}")
            }
        };
        if let (None, Some(key)) = (parts.sas, parts.account_key) {
            azure_core::base64::decode(key).map_err(|_| Invalid::Key)?;
        }
        let credentials = parts.storage_credentials().map_err(|_| Invalid::NoCredentials)?;
        let endpoint = parse_endpoint(&endpoint)?;
        // The portal's connection strings with a signature have no AccountName.
        let account = parts.account_name.map(str::to_owned).or_else(|| account(&endpoint));
        Ok(Self { account: account.ok_or(Invalid::NoAccount)?, endpoint, credentials })
    }
}

/// An absolute URL without a trailing slash; the client library appends the table and the keys.
fn parse_endpoint(text: &str) -> Result<Url, InvalidConnectionString> {
    Url::parse(text.trim_end_matches('/'))
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        // A signature belongs in SharedAccessSignature. A login would be shown, and not be used.
        .filter(|url| url.query().is_none() && url.fragment().is_none())
        .filter(|url| url.username().is_empty() && url.password().is_none())
        .ok_or(InvalidConnectionString::Endpoint)
}

/// The account that an endpoint belongs to: the first label of the host in Azure, the first segment
/// of the path in Azurite.
fn account(endpoint: &Url) -> Option<String> {
    let in_path = endpoint.path_segments()?.next().filter(|segment| !segment.is_empty());
    let in_host = || endpoint.host_str()?.split('.').next().filter(|label| !label.is_empty());
    in_path.or_else(in_host).map(str::to_owned)
}

impl TableAccess {
    /// The table service at this URI, such as `https://shop.table.core.windows.net`, with an identity.
    /// Returns `None` if the URI is not that of a table service over TLS: a token must not be sent
    /// unencrypted.
    pub fn with_identity(uri: &str, identity: Identity) -> Option<Self> {
        let endpoint = parse_endpoint(uri).ok().filter(|url| url.scheme() == "https")?;
        let account = account(&endpoint)?;
        let credentials =
            StorageCredentials::token_credential(Arc::new(IdentityCredential(identity)));
        Some(Self { account, endpoint, credentials })
    }

    /// The storage account's name.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The endpoint, for messages. It contains no secret.
    pub fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    /// Whether the endpoint is on this machine, as that of Azurite usually is.
    pub fn is_loopback(&self) -> bool {
        let ip = |host: &str| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        self.endpoint
            .host_str()
            .is_some_and(|host| host == "localhost" || ip(host).is_ok_and(|ip| ip.is_loopback()))
    }

    pub(super) fn location(&self) -> CloudLocation {
        // `Url` writes an empty path as "/", to which the library would append a second slash.
        let uri = self.endpoint.as_str().trim_end_matches('/').to_owned();
        CloudLocation::Custom { account: self.account.clone(), uri }
    }

    pub(super) fn credentials(&self) -> StorageCredentials {
        self.credentials.clone()
    }
}

impl fmt::Debug for TableAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableAccess")
            .field("account", &self.account)
            .field("endpoint", &self.endpoint.as_str())
            .field("credentials", &"***")
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Result<String, InvalidConnectionString> {
        text.parse().map(|access: TableAccess| access.endpoint.to_string())
    }

    const EXAMPLES: &[&str] = &[
        "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=aHVudGVyMg==;EndpointSuffix=core.windows.net",
        "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite",
        "BlobEndpoint=https://shop.blob.core.windows.net/;TableEndpoint=https://shop.table.core.windows.net/;SharedAccessSignature=sv=2024&sig=hunter2",
        "AccountName=devstoreaccount1;AccountKey=a2V5;TableEndpoint=http://[::1]:10002/devstoreaccount1/",
        "AccountName=shop;AccountKey=a2V5;TableEndpoint=https://ann:hunter2@shop.table.core.windows.net/",
        "AccountName=a#b;AccountKey=a2V5;DefaultEndpointsProtocol=http",
        "AccountName=evil.example/;AccountKey=a2V5",
    ];

    /// The last value of a name, by the simplest reading of a connection string.
    fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        let mut parts = text.split(';').filter_map(|part| part.trim().split_once('='));
        parts.rfind(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
    }

    /// A key goes to the endpoint that the string names, and to no other, and is never shown.
    #[test]
    fn fuzz_the_endpoint_is_the_one_that_the_connection_string_names() {
        fuzzing::check!(text, EXAMPLES, |text| {
            let access: TableAccess = match text.parse() {
                Ok(access) => access,
                Err(error) => {
                    let error: InvalidConnectionString = error;
                    return assert!(error.to_string().starts_with("a storage connection string"));
                }
            };
            let url = &access.endpoint;
            assert!(["http", "https"].contains(&url.scheme()) && url.has_host());
            let shown = [url.username(), url.password().unwrap_or(""), url.query().unwrap_or("")];
            assert_eq!(shown.concat() + url.fragment().unwrap_or(""), "");
            assert_eq!(
                format!("{access:?}"),
                format!(
                    "TableAccess {{ account: {:?}, endpoint: {:?}, credentials: \"***\" }}",
                    access.account(),
                    access.endpoint()
                )
            );
            assert!(!access.account().is_empty());

            let is_development = value(text, "UseDevelopmentStorage") == Some("true");
            match (value(text, "TableEndpoint"), value(text, "AccountName")) {
                (Some(given), _) => {
                    assert_eq!(*url, Url::parse(given.trim_end_matches('/')).unwrap());
                }
                (None, Some(account)) if !is_development => {
                    let suffix = value(text, "EndpointSuffix").unwrap_or("core.windows.net");
                    let host = format!("{account}.table.{suffix}").to_ascii_lowercase();
                    // Without the port, which a URL leaves out if it is the usual one.
                    assert_eq!(url.host_str(), host.split(':').next());
                    let protocol = value(text, "DefaultEndpointsProtocol").unwrap_or("https");
                    assert_eq!(url.scheme(), protocol);
                }
                _ => assert!(is_development),
            }
            let again = format!(
                "AccountName={};AccountKey=a2V5;TableEndpoint={}",
                access.account(),
                access.endpoint()
            );
            let again: TableAccess = again.parse().unwrap();
            let [before, after] = [&access, &again].map(|access| {
                (access.account().to_owned(), access.endpoint().trim_end_matches('/').to_owned())
            });
            assert_eq!(after, before);
        });
    }

    #[test]
    fn a_connection_string_names_the_endpoint() {
        let azurite = "http://127.0.0.1:10002/devstoreaccount1";
        assert_eq!(endpoint("UseDevelopmentStorage=true").unwrap(), azurite);
        assert_eq!(
            endpoint("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite")
                .unwrap(),
            "http://azurite:10002/devstoreaccount1"
        );
        assert_eq!(
            endpoint(
                "UseDevelopmentStorage=true;TableEndpoint=http://127.0.0.1:9/devstoreaccount1/"
            )
            .unwrap(),
            "http://127.0.0.1:9/devstoreaccount1"
        );
        assert_eq!(
            endpoint("AccountName=shop;AccountKey=a2V5;EndpointSuffix=core.chinacloudapi.cn")
                .unwrap(),
            "https://shop.table.core.chinacloudapi.cn/"
        );
        assert_eq!(
            endpoint("AccountName=shop;SharedAccessSignature=sv=2024&sig=x").unwrap(),
            "https://shop.table.core.windows.net/"
        );
        let of_portal = "BlobEndpoint=https://shop.blob.core.windows.net/;TableEndpoint=https://shop.table.core.windows.net/;SharedAccessSignature=sv=2024&sig=x";
        let access: TableAccess = of_portal.parse().unwrap();
        assert_eq!(access.account(), "shop");
    }

    #[test]
    fn each_kind_of_invalid_connection_string_has_its_error() {
        use InvalidConnectionString::*;
        for (text, error) in [
            ("hello", Syntax),
            ("AccountName=shop;Colour=red", Syntax),
            ("AccountKey=a2V5", NoAccount),
            ("SharedAccessSignature=sig=x;TableEndpoint=https://.example", NoAccount),
            ("AccountName=shop", NoCredentials),
            ("AccountName=shop;AccountKey=not base64!", Key),
            ("AccountName=shop;AccountKey=a2V5;TableEndpoint=ftp://x", Endpoint),
            ("AccountName=shop;AccountKey=a2V5;TableEndpoint=https://ann:hunter2@x", Endpoint),
            ("AccountName=shop;AccountKey=a2V5;TableEndpoint=https://x/#y", Endpoint),
            ("AccountName=shop;AccountKey=a2V5;TableEndpoint=https://sh\top", Syntax),
            ("AccountName=sh\nop;AccountKey=a2V5", Syntax),
            ("AccountName=evil.example/;AccountKey=a2V5", Syntax),
            ("AccountName=ann:x@evil;AccountKey=a2V5", Syntax),
            ("AccountName=shop;AccountKey=a2V5;EndpointSuffix=x/y", Syntax),
        ] {
            assert_eq!(endpoint(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn an_identity_is_used_over_tls_only() {
        let identity = || Identity::new(crate::identity::CredentialKind::ManagedIdentity, None);
        let account = |uri| TableAccess::with_identity(uri, identity()).map(|it| it.account);
        assert_eq!(account("https://shop.table.core.windows.net/").as_deref(), Some("shop"));
        assert_eq!(
            account("https://localhost:1/devstoreaccount1").as_deref(),
            Some("devstoreaccount1")
        );
        for uri in ["http://shop.table.core.windows.net", "shop", "ftp://x", "https://x?sig=y"] {
            assert_eq!(account(uri), None, "{uri}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let access: TableAccess = "AccountName=shop;AccountKey=c2VjcmV0".parse().unwrap();
        assert!(!format!("{access:?}").contains("c2VjcmV0"));
    }
}
