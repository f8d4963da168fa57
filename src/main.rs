//! The command line of `dec`: arguments in, exit code out.

mod cli;

use std::io::Write;
use std::panic;
use std::time::Duration;

use clap::Parser;
use dec::backend::{ranks, signals};

/// How long another process than the first of several waits before it says what went wrong.
const FIRST_SAYS: Duration = Duration::from_secs(2);

fn main() {
    dec::backend::exit(run());
}

fn run() -> u8 {
    let args = match cli::Args::try_parse() {
        Ok(args) => args,
        Err(other) => {
            let _ = other.print(); // --help and --version too; as below, a closed stdout leaves nowhere to report to
            return u8::try_from(other.exit_code()).unwrap_or(2);
        }
    };
    // What libtorch refuses in the middle of a network (memory that ran out, above all) reaches us as a panic of tch: it is
    // caught and reported like any other error. `--verbose` shows where it came from.
    panic::set_hook(Box::new(|info| tracing::debug!("{info}")));
    match panic::catch_unwind(|| args.run()) {
        Ok(Ok(())) => {
            ranks::leave();
            0
        }
        Ok(Err(error)) if cli::is_unread(&error) => 0, // `dec config | head` is no failure
        Ok(Err(error)) => {
            if let Some(dec::Error::Interrupted) = error.downcast_ref() {
                let together = ranks::stopped_together();
                if together {
                    ranks::leave(); // for whom the first may still be writing
                }
                if let Some(signal) = signals::requested() {
                    return signal.exit_code();
                }
                if together {
                    return dec::Error::Interrupted.exit_code(); // another was told, and says so
                }
            }
            let remedy =
                error.downcast_ref().and_then(cli::remedy).map_or_else(String::new, |text| format!("; {text}"));
            report(&format!("{error:#}{remedy}"));
            error.downcast_ref().map_or(1, dec::Error::exit_code)
        }
        Err(payload) => {
            let error = dec::Error::from_payload(&*payload);
            report(&error.to_string());
            error.exit_code()
        }
    }
}

fn report(message: &str) {
    let (processes, rank) = ranks::launched();
    if rank > 0 {
        // What is wrong for all, the first says; then the launcher ends this one.
        std::thread::sleep(FIRST_SAYS);
        let _ = writeln!(std::io::stderr(), "error: process {} of {processes}: {message}", rank + 1);
        return;
    }
    // A closed stderr leaves nowhere to report to; the exit code still says it.
    let _ = writeln!(std::io::stderr(), "error: {message}");
}
