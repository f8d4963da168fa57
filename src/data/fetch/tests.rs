#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::transfer::is_loopback;
use super::*;

/// How a mirror behaves on one request.
#[derive(Clone, Copy)]
enum Act {
    /// Serves the file, honouring a Range.
    Serve,
    /// Serves the whole file whatever was asked for.
    IgnoreRange,
    /// Announces the whole file (or range) and closes after this many bytes.
    CloseAfter(usize),
    /// Announces the whole file, sends this many bytes, and says no more.
    StallAfter(usize),
    /// Serves the file, most of it after this time.
    Pause(Duration),
    /// Announces the whole file and sends a byte every 10 ms.
    Drip,
    /// Takes the request and says nothing.
    Silent,
    /// Serves other bytes.
    Other,
    /// Serves bytes without end and without saying how many.
    Endless,
    /// A range that does not begin where it was asked to.
    WrongRange,
    Status(u16),
}

/// A mirror on the loopback interface, which answers one request for each act and then is gone.
struct Mirror {
    url: String,
    /// "/name.gz" or "/name.gz bytes=5-" for each request.
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    fn new(file: Vec<u8>, acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        let thread = std::thread::spawn(move || {
            for act in acts {
                let (stream, _) = listener.accept().unwrap();
                let Some(request) = read_request(&stream) else { return };
                log.lock().unwrap().push(request.clone());
                answer(stream, &request, &file, act);
            }
        });
        Self { url, requests, thread: Some(thread) }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // Acts that were not called for: connections that say nothing let the thread come to its end.
        while let Some(thread) = self.thread.take() {
            if thread.is_finished() {
                thread.join().unwrap();
            } else {
                let _ = TcpStream::connect(self.url.trim_start_matches("http://").trim_end_matches('/'));
                std::thread::sleep(Duration::from_millis(1));
                self.thread = Some(thread);
            }
        }
    }
}

fn read_request(stream: &TcpStream) -> Option<String> {
    let (mut path, mut range) = (None::<String>, String::new());
    for line in BufReader::new(stream).lines() {
        let line = line.ok()?;
        if line.is_empty() {
            return path.map(|path| path + &range);
        } else if let Some(rest) = line.strip_prefix("GET ") {
            path = rest.split(' ').next().map(str::to_owned);
        } else if let Some(rest) = line.to_lowercase().strip_prefix("range: ") {
            range = format!(" {rest}");
        }
    }
    None
}

fn answer(mut stream: TcpStream, request: &str, file: &[u8], act: Act) {
    let asked: Option<usize> =
        request.split_once("bytes=").and_then(|(_, range)| range.trim_end_matches('-').parse().ok());
    let other: Vec<u8> = file.iter().rev().copied().collect();
    let body = if matches!(act, Act::Other) { &other } else { file };
    let start = if matches!(act, Act::IgnoreRange) { 0 } else { asked.unwrap_or(0) };
    let head = match act {
        Act::Status(status) => format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n"),
        Act::Endless => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ if start >= body.len() => "HTTP/1.1 416 No\r\nContent-Length: 0\r\n".to_owned(),
        _ if start > 0 => {
            let said = if matches!(act, Act::WrongRange) { start - 1 } else { start };
            let (len, end, left) = (body.len(), body.len() - 1, body.len() - start);
            format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {said}-{end}/{len}\r\nContent-Length: {left}\r\n")
        }
        _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len()),
    };
    if matches!(act, Act::Silent) {
        let _ = stream.read(&mut [0]); // until the client hangs up
        return;
    }
    // The client may hang up at any point; that is what some of the tests are about.
    let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
    match act {
        Act::Status(_) => {}
        Act::Endless => while stream.write_all(&[7; 4096]).is_ok() {},
        Act::CloseAfter(n) => drop(stream.write_all(&body[start..(start + n).min(body.len())])),
        Act::StallAfter(n) => {
            let _ = stream.write_all(&body[..n]);
            let _ = stream.read(&mut [0]);
        }
        Act::Pause(time) => {
            let _ = stream.write_all(&body[start..start + 100]);
            std::thread::sleep(time);
            let _ = stream.write_all(&body[start + 100..]);
        }
        Act::Drip => {
            let mut bytes = body.iter().skip(start);
            while bytes.next().is_some_and(|&byte| stream.write_all(&[byte]).is_ok()) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        _ => drop(stream.write_all(body.get(start..).unwrap_or(&[]))),
    }
}

