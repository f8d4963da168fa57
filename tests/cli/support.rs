//! A scratch directory to run `dec` in, small data, and ways to look at what a run left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use npyz::WriterBuilder;
use serde_json::Value;
use tempfile::TempDir;

/// The files of a finished run.
pub const RUN_FILES: [&str; 6] =
    ["assignments.csv", "config.toml", "events.jsonl", "model.pt", "summary.json", "weights.safetensors"];

/// Options that make a run on [`Scratch::blobs`] take well under a second: a small network that learns quickly, layer by layer, and
/// k-means as the start.
pub const SMALL: [&str; 38] = [
    "--device=cpu",
    "--data=rows.npy",
    "--clusters=3",
    "--set=model.hidden=[16, 16, 32]",
    "--set=model.n_latent=4",
    "--set=model.init_std=0.2",
    "--set=pretrain.epochs=10",
    "--set=pretrain.batch_size=64",
    "--set=pretrain.lr=0.05",
    "--set=finetune.epochs=10",
    "--set=finetune.batch_size=64",
    "--set=finetune.lr=0.05",
    "--set=kmeans.n_init=2",
    "--set=cluster.max_rounds=3",
    "--set=cluster.tol=0",
    "--set=cluster.batch_size=64",
    "--set=cluster.lr=0.05",
    "--set=cluster.epochs_per_round=2",
    "--set=data.scale=auto",
    "--set=output.report=false",
    "--set=pretrain.dropout=0.1",
    "--set=pretrain.momentum=0.9",
    "--set=finetune.momentum=0.9",
    "--set=cluster.momentum=0.9",
    "--set=kmeans.max_iter=100",
    "--set=model.init=normal",
    "--set=augment.kind=none",
    "--set=pretrain.method=layerwise",
    "--set=pretrain.optimiser=sgd",
    "--set=pretrain.schedule=constant",
    "--set=finetune.optimiser=sgd",
    "--set=finetune.schedule=constant",
    "--set=start.method=kmeans",
    "--set=start.over_clustering=[]",
    "--set=cluster.handover_epochs=0",
    "--set=cluster.anchor=0",
    "--set=cluster.optimiser=sgd",
    "--set=cluster.schedule=constant",
];

/// A temporary directory that `dec` runs in, and that holds everything it writes, downloads included.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With `rows.npy`, 180 rows of 8 features around three centres, and `y.npy`, their labels.
    pub fn blobs() -> Self {
        let scratch = Self::new();
        let (rows, labels) = blobs();
        write_npy(&scratch.path("rows.npy"), &[180, 8], &rows);
        write_npy(&scratch.path("y.npy"), &[180], &labels);
        scratch
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `dec` with these arguments, in this directory, its cache here too, deterministic in how much it takes of the
    /// machine: tests run side by side, and threads that spin while they wait would slow each other down.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dec"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command.env("DEC_CACHE", self.path("cache")).env("OMP_NUM_THREADS", "1").env("OMP_WAIT_POLICY", "passive");
        command.env("RUST_BACKTRACE", "1"); // none may be shown even to someone who has asked for them
        command
    }

    /// Runs `dec` to its end.
    pub fn dec<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    /// Trains on [`Scratch::blobs`] under [`SMALL`] into the directory `out`, and expects that to work.
    pub fn train(&self, out: &str, more: &[&str]) -> Ran {
        self.dec(SMALL.iter().chain(["--out", out].iter()).chain(more)).ok()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Every file and directory here, with the files' contents.
    pub fn tree(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut tree = BTreeMap::new();
        let mut left = vec![self.0.path().to_owned()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path.clone());
                    tree.insert(path, None);
                } else {
                    tree.insert(path.clone(), Some(fs::read(path).unwrap()));
                }
            }
        }
        tree
    }

    /// The names in a directory, sorted.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(dir)).unwrap_or_else(|e| panic!("{dir}: {e}"));
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// How a process ended and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ran {
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Ended with `code` and one message, which has all of `words`; no trace of the program's insides.
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let message = |line: &&str| line.starts_with("error: ") || line.trim_start().starts_with("WARN ");
        assert_eq!(self.stderr.lines().filter(message).count(), 1, "one message: {self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:#?}");
        }
        for inside in ["panicked", "backtrace", "stack", "src/", "thread '", "frame #", ".dec-"] {
            assert!(!self.stderr.to_lowercase().contains(inside), "{inside:?} is shown: {self:#?}");
        }
    }
}

/// A process that is killed if a test fails before it ends.
pub struct Running(Option<Child>);

