//! What `dec` does about signals ([`dec::backend::signals`]) and what it says.

use anyhow::Context;
use dec::backend::signals;

use super::console::Console;

pub use dec::backend::signals::{save_first, take_save_request};

/// Takes over the signals; before any thread is started.
pub fn install(console: &Console) -> anyhow::Result<()> {
    let console = console.clone();
    signals::install(move || console.line("stopping, and saving what there is; a second Ctrl-C quits at once"))
        .context("cannot listen for signals")
}

/// Whether an end was asked for.
pub fn requested() -> bool {
    signals::requested().is_some()
}
