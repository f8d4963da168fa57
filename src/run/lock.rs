//! One process at a time in a run directory: two that write there mix one's config with the other's summary.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backend::locked_file::{is_at, open_locked, Opened};
use crate::error::{Error, Result};

/// The lock file of a directory.
pub const LOCK: &str = ".lock";

/// Every write to a lock file is shorter.
const MAX_BYTES: u64 = 1024;
/// A lock file without a holder's name is one that is just being written or removed: it is read again, so often.
const READS: usize = 10;
const READ_INTERVAL: Duration = Duration::from_millis(20);

/// The right to write in a directory, until it is dropped or the process ends.
///
/// It is an advisory lock on the file [`LOCK`], which names the holder. The kernel gives the lock back when a process ends,
/// however it ends, so the file that a killed one leaves blocks nobody.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of the directory `dir`, which has to exist.
    ///
    /// # Errors
    /// [`Error::Output`] naming the directory, and who holds the lock if another process does; or if the file cannot be written.
    pub fn acquire(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK);
        let problem = |e: io::Error| Error::output(&path, format!("cannot lock the directory with this file: {e}"));
        let mut holder = None;
        for read in 0..READS {
            if read > 0 {
                std::thread::sleep(READ_INTERVAL);
            }
            match open_locked(&path).map_err(problem)? {
                Opened::Locked(mut file) => {
                    file.set_len(0).and_then(|()| file.write_all(Holder::this().text().as_bytes())).map_err(problem)?;
                    return Ok(Self { file, path });
                }
                Opened::Busy(file) => holder = Holder::read(file),
            }
            if holder.is_some() {
                break;
            }
        }
        let holder = holder.map_or_else(|| "which does not say its name".to_owned(), |holder| holder.to_string());
        Err(Error::output(
            dir,
            format!("another dec writes here ({holder}); wait until it ends, stop it, or take another directory"),
        ))
    }
}

impl Lock {
    /// Whether a process holds the lock of `dir`: whether somebody is at work there.
    pub fn is_held(dir: &Path) -> bool {
        let Ok(file) = File::open(dir.join(LOCK)) else { return false };
        // Held by us for no longer than this takes, and shared: who wants it meanwhile tries again.
        matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is still locked: `open_locked` then finds that what it has locked is gone, and opens anew. What
        // somebody else has put in its place is not ours to remove.
        if is_at(&self.file, &self.path) {
            if let Err(e) = std::fs::remove_file(&self.path) {
                tracing::debug!("{}: cannot be removed: {e}", self.path.display());
            }
        }
    }
}

/// Who holds a lock, as its file says.
#[derive(Debug, PartialEq)]
struct Holder {
    pid: u32,
    host: String,
    since: String,
}

impl Holder {
    /// This process, now.
    fn this() -> Self {
        #[cfg(unix)]
        let host = nix::unistd::gethostname().ok();
        #[cfg(not(unix))]
        let host = std::env::var_os("COMPUTERNAME");
        Self {
            pid: std::process::id(),
            host: host.map_or_else(|| "unknown".to_owned(), |name| name.to_string_lossy().into_owned()),
            since: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string(),
        }
    }

    fn text(&self) -> String {
        format!("pid {}\nhost {}\nsince {}\n", self.pid, self.host, self.since)
    }

    fn read(mut file: File) -> Option<Self> {
        let mut text = String::new();
        file.rewind().ok()?;
        file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        Self::parse(&text)
    }

    /// The counterpart of [`Self::text`]; `None` for any other text, such as half of one.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let mut value = |key| lines.next()?.strip_prefix(key).filter(|value| !value.contains(char::is_control));
        Some(Self {
            pid: value("pid ")?.parse().ok()?,
            host: value("host ")?.to_owned(),
            since: value("since ")?.to_owned(),
        })
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "process {} on {}, since {}", self.pid, self.host, self.since)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_has_one_holder_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        let refused = Lock::acquire(dir.path()).unwrap_err();
        assert!(matches!(&refused, Error::Output { path, .. } if path == dir.path()), "{refused:?}");
        let text = refused.to_string();
        let this = Holder::this();
        for part in [&format!("process {} on {}, since 2", this.pid, this.host), "another directory"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        drop(lock);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file is removed");
        Lock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn the_file_of_a_killed_process_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK);
        std::fs::write(&path, format!("pid 1\nhost {}\nsince 2026-01-01 00:00:00\n", "h".repeat(300))).unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        let found = Holder::read(File::open(&path).unwrap()).unwrap();
        assert_eq!(found.pid, std::process::id(), "nothing of the old text is left");
        drop(lock);
    }

    #[test]
    fn a_lock_that_was_replaced_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK);
        let first = Lock::acquire(dir.path()).unwrap();
        std::fs::remove_file(&path).unwrap(); // by somebody who should not
        let second = Lock::acquire(dir.path()).unwrap();
        drop(first);
        assert!(Lock::acquire(dir.path()).is_err(), "the second still holds it");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_file_that_is_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(LOCK)).unwrap();
        let refused = Lock::acquire(dir.path()).unwrap_err();
        assert!(refused.to_string().contains(LOCK), "{refused}");
        assert_eq!(refused.exit_code(), 2);
    }

    #[test]
    fn half_a_text_and_control_characters_name_nobody() {
        let holder = Holder { pid: 7, host: "a b".to_owned(), since: "now".to_owned() };
        assert_eq!(Holder::parse(&holder.text()), Some(holder));
        for text in [
            "",
            "pid 7\n",
            "pid 7\nhost a\nsince 2026-0",
            "pid 7\nhost \x1b[2J\nsince now\n",
            "pid x\nhost a\nsince now\n",
        ] {
            assert_eq!(Holder::parse(text), None, "{text:?}");
        }
    }
}
