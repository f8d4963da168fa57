//! MNIST by HTTPS into the cache: verified, resumable, atomic.
//!
//! A file is received as `<name>.part` in the directory it is for, and gets its name once its contents are verified. A
//! `.part` that an earlier run left is continued with a Range request.
//!
//! What is verified is the SHA-256 of the *decompressed* IDX file, while it is decompressed: mirrors compress the same
//! files differently (the published `train-images-idx3-ubyte.gz` has 9,912,422 bytes, others fewer), and only the
//! contents matter. The `.gz` that is received may not be larger than the contents it stands for, so no mirror can fill
//! the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::http::StatusCode;
use ureq::Agent;

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
    /// Bytes are arriving; comes once before the first and then for each chunk.
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
/// every chunk; a [`ControlFlow::Break`] from it stops the download and leaves the `.part` for the next run.
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

/// A file to have: its name without `.gz`, and the size and SHA-256 of its decompressed contents.
struct Wanted<'a> {
    name: &'a str,
    bytes: u64,
    sha256: &'a str,
}

/// The files in the order in which they are fetched: a mirror that lacks the large one has by then given the others.
const MNIST: [Wanted; 4] = [
    Wanted {
        name: mnist::FILES[2],
        bytes: 7_840_016,
        sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    },
    Wanted {
        name: mnist::FILES[3],
        bytes: 10_008,
        sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    Wanted {
        name: mnist::FILES[1],
        bytes: 60_008,
        sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    Wanted {
        name: mnist::FILES[0],
        bytes: 47_040_016,
        sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    },
];

impl Wanted<'_> {
    /// The most bytes that the compressed file may have: gzip adds at most a header and 5 bytes to each 16 KiB.
    fn most_bytes(&self) -> u64 {
        self.bytes + self.bytes / 1024 + 1024
    }

    /// Whether the file at `path`, gzipped or raw, has the right contents; else what it has.
    fn verify(&self, path: &Path) -> Result<(), String> {
        let unreadable = |e: io::Error| format!("cannot be read: {e}");
        let mut file = BufReader::with_capacity(CHUNK_BYTES, File::open(path).map_err(unreadable)?);
        let gzip = io::BufRead::fill_buf(&mut file).map_err(unreadable)?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        // One byte more than there should be is enough to see that there are more.
        let mut reader = reader.take(self.bytes + 1);
        let mut sha256 = Sha256::new();
        let bytes = io::copy(&mut reader, &mut sha256).map_err(|e| format!("is damaged: {e}"))?;
        if bytes != self.bytes {
            let found = if bytes > self.bytes { "more".to_owned() } else { bytes.to_string() };
            return Err(format!("has {found} bytes decompressed, not {}", self.bytes));
        }
        let found: String = sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != self.sha256 {
            return Err(format!("has the SHA-256 {found} decompressed, not {}", self.sha256));
        }
        Ok(())
    }
}

struct Timeouts {
    /// For the name, the connection, and the beginning of the answer, each.
    connect: Duration,
    /// For the next bytes, once bytes have begun to arrive.
    stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(20), stall: Duration::from_secs(30) }
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
        if let Some(path) = mnist::find(self.dir, file.name).filter(|path| file.verify(path).is_ok()) {
            report(progress, FetchProgress::AlreadyThere { path: &path })?;
            return Ok(Fetched { path, outcome: Outcome::AlreadyThere });
        }
        let path = self.dir.join(format!("{}.gz", file.name));
        let part = self.dir.join(format!("{}.gz.part", file.name));
        let outcome = self.download(file, &part, progress)?;
        fs::rename(&part, &path)
            .map_err(|e| Error::output(&path, format!("cannot be put in place of {}: {e}", part.display())))?;
        report(progress, FetchProgress::Verified { path: &path })?;
        Ok(Fetched { path, outcome })
    }

    /// Makes `part` the verified file, from whichever mirror delivers.
    fn download(&self, file: &Wanted, part: &Path, progress: Progress) -> Result<Outcome> {
        // An earlier run may have been stopped between the last byte and the new name.
        if file.verify(part).is_ok() {
            return Ok(Outcome::Resumed);
        }
        let mut problems = Vec::new();
        for mirror in self.mirrors {
            let url = format!("{}/{}.gz", mirror.trim_end_matches('/'), file.name);
            let agent = agent(&url, &self.timeouts);
            for attempt in 1..=ATTEMPTS {
                let problem = match attempt_download(&agent, &url, file, part, progress) {
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

/// A client for one mirror.
fn agent(url: &str, timeouts: &Timeouts) -> Agent {
    let config = Agent::config_builder()
        // A status is ours to judge: 206, 200 and 416 all have a meaning here.
        .http_status_as_error(false)
        // The file as it is stored, so that byte ranges mean the same in every run.
        .accept_encoding("identity")
        .user_agent(concat!("dec/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(timeouts.connect))
        .timeout_connect(Some(timeouts.connect))
        .timeout_recv_response(Some(timeouts.connect))
        .timeout_per_read(Some(timeouts.stall));
    let config = if is_loopback(url) { config.proxy(None) } else { config };
    config.build().new_agent()
}

/// Whether the URL's host is this machine, which no proxy can reach for us.
fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<ureq::http::Uri>() else { return false };
    uri.host().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    })
}

/// One request: continues or replaces `part`, and verifies it.
fn attempt_download(
    agent: &Agent,
    url: &str,
    file: &Wanted,
    part: &Path,
    progress: Progress,
) -> Result<Outcome, Failure> {
    let have = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let mut response = request.call().map_err(|e| Failure::Mirror(explain(&e)))?;
    let resumed = match response.status() {
        StatusCode::OK => false,
        StatusCode::PARTIAL_CONTENT if have > 0 => {
            let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or("");
            if !range.starts_with(&format!("bytes {have}-")) {
                remove(part)?;
                return Err(Failure::Again(format!(
                    "asked for bytes from {have}, it answered with the range '{range}'"
                )));
            }
            true
        }
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            remove(part)?;
            return Err(Failure::Again(format!("has no bytes after {have}, which an earlier run left: starting over")));
        }
        status => return Err(Failure::Mirror(format!("answered {status}"))),
    };
    let start = if resumed { have } else { 0 };
    let body = response.body_mut();
    let total = body.content_length().map(|bytes| start.saturating_add(bytes));
    if let Some(total) = total.filter(|&total| total > file.most_bytes()) {
        return Err(Failure::Mirror(format!(
            "has {total} bytes, more than the {} that this file can have: it is another file",
            file.most_bytes()
        )));
    }
    let writing = |e: io::Error| Failure::Fatal(Error::output(part, format!("cannot be written: {e}")));
    let mut out =
        OpenOptions::new().create(true).write(true).truncate(!resumed).append(resumed).open(part).map_err(writing)?;
    let mut done = start;
    report(progress, FetchProgress::Receiving { url, done, total })?;
    let mut reader = body.as_reader();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                let of = total.map_or(String::new(), |total| format!(" of {total}"));
                let problem = format!("the connection broke after {done}{of} bytes ({})", explain_io(&e));
                // Nothing new has come: no reason to think that asking at once changes it.
                return Err(if done > start { Failure::Again(problem) } else { Failure::Mirror(problem) });
            }
        };
        done += n as u64;
        if done > file.most_bytes() {
            drop(out);
            remove(part)?;
            return Err(Failure::Mirror(format!(
                "sent more than the {} bytes that this file can have: it is another file",
                file.most_bytes()
            )));
        }
        out.write_all(&chunk[..n]).map_err(writing)?;
        report(progress, FetchProgress::Receiving { url, done, total })?;
    }
    out.sync_all().map_err(writing)?;
    drop(out);
    match file.verify(part) {
        Ok(()) => Ok(if resumed { Outcome::Resumed } else { Outcome::Downloaded }),
        Err(problem) => {
            remove(part)?;
            let problem = format!("the file received {problem}");
            // A continued file may be wrong because its beginning was; a whole one is what the mirror has.
            Err(if resumed { Failure::Again(problem) } else { Failure::Mirror(problem) })
        }
    }
}

fn remove(part: &Path) -> Result<()> {
    fs::remove_file(part).map_err(|e| Error::output(part, format!("cannot be deleted: {e}")))
}

fn explain(e: &ureq::Error) -> String {
    match e {
        ureq::Error::HostNotFound => "the host's name cannot be resolved (is there a network?)".to_owned(),
        ureq::Error::Timeout(_) => format!("no answer in time ({e})"),
        ureq::Error::Io(e) => format!("no connection: {e}"),
        e => e.to_string(),
    }
}

fn explain_io(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => "the server closed it".to_owned(),
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests;
