//! A client that costs as little as possible: one connection, one request after the other.

use std::fmt::Write as _;
use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// A connection that is kept alive.
pub struct Client(BufStream<TcpStream>);

/// A request with a body, which may be empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Such as `/api/users`.
    pub path: &'a str,
    /// A header that makes the request conditional: its name and its value.
    pub condition: Option<(&'a str, &'a str)>,
    /// The body, as JSON.
    pub body: &'a str,
}

/// What is needed of a response.
#[derive(Debug, Default)]
#[allow(missing_docs)] // they are the status, three headers and the body
pub struct Answer {
    pub status: u16,
    pub location: String,
    pub cache_status: String,
    pub etag: String,
    pub body: String,
}

impl Client {
    /// Connects to a server on this machine.
    ///
    /// # Errors
    /// It does not accept connections.
    pub async fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        // Small buffers, because thousands of clients are in this process.
        Ok(Self(BufStream::with_capacity(1024, 512, stream)))
    }

    /// Sends the beginning of a request, and never the rest.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub async fn begin(&mut self) -> io::Result<()> {
        self.0.write_all(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nX-").await?;
        self.0.flush().await
    }

    /// Waits until the server has closed the connection.
    pub async fn closed(&mut self) {
        let _ = self.0.read_to_end(&mut Vec::new()).await;
    }

    /// Reads this path.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(Request { method: "GET", path, ..Request::default() }).await
    }

    /// Changes a user's name.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn rename(&mut self, path: &str, name: &str) -> io::Result<Answer> {
        let body = &format!(r#"{{"name":"{name}"}}"#);
        self.send(Request { method: "PATCH", path, body, ..Request::default() }).await
    }

    /// Sends a request, and reads the whole response.
    ///
    /// # Errors
    /// The connection has ended before that, or the response is not one that this client can read.
    pub async fn send(&mut self, request: Request<'_>) -> io::Result<Answer> {
        let Request { method, path, condition, body } = request;
        let length = body.len();
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        );
        if let Some((name, value)) = condition {
            let _ = write!(text, "{name}: {value}\r\n"); // a String takes any text
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.0.write_all(text.as_bytes()).await?;
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
                "etag" => value.clone_into(&mut answer.etag),
                _ => {}
            }
        }
    }

    /// Creates a user with a random name, and returns its path.
    pub async fn create_user(&mut self) -> String {
        let request = Request { method: "POST", path: "/api/users", ..Request::default() };
        let created = self.send(request).await.unwrap();
        assert_eq!(created.status, 201, "POST /api/users: {}", created.body);
        created.location
    }
}

impl Answer {
    /// Where a read came from: `table`, `redis` or `memory`.
    pub fn source(&self) -> &str {
        text_after(&self.body, r#"{"source":""#).unwrap_or_default()
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        text_after(&self.body, r#","Name":""#).unwrap_or_default()
    }
}

fn text_after<'a>(body: &'a str, beginning: &str) -> Option<&'a str> {
    body.split_once(beginning)?.1.split('"').next()
}
