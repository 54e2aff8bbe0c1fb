//! Starting, restarting and stopping a handler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use custom_handler::testing::{Mode, eventually, free_port, spawn};
use custom_handler::{Limits, PORT_VARIABLE, serve};
use reqwest::Method;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::handler::{Things, behind_a_host};
use crate::modes::{example, example_binary};
use crate::support::{Client, SOON};

in_each_mode! {
    a_killed_handler_is_restarted_until_the_host_gives_up;
}

async fn a_killed_handler_is_restarted_until_the_host_gives_up(mode: Mode) {
    let (host, _root) = behind_a_host(mode).await;
    let client = Client::of(&host);
    for start in 2..=3 {
        host.signal("KILL").await;
        eventually(SOON, "the handler is back", async || {
            host.starts() == start && client.get("/api/things/x").await.status == 200
        })
        .await;
    }
    host.signal("KILL").await;
    eventually(SOON, "the host gives up", async || host.is_over()).await;
    assert_eq!(host.starts(), 3);
}

/// The host does not start a handler again that has ended with code 0, and each call would get a 500.
#[tokio::test]
async fn a_handler_that_is_terminated_is_started_again_by_its_host() {
    let host = example(Mode::Proxy).await;
    for start in 2..=5 {
        host.signal("TERM").await;
        eventually(SOON, "the handler is back", async || {
            host.starts() == start && Client::of(&host).get("/api/hello/Ada").await.status == 200
        })
        .await;
    }
    let stops = |(_, line): &(_, String)| line.contains("SIGTERM: finishing");
    eventually(SOON, "it says so", async || host.lines().iter().any(stops)).await;
}

#[tokio::test]
async fn a_handler_that_is_interrupted_ends_and_is_not_started_again() {
    let host = example(Mode::Proxy).await;
    host.signal("INT").await;
    eventually(SOON, "it ends", async || host.is_over()).await;
    assert_eq!(host.starts(), 1, "code 0 is not an error");
}

/// A host that is killed cannot end its handler. `sh` is the host here.
#[tokio::test]
async fn a_handler_ends_when_its_host_is_killed() {
    let port = free_port();
    let mut host = tokio::process::Command::new("sh");
    host.args(["-c", "\"$0\" & wait"]).arg(example_binary());
    let environment = BTreeMap::from([
        (PORT_VARIABLE.to_owned(), port.to_string()),
        ("FUNCTIONS_CUSTOMHANDLER_WORKER_ID".to_owned(), "w".to_owned()),
    ]);
    let (mut host, lines) = spawn(host, &environment);
    let logged = |text: &str| lines.lock().unwrap().iter().any(|(_, line)| line.contains(text));
    eventually(SOON, "the handler listens", async || logged("listening on")).await;
    host.kill().await.unwrap();
    eventually(SOON, "it notices", async || logged("the host has ended: finishing")).await;
    let address = ("127.0.0.1", port);
    eventually(SOON, "it ends", async || TcpStream::connect(address).await.is_err()).await;
}

/// Its body was read by the first attempt.
#[tokio::test]
async fn a_proxied_call_with_a_body_is_not_repeated_when_the_handler_dies() {
    let (host, _root) = behind_a_host(Mode::Proxy).await;
    let client = Client::of(&host);
    let call = tokio::spawn(async move { client.post("/api/once", "body").await });
    let holds = |(_, line): &(_, String)| line.contains("holds the call");
    eventually(SOON, "the call is in progress", async || host.lines().iter().any(holds)).await;
    host.signal("KILL").await;
    let answer = call.await.unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (500, ""));
    assert_eq!(host.lines().iter().filter(|line| holds(line)).count(), 1);
}

#[tokio::test]
async fn a_proxied_call_without_a_body_is_repeated_when_the_handler_dies() {
    let (host, _root) = behind_a_host(Mode::Proxy).await;
    let client = Client::of(&host);
    let call = tokio::spawn(async move { client.get("/api/once").await });
    let holding = || {
        let lines = host.lines();
        lines.into_iter().map(|(_, line)| line).find(|line| line.contains("holds the call"))
    };
    eventually(SOON, "the call is in progress", async || holding().is_some()).await;
    host.signal("KILL").await;
    let answer = call.await.unwrap();
    assert_eq!((answer.status, host.starts()), (200, 2));
    let id = answer.json()["invocation"].as_str().unwrap().to_owned();
    let line = holding().unwrap();
    assert!(line.contains(&format!(" invocation={id}")), "the same invocation as {line}");
}

#[tokio::test]
async fn a_request_in_progress_is_finished_before_the_server_ends() {
    let handler = Things::default();
    let waiting = handler.waiting();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, handler, Limits::default(), async {
        stopped.await.unwrap();
    }));
    let client = Client::new(format!("http://{address}"));
    let call = tokio::spawn(async move { client.get("/api/wait").await });
    waiting.begun.notified().await;

    stop.send(()).unwrap();
    eventually(SOON, "no connection is accepted", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    assert!(!server.is_finished());
    waiting.may_end.notify_one();
    assert_eq!(call.await.unwrap().status, 200);
    server.await.unwrap();
}

/// The server does not end before the call has: a write is not cut off by a client that goes away.
#[tokio::test]
async fn a_call_is_completed_although_its_client_has_disconnected() {
    let handler = Things::default();
    let waiting = handler.waiting();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(format!("http://{}", listener.local_addr().unwrap()));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, handler, Limits::default(), async {
        stopped.await.unwrap();
    }));
    let call = tokio::spawn(client.request(Method::GET, "/api/wait").send());
    waiting.begun.notified().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    stop.send(()).unwrap();

    waiting.may_end.notify_one();
    tokio::time::timeout(SOON, server).await.expect("the server ends").unwrap();
    // The call held its handler until it was completed.
    assert_eq!(Arc::strong_count(&waiting), 1);
    assert_eq!(waiting.ended.load(Ordering::SeqCst), 1);
}
