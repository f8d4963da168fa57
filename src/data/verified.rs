//! Downloaded files are verified where they are used: once, and again when they have changed.
//!
//! `verified.json` beside the files holds, for each that was verified, its size, its time of modification and the SHA-256 of its
//! contents. A file that still has that size and time costs a look at its metadata; any other is read and hashed anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::published::Published;
use crate::files::write_atomic;

/// The record's name, in the directory of the files.
pub(super) const RECORD: &str = "verified.json";

/// What a file was when it was verified.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    bytes: u64,
    modified: SystemTime,
    /// Of the decompressed contents.
    sha256: String,
}

/// By the files' names.
type Record = BTreeMap<String, Seen>;

/// Whether `dir` has a record: files were downloaded into it, or verified in it.
pub(super) fn has_record(dir: &Path) -> bool {
    dir.join(RECORD).is_file()
}

/// Whether the file at `path` has the right contents, by the record where it has not changed since; else what it has.
pub(super) fn check(path: &Path, file: &Published) -> Result<(), String> {
    let seen = look(path, file)?;
    match read(path).get(&name(path)) {
        Some(known) if *known == seen => Ok(()),
        _ => check_contents(path, file),
    }
}

/// As [`check`], by the contents in any case; the record then has the file.
pub(super) fn check_contents(path: &Path, file: &Published) -> Result<(), String> {
    // What the file is before it is read: a change meanwhile shows the next time.
    let seen = look(path, file)?;
    file.verify_at(path)?;
    note(path, seen);
    Ok(())
}

/// Notes that the file at `path` was just written, with the right contents.
pub(super) fn written(path: &Path, file: &Published) {
    if let Ok(seen) = look(path, file) {
        note(path, seen);
    }
}

fn look(path: &Path, file: &Published) -> Result<Seen, String> {
    let metadata = path.metadata().map_err(|e| format!("cannot be read: {e}"))?;
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(Seen { bytes: metadata.len(), modified, sha256: file.sha256.to_owned() })
}

/// The record that a file is in; an empty one where it is missing or damaged, so that all files are hashed anew.
fn read(path: &Path) -> Record {
    let text = std::fs::read(path.with_file_name(RECORD)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Where the record cannot be written, the files are hashed every time.
fn note(path: &Path, seen: Seen) {
    let mut record = read(path);
    record.insert(name(path), seen);
    let at = path.with_file_name(RECORD);
    let written = serde_json::to_vec_pretty(&record).map_err(|e| e.to_string());
    let written = written.and_then(|text| write_atomic(&at, &text).map_err(|e| e.to_string()));
    if let Err(e) = written {
        tracing::debug!("what was verified cannot be noted: {e}");
    }
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{self, File};
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    const ABC: Published<'_> =
        Published { name: "a", bytes: 3, sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" };

    fn with(contents: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, contents).unwrap();
        (dir, path)
    }

    /// Writes contents of the same size, `later` seconds after the time that the file has.
    fn change(path: &Path, contents: &str, later: u64) {
        let modified = path.metadata().unwrap().modified().unwrap();
        fs::write(path, contents).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(modified + Duration::from_secs(later)).unwrap();
    }

    #[test]
    fn a_file_is_hashed_once_and_again_when_it_has_changed() {
        let (dir, path) = with("abc");
        assert!(!has_record(dir.path()));
        assert_eq!(check(&path, &ABC), Ok(()));
        assert!(has_record(dir.path()));

        // Neither size nor time has changed: the contents are not looked at, but where that is asked for.
        change(&path, "abX", 0);
        assert_eq!(check(&path, &ABC), Ok(()));
        assert!(check_contents(&path, &ABC).unwrap_err().contains("has the SHA-256"));

        change(&path, "abX", 1);
        assert!(check(&path, &ABC).unwrap_err().contains("has the SHA-256"));
        fs::write(&path, "abcd").unwrap();
        assert_eq!(check(&path, &ABC).unwrap_err(), "has more bytes decompressed, not 3");
        fs::remove_file(&path).unwrap();
        assert!(check(&path, &ABC).unwrap_err().starts_with("cannot be read: "));
    }

    #[test]
    fn a_file_that_was_only_touched_is_noted_anew() {
        let (_dir, path) = with("abc");
        check(&path, &ABC).unwrap();
        change(&path, "abc", 1);
        check(&path, &ABC).unwrap();
        change(&path, "abX", 0);
        assert_eq!(check(&path, &ABC), Ok(()), "the new time is in the record");
    }

    #[test]
    fn what_was_verified_as_another_file_is_hashed() {
        let (_dir, path) = with("abc");
        check(&path, &ABC).unwrap();
        let other = Published { sha256: "00", ..ABC };
        assert!(check(&path, &other).unwrap_err().ends_with("not 00"));
    }

    #[test]
    fn a_record_that_is_damaged_or_cannot_be_written_is_no_error() {
        let (dir, path) = with("abc");
        fs::write(dir.path().join(RECORD), "{").unwrap();
        assert_eq!(check(&path, &ABC), Ok(()));
        fs::remove_file(dir.path().join(RECORD)).unwrap();
        fs::create_dir(dir.path().join(RECORD)).unwrap();
        assert_eq!(check(&path, &ABC), Ok(()));
        change(&path, "abX", 0);
        assert!(check(&path, &ABC).is_err(), "without a record every use hashes");
    }
}