/// A file that does not compress, several chunks long: its contents, its `.gz`, and its SHA-256.
struct Sample {
    contents: Vec<u8>,
    gz: Vec<u8>,
    sha256: String,
}

impl Sample {
    fn new() -> Self {
        let mut state = 1u64;
        let contents: Vec<u8> = (0..200_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let gz = compress(&contents, 6);
        let sha256 = Sha256::digest(&contents).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { contents, gz, sha256 }
    }

    fn wanted(&self) -> [Wanted<'_>; 1] {
        [Wanted { name: "a-idx1", bytes: self.contents.len() as u64, sha256: &self.sha256 }]
    }
}

fn compress(contents: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

/// Fetches the sample; returns the result and the problems reported on the way.
fn fetch(sample: &Sample, dir: &Path, mirrors: &[&Mirror]) -> (Result<Vec<Fetched>>, Vec<String>) {
    fetch_with(Timeouts::default(), sample, dir, mirrors)
}

fn fetch_with(
    timeouts: Timeouts,
    sample: &Sample,
    dir: &Path,
    mirrors: &[&Mirror],
) -> (Result<Vec<Fetched>>, Vec<String>) {
    let urls: Vec<String> = mirrors.iter().map(|mirror| mirror.url.clone()).collect();
    let mut problems = Vec::new();
    let result = Fetcher { dir, mirrors: &urls, timeouts }.fetch_all(&sample.wanted(), &mut |event| {
        if let FetchProgress::Failed { problem, .. } = event {
            problems.push(problem.to_owned());
        }
        ControlFlow::Continue(())
    });
    (result, problems)
}

/// The file is in place with the right contents, and nothing else is in the directory.
#[track_caller]
fn assert_in_place(sample: &Sample, dir: &Path, result: Result<Vec<Fetched>>, outcome: Outcome) {
    let path = dir.join("a-idx1.gz");
    assert_eq!(result.unwrap(), [Fetched { path: path.clone(), outcome }]);
    let mut found = Vec::new();
    MultiGzDecoder::new(File::open(path).unwrap()).read_to_end(&mut found).unwrap();
    assert!(found == sample.contents);
    assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
}

#[test]
fn a_file_is_fetched_once_and_kept() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let inner = dir.path().join("made/on/the/way");
    let mirror = Mirror::new(sample.gz.clone(), vec![Act::Serve]);
    let mut events = Vec::new();
    let urls = [mirror.url.clone()];
    let result = Fetcher { dir: &inner, mirrors: &urls, timeouts: Timeouts::default() }.fetch_all(
        &sample.wanted(),
        &mut |event| {
            events.push(format!("{event:?}"));
            ControlFlow::Continue(())
        },
    );
    assert_in_place(&sample, &inner, result, Outcome::Downloaded);
    assert_eq!(mirror.requests(), ["/a-idx1.gz"]);
    let total = sample.gz.len();
    assert!(events[0].contains(&format!("done: 0, total: Some({total})")), "{}", events[0]);
    assert!(events[events.len() - 2].contains(&format!("done: {total}, ")), "{events:?}");
    assert!(events[events.len() - 1].starts_with("Verified"), "{events:?}");

    // The mirror is gone by now: this can only succeed without it.
    let (result, problems) = fetch(&sample, &inner, &[&mirror]);
    assert_in_place(&sample, &inner, result, Outcome::AlreadyThere);
    assert!(problems.is_empty());
}

#[test]
fn raw_files_and_other_compressions_count_as_there() {
    let sample = Sample::new();
    for (name, bytes) in [("a-idx1", sample.contents.clone()), ("a.idx1.gz", compress(&sample.contents, 0))] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
        let result = fetch(&sample, dir.path(), &[]).0.unwrap();
        assert_eq!(result, [Fetched { path: dir.path().join(name), outcome: Outcome::AlreadyThere }]);
    }
}

