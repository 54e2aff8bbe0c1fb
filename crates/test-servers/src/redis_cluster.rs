//! A Redis cluster.

use std::time::Duration;

use crate::process::free_port;
use crate::{Redis, eventually};

const LONG: Duration = Duration::from_secs(60);

/// The first and the last hash slot of each master; a cluster has 16384.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// Three masters with a replica each.
pub struct RedisCluster {
    /// The masters first, then their replicas in the same order; until there is a failover.
    pub nodes: Vec<Redis>,
}

/// A node that belongs to no cluster yet, and its port for other nodes.
fn node(arguments: &[&str]) -> (Redis, String) {
    // By default that port is 10000 higher than the node's own, and may not exist.
    let bus = free_port().to_string();
    let mut all = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
    all.extend(arguments);
    (Redis::with(&all), bus)
}

impl RedisCluster {
    /// A cluster of one node, which has all slots.
    pub async fn of_one() -> Redis {
        let (node, _) = node(&[]);
        assign(&node, (0, 16383)).await;
        eventually(LONG, "the cluster is up", || is_up(&node)).await;
        node
    }

    /// Starts a cluster whose failovers begin after this time without an answer.
    pub async fn start(node_timeout: Duration) -> Self {
        let timeout = node_timeout.as_millis().to_string();
        let started: Vec<_> = (0..6)
            .map(|_| {
                node(&[
                    "--cluster-node-timeout",
                    &timeout,
                    // A replica may be promoted however long ago it heard from its master.
                    "--cluster-replica-validity-factor",
                    "0",
                    "--repl-diskless-sync-delay",
                    "0",
                ])
            })
            .collect();
        let (nodes, buses): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        for (nth, node) in nodes.iter().enumerate() {
            // Nodes with the same epoch would have to settle which of them counts.
            let epoch = (nth + 1).to_string();
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
        }
        for (master, slots) in nodes.iter().zip(SLOTS) {
            assign(master, slots).await;
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            let port = node.port.to_string();
            nodes[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await;
        }
        let cluster = Self { nodes };
        for node in &cluster.nodes {
            eventually(LONG, "all nodes know each other", || async {
                node.command::<String>(&["CLUSTER", "NODES"]).await.lines().count() == 6
            })
            .await;
        }
        let (masters, replicas) = cluster.nodes.split_at(3);
        for (master, replica) in masters.iter().zip(replicas) {
            let id: String = master.command(&["CLUSTER", "MYID"]).await;
            replica.command::<()>(&["CLUSTER", "REPLICATE", &id]).await;
        }
        for replica in replicas {
            eventually(LONG, "the replica is in step", || async {
                let info: String = replica.command(&["INFO", "replication"]).await;
                info.contains("role:slave") && info.contains("master_link_status:up")
            })
            .await;
        }
        for node in &cluster.nodes {
            eventually(LONG, "the cluster is up", || is_up(node)).await;
        }
        cluster
    }

    /// The addresses of all nodes, as the seeds of a cluster.
    pub fn url(&self) -> String {
        self.nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",")
    }

    /// Which of the masters had the slot of this key at the start.
    pub async fn first_master_of(&self, key: &str) -> usize {
        let slot: u16 = self.nodes[5].command(&["CLUSTER", "KEYSLOT", key]).await;
        SLOTS.iter().position(|(_, last)| slot <= *last).unwrap()
    }

    /// Waits until this node is a master of a cluster that works.
    pub async fn is_promoted(&self, node: usize) {
        let node = &self.nodes[node];
        eventually(LONG, "the replica is promoted", || async {
            let role: String = node.command(&["INFO", "replication"]).await;
            role.contains("role:master") && is_up(node).await
        })
        .await;
    }
}

async fn assign(node: &Redis, (from, to): (u16, u16)) {
    let (from, to) = (from.to_string(), to.to_string());
    node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await;
}

async fn is_up(node: &Redis) -> bool {
    node.command::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")
}
