//! The regimes: which faults happen, with which settings, and what must hold then.
//!
//! What a fault does to the guarantee decides where it belongs:
//!
//! - A handler that is killed leaves its fence or its lease behind, until they expire. The table may
//!   fail, be slow, and apply writes late. **Reads are linearizable** all the same.
//! - A handler that is stopped is slow for a while. If that is longer than a step on Redis may take, a fence or
//!   a release counts as failed, so here stops are shorter than `REDIS_TIMEOUT`, and with it shorter than
//!   [`LATE_WRITE_MARGIN`](cache_aside::LATE_WRITE_MARGIN), which covers a stop between a handler's last look
//!   at the clock and the moment its write is sent.
//! - Redis loses keys while it can be reached: **a read sees each write that was answered before it began**.
//! - A connection to Redis that is cut or hangs, if only for a moment, loses steps, and so does a Redis that
//!   hangs or is killed; a failover rolls it back. Then **no read is older than the TTLs of lease, entry and
//!   local copy together**. A handler may be stopped for any time.
//!
//! The table is never killed, because Azurite would forget what it has answered: it is ended in order, when
//! nothing is on its way to it.

use std::time::Duration;

use crate::checker::Guarantee;
use crate::faults::Lane;

/// Which faults happen, and what must hold.
#[derive(Clone, Debug)]
pub struct Regime {
    /// Its name.
    pub name: &'static str,
    /// What happens, in words.
    pub what: &'static str,
    /// What happens.
    pub lanes: &'static [Lane],
    /// What must hold without local copies.
    guarantee: Guarantee,
    /// Whether Redis is a cluster.
    pub is_cluster: bool,
    /// Whether the connections to Redis can be cut.
    pub has_lines: bool,
    /// The bound on a step on Redis.
    pub redis_timeout: Duration,
    /// Its part of the time of a whole run.
    pub share: u32,
}

/// How long an entry lives: short, so that entries expire and are filled all the time.
const TTL: Duration = Duration::from_secs(1);
/// How long a handler may use a copy of its own, if it may.
const LOCAL_TTL: Duration = Duration::from_millis(200);
/// How long a load may take, and a reader hold its lease: longer than the second for which others wait for
/// it before they read the table, so that one can read a newer value while another is about to fill an older
/// one.
const LEASE_TTL: Duration = Duration::from_millis(1500);
/// The handler allows no less than 4.7 s with these settings.
const FENCE_TTL: Duration = Duration::from_secs(5);
/// How many connections to the table a handler may keep.
pub const TABLE_CALLS: usize = 16;

/// After this time, nothing from before it is left in Redis. A local copy may be used for longer.
const LONGEST_STALE: Duration =
    Duration::from_millis((TTL.as_millis() + LEASE_TTL.as_millis()) as u64);

impl Regime {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self {
            name: "crashes",
            what: "handlers killed and stopped, the table slow, failing, late and restarted",
            lanes: &[Lane::Handlers { longest_stop: 600 }, Lane::Table],
            guarantee: Guarantee::Linearizable,
            is_cluster: false,
            has_lines: false,
            redis_timeout: Duration::from_secs(1),
            share: 3,
        },
        Self {
            name: "losses",
            what: "Redis loses keys; handlers killed and stopped, the table slow",
            lanes: &[Lane::Handlers { longest_stop: 600 }, Lane::SlowTable, Lane::Losses],
            guarantee: Guarantee::ReadAfterAnsweredWrite,
            is_cluster: false,
            has_lines: false,
            redis_timeout: Duration::from_secs(1),
            share: 2,
        },
        Self {
            name: "outages",
            what: "Redis hung, killed, cut off from handlers; handlers killed and stopped, the table slow",
            lanes: &[Lane::Handlers { longest_stop: 4000 }, Lane::SlowTable, Lane::Outages],
            guarantee: Guarantee::StaleFor(LONGEST_STALE),
            is_cluster: false,
            has_lines: true,
            redis_timeout: Duration::from_millis(100),
            share: 3,
        },
        Self {
            name: "failovers",
            what: "masters of a cluster killed and hung; handlers killed, the table slow",
            lanes: &[Lane::Handlers { longest_stop: 4000 }, Lane::SlowTable, Lane::Failovers],
            guarantee: Guarantee::StaleFor(LONGEST_STALE),
            is_cluster: true,
            has_lines: false,
            redis_timeout: Duration::from_millis(100),
            share: 2,
        },
    ];

    /// The regime of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|regime| regime.name == name)
    }

    /// What must hold.
    pub fn guarantee(&self, with_copies: bool) -> Guarantee {
        match self.guarantee {
            Guarantee::StaleFor(time) if with_copies => Guarantee::StaleFor(time + LOCAL_TTL),
            guarantee => guarantee,
        }
    }

    /// The handlers' settings.
    pub fn settings(&self, with_copies: bool) -> Vec<(&'static str, String)> {
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        let mut settings = vec![
            ("CACHE_TTL", millis(TTL)),
            ("CACHE_NEGATIVE_TTL", millis(TTL / 2)),
            ("CACHE_LEASE_TTL", millis(LEASE_TTL)),
            ("CACHE_FENCE_TTL", millis(FENCE_TTL)),
            ("TABLE_TIMEOUT", millis(LEASE_TTL)),
            ("TABLE_CALLS", TABLE_CALLS.to_string()),
            ("REDIS_TIMEOUT", millis(self.redis_timeout)),
            ("RUST_LOG", "off".to_owned()),
        ];
        if with_copies {
            settings.push(("CACHE_LOCAL_TTL", millis(LOCAL_TTL)));
        }
        settings
    }
}
