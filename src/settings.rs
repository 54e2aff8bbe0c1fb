//! The settings: every environment variable that the handler reads, with its default, its unit and
//! its bounds, in one table. (With an identity, `azure_identity` also reads the variables that Azure
//! and Kubernetes set: `IDENTITY_ENDPOINT`, `IDENTITY_HEADER`, `AZURE_CLIENT_ID`, `AZURE_TENANT_ID`,
//! `AZURE_FEDERATED_TOKEN_FILE` and the like.)
//!
//! A value that does not parse, is out of bounds, or breaks a rule together with another value stops
//! the start with one line that names the variable, the value and what is allowed. A secret is shown
//! as `***`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use cache_aside::redis::RedisUrl;
use cache_aside::{LANDING_MARGIN, Policy, PolicyError};
use ulid::Ulid;

use crate::cache::RedisAccess;
use crate::identity::{CredentialKind, Identity};
use crate::store::TableAccess;
use crate::telemetry;

/// A variable, as the README's table shows it.
pub struct Variable {
    /// The environment variable's name.
    pub name: &'static str,
    /// The value if it is not set or is empty; `None` if the README describes it in words.
    pub default: Option<&'static str>,
    /// What is allowed, for the message that refuses a value.
    allowed: &'static str,
    /// Shown as `***`.
    secret: bool,
}

const fn variable(
    name: &'static str,
    default: Option<&'static str>,
    allowed: &'static str,
) -> Variable {
    Variable { name, default, allowed, secret: false }
}

const PORT: Variable =
    variable(custom_handler::PORT_VARIABLE, Some("7071"), "a port number from 0 to 65535");
const ADDRESS: Variable = variable("HANDLER_ADDRESS", Some("127.0.0.1"), "an IP address");
const TABLE_CONNECTION: Variable = Variable {
    name: "USERS_TABLE_CONNECTION",
    default: None,
    allowed: "a storage connection string, or UseDevelopmentStorage=true for Azurite",
    secret: true,
};
const TABLE_SERVICE_URI: Variable = Variable {
    name: "USERS_TABLE_CONNECTION__tableServiceUri",
    default: None,
    allowed: "the https:// URI of a table service without a signature, and no USERS_TABLE_CONNECTION beside it",
    secret: true, // it should not be one, but a URI with a signature is easily pasted here
};
const TABLE_CREDENTIAL: Variable =
    variable("USERS_TABLE_CONNECTION__credential", None, CredentialKind::ALLOWED);
const TABLE_CLIENT_ID: Variable =
    variable("USERS_TABLE_CONNECTION__clientId", None, "the client id of an identity");
const TABLE_NAME: Variable =
    variable("USERS_TABLE_NAME", Some("users"), "3 to 63 letters and digits, the first a letter");
const TABLE_TIMEOUT: Variable =
    variable("TABLE_TIMEOUT", Some("3s"), "a duration from 100ms to 10s");
const REDIS_URL: Variable =
    Variable { name: "REDIS_URL", default: None, allowed: RedisUrl::FORMS, secret: true };
const REDIS_CREDENTIAL: Variable = variable("REDIS_CREDENTIAL", None, CredentialKind::ALLOWED);
const REDIS_CLIENT_ID: Variable = variable("REDIS_CLIENT_ID", None, "the client id of an identity");
const REDIS_TIMEOUT: Variable =
    variable("REDIS_TIMEOUT", Some("100ms"), "a duration from 5ms to 1s");
const KEY_PREFIX: Variable =
    variable("CACHE_KEY_PREFIX", None, "up to 128 letters, digits and characters of .:_-/");
const TTL: Variable = variable("CACHE_TTL", Some("10s"), "a duration from 100ms to 24h");
const TTL_JITTER: Variable =
    variable("CACHE_TTL_JITTER", Some("10%"), "a percentage from 0% to 50%");
const NEGATIVE_TTL: Variable =
    variable("CACHE_NEGATIVE_TTL", Some("2s"), "a duration from 0s to CACHE_TTL");
const LEASE_TTL: Variable =
    variable("CACHE_LEASE_TTL", Some("4s"), "a duration of at least TABLE_TIMEOUT, up to 60s");
const FENCE_TTL: Variable = variable(
    "CACHE_FENCE_TTL",
    Some("10s"),
    "a duration longer than REDIS_TIMEOUT + TABLE_TIMEOUT + 2s, up to 5m",
);
const STALE_GRACE: Variable =
    variable("CACHE_STALE_GRACE", Some("60s"), "a duration from 0s to 24h");
const LOG: Variable =
    variable("RUST_LOG", Some(telemetry::DEFAULT_FILTER), "a filter in the syntax of env_logger");

