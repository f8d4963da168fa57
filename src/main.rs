//! The command line of `dec`: arguments in, exit code out.

mod cli;

use std::io::Write;
use std::panic;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    // What libtorch refuses in the middle of a network (memory that ran out, above all) reaches us as a panic of tch: it is
    // caught and reported like any other error. `--verbose` shows where it came from.
    panic::set_hook(Box::new(|info| tracing::debug!("{info}")));
    match panic::catch_unwind(|| args.run()) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS, // `dec config | head` is no failure
        Ok(Err(error)) => {
            if !matches!(error.downcast_ref(), Some(dec::Error::Interrupted)) {
                report(&format!("{error:#}"));
            }
            ExitCode::from(error.downcast_ref().map_or(1, dec::Error::exit_code))
        }
        Err(payload) => {
            report(cli::panic_text(&*payload));
            ExitCode::FAILURE
        }
    }
}

fn report(message: &str) {
    // A closed stderr leaves nowhere to report to; the exit code still says it.
    let _ = writeln!(std::io::stderr(), "error: {message}");
}
