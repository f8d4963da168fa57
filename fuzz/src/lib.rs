//! What the targets share: files for the readers, the bounds that they have to keep, and what they may answer.
//!
//! A reader may refuse a file, in words that name it. It may not panic, not take more memory than it was allowed (and what the
//! rest takes), not be slow (libFuzzer's `-timeout`). A panic inside a crate that decodes files is caught by dec and becomes an error
//! about the file, which is checked; a panic of dec's own, caught or not, ends the fuzzing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::OnceLock;

use dec::data::{self, Dataset, FeatureChoice, Format, Missing, Pick, Reading};
use dec::Error;
use ndarray::Array2;
use tempfile::TempDir;

/// What values may take: `data.max_memory`.
pub const MOST_BYTES: u64 = 8 << 20;
/// What may be taken besides: buffers of decoders, and what is counted of columns.
const BESIDES: i64 = 120 << 20;
/// What the parquet crate reserves for a page, as its header claims, before it decompresses what there is.
pub const PAGE: i64 = 5 << 30;
/// Values that are looked at again after they were read.
const MOST_VALUES: usize = 1 << 22;

/// Crates whose panics dec catches.
const DECODERS: [&str; 15] = [
    "/bytes-",
    "/hdf5-pure-",
    "/parquet-",
    "/arrow-",
    "/flatbuffers-",
    "/image-",
    "/png-",
    "/zune-",
    "/fdeflate-",
    "/flate2-",
    "/miniz_oxide-",
    "/zip-",
    "/lz4_flex-",
    "/snap-",
    "/zstd-",
];

/// The system's allocator, with a limit to what is held.
struct Bounded;

static HELD: AtomicI64 = AtomicI64::new(0);
static LIMIT: AtomicI64 = AtomicI64::new(i64::MAX);

impl Bounded {
    fn count(more: i64) {
        let held = HELD.fetch_add(more, Relaxed) + more;
        if more > 0 && held > LIMIT.load(Relaxed) {
            LIMIT.store(i64::MAX, Relaxed); // what follows allocates too
            eprintln!("{more} bytes more make {held}, which is more than may be held\n{}", Backtrace::force_capture());
            std::process::abort();
        }
    }
}

// Safety: every call is handed on as it is.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as i64);
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as i64);
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        Self::count(-(layout.size() as i64));
        System.dealloc(place, layout)
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size as i64 - layout.size() as i64);
        System.realloc(place, layout, size)
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// The folder of this process's files; made, and everything else set up, at the first call.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::env::set_var("DEC_CACHE", folder.path()); // where large rows go
        std::env::set_var("RAYON_NUM_THREADS", "1");
        std::env::set_var("OMP_NUM_THREADS", "1");
        let abort = std::panic::take_hook(); // libFuzzer's
        std::panic::set_hook(Box::new(move |panic| {
            let file = panic.location().map_or("", |place| place.file());
            if !DECODERS.iter().any(|decoder| file.contains(decoder)) {
                abort(panic);
            }
        }));
        folder
    });
    made.path()
}

/// Writes a file for a reader.
pub fn file(name: &str, data: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, data).expect("a temporary file");
    path
}

/// Has `write` write a seed and ends, where `scripts/fuzz` asks for one.
pub fn write_if_asked(write: impl FnOnce(&Path)) {
    if let Some(to) = std::env::var_os("DEC_FUZZ_SEED") {
        write(Path::new(&to));
        std::process::exit(0);
    }
}

/// Rows of a run that makes a seed: 12 of 3 features, in two groups.
pub fn few_rows() -> Array2<f32> {
    Array2::from_shape_fn((12, 3), |(i, j)| (i % 2) as f32 * 5.0 + ((7 * i + j) % 5) as f32 * 0.1)
}

/// Runs a reader, which may not hold much memory at any time: so much `more` than others, where a crate reserves what it then does
/// not use.
pub fn bounded<T>(more: i64, read: impl FnOnce() -> T) -> T {
    LIMIT.store(HELD.load(Relaxed) + MOST_BYTES as i64 + BESIDES + more, Relaxed);
    let read = read();
    LIMIT.store(i64::MAX, Relaxed);
    read
}

/// What was read of `path`, or that it was refused in words that name it.
pub fn accepted<T>(path: &Path, read: dec::Result<T>) -> Option<T> {
    let name = path.file_name().expect("a file").to_string_lossy();
    match read {
        Ok(read) => return Some(read),
        Err(Error::Data { path: named, problem }) => {
            assert!(named.starts_with(folder()) && !problem.is_empty(), "{}: {problem}", named.display());
        }
        Err(Error::Memory(problem) | Error::Rows(problem) | Error::Config(problem)) => {
            assert!(problem.contains(&*name), "{problem}");
        }
        Err(other) => panic!("{other:?}"),
    }
    None
}

/// Reads a file of rows as `format`: each of `arrays`, as it is and with columns, labels and names asked for.
pub fn rows(name: &str, data: &[u8], format: Option<Format>, arrays: &[Option<&str>], pick: Pick, more: i64) {
    let path = file(name, data);
    bounded(more, || {
        for &array in arrays {
            read_rows(&path, format, Pick { array, most_bytes: MOST_BYTES, ..pick });
        }
    });
}

/// Reads rows in several ways.
pub fn read_rows(path: &Path, format: Option<Format>, pick: Pick) {
    let Some(rows) = read_once(path, format, Missing::Mean, FeatureChoice::Auto, pick) else { return };
    let Some((first, rest)) = rows.columns.split_first() else {
        read_once(path, format, Missing::Drop, FeatureChoice::Count(1), pick);
        return;
    };
    let some: Vec<String> = rest.iter().rev().take(3).cloned().collect();
    let labelled = Pick { label_column: Some(first), columns: &some, ..pick };
    read_once(path, format, Missing::Drop, FeatureChoice::Count(1), labelled);
    read_once(path, format, Missing::Error, FeatureChoice::All, Pick { id_column: Some(first), ..pick });
    let with_first = [some.clone(), vec![first.clone()]].concat();
    read_once(path, format, Missing::Mean, FeatureChoice::All, Pick { categorical: &with_first, ..pick });
}

fn read_once(
    path: &Path,
    format: Option<Format>,
    missing: Missing,
    features: FeatureChoice,
    pick: Pick,
) -> Option<Dataset> {
    let rows = accepted(path, data::read(&[path], &Reading { format, pick, missing, features, ..Reading::default() }))?;
    look_at(path, &rows);
    Some(rows)
}

/// What dec does with rows that it read, before it trains on them.
fn look_at(path: &Path, rows: &Dataset) {
    let (n, d) = (rows.n_rows(), rows.n_features());
    assert!(rows.columns.is_empty() || rows.columns.len() == d, "{} columns of {d}", rows.columns.len());
    assert!(rows.ids.is_empty() || rows.ids.len() == n, "{} names of {n} rows", rows.ids.len());
    assert!(rows.labels.as_ref().is_none_or(|labels| labels.len() == n), "labels of another number than {n}");
    if let Some([height, width]) = rows.image {
        assert_eq!(height * width * rows.channels.count, d);
    }
    if n.saturating_mul(d) > MOST_VALUES {
        return;
    }
    let finite = accepted(path, data::check_finite(rows).and_then(|()| data::check_magnitude(rows)));
    let clusterable = accepted(path, data::check_clusterable(rows, 2));
    if finite.and(clusterable).is_some() {
        accepted(path, data::first_absurd(&rows.features, dec::backend::ranks::Ranks::ALONE));
    }
}
