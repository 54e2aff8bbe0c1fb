//! The settings: defaults, bounds, the errors for invalid values, and the README's table.

use std::collections::HashMap;
use std::time::Duration;

use cache_aside_handler::settings::{IfUnset, Settings, VARIABLES, Variable};

fn read(given: &[(&str, &str)]) -> Result<Settings, String> {
    let values: HashMap<_, _> = given.iter().copied().collect();
    let names = given.iter().map(|(name, _)| (*name).to_owned());
    Settings::read(&|name| values.get(name).map(|value| (*value).to_owned()), names)
        .map_err(|error| error.to_string())
}

#[test]
fn without_any_setting_it_runs_embedded_on_the_port_of_func_start() {
    let settings = read(&[]).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7071");
    assert!(settings.redis.is_none() && settings.table.is_none());
    assert!(settings.warnings.is_empty());
    let policy = settings.policy;
    assert_eq!(policy.ttl(), Duration::from_secs(10));
    assert_eq!(policy.negative_ttl(), Duration::from_secs(2));
    assert_eq!(policy.stale_grace(), Duration::from_secs(60));
    assert_eq!(policy.ttl_jitter(), 0.1);
}

#[test]
fn values_are_read_in_their_units() {
    let settings = read(&[
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "8080"),
        ("HANDLER_ADDRESS", "::1"),
        ("CACHE_TTL", "2m"),
        ("CACHE_TTL_JITTER", "0%"),
        ("CACHE_NEGATIVE_TTL", "0s"),
        ("REDIS_TIMEOUT", "250ms"),
        ("REDIS_URL", " redis://a:1/2 , rediss://user:secret@b "),
        ("USERS_TABLE_CONNECTION", ""),
    ])
    .unwrap();
    assert_eq!(settings.listen.to_string(), "[::1]:8080");
    assert_eq!(settings.policy.ttl(), Duration::from_secs(120));
    assert_eq!(settings.policy.ttl_jitter(), 0.0);
    assert_eq!(settings.policy.negative_ttl(), Duration::ZERO);
    assert_eq!(settings.policy.cache_timeout(), Duration::from_millis(250));
    assert_eq!(settings.redis.unwrap().url.to_string(), "a:1, b:6379");
    assert!(settings.table.is_none(), "empty is not set");
}

#[test]
fn an_invalid_value_is_reported_with_what_is_allowed() {
    for (name, value, allowed) in [
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "70710", "0 to 65535"),
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "http", "0 to 65535"),
        ("HANDLER_ADDRESS", "localhost", "an IP address"),
        ("HANDLER_CONNECTIONS", "0", "from 1 to 1000000"),
        ("HANDLER_CONNECTIONS", "many", "from 1 to 1000000, such as 10000"),
        ("TABLE_CALLS", "0", "from 1 to 10000"),
        ("TABLE_CALLS", "10001", "from 1 to 10000"),
        ("TABLE_CALLS", "1.5", "a whole number from 1 to 10000"),
        ("TABLE_QUEUE", "-1", "from 0 to 1000000"),
        ("TABLE_QUEUE", "1000001", "from 0 to 1000000"),
        ("USERS_TABLE_NAME", "my-users", "3 to 63 letters and digits"),
        ("USERS_TABLE_NAME", "1users", "the first a letter"),
        ("USERS_TABLE_NAME", "ab", "3 to 63 letters and digits"),
        ("USERS_TABLE_NAME", "tables", "3 to 63 letters and digits"),
        ("TABLE_TIMEOUT", "3", "from 100ms to 10s"),
        ("TABLE_TIMEOUT", "99ms", "from 100ms to 10s"),
        ("TABLE_TIMEOUT", "11s", "from 100ms to 10s"),
        ("REDIS_TIMEOUT", "4ms", "from 5ms to 1s"),
        ("REDIS_TIMEOUT", "2s", "from 5ms to 1s"),
        ("CACHE_KEY_PREFIX", "a b", "letters, digits"),
        ("CACHE_TTL", "0s", "from 100ms to 24h"),
        ("CACHE_TTL", "25h", "from 100ms to 24h"),
        ("CACHE_TTL", "-1s", "from 100ms to 24h"),
        ("CACHE_TTL_JITTER", "10", "from 0% to 50%"),
        ("CACHE_TTL_JITTER", "51%", "from 0% to 50%"),
        ("CACHE_TTL_JITTER", "NaN%", "from 0% to 50%"),
        ("CACHE_NEGATIVE_TTL", "11s", "at most CACHE_TTL"),
        ("CACHE_LEASE_TTL", "2m", "from 100ms to 60s"),
        ("CACHE_FENCE_TTL", "6m", "from 2s to 5m"),
        ("CACHE_LOCAL_TTL", "11s", "from 0s to 10s"),
        ("CACHE_STALE_GRACE", "25h", "from 0s to 24h"),
        ("CACHE_AUDIT", "101%", "from 0% to 100%"),
        ("CACHE_AUDIT", "0.5", "from 0% to 100%"),
    ] {
        let error = read(&[(name, value)]).unwrap_err();
        assert!(error.starts_with(&format!("{name}={value:?} is not allowed")), "{error}");
        assert!(error.contains(allowed), "{error} does not say {allowed}");
        assert_eq!(error.lines().count(), 1);
    }
    let error = read(&[("CACHE_TTL", "10")]).unwrap_err();
    assert!(error.ends_with("it must be a duration from 100ms to 24h, such as 10s"), "{error}");
}

