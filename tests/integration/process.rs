//! The handler as a process: its start, its end, and misbehaving clients.

use std::time::Duration;

use crate::support::connection_string;
use crate::support::handler::Handler;
use crate::support::{Azurite, Redis, eventually, fresh_table};
use reqwest::Method;
use test_programs::table_proxy::{Call, Fate, Proxy};
use test_programs::tcp_proxy::{Route, TcpProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[tokio::test]
async fn it_answers_although_redis_and_the_table_cannot_be_reached() {
    // One server that does not exist, and one that accepts connections and never answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let silent = silent.local_addr().unwrap().port();
    for (redis, table) in [(1, silent), (silent, 1)] {
        let handler = Handler::start(&[
            ("REDIS_URL", format!("redis://127.0.0.1:{redis}")),
            ("USERS_TABLE_CONNECTION", connection_string(table)),
            ("TABLE_TIMEOUT", "300ms".to_owned()),
        ])
        .await;
        assert_eq!(handler.client.get("/api/live").await.status, 200);
        assert_eq!(handler.client.get("/api/health").await.status, 503);
        let user = handler.client.get("/api/users/01KB584F3Y9AF31621Q7N62Q67").await;
        assert_eq!(user.status, 503);
    }
}

#[tokio::test]
async fn a_bad_setting_stops_the_start_with_one_line() {
    let mut handler = Handler::spawn(&[("CACHE_TTL", "soon".to_owned())]);
    assert_eq!(handler.ended().await.code(), Some(1));
    eventually(Duration::from_secs(5), "its line", || async {
        !handler.lines.lock().unwrap().is_empty()
    })
    .await;
    let lines = handler.lines.lock().unwrap().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].1.contains("CACHE_TTL=\"soon\" is not allowed: it must be a duration"));
}

#[tokio::test]
async fn servers_on_this_machine_that_do_not_answer_are_named_with_the_command_that_starts_them() {
    let handler = Handler::start(&[
        ("REDIS_URL", "redis://127.0.0.1:1".to_owned()),
        ("USERS_TABLE_CONNECTION", connection_string(1)),
        ("TABLE_TIMEOUT", "300ms".to_owned()),
    ])
    .await;
    for server in ["Redis at 127.0.0.1:1 does not", "the table at http://127.0.0.1:1/"] {
        let line = handler.line_with(server).await;
        assert!(line.contains("`make up` starts Redis and Azurite"), "{line}");
    }
}

#[tokio::test]
async fn the_command_line_describes_itself_and_refuses_the_rest() {
    let run = async |arguments: &[&str]| {
        let mut handler = tokio::process::Command::new(env!("CARGO_BIN_EXE_handler"));
        let output = handler.args(arguments).env("CACHE_TTL", "soon").output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, help, _) = run(&["--help"]).await;
    assert_eq!(code, Some(0));
    assert!(help.contains("\n  CACHE_TTL\n") && help.contains("a duration from 100ms to 24h"));
    let (code, version, _) = run(&["--version"]).await;
    assert_eq!(code, Some(0));
    let (name, commit) = version.trim().split_once(" (").expect("a commit");
    assert_eq!(name, format!("handler {}", env!("CARGO_PKG_VERSION")));
    assert!(commit.len() > 7, "{version}");
    let (code, _, error) = run(&["--check"]).await;
    assert_eq!((code, error.lines().count()), (Some(1), 1), "{error}");
    assert!(error.contains("CACHE_TTL=\"soon\" is not allowed") && error.contains("such as 10s"));
    let (code, _, error) = run(&["--port", "80"]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("\"--port\"") && error.contains("--help"), "{error}");
}

/// A single read that Redis made slow is visible, although Redis does not count as failing yet.
#[tokio::test]
async fn the_line_of_a_request_says_how_the_cache_behaved() {
    let redis = Redis::start();
    let line = TcpProxy::in_front_of(redis.port).await;
    let handler = Handler::start(&[
        ("REDIS_URL", format!("redis://127.0.0.1:{}", line.port)),
        ("REDIS_TIMEOUT", "1s".to_owned()),
    ])
    .await;
    handler.line_with("connected to Redis").await;
    let path = handler.client.create("Ann").await;
    let read = async |expected: &str| {
        assert_eq!(handler.client.get(&path).await.status, 200);
        handler.line_with(expected).await
    };
    let of_read = "request: GET /api/users/{id} 200";
    read(&format!("{of_read} source=table cache=miss,stored ms=")).await;
    read(&format!("{of_read} source=redis cache=hit ms=")).await;
    line.set(Route::Hung);
    read(&format!("{of_read} source=table cache=bypass,cache-unavailable ms=")).await;
    assert!(!handler.logged("is failing"));
    assert!(handler.logged("request: POST /api/users 201 ms="));
}

