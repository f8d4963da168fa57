#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::*;

/// How a mirror behaves.
#[derive(Clone, Copy)]
enum Act {
    /// Serves the file.
    Serve,
    /// Announces the whole file and closes after this many bytes.
    CloseAfter(usize),
    /// Announces the whole file, sends this many bytes, and says no more.
    StallAfter(usize),
    /// Serves bytes without end and without saying how many.
    Endless,
    Status(u16),
}

/// A mirror on the loopback interface, for as long as the test runs.
struct Mirror {
    url: String,
    /// The paths that were asked for.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    fn new(file: &[u8], act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, file) = (requests.clone(), file.to_vec());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if let Some(path) = requested_path(&stream) {
                    log.lock().unwrap().push(path);
                    answer(stream, &file, act);
                }
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn requested_path(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    Some(first.split(' ').nth(1)?.to_owned())
}

/// The client may hang up at any point; that is what some of the tests are about.
fn answer(mut stream: TcpStream, file: &[u8], act: Act) {
    let head = match act {
        Act::Status(status) => format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n"),
        Act::Endless => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", file.len()),
    };
    let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
    match act {
        Act::Serve => drop(stream.write_all(file)),
        Act::CloseAfter(n) => drop(stream.write_all(&file[..n])),
        Act::StallAfter(n) => {
            let _ = stream.write_all(&file[..n]);
            let _ = stream.read(&mut [0]); // until the client hangs up
        }
        Act::Endless => while stream.write_all(&[7; 4096]).is_ok() {},
        Act::Status(_) => {}
    }
}

