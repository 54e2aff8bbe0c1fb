//! The handler's process: it reads the settings, starts the application, and serves until a signal
//! stops it.

use std::process::ExitCode;

use cache_aside_handler::app::App;
use cache_aside_handler::settings::Settings;
use cache_aside_handler::telemetry;

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::start();
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
    let signal = custom_handler::stop_signal()?;
    app.run_until(async {
        signal.await;
        log::info!("stopping: finishing the requests in progress");
    })
    .await;
    Ok(())
}
