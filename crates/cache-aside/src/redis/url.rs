//! The address of Redis: one server, the seeds of a cluster, or the sentinels that know the master.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use super::stackexchange;

/// The port of sentinels.
const SENTINEL_PORT: u16 = 26379;

/// The addresses of Redis, including credentials. `Display` shows the hosts and ports only, and
/// `Debug` nothing.
///
/// It is parsed from one of these forms. In a URL, user names and passwords are percent-encoded.
///
/// | form | meaning |
/// | --- | --- |
/// | `redis://[user:password@]host[:port][/database]` | a server; `rediss://` for TLS |
/// | several of these, separated by commas | some nodes of a cluster |
/// | `redis-sentinel://[user:password@]host[:port][,host[:port]…]/master[/database]` | sentinels, which are asked for the server that is the master; `rediss-sentinel://` for TLS, both to the sentinels and to the servers |
/// | `host:port[,option=value…]` | a server, as a connection string of [StackExchange.Redis](https://stackexchange.github.io/StackExchange.Redis/Configuration), which the Azure portal shows |
///
/// **Sentinels.** The user and the password are those of the servers. If the sentinels require a
/// password as well, it follows as `?sentinel_password=…`, and a user as `sentinel_username`. The
/// same URL may begin with `redis+sentinel://` (as for redis-vl and Prefect), or have the master's
/// name behind a `#` as for Lettuce: `redis-sentinel://host/0#master`.
///
/// **StackExchange.Redis.** `password`, `user`, `ssl` and `defaultDatabase` are used. Without `ssl`,
/// the connection uses TLS on Azure's ports for it, 6380 and 10000. Options that would change how
/// the server is reached, or what is checked, are refused: `checkCertificateRevocation=True`,
/// `proxy`, `serviceName`, `sslHost` and `tunnel`. All others concern the .NET client alone and are
/// ignored; the timeouts among them, too, because
/// [`RedisOptions::timeout`](super::RedisOptions::timeout) is the bound on each step.
#[derive(Clone)]
pub struct RedisUrl(Topology);

/// How the addresses belong together.
#[derive(Clone)]
pub(super) enum Topology {
    Server(ConnectionInfo),
    /// Some nodes of a cluster.
    Cluster(Vec<ConnectionInfo>),
    Sentinels(Sentinels),
}

/// The sentinels that watch a server and its replicas.
#[derive(Clone)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<ConnectionInfo>,
    /// The name under which they know the master.
    pub(super) master: String,
    /// How to log in to the master, and its database.
    pub(super) login: RedisConnectionInfo,
}

impl RedisUrl {
    /// The accepted forms, for messages to the user.
    pub const FORMS: &str = "redis://[user:password@]host[:port][/database], or rediss:// for TLS; \
        several, separated by commas, are the seeds of a cluster; \
        redis-sentinel://[user:password@]host[:port],…/master[/database], or rediss-sentinel:// for \
        TLS; or what the Azure portal shows, host:port,password=…,ssl=True";

    /// Whether all connections use TLS.
    pub fn is_encrypted(&self) -> bool {
        self.addresses().iter().all(|one| matches!(one.addr(), ConnectionAddr::TcpTls { .. }))
    }

    /// Whether all addresses are on this machine.
    pub fn is_loopback(&self) -> bool {
        self.addresses().iter().map(host).all(|host| {
            let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        })
    }

    /// Whether the addresses are those of sentinels.
    pub fn is_sentinel(&self) -> bool {
        matches!(self.0, Topology::Sentinels(_))
    }

    pub(super) fn topology(&self) -> &Topology {
        &self.0
    }

    fn addresses(&self) -> &[ConnectionInfo] {
        match &self.0 {
            Topology::Server(server) => std::slice::from_ref(server),
            Topology::Cluster(seeds) => seeds,
            Topology::Sentinels(sentinels) => &sentinels.addresses,
        }
    }
}

fn host(address: &ConnectionInfo) -> &str {
    match address.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
        _ => "",
    }
}

