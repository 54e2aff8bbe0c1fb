//! The handler's binary behind the stand-in for the Functions host.

use std::ops::Deref;
use std::path::Path;

use custom_handler::testing;
pub use custom_handler::testing::{FunctionApp, Level, Mode, level};

use super::Client;

/// The root of this repository, which is the root of the function app.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A running host, and a client of its public side. It ends when it is dropped.
pub struct Host {
    pub client: Client,
    host: testing::Host,
}

impl Deref for Host {
    type Target = testing::Host;

    fn deref(&self) -> &testing::Host {
        &self.host
    }
}

impl Host {
    /// Starts a host on this repository's function app in one of the modes, with settings over those
    /// of `local.settings.json`. An empty value removes a setting.
    pub async fn start(mode: Mode, settings: &[(&str, String)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let executable = Path::new(env!("CARGO_BIN_EXE_handler"));
        Self::new(testing::Host::start(repository(), mode, executable, settings).await)
    }

    /// Starts a host on the function app in this folder.
    pub async fn start_in(root: &Path, settings: Vec<(String, String)>) -> Self {
        Self::new(testing::Host::start_in(root, settings).await)
    }

    fn new(host: testing::Host) -> Self {
        Self { client: Client::new(host.url().to_owned()), host }
    }
}
