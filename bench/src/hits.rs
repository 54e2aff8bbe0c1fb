//! Hits, beside a constant answer of the same server and Redis itself.

use std::process::Command;

use test_servers::{Azurite, Redis};

use crate::handler::{Handler, With};
use crate::report::median;

const CONNECTIONS: &str = "64";
const ROUNDS: usize = 5;
const SECONDS: &str = "3";

pub(crate) async fn measure() {
    println!(
        "Requests per second, {CONNECTIONS} connections, medians of {ROUNDS} rounds of {SECONDS} s in turn; ratio to a constant answer"
    );
    let (azurite, redis) = (Azurite::start(), Redis::start());
    let quiet = [("CACHE_TTL", "1h")];
    let logging = [("CACHE_TTL", "1h"), ("RUST_LOG", "info")];
    let on_redis = |settings| With { azurite: Some(&azurite), redis: Some(&redis), settings };
    let embedded = Handler::start(With { settings: &quiet, ..With::default() }).await;
    let quiet = Handler::start(on_redis(&quiet)).await;
    let logging = Handler::start(on_redis(&logging)).await;
    let rows: [(&str, Source); 5] = [
        ("a constant answer", Source::Url(format!("http://127.0.0.1:{}/api/live", quiet.port))),
        ("a hit in process", Source::Url(cached_user(&embedded).await)),
        ("a hit in Redis", Source::Url(cached_user(&quiet).await)),
        ("a hit in Redis, with its log line", Source::Url(cached_user(&logging).await)),
        ("Redis itself (redis-benchmark, GET)", Source::Redis(redis.port)),
    ];
    let mut rates: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        for ((_, source), rates) in rows.iter().zip(&mut rates) {
            rates.push(source.rate());
        }
    }
    let base = median(&rates[0]);
    for ((name, _), rates) in rows.iter().zip(&rates) {
        let (least, most) =
            rates.iter().fold((f64::MAX, 0.0_f64), |(a, b), &rate| (a.min(rate), b.max(rate)));
        let rate = median(rates);
        println!("{name:<36} {rate:8.0}/s ({least:.0} to {most:.0})  {:.2}", rate / base);
    }
    println!();
}

/// The URL of a user who is cached.
async fn cached_user(handler: &Handler) -> String {
    let mut client = handler.client().await;
    let path = client.create_users(1).await.remove(0);
    client.send("GET", &path).await.unwrap();
    format!("http://127.0.0.1:{}{path}", handler.port)
}

enum Source {
    Url(String),
    Redis(u16),
}

impl Source {
    /// Requests per second, in one round.
    fn rate(&self) -> f64 {
        match self {
            Source::Url(url) => {
                let duration = format!("-d{SECONDS}s");
                let output = run("wrk", &["-t1", "-c", CONNECTIONS, &duration, url]);
                assert!(!output.contains("Non-2xx"), "{output}");
                let rate = output.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
                rate.and_then(|rate| rate.trim().parse().ok()).expect("a rate")
            }
            Source::Redis(port) => {
                let port = port.to_string();
                let arguments = ["-p", &port, "-q", "-t", "get", "-c", CONNECTIONS, "-n", "200000"];
                let output = run("redis-benchmark", &arguments);
                let rate = output
                    .split(['\r', '\n'])
                    .rev()
                    .find_map(|line| line.strip_prefix("GET: ")?.split(' ').next()?.parse().ok());
                rate.expect("a rate")
            }
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
