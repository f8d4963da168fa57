//! Writing files so that a reader, also one after a crash, sees all of one or none of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, Result};

pub(crate) mod faults;

/// How the names of temporary files begin and end.
const PREFIX: &str = ".dec-";
const SUFFIX: &str = ".tmp";
/// Bytes that are written in one go.
const CHUNK: usize = 1 << 20;

/// Checks that files can be made in the directory `dir`, without leaving one.
///
/// # Errors
/// [`Error::Output`] naming the directory.
pub fn check_writable(dir: &Path) -> Result<()> {
    temporary_in(dir)
        .map(drop)
        .map_err(|e| Error::output(dir, format!("cannot write to this directory: {}; name another", reason(&e))))
}

/// Writes `content` to `path`: to a temporary file beside it, which is synced and then renamed, and the rename synced.
///
/// A link stays, and the file it leads to is replaced; what is no regular file (`/dev/stdout`, a pipe) is written as it is.
///
/// # Errors
/// [`Error::Output`] naming the path; what was there before is then still there.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let problem = |e: io::Error| Error::output(path, format!("cannot be written: {}", reason(&e)));
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| write_chunks(&mut file, content))
            .map_err(problem);
    }
    let resolved = path.canonicalize(); // fails where there is nothing yet
    let target = resolved.as_deref().unwrap_or(path);
    replace(target, content).map_err(problem)
}

/// As [`write_atomic`], but a link at `path` is replaced itself, and a device too.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut draft = Draft::beside(path)?;
    write_chunks(draft.file_mut(), content)?;
    draft.sync()?;
    draft.publish()
}

/// A temporary file beside its target. Dropped without [`Draft::publish`], it goes away.
#[derive(Debug)]
pub(crate) struct Draft {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl Draft {
    /// An empty file beside `target`.
    pub(crate) fn beside(target: &Path) -> io::Result<Self> {
        faults::point()?;
        Ok(Self { temporary: temporary_in(folder(target))?, target: target.to_owned() })
    }

    /// Where it is for now.
    #[cfg(feature = "h5ad")]
    pub(crate) fn place(&self) -> &Path {
        self.temporary.path()
    }

    pub(crate) fn file_mut(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Makes what was written last through a power failure.
    pub(crate) fn sync(&self) -> io::Result<()> {
        faults::point()?;
        self.temporary.as_file().sync_all()
    }

    /// Renames it to its target, once it is synced, and syncs the rename.
    pub(crate) fn publish(self) -> io::Result<()> {
        faults::point()?;
        self.temporary.persist(&self.target).map_err(|e| e.error)?;
        sync_dir(folder(&self.target))
    }
}

/// The directory that `path` is in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// In pieces, so that a test can break off between them.
fn write_chunks(file: &mut File, content: &[u8]) -> io::Result<()> {
    for chunk in content.chunks(CHUNK) {
        faults::point()?;
        file.write_all(chunk)?;
    }
    Ok(())
}

/// Makes renames and removals in a directory last through a power failure.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    faults::point()?;
    #[cfg(unix)]
    match File::open(dir)?.sync_all() {
        // Some network file systems cannot sync directories.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {}
        synced => synced?,
    }
    Ok(())
}

/// Bytes that are free on the disk of `dir`; `None` where that cannot be told.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = nix::sys::statvfs::statvfs(dir).ok()?;
        found.blocks_available().checked_mul(found.fragment_size())
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        None
    }
}

/// Removes what a killed process left half-written in `dir`. Only where no other process writes there.
pub(crate) fn remove_leftovers(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) && fs::remove_file(entry.path()).is_ok() {
            tracing::debug!("removed {}, which a killed run had left", entry.path().display());
        }
    }
}

/// What went wrong, without the temporary file's path, which `tempfile` puts behind it and which means nothing to a user.
pub(crate) fn reason(e: &io::Error) -> String {
    let text = e.to_string();
    text.split_once(" at path \"").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

/// A temporary file with the permissions that an ordinary new file gets.
fn temporary_in(dir: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666)); // less the umask
    }
    builder.tempfile_in(dir)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        use std::os::unix::fs::FileTypeExt;
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomic(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        write_atomic(Path::new("/dev/null"), b"gone").unwrap();
        assert!(Path::new("/dev/null").metadata().unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), b"").unwrap();
        let message = replace(&path, b"new").unwrap_err();
        assert!(!message.to_string().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_go_and_other_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".dec-abc.tmp", "notes.tmp", ".dec-notes", "weights.safetensors"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        remove_leftovers(dir.path());
        assert!(!dir.path().join(".dec-abc.tmp").exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
