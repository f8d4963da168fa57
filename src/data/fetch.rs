//! MNIST by HTTPS into the cache: verified, resumable, atomic.
//!
//! A file is received as `<name>.part` in the directory it is for, and gets its name once its contents are verified. A
//! `.part` that an earlier run left is continued with a Range request. It is locked while one process downloads into it; another
//! that wants the same file waits.
//!
//! What is verified is the SHA-256 of the *decompressed* IDX file, while it is decompressed: mirrors compress the same
//! files differently (the published `train-images-idx3-ubyte.gz` has 9,912,422 bytes, others fewer), and only the
//! contents matter. The `.gz` that is received may not be larger than the contents it stands for, so no mirror can fill
//! the disk.

mod part;
mod transfer;
mod wanted;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::StatusCode;
use ureq::Agent;

use self::part::Part;
use self::transfer::{agent, Answer, Pace, Transfer, POLL_INTERVAL};
use self::wanted::{Wanted, MNIST};
use super::mnist;
use crate::error::{Error, Result};

/// Where [`fetch_mnist`] looks when it is given no mirrors, in this order; a file's name is appended.
pub const DEFAULT_MIRRORS: [&str; 2] =
    ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"];

/// How often one mirror is asked for one file: once, once more after a connection that broke or a `.part` that turned
/// out wrong, and once more after that.
const ATTEMPTS: usize = 3;

const CHUNK_BYTES: usize = 1 << 16;

/// What [`fetch_mnist`] is doing; the callback may stop it with [`ControlFlow::Break`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchProgress<'a> {
    /// The file is there already and its contents are right; nothing is downloaded.
    AlreadyThere {
        /// The file's path.
        path: &'a Path,
    },
    /// Another process downloads the file; comes several times a second until it ends.
    Waiting {
        /// The file's path.
        path: &'a Path,
    },
    /// Connecting, or waiting for the answer; comes several times a second.
    Asking {
        /// What is asked for.
        url: &'a str,
    },
    /// Bytes are arriving; comes once before the first, then for each chunk, and several times a second while none comes.
    Receiving {
        /// What is downloaded.
        url: &'a str,
        /// Bytes so far, those of an earlier run included.
        done: u64,
        /// Bytes in all, where the server says.
        total: Option<u64>,
    },
    /// A mirror did not deliver; the next attempt or mirror follows.
    Failed {
        /// What was asked for.
        url: &'a str,
        /// What went wrong.
        problem: &'a str,
    },
    /// The file is downloaded, verified and in place.
    Verified {
        /// The file's path.
        path: &'a Path,
    },
}

/// A file that is now in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// How it came there.
    pub outcome: Outcome,
}

/// How a file came to be in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was there, with the right contents.
    AlreadyThere,
    /// It was downloaded.
    Downloaded,
    /// What an interrupted download had left was completed.
    Resumed,
}

/// Downloads MNIST's four files into `dir` (created if need be), as `<name>.gz`.
///
/// `mirrors` are URLs of directories, tried in order for each file; none means [`DEFAULT_MIRRORS`]. Proxies are taken
/// from the usual variables (`HTTPS_PROXY`, `NO_PROXY`), except for a mirror on this machine. `progress` is called for
/// every chunk, and several times a second while nothing comes; a [`ControlFlow::Break`] from it stops the download and leaves
/// the `.part` for the next run. A mirror that sends less than 1 kB a second over 30 s is given up.
///
/// # Errors
///
/// [`Error::Interrupted`] after a `Break`; [`Error::Output`] if `dir` cannot be written; [`Error::Fetch`] if no mirror
/// delivers, with what each one did.
pub fn fetch_mnist(
    dir: &Path,
    mirrors: &[String],
    progress: &mut dyn FnMut(FetchProgress) -> ControlFlow<()>,
) -> Result<Vec<Fetched>> {
    let default: Vec<String> = DEFAULT_MIRRORS.iter().map(|&url| url.to_owned()).collect();
    let mirrors = if mirrors.is_empty() { &default } else { mirrors };
    Fetcher { dir, mirrors, timeouts: Timeouts::default() }.fetch_all(&MNIST, progress)
}

