//! `events.jsonl`: one JSON object a line, flushed as it is written, so that a run can be followed and plotted.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::{json, Value};

use crate::error::{Error, Result};
use crate::train::{Event, Observer, Stage};

/// Writes events to a file. A write that fails (a full disk) is reported once and does not stop training.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    failed: bool,
}

impl EventLog {
    /// Opens an empty log at `path`.
    ///
    /// # Errors
    /// [`Error::Output`] if the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::output(path, format!("cannot be written: {e}")))?;
        Ok(Self { file, failed: false })
    }
}

impl Observer for EventLog {
    fn on_event(&mut self, event: &Event) {
        let Some(value) = to_json(event) else { return };
        if let Err(e) = writeln!(self.file, "{value}") {
            if !self.failed {
                tracing::warn!("the event log cannot be written any more: {e}; training goes on");
            }
            self.failed = true;
        }
    }
}

/// The line for an event; `None` for those that come with every step.
fn to_json(event: &Event) -> Option<Value> {
    Some(match event {
        Event::StageStarted { .. } | Event::Step { .. } => return None,
        Event::Epoch { stage, epoch, loss, learning_rate, seconds } => json!({
            "event": "epoch", "stage": stage.to_string(), "epoch": epoch, "loss": loss,
            "learning_rate": learning_rate, "seconds": seconds,
        }),
        Event::Restart { stage, restart, inertia, seconds } => json!({
            "event": "restart", "stage": stage.to_string(), "restart": restart, "inertia": inertia, "seconds": seconds,
        }),
        Event::Round { round, changed, loss, acc, seconds } => json!({
            "event": "round", "stage": Stage::Cluster.to_string(), "round": round, "changed": changed, "loss": loss,
            "acc": acc, "seconds": seconds,
        }),
        Event::StageFinished { stage, time } => json!({
            "event": "stage", "stage": stage.to_string(), "steps": time.steps, "seconds": time.seconds,
        }),
        Event::NetworkStarted { network, networks } => {
            json!({ "event": "network", "network": network, "networks": networks })
        }
        Event::Scored(result) => json!({ "event": "result", "result": result, "seconds": result.seconds }),
    })
}
