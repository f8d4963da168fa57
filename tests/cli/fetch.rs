//! `dec fetch mnist` against a mirror on this machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{idx, Running, Scratch};

const IMAGES: &[u8] = include_bytes!("../../src/data/builtin/t10k-images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../../src/data/builtin/t10k-labels-idx1-ubyte.gz");

/// Serves files by path, and 404 for the rest, for as long as the test runs.
struct Mirror {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    fn new(files: Vec<(&'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if let Some(path) = request_path(&stream) {
                    log.lock().unwrap().push(path.clone());
                    let file = files.iter().find(|(name, _)| *name == path).map(|(_, bytes)| bytes.as_slice());
                    answer(stream, file);
                }
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn request_path(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    Some(first.split(' ').nth(1)?.trim_start_matches('/').to_owned())
}

fn answer(mut stream: TcpStream, file: Option<&[u8]>) {
    let (status, body) = file.map_or(("404 Not Found", &[][..]), |body| ("200 OK", body));
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // The client may hang up early; what it makes of that is the test.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

fn t10k() -> Vec<(&'static str, Vec<u8>)> {
    vec![("t10k-images-idx3-ubyte.gz", IMAGES.to_vec()), ("t10k-labels-idx1-ubyte.gz", LABELS.to_vec())]
}

#[test]
fn what_a_mirror_has_arrives_and_what_it_lacks_is_named() {
    let scratch = Scratch::new();
    let mirror = Mirror::new(t10k());
    let fetch = || scratch.dec(["fetch", "mnist", "--mirror", &mirror.url, "--data-dir=mnist"]);

    let ran = fetch();
    ran.failed(1, &[&mirror.url, "train-", "404", "--mirror", "mnist by hand"]);
    assert_eq!(scratch.names("mnist"), ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "verified.json"]);
    assert!(scratch.read("mnist/t10k-images-idx3-ubyte.gz") == IMAGES);
    assert!(scratch.read("mnist/t10k-labels-idx1-ubyte.gz") == LABELS);
    assert!(mirror.requests().iter().any(|path| path.starts_with("t10k")));

    // The second time, what is there is kept and not asked for.
    fetch().failed(1, &["train-"]);
    assert!(mirror.requests().iter().all(|path| path.starts_with("train-")));

    // What is there but damaged is fetched again.
    fs::write(scratch.path("mnist/t10k-labels-idx1-ubyte.gz"), "damaged").unwrap();
    fetch().failed(1, &["train-"]);
    assert!(scratch.read("mnist/t10k-labels-idx1-ubyte.gz") == LABELS);

    // The files are of use only together, and what is missing is said.
    let train = scratch.dec(["--data-dir=mnist", "--out=run"]);
    train.failed(3, &["missing train-images-idx3-ubyte, train-labels-idx1-ubyte", "dec fetch mnist"]);
}

#[test]
fn a_mirror_with_other_files_is_not_believed() {
    let scratch = Scratch::new();
    let names: [&'static str; 4] = [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ];
    // Valid gzip, valid IDX, and not MNIST.
    let mirror = Mirror::new(names.map(|name| (name, LABELS[..].to_vec())).to_vec());
    let ran = scratch.dec(["fetch", "mnist", "--mirror", &mirror.url, "--data-dir=mnist"]);
    ran.failed(1, &[&mirror.url, "decompressed, not", "--mirror"]);
    let kept = scratch.names("mnist");
    assert!(kept == ["t10k-labels-idx1-ubyte.gz", "verified.json"], "only what is right is there: {kept:?}");
}

#[test]
fn without_a_network_it_says_so() {
    let scratch = Scratch::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // closed again at once
    let url = format!("http://{nobody}/");
    let ran = scratch.dec(["fetch", "mnist", "--mirror", &url]);
    ran.failed(1, &[&url, "could not be downloaded", "--mirror", "HTTPS_PROXY"]);
    assert_eq!(ran.stdout, "");
    assert_eq!(scratch.names("cache/mnist"), [""; 0], "no file, half or whole");

    fs::write(scratch.path("file.txt"), "").unwrap();
    scratch.dec(["fetch", "mnist", "--mirror", &url, "--data-dir=file.txt/mnist"]).failed(2, &["file.txt/mnist"]);
    scratch.dec(["fetch", "imagenet"]).failed(2, &["imagenet", "mnist"]);
}

/// A server that takes the connection and says nothing: nobody waits for its timeout, which is 25 s.
#[test]
fn ctrl_c_is_heard_before_the_server_answers() {
    let scratch = Scratch::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let mut running = Running::start(scratch.command(["fetch", "mnist", "--mirror", &url, "--data-dir=mnist"]));
    let (stream, _) = silent.accept().unwrap();
    assert_eq!(request_path(&stream).as_deref(), Some("t10k-labels-idx1-ubyte.gz"));
    let asked = Instant::now();
    running.signal("INT");
    assert_eq!(running.end().code, Some(130));
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_eq!(scratch.names("mnist"), [""; 0], "no file, half or whole");
}

/// What is in the cache was downloaded, or put there in place of that; elsewhere it is the user's own, as long as nothing was
/// downloaded there.
#[test]
fn other_files_in_place_of_downloaded_ones_are_refused() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("cache/mnist")).unwrap();
    let pixels: Vec<u8> = (0..48u8).map(|i| i.wrapping_mul(37)).collect();
    for (name, bytes) in [
        ("train-images-idx3-ubyte", idx(0x08, &[8, 2, 2], &pixels[..32])),
        ("train-labels-idx1-ubyte", idx(0x08, &[8], &[0, 1, 0, 1, 0, 1, 0, 1])),
        ("t10k-images-idx3-ubyte", idx(0x08, &[4, 2, 2], &pixels[32..])),
        ("t10k-labels-idx1-ubyte", idx(0x08, &[4], &[0, 1, 0, 1])),
    ] {
        fs::write(scratch.path("cache/mnist").join(name), bytes).unwrap();
    }
    let refused = ["cache/mnist/train-images-idx3-ubyte: is not the file", "has 48 bytes decompressed, not 47040016"];
    let cached = scratch.dec(["inspect", "mnist"]);
    cached.failed(3, &[&refused[..], &["`dec fetch mnist` gets it again", "--data-dir DIR"]].concat());

    let own = scratch.dec(["inspect", "mnist", "--data-dir=cache/mnist"]).ok();
    assert!(own.stdout.contains("12 of 4 values"), "{own:#?}");

    fs::write(scratch.path("cache/mnist/verified.json"), "{}").unwrap();
    let downloaded = scratch.dec(["inspect", "mnist", "--data-dir=cache/mnist"]);
    let place = scratch.path("cache/mnist").display().to_string();
    let again = format!("`dec fetch mnist --data-dir {place}` gets it again");
    let without = format!("without {place}/verified.json");
    let remedies = [again.as_str(), without.as_str()];
    downloaded.failed(3, &[&refused[..], &remedies].concat());
}
