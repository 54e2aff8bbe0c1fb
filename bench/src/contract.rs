//! Whether a program answers as the handler does: what is compared must do the same.

use std::process::Command;

use test_servers::Redis;

use test_programs::program::{Program, With};
use test_programs::table::Table;

/// Starts each of these programs and makes it answer the calls of `check_contract.py`. Fails with the
/// differences, if there are any.
pub(crate) async fn check(programs: &[Program]) {
    let table = Table::start().await;
    for program in programs {
        eprintln!("contract: {}", program.name());
        let redis = Redis::start();
        let server = program.start(With::servers(&table, &redis)).await;
        let script = Program::peers_folder().join("check_contract.py");
        let mut command = Command::new(Program::Python.binary());
        let output = command.arg(script).arg(server.port.to_string()).output();
        let output = output.expect("Python, which scripts/bench.sh installs");
        let text =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(
            output.status.success(),
            "{} answers otherwise:\n{}",
            program.name(),
            text.concat()
        );
    }
}
