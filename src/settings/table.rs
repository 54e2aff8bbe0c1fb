//! The one table of variables. `handler --help` prints it, and a test compares the README's table
//! with it.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use cache_aside::redis::RedisUrl;

use crate::identity::CredentialKind;
use crate::telemetry;

use self::Allowed::{Numbers, Words};
use self::IfUnset::{Value, Words as InWords};

/// An environment variable that the handler reads.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What applies if it is not set or is empty.
    pub default: IfUnset,
    /// Which values it may have.
    pub allowed: Allowed,
    /// What it is for.
    pub meaning: &'static str,
    /// Its value is shown as `***`.
    pub(super) is_secret: bool,
}

/// What applies if a variable is not set or is empty.
#[derive(Clone, Copy, Debug)]
pub enum IfUnset {
    /// The same as if it had this value.
    Value(&'static str),
    /// What these words say.
    Words(&'static str),
}

/// Which values a variable may have. Displayed as the end of the sentence "it must be …".
#[derive(Clone, Copy, Debug)]
pub enum Allowed {
    /// What these words say.
    Words(&'static str),
    /// Whole numbers.
    Numbers {
        /// The least.
        from: u32,
        /// The most.
        to: u32,
    },
    /// Durations, and what else must hold for them.
    Durations {
        /// The shortest.
        from: &'static str,
        /// The longest.
        to: &'static str,
        /// A rule that involves other variables.
        rule: Option<&'static str>,
    },
}

impl IfUnset {
    /// The value, if it is one.
    pub(super) fn value(self) -> Option<&'static str> {
        match self {
            IfUnset::Value(value) => Some(value),
            IfUnset::Words(_) => None,
        }
    }
}

impl Allowed {
    /// The range of durations; empty for a variable that is not a duration.
    pub(super) fn range(self) -> RangeInclusive<Duration> {
        // A test checks that the texts in the table are durations.
        let parse = |text| humantime::parse_duration(text).unwrap_or_default();
        match self {
            Allowed::Words(_) | Allowed::Numbers { .. } => Duration::MAX..=Duration::ZERO,
            Allowed::Durations { from, to, .. } => parse(from)..=parse(to),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Words(words) => f.write_str(words),
            Allowed::Numbers { from, to } => write!(f, "a whole number from {from} to {to}"),
            Allowed::Durations { from, to, rule } => {
                write!(f, "a duration from {from} to {to}")?;
                rule.map_or(Ok(()), |rule| write!(f, ", {rule}"))
            }
        }
    }
}

const fn variable(
    name: &'static str,
    default: IfUnset,
    allowed: Allowed,
    meaning: &'static str,
) -> Variable {
    Variable { name, default, allowed, meaning, is_secret: false }
}

const fn secret(
    name: &'static str,
    default: IfUnset,
    allowed: Allowed,
    meaning: &'static str,
) -> Variable {
    Variable { is_secret: true, ..variable(name, default, allowed, meaning) }
}

const fn durations(from: &'static str, to: &'static str) -> Allowed {
    Allowed::Durations { from, to, rule: None }
}

const fn durations_with(from: &'static str, to: &'static str, rule: &'static str) -> Allowed {
    Allowed::Durations { from, to, rule: Some(rule) }
}

pub(super) const PORT: Variable = variable(
    custom_handler::PORT_VARIABLE,
    Value("7071"),
    Words("a port number from 0 to 65535"),
    "the port to listen on, 0 for any free one; set by the Functions host",
);
pub(super) const ADDRESS: Variable = variable(
    "HANDLER_ADDRESS",
    Value("127.0.0.1"),
    Words("an IP address"),
    "the address to listen on; keep the default when running behind the host",
);
pub(super) const CONNECTIONS: Variable = variable(
    "HANDLER_CONNECTIONS",
    Value("10000"),
    Numbers { from: 1, to: 1_000_000 },
    "the most connections of clients at the same time; further ones wait",
);
pub(super) const TABLE_CONNECTION: Variable = secret(
    "USERS_TABLE_CONNECTION",
    InWords("in-process store"),
    Words("a storage connection string, or UseDevelopmentStorage=true for Azurite"),
    "the table service, as in the Azure portal",
);
pub(super) const TABLE_SERVICE_URI: Variable = secret(
    "USERS_TABLE_CONNECTION__tableServiceUri",
    InWords("none"),
    Words("the https:// URI of a table service, without a signature"),
    "the table service, used with an identity: https://{account}.table.core.windows.net",
);
pub(super) const TABLE_CREDENTIAL: Variable = variable(
    "USERS_TABLE_CONNECTION__credential",
    InWords("workloadidentity if Kubernetes provides a federated token, else managedidentity"),
    Words(CredentialKind::ALLOWED),
    "the kind of identity",
);
pub(super) const TABLE_CLIENT_ID: Variable = variable(
    "USERS_TABLE_CONNECTION__clientId",
    InWords("the system-assigned identity, or the pod's"),
    Words("the client id of an identity"),
    "which identity",
);
pub(super) const TABLE_NAME: Variable = variable(
    "USERS_TABLE_NAME",
    Value("users"),
    Words("3 to 63 letters and digits, the first a letter"),
    "the table, created if it is missing",
);
pub(super) const TABLE_TIMEOUT: Variable = variable(
    "TABLE_TIMEOUT",
    Value("3s"),
    durations("100ms", "10s"),
    "bound on one table call, with the wait for its turn and all attempts; a read or a create has up to three, each with a third of it, or one while the table is slow",
);
/// Measured with 4,000 reads at the same time of users who are not cached: 8 to 64 calls answered them
/// equally fast with Azurite on the same machine, and more calls took longer. Azure answers a call in 15
/// to 60 ms, where 64 calls are 1,000 to 4,000 a second; the target for one partition is 2,000
/// (<https://learn.microsoft.com/azure/storage/tables/scalability-targets>).
pub(super) const TABLE_CALLS: Variable = variable(
    "TABLE_CALLS",
    Value("64"),
    Numbers { from: 1, to: 10_000 },
    "the most calls to the table at the same time; further ones wait for up to a third of TABLE_TIMEOUT",
);
/// About as many as are answered within the longest wait, a second by default.
pub(super) const TABLE_QUEUE: Variable = variable(
    "TABLE_QUEUE",
    Value("1000"),
    Numbers { from: 0, to: 1_000_000 },
    "the most calls that wait; further ones are answered with a copy, or else with 503",
);
pub(super) const REDIS_URL: Variable = secret(
    "REDIS_URL",
    InWords("in-process cache"),
    Words(RedisUrl::FORMS),
    "the address of Redis",
);
pub(super) const REDIS_CREDENTIAL: Variable = variable(
    "REDIS_CREDENTIAL",
    InWords("what REDIS_URL contains"),
    Words(CredentialKind::ALLOWED),
    "log in to Redis with Entra ID, over TLS only",
);
pub(super) const REDIS_CLIENT_ID: Variable = variable(
    "REDIS_CLIENT_ID",
    InWords("the system-assigned identity, or the pod's"),
    Words("the client id of an identity"),
    "which identity",
);
pub(super) const REDIS_TIMEOUT: Variable = variable(
    "REDIS_TIMEOUT",
    Value("100ms"),
    durations("5ms", "1s"),
    "bound on one cache step, reconnecting included",
);
pub(super) const KEY_PREFIX: Variable = variable(
    "CACHE_KEY_PREFIX",
    InWords("{account}:{table}:v1:, or a random one with the in-process store"),
    Words("up to 128 characters: letters, digits and any of .:_-/"),
    "keys are {prefix}user:{ULID}; handlers that share a table must have the same prefix, and handlers with different tables different ones",
);
pub(super) const TTL: Variable =
    variable("CACHE_TTL", Value("10s"), durations("100ms", "24h"), "how long an entry lives");
pub(super) const TTL_JITTER: Variable = variable(
    "CACHE_TTL_JITTER",
    Value("10%"),
    Words("a percentage from 0% to 50%"),
    "TTLs are shortened at random by up to this much, so that entries stored together do not expire together",
);
pub(super) const NEGATIVE_TTL: Variable = variable(
    "CACHE_NEGATIVE_TTL",
    Value("2s"),
    durations_with("0s", "24h", "at most CACHE_TTL"),
    "how long \"not found\" is remembered; 0s turns it off",
);
pub(super) const LEASE_TTL: Variable = variable(
    "CACHE_LEASE_TTL",
    Value("4s"),
    durations_with("100ms", "60s", "at least TABLE_TIMEOUT"),
    "how long a reader may hold a lease",
);
pub(super) const FENCE_TTL: Variable = variable(
    "CACHE_FENCE_TTL",
    Value("10s"),
    durations_with("2s", "5m", "longer than REDIS_TIMEOUT + CACHE_LOCAL_TTL + TABLE_TIMEOUT + 2s"),
    "how long a fence lasts if its writer crashes, or does not learn the outcome",
);
pub(super) const LOCAL_TTL: Variable = variable(
    "CACHE_LOCAL_TTL",
    Value("0s"),
    durations_with("0s", "10s", "at most CACHE_TTL"),
    "how long a handler may use its own copy of an entry without asking Redis, which makes each write take that much longer; the same in all handlers; 0s turns it off",
);
pub(super) const AUDIT: Variable = variable(
    "CACHE_AUDIT",
    Value("0%"),
    Words("a percentage from 0% to 100%"),
    "how many of the hits are compared with the table afterwards, to find entries that should not be there; each is a read of the table, at most four at the same time",
);
pub(super) const STALE_GRACE: Variable = variable(
    "CACHE_STALE_GRACE",
    Value("60s"),
    durations("0s", "24h"),
    "how long past its TTL a handler's copy of an entry may be served while the table cannot be reached; 0s turns it off",
);
pub(super) const LOG: Variable = variable(
    "RUST_LOG",
    Value(telemetry::DEFAULT_FILTER),
    Words("a filter in the syntax of env_logger"),
    "what is logged; info,redis=warn,request=off leaves out the line for each request",
);

/// All variables, in the README's order.
pub const VARIABLES: [&Variable; 25] = [
    &PORT,
    &ADDRESS,
    &CONNECTIONS,
    &TABLE_CONNECTION,
    &TABLE_SERVICE_URI,
    &TABLE_CREDENTIAL,
    &TABLE_CLIENT_ID,
    &TABLE_NAME,
    &TABLE_TIMEOUT,
    &TABLE_CALLS,
    &TABLE_QUEUE,
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
    &LOCAL_TTL,
    &STALE_GRACE,
    &AUDIT,
    &LOG,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_has_its_type_and_every_default_is_within_its_bounds() {
        for variable in VARIABLES {
            let default = variable.default.value();
            match variable.allowed {
                Allowed::Words(_) => {}
                Allowed::Numbers { from, to } => {
                    let default = default.unwrap().parse().unwrap();
                    assert!((from..=to).contains(&default), "{}", variable.name);
                }
                Allowed::Durations { from, to, .. } => {
                    let [from, to, default] = [from, to, default.unwrap()]
                        .map(|it| humantime::parse_duration(it).unwrap());
                    assert_eq!(variable.allowed.range(), from..=to);
                    assert!((from..=to).contains(&default), "{}", variable.name);
                }
            }
        }
    }
}
