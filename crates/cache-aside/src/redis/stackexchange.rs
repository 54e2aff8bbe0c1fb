//! Connection strings of StackExchange.Redis, the .NET client, as the Azure portal shows them:
//! `name.redis.cache.windows.net:6380,password=…,ssl=True,abortConnect=False`
//! (<https://stackexchange.github.io/StackExchange.Redis/Configuration>).

use std::net::Ipv6Addr;

use redis::ConnectionInfo;

use super::url::{InvalidRedisUrl, server};

/// Options that concern the .NET client alone, obsolete ones included.
const IGNORED: &[&str] = &[
    "abortConnect",
    "allowAdmin",
    "asyncTimeout",
    "channelPrefix",
    "configChannel",
    "configCheckSeconds",
    "connectRetry",
    "connectTimeout",
    "defaults",
    "highIntegrity",
    "highPriorityThreads",
    "keepAlive",
    "maintNotifications",
    "maintPostEventRelaxed",
    "maintRelaxedTimeout",
    "maintRelaxedWindowMax",
    "name",
    "preserveAsyncOrder",
    "protocol",
    "resolveDns",
    "responseTimeout",
    "sentinelPassword",
    "sentinelUser",
    "setlib",
    // TLS is always version 1.2 or 1.3.
    "sslProtocols",
    "syncTimeout",
    "tcpKeepAlive",
    "tiebreaker",
    "topologyRefreshSeconds",
    "version",
    "writeBuffer",
];

/// Options that cannot be honoured and must not be ignored, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("proxy", "give the address of Redis itself"),
    ("serviceName", "give the sentinels as redis-sentinel://host:port/master"),
    ("sslHost", "the certificate must have the name of the host"),
    ("tunnel", "Redis must be reached directly"),
];

/// Azure's ports with TLS: 6380 of Azure Cache for Redis, 10000 of Azure Managed Redis.
const TLS_PORTS: [u16; 2] = [6380, 10000];

/// Reads a connection string with one endpoint. (StackExchange.Redis finds out by itself what several
/// endpoints are to each other; a cluster is given as several URLs.)
pub(super) fn parse(text: &str) -> Result<ConnectionInfo, InvalidRedisUrl> {
    let mut parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let (host, port) = parts.next().and_then(endpoint).ok_or(InvalidRedisUrl::Form)?;

    let (mut user, mut password, mut database) = (None, None, 0);
    let mut tls = TLS_PORTS.contains(&port);
    for part in parts {
        let (name, value) = part.split_once('=').ok_or(InvalidRedisUrl::UnknownOption)?;
        let (name, value) = (name.trim(), value.trim());
        let is = |option: &str| name.eq_ignore_ascii_case(option);
        if is("password") {
            password = Some(value);
        } else if is("user") {
            user = Some(value);
        } else if is("ssl") {
            tls = boolean("ssl", value)?;
        } else if is("defaultDatabase") {
            let expected = "a number from 0";
            let parsed = value.parse::<u32>();
            database = parsed
                .map_err(|_| InvalidRedisUrl::Value { option: "defaultDatabase", expected })?;
        } else if is("checkCertificateRevocation") {
            let option = "checkCertificateRevocation";
            if boolean(option, value)? {
                let instead = "set it to False, or leave it out";
                return Err(InvalidRedisUrl::Option { option, instead });
            }
        } else if let Some(&(option, instead)) = REFUSED.iter().find(|(option, _)| is(option)) {
            return Err(InvalidRedisUrl::Option { option, instead });
        } else if !IGNORED.iter().any(|option| is(option)) {
            return Err(InvalidRedisUrl::UnknownOption);
        }
    }

    let scheme = if tls { "rediss" } else { "redis" };
    let server = server(&format!("{scheme}://{host}:{port}/{database}"))?;
    let mut login = server.redis_settings().clone();
    // An empty value counts as none, as for StackExchange.Redis.
    if let Some(user) = user.filter(|user| !user.is_empty()) {
        login = login.set_username(user);
    }
    if let Some(password) = password.filter(|password| !password.is_empty()) {
        login = login.set_password(password);
    }
    Ok(server.set_redis_settings(login))
}

/// A host and a port. The port is required: any word would be a host without one, a password that was
/// pasted alone included.
fn endpoint(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_ipv6 = in_brackets.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    let is_host = |char: char| char.is_ascii_alphanumeric() || ".-_".contains(char);
    let is_valid = !host.is_empty() && (is_ipv6 || host.chars().all(is_host));
    is_valid.then_some((host, port.parse().ok()?))
}

fn boolean(option: &'static str, value: &str) -> Result<bool, InvalidRedisUrl> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(InvalidRedisUrl::Value { option, expected: "True or False" }),
    }
}

#[cfg(test)]
mod tests {
    use redis::ConnectionAddr;

    use super::*;

    fn is_tls(server: &ConnectionInfo) -> bool {
        matches!(server.addr(), ConnectionAddr::TcpTls { insecure: false, .. })
    }