/// All variables, in the README's order.
pub const VARIABLES: [&Variable; 20] = [
    &PORT,
    &ADDRESS,
    &TABLE_CONNECTION,
    &TABLE_SERVICE_URI,
    &TABLE_CREDENTIAL,
    &TABLE_CLIENT_ID,
    &TABLE_NAME,
    &TABLE_TIMEOUT,
    &REDIS_URL,
    &REDIS_CREDENTIAL,
    &REDIS_CLIENT_ID,
    &REDIS_TIMEOUT,
    &KEY_PREFIX,
    &TTL,
    &TTL_JITTER,
    &NEGATIVE_TTL,
    &LEASE_TTL,
    &FENCE_TTL,
    &STALE_GRACE,
    &LOG,
];

/// How the handler runs.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The table service; `None` for the in-process store.
    pub table: Option<TableAccess>,
    /// The table's name.
    pub table_name: String,
    /// Redis; `None` for the in-process cache.
    pub redis: Option<RedisAccess>,
    /// What keys in Redis begin with.
    pub key_prefix: String,
    /// The durations of the pattern.
    pub policy: Policy,
    /// What to warn about: variables that nothing reads.
    pub warnings: Vec<String>,
}

/// A setting is not allowed. The message is one line that names the variable, the value and what is
/// allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidSetting(String);

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidSetting {}

impl Variable {
    fn refuse(&self, value: &str, allowed: &str) -> InvalidSetting {
        let value = if self.secret { "***" } else { value };
        InvalidSetting(format!("{}={value:?} is not allowed: it must be {allowed}", self.name))
    }
}

/// The values that are set.
struct Given<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Given<'_> {
    /// The value, or else the default. An empty value counts as not set, because app settings cannot
    /// always be unset.
    fn text(&self, variable: &Variable) -> Option<String> {
        let given = (self.0)(variable.name).map(|text| text.trim().to_owned());
        given.filter(|text| !text.is_empty()).or_else(|| variable.default.map(str::to_owned))
    }

    fn parse<T>(
        &self,
        variable: &Variable,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, InvalidSetting> {
        let text = self.text(variable).unwrap_or_default();
        parse(&text).ok_or_else(|| variable.refuse(&text, variable.allowed))
    }

    fn duration(
        &self,
        variable: &Variable,
        allowed: RangeInclusive<Duration>,
    ) -> Result<Duration, InvalidSetting> {
        self.parse(variable, |text| {
            humantime::parse_duration(text).ok().filter(|duration| allowed.contains(duration))
        })
    }

    /// A value of a type whose error says what is allowed.
    fn optional<T>(&self, variable: &Variable) -> Result<Option<T>, InvalidSetting>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let Some(text) = self.text(variable) else {
            return Ok(None);
        };
        let parsed = text.parse();
        parsed.map(Some).map_err(|error: T::Err| variable.refuse(&text, &error.to_string()))
    }
}

impl Given<'_> {
    /// The table service, from a connection string or from a URI and an identity.
    fn table_access(&self) -> Result<Option<TableAccess>, InvalidSetting> {
        let connection = self.optional(&TABLE_CONNECTION)?;
        let Some(uri) = self.text(&TABLE_SERVICE_URI) else {
            self.only_with(&TABLE_SERVICE_URI, &[&TABLE_CREDENTIAL, &TABLE_CLIENT_ID])?;
            return Ok(connection);
        };
        if connection.is_some() {
            return Err(TABLE_SERVICE_URI.refuse(&uri, TABLE_SERVICE_URI.allowed));
        }
        // Where Kubernetes provides a federated token, it is meant to be used.
        let default = match self.0("AZURE_FEDERATED_TOKEN_FILE") {
            Some(_) => CredentialKind::WorkloadIdentity,
            None => CredentialKind::ManagedIdentity,
        };
        let kind = self.optional(&TABLE_CREDENTIAL)?.unwrap_or(default);
        let identity = Identity::new(kind, self.text(&TABLE_CLIENT_ID));
        TableAccess::with_identity(&uri, identity)
            .map(Some)
            .ok_or_else(|| TABLE_SERVICE_URI.refuse(&uri, TABLE_SERVICE_URI.allowed))
    }

    /// Redis, with the password in its URL or with an identity.
    fn redis_access(&self) -> Result<Option<RedisAccess>, InvalidSetting> {
        let Some(url) = self.optional::<RedisUrl>(&REDIS_URL)? else {
            self.only_with(&REDIS_URL, &[&REDIS_CREDENTIAL, &REDIS_CLIENT_ID])?;
            return Ok(None);
        };
        let Some(kind) = self.optional(&REDIS_CREDENTIAL)? else {
            self.only_with(&REDIS_CREDENTIAL, &[&REDIS_CLIENT_ID])?;
            return Ok(Some(RedisAccess { url, identity: None }));
        };
        if !url.is_encrypted() {
            let allowed = "rediss:// if REDIS_CREDENTIAL is set, because a token must not be sent unencrypted";
            return Err(REDIS_URL.refuse("", allowed));
        }
        let identity = Some(Identity::new(kind, self.text(&REDIS_CLIENT_ID)));
        Ok(Some(RedisAccess { url, identity }))
    }

    /// Refuses variables that have no meaning without another.
    fn only_with(&self, needed: &Variable, variables: &[&Variable]) -> Result<(), InvalidSetting> {
        for variable in variables {
            if let Some(text) = self.text(variable) {
                return Err(variable.refuse(&text, &format!("set together with {}", needed.name)));
            }
        }
        Ok(())
    }
}

