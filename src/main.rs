//! The command line of `dec`: arguments in, exit code out.

mod cli;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    match args.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS, // `dec config | head` is no failure
        Err(error) if matches!(error.downcast_ref(), Some(dec::Error::Interrupted)) => ExitCode::from(130),
        Err(error) => {
            // A closed stderr leaves nowhere to report to; the exit code still says it.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            let code = error.downcast_ref::<dec::Error>().map_or(1, dec::Error::exit_code);
            ExitCode::from(code)
        }
    }
}
