//! What `dec merge` and `dec rename` take: the directory of a run that has finished.

use std::path::Path;

use dec::run::{Content, RunDir, FORMAT, SUMMARY, WEIGHTS};
use serde_json::Value;

/// The summary of the finished run in `run`.
///
/// # Errors
/// [`dec::Error::Data`] for a directory that is none of a run, of one that has not finished or came to no clusters, or of a later
/// version.
pub fn summary_of(run: &Path) -> dec::Result<Value> {
    let refuse = |problem: String| Err(dec::Error::data(run, problem));
    if !run.is_dir() {
        return refuse("is no run directory: there is no such directory".to_owned());
    }
    if matches!(RunDir::content(run), Content::Unfinished) {
        return refuse(format!("this run has not finished; `dec resume {}` goes on with it", run.display()));
    }
    if super::ensemble::is_one(run) {
        return refuse(format!(
            "is an ensemble; name one of its runs, such as {}",
            super::ensemble::run_in(run)?.display()
        ));
    }
    let path = run.join(SUMMARY);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return refuse(format!("is no directory of a finished run: it has no {SUMMARY}"));
        }
        Err(e) => return Err(dec::Error::data(&path, format!("cannot be read: {e}"))),
    };
    let summary: Value =
        serde_json::from_slice(&text).map_err(|e| dec::Error::data(&path, format!("is no summary of a run: {e}")))?;
    match summary["format"].as_u64() {
        Some(format) if format > u64::from(FORMAT) => {
            return refuse(format!(
                "this run is of format {format}, a later dec's; this one ({}) knows formats up to {FORMAT}",
                env!("CARGO_PKG_VERSION")
            ));
        }
        _ => {}
    }
    if !run.join(WEIGHTS).exists() {
        return refuse(format!("this run came to no clusters: it has no {WEIGHTS}"));
    }
    Ok(summary)
}
