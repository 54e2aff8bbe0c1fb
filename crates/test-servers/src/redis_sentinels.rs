//! A Redis server with a replica, and sentinels that watch them.

use std::time::Duration;

use crate::{Redis, eventually};

const LONG: Duration = Duration::from_secs(60);

/// A master, its replica and three sentinels, of which two must agree on a failover.
pub struct RedisSentinels {
    /// The server that is the master until there is a failover.
    pub master: Redis,
    /// Its replica.
    pub replica: Redis,
    sentinels: Vec<Redis>,
    hung: Vec<Redis>,
}

impl RedisSentinels {
    /// The name under which the sentinels know the master.
    pub const NAME: &str = "mymaster";

    /// Starts them. A failover begins after this time without an answer. `server` and `sentinel` are
    /// users to add to the servers and to the sentinels, as name and password; each may do what the
    /// cache needs, and nothing else.
    pub async fn start(down_after: Duration, server: (&str, &str), sentinel: (&str, &str)) -> Self {
        let password = format!(">{}", server.1);
        let commands = "+get +set +del +evalsha +eval +script +time +client +role";
        let mut options =
            vec!["--repl-diskless-sync-delay", "0", "--user", server.0, "on", &password, "~*"];
        options.extend(commands.split(' '));
        let master = Redis::with(&options);
        let port = master.port.to_string();
        let replica = Redis::with(&[&options[..], &["--replicaof", "127.0.0.1", &port]].concat());
        eventually(LONG, "the replica is in step", || async {
            let info: String = replica.command(&["INFO", "replication"]).await;
            info.contains("master_link_status:up")
        })
        .await;
        let (name, millis) = (Self::NAME, down_after.as_millis());
        let configuration = format!(
            "sentinel monitor {name} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {name} {millis}\n\
             sentinel failover-timeout {name} 5000\n\
             user {} on >{} +client +role +sentinel|masters\n",
            sentinel.0, sentinel.1
        );
        let sentinels: Vec<_> = (0..3).map(|_| Redis::sentinel(&configuration)).collect();
        for one in &sentinels {
            eventually(LONG, "the sentinel knows the others and the replica", || async {
                let state: Vec<String> = one.command(&["SENTINEL", "MASTER", name]).await;
                let value = |field: &str| {
                    state.chunks(2).find(|pair| pair[0] == field).map(|pair| pair[1].clone())
                };
                let known = ["num-slaves", "num-other-sentinels"].map(value);
                known == [Some("1".to_owned()), Some("2".to_owned())]
            })
            .await;
        }
        Self { master, replica, sentinels, hung: Vec::new() }
    }

    /// The sentinels' hosts and ports, separated by commas.
    pub fn addresses(&self) -> String {
        let address = |one: &Redis| format!("127.0.0.1:{}", one.port);
        self.sentinels.iter().map(address).collect::<Vec<_>>().join(",")
    }

    /// Waits until the replica is the master, and all sentinels say so.
    pub async fn replica_is_promoted(&self) {
        let expected = ["127.0.0.1".to_owned(), self.replica.port.to_string()];
        for one in &self.sentinels {
            eventually(LONG, "the sentinel names the replica", || async {
                let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME];
                one.command::<Vec<String>>(&command).await == expected
            })
            .await;
        }
        eventually(LONG, "the replica is promoted", || async {
            let info: String = self.replica.command(&["INFO", "replication"]).await;
            info.contains("role:master")
        })
        .await;
    }

    /// Stops the first of the sentinels, which then hangs, and leaves it to the other two.
    pub fn hang_a_sentinel(&mut self) {
        let sentinel = self.sentinels.remove(0);
        sentinel.signal("STOP");
        self.hung.push(sentinel);
    }
}