impl Running {
    /// With its output kept for [`Running::end`].
    pub fn start(mut command: Command) -> Self {
        Self::start_as_is(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// With its output where the command says.
    pub fn start_as_is(command: &mut Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    pub fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Sends a signal: `INT`, `TERM` …
    pub fn signal(&self, name: &str) {
        send(name, &self.id().to_string());
    }

    /// Whether it has not ended yet.
    pub fn goes_on(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Waits until the file `path` holds a line with all of `words` (but for an event log's first, which names all stages); panics if the process ends first, or after a minute.
    pub fn wait_for_line(&mut self, path: &Path, words: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = fs::read_to_string(path).unwrap_or_default();
            if text
                .lines()
                .any(|line| !line.contains("\"event\":\"run\"") && words.iter().all(|word| line.contains(word)))
            {
                return;
            }
            if !self.goes_on() {
                panic!("it ended before {words:?}: {:#?}", self.end());
            }
            assert!(Instant::now() < deadline, "no line with {words:?} in {}: {text}", path.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the process has ended, a minute at most.
    pub fn end(&mut self) -> Ran {
        let mut child = self.0.take().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() >= deadline {
                self.0 = Some(child);
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ran::from(child.wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process, or with `-` in front to a process group.
pub fn send(signal: &str, target: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), "--", target]).status().unwrap();
    assert!(status.success());
}

/// Three clouds of 60 rows, taken in turn, and which cloud each row is of.
pub fn blobs() -> (Vec<f32>, Vec<i64>) {
    let (n_rows, n_features) = (180, 8);
    let noise = |i: usize| (i as f32 * 12.9898).sin() + (i as f32 * 78.233).cos(); // fixed, in -2 to 2
    let value = |i: usize| (i / n_features % 3) as f32 * 4.0 - 4.0 + noise(i);
    ((0..n_rows * n_features).map(value).collect(), (0..n_rows as i64).map(|row| row % 3).collect())
}

/// Numbers that look random, from 0 to 1, always the same of one seed.
pub fn uniform(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// Writes an NPY file with a writer that is not ours.
pub fn write_npy<T: npyz::AutoSerialize + Copy>(path: &Path, shape: &[u64], values: &[T]) {
    let file = fs::File::create(path).unwrap();
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(file).begin_nd().unwrap();
    writer.extend(values.iter().copied()).unwrap();
    writer.finish().unwrap();
}

/// An IDX file: type, dimensions, and whatever bytes follow.
pub fn idx(code: u8, dims: &[u32], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, code, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    bytes.extend(body);
    bytes
}

/// `(row, cluster, confidence)` of an assignments.csv.
pub fn assignments(csv: &str) -> Vec<(usize, i64, f64)> {
    let mut lines = csv.lines();
    assert!(lines.next().is_some_and(|names| names.starts_with("row,cluster,confidence")), "{csv}");
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            let [row, cluster, confidence, ..] = cells[..] else { panic!("{line}") };
            (row.parse().unwrap(), cluster.parse().unwrap(), confidence.parse().unwrap())
        })
        .collect()
}

/// Takes out what differs between two runs of the same: times and memory.
pub fn without_times(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("seconds");
            map.remove("peak_memory_bytes");
            map.values_mut().for_each(without_times);
        }
        Value::Array(items) => items.iter_mut().for_each(without_times),
        _ => {}
    }
}

/// The lines of an events.jsonl.
pub fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The strings under `key` of a list of objects.
pub fn each<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

/// A terminal of its own for a process, with someone who reads what is drawn.
#[cfg(target_os = "linux")]
pub struct Terminal {
    path: String,
    shown: std::sync::Arc<std::sync::Mutex<String>>,
    closing: std::sync::Arc<std::sync::atomic::AtomicBool>,
    reader: std::thread::JoinHandle<()>,
}

#[cfg(target_os = "linux")]
impl Terminal {
    pub fn open() -> Self {
        use nix::fcntl::OFlag;
        use nix::poll::{poll, PollFd, PollFlags};
        use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
        use std::io::Read;
        use std::os::fd::AsFd;
        use std::sync::atomic::Ordering;

        // No process may inherit it: it would stay open there.
        let mut master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname_r(&master).unwrap();
        let shown = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let closing = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let (text, end) = (shown.clone(), closing.clone());
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while !end.load(Ordering::SeqCst) {
                if poll(&mut [PollFd::new(master.as_fd(), PollFlags::POLLIN)], 50u8).unwrap() == 0 {
                    continue;
                }
                match master.read(&mut bytes) {
                    Ok(n) => text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n])),
                    Err(_) => std::thread::sleep(Duration::from_millis(20)), // no process has it open any more
                }
            }
        });
        Self { path, shown, closing, reader }
    }

    /// `command` as the process that has this terminal, for input and output.
    pub fn with(&self, command: &Command) -> Command {
        let mut inside = Command::new("setsid");
        inside.arg("--ctty").arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        inside.current_dir(command.get_current_dir().unwrap());
        let open = || Stdio::from(fs::OpenOptions::new().read(true).write(true).open(&self.path).unwrap());
        inside.stdin(open()).stdout(open()).stderr(open());
        inside
    }

    /// What was written to it until now.
    pub fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// As a window is closed: whoever has the terminal gets a SIGHUP, and can write to it no more.
    pub fn close(self) {
        self.closing.store(true, std::sync::atomic::Ordering::SeqCst);
        self.reader.join().unwrap();
    }
}
