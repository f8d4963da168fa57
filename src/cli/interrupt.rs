//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use super::console::Console;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Takes over the signals.
pub fn install(console: &Console) -> anyhow::Result<()> {
    let console = console.clone();
    ctrlc::set_handler(move || {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        console.line("stopping, and saving what there is; Ctrl-C again quits at once");
    })
    .context("cannot listen for Ctrl-C")
}

/// Whether an end was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