struct Timeouts {
    /// For the name, the connection, and the beginning of the answer, each.
    connect: Duration,
    /// For the next bytes, once bytes have begun to arrive.
    stall: Duration,
    /// The time over which the rate of the bytes is taken; a server that is too slow is given up.
    slow: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(20), stall: Duration::from_secs(30), slow: Duration::from_secs(30) }
    }
}

/// Why an attempt did not deliver.
enum Failure {
    /// The mirror's fault; asking it again may help.
    Again(String),
    /// The mirror's fault; asking it again does not help.
    Mirror(String),
    /// No mirror can help: the disk, or the user.
    Fatal(Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Fatal(e)
    }
}

struct Fetcher<'a> {
    dir: &'a Path,
    mirrors: &'a [String],
    timeouts: Timeouts,
}

type Progress<'a> = &'a mut dyn FnMut(FetchProgress) -> ControlFlow<()>;

fn report(progress: Progress, event: FetchProgress) -> Result<()> {
    match progress(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}

impl Fetcher<'_> {
    fn fetch_all(&self, files: &[Wanted], progress: Progress) -> Result<Vec<Fetched>> {
        fs::create_dir_all(self.dir).map_err(|e| Error::output(self.dir, format!("cannot be created: {e}")))?;
        files.iter().map(|file| self.fetch(file, progress)).collect()
    }

    fn fetch(&self, file: &Wanted, progress: Progress) -> Result<Fetched> {
        if let Some(fetched) = self.already_there(file, progress)? {
            return Ok(fetched);
        }
        let path = self.dir.join(format!("{}.gz", file.name));
        let mut part = self.own_part(file, &path, progress)?;
        // Another process may have put it in place before the `.part` was ours.
        if let Some(fetched) = self.already_there(file, progress)? {
            return Ok(fetched);
        }
        let outcome = self.download(file, &mut part, progress)?;
        part.put_in_place(&path)?;
        report(progress, FetchProgress::Verified { path: &path })?;
        Ok(Fetched { path, outcome })
    }

    fn already_there(&self, file: &Wanted, progress: Progress) -> Result<Option<Fetched>> {
        let Some(path) = mnist::find(self.dir, file.name).filter(|path| file.verify_at(path).is_ok()) else {
            return Ok(None);
        };
        report(progress, FetchProgress::AlreadyThere { path: &path })?;
        Ok(Some(Fetched { path, outcome: Outcome::AlreadyThere }))
    }

    /// The `.part` of `file`, once no other process downloads into it.
    fn own_part(&self, file: &Wanted, path: &Path, progress: Progress) -> Result<Part> {
        let part = self.dir.join(format!("{}.gz.part", file.name));
        loop {
            if let Some(part) = Part::open(&part)? {
                return Ok(part);
            }
            report(progress, FetchProgress::Waiting { path })?;
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Makes `part` the verified file, from whichever mirror delivers.
    fn download(&self, file: &Wanted, part: &mut Part, progress: Progress) -> Result<Outcome> {
        // An earlier run may have been stopped between the last byte and the new name.
        if part.verify(file).is_ok() {
            return Ok(Outcome::Resumed);
        }
        let mut problems = Vec::new();
        for mirror in self.mirrors {
            let url = format!("{}/{}.gz", mirror.trim_end_matches('/'), file.name);
            let request = Request { agent: agent(&url, &self.timeouts), url: &url, file, slow: self.timeouts.slow };
            for attempt in 1..=ATTEMPTS {
                let problem = match request.attempt(part, progress) {
                    Ok(outcome) => return Ok(outcome),
                    Err(Failure::Fatal(e)) => return Err(e),
                    Err(Failure::Again(problem)) if attempt < ATTEMPTS => {
                        report(progress, FetchProgress::Failed { url: &url, problem: &problem })?;
                        continue;
                    }
                    Err(Failure::Again(problem) | Failure::Mirror(problem)) => problem,
                };
                report(progress, FetchProgress::Failed { url: &url, problem: &problem })?;
                problems.push(format!("\n  {url}: {problem}"));
                break;
            }
        }
        Err(Error::Fetch(format!(
            "{}.gz could not be downloaded:{}\nTry again later (what has arrived is kept and continued), use another \
             mirror with --mirror URL, set HTTPS_PROXY if the network needs a proxy, or put the file into {} by hand",
            file.name,
            problems.concat(),
            self.dir.display()
        )))
    }
}

/// A file that one mirror is asked for.
struct Request<'a> {
    agent: Agent,
    url: &'a str,
    file: &'a Wanted<'a>,
    slow: Duration,
}

impl Request<'_> {
    /// Asks once: continues or replaces `part`, and verifies it.
    fn attempt(&self, part: &mut Part, progress: Progress) -> Result<Outcome, Failure> {
        let have = part.len()?;
        let transfer = Transfer::start(&self.agent, self.url, have)
            .map_err(|e| Error::Fetch(format!("{}: no thread can be started for the download: {e}", self.url)))?;
        let answer = loop {
            match transfer.answer() {
                Some(answer) => break answer.map_err(Failure::Mirror)?,
                None => report(progress, FetchProgress::Asking { url: self.url })?,
            }
        };
        let resumed = self.judge(&answer, have, part)?;
        if !resumed {
            part.clear()?;
        }
        let start = if resumed { have } else { 0 };
        self.receive(&transfer, start, answer.length, part, progress)?;
        part.verify(self.file).map(|()| if resumed { Outcome::Resumed } else { Outcome::Downloaded }).or_else(
            |problem| {
                part.clear()?;
                let problem = format!("the file received {problem}");
                // A continued file may be wrong because its beginning was; a whole one is what the mirror has.
                Err(if resumed { Failure::Again(problem) } else { Failure::Mirror(problem) })
            },
        )
    }

    /// Whether the answer continues the `have` bytes of `part`, or is the file from its beginning.
    fn judge(&self, answer: &Answer, have: u64, part: &mut Part) -> Result<bool, Failure> {
        let resumed = match answer.status {
            StatusCode::OK => false,
            StatusCode::PARTIAL_CONTENT if have > 0 => {
                if !answer.range.starts_with(&format!("bytes {have}-")) {
                    part.clear()?;
                    let problem = format!("asked for bytes from {have}, it answered with the range '{}'", answer.range);
                    return Err(Failure::Again(problem));
                }
                true
            }
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                part.clear()?;
                let problem = format!("has no bytes after {have}, which an earlier run left: starting over");
                return Err(Failure::Again(problem));
            }
            status => return Err(Failure::Mirror(format!("answered {status}"))),
        };
        let (start, most) = (if resumed { have } else { 0 }, self.file.most_bytes());
        match answer.length.map(|bytes| start.saturating_add(bytes)) {
            Some(total) if total > most => Err(Failure::Mirror(format!(
                "has {total} bytes, more than the {most} that this file can have: it is another file"
            ))),
            _ => Ok(resumed),
        }
    }

    /// Appends to `part`, which has `start` bytes, what arrives.
    fn receive(
        &self,
        transfer: &Transfer,
        start: u64,
        length: Option<u64>,
        part: &mut Part,
        progress: Progress,
    ) -> Result<(), Failure> {
        let total = length.map(|bytes| start.saturating_add(bytes));
        let mut done = start;
        let mut pace = Pace::new(self.slow);
        loop {
            report(progress, FetchProgress::Receiving { url: self.url, done, total })?;
            let bytes = match transfer.bytes() {
                None => Vec::new(),
                Some(Ok(bytes)) if bytes.is_empty() => return Ok(()),
                Some(Ok(bytes)) => bytes,
                Some(Err(problem)) => {
                    let of = total.map_or(String::new(), |total| format!(" of {total}"));
                    let problem = format!("the connection broke after {done}{of} bytes ({problem})");
                    // Nothing new has come: no reason to think that asking at once changes it.
                    return Err(if done > start { Failure::Again(problem) } else { Failure::Mirror(problem) });
                }
            };
            done += bytes.len() as u64;
            let most = self.file.most_bytes();
            if done > most {
                part.clear()?;
                return Err(Failure::Mirror(format!(
                    "sent more than the {most} bytes that this file can have: it is another file"
                )));
            }
            part.append(&bytes)?;
            if total != Some(done) {
                pace.note(bytes.len()).map_err(Failure::Mirror)?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
