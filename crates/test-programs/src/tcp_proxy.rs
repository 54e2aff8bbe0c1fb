//! A proxy for any protocol whose connections can be cut, can hang, and can be answered with nonsense.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to connections, including those that are open.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// They are forwarded to the server.
    Open,
    /// They are closed at once.
    Cut,
    /// They stay open, and nothing is forwarded.
    Hung,
    /// Whatever is sent, the answer is this.
    Answers(&'static [u8]),
}

/// A running proxy.
pub struct TcpProxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    route: Arc<watch::Sender<Route>>,
}

impl TcpProxy {
    /// Starts a proxy for the server at this port.
    pub async fn in_front_of(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let route = Arc::new(watch::Sender::new(Route::Open));
        let accepting = Arc::clone(&route);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let route = accepting.subscribe();
                tokio::spawn(async move {
                    let _ = carry(client, target, route).await;
                });
            }
        });
        Self { port, route }
    }

    /// What happens from now on.
    pub fn set(&self, route: Route) {
        self.route.send_replace(route);
    }
}

async fn carry(
    mut client: TcpStream,
    target: u16,
    mut route: watch::Receiver<Route>,
) -> std::io::Result<()> {
    let now = route.borrow_and_update().clone();
    match now {
        Route::Cut => Ok(()),
        Route::Hung => {
            // What was sent meanwhile is lost, as on a network that drops packets, and then the connection is
            // closed.
            let _ = route.changed().await;
            Ok(())
        }
        Route::Answers(answer) => loop {
            let mut sent = [0; 4096];
            tokio::select! {
                _ = route.changed() => return Ok(()),
                read = client.read(&mut sent) => match read? {
                    0 => return Ok(()),
                    _ => client.write_all(answer).await?,
                },
            }
        },
        Route::Open => {
            let mut server = TcpStream::connect(("127.0.0.1", target)).await?;
            let changed = tokio::select! {
                done = copy_bidirectional(&mut client, &mut server) => return done.map(|_| ()),
                _ = route.changed() => route.borrow_and_update().clone(),
            };
            if changed == Route::Hung {
                let _ = route.changed().await;
            }
            Ok(())
        }
    }
}
