//! Load: wrk for HTTP, redis-benchmark for Redis.

use tokio::process::Command;

use crate::report::rounds;

/// Requests that are sent as fast as they are answered.
#[derive(Clone, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests: Requests,
    pub(crate) connections: usize,
    pub(crate) seconds: usize,
}

/// What is sent.
#[derive(Clone, PartialEq)]
pub(crate) enum Requests {
    /// GETs of this path, by wrk.
    Path { port: u16, path: String },
    /// GETs of one of this many users at random each time, by wrk with `spread.lua`.
    Spread { port: u16, users: usize },
    /// GETs of a key, by redis-benchmark.
    Redis { port: u16, key: String },
}

/// How fast requests were answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    pub(crate) per_second: f64,
    /// Half of the requests were answered within this time, in milliseconds.
    pub(crate) p50: f64,
    /// 99 of 100 requests were answered within this time, in milliseconds.
    pub(crate) p99: f64,
    /// How many were answered.
    pub(crate) requests: f64,
}

/// Measures each load once in each round, after a second of each kind of requests to warm up. Returns the
/// speeds of each load.
pub(crate) async fn in_turn(
    measurement: &'static str,
    number: usize,
    loads: &[Load],
) -> Vec<Vec<Speed>> {
    for (nth, load) in loads.iter().enumerate() {
        if !loads[..nth].iter().any(|earlier| earlier.requests == load.requests) {
            Load { seconds: 1, ..load.clone() }.run().await;
        }
    }
    let mut speeds = vec![Vec::new(); loads.len()];
    for _ in rounds(measurement, number) {
        for (load, speeds) in loads.iter().zip(&mut speeds) {
            speeds.push(load.run().await);
        }
    }
    speeds
}

impl Load {
    pub(crate) async fn run(&self) -> Speed {
        match &self.requests {
            Requests::Path { port, path } => self.wrk(&[&url(*port, path)]).await,
            Requests::Spread { port, users } => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/spread.lua");
                self.wrk(&["-s", script, &url(*port, "/"), "--", &users.to_string()]).await
            }
            Requests::Redis { port, key } => self.redis_benchmark(*port, key).await,
        }
    }

    async fn wrk(&self, arguments: &[&str]) -> Speed {
        let (connections, duration) = (self.connections.to_string(), format!("{}s", self.seconds));
        let mut all = vec!["-t1", "-c", &connections, "-d", &duration, "--latency"];
        all.extend(arguments);
        let output = run("wrk", &all).await;
        for failure in ["Non-2xx", "Socket errors"] {
            assert!(!output.contains(failure), "{output}");
        }
        parse_wrk(&output).unwrap_or_else(|| panic!("wrk: {output}"))
    }

    async fn redis_benchmark(&self, port: u16, key: &str) -> Speed {
        // It takes a number of requests and not a time: about as many as are answered in that time.
        let requests = self.seconds * (15_000 * self.connections).min(100_000);
        let [port, connections, number] =
            [port.into(), self.connections, requests].map(|number| number.to_string());
        let arguments = ["-p", &port, "-c", &connections, "-n", &number, "--csv", "GET", key];
        let output = run("redis-benchmark", &arguments).await;
        parse_csv(&output, requests as f64).unwrap_or_else(|| panic!("redis-benchmark: {output}"))
    }
}

/// The values of speeds, such as their rates.
pub(crate) fn values(speeds: &[Speed], value: impl Fn(&Speed) -> f64) -> Vec<f64> {
    speeds.iter().map(value).collect()
}

/// The rates of speeds.
pub(crate) fn rates(speeds: &[Speed]) -> Vec<f64> {
    values(speeds, |speed| speed.per_second)
}

fn url(port: u16, path: &str) -> String {
    format!("http://127.0.0.1:{port}{path}")
}

async fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output().await;
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn parse_wrk(output: &str) -> Option<Speed> {
    let words = || output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let value = |name: &str| words().find(|words| words.first() == Some(&name))?.get(1).copied();
    let requests = words().find(|words| words.get(1..3) == Some(&["requests", "in"]))?[0];
    Some(Speed {
        per_second: value("Requests/sec:")?.parse().ok()?,
        p50: parse_duration(value("50%")?)?,
        p99: parse_duration(value("99%")?)?,
        requests: requests.parse().ok()?,
    })
}

/// A duration as wrk prints it, in milliseconds.
fn parse_duration(text: &str) -> Option<f64> {
    for (unit, milliseconds) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return number.parse::<f64>().ok().map(|number| number * milliseconds);
        }
    }
    None
}

/// The columns are the test, the rate, and latencies: average, least, p50, p95, p99, most.
fn parse_csv(output: &str, requests: f64) -> Option<Speed> {
    let columns: Vec<f64> = output
        .lines()
        .nth(1)?
        .split("\",\"")
        .skip(1)
        .map(|text| text.trim_matches('"').parse().ok())
        .collect::<Option<_>>()?;
    Some(Speed { per_second: columns[0], p50: columns[3], p99: *columns.get(5)?, requests })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_wrk_is_parsed() {
        let output = "\
Running 2s test @ http://127.0.0.1:7071/api/live
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.85ms    1.02ms  20.67ms   96.24%
    Req/Sec    83.36k     3.95k   88.32k    90.00%
  Latency Distribution
     50%  712.00us
     75%    0.86ms
     90%    1.06ms
     99%    5.98ms
  165802 requests in 2.00s, 40.48MB read
Requests/sec:  82866.97
Transfer/sec:     20.23MB
";
        let speed = Speed { per_second: 82866.97, p50: 0.712, p99: 5.98, requests: 165_802.0 };
        assert_eq!(parse_wrk(output), Some(speed));
    }

    #[test]
    fn durations_of_wrk_are_milliseconds() {
        for (text, milliseconds) in [("712.00us", 0.712), ("5.98ms", 5.98), ("1.50s", 1500.0)] {
            assert_eq!(parse_duration(text), Some(milliseconds), "{text}");
        }
        assert_eq!(parse_duration("fast"), None);
    }

    #[test]
    fn the_output_of_redis_benchmark_is_parsed() {
        let output = r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"GET users:1","90909.09","0.378","0.120","0.367","0.511","0.823","3.103"
"#;
        let speed = Speed { per_second: 90909.09, p50: 0.367, p99: 0.823, requests: 7.0 };
        assert_eq!(parse_csv(output, 7.0), Some(speed));
    }
}
