//! Writing files so that a reader sees all of one or none of it.

use std::io::Write;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, Result};

/// Checks that files can be made in the directory `dir`, without leaving one.
///
/// # Errors
/// [`Error::Output`] naming the directory.
pub fn check_writable(dir: &Path) -> Result<()> {
    temporary_in(dir)
        .map(drop)
        .map_err(|e| Error::output(dir, format!("cannot write to this directory: {}; name another", reason(&e))))
}

/// Writes `content` to `path` by way of a temporary file beside it.
///
/// # Errors
/// [`Error::Output`] naming the path; what was there before is then still there.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    write_atomic_with(path, |temporary| {
        std::fs::File::create(temporary)
            .and_then(|mut file| {
                file.write_all(content)?;
                // Before the rename; a device or a pipe has nothing to sync.
                if file.metadata()?.is_file() {
                    file.sync_all()?;
                }
                Ok(())
            })
            .map_err(|e| Error::output(path, format!("cannot be written: {e}")))
    })
}

/// Lets `write` fill a temporary file beside `path`, then renames it to `path`.
///
/// A link stays, and the file it leads to is replaced; what is no regular file (`/dev/stdout`, a pipe) is written as it is.
///
/// # Errors
/// What `write` fails with, or [`Error::Output`] naming the path.
pub fn write_atomic_with(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return write(path);
    }
    let resolved = path.canonicalize(); // fails where there is nothing yet
    let path = resolved.as_deref().unwrap_or(path);
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = |e: std::io::Error| Error::output(path, format!("cannot be written: {}", reason(&e)));
    let temporary = temporary_in(dir).map_err(problem)?;
    write(temporary.path())?;
    temporary.persist(path).map_err(|e| problem(e.error))?;
    Ok(())
}

/// What went wrong, without the temporary file's path, which `tempfile` puts behind it and which means nothing to a user.
fn reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split_once(" at path \"").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

/// A temporary file with the permissions that an ordinary new file gets.
fn temporary_in(dir: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".dec-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less the umask
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
        write_atomic(&path, b"old").unwrap();
        let failed = write_atomic_with(&path, |temporary| {
            std::fs::write(temporary, b"half").unwrap();
            Err(Error::Interrupted)
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
