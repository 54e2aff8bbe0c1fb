//! Load: wrk for HTTP, redis-benchmark for Redis.

use std::process::Command;

/// Reads that wrk sends.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) connections: usize,
    pub(crate) seconds: usize,
}

/// How fast requests were answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    pub(crate) per_second: f64,
    /// Half of the requests were answered within this time, in milliseconds.
    pub(crate) p50: f64,
    /// 99 of 100 requests were answered within this time, in milliseconds.
    pub(crate) p99: f64,
    pub(crate) requests: f64,
}

impl Load {
    pub(crate) fn run(&self) -> Speed {
        self.wrk(&[])
    }

    /// Reads one of the first `number` users of a series at random each time, by `spread.lua`.
    pub(crate) fn run_spread(&self, number: usize) -> Speed {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/spread.lua");
        self.wrk(&["-s", script, "--", &number.to_string()])
    }

    fn wrk(&self, script: &[&str]) -> Speed {
        let (connections, duration) = (self.connections.to_string(), format!("{}s", self.seconds));
        let url = format!("http://127.0.0.1:{}{}", self.port, self.path);
        let mut arguments = vec!["-t1", "-c", &connections, "-d", &duration, "--latency", &url];
        arguments.extend(script);
        let output = run("wrk", &arguments);
        for failure in ["Non-2xx", "Socket errors"] {
            assert!(!output.contains(failure), "{url}: {output}");
        }
        parse_wrk(&output).unwrap_or_else(|| panic!("{url}: {output}"))
    }
}

/// GETs of a key, with this many connections and for about this many seconds.
pub(crate) fn redis_benchmark(port: u16, key: &str, connections: usize, seconds: usize) -> Speed {
    // It takes a number of requests and not a time: 15,000 a second with one connection, up to 100,000
    // with more.
    let requests = seconds * (15_000 * connections).min(100_000);
    let [port, connections, number] =
        [port.into(), connections, requests].map(|number| number.to_string());
    let arguments = ["-p", &port, "-c", &connections, "-n", &number, "--csv", "GET", key];
    let output = run("redis-benchmark", &arguments);
    parse_csv(&output, requests as f64).unwrap_or_else(|| panic!("redis-benchmark: {output}"))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
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