impl Settings {
    /// Reads the environment of the process.
    ///
    /// # Errors
    /// The first value that is not allowed.
    pub fn from_env() -> Result<Self, InvalidSetting> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::read(&|name| std::env::var(name).ok(), names)
    }

    /// Reads values from anywhere. `names` are the names of all variables that are set, known or not.
    ///
    /// # Errors
    /// The first value that is not allowed.
    pub fn read(
        value: &dyn Fn(&str) -> Option<String>,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Self, InvalidSetting> {
        let given = Given(value);
        let (ms, s) = (Duration::from_millis, Duration::from_secs);

        let port: u16 = given.parse(&PORT, |text| text.parse().ok())?;
        let address: IpAddr = given.parse(&ADDRESS, |text| text.parse().ok())?;
        let table = given.table_access()?;
        let table_name =
            given.parse(&TABLE_NAME, |text| is_table_name(text).then(|| text.to_owned()))?;
        let redis = given.redis_access()?;

        let table_timeout = given.duration(&TABLE_TIMEOUT, ms(100)..=s(10))?;
        let policy = Policy::builder()
            .ttl(given.duration(&TTL, ms(100)..=s(24 * 3600))?)
            .ttl_jitter(given.parse(&TTL_JITTER, parse_jitter)?)
            .negative_ttl(given.duration(&NEGATIVE_TTL, Duration::ZERO..=s(24 * 3600))?)
            .lease_ttl(given.duration(&LEASE_TTL, Duration::ZERO..=s(60))?)
            .fence_ttl(given.duration(&FENCE_TTL, Duration::ZERO..=s(300))?)
            .stale_grace(given.duration(&STALE_GRACE, Duration::ZERO..=s(24 * 3600))?)
            .cache_timeout(given.duration(&REDIS_TIMEOUT, ms(5)..=s(1))?)
            .load_timeout(table_timeout)
            .write_timeout(table_timeout)
            .build()
            .map_err(|error| refuse_policy(&error))?;

        let key_prefix = match given.text(&KEY_PREFIX) {
            None => default_prefix(table.as_ref(), &table_name),
            Some(prefix) if is_prefix(&prefix) => prefix,
            Some(prefix) => return Err(KEY_PREFIX.refuse(&prefix, KEY_PREFIX.allowed)),
        };
        Ok(Self {
            listen: SocketAddr::new(address, port),
            table,
            table_name,
            redis,
            key_prefix,
            policy,
            warnings: unknown(names),
        })
    }
}

/// <https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model#table-names>
fn is_table_name(text: &str) -> bool {
    (3..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && text.as_bytes()[0].is_ascii_alphabetic()
        && !text.eq_ignore_ascii_case("tables")
}

fn is_prefix(text: &str) -> bool {
    text.len() <= 128
        && text.chars().all(|char| char.is_ascii_alphanumeric() || ".:_-/".contains(char))
}

fn parse_jitter(text: &str) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=50.0).contains(&percent).then_some(percent / 100.0)
}

/// Users of different tables, and entries of different formats, must never have the same key. An
/// in-process store is a different table in each process.
fn default_prefix(table: Option<&TableAccess>, table_name: &str) -> String {
    match table {
        // Table names are case-insensitive.
        Some(table) => format!("{}:{}:v1:", table.account(), table_name.to_ascii_lowercase()),
        None => format!("memory:{}:v1:", Ulid::generate()),
    }
}

/// Names the variables that a rule of the policy is about.
fn refuse_policy(error: &PolicyError) -> InvalidSetting {
    let show = |duration: &Duration| humantime::format_duration(*duration).to_string();
    match error {
        PolicyError::LeaseTtl { lease_ttl, load_timeout } => LEASE_TTL.refuse(
            &show(lease_ttl),
            &format!("at least TABLE_TIMEOUT, which is {}", show(load_timeout)),
        ),
        PolicyError::FenceTtl { fence_ttl, minimum } => FENCE_TTL.refuse(
            &show(fence_ttl),
            &format!(
                "longer than REDIS_TIMEOUT + TABLE_TIMEOUT + {}, which is {}",
                show(&LANDING_MARGIN),
                show(minimum)
            ),
        ),
        PolicyError::NegativeTtl { negative_ttl, .. } => {
            NEGATIVE_TTL.refuse(&show(negative_ttl), NEGATIVE_TTL.allowed)
        }
        // Other rules cannot be broken by values within their bounds.
        other => InvalidSetting(other.to_string()),
    }
}

/// Variables that look like settings of the handler and are not: typing errors would otherwise go
/// unnoticed.
fn unknown(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
    let mut unknown: Vec<String> = names
        .into_iter()
        .filter(|name| name.starts_with("CACHE_") && !known(name))
        .map(|name| format!("{name} is set, but is not a setting of the handler"))
        .collect();
    unknown.sort();
    unknown
}
