//! The settings: every environment variable that the handler reads. `table.rs` has their names,
//! defaults, bounds and meanings. (With an identity, `azure_identity` also reads the variables that
//! Azure and Kubernetes set: `IDENTITY_ENDPOINT`, `IDENTITY_HEADER`, `AZURE_CLIENT_ID`,
//! `AZURE_TENANT_ID`, `AZURE_FEDERATED_TOKEN_FILE` and the like.)
//!
//! A value that does not parse, is out of bounds, or breaks a rule together with another value stops
//! the start with one line that names the variable, the value and what is allowed. A secret is shown
//! as `***`.

mod table;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use cache_aside::redis::{InvalidRedisUrl, RedisUrl};
use cache_aside::{LATE_WRITE_MARGIN, Policy, PolicyError};
use reqwest::Url;
use ulid::Ulid;

use crate::cache::RedisAccess;
use crate::identity::{CredentialKind, Identity};
use crate::store::{Concurrency, TableAccess};

use self::table::*;
pub use self::table::{Allowed, IfUnset, VARIABLES, Variable};

/// How the handler runs.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The most connections of clients at the same time.
    pub connections: usize,
    /// The table service; `None` for the in-process store.
    pub table: Option<TableAccess>,
    /// The table's name.
    pub table_name: String,
    /// How many calls the table gets at the same time.
    pub table_concurrency: Concurrency,
    /// Redis; `None` for the in-process cache.
    pub redis: Option<RedisAccess>,
    /// What keys in Redis begin with.
    pub key_prefix: String,
    /// The durations of the pattern.
    pub policy: Policy,
    /// The share of hits that are audited, from 0 to 1.
    pub audit: f64,
    /// Where spans and metrics are exported to; `None`: nowhere.
    pub telemetry: Option<Url>,
    /// What to warn about: `CACHE_` variables that are set but unknown or without effect.
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
    /// The error for a value that is not one of the allowed ones.
    fn refuse(&self, value: &str) -> InvalidSetting {
        let example = match (self.allowed, self.default) {
            (Allowed::Durations { .. } | Allowed::Numbers { .. }, IfUnset::Value(value)) => {
                format!(", such as {value}")
            }
            _ => String::new(),
        };
        self.refuse_because(value, &format!("it must be {}{example}", self.allowed))
    }

    fn refuse_because(&self, value: &str, reason: &str) -> InvalidSetting {
        let value = if self.is_secret { "***" } else { value };
        InvalidSetting(format!("{}={value:?} is not allowed: {reason}", self.name))
    }
}

