//! What can go wrong, typed: each error carries the path, key, place or shape a person needs to mend it.

use std::path::{Path, PathBuf};

/// The library's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of the library.
///
/// The variants group by what the user would mend, which is also what the exit code says
/// ([`Error::exit_code`]): the command or recipe (2), the data (3), the training (4).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe, an option or a combination of them that cannot be run.
    #[error("{0}")]
    Config(String),

    /// The device that was asked for is not there; says what was looked for.
    #[error("{0}")]
    Device(String),

    /// A data or model file that cannot be used as it is.
    #[error("{}: {problem}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong, where in the file, and what would be right.
        problem: String,
    },

    /// Rows that were read but cannot be clustered (NaN, all the same, too few).
    #[error("{0}")]
    Rows(String),

    /// Training that diverged or collapsed.
    #[error("{0}")]
    Training(String),

    /// A file or directory of the run that cannot be written.
    #[error("{}: {problem}", path.display())]
    Output {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do about it.
        problem: String,
    },

    /// A download that failed.
    #[error("{0}")]
    Fetch(String),

    /// The user asked to stop (Ctrl-C, SIGTERM).
    #[error("interrupted")]
    Interrupted,

    /// libtorch reported an error.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl Error {
    /// A [`Error::Data`] about `path`.
    pub fn data(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_owned(), problem: problem.into() }
    }

    /// A [`Error::Output`] about `path`.
    pub fn output(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Output { path: path.as_ref().to_owned(), problem: problem.into() }
    }

    /// The process's exit code for this error: 2 usage or config, 3 data, 4 training, 130 interrupted, 1 the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Device(_) | Self::Output { .. } => 2,
            Self::Data { .. } | Self::Rows(_) => 3,
            Self::Training(_) => 4,
            Self::Interrupted => 130,
            Self::Fetch(_) | Self::Torch(_) => 1,
        }
    }
}