/// The text is not a Redis address. Nothing of it is repeated in the message, because any part may
/// be one of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRedisUrl {
    /// It has none of the accepted forms.
    #[error("expected {}", RedisUrl::FORMS)]
    Form,
    /// A parameter of a URL of sentinels is unknown.
    #[error(
        "a redis-sentinel:// URL may have the parameters sentinel_username and sentinel_password only"
    )]
    Parameter,
    /// An option of a connection string is not one of StackExchange.Redis.
    #[error(
        "the connection string has a part that is not an option of StackExchange.Redis; a password \
         with a comma must be given in a rediss:// URL instead, as %2C"
    )]
    UnknownOption,
    /// An option of a connection string cannot be honoured.
    #[error("the option {option} is not supported: {instead}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// An option of a connection string has a value that is not allowed.
    #[error("the option {option} must be {expected}")]
    Value {
        /// Its name.
        option: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

impl FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRedisUrl> {
        let topology = match text.trim().split_once("://") {
            Some(("redis-sentinel" | "redis+sentinel", rest)) => {
                Topology::Sentinels(sentinels("redis", rest)?)
            }
            Some(("rediss-sentinel" | "rediss+sentinel", rest)) => {
                Topology::Sentinels(sentinels("rediss", rest)?)
            }
            Some(("redis" | "rediss", _)) => {
                match text.split(',').map(server).collect::<Result<Vec<_>, _>>()?.as_slice() {
                    [server] => Topology::Server(server.clone()),
                    seeds => Topology::Cluster(seeds.to_vec()),
                }
            }
            _ => Topology::Server(stackexchange::parse(text)?),
        };
        Ok(Self(topology))
    }
}

/// A server, or a node of a cluster.
pub(super) fn server(url: &str) -> Result<ConnectionInfo, InvalidRedisUrl> {
    let url = url.trim();
    let Some(("redis" | "rediss", rest)) = url.split_once("://") else {
        return Err(InvalidRedisUrl::Form);
    };
    refuse_control_characters(url)?;
    // With an @ here, the host, which is shown, is a part of a password that is not percent-encoded.
    // With a fragment, the client would not check certificates.
    if behind_authority(rest).contains(['@', '#']) {
        return Err(InvalidRedisUrl::Form);
    }
    let server = url.into_connection_info().map_err(|_| InvalidRedisUrl::Form)?;
    let is_database = server.redis_settings().db() >= 0;
    is_database.then_some(server).ok_or(InvalidRedisUrl::Form)
}

/// A URL is read without its tabs and line breaks. A password that has one would be another.
fn refuse_control_characters(text: &str) -> Result<(), InvalidRedisUrl> {
    match text.contains(char::is_control) {
        true => Err(InvalidRedisUrl::Form),
        false => Ok(()),
    }
}

/// What follows the login, the hosts and the ports.
fn behind_authority(rest: &str) -> &str {
    &rest[rest.find(['/', '?', '#']).unwrap_or(rest.len())..]
}

/// The parts of a URL behind `redis-sentinel://`. Since a URL has one host, each part is read from a
/// URL of its own.
fn sentinels(scheme: &str, rest: &str) -> Result<Sentinels, InvalidRedisUrl> {
    let (authority, tail) = rest.split_at(rest.len() - behind_authority(rest).len());
    refuse_control_characters(tail)?;
    // As in the URL of a server; a parameter may have one.
    if tail.split('?').next().is_some_and(|path| path.contains('@')) {
        return Err(InvalidRedisUrl::Form);
    }
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let tail = redis::parse_redis_url(&format!("redis://x{tail}")).ok_or(InvalidRedisUrl::Form)?;

    let mut path: Vec<_> = tail.path().split('/').filter(|part| !part.is_empty()).collect();
    if let Some(master) = tail.fragment() {
        path.insert(0, master);
    }
    let (master, database) = match path[..] {
        [master] => (master, "0"),
        [master, database] => (master, database),
        _ => return Err(InvalidRedisUrl::Form),
    };
    if !is_master(master) {
        return Err(InvalidRedisUrl::Form);
    }
    let login = server(&format!("{scheme}://{login}@x/{database}"))?.redis_settings().clone();

    let mut to_sentinels = RedisConnectionInfo::default();
    for (name, value) in tail.query_pairs() {
        to_sentinels = match &*name {
            "sentinel_username" => to_sentinels.set_username(value),
            "sentinel_password" => to_sentinels.set_password(value),
            _ => return Err(InvalidRedisUrl::Parameter),
        };
    }
    let sentinel = |host: &str| {
        let url = format!("{scheme}://{}", host.trim());
        let has_port = redis::parse_redis_url(&url).is_some_and(|url| url.port().is_some());
        let url = if has_port { url } else { format!("{url}:{SENTINEL_PORT}") };
        Ok(server(&url)?.set_redis_settings(to_sentinels.clone()))
    };
    let addresses = hosts.split(',').map(sentinel).collect::<Result<_, _>>()?;
    Ok(Sentinels { addresses, master: master.to_owned(), login })
}

