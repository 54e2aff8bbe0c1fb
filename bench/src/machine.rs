//! What was measured, and on what.

use std::fmt;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use test_programs::program::Program;

/// A machine, by its cores and memory.
#[derive(Serialize)]
pub(crate) struct Machine {
    cores: usize,
    memory_gb: u64,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = memory.split_whitespace().nth(1).and_then(|text| text.parse().ok());
        let gigabytes = kilobytes.map_or(0.0, |kilobytes: f64| kilobytes / 1024.0 / 1024.0);
        Self { cores: cores(), memory_gb: gigabytes.round() as u64 }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores and {} GB of memory", self.cores, self.memory_gb)
    }
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The versions of what is compared.
#[derive(Serialize)]
pub(crate) struct Versions {
    handler: String,
    axum: String,
    node: String,
    fastify: String,
    python: String,
    uvicorn: String,
    redis_server: String,
    azurite: String,
}

impl Versions {
    pub(crate) fn read() -> Self {
        let peers = Program::peers_folder();
        let text = |path: &str| std::fs::read_to_string(peers.join(path)).unwrap_or_default();
        Self {
            handler: says(&Program::Handler.binary(), &["--version"]),
            axum: version_after(include_str!("../../Cargo.lock"), "name = \"axum\"\nversion = \""),
            node: says("node".as_ref(), &["--version"]),
            fastify: version_after(&text("node/package.json"), "\"fastify\": \""),
            python: says(&Program::Python.binary(), &["--version"]),
            uvicorn: version_after(&text("python/requirements.txt"), "uvicorn=="),
            redis_server: version_after(&says("redis-server".as_ref(), &["--version"]), "v="),
            azurite: says("azurite-table".as_ref(), &["--version"]),
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handler, axum, node, fastify, python, uvicorn, redis_server, azurite } = self;
        write!(
            f,
            "{handler}; axum {axum}; Node.js {node} with Fastify {fastify}; {python} with uvicorn {uvicorn}; Redis {redis_server}; Azurite {azurite}"
        )
    }
}

/// What a program prints; `unknown` if it is not there, as a peer may not be when it is not measured.
fn says(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// The version that follows these words.
fn version_after(text: &str, words: &str) -> String {
    let rest = text.split_once(words).map_or("unknown", |(_, rest)| rest);
    rest.split(|c: char| !(c.is_ascii_alphanumeric() || ".-+".contains(c))).next().unwrap().into()
}
