//! Hits of a handler that exports spans and metrics, beside those of one that does not.

use std::io;

use test_servers::Redis;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};

use crate::effort::Effort;
use crate::load::{Load, Requests, in_turn, rates};
use crate::report::{Figure, Limit, Report};
use test_programs::program::{LONG, Program, With};
use test_programs::table::Table;

pub(crate) const NAME: &str = "telemetry";

const CONNECTIONS: usize = 64;

/// The settings of each handler, beside the receiver's address.
const SUBJECTS: [(&str, &[(&str, &str)]); 4] = [
    ("off", &[("OTEL_SDK_DISABLED", "true")]),
    ("on", &[]),
    ("metrics only", &[("OTEL_TRACES_SAMPLER", "always_off")]),
    ("every request traced", &[("OTEL_TRACES_SAMPLER", "always_on")]),
];

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let (number, seconds) = (effort.of(5, 3), effort.of(2, 1));
    let (table, redis, receiver) = (Table::start().await, Redis::start(), receiver().await);
    let endpoint = format!("http://127.0.0.1:{receiver}");
    let (mut running, mut loads) = (Vec::new(), Vec::new());
    for (_, settings) in SUBJECTS {
        let mut settings = settings.to_vec();
        settings.push(("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint));
        let with = With { ttl: LONG, settings: &settings, ..With::servers(&table, &redis) };
        let server = Program::Handler.start(with).await;
        let requests = Requests::Path { port: server.port, path: server.user_in_redis().await };
        loads.push(Load { requests, connections: CONNECTIONS, seconds });
        running.push(server);
    }
    let speeds = in_turn(NAME, number, &loads).await;
    let figure =
        |nth: usize| Figure::new("hits in Redis", "/s", SUBJECTS[nth].0, &rates(&speeds[nth]));
    let off = figure(0);
    let others = (1..SUBJECTS.len()).map(|nth| {
        let limit = (SUBJECTS[nth].0 == "on").then_some(Limit::RatioAtLeast(0.85));
        figure(nth).beside(&off).limit_if_any(limit)
    });
    let others: Vec<_> = others.collect();
    let title = format!(
        "{CONNECTIONS} connections, telemetry exported to a receiver that discards it; medians of {number} rounds of {seconds} s in turn (least and most)"
    );
    report.add(NAME, &title, [vec![off], others].concat());
}

/// Starts a receiver that discards what it gets, and returns its port.
async fn receiver() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // An error means that the handler has ended.
            tokio::spawn(async move { discard(BufStream::new(stream)).await });
        }
    });
    port
}

async fn discard(mut stream: BufStream<TcpStream>) -> io::Result<()> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let header = line.trim_end().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        }
        if header.is_empty() {
            stream.read_exact(&mut vec![0; length]).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
            stream.flush().await?;
        }
    }
}
