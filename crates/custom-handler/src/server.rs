//! The HTTP server: accepts connections within limits, and serves HTTP/1.1 on each.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::Handler;
use crate::connection::{Activity, WatchedStream};
use crate::router::{Request, answer};

/// The pause after a failed attempt to accept a connection. Such an attempt fails when the process or
/// the machine has no more file descriptors or memory, and would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The time without a failure after which accepting is said to work again. While descriptors are
/// scarce, some attempts succeed.
const RECOVERY: Duration = Duration::from_secs(5);

/// The largest head of a request, in bytes: the request line and all headers. A larger one is
/// answered with 431. Without this limit, each client could make the server buffer 400 KB.
const MAX_HEAD_LENGTH: usize = 64 * 1024;

/// What clients may use of the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// How many connections may be open at the same time. Further ones wait in the operating system's
    /// queue until one of them closes.
    pub connections: usize,
    /// The time in which the head of a request must arrive, from its first byte on. A connection that
    /// takes longer is closed.
    pub head_timeout: Duration,
    /// How long a connection may be open without a request, and how long a client may leave its
    /// responses unread. It must be longer than any client keeps idle connections in its pool, since
    /// otherwise the server could close a connection while a request is on its way. The Functions host
    /// keeps them for one minute: that is the
    /// [default](https://learn.microsoft.com/dotnet/api/system.net.http.socketshttphandler.pooledconnectionidletimeout)
    /// of .NET's client.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    /// 10,000 connections, 10 seconds for a head, and 2 minutes without a request.
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
        }
    }
}

/// Serves a handler until `stop` completes, then finishes the requests in progress, and returns what
/// `stop` returned.
pub async fn serve<T>(
    listener: TcpListener,
    handler: impl Handler,
    limits: Limits,
    stop: impl Future<Output = T>,
) -> T {
    let graceful = GracefulShutdown::new();
    let mut acceptor = Acceptor::new(listener, &limits);
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, permit) = tokio::select! {
            stopped = &mut stop => {
                drop(acceptor);
                graceful.shutdown().await;
                return stopped;
            }
            accepted = acceptor.accept() => accepted,
        };
        let activity = Activity::new();
        let stream = TokioIo::new(WatchedStream::new(stream, activity.clone(), &limits));
        let handler = handler.clone();
        let service = service_fn(move |request| {
            let in_progress = activity.begin_request();
            let handler = handler.clone();
            // Boxed, because hyper reserves space for this future as long as the connection is open.
            Box::pin(async move {
                let response = answer(handler, Request::from(request)).await;
                drop(in_progress);
                Ok::<_, Infallible>(response)
            })
        });
        let mut server = http1::Builder::new();
        // A call is completed although its client has disconnected, so there is no need to notice that
        // while it is in progress. To notice it, hyper would read into a second buffer.
        server.max_buf_size(MAX_HEAD_LENGTH).half_close(true);
        // Responses are small: to write them from one buffer is cheaper than from two.
        server.writev(false);
        let connection = graceful.watch(server.serve_connection(stream, service));
        tokio::spawn(connection.map(|result| {
            // An error is about a client that has gone away, was too slow, or does not speak HTTP.
            if let Err(error) = result {
                log::debug!("a connection failed: {error}");
            }
            drop(permit);
        }));
    }
}

/// Accepts connections, as many as may be open at the same time.
struct Acceptor {
    listener: TcpListener,
    limit: usize,
    permits: Arc<Semaphore>,
    /// When an attempt last failed, until accepting is said to work again.
    last_failure: Option<Instant>,
}

impl Acceptor {
    fn new(listener: TcpListener, limits: &Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.connections));
        Self { listener, limit: limits.connections, permits, last_failure: None }
    }

    /// The next connection, and its permit to be open. May be dropped: no connection is lost.
    async fn accept(&mut self) -> (TcpStream, OwnedSemaphorePermit) {
        let permit = self.permit().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if self.last_failure.is_some_and(|last| last.elapsed() > RECOVERY) {
                        self.last_failure = None;
                        log::info!("connections are accepted again");
                    }
                    return (stream, permit);
                }
                // The client has gone away already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if self.last_failure.replace(Instant::now()).is_none() {
                        log::error!("cannot accept connections: {error}");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        log::warn!("the limit of {} open connections is reached: further ones wait", self.limit);
        match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => std::future::pending().await, // the semaphore is never closed
        }
    }
}
