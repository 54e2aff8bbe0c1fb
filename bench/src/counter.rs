//! A proxy in front of the table that counts how often a row is read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How a request for a row begins. A body cannot contain it: it would be escaped.
const READ: &[u8] = b"GET /devstoreaccount1/users(";

/// A running proxy, until it is dropped.
pub(crate) struct Counter {
    pub(crate) port: u16,
    reads: Arc<AtomicUsize>,
    accepting: tokio::task::AbortHandle,
}

impl Counter {
    /// Starts a proxy for the table at this port.
    pub(crate) async fn in_front_of(table: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        // Hundreds of connections are opened at the same moment.
        let listener = socket.listen(4096).unwrap();
        let port = listener.local_addr().unwrap().port();
        let reads = Arc::default();
        let accepting = tokio::spawn(accept(listener, table, Arc::clone(&reads))).abort_handle();
        Self { port, reads, accepting }
    }

    /// How many rows were read since this was called last.
    pub(crate) fn take(&self) -> usize {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, table: u16, reads: Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        let reads = Arc::clone(&reads);
        tokio::spawn(async move {
            // An error means that one of them has closed the connection.
            let _ = forward(client, table, &reads).await;
        });
    }
}

async fn forward(client: TcpStream, table: u16, reads: &AtomicUsize) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", table)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async { tokio::io::copy(&mut from_server, &mut to_client).await.map(drop) };
    let requests = async {
        let (mut buffer, mut matcher) = (vec![0; 16 * 1024], Matcher::default());
        loop {
            let length = from_client.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            reads.fetch_add(matcher.count(&buffer[..length]), Ordering::Relaxed);
            to_server.write_all(&buffer[..length]).await?;
        }
    };
    // Whichever of them closes its connection: the other must not use its own any more.
    tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
    }
}

/// Counts how often a stream contains [`READ`], wherever it is divided.
#[derive(Default)]
struct Matcher {
    /// How many bytes of it were seen last.
    matched: usize,
}

impl Matcher {
    fn count(&mut self, bytes: &[u8]) -> usize {
        let mut found = 0;
        for byte in bytes {
            // Its first byte is in it only once, so that no other match can have begun meanwhile.
            let next = if READ[self.matched] == *byte { self.matched } else { 0 };
            self.matched = if READ[next] == *byte { next + 1 } else { 0 };
            if self.matched == READ.len() {
                (found, self.matched) = (found + 1, 0);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_of_a_row_are_counted_wherever_the_stream_is_divided() {
        let read = "GET /devstoreaccount1/users(PartitionKey='user',RowKey='1') HTTP/1.1\r\n\r\n";
        let other = "POST /devstoreaccount1/users HTTP/1.1\r\n\r\n{\"Name\":\"GET /GGET /dev\"}";
        let stream = [other, read, read, other, "G", read].concat();
        for size in 1..stream.len() {
            let mut matcher = Matcher::default();
            let found: usize =
                stream.as_bytes().chunks(size).map(|chunk| matcher.count(chunk)).sum();
            assert_eq!(found, 3, "in pieces of {size}");
        }
    }
}
