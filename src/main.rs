//! The handler's process: it reads the command line and the settings, starts the application, and
//! serves until a signal stops it.

use std::process::ExitCode;

use cache_aside_handler::app::App;
use cache_aside_handler::command_line::{self, Command};
use cache_aside_handler::settings::Settings;
use cache_aside_handler::telemetry;

/// Returns memory to the operating system after a burst of requests, which glibc's allocator hardly
/// does, and is fast under threads, which musl's is not.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code for an invalid command line, as shells use it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Command::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => print(&command_line::help()),
        Ok(Command::Version) => print(&format!("{}\n", command_line::version())),
        Ok(Command::Check) => check(),
        Ok(Command::Serve) => serve(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Prints to stdout. A reader that has gone away, such as `head`, is not an error.
fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn check() -> ExitCode {
    match Settings::from_env() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve() -> ExitCode {
    telemetry::start_logging();
    let code = run().await.unwrap_or_else(|error| {
        log::error!("{error}");
        ExitCode::FAILURE
    });
    log::logger().flush();
    code
}

async fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let settings = Settings::from_env()?;
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let app = App::build(&settings).await?;
    log::info!("{} listening on http://{}", command_line::version(), app.address()?);

    // The Functions host ends its handler with SIGKILL: nothing may depend on what follows a signal.
    let stop = custom_handler::stop_signal()?;
    let stop = async {
        let stop = stop.await;
        log::info!("stopping ({stop}): finishing the requests in progress");
        stop
    };
    Ok(app.run_until(stop).await.exit_code())
}