/// The values that are set.
struct Given<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Given<'_> {
    /// The value, or else the default. An empty value counts as not set, because app settings cannot
    /// always be unset.
    fn text(&self, variable: &Variable) -> Option<String> {
        let given = (self.0)(variable.name).map(|text| text.trim().to_owned());
        given
            .filter(|text| !text.is_empty())
            .or_else(|| variable.default.value().map(str::to_owned))
    }

    fn parse<T>(
        &self,
        variable: &Variable,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, InvalidSetting> {
        let text = self.text(variable).unwrap_or_default();
        parse(&text).ok_or_else(|| variable.refuse(&text))
    }

    fn duration(&self, variable: &Variable) -> Result<Duration, InvalidSetting> {
        let range = variable.allowed.range();
        self.parse(variable, |text| {
            humantime::parse_duration(text).ok().filter(|duration| range.contains(duration))
        })
    }

    fn number(&self, variable: &Variable) -> Result<usize, InvalidSetting> {
        self.parse(variable, |text| {
            let Allowed::Numbers { from, to } = variable.allowed else { return None };
            let number = text.parse().ok().filter(|number| (from..=to).contains(number))?;
            usize::try_from(number).ok()
        })
    }

    /// A URL, if one is set.
    fn endpoint(&self, variable: &Variable) -> Result<Option<Url>, InvalidSetting> {
        let Some(text) = self.text(variable) else { return Ok(None) };
        let url = Url::parse(&text).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(Some).ok_or_else(|| variable.refuse(&text))
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
        let refuse = |error: T::Err| variable.refuse_because(&text, &format!("it must be {error}"));
        parsed.map(Some).map_err(refuse)
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
            return Err(TABLE_SERVICE_URI
                .refuse_because(&uri, "it must not be set together with USERS_TABLE_CONNECTION"));
        }
        // If Kubernetes provides a federated token, use it.
        let default = match self.0("AZURE_FEDERATED_TOKEN_FILE") {
            Some(_) => CredentialKind::WorkloadIdentity,
            None => CredentialKind::ManagedIdentity,
        };
        let kind = self.optional(&TABLE_CREDENTIAL)?.unwrap_or(default);
        let identity = Identity::new(kind, self.text(&TABLE_CLIENT_ID));
        TableAccess::with_identity(&uri, identity)
            .map(Some)
            .ok_or_else(|| TABLE_SERVICE_URI.refuse(&uri))
    }

    /// Redis, with the password in its URL or with an identity.
    fn redis_access(&self) -> Result<Option<RedisAccess>, InvalidSetting> {
        let Some(text) = self.text(&REDIS_URL) else {
            self.only_with(&REDIS_URL, &[&REDIS_CREDENTIAL, &REDIS_CLIENT_ID])?;
            return Ok(None);
        };
        let url: RedisUrl = text.parse().map_err(|error: InvalidRedisUrl| {
            REDIS_URL.refuse_because(&text, &error.to_string())
        })?;
        let Some(kind) = self.optional(&REDIS_CREDENTIAL)? else {
            self.only_with(&REDIS_CREDENTIAL, &[&REDIS_CLIENT_ID])?;
            return Ok(Some(RedisAccess { url, identity: None }));
        };
        if url.is_sentinel() {
            let reason = "sentinels cannot be used with REDIS_CREDENTIAL";
            return Err(REDIS_URL.refuse_because(&text, reason));
        }
        if !url.is_encrypted() {
            let reason = "it must be rediss://, or have ssl=True, if REDIS_CREDENTIAL is set: tokens must not be sent unencrypted";
            return Err(REDIS_URL.refuse_because(&text, reason));
        }
        let identity = Some(Identity::new(kind, self.text(&REDIS_CLIENT_ID)));
        Ok(Some(RedisAccess { url, identity }))
    }

    /// Refuses variables that have no meaning without another.
    fn only_with(&self, needed: &Variable, variables: &[&Variable]) -> Result<(), InvalidSetting> {
        for variable in variables {
            if let Some(text) = self.text(variable) {
                let reason = format!("it must be set together with {}", needed.name);
                return Err(variable.refuse_because(&text, &reason));
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
        let port: u16 = given.parse(&PORT, |text| text.parse().ok())?;
        let address: IpAddr = given.parse(&ADDRESS, |text| text.parse().ok())?;
        let table = given.table_access()?;
        let table_name =
            given.parse(&TABLE_NAME, |text| is_table_name(text).then(|| text.to_owned()))?;
        let table_concurrency =
            Concurrency { calls: given.number(&TABLE_CALLS)?, queue: given.number(&TABLE_QUEUE)? };
        let redis = given.redis_access()?;

        let table_timeout = given.duration(&TABLE_TIMEOUT)?;
        let local_ttl = given.duration(&LOCAL_TTL)?;
        let mut warnings = unknown(names);
        // The in-process cache is as near as a copy would be, and no other process uses it.
        let local_ttl = match redis {
            None if !local_ttl.is_zero() => {
                warnings.push("CACHE_LOCAL_TTL has no effect without REDIS_URL".to_owned());
                Duration::ZERO
            }
            _ => local_ttl,
        };
        let policy = Policy::builder()
            .ttl(given.duration(&TTL)?)
            .ttl_jitter(given.parse(&TTL_JITTER, |text| percentage(text, 50.0))?)
            .negative_ttl(given.duration(&NEGATIVE_TTL)?)
            .lease_ttl(given.duration(&LEASE_TTL)?)
            .fence_ttl(given.duration(&FENCE_TTL)?)
            .local_ttl(local_ttl)
            .stale_grace(given.duration(&STALE_GRACE)?)
            .cache_timeout(given.duration(&REDIS_TIMEOUT)?)
            .load_timeout(table_timeout)
            .write_timeout(table_timeout)
            .build()
            .map_err(|error| refuse_policy(&error))?;

        let key_prefix = match given.text(&KEY_PREFIX) {
            None => default_prefix(table.as_ref(), &table_name),
            Some(prefix) if is_prefix(&prefix) => prefix,
            Some(prefix) => return Err(KEY_PREFIX.refuse(&prefix)),
        };
        Ok(Self {
            listen: SocketAddr::new(address, port),
            connections: given.number(&CONNECTIONS)?,
            table,
            table_name,
            table_concurrency,
            redis,
            key_prefix,
            policy,
            telemetry: given.endpoint(&OTLP_ENDPOINT)?,
            audit: given.parse(&AUDIT, |text| percentage(text, 100.0))?,
            warnings,
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

/// A percentage of at most `most`, as a part of 1.
fn percentage(text: &str, most: f64) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=most).contains(&percent).then_some(percent / 100.0)
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

/// Restates an error of the policy in terms of the variables.
fn refuse_policy(error: &PolicyError) -> InvalidSetting {
    let show = |duration: &Duration| humantime::format_duration(*duration).to_string();
    match error {
        PolicyError::LeaseTtl { lease_ttl, load_timeout } => LEASE_TTL.refuse_because(
            &show(lease_ttl),
            &format!("it must be at least TABLE_TIMEOUT, which is {}", show(load_timeout)),
        ),
        PolicyError::FenceTtl { fence_ttl, minimum } => FENCE_TTL.refuse_because(
            &show(fence_ttl),
            &format!(
                "it must be longer than REDIS_TIMEOUT + CACHE_LOCAL_TTL + TABLE_TIMEOUT + {}, which is {}",
                show(&LATE_WRITE_MARGIN),
                show(minimum)
            ),
        ),
        PolicyError::NegativeTtl { negative_ttl, .. } => NEGATIVE_TTL.refuse(&show(negative_ttl)),
        PolicyError::LocalTtl { local_ttl, .. } => LOCAL_TTL.refuse(&show(local_ttl)),
        // Other rules cannot be broken by values within their bounds.
        other => InvalidSetting(other.to_string()),
    }
}

/// Misspelt `CACHE_` variables, which would otherwise go unnoticed.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Variables, one a line.
    const EXAMPLES: &[&str] = &[
        "CACHE_TTL=10s\nCACHE_NEGATIVE_TTL=0s\nCACHE_TTL_JITTER=12.5%\nCACHE_STALE_GRACE=2m",
        "REDIS_URL=rediss://:hunter2@redis:1/2\nREDIS_TIMEOUT=250ms\nCACHE_LOCAL_TTL=1s\nREDIS_CREDENTIAL=managedidentity",
        "USERS_TABLE_CONNECTION=AccountName=shop;AccountKey=aHVudGVyMg==\nUSERS_TABLE_NAME=Users2\nTABLE_TIMEOUT=1s 500ms",
        "USERS_TABLE_CONNECTION__tableServiceUri=https://shop.table.core.windows.net\nUSERS_TABLE_CONNECTION__clientId=x",
        "CACHE_FENCE_TTL=3s\nCACHE_LEASE_TTL=1ms\nTABLE_TIMEOUT=10s\nCACHE_LOCAL_TTL=9s",
        "FUNCTIONS_CUSTOMHANDLER_PORT=0\nHANDLER_ADDRESS=::1\nHANDLER_CONNECTIONS=1\nTABLE_CALLS=10000\nTABLE_QUEUE=0",
        "CACHE_AUDIT=1%\nOTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318/\nCACHE_KEY_PREFIX=shop:\nCACHE_TLT=5s",
        "CACHE_TTL=99999999999999999999y\nCACHE_TTL_JITTER=inf%\nREDIS_URL=hunter2\nHANDLER_CONNECTIONS=-1",
    ];

    /// Settings keep the rules of time, and a refusal is one line that names the variable and what is
    /// allowed, and shows no secret.
    #[test]
    fn fuzz_settings_keep_their_rules_or_are_refused_by_name() {
        fuzzing::check!(text, EXAMPLES, |text| {
            let given: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
            let value = |name: &str| {
                given.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
            };
            let names = given.iter().map(|(name, _)| (*name).to_owned());
            let settings = match Settings::read(&value, names) {
                Ok(settings) => settings,
                Err(error) => {
                    let message = error.to_string();
                    assert_eq!(message.lines().count(), 1, "{message}");
                    let variable = VARIABLES.iter().find(|variable| {
                        let refused = format!("{}=", variable.name);
                        message.starts_with(&refused) && message.contains(" is not allowed: ")
                    });
                    let variable = variable.unwrap_or_else(|| panic!("{message}"));
                    let is_hidden = message[variable.name.len()..].starts_with("=\"***\" is");
                    return assert_eq!(is_hidden, variable.is_secret, "{message}");
                }
            };
            let policy = &settings.policy;
            let least = policy.cache_timeout() + policy.local_ttl() + policy.write_timeout();
            assert!(policy.fence_ttl() > least + LATE_WRITE_MARGIN);
            assert!(policy.lease_ttl() >= policy.load_timeout());
            assert!(policy.negative_ttl() <= policy.ttl() && policy.local_ttl() <= policy.ttl());
            assert!((0.0..=0.5).contains(&policy.ttl_jitter()));
            assert!((0.0..=1.0).contains(&settings.audit));
            for (variable, is) in [
                (&TTL, policy.ttl()),
                (&NEGATIVE_TTL, policy.negative_ttl()),
                (&LEASE_TTL, policy.lease_ttl()),
                (&FENCE_TTL, policy.fence_ttl()),
                (&STALE_GRACE, policy.stale_grace()),
                (&REDIS_TIMEOUT, policy.cache_timeout()),
                (&TABLE_TIMEOUT, policy.load_timeout()),
            ] {
                let Allowed::Durations { from, to, .. } = variable.allowed else { unreachable!() };
                let [from, to] = [from, to].map(|it| humantime::parse_duration(it).unwrap());
                assert!((from..=to).contains(&is), "{} is {is:?}", variable.name);
                let again = humantime::format_duration(is).to_string();
                assert_eq!(humantime::parse_duration(&again), Ok(is));
            }
            assert!((1..=1_000_000).contains(&settings.connections));
            assert_eq!(
                settings.redis.is_some(),
                value("REDIS_URL").is_some_and(|it| !it.trim().is_empty())
            );
            if let Some(RedisAccess { url, identity: Some(_) }) = &settings.redis {
                assert!(url.is_encrypted());
            }
            assert!(settings.warnings.iter().all(|warning| warning.lines().count() == 1));
        });
    }
}