#[tokio::test]
async fn a_port_that_is_in_use_is_reported() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let binary = env!("CARGO_BIN_EXE_handler");
    let output = tokio::process::Command::new(binary)
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("choose another FUNCTIONS_CUSTOMHANDLER_PORT"), "{error}");
}

#[tokio::test]
async fn when_stopped_it_finishes_the_requests_in_progress() {
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    for signal in ["TERM", "INT"] {
        let mut handler = Handler::start(&[
            ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
            ("USERS_TABLE_NAME", fresh_table()),
        ])
        .await;
        let path = handler.client.create("Ann").await;
        let (mut in_progress, client) = (JoinSet::new(), handler.client.clone());
        proxy.forget();
        proxy.decide(|call| match call.path.contains("/t") {
            true => Fate::Delay(Duration::from_millis(500)),
            false => Fate::Pass,
        });
        for call in 0..20 {
            let (client, path) = (client.clone(), path.clone());
            in_progress.spawn(async move {
                match call % 2 {
                    0 => client.get(&path).await.status,
                    _ => client.post("/api/users", "").await.status,
                }
            });
        }
        eventually(Duration::from_secs(10), "they are in progress", || async {
            proxy.count(|call| call.method == Method::POST) == 10 && proxy.count(Call::is_read) > 0
        })
        .await;
        handler.signal(signal);
        assert_eq!(handler.ended().await.code(), Some(0));
        while let Some(status) = in_progress.join_next().await {
            assert!([200, 201].contains(&status.unwrap()));
        }
        proxy.decide(|_| Fate::Pass);
        let late = client.request(Method::GET, "/api/live");
        assert!(client.try_send(late).await.is_err(), "it does not listen any more");
    }
}

