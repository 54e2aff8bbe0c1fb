//! Reading a request's body with a limit.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
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
pub(crate) type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// A body that is in memory already, or cannot be read.
pub(crate) fn ready(body: Result<Bytes, BodyError>) -> Body {
    Box::pin(futures_util::stream::iter([body]))
}

/// Reads a whole body of at most `limit` bytes, whether or not its length was announced.
///
/// # Errors
/// See [`BodyError`].
pub(crate) async fn read_body(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    timeout(BODY_TIMEOUT, read(body, limit)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn read(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
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

    fn chunks(chunks: impl IntoIterator<Item = &'static [u8], IntoIter: Send + 'static>) -> Body {
        Box::pin(futures_util::stream::iter(chunks).map(|chunk| Ok(Bytes::from_static(chunk))))
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_read() {
        assert_eq!(read_body(chunks([&b"ab"[..], b"c"]), 3).await, Ok(Bytes::from_static(b"abc")));
        assert_eq!(read_body(chunks([&b"ab"[..], b"cd"]), 3).await, Err(BodyError::TooLarge));
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
            assert_eq!(read_body(chunks(body), 5).await, Err(BodyError::TooLarge));
            assert_eq!(taken.load(Ordering::Relaxed), read, "of {sent} MiB");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_incomplete() {
        let body = chunks([&b"ab"[..]]).chain(ready(Err(BodyError::Incomplete)));
        assert_eq!(read_body(Box::pin(body), 3).await, Err(BodyError::Incomplete));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_too_slow_after_ten_seconds() {
        let begun = tokio::time::Instant::now();
        let body = chunks([&b"ab"[..]]).chain(futures_util::stream::pending());
        assert_eq!(read_body(Box::pin(body), 3).await, Err(BodyError::TooSlow));
        assert_eq!(begun.elapsed().as_secs(), 10);
    }
}
