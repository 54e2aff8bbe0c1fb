//! What the handler logs.

use custom_handler::logging::Logging;
use log::{Level, Metadata};

/// What is logged if `RUST_LOG` is not set. Below `warn`, the Redis client reports each refresh of its
/// view of a cluster.
pub const DEFAULT_FILTER: &str = "info,redis=warn";

/// Starts logging, filtered by `RUST_LOG`. A panic is logged as an error.
pub fn start() {
    Logging::new().default_filter(DEFAULT_FILTER).exclude(may_hold_a_secret).start();
}

/// At levels below `warn`, the Azure SDK logs whole requests, with the signature in the URL and the user
/// in the body.
fn may_hold_a_secret(record: &Metadata) -> bool {
    let target = record.target();
    record.level() > Level::Warn
        && ["azure_", "typespec_"].iter().any(|prefix| target.starts_with(prefix))
}
