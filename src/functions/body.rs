//! Reading a request's body with a limit.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

/// A body over its limit is read on so far, in bytes, without being kept: a sender that is cut off in
/// the middle never gets to read the answer.
const DRAINED: usize = 16 * 1024 * 1024;

/// A body must be there within this time, far below any `functionTimeout`: a sender that dawdles
/// would otherwise make the host restart the handler.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a body cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is larger than the limit.
    TooLarge,
    /// It ended before it was complete.
    Broken,
    /// It was not complete within ten seconds.
    TooSlow,
}

/// Reads a whole body of at most `limit` bytes, whether or not its length was announced.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_body<S, B, E>(body: S, limit: usize) -> Result<Bytes, BodyError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    timeout(BODY_TIMEOUT, read(body, limit)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn read<S, B, E>(body: S, limit: usize) -> Result<Bytes, BodyError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut body = std::pin::pin!(body);
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|_| BodyError::Broken)?;
        length += chunk.remaining();
        if length > DRAINED {
            break;
        }
        if length <= limit {
            kept.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
        }
    }
    if length > limit { Err(BodyError::TooLarge) } else { Ok(kept.freeze()) }
}
