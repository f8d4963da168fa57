//! Files that one process at a time writes: opened without following a link, and locked for as long as they are open.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// How often a file that is replaced between opening and locking is opened again.
const TRIES: usize = 100;

/// What came of opening a file and asking for its lock.
pub(crate) enum Opened {
    /// The lock is ours until the file is closed, by us or by the end of the process, however it ends.
    Locked(File),
    /// Another process, or another part of this one, holds the lock.
    Busy(File),
}

/// Opens the file `path` for reading and writing, makes it if need be, and asks for its lock without waiting.
///
/// A locked file is the one that `path` names: its holder may remove or rename it, and then nobody is left with the lock of
/// a file that no path leads to. Where the file system has no locks, a warning is logged and the file counts as locked.
pub(crate) fn open_locked(path: &Path) -> io::Result<Opened> {
    for _ in 0..TRIES {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Opened::Busy(file)),
            Err(TryLockError::Error(e)) if has_no_locks(&e) => tracing::warn!(
                "{}: this file system has no locks ({e}); make sure that no other dec writes here",
                path.display()
            ),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // The holder before us may have removed or renamed the file after we opened it.
        if is_at(&file, path) {
            return Ok(Opened::Locked(file));
        }
    }
    Err(io::Error::other("another program keeps replacing this file"))
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // Who may write to the directory must not choose which of our files is overwritten.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, nix::fcntl::OFlag::O_NOFOLLOW.bits());
    let link = || io::Error::other("this is a symbolic link, which dec does not follow; remove it");
    if cfg!(not(unix)) && path.is_symlink() {
        return Err(link());
    }
    let file = options.open(path).map_err(|e| if path.is_symlink() { link() } else { e })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("this is not a regular file; remove it"));
    }
    Ok(file)
}

/// Whether `path` itself, not a link, names this open file.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(ours), Ok(found)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (ours.dev(), ours.ino()) == (found.dev(), found.ino())
}

/// Whether `path` is there: files have no portable identity here, and an open one is hardly ever replaced.
#[cfg(not(unix))]
pub(crate) fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Lustre without `-o flock` and NFS without its lock service answer so.
fn has_no_locks(e: &io::Error) -> bool {
    #[cfg(unix)]
    if e.raw_os_error() == Some(nix::errno::Errno::ENOLCK as i32) {
        return true;
    }
    e.kind() == io::ErrorKind::Unsupported
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn locked(path: &Path) -> Option<File> {
        match open_locked(path).unwrap() {
            Opened::Locked(file) => Some(file),
            Opened::Busy(_) => None,
        }
    }

    #[test]
    fn a_file_is_locked_once_and_free_when_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let first = locked(&path).unwrap();
        assert!(locked(&path).is_none());
        drop(first);
        assert!(locked(&path).is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed_and_a_pipe_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link, pipe) = (dir.path().join("mine"), dir.path().join("link"), dir.path().join("pipe"));
        std::fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let refused = open_locked(&link).err().unwrap().to_string();
        assert!(refused.contains("symbolic link"), "{refused}");
        assert_eq!(std::fs::read(&target).unwrap(), b"mine");

        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let refused = open_locked(&pipe).err().unwrap().to_string();
        assert!(refused.contains("not a regular file"), "{refused}");
    }

    /// Threads take the lock in turn, and each removes the file before it lets go, as a run does: never do two hold it.
    #[cfg(unix)]
    #[test]
    fn removal_by_the_holder_never_lets_two_in() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while turns.load(Ordering::SeqCst) < 2000 {
                        let Some(file) = locked(&path) else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                        turns.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        std::fs::remove_file(&path).unwrap();
                        drop(file);
                    }
                });
            }
        });
    }
}
