//! Starting, restarting and stopping a handler.

use custom_handler::serve;
use custom_handler::testing::{Mode, eventually};
use reqwest::Method;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::handler::{Things, behind_a_host};
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

#[tokio::test]
async fn a_stopped_handler_ends_with_success_and_stays_down() {
    let (host, _root) = behind_a_host(Mode::Proxy).await;
    host.signal("TERM").await;
    eventually(SOON, "it has ended", async || host.is_over()).await;
    assert_eq!(host.starts(), 1, "code 0 is not an error");
    let stops = |(_, line): &(_, String)| line.contains("said that it stops: SIGTERM");
    eventually(SOON, "it says so", async || host.lines().iter().any(stops)).await;
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
    let server = tokio::spawn(serve(listener, handler, async {
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

/// The client's disconnection is certain to be noticed: the server ends although the call has not.
#[tokio::test]
async fn a_call_is_completed_although_its_client_has_disconnected() {
    let handler = Things::default();
    let waiting = handler.waiting();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(format!("http://{}", listener.local_addr().unwrap()));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, handler, async {
        stopped.await.unwrap();
    }));
    let call = tokio::spawn(client.request(Method::GET, "/api/wait").send());
    waiting.begun.notified().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    stop.send(()).unwrap();
    tokio::time::timeout(SOON, server).await.expect("the connection has ended").unwrap();

    // The call still waits, and holds its handler until it is completed.
    assert_eq!(std::sync::Arc::strong_count(&waiting), 2);
    waiting.may_end.notify_one();
    eventually(SOON, "the call is completed", async || std::sync::Arc::strong_count(&waiting) == 1)
        .await;
}
