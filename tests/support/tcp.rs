//! A proxy for any protocol that can be cut, made to hang, and made to answer nonsense.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of connections, those that are open too.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// They lead to the server.
    Open,
    /// They are closed, at once and again.
    Cut,
    /// They stay, and nothing gets through.
    Hung,
    /// Whatever is sent is answered with this.
    Answers(&'static [u8]),
}

/// A running proxy.
pub struct TcpProxy {
    pub port: u16,
    line: Arc<watch::Sender<Line>>,
}

impl TcpProxy {
    /// Stands in front of the server at this port.
    pub async fn in_front_of(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(watch::Sender::new(Line::Open));
        let accepting = Arc::clone(&line);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let line = accepting.subscribe();
                tokio::spawn(async move {
                    let _ = carry(client, target, line).await;
                });
            }
        });
        Self { port, line }
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn carry(
    mut client: TcpStream,
    target: u16,
    mut line: watch::Receiver<Line>,
) -> std::io::Result<()> {
    let now = line.borrow_and_update().clone();
    match now {
        Line::Cut => Ok(()),
        Line::Hung => {
            // What was sent meanwhile is lost, as on a network that drops it; the connection, too.
            let _ = line.changed().await;
            Ok(())
        }
        Line::Answers(answer) => loop {
            let mut sent = [0; 4096];
            tokio::select! {
                _ = line.changed() => return Ok(()),
                read = client.read(&mut sent) => match read? {
                    0 => return Ok(()),
                    _ => client.write_all(answer).await?,
                },
            }
        },
        Line::Open => {
            let mut server = TcpStream::connect(("127.0.0.1", target)).await?;
            let changed = tokio::select! {
                done = copy_bidirectional(&mut client, &mut server) => return done.map(|_| ()),
                _ = line.changed() => line.borrow_and_update().clone(),
            };
            if changed == Line::Hung {
                let _ = line.changed().await;
            }
            Ok(())
        }
    }
}