#[test]
fn a_wrong_file_in_place_is_replaced() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("a-idx1.gz"), b"something else").unwrap();
    let mirror = Mirror::new(sample.gz.clone(), vec![Act::Serve]);
    assert_in_place(&sample, dir.path(), fetch(&sample, dir.path(), &[&mirror]).0, Outcome::Downloaded);
}

#[test]
fn an_interrupted_download_is_continued() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(sample.gz.clone(), vec![Act::Serve, Act::Serve]);
    let urls = [mirror.url.clone()];
    let fetcher = Fetcher { dir: dir.path(), mirrors: &urls, timeouts: Timeouts::default() };
    let stopped = fetcher.fetch_all(&sample.wanted(), &mut |event| match event {
        FetchProgress::Receiving { done, .. } if done > 1000 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    let part = fs::metadata(dir.path().join("a-idx1.gz.part")).unwrap().len();
    assert!(part > 1000 && part < sample.gz.len() as u64);
    assert!(!dir.path().join("a-idx1.gz").exists());

    let (result, problems) = fetch(&sample, dir.path(), &[&mirror]);
    assert_in_place(&sample, dir.path(), result, Outcome::Resumed);
    assert_eq!(mirror.requests(), ["/a-idx1.gz".to_owned(), format!("/a-idx1.gz bytes={part}-")]);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn a_complete_part_needs_no_network() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("a-idx1.gz.part"), &sample.gz).unwrap();
    assert_in_place(&sample, dir.path(), fetch(&sample, dir.path(), &[]).0, Outcome::Resumed);
}

#[test]
fn a_server_that_knows_no_ranges_starts_over() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("a-idx1.gz.part"), &sample.gz[..5000]).unwrap();
    let mirror = Mirror::new(sample.gz.clone(), vec![Act::IgnoreRange]);
    assert_in_place(&sample, dir.path(), fetch(&sample, dir.path(), &[&mirror]).0, Outcome::Downloaded);
    assert_eq!(mirror.requests(), ["/a-idx1.gz bytes=5000-"]);
}

#[test]
fn a_wrong_part_is_thrown_away_once() {
    let sample = Sample::new();
    // Wrong bytes; more bytes than the file has (416); a range that begins elsewhere.
    let long = vec![1; sample.gz.len() + 1];
    for (part, first) in [(&[1; 5000][..], Act::Serve), (&long, Act::Serve), (&sample.gz[..5000], Act::WrongRange)] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a-idx1.gz.part"), part).unwrap();
        let mirror = Mirror::new(sample.gz.clone(), vec![first, Act::Serve]);
        let (result, problems) = fetch(&sample, dir.path(), &[&mirror]);
        assert_in_place(&sample, dir.path(), result, Outcome::Downloaded);
        assert_eq!(mirror.requests(), [format!("/a-idx1.gz bytes={}-", part.len()), "/a-idx1.gz".to_owned()]);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

#[test]
fn a_broken_connection_is_continued_at_once() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(sample.gz.clone(), vec![Act::CloseAfter(100_000), Act::Serve]);
    let (result, problems) = fetch(&sample, dir.path(), &[&mirror]);
    assert_in_place(&sample, dir.path(), result, Outcome::Resumed);
    assert_eq!(mirror.requests()[1], "/a-idx1.gz bytes=100000-");
    assert!(problems[0].contains(&format!("broke after 100000 of {} bytes", sample.gz.len())), "{problems:?}");
}

#[test]
fn a_stalled_connection_times_out_and_leaves_the_part() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(sample.gz.clone(), vec![Act::StallAfter(3000), Act::Status(503)]);
    let timeouts = Timeouts { stall: Duration::from_millis(300), ..Timeouts::default() };
    let (result, problems) = fetch_with(timeouts, &sample, dir.path(), &[&mirror]);
    assert!(matches!(result, Err(Error::Fetch(_))));
    assert!(problems[0].contains("broke after 3000") && problems[0].contains("timeout"), "{problems:?}");
    assert_eq!(fs::read(dir.path().join("a-idx1.gz.part")).unwrap(), &sample.gz[..3000]);
}

