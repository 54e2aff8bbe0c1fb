//! The command line: `--help`, `--version` and `--check`. Everything else is set by environment
//! variables.

use std::fmt::Write as _;

use crate::settings::{IfUnset, VARIABLES};

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// To serve.
    Serve,
    /// To check the settings, and end.
    Check,
    /// To print how to use the handler, and end.
    Help,
    /// To print the version, and end.
    Version,
}

/// The command line is not valid. The message says what is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unexpected argument {0:?}: the handler accepts --help, --version or --check, and environment variables for everything else"
)]
pub struct UnexpectedArgument(String);

impl Command {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// An argument is unknown, or there is more than one.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UnexpectedArgument> {
        let mut arguments = arguments.into_iter();
        let command = match arguments.next() {
            None => return Ok(Command::Serve),
            Some(argument) => match argument.as_str() {
                "--check" => Command::Check,
                "--help" | "-h" => Command::Help,
                "--version" | "-V" => Command::Version,
                _ => return Err(UnexpectedArgument(argument)),
            },
        };
        arguments.next().map_or(Ok(command), |argument| Err(UnexpectedArgument(argument)))
    }
}

/// The version, and the commit it was built from.
pub fn version() -> String {
    format!("handler {} ({})", env!("CARGO_PKG_VERSION"), env!("HANDLER_COMMIT"))
}

/// How to use the handler, with every setting.
pub fn help() -> String {
    let mut text = format!(
        "{}\n\nServes /api/users with cache-aside: Redis in front of Azure Table Storage.\n\n\
         Usage: handler [--help | --version | --check]\n\n  \
         --check    checks the settings and ends\n\n\
         Settings are environment variables:\n",
        version()
    );
    for variable in VARIABLES {
        let default = match variable.default {
            IfUnset::Value(value) => format!("default {value}"),
            IfUnset::Words(words) => format!("if unset: {words}"),
        };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n  {}\n      {}\n      {}; {default}\n",
            variable.name, variable.meaning, variable.allowed
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, UnexpectedArgument> {
        Command::parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn one_known_argument_or_none_is_accepted() {
        assert_eq!(parse(&[]), Ok(Command::Serve));
        assert_eq!(parse(&["--check"]), Ok(Command::Check));
        assert_eq!(parse(&["-h"]), Ok(Command::Help));
        assert_eq!(parse(&["--version"]), Ok(Command::Version));
        for arguments in [&["serve"][..], &["--port", "1"], &["--help", "x"], &[""]] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn help_describes_every_variable() {
        let help = help();
        for variable in VARIABLES {
            assert!(help.contains(&format!("\n  {}\n", variable.name)), "{}", variable.name);
            assert!(help.contains(&variable.allowed.to_string()), "{}", variable.name);
        }
    }
}
