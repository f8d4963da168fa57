//! Checkpoints: a run's state on disk, from which another process goes on bit for bit.
//!
//! A checkpoint is two files in `checkpoints/`: `N.safetensors` with every tensor, and `N.json`, which is written last. The JSON is
//! the marker: it holds the SHA-256 of the other file, so a checkpoint is whole or it is none. Both are synced before
//! their names appear. [`Checkpoint::newest`] passes over those that are not whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Device;

use super::keeper::{Keeper, Moment};
use super::names::{numbers, CHECKPOINTS, EVENTS, FORMAT, WEIGHTS};
use super::tensors;
use crate::error::{Error, Result};
use crate::files::{sync_dir, write_atomic};
use crate::state::{Run, State, Task};
use crate::text::hex;

mod pack;

use pack::Packed;

/// Time between two tries to save where the last one failed.
const RETRY: Duration = Duration::from_secs(1);

/// What has to be the same for a run to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The recipe's name.
    pub recipe: String,
    /// What the data are called.
    pub data: String,
    /// SHA-256 of the rows as they were read.
    pub rows_sha256: String,
    /// SHA-256 of the labels, where there are some.
    pub labels_sha256: Option<String>,
    /// SHA-256 of the weights of the run that this one starts from, if it does ([`weights_sha256`]).
    #[serde(default)]
    pub start_sha256: Option<String>,
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// Threads that compute on the CPU: products may differ in their last bits with it.
    pub threads: usize,
}

impl Identity {
    /// Refuses to go on where something differs, naming it.
    ///
    /// # Errors
    /// [`Error::Config`] with what differs and, for threads and device, how to have it the same again.
    pub fn check(&self, now: &Self) -> Result<()> {
        let differs = |what: &str, before: &str, now: &str, remedy: &str| {
            Err(Error::Config(format!("the run cannot go on: {what} {before} before and {now} now; {remedy}")))
        };
        if self.rows_sha256 != now.rows_sha256 {
            return Err(Error::Config(format!(
                "the run cannot go on: the rows of {} are not those that it began with (their SHA-256 differs); bring the \
                 file back, or start anew in another directory",
                now.data
            )));
        }
        if self.labels_sha256 != now.labels_sha256 {
            return Err(Error::Config(format!(
                "the run cannot go on: the labels of {} are not those that it began with; bring them back, or start anew \
                 in another directory",
                now.data
            )));
        }
        if self.start_sha256 != now.start_sha256 {
            return Err(Error::Config(
                "the run cannot go on: the run that it started from (start.from) has other weights now; bring them back, or start anew \
                 in another directory"
                    .to_owned(),
            ));
        }
        if self.device != now.device {
            return differs("the device was", &self.device, &now.device, &format!("give --device {}", self.device));
        }
        if self.threads != now.threads {
            let (before, now) = (format!("{} threads computed", self.threads), format!("{} do", now.threads));
            return differs("", before.trim(), &now, &format!("give --threads {}", self.threads));
        }
        Ok(())
    }
}

/// SHA-256 of the weights in a run's directory.
///
/// # Errors
/// [`Error::Data`] where they cannot be read.
pub fn weights_sha256(run: &Path) -> Result<String> {
    let path = run.join(WEIGHTS);
    fs::read(&path).map(|bytes| sha256(&bytes)).map_err(|e| Error::data(&path, format!("cannot be read: {e}")))
}

/// The marker of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
    dec: String,
    identity: Identity,
    /// The resolved recipe.
    config: String,
    /// Stages that the run has in all.
    stages: usize,
    tensors_sha256: String,
    state: Packed,
}

/// A whole checkpoint that was found.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    marker: Marker,
    tensors: Vec<u8>,
}

impl Checkpoint {
    /// The newest whole checkpoint of the run in `dir`; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Data`] for a checkpoint of another format.
    pub fn newest(dir: &Path) -> Result<Option<Self>> {
        for number in numbers(&dir.join(CHECKPOINTS)).into_iter().rev() {
            let path = marker_path(&dir.join(CHECKPOINTS), number);
            match Self::read(&path) {
                Ok(found) => return Ok(Some(found)),
                Err(Unusable::Format(format)) => {
                    return Err(Error::data(
                        &path,
                        format!("is of format {format}; this program reads format {FORMAT}: resume with the version that wrote it"),
                    ))
                }
                Err(Unusable::NotWhole(why)) => tracing::warn!("{} is passed over: {why}", path.display()),
            }
        }
        Ok(None)
    }

    fn read(path: &Path) -> std::result::Result<Self, Unusable> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let not_whole = |why: String| Unusable::NotWhole(why);
        let text = fs::read(path).map_err(|e| not_whole(e.to_string()))?;
        let Format { format } = serde_json::from_slice(&text).map_err(|e| not_whole(e.to_string()))?;
        if format != FORMAT {
            return Err(Unusable::Format(format));
        }
        let marker: Marker = serde_json::from_slice(&text).map_err(|e| not_whole(e.to_string()))?;
        let tensors = fs::read(path.with_extension("safetensors")).map_err(|e| not_whole(e.to_string()))?;
        if sha256(&tensors) != marker.tensors_sha256 {
            return Err(not_whole("its tensors are damaged".to_owned()));
        }
        Ok(Self { path: path.to_owned(), marker, tensors })
    }

    /// What the run was about.
    pub fn identity(&self) -> &Identity {
        &self.marker.identity
    }

    /// The recipe that it was at, as TOML.
    pub fn config(&self) -> &str {
        &self.marker.config
    }

    /// Whether the first network was pretrained before the first stage.
    pub fn is_pretrained(&self) -> bool {
        self.marker.state.pretrained
    }

    /// The place of the stage at work in the run's list.
    pub fn cursor(&self) -> usize {
        self.marker.state.cursor
    }

    /// Events that had been told.
    pub fn events(&self) -> u64 {
        self.marker.state.events
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state, for a run of `task`.
    ///
    /// # Errors
    /// [`Error::Data`] for tensors that are missing or do not fit, or a libtorch failure.
    pub fn state(&self, task: &Task, device: Device) -> Result<State> {
        let tensors = tensors::read(&self.tensors, device).map_err(|problem| Error::data(&self.path, problem))?;
        self.marker.state.unpack(task, tensors).map_err(|problem| match problem {
            Error::Rows(problem) => Error::data(&self.path, problem),
            other => other,
        })
    }
}