#[test]
fn the_ends_of_each_range_are_allowed() {
    for (name, value) in [
        ("HANDLER_CONNECTIONS", "1"),
        ("HANDLER_CONNECTIONS", "1000000"),
        ("TABLE_CALLS", "1"),
        ("TABLE_CALLS", "10000"),
        ("TABLE_QUEUE", "0"),
        ("TABLE_QUEUE", "1000000"),
        ("TABLE_TIMEOUT", "100ms"),
        ("REDIS_TIMEOUT", "5ms"),
        ("REDIS_TIMEOUT", "1s"),
        ("CACHE_TTL", "24h"),
        ("CACHE_TTL_JITTER", "50%"),
        ("CACHE_NEGATIVE_TTL", "10s"),
        ("CACHE_LEASE_TTL", "3s"),
        ("CACHE_LEASE_TTL", "60s"),
        ("CACHE_FENCE_TTL", "5m"),
        ("CACHE_LOCAL_TTL", "10s"),
        ("CACHE_STALE_GRACE", "0s"),
        ("CACHE_AUDIT", "100%"),
        ("CACHE_AUDIT", "0.1%"),
        ("USERS_TABLE_NAME", "abc"),
        ("CACHE_KEY_PREFIX", "shop.prod:users/"),
    ] {
        assert!(read(&[(name, value)]).is_ok(), "{name}={value}");
    }
}

