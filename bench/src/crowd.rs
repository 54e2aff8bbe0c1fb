//! Thousands of clients at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use test_programs::client::{Answer, Client};

/// How many clients connect at the same time: more would overflow the queue of a listener.
const CONNECTING: usize = 100;

/// The longest that a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients that are connected. They stay connected until it is dropped.
pub(crate) struct Crowd(Vec<Client>);

/// An answer, and how long it took.
pub(crate) struct Timed {
    pub(crate) answer: Answer,
    pub(crate) elapsed: Duration,
}

impl Crowd {
    /// Connects this many clients, in turn to each of the ports.
    pub(crate) async fn connect(ports: &[u16], clients: usize) -> Self {
        let connecting = Arc::new(Semaphore::new(CONNECTING));
        let mut tasks = JoinSet::new();
        for port in ports.iter().copied().cycle().take(clients) {
            let connecting = Arc::clone(&connecting);
            tasks.spawn(async move {
                let _permit = connecting.acquire_owned().await.unwrap();
                Client::connect(port).await.expect("a connection")
            });
        }
        Self(tasks.join_all().await)
    }

    /// Each client sends a read at the same moment, of the paths in turn.
    pub(crate) async fn get(&mut self, paths: &[String]) -> Vec<Timed> {
        let mut tasks = JoinSet::new();
        for (mut client, path) in self.0.drain(..).zip(paths.iter().cycle().cloned()) {
            tasks.spawn(async move {
                let begun = Instant::now();
                let answer = timeout(PATIENCE, client.get(&path)).await;
                let answer = answer.expect("an answer in time").expect("an answer");
                (client, Timed { answer, elapsed: begun.elapsed() })
            });
        }
        let (clients, answers) = tasks.join_all().await.into_iter().unzip();
        self.0 = clients;
        answers
    }

    /// Each client sends half a head. Returns how long it took until all were disconnected.
    pub(crate) async fn never_finish(self) -> Duration {
        let mut tasks = JoinSet::new();
        for mut client in self.0 {
            tasks.spawn(async move {
                client.begin().await.expect("a connection");
                let begun = Instant::now();
                client.closed().await;
                begun.elapsed()
            });
        }
        tasks.join_all().await.into_iter().max().unwrap_or_default()
    }
}
