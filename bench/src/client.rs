//! A client that costs as little as possible: one connection, one request after the other.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// A connection that is kept alive.
pub(crate) struct Client(BufStream<TcpStream>);

/// What is needed of a response.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: String,
    pub(crate) cache_status: String,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        // Small buffers, because thousands of clients are in this process.
        Ok(Self(BufStream::with_capacity(1024, 512, stream)))
    }

    /// Sends the beginning of a request, and never the rest.
    pub(crate) async fn begin(&mut self) -> io::Result<()> {
        self.0.write_all(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nX-").await?;
        self.0.flush().await
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let _ = self.0.read_to_end(&mut Vec::new()).await;
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, "").await
    }

    /// Changes a user's name.
    pub(crate) async fn rename(&mut self, path: &str, name: &str) -> io::Result<Answer> {
        self.send("PATCH", path, &format!(r#"{{"name":"{name}"}}"#)).await
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await?;
        let (mut answer, length) = self.head().await?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        answer.body = String::from_utf8(body).map_err(io::Error::other)?;
        Ok(answer)
    }

    /// The status and the headers, and the length of the body.
    async fn head(&mut self) -> io::Result<(Answer, usize)> {
        let (mut answer, mut length) = (Answer::default(), 0);
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let text = line.trim_end();
            if text.is_empty() {
                return Ok((answer, length));
            }
            let Some((name, value)) = text.split_once(": ") else {
                let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
                answer.status = status.ok_or(io::ErrorKind::InvalidData)?;
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().map_err(io::Error::other)?,
                "transfer-encoding" => return Err(io::ErrorKind::Unsupported.into()),
                "location" => value.clone_into(&mut answer.location),
                "cache-status" => value.clone_into(&mut answer.cache_status),
                _ => {}
            }
        }
    }

    /// Creates a user with a random name, and returns its path.
    pub(crate) async fn create_user(&mut self) -> String {
        let created = self.send("POST", "/api/users", "").await.unwrap();
        assert_eq!(created.status, 201, "POST /api/users: {}", created.body);
        created.location
    }
}

impl Answer {
    /// Where a read came from: `table`, `redis` or `memory`.
    pub(crate) fn source(&self) -> &str {
        text_after(&self.body, r#"{"source":""#).unwrap_or_default()
    }

    /// The user's name.
    pub(crate) fn name(&self) -> &str {
        text_after(&self.body, r#","Name":""#).unwrap_or_default()
    }
}

fn text_after<'a>(body: &'a str, beginning: &str) -> Option<&'a str> {
    body.split_once(beginning)?.1.split('"').next()
}