#[test]
fn an_invalid_secret_is_reported_and_not_shown() {
    for (name, value, allowed) in [
        ("REDIS_URL", "http://user:hunter2@host", "redis://"),
        ("REDIS_URL", "hunter2", "redis://"),
        ("REDIS_URL", "redis-sentinel://:hunter2@host", "/master"),
        ("REDIS_URL", "redis-sentinel://host/m?password=hunter2", "sentinel_password"),
        ("REDIS_URL", "host:6380,password=hunter2,sslHost=b", "the option sslHost"),
        ("REDIS_URL", "host:6380,password=hunter2,ssl=hunter2", "the option ssl"),
        ("REDIS_URL", "host:6380,password=a,hunter2", "%2C"),
        ("USERS_TABLE_CONNECTION", "AccountName=hunter2", "AccountKey"),
        ("USERS_TABLE_CONNECTION", "AccountKey=hunter2=;x", "connection string"),
        ("USERS_TABLE_CONNECTION", "AccountName=a;AccountKey=hunter2!", "base64"),
    ] {
        let error = read(&[(name, value)]).unwrap_err();
        assert!(error.starts_with(&format!("{name}=\"***\" is not allowed")), "{error}");
        assert!(error.contains(allowed), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let settings = read(&[
        ("REDIS_URL", "redis://user:hunter2@host"),
        ("USERS_TABLE_CONNECTION", "AccountName=a;AccountKey=aHVudGVyMg=="),
    ]);
    let debug = format!("{:?}", settings.unwrap());
    assert!(!debug.contains("hunter2") && !debug.contains("aHVudGVyMg"), "{debug}");
}

#[test]
fn an_identity_replaces_keys() {
    let uri = ("USERS_TABLE_CONNECTION__tableServiceUri", "https://shop.table.core.windows.net");
    let redis = ("REDIS_URL", "rediss://shop.redis.azure.net:10000");
    let settings = read(&[
        uri,
        ("USERS_TABLE_CONNECTION__credential", "managedidentity"),
        ("USERS_TABLE_CONNECTION__clientId", "11111111-2222"),
        redis,
        ("REDIS_CREDENTIAL", "WorkloadIdentity"),
    ])
    .unwrap();
    assert_eq!(settings.table.unwrap().account(), "shop");
    assert!(settings.redis.unwrap().identity.is_some());
    for shown_by_azure in ["shop.redis.azure.net:10000,ssl=True,abortConnect=False", "shop:6380"] {
        let settings =
            read(&[("REDIS_URL", shown_by_azure), ("REDIS_CREDENTIAL", "managedidentity")]);
        assert!(settings.unwrap().redis.unwrap().identity.is_some());
    }
    assert_eq!(settings.key_prefix, "shop:users:v1:");

    for (given, name, allowed) in [
        (vec![(uri.0, "http://shop.table.core.windows.net")], uri.0, "https://"),
        (
            vec![uri, ("USERS_TABLE_CONNECTION", "UseDevelopmentStorage=true")],
            uri.0,
            "together with USERS_TABLE_CONNECTION",
        ),
        (
            vec![uri, ("USERS_TABLE_CONNECTION__credential", "key")],
            "USERS_TABLE_CONNECTION__credential",
            "managedidentity or",
        ),
        (
            vec![("USERS_TABLE_CONNECTION__clientId", "x")],
            "USERS_TABLE_CONNECTION__clientId",
            "together with",
        ),
        (
            vec![("REDIS_CREDENTIAL", "managedidentity")],
            "REDIS_CREDENTIAL",
            "together with REDIS_URL",
        ),
        (
            vec![redis, ("REDIS_CLIENT_ID", "x")],
            "REDIS_CLIENT_ID",
            "together with REDIS_CREDENTIAL",
        ),
        (
            vec![("REDIS_URL", "redis://a"), ("REDIS_CREDENTIAL", "managedidentity")],
            "REDIS_URL",
            "rediss://",
        ),
        (
            vec![("REDIS_URL", "a:6380,ssl=False"), ("REDIS_CREDENTIAL", "managedidentity")],
            "REDIS_URL",
            "ssl=True",
        ),
        (
            vec![("REDIS_URL", "rediss-sentinel://a/m"), ("REDIS_CREDENTIAL", "managedidentity")],
            "REDIS_URL",
            "sentinels",
        ),
    ] {
        let error = read(&given).unwrap_err();
        assert!(error.starts_with(&format!("{name}=")) && error.contains(allowed), "{error}");
    }
    let pasted = read(&[(uri.0, "https://shop.table.core.windows.net?sig=hunter2")]).unwrap_err();
    assert!(!pasted.contains("hunter2"), "{pasted}");
}

#[test]
fn the_rules_between_durations_are_checked() {
    let lease = read(&[("TABLE_TIMEOUT", "5s")]).unwrap_err();
    assert!(lease.starts_with("CACHE_LEASE_TTL=\"4s\" is not allowed"), "{lease}");
    assert!(lease.contains("at least TABLE_TIMEOUT, which is 5s"), "{lease}");
    assert!(read(&[("TABLE_TIMEOUT", "4s")]).is_ok());

    // 100ms + 3s + 2s
    let fence = read(&[("CACHE_FENCE_TTL", "5100ms")]).unwrap_err();
    assert!(fence.starts_with("CACHE_FENCE_TTL=\"5s 100ms\" is not allowed"), "{fence}");
    assert!(
        fence.contains(
            "longer than REDIS_TIMEOUT + CACHE_LOCAL_TTL + TABLE_TIMEOUT + 2s, which is 5s 100ms"
        ),
        "{fence}"
    );
    assert!(read(&[("CACHE_FENCE_TTL", "5101ms")]).is_ok());

    // 2 ms more, because the clocks of two machines may run at different rates
    let redis = ("REDIS_URL", "redis://localhost");
    let with_copies = |fence| read(&[redis, ("CACHE_LOCAL_TTL", "1s"), ("CACHE_FENCE_TTL", fence)]);
    let fence = with_copies("6102ms").unwrap_err();
    assert!(fence.contains("which is 6s 102ms"), "{fence}");
    assert!(with_copies("6103ms").is_ok());

    let local = read(&[redis, ("CACHE_LOCAL_TTL", "6s"), ("CACHE_TTL", "5s")]).unwrap_err();
    assert!(local.starts_with("CACHE_LOCAL_TTL=\"6s\" is not allowed"), "{local}");
    assert!(local.contains("at most CACHE_TTL"), "{local}");
}

#[test]
fn local_copies_need_redis() {
    let settings = read(&[("CACHE_LOCAL_TTL", "1s")]).unwrap();
    assert_eq!(settings.policy.local_ttl(), Duration::ZERO);
    assert_eq!(settings.warnings, ["CACHE_LOCAL_TTL has no effect without REDIS_URL"]);
    let settings = read(&[("CACHE_LOCAL_TTL", "1s"), ("REDIS_URL", "redis://localhost")]).unwrap();
    assert_eq!(settings.policy.local_ttl(), Duration::from_secs(1));
    assert!(settings.warnings.is_empty());
}

#[test]
fn an_unknown_cache_variable_causes_a_warning() {
    let settings = read(&[("CACHE_TLL", "10s"), ("CACHE_TTL", "5s"), ("PATH", "x")]).unwrap();
    assert_eq!(settings.warnings, ["CACHE_TLL is set, but is not a setting of the handler"]);
}

#[test]
fn keys_differ_by_account_and_table() {
    let prefix = |given: &[(&str, &str)]| read(given).unwrap().key_prefix;
    let azurite = ("USERS_TABLE_CONNECTION", "UseDevelopmentStorage=true");
    assert_eq!(prefix(&[azurite]), "devstoreaccount1:users:v1:");
    assert_eq!(prefix(&[azurite, ("USERS_TABLE_NAME", "People")]), "devstoreaccount1:people:v1:");
    assert_eq!(prefix(&[azurite, ("CACHE_KEY_PREFIX", "mine:")]), "mine:");
    assert_ne!(prefix(&[]), prefix(&[]), "each in-process store is a different table");
}

/// A row of the README's table.
fn readme_row(variable: &Variable) -> String {
    let default = match variable.default {
        IfUnset::Value(value) => format!("`{value}`"),
        IfUnset::Words(words) => words.to_owned(),
    };
    format!("| `{}` | {default} | {} | {} |", variable.name, variable.allowed, variable.meaning)
}

/// If it is not, replace the README's rows with those that this test prints.
#[test]
fn the_table_in_the_readme_is_the_one_in_the_code() {
    let rows: Vec<_> = VARIABLES.iter().map(|variable| readme_row(variable)).collect();
    let expected = rows.join("\n");
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&expected), "the README's table of settings is not this:\n{expected}");
}