/// Bytes that come one by one reach no timeout between two of them.
#[test]
fn a_mirror_that_is_too_slow_is_given_up_and_its_bytes_are_kept() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let slow = Mirror::new(sample.gz.clone(), vec![Act::Drip]);
    let good = Mirror::new(sample.gz.clone(), vec![Act::Serve]);
    let timeouts = Timeouts { slow: Duration::from_millis(500), ..Timeouts::default() };
    let (result, problems) = fetch_with(timeouts, &sample, dir.path(), &[&slow, &good]);
    assert_in_place(&sample, dir.path(), result, Outcome::Resumed);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("too slow: ") && problems[0].contains("less than 1000 a second"), "{problems:?}");
    assert!(good.requests()[0].starts_with("/a-idx1.gz bytes="), "{:?}", good.requests());
}

#[test]
fn a_stop_is_heard_while_the_server_says_nothing() {
    let sample = Sample::new();
    // Before the answer, and before its bytes.
    for act in [Act::Silent, Act::StallAfter(0)] {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::new(sample.gz.clone(), vec![act]);
        let urls = [mirror.url.clone()];
        let fetcher = Fetcher { dir: dir.path(), mirrors: &urls, timeouts: short_timeouts() };
        let started = Instant::now();
        let stopped = fetcher.fetch_all(&sample.wanted(), &mut |_| match started.elapsed().as_millis() > 300 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
        assert!(started.elapsed() < short_timeouts().connect, "{:?}", started.elapsed());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "an empty .part is of no use");
    }
}

/// Long enough that a stop is heard before them, short enough that a test's mirror soon sees the client hang up.
fn short_timeouts() -> Timeouts {
    Timeouts { connect: Duration::from_secs(3), stall: Duration::from_secs(3), ..Timeouts::default() }
}

#[test]
fn of_two_at_once_one_downloads_and_the_other_waits() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(sample.gz.clone(), vec![Act::Pause(Duration::from_millis(500))]);
    let urls = [mirror.url.clone()];
    let fetch = || {
        let mut waited = false;
        let fetcher = Fetcher { dir: dir.path(), mirrors: &urls, timeouts: Timeouts::default() };
        let result = fetcher.fetch_all(&sample.wanted(), &mut |event| {
            waited |= matches!(event, FetchProgress::Waiting { .. });
            ControlFlow::Continue(())
        });
        (result.unwrap()[0].outcome, waited)
    };
    let mut ended = std::thread::scope(|scope| [scope.spawn(fetch), scope.spawn(fetch)].map(|one| one.join().unwrap()));
    ended.sort_by_key(|&(_, waited)| waited);
    assert_eq!(ended, [(Outcome::Downloaded, false), (Outcome::AlreadyThere, true)]);
    assert_eq!(mirror.requests(), ["/a-idx1.gz"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Who waits takes over what the other leaves.
#[test]
fn a_download_that_was_stopped_is_completed_by_the_one_that_waits() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let part = dir.path().join("a-idx1.gz.part");
    let other = Part::open(&part).unwrap().unwrap();
    fs::write(&part, &sample.gz[..5000]).unwrap();
    let mirror = Mirror::new(sample.gz.clone(), vec![Act::Serve]);
    let urls = [mirror.url.clone()];
    let fetcher = Fetcher { dir: dir.path(), mirrors: &urls, timeouts: Timeouts::default() };
    let mut other = Some(other);
    let result = fetcher.fetch_all(&sample.wanted(), &mut |event| {
        if matches!(event, FetchProgress::Waiting { .. }) {
            other = None;
        }
        ControlFlow::Continue(())
    });
    assert_in_place(&sample, dir.path(), result, Outcome::Resumed);
    assert_eq!(mirror.requests(), ["/a-idx1.gz bytes=5000-"]);
}

#[cfg(unix)]
#[test]
fn a_link_in_place_of_the_part_is_refused_and_its_target_kept() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let target = dir.path().join("mine");
    let inner = dir.path().join("mnist");
    fs::create_dir(&inner).unwrap();
    for contents in ["", "mine"] {
        fs::write(&target, contents).unwrap();
        let _ = fs::remove_file(inner.join("a-idx1.gz.part"));
        std::os::unix::fs::symlink(&target, inner.join("a-idx1.gz.part")).unwrap();
        let mirror = Mirror::new(sample.gz.clone(), vec![Act::Serve]);
        let error = fetch(&sample, &inner, &[&mirror]).0.unwrap_err();
        assert!(matches!(&error, Error::Output { path, .. } if path.ends_with("a-idx1.gz.part")), "{error:?}");
        assert!(error.to_string().contains("symbolic link") && error.to_string().contains("remove it"), "{error}");
        assert_eq!(fs::read_to_string(&target).unwrap(), contents);
        assert!(mirror.requests().is_empty());
    }
}

