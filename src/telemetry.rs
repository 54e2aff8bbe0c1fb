//! What the handler logs.

use custom_handler::logging::Logging;
use log::{Level, Metadata};

/// What is logged if `RUST_LOG` is not set. The HTTP server's own messages are about clients that
/// close their connections, and are left out.
pub const DEFAULT_FILTER: &str = "info,warp=off";

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
