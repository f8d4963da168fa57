//! One request to a mirror, made on a thread of its own: the caller can stop, or lose patience, while the server says nothing.

use std::io::{self, Read};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::{Timeouts, CHUNK_BYTES};

/// How often the caller is asked whether to go on.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Chunks that wait for the disk at most.
const CHUNKS_AHEAD: usize = 4;

/// Bytes a second below which a server is given up.
const MIN_RATE: u64 = 1000;

/// A request under way. Dropping it ends the request: at its next bytes, or when it runs into a timeout.
///
/// What it receives is an error where the server failed; why.
pub(super) struct Transfer {
    answer: Receiver<Result<Answer, String>>,
    body: Receiver<Result<Vec<u8>, String>>,
}

/// The head of a server's answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Its Content-Range, or nothing.
    pub(super) range: String,
    /// Bytes that follow, where it says so.
    pub(super) length: Option<u64>,
}

impl Transfer {
    /// Asks for `url` from the byte `from` on.
    pub(super) fn start(agent: &Agent, url: &str, from: u64) -> io::Result<Self> {
        let (answer_to, answer) = sync_channel(1);
        let (body_to, body) = sync_channel(CHUNKS_AHEAD);
        let (agent, url) = (agent.clone(), url.to_owned());
        std::thread::Builder::new().spawn(move || match request(&agent, &url, from) {
            Ok((answer, response)) => {
                if answer_to.send(Ok(answer)).is_ok() {
                    pass_on(response, &body_to);
                }
            }
            Err(e) => drop(answer_to.send(Err(explain(&e)))), // if nobody listens any more, nobody needs it
        })?;
        Ok(Self { answer, body })
    }

    /// The head of the answer; `None` if it did not come within [`POLL_INTERVAL`].
    pub(super) fn answer(&self) -> Option<Result<Answer, String>> {
        receive(&self.answer)
    }

    /// The next bytes after the answer, none at its end; `None` if nothing came within [`POLL_INTERVAL`].
    pub(super) fn bytes(&self) -> Option<Result<Vec<u8>, String>> {
        receive(&self.body)
    }
}

fn receive<T>(from: &Receiver<Result<T, String>>) -> Option<Result<T, String>> {
    match from.recv_timeout(POLL_INTERVAL) {
        Ok(received) => Some(received),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Err("the download stopped by itself".to_owned())),
    }
}

fn request(agent: &Agent, url: &str, from: u64) -> Result<(Answer, Response<Body>), ureq::Error> {
    let mut request = agent.get(url);
    if from > 0 {
        request = request.header(RANGE, format!("bytes={from}-"));
    }
    let response = request.call()?;
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    Ok((Answer { status: response.status(), range, length: response.body().content_length() }, response))
}

/// Sends the body's bytes, until it ends, breaks off, or nobody listens any more.
fn pass_on(mut response: Response<Body>, to: &SyncSender<Result<Vec<u8>, String>>) {
    let mut reader = response.body_mut().as_reader();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match reader.read(&mut chunk) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map(|n| chunk[..n].to_vec()).map_err(|e| explain_io(&e)),
        };
        let ended = read.as_ref().map_or(true, Vec::is_empty);
        if to.send(read).is_err() || ended {
            return;
        }
    }
}

/// A client for one mirror.
pub(super) fn agent(url: &str, timeouts: &Timeouts) -> Agent {
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
pub(super) fn is_loopback(url: &str) -> bool {
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

/// Watches how fast bytes come, over one window of time after the other.
pub(super) struct Pace {
    window: Duration,
    /// Of the current window: the time in it so far, and the bytes that came.
    elapsed: Duration,
    bytes: u64,
    seen: Instant,
}

impl Pace {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, elapsed: Duration::ZERO, bytes: 0, seen: Instant::now() }
    }

    /// Notes that `bytes` more have come.
    ///
    /// # Errors
    /// In a window that is over, fewer came than [`MIN_RATE`] asks for; says so.
    pub(super) fn note(&mut self, bytes: usize) -> Result<(), String> {
        let now = Instant::now();
        // We are here every POLL_INTERVAL; in a longer time than some of these the process was stopped, and not the server slow.
        self.elapsed += now.duration_since(self.seen).min(3 * POLL_INTERVAL);
        self.seen = now;
        self.bytes += bytes as u64;
        if self.elapsed < self.window {
            return Ok(());
        }
        let seconds = self.elapsed.as_secs_f64();
        if (self.bytes as f64) < MIN_RATE as f64 * seconds {
            return Err(format!("too slow: {} bytes in {seconds:.0} s, less than {MIN_RATE} a second", self.bytes));
        }
        (self.elapsed, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}