#[test]
fn the_next_mirror_helps_out() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let gone = Mirror::new(Vec::new(), vec![Act::Status(404)]);
    let bad = Mirror::new(sample.gz.clone(), vec![Act::Other]);
    let endless = Mirror::new(Vec::new(), vec![Act::Endless]);
    let large = Mirror::new(vec![0; 300_000], vec![Act::Serve]);
    let good = Mirror::new(sample.gz.clone(), vec![Act::Serve]);
    let (result, problems) = fetch(&sample, dir.path(), &[&gone, &bad, &endless, &large, &good]);
    assert_in_place(&sample, dir.path(), result, Outcome::Downloaded);
    let expected = ["404", "the file received", "sent more than the", "has 300000 bytes, more than"];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    problems.iter().zip(expected).for_each(|(problem, part)| assert!(problem.contains(part), "{problem}"));
}

#[test]
fn when_no_mirror_delivers_each_ones_problem_is_told() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    // As large as the right file and properly compressed, but other digits.
    let mut contents = sample.contents.clone();
    contents[77] ^= 1;
    let wrong = Mirror::new(compress(&contents, 6), vec![Act::Serve]);
    let short = Mirror::new(compress(&contents[..1000], 6), vec![Act::Serve]);
    let closes = Mirror::new(sample.gz.clone(), vec![Act::CloseAfter(0)]);
    let (result, _) = fetch(&sample, dir.path(), &[&wrong, &short, &closes]);
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    let here = dir.path().display().to_string();
    for part in [
        &*format!("{}a-idx1.gz: the file received has the SHA-256", wrong.url),
        &sample.sha256,
        "has 1000 bytes decompressed, not 200000",
        &*format!("{}a-idx1.gz: the connection broke after 0", closes.url),
        "--mirror URL",
        "HTTPS_PROXY",
        &here,
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.contains(&"a-idx1.gz".into()), "{left:?}");
}

#[test]
fn a_directory_that_cannot_be_made_is_an_output_error() {
    let (sample, dir) = (Sample::new(), tempfile::tempdir().unwrap());
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    let error = fetch(&sample, &file.join("below"), &[]).0.unwrap_err();
    assert!(matches!(error, Error::Output { .. }), "{error:?}");
}

#[test]
fn only_this_machine_is_loopback() {
    for (url, expected) in [
        ("http://127.0.0.1:8000/a", true),
        ("http://localhost/a", true),
        ("http://[::1]:80/", true),
        ("https://example.org/a", false),
        ("http://localhost.example.org/", false),
        ("not a url", false),
    ] {
        assert_eq!(is_loopback(url), expected, "{url}");
    }
}

#[test]
fn the_published_files_are_the_ones_that_are_built_in() {
    // The constants of the test set against the digits that the binary carries.
    let dir = tempfile::tempdir().unwrap();
    for (wanted, bytes) in MNIST[..2].iter().zip([
        &include_bytes!("../builtin/t10k-images-idx3-ubyte.gz")[..],
        include_bytes!("../builtin/t10k-labels-idx1-ubyte.gz"),
    ]) {
        let path = dir.path().join(wanted.name);
        fs::write(&path, bytes).unwrap();
        assert_eq!(wanted.verify_at(&path), Ok(()));
    }
}
