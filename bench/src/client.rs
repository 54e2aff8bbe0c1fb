//! A client that costs as little as possible: one connection, one request after the other.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// A connection that is kept alive.
pub(crate) struct Client(BufStream<TcpStream>);

/// What is needed of a response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: String,
}

impl Client {
    pub(crate) async fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        // Small buffers, because thousands of clients are in this process.
        Ok(Self(BufStream::with_capacity(1024, 256, stream)))
    }

    /// Sends the beginning of a request, and never the rest.
    pub(crate) async fn begin(&mut self) -> io::Result<()> {
        self.0.write_all(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nX-").await?;
        self.0.flush().await
    }

    /// Whether the server has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let _ = self.0.read_to_end(&mut Vec::new()).await;
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str) -> io::Result<Answer> {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await?;
        let (mut status, mut length, mut location) = (0, 0, String::new());
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            match text.split_once(": ") {
                None => status = text.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0),
                Some(("content-length", value)) => length = value.parse().unwrap_or(0),
                Some(("location", value)) => value.clone_into(&mut location),
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        Ok(Answer { status, location })
    }

    /// Creates users with random names, and returns their paths.
    pub(crate) async fn create_users(&mut self, number: usize) -> Vec<String> {
        let mut paths = Vec::new();
        for _ in 0..number {
            let created = self.send("POST", "/api/users").await.unwrap();
            assert_eq!(created.status, 201, "POST /api/users");
            paths.push(created.location);
        }
        paths
    }
}