/// A file that does not compress, several chunks long: its contents, its `.gz`, and its SHA-256.
struct Sample {
    contents: Vec<u8>,
    gz: Vec<u8>,
    sha256: String,
    dir: tempfile::TempDir,
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
        Self { contents, gz, sha256, dir: tempfile::tempdir().unwrap() }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Fetches it into `dir`; returns the result and what was reported on the way.
    fn fetch_into(&self, dir: &Path, mirrors: &[&Mirror], stop_at: u64) -> (Result<Vec<Fetched>>, Vec<String>) {
        let urls: Vec<String> = mirrors.iter().map(|mirror| mirror.url.clone()).collect();
        let wanted = [Published { name: "a-idx1", bytes: self.contents.len() as u64, sha256: &self.sha256 }];
        let mut events = Vec::new();
        let fetcher = Fetcher { dir, mirrors: &urls, patience: Duration::from_millis(700) };
        let result = fetcher.fetch_all(&wanted, &mut |event| {
            events.push(format!("{event:?}"));
            match event {
                FetchProgress::Receiving { done, .. } if done >= stop_at => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        (result, events)
    }

    fn fetch(&self, mirrors: &[&Mirror]) -> (Result<Vec<Fetched>>, Vec<String>) {
        self.fetch_into(self.dir(), mirrors, u64::MAX)
    }

    /// The file is in place as it was served, and nothing else but the record.
    #[track_caller]
    fn assert_in_place(&self, dir: &Path, result: Result<Vec<Fetched>>, outcome: Outcome) {
        let path = dir.join("a-idx1.gz");
        assert_eq!(result.unwrap(), [Fetched { path: path.clone(), outcome }]);
        assert!(fs::read(path).unwrap() == self.gz);
        assert_eq!(names(dir), ["a-idx1.gz", verified::RECORD]);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn compress(contents: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_file_is_fetched_once_and_kept() {
    let sample = Sample::new();
    let dir = sample.dir().join("made/on/the/way");
    let mirror = Mirror::new(&sample.gz, Act::Serve);
    let (result, events) = sample.fetch_into(&dir, &[&mirror], u64::MAX);
    sample.assert_in_place(&dir, result, Outcome::Downloaded);
    assert_eq!(mirror.requests(), ["/a-idx1.gz"]);
    let total = sample.gz.len();
    assert!(events[0].contains(&format!("done: 0, total: Some({total})")), "{}", events[0]);
    assert!(events[events.len() - 2].contains(&format!("done: {total}, ")), "{events:?}");
    assert!(events[events.len() - 1].starts_with("Verified"), "{events:?}");

    let (result, events) = sample.fetch_into(&dir, &[&mirror], u64::MAX);
    sample.assert_in_place(&dir, result, Outcome::AlreadyThere);
    assert_eq!((events.len(), mirror.requests().len()), (1, 0), "{events:?}");
}

#[test]
fn raw_files_and_other_compressions_count_as_there() {
    for (name, level) in [("a-idx1", None), ("a.idx1.gz", Some(0))] {
        let sample = Sample::new();
        let path = sample.dir().join(name);
        fs::write(&path, level.map_or(sample.contents.clone(), |level| compress(&sample.contents, level))).unwrap();
        assert_eq!(sample.fetch(&[]).0.unwrap(), [Fetched { path, outcome: Outcome::AlreadyThere }]);
    }
}

#[cfg(unix)]
#[test]
fn a_wrong_file_in_place_is_replaced_and_what_a_link_leads_to_is_not() {
    let sample = Sample::new();
    let (mine, dir) = (sample.dir().join("mine"), sample.dir().join("mnist"));
    fs::create_dir(&dir).unwrap();
    fs::write(&mine, "mine").unwrap();
    std::os::unix::fs::symlink(&mine, dir.join("a-idx1.gz")).unwrap();
    let mirror = Mirror::new(&sample.gz, Act::Serve);
    let (result, _) = sample.fetch_into(&dir, &[&mirror], u64::MAX);
    sample.assert_in_place(&dir, result, Outcome::Downloaded);
    assert_eq!(fs::read_to_string(mine).unwrap(), "mine");
}

#[test]
fn a_download_that_is_stopped_leaves_nothing() {
    let sample = Sample::new();
    let mirror = Mirror::new(&sample.gz, Act::Serve);
    let (stopped, _) = sample.fetch_into(sample.dir(), &[&mirror], 1000);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert_eq!(names(sample.dir()), [""; 0]);
}

#[test]
fn the_next_mirror_helps_out() {
    let sample = Sample::new();
    let bad: Vec<u8> = sample.gz.iter().rev().copied().collect();
    let mirrors = [
        Mirror::new(&[], Act::Status(404)),
        Mirror::new(&bad, Act::Serve),
        Mirror::new(&[], Act::Endless),
        Mirror::new(&[0; 300_000], Act::Serve),
        Mirror::new(&sample.gz, Act::CloseAfter(100_000)),
        Mirror::new(&sample.gz, Act::StallAfter(3000)),
        Mirror::new(&sample.gz, Act::Serve),
    ];
    let (result, events) = sample.fetch(&mirrors.each_ref());
    sample.assert_in_place(sample.dir(), result, Outcome::Downloaded);
    let problems: Vec<&String> = events.iter().filter(|event| event.starts_with("Failed")).collect();
    let broke = format!("broke after 100000 of {} bytes", sample.gz.len());
    let expected = [
        "404",
        "the file received",
        "sent more than the",
        "has 300000 bytes, more than",
        &broke,
        "broke after 3000 of",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    problems.iter().zip(expected).for_each(|(problem, part)| assert!(problem.contains(part), "{problem}"));
    assert!(problems[5].contains("timeout"), "{problems:?}");
}

#[test]
fn when_no_mirror_delivers_each_ones_problem_is_told() {
    let sample = Sample::new();
    // As large as the right file and properly compressed, but another.
    let mut contents = sample.contents.clone();
    contents[77] ^= 1;
    let wrong = Mirror::new(&compress(&contents, 6), Act::Serve);
    let short = Mirror::new(&compress(&contents[..1000], 6), Act::Serve);
    let closes = Mirror::new(&sample.gz, Act::CloseAfter(0));
    let error = sample.fetch(&[&wrong, &short, &closes]).0.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    let here = sample.dir().display().to_string();
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
    assert_eq!(names(sample.dir()), [""; 0]);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_output_error() {
    let sample = Sample::new();
    let file = sample.dir().join("file");
    fs::write(&file, b"x").unwrap();
    let error = sample.fetch_into(&file.join("below"), &[], 0).0.unwrap_err();
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
