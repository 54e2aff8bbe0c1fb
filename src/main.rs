//! The handler's start: settings, cache and store, routes, and serve until stopped.

#![warn(clippy::unwrap_used, clippy::expect_used)]

use std::process::ExitCode;

use cache_aside::app::App;
use cache_aside::{logging, settings::Settings};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    logging::start();
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::from_env()?;
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let app = App::build(&settings).await?;
    log::info!("listening on http://{}", app.address()?);

    // The Functions host stops its worker with SIGKILL: nothing may depend on what follows a signal.
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    app.run_until(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!("stopping: finishing the requests in hand");
    })
    .await;
    Ok(())
}
