//! A connection that fails when its client is too slow, or has sent no request for too long.
//!
//! hyper has one time limit for both: it starts when the server begins to wait for a request. Here a
//! connection without a request may stay open for longer than a head may take.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::server::Limits;

/// What a connection is doing. Shared by its stream, which sees the bytes that arrive, and by its
/// service, which sees the requests that they make. (HTTP/1.1 answers one after the other.)
#[derive(Clone)]
pub(crate) struct Activity(Arc<Mutex<Phase>>);

#[derive(Clone, Copy)]
enum Phase {
    /// No request has begun to arrive since this time.
    Idle(Instant),
    /// The head of a request began to arrive at this time.
    Head(Instant),
    /// A request is in progress. Its handler decides how long it may take.
    Request,
}

/// A request in progress, until it is dropped.
pub(crate) struct InProgress(Activity);

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Phase::Idle(Instant::now()))))
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin_request(&self) -> InProgress {
        *self.phase() = Phase::Request;
        InProgress(self.clone())
    }

    fn bytes_arrived(&self) {
        let mut phase = self.phase();
        if let Phase::Idle(_) = *phase {
            *phase = Phase::Head(Instant::now());
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        *self.0.phase() = Phase::Idle(Instant::now());
    }
}

/// A stream whose reads and writes fail with [`io::ErrorKind::TimedOut`] when a limit is exceeded.
pub(crate) struct WatchedStream {
    stream: TcpStream,
    activity: Activity,
    head_timeout: Duration,
    idle_timeout: Duration,
    /// Wakes the task when a limit may have been exceeded. Moving a timer costs more than looking at
    /// the clock when it fires, so it is moved only when it would fire too late.
    timer: Pin<Box<Sleep>>,
}

impl WatchedStream {
    pub(crate) fn new(stream: TcpStream, activity: Activity, limits: &Limits) -> Self {
        let &Limits { head_timeout, idle_timeout, .. } = limits;
        let timer = Box::pin(sleep(idle_timeout));
        Self { stream, activity, head_timeout, idle_timeout, timer }
    }

    /// What a read or a write returns: its own result, or that a limit is exceeded while it waits. A
    /// write waits if the client does not read its responses; it has the time of an idle connection.
    fn within_limits<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_exceeded(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Waits until a limit is exceeded.
    fn poll_exceeded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match *self.activity.phase() {
            Phase::Idle(since) => since + self.idle_timeout,
            Phase::Head(since) => since + self.head_timeout,
            // The server need not read when the request ends, so the timer must be set already.
            Phase::Request => Instant::now() + self.idle_timeout,
        };
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_arrived();
        }
        self.within_limits(cx, read)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_limits(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.within_limits(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
