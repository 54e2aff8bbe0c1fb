//! Sets `HANDLER_COMMIT`, the commit that `handler --version` prints: the variable of that name if it
//! is set, as in the image's build, or else what git says.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=HANDLER_COMMIT");
    let commit = match std::env::var("HANDLER_COMMIT") {
        Ok(commit) if !commit.is_empty() => commit,
        _ => {
            // The reflog changes with each commit and each checkout.
            if let Some(reflog) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
                println!("cargo::rerun-if-changed={reflog}");
            }
            git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown commit".to_owned())
        }
    };
    println!("cargo::rustc-env=HANDLER_COMMIT={commit}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
