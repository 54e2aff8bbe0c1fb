//! A complete custom handler with one function, `GET /api/hello/{name}`. Its function app is the folder
//! `function-app` beside this file: `cargo build --example hello`, then `func start` in that folder.

use std::process::ExitCode;

use custom_handler::http::Method;
use custom_handler::logging::Logging;
use custom_handler::{
    Call, Function, Handler, Limits, PORT_VARIABLE, Response, serve, stop_signal,
};
use tokio::net::TcpListener;

static FUNCTIONS: [Function; 1] =
    [Function { name: "hello", route: "api/hello/{name}", methods: &[Method::GET], body_limit: 0 }];

#[derive(Clone)]
struct Hello;

impl Handler for Hello {
    type Endpoint = Function;

    fn endpoints(&self) -> &'static [Function] {
        &FUNCTIONS
    }

    async fn call(&self, call: Call<Function>) -> Response {
        log::info!("{} was called", call.endpoint.name);
        Response::new(format!("Hello, {}!", call.params.get("name")).into())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    Logging::new().start();
    let stop = stop_signal()?;
    let port = std::env::var(PORT_VARIABLE).map_or(Ok(0), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    log::info!("listening on http://{}", listener.local_addr()?);
    let stop = async {
        let stop = stop.await;
        log::info!("{stop}: finishing the requests in progress");
        stop
    };
    Ok(serve(listener, Hello, Limits::default(), stop).await.exit_code())
}