/// Why a checkpoint is not used.
enum Unusable {
    Format(u32),
    NotWhole(String),
}

/// Writes checkpoints into a run's directory, and removes old ones.
#[derive(Debug)]
pub struct Checkpoints {
    run: PathBuf,
    identity: Identity,
    config: String,
    stages: usize,
    every: Duration,
    keep: usize,
    next: u64,
    last: Instant,
    failed: bool,
}

impl Checkpoints {
    /// For the run in `run`, whose resolved recipe is `config`.
    pub fn new(run: &Path, identity: Identity, config: String, stages: usize, every: Duration, keep: usize) -> Self {
        let next = numbers(&run.join(CHECKPOINTS)).last().map_or(0, |last| last + 1);
        Self { run: run.to_owned(), identity, config, stages, every, keep, next, last: Instant::now(), failed: false }
    }

    /// Saves the state now.
    ///
    /// # Errors
    /// [`Error::Output`] where it cannot be written: nothing is then half-written, and older checkpoints are still there.
    pub fn save(&mut self, state: &State) -> Result<()> {
        let started = Instant::now();
        let dir = self.run.join(CHECKPOINTS);
        let problem = |e: std::io::Error| Error::output(&dir, format!("cannot be written: {e}"));
        match fs::create_dir(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(problem(e)),
            _ => {}
        }
        let (state, named) = Packed::pack(state)?;
        let bytes = tensors::write(&named)?;
        let marker = Marker {
            format: FORMAT,
            dec: env!("CARGO_PKG_VERSION").to_owned(),
            identity: self.identity.clone(),
            config: self.config.clone(),
            stages: self.stages,
            tensors_sha256: sha256(&bytes),
            state,
        };
        let json = serde_json::to_vec(&marker).map_err(|e| Error::output(&dir, format!("cannot be written: {e}")))?;
        let path = marker_path(&dir, self.next);
        // The events up to here first: a resumed run counts on them.
        if let Ok(events) = fs::File::open(self.run.join(EVENTS)) {
            events.sync_data().map_err(problem)?;
        }
        let tensors_path = path.with_extension("safetensors");
        let written = write_atomic(&tensors_path, &bytes).and_then(|()| write_atomic(&path, &json));
        if written.is_err() {
            let _ = fs::remove_file(&tensors_path); // room for the next try
            return written;
        }
        tracing::debug!("checkpoint {}: {} bytes in {:.2?}", self.next, bytes.len(), started.elapsed());
        self.next += 1;
        self.last = Instant::now();
        self.prune(&dir);
        Ok(())
    }

    /// Removes all but the newest.
    fn prune(&self, dir: &Path) {
        let numbers = numbers(dir);
        for &number in &numbers[..numbers.len().saturating_sub(self.keep)] {
            remove(dir, number);
        }
    }

    /// Removes all: the run has finished.
    pub fn remove_all(&self) {
        let dir = self.run.join(CHECKPOINTS);
        numbers(&dir).into_iter().for_each(|number| remove(&dir, number));
        if let Err(e) = fs::remove_dir_all(&dir) {
            if e.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!("{} cannot be removed: {e}", dir.display());
            }
        }
        let _ = sync_dir(&self.run);
    }
}

impl Checkpoints {
    /// Saves the state; failing to is reported once, and tried again later.
    pub fn try_save(&mut self, state: &State) {
        match self.save(state) {
            Ok(()) if self.failed => {
                tracing::info!("checkpoints can be saved again");
                self.failed = false;
            }
            Ok(()) => {}
            Err(problem) => {
                self.last = Instant::now();
                if !self.failed {
                    tracing::warn!("no checkpoint: {problem}; training goes on, and every boundary tries again");
                }
                self.failed = true;
            }
        }
    }
}

impl Keeper for Checkpoints {
    fn keep(&mut self, run: &Run, moment: Moment) {
        // A save that failed is tried again at the next boundary, but not after every piece of a few milliseconds.
        let wait = if self.failed { self.every.min(RETRY) } else { self.every };
        if moment != Moment::Piece || self.last.elapsed() >= wait {
            self.try_save(&run.state);
        }
    }
}

fn marker_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.json"))
}

/// The marker first: tensors without one are no checkpoint.
fn remove(dir: &Path, number: u64) {
    let path = marker_path(dir, number);
    for path in [&path, &path.with_extension("safetensors")] {
        if let Err(e) = fs::remove_file(path) {
            tracing::debug!("{} cannot be removed: {e}", path.display());
        }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}