/// The handler is killed under traffic again and again: no write that was answered is lost, and no old
/// value is returned afterwards.
#[tokio::test]
async fn killed_many_times_it_loses_no_answered_write() {
    let (redis, azurite) = (Redis::start(), Azurite::shared());
    let shared = [
        ("REDIS_URL", redis.url()),
        ("USERS_TABLE_CONNECTION", azurite.connection_string()),
        ("USERS_TABLE_NAME", fresh_table()),
    ];
    let mut answered = Vec::<(String, String)>::new();
    for round in 0..10 {
        let mut handler = Handler::start(&shared).await;
        let mut writers = JoinSet::new();
        for writer in 0..4 {
            let client = handler.client.clone();
            writers.spawn(async move {
                let mut done = Vec::new();
                for turn in 0..1000 {
                    let name = format!("{round}-{writer}-{turn}");
                    let create = client.request(Method::POST, "/api/users");
                    let create =
                        crate::support::client::json(create, format!(r#"{{"name":"{name}"}}"#));
                    let Ok(created) = client.try_send(create).await else { break };
                    let path = created.header("location").to_owned();
                    let rename = client.request(Method::PATCH, &path);
                    let rename =
                        crate::support::client::json(rename, format!(r#"{{"name":"{name}!"}}"#));
                    // A read in between, so that there is an entry that could become stale.
                    let _ = client.try_send(client.request(Method::GET, &path)).await;
                    match client.try_send(rename).await {
                        Ok(renamed) if renamed.status == 200 => {
                            done.push((path, format!("{name}!")))
                        }
                        _ => break,
                    }
                }
                done
            });
        }
        tokio::time::sleep(Duration::from_millis(60 + 17 * round)).await;
        handler.signal("KILL");
        handler.ended().await;
        while let Some(done) = writers.join_next().await {
            answered.extend(done.unwrap());
        }
    }
    assert!(answered.len() > 20, "there was traffic: {}", answered.len());
    let handler = Handler::start(&shared).await;
    for (path, name) in &answered {
        let read = handler.client.get(path).await;
        assert_eq!((read.status, &read.name()), (200, name), "{read:?}");
    }
}

/// Hundreds of slow, half-open or idle clients.
#[tokio::test]
async fn slow_clients_do_not_delay_others() {
    let handler = Handler::start(&[]).await;
    let mut slow_clients = Vec::new();
    for kind in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", handler.port)).await.unwrap();
        let sent: &[u8] = match kind % 3 {
            0 => b"",
            1 => b"GET /api/live HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            _ => b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"na",
        };
        stream.write_all(sent).await.unwrap();
        slow_clients.push(stream);
    }
    let path = handler.client.create("Ann").await;
    for _ in 0..100 {
        assert_eq!(handler.client.get(&path).await.status, 200);
    }
    // A slow client that completes its request within ten seconds is answered.
    let mut slow = slow_clients.swap_remove(2);
    slow.write_all(&[b"me\":\"Bea\"}", &b" ".repeat(86)[..]].concat()).await.unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
}

/// Otherwise the call would exceed the host's `functionTimeout`, and the host would restart the handler.
#[tokio::test]
async fn a_body_that_does_not_end_times_out() {
    let handler = Handler::start(&[]).await;
    // As a request, and as an invocation payload, whose refusal the host turns into a 500.
    let half_a_request = async |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", handler.port)).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{\"na");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let answered =
            tokio::time::timeout(Duration::from_secs(60), stream.read_exact(&mut answer));
        answered.await.expect("an answer").unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answers = tokio::join!(half_a_request("/api/users"), half_a_request("/users-create"));
    assert_eq!(answers, ("HTTP/1.1 408".to_owned(), "HTTP/1.1 400".to_owned()));
}

/// Not even the content of a row that cannot be read.
#[tokio::test]
async fn the_content_of_a_row_is_never_logged() {
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    let handler = Handler::start(&[
        ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
        ("USERS_TABLE_NAME", fresh_table()),
        ("RUST_LOG", "trace".to_owned()),
    ])
    .await;
    let path = handler.client.create("Ada Hunter2").await;
    handler.client.get(&path).await;
    let row = r#"{"odata.metadata":"x","PartitionKey":"user","RowKey":"x","Name":5551234}"#;
    proxy.decide(move |call| if call.is_read() { Fate::Answer(200, row) } else { Fate::Pass });
    let other = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    assert_eq!(handler.client.get(other).await.status, 500);
    eventually(Duration::from_secs(10), "the failure is logged", || async {
        let lines = handler.lines.lock().unwrap();
        lines.iter().any(|(_, line)| line.contains("cannot be read"))
    })
    .await;
    let lines = handler.lines.lock().unwrap().clone();
    for secret in ["5551234", "Hunter2"] {
        assert!(!lines.iter().any(|(_, line)| line.contains(secret)), "{secret}: {lines:#?}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let handler = Handler::start(&[]).await;
    let mut paths = Vec::new();
    for name in 0..20 {
        paths.push(handler.client.create(&format!("user {name}")).await);
    }
    let mut stream = TcpStream::connect(("127.0.0.1", handler.port)).await.unwrap();
    let (last, first) = paths.split_last().unwrap();
    let mut requests: String =
        first.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    requests.push_str(&format!("GET {last} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let names: Vec<_> = answers.split("\"Name\":\"").skip(1).collect();
    assert_eq!(names.len(), 20);
    for (number, name) in names.iter().enumerate() {
        assert!(name.starts_with(&format!("user {number}\"")), "{name}");
    }
}

/// A shared access signature is part of the URL, which HTTP clients repeat in their errors.
#[tokio::test]
async fn a_signature_is_never_logged() {
    let handler = Handler::start(&[
        (
            "USERS_TABLE_CONNECTION",
            "AccountName=a;SharedAccessSignature=sv=1&sig=hunter2;TableEndpoint=http://127.0.0.1:1"
                .to_owned(),
        ),
        ("TABLE_TIMEOUT", "300ms".to_owned()),
        ("RUST_LOG", "trace".to_owned()),
    ])
    .await;
    let failed = handler.client.post("/api/users", "").await;
    assert_eq!(failed.status, 503);
    assert!(!failed.text.contains("hunter2"));
    eventually(Duration::from_secs(10), "the failure is logged", || async {
        let lines = handler.lines.lock().unwrap();
        lines.iter().any(|(_, line)| line.contains("Connection refused"))
    })
    .await;
    let lines = handler.lines.lock().unwrap().clone();
    assert!(!lines.iter().any(|(_, line)| line.contains("hunter2")), "{lines:#?}");
}