    const EXAMPLES: &[&str] = &[
        "shop.redis.cache.windows.net:6380,password=a/b+c=,ssl=True,abortConnect=False",
        " redis:6379 , USER = ann,Password=x ,defaultDatabase=3,",
        "[::1]:10000,ssl=off,user=,password=hunter2",
        "a:6379,connectTimeout=5000,checkCertificateRevocation=false,serviceName=m",
        "[x]@[::1]:6379",
    ];

    /// The last value of an option, by the simplest reading of a connection string.
    fn option<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        let options = text.split(',').filter_map(|part| part.split_once('='));
        let mut named = options.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        named.next_back().map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    #[test]
    fn fuzz_a_server_has_what_the_connection_string_says() {
        fuzzing::check!(text, EXAMPLES, |text| {
            let Ok(server) = parse(text) else { return };
            let mut parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let (host, port) = parts.next().unwrap().rsplit_once(':').unwrap();
            let port: u16 = port.parse().unwrap();
            let (ConnectionAddr::Tcp(to, at) | ConnectionAddr::TcpTls { host: to, port: at, .. }) =
                server.addr()
            else {
                panic!("{:?}", server.addr())
            };
            match host.strip_prefix('[') {
                Some(ipv6) => {
                    let ipv6 = ipv6.strip_suffix(']').unwrap();
                    let parse = |text: &str| text.parse::<Ipv6Addr>().unwrap();
                    assert_eq!(parse(to), parse(ipv6));
                }
                None => assert_eq!(to, host),
            }
            assert_eq!(*at, port);

            let login = server.redis_settings();
            assert_eq!(login.username(), option(text, "user"));
            assert_eq!(login.password(), option(text, "password"));
            let database = option(text, "defaultDatabase").map_or(0, |it| it.parse().unwrap());
            assert_eq!(login.db(), database);
            let tls = match option(text, "ssl").map(str::to_ascii_lowercase).as_deref() {
                None => [6380, 10000].contains(&port),
                Some(value) => ["true", "yes", "on"].contains(&value),
            };
            assert_eq!(is_tls(&server), tls);
            let refused = ["proxy", "serviceName", "sslHost", "tunnel"];
            assert!(refused.iter().all(|name| option(text, name).is_none()));
        });
    }

    #[test]
    fn what_the_portal_shows_is_a_server_with_tls_and_a_password() {
        let cache =
            parse("shop.redis.cache.windows.net:6380,password=a/b+c=,ssl=True,abortConnect=False");
        let managed = parse(
            "shop.westeurope.redis.azure.net:10000,password=a/b+c=,ssl=True,abortConnect=False",
        );
        for (server, address) in [
            (cache.unwrap(), "shop.redis.cache.windows.net:6380"),
            (managed.unwrap(), "shop.westeurope.redis.azure.net:10000"),
        ] {
            assert_eq!(server.addr().to_string(), address);
            assert!(is_tls(&server));
            let login = server.redis_settings();
            assert_eq!((login.username(), login.password()), (None, Some("a/b+c=")));
        }
    }

    #[test]
    fn user_database_and_encryption_are_used() {
        let server = parse(" redis:6379 , USER = ann,Password=x ,defaultDatabase=3,").unwrap();
        let login = server.redis_settings();
        assert_eq!((login.username(), login.password()), (Some("ann"), Some("x")));
        assert_eq!(login.db(), 3);
        assert!(!is_tls(&server));
        for (text, tls) in [
            ("a:6379", false),
            ("a:6380", true),
            ("a:10000", true),
            ("a:10000,ssl=false", false),
            ("a:6379,ssl=yes", true),
            ("[::1]:6379,ssl=on", true),
        ] {
            assert_eq!(is_tls(&parse(text).unwrap()), tls, "{text}");
        }
        assert_eq!(parse("a:6380,password=").unwrap().redis_settings().password(), None);
    }

    #[test]
    fn options_of_the_net_client_are_ignored() {
        let text = "a:6379,connectTimeout=5000,SyncTimeout=1000,connectRetry=3,keepAlive=60,\
                    name=shop,allowAdmin=true,sslprotocols=tls12,checkCertificateRevocation=false";
        assert!(parse(text).is_ok());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (text, message) in [
            ("a:6379,serviceName=m", "option serviceName is not supported: give the sentinels"),
            ("a:6380,sslHost=b", "option sslHost is not supported: the certificate"),
            ("a:6379,proxy=Twemproxy", "option proxy is not supported"),
            ("a:6379,tunnel=http:b:1", "option tunnel is not supported"),
            ("a:6380,checkCertificateRevocation=True", "option checkCertificateRevocation"),
            ("a:6380,ssl=perhaps", "option ssl must be True or False"),
            ("a:6380,defaultDatabase=-1", "option defaultDatabase must be a number from 0"),
            ("a:6380,b:6380", "not an option of StackExchange.Redis"),
            ("a:6380,$GET=x", "not an option of StackExchange.Redis"),
            ("a,ssl=True", "expected redis://"),
            ("a:b", "expected redis://"),
            ("a:65536", "expected redis://"),
            (":6379", "expected redis://"),
            ("user:1@a:6379", "expected redis://"),
            ("[x]@[::1]:6379", "expected redis://"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
