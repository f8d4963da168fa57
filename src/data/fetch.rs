//! MNIST by HTTPS into the cache: verified, and whole or not there at all.
//!
//! A file is received into memory, where none is larger than 10 MB, verified, and then written in one go. A download that
//! breaks off starts over. What a mirror sends may not be larger than the contents it stands for, so that none can fill the memory.

use std::fs;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::StatusCode;
use ureq::Agent;

use super::published::{Published, MNIST};
use super::verified;
use crate::error::{Error, Result};
use crate::files;

/// Where [`fetch_mnist`] looks when it is given no mirrors, in this order; a file's name is appended.
pub const DEFAULT_MIRRORS: [&str; 2] =
    ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"];

/// How long a mirror may take for each of: its name, the connection, the beginning of its answer, the next bytes.
const PATIENCE: Duration = Duration::from_secs(25);

const CHUNK_BYTES: usize = 1 << 16;

/// What [`fetch_mnist`] is doing; the callback may stop it with [`ControlFlow::Break`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchProgress<'a> {
    /// The file is there already and its contents are right; nothing is downloaded.
    AlreadyThere {
        /// The file's path.
        path: &'a Path,
    },
    /// Bytes are arriving; comes once before the first, then for each chunk.
    Receiving {
        /// What is downloaded.
        url: &'a str,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where the server says.
        total: Option<u64>,
    },
    /// A mirror did not deliver; the next one follows.
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
}

/// Downloads MNIST's four files into `dir` (created if need be), as `<name>.gz`.
///
/// `mirrors` are URLs of directories, tried in order for each file; none means [`DEFAULT_MIRRORS`]. Proxies are taken
/// from the usual variables (`HTTPS_PROXY`, `NO_PROXY`), except for a mirror on this machine. `progress` is called for
/// every chunk; a [`ControlFlow::Break`] from it stops the download. Files that are in place by then stay.
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
    Fetcher { dir, mirrors, patience: PATIENCE }.fetch_all(&MNIST, progress)
}

/// Why a mirror did not deliver.
enum Failure {
    /// Its own fault: the next one may.
    Mirror(String),
    /// None can help.
    Fatal(Error),
}

fn refused<T>(problem: String) -> Result<T, Failure> {
    Err(Failure::Mirror(problem))
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Fatal(e)
    }
}

struct Fetcher<'a> {
    dir: &'a Path,
    mirrors: &'a [String],
    patience: Duration,
}

type Progress<'a> = &'a mut dyn FnMut(FetchProgress) -> ControlFlow<()>;

fn report(progress: Progress, event: FetchProgress) -> Result<()> {
    match progress(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}

impl Fetcher<'_> {
    /// The last first: a mirror that lacks MNIST's large training images has by then given the others.
    fn fetch_all(&self, files: &[Published], progress: Progress) -> Result<Vec<Fetched>> {
        fs::create_dir_all(self.dir).map_err(|e| Error::output(self.dir, format!("cannot be created: {e}")))?;
        files.iter().rev().map(|file| self.fetch(file, progress)).collect()
    }

    fn fetch(&self, file: &Published, progress: Progress) -> Result<Fetched> {
        if let Some(path) = file.find(self.dir).filter(|path| verified::check_contents(path, file).is_ok()) {
            report(progress, FetchProgress::AlreadyThere { path: &path })?;
            return Ok(Fetched { path, outcome: Outcome::AlreadyThere });
        }
        let path = self.dir.join(format!("{}.gz", file.name));
        let bytes = self.download(file, progress)?;
        files::replace(&path, &bytes)
            .map_err(|e| Error::output(&path, format!("cannot be written: {}", files::reason(&e))))?;
        verified::written(&path, file);
        report(progress, FetchProgress::Verified { path: &path })?;
        Ok(Fetched { path, outcome: Outcome::Downloaded })
    }

    /// The verified file, from whichever mirror delivers.
    fn download(&self, file: &Published, progress: Progress) -> Result<Vec<u8>> {
        let mut problems = String::new();
        for mirror in self.mirrors {
            let url = format!("{}/{}.gz", mirror.trim_end_matches('/'), file.name);
            match self.receive(&url, file, progress) {
                Ok(bytes) => return Ok(bytes),
                Err(Failure::Fatal(e)) => return Err(e),
                Err(Failure::Mirror(problem)) => {
                    report(progress, FetchProgress::Failed { url: &url, problem: &problem })?;
                    problems += &format!("\n  {url}: {problem}");
                }
            }
        }
        Err(Error::Fetch(format!(
            "{}.gz could not be downloaded:{problems}\nTry again later, use another mirror with --mirror URL, set HTTPS_PROXY \
             if the network needs a proxy, or put the file into {} by hand",
            file.name,
            self.dir.display()
        )))
    }

    /// Asks one mirror, and verifies what it sends.
    fn receive(&self, url: &str, file: &Published, progress: Progress) -> Result<Vec<u8>, Failure> {
        let mut response = self.agent(url).get(url).call().or_else(|e| refused(explain(&e)))?;
        if response.status() != StatusCode::OK {
            return refused(format!("answered {}", response.status()));
        }
        let (most, total) = (file.most_bytes(), response.body().content_length());
        if let Some(total) = total.filter(|&total| total > most) {
            return refused(format!(
                "has {total} bytes, more than the {most} that this file can have: it is another file"
            ));
        }
        let mut reader = response.body_mut().as_reader();
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK_BYTES]);
        loop {
            let done = bytes.len() as u64;
            report(progress, FetchProgress::Receiving { url, done, total })?;
            match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let of = total.map_or(String::new(), |total| format!(" of {total}"));
                    return refused(format!("the connection broke after {done}{of} bytes ({})", explain_io(&e)));
                }
            }
            if bytes.len() as u64 > most {
                return refused(format!("sent more than the {most} bytes that this file can have: it is another file"));
            }
        }
        file.verify(&bytes[..]).or_else(|problem| refused(format!("the file received {problem}")))?;
        Ok(bytes)
    }

    /// A client for one mirror.
    fn agent(&self, url: &str) -> Agent {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("dec/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(self.patience))
            .timeout_connect(Some(self.patience))
            .timeout_recv_response(Some(self.patience))
            .timeout_per_read(Some(self.patience));
        let config = if is_loopback(url) { config.proxy(None) } else { config };
        config.build().new_agent()
    }
}

/// Whether the URL's host is this machine, which no proxy can reach for us.
fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<ureq::http::Uri>() else { return false };
    uri.host().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    })
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
