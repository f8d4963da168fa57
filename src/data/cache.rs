//! Where downloads are kept, across checkouts and runs.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// `dec`'s directory for downloads: `$DEC_CACHE`, else `$XDG_CACHE_HOME/dec`, else `$HOME/.cache/dec`.
///
/// Variables that are empty count as not set, and a relative `XDG_CACHE_HOME` too, as its specification has it. The
/// directory need not exist.
///
/// # Errors
///
/// [`Error::Config`] when none of the three is set.
pub fn cache_dir() -> Result<PathBuf> {
    resolve(|name| std::env::var_os(name))
}

/// The directory that `dec fetch mnist` fills and `--data mnist` reads: `mnist` in [`cache_dir`].
///
/// # Errors
///
/// Those of [`cache_dir`].
pub fn mnist_dir() -> Result<PathBuf> {
    Ok(cache_dir()?.join("mnist"))
}

fn resolve(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("DEC_CACHE")
        .or_else(|| path("XDG_CACHE_HOME").filter(|dir| dir.is_absolute()).map(|dir| dir.join("dec")))
        .or_else(|| path("HOME").map(|home| home.join(".cache").join("dec")))
        .ok_or_else(|| {
            Error::Config(
                "no place for downloads: none of the variables DEC_CACHE, XDG_CACHE_HOME and HOME is set; set \
                 DEC_CACHE to a directory"
                    .to_owned(),
            )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(set: &[(&str, &str)]) -> Result<PathBuf> {
        resolve(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_most_particular_variable_wins() {
        let all = [("DEC_CACHE", "here"), ("XDG_CACHE_HOME", "/xdg"), ("HOME", "/home/a")];
        assert_eq!(with(&all).unwrap(), PathBuf::from("here"));
        assert_eq!(with(&all[1..]).unwrap(), PathBuf::from("/xdg/dec"));
        assert_eq!(with(&all[2..]).unwrap(), PathBuf::from("/home/a/.cache/dec"));
        assert_eq!(
            with(&[("DEC_CACHE", ""), ("XDG_CACHE_HOME", "rel"), ("HOME", "/h")]).unwrap(),
            PathBuf::from("/h/.cache/dec")
        );
        let error = with(&[]).unwrap_err();
        assert!(error.to_string().contains("set DEC_CACHE"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