/// Whether sentinels accept a name for a master: <https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel>.
/// Others may be a part of a password that is not percent-encoded.
fn is_master(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|char| char.is_ascii_alphanumeric() || ".-_".contains(char))
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Topology::Sentinels(sentinels) = &self.0 {
            write!(f, "{} of the sentinels ", sentinels.master)?;
        }
        for (at, address) in self.addresses().iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{}", address.addr())?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RedisUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn sentinels(text: &str) -> Sentinels {
        match parse(text).0 {
            Topology::Sentinels(sentinels) => sentinels,
            _ => panic!("{text} is not one of sentinels"),
        }
    }

    const EXAMPLES: &[&str] = &[
        "redis://user:hunter2@host:7/3",
        " redis://a:1/2 , rediss://user:p%40s%2Cs@[::1] ",
        "rediss://:x%20y@127.0.0.1:6380/0?protocol=resp3",
        "redis-sentinel://ann:p%40s@a:1, b,[::1]:3/mymaster/7?sentinel_username=eve&sentinel_password=x%2By%2C",
        "rediss+sentinel://a,b/7#mymaster",
        "host:7,user=ann,password=hunter2,ssl=True",
        "rediss://a#insecure",
        "redis://user:12/34@host",
        "redis-sentinel://user:12/34@a",
        "redis://a/-1",
    ];

    fn encoded(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02x}")).collect()
    }

    /// `user:password@` with each character encoded, which is right for any.
    fn encoded_login(login: &RedisConnectionInfo) -> String {
        match (login.username(), login.password()) {
            (None, None) => String::new(),
            (user, password) => {
                let encode = |text: Option<&str>| text.map(encoded).unwrap_or_default();
                format!("{}:{}@", encode(user), encode(password))
            }
        }
    }

    /// A host and a port as in a URL.
    fn authority(address: &ConnectionInfo) -> String {
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
            address.addr()
        else {
            panic!("{:?}", address.addr())
        };
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// The address once more, by the table in the documentation of [`RedisUrl`].
    fn written(url: &RedisUrl) -> String {
        let s = if url.is_encrypted() { "s" } else { "" };
        let server = |one: &ConnectionInfo| {
            let s = if matches!(one.addr(), ConnectionAddr::TcpTls { .. }) { "s" } else { "" };
            let login = one.redis_settings();
            let protocol = format!("{:?}", login.protocol()).to_lowercase();
            let (user, host, db) = (encoded_login(login), authority(one), login.db());
            format!("redis{s}://{user}{host}/{db}?protocol={protocol}")
        };
        match &url.0 {
            Topology::Server(one) => server(one),
            Topology::Cluster(seeds) => seeds.iter().map(server).collect::<Vec<_>>().join(","),
            Topology::Sentinels(Sentinels { addresses, master, login }) => {
                let hosts: Vec<_> = addresses.iter().map(authority).collect();
                let to_sentinels = addresses[0].redis_settings();
                let (user, db, hosts) = (encoded_login(login), login.db(), hosts.join(","));
                let parameters = [
                    ("sentinel_username", to_sentinels.username()),
                    ("sentinel_password", to_sentinels.password()),
                ];
                let parameters: Vec<_> = parameters
                    .iter()
                    .filter_map(|(name, value)| {
                        value.map(|value| format!("{name}={}", encoded(value)))
                    })
                    .collect();
                let parameters = parameters.join("&");
                format!("redis{s}-sentinel://{user}{hosts}/{master}/{db}?{parameters}")
            }
        }
    }

    fn parts(url: &RedisUrl) -> (String, Vec<String>) {
        let login = |login: &RedisConnectionInfo| {
            format!("{:?} {:?} {}", login.username(), login.password(), login.db())
        };
        let mut logins: Vec<_> =
            url.addresses().iter().map(|one| login(one.redis_settings())).collect();
        if let Topology::Sentinels(sentinels) = &url.0 {
            logins.push(login(&sentinels.login));
        }
        (url.to_string(), logins)
    }

    /// What an address connects to is what it shows, with certificates that are checked; written again, it
    /// is the same; and what stands before the last `@` of a part, as a password does, is not shown.
    #[test]
    fn fuzz_an_address_is_what_it_shows_and_is_read_again_as_written() {
        fuzzing::check!(text, EXAMPLES, |text| {
            let url = match text.parse::<RedisUrl>() {
                Ok(url) => url,
                Err(error) => {
                    let message = error.to_string();
                    let rules = ["expected ", "must ", "may have ", " is not supported: "];
                    return assert!(rules.iter().any(|rule| message.contains(rule)), "{message}");
                }
            };
            assert_eq!(format!("{url:?}"), "***");
            for address in url.addresses() {
                let is_checked =
                    !matches!(address.addr(), ConnectionAddr::TcpTls { insecure: true, .. });
                assert!(is_checked, "certificates are not checked");
                assert!(address.redis_settings().db() >= 0);
                assert!(!host(address).is_empty());
            }
            if url.is_loopback() {
                let loopback = |host: &str| {
                    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
                };
                assert!(url.addresses().iter().all(|one| loopback(host(one))));
            }
            let again: RedisUrl =
                written(&url).parse().unwrap_or_else(|error| panic!("{}: {error}", written(&url)));
            assert_eq!(parts(&again), parts(&url));
            assert_eq!(written(&again), written(&url));

            // The last @, but for one in a parameter, ends the login.
            let is_sentinel = url.is_sentinel();
            for part in text.trim().split(if is_sentinel { "\0" } else { "," }) {
                let part = part.split('?').next().unwrap_or_default();
                let Some((login, shown)) = part.rsplit_once('@') else { continue };
                let Some((scheme, login)) = login.split_once("://") else { continue };
                if scheme.contains([':', '=']) {
                    continue; // an option of a connection string
                }
                assert!(!login.contains(['/', '#']), "{url} shows a part of a password");
                let master = shown.split('/').nth(1).unwrap_or_default();
                let is_behind_hash = text.contains('#');
                let has_dot_segments = shown.contains("/.") || shown.contains("/%2");
                if is_sentinel && !is_behind_hash && !has_dot_segments {
                    assert!(url.to_string().starts_with(master));
                }
            }
        });
    }

    #[test]
    fn one_address_is_a_server_and_several_are_seeds_of_a_cluster() {
        let url = parse(" redis://a:1/2 , rediss://user:secret@b ");
        assert!(matches!(&url.0, Topology::Cluster(seeds) if seeds.len() == 2));
        assert!(!url.is_encrypted());
        let url = parse("rediss://a");
        assert!(matches!(url.0, Topology::Server(_)));
        assert!(url.is_encrypted());
    }

    #[test]
    fn sentinels_have_hosts_a_master_and_a_database() {
        let url = "redis-sentinel://a:1, b,[::1]:3/mymaster/7";
        assert_eq!(parse(url).to_string(), "mymaster of the sentinels a:1, b:26379, ::1:3");
        assert!(parse(url).is_sentinel() && !parse(url).is_encrypted());
        assert_eq!(sentinels(url).login.db(), 7);
        assert_eq!(sentinels("redis-sentinel://a/mymaster").login.db(), 0);
        assert!(parse("rediss-sentinel://a,b/mymaster").is_encrypted());

        for lettuce in ["redis-sentinel://a,b/7#mymaster", "redis+sentinel://a,b/mymaster/7"] {
            assert_eq!(parse(lettuce).to_string(), "mymaster of the sentinels a:26379, b:26379");
            assert_eq!(sentinels(lettuce).login.db(), 7);
        }
        assert_eq!(sentinels("redis-sentinel://a,b#mymaster").master, "mymaster");
    }

    #[test]
    fn a_url_of_a_server_that_is_not_one_is_refused() {
        for text in [
            "redis://a/-1",
            "redis://a/x",
            "rediss://a#insecure",
            "redis://a#x",
            "redis://user:12/34@host",
            "redis://user:12#34@host",
            "redis://user:12?34@host",
            "redis://user:12\t34@host",
            "redis://ho\nst",
        ] {
            assert_eq!(text.parse::<RedisUrl>().unwrap_err(), InvalidRedisUrl::Form, "{text}");
        }
    }

    #[test]
    fn servers_and_sentinels_have_passwords_of_their_own() {
        let url = sentinels(
            "redis-sentinel://ann:p%40s%2Cs@a,b/m?sentinel_username=eve&sentinel_password=x%2By%2C",
        );
        assert_eq!((url.login.username(), url.login.password()), (Some("ann"), Some("p@s,s")));
        for sentinel in &url.addresses {
            let login = sentinel.redis_settings();
            assert_eq!((login.username(), login.password()), (Some("eve"), Some("x+y,")));
        }
        let url = sentinels("redis-sentinel://:secret@a/m");
        assert_eq!((url.login.username(), url.login.password()), (None, Some("secret")));
        assert_eq!(url.addresses[0].redis_settings().password(), None);
    }

    #[test]
    fn an_incomplete_url_of_sentinels_is_refused() {
        for text in [
            "redis-sentinel://a,b",
            "redis-sentinel://a,b/",
            "redis-sentinel://a,b/m/x",
            "redis-sentinel://a,b/m/0/1",
            "redis-sentinel://a,/m",
            "redis-sentinel://a:b/m",
            "redis-sentinel:///m",
            "redis-sentinel://a,redis://b/m",
            "redis-sentinel://a/m/-1",
            "redis-sentinel://a/0#",
            "redis-sentinel://:a\tb@a/m",
            "redis-sentinel://a/m?sentinel_password=a\nb",
            "redis-sentinel://user:12/34@a",
            "redis-sentinel://user:12/34@a/m",
            "redis-sentinel://user/@/..#m",
        ] {
            assert_eq!(text.parse::<RedisUrl>().unwrap_err(), InvalidRedisUrl::Form, "{text}");
        }
        let unknown = "redis-sentinel://a/m?password=hunter2".parse::<RedisUrl>().unwrap_err();
        assert_eq!(unknown, InvalidRedisUrl::Parameter);
    }

    #[test]
    fn loopback_addresses_are_recognised() {
        let is_loopback = |text: &str| parse(text).is_loopback();
        for text in [
            "redis://localhost",
            "redis://127.0.0.1:1",
            "rediss://[::1]",
            "redis://127.9.9.9",
            "redis-sentinel://127.0.0.1,localhost/m",
            "localhost:6379",
        ] {
            assert!(is_loopback(text), "{text}");
        }
        for text in [
            "redis://redis",
            "redis://10.0.0.1",
            "redis://localhost,redis://b",
            "redis-sentinel://localhost,b/m",
            "redis:6379",
        ] {
            assert!(!is_loopback(text), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for (text, shown) in [
            ("redis://user:hunter2@host:7,redis://b", "host:7, b:6379"),
            (
                "redis-sentinel://:hunter2@a/m?sentinel_password=hunter2",
                "m of the sentinels a:26379",
            ),
            ("host:7,password=hunter2", "host:7"),
        ] {
            assert_eq!(parse(text).to_string(), shown);
            assert!(!format!("{:?}", parse(text)).contains("hunter2"));
        }
        for text in [
            "",
            "hunter2",
            "http://user:hunter2@host",
            "redis://a,hunter2",
            "redis-sentinel://:hunter2@a,b",
            "redis-sentinel://a/m?hunter2=hunter2",
            "user:hunter2@host:7",
            "host:hunter2",
            "host:7,hunter2",
            "host:7,password=a,hunter2=b",
            "host:7,ssl=hunter2",
            "host:7,serviceName=hunter2",
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
