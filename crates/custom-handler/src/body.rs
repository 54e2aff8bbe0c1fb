//! Reading a request's body with a limit.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use tokio::time::timeout;

/// A body above its limit is still read, but not kept, up to this length in bytes: a client whose
/// connection is closed while it is sending does not get to read the response.
const DRAINED: usize = 16 * 1024 * 1024;

/// The time in which a body must be complete, far below any `functionTimeout`: a slow client would
/// otherwise make the host restart the handler.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// It is larger than the function's [`body_limit`](crate::Function::body_limit).
    TooLarge,
    /// It ended before it was complete.
    Incomplete,
    /// It was not complete within ten seconds.
    TooSlow,
    /// The client sent it without announcing its length, and the host did not pass it on: in the
    /// payload mode the host drops chunked bodies. The response that fits is a 411.
    Dropped,
}

/// A body that has not been read yet.
pub(crate) enum Body {
    /// From the server's connection.
    Incoming(Incoming),
    /// From anywhere else.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>),
}

impl Body {
    /// A body that arrives in chunks.
    pub(crate) fn chunks(
        chunks: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    ) -> Self {
        Self::Stream(Box::pin(chunks))
    }

    /// A body that is in memory already, or cannot be read.
    pub(crate) fn ready(body: Result<Bytes, BodyError>) -> Self {
        Self::chunks(futures_util::stream::iter([body]))
    }
}

/// Reads a whole body of at most `limit` bytes, whether or not its length was announced.
///
/// # Errors
/// See [`BodyError`].
pub(crate) async fn read_body(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let whole = async {
        match body {
            Body::Incoming(body) => {
                let chunks = BodyDataStream::new(body);
                read(chunks.map(|chunk| chunk.map_err(|_| BodyError::Incomplete)), limit).await
            }
            Body::Stream(chunks) => read(chunks, limit).await,
        }
    };
    timeout(BODY_TIMEOUT, whole).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn read(
    body: impl Stream<Item = Result<Bytes, BodyError>>,
    limit: usize,
) -> Result<Bytes, BodyError> {
    let mut body = pin!(body);
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        length += chunk.len();
        if length > DRAINED {
            break;
        }
        if length <= limit {
            kept.extend_from_slice(&chunk);
        }
    }
    if length > limit { Err(BodyError::TooLarge) } else { Ok(kept.freeze()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn chunks(
        chunks: impl IntoIterator<Item = &'static [u8], IntoIter: Send + 'static>,
    ) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
        futures_util::stream::iter(chunks).map(|chunk| Ok(Bytes::from_static(chunk)))
    }

    async fn read_chunks(
        chunks: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
        limit: usize,
    ) -> Result<Bytes, BodyError> {
        read_body(Body::chunks(chunks), limit).await
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_read() {
        let whole = read_chunks(chunks([&b"ab"[..], b"c"]), 3).await;
        assert_eq!(whole, Ok(Bytes::from_static(b"abc")));
        let larger = read_chunks(chunks([&b"ab"[..], b"cd"]), 3).await;
        assert_eq!(larger, Err(BodyError::TooLarge));
    }

    #[tokio::test]
    async fn a_body_above_its_limit_is_drained_but_not_forever() {
        static CHUNK: [u8; 1024 * 1024] = [0; 1024 * 1024];
        for (sent, read) in [(10, 10), (100, 17)] {
            let taken = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&taken);
            let body = (0..sent).map(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
                &CHUNK[..]
            });
            assert_eq!(read_chunks(chunks(body), 5).await, Err(BodyError::TooLarge));
            assert_eq!(taken.load(Ordering::Relaxed), read, "of {sent} MiB");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_incomplete() {
        let broken_off = futures_util::stream::iter([Err(BodyError::Incomplete)]);
        let body = chunks([&b"ab"[..]]).chain(broken_off);
        assert_eq!(read_chunks(body, 3).await, Err(BodyError::Incomplete));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_too_slow_after_ten_seconds() {
        let begun = tokio::time::Instant::now();
        let body = chunks([&b"ab"[..]]).chain(futures_util::stream::pending());
        assert_eq!(read_chunks(body, 3).await, Err(BodyError::TooSlow));
        assert_eq!(begun.elapsed().as_secs(), 10);
    }
}
