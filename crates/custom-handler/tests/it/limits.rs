//! What clients may use of the server.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use custom_handler::testing::{eventually, free_port};
use custom_handler::{Limits, PORT_VARIABLE, serve};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::handler::Things;
use super::support::SOON;

/// Much longer than a test.
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(200);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn server(set: impl FnOnce(&mut Limits)) -> SocketAddr {
    let mut limits = Limits::default();
    set(&mut limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Things::default(), limits, std::future::pending::<()>()));
    address
}

/// Sends the rest of a request, and waits for the first bytes of the response.
async fn is_answered(stream: &mut TcpStream, rest: &[u8]) -> bool {
    stream.write_all(rest).await.unwrap();
    let mut response = [0; 12];
    stream.read_exact(&mut response).await.is_ok_and(|_| &response == b"HTTP/1.1 200")
        && drained(stream).await
}

/// Reads what has arrived.
async fn drained(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 4096];
    stream.read(&mut rest).await.is_ok_and(|length| length > 0)
}

async fn is_closed(mut stream: TcpStream) {
    let mut nothing = Vec::new();
    let closed = timeout(SOON, stream.read_to_end(&mut nothing)).await;
    // The end of the stream, or a reset if the client has written after it.
    assert!(closed.expect("the connection is closed").is_err() || nothing.is_empty());
}

#[tokio::test]
async fn a_connection_is_closed_when_a_head_takes_too_long_even_if_bytes_keep_arriving() {
    let address = server(|limits| {
        limits.head_timeout = SHORT;
        limits.idle_timeout = LONG;
    })
    .await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let drip = tokio::spawn(async move {
        write.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    timeout(SOON, drip).await.expect("the connection is closed").unwrap();
    drop(read);
    assert!(is_answered(&mut idle, REQUEST).await);
    // The second head begins after the first request has been answered.
    idle.write_all(b"GET").await.unwrap();
    is_closed(idle).await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_but_not_one_whose_request_is_in_progress() {
    let handler = Things::default();
    let waiting = handler.waiting();
    let mut limits = Limits::default();
    limits.head_timeout = LONG;
    limits.idle_timeout = SHORT;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, handler, limits, std::future::pending::<()>()));

    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /api/wait HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    waiting.begun.notified().await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(&REQUEST[..5]).await.unwrap();
    is_closed(TcpStream::connect(address).await.unwrap()).await; // never used
    let mut used = TcpStream::connect(address).await.unwrap();
    assert!(is_answered(&mut used, REQUEST).await);
    is_closed(used).await;

    assert!(is_answered(&mut slow, &REQUEST[5..]).await);
    waiting.may_end.notify_one();
    assert!(is_answered(&mut busy, b"").await);
}

#[tokio::test]
async fn a_connection_whose_client_does_not_read_is_closed() {
    let address = server(|limits| limits.idle_timeout = SHORT).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server stops reading when it cannot write, and then this client cannot write either.
    let requests = REQUEST.repeat(1000);
    let writes = async { while stream.write_all(&requests).await.is_ok() {} };
    timeout(SOON, writes).await.expect("the connection is closed");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let address = server(|_| {}).await;
    for (length, status) in [(32 * 1024, "200"), (128 * 1024, "431")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head =
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(length));
        let _ = stream.write_all(head.as_bytes()).await; // the server need not read all of it
        let mut response = [0; 12];
        stream.read_exact(&mut response).await.unwrap();
        assert_eq!(response[9..], *status.as_bytes(), "{length} bytes");
    }
}

#[tokio::test]
async fn a_connection_above_the_limit_waits_until_another_closes() {
    let address = server(|limits| limits.connections = 2).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(is_answered(&mut stream, REQUEST).await);
        open.push(stream);
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    third.write_all(REQUEST).await.unwrap();
    // The others are served meanwhile, as often as they like.
    for stream in &mut open {
        assert!(is_answered(stream, REQUEST).await);
    }
    let mut byte = [0];
    assert!(third.try_read(&mut byte).is_err(), "the third is answered before another closes");
    open.pop();
    assert!(timeout(SOON, is_answered(&mut third, b"")).await.expect("it is accepted"));
}

#[tokio::test]
async fn that_connections_cannot_be_accepted_is_logged_once() {
    let port = free_port();
    let log = NamedTempFile::new().unwrap();
    let [out, err] = [(); 2].map(|()| log.as_file().try_clone().unwrap());
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "ulimit -n 24 && exec \"$0\" --exact handler::program --nocapture"]);
    command.arg(std::env::current_exe().unwrap()).env(PORT_VARIABLE, port.to_string());
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let _handler = command.kill_on_drop(true).spawn().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    eventually(SOON, "the handler listens", async || TcpStream::connect(address).await.is_ok())
        .await;

    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    let logged = |text: &str| std::fs::read_to_string(&log).unwrap().matches(text).count();
    let failing = "cannot accept connections: Too many open files";
    eventually(SOON, "it is logged", async || logged(failing) > 0).await;
    // Several attempts fail meanwhile.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    clients.clear();
    let again = "connections are accepted again";
    eventually(SOON, "it works again", async || {
        let mut client = TcpStream::connect(address).await.unwrap();
        is_answered(&mut client, REQUEST).await && logged(again) > 0
    })
    .await;
    assert_eq!((logged(failing), logged(again)), (1, 1));
}
