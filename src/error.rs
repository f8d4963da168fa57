//! What can go wrong, typed: each error carries the path, key, place or shape a person needs to mend it.

use std::path::{Path, PathBuf};

use tch::TchError;

use crate::backend::memory::human;

/// The library's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of the library.
///
/// The variants group by what the user would mend, which is also what the exit code says
/// ([`Error::exit_code`]): the command or recipe (2), the data (3), the training (4), the memory (6), rows unlike those of training (7).
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

    /// New rows of which more than allowed are unlike the training rows.
    #[error("{0}")]
    Outliers(String),

    /// Rows of another width than a model takes.
    #[error("the rows have the shape {found:?}, and the model takes {expected:?}")]
    Shape {
        /// Rows and features that were given.
        found: [usize; 2],
        /// Rows and features that would be right.
        expected: [usize; 2],
    },

    /// Training that diverged or collapsed.
    #[error("{0}")]
    Training(String),

    /// A loss that is not finite or has exploded.
    #[error("{stage} diverged in epoch {epoch}: the loss is {loss} at a learning rate of {learning_rate:?}")]
    Diverged {
        /// The stage's name.
        stage: String,
        /// The epoch, counted from 1.
        epoch: u64,
        /// The mean loss of the epoch.
        loss: f64,
        /// The rate of its last step.
        learning_rate: f64,
    },

    /// Latent rows or clusters that have become nearly the same.
    #[error("{problem}")]
    Collapsed {
        /// What collapsed.
        of: Collapse,
        /// In words.
        problem: String,
    },

    /// Results that could not be saved: each file with its reason.
    #[error("{0}")]
    Unsaved(String),

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

    /// Memory that ran out, or that would.
    #[error("{0}")]
    Memory(String),

    /// Processes that train together and lost each other, or came to different values.
    #[error("{0}")]
    Processes(String),

    /// The user asked to stop (Ctrl-C, SIGTERM).
    #[error("interrupted")]
    Interrupted,

    /// libtorch reported an error; one line of what it said.
    #[error("libtorch: {0}")]
    Torch(#[source] TchError),

    /// A fault of this program: a panic, by what it said.
    #[error("a fault of this program ended the work: {0}; please report it")]
    Fault(String),
}

/// What can collapse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collapse {
    /// The latent rows of the autoencoder.
    Latent,
    /// The clusters of self-training.
    Clusters,
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

    /// The same about the file `path`, whose contents led to it, where it does not name a file itself.
    pub fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Rows(_) | Self::Shape { .. } | Self::Training(_) | Self::Torch(_) => {
                Self::data(path, self.to_string())
            }
            other => other,
        }
    }

    /// The error that a caught panic comes to, by what it said. tch's operators panic with libtorch's error, above all where
    /// memory runs out in the middle of a network.
    pub fn from_panic(text: &str) -> Self {
        let unescaped = text.replace("\\n", "\n").replace("\\\"", "\"").replace("\\'", "'");
        if let Some(memory) = out_of_memory(&unescaped) {
            return memory;
        }
        // What unwrap() says of an error of tch's, in the words of `Debug`.
        match unescaped.split_once("Err` value: Torch(\"") {
            Some((_, said)) => Self::Torch(TchError::Torch(one_line(said.trim_end_matches("\")")))),
            None => Self::Fault(unescaped.lines().next().unwrap_or("no reason given").trim().to_owned()),
        }
    }

    /// [`Error::from_panic`] for what `catch_unwind` gives.
    pub fn from_payload(payload: &(dyn std::any::Any + Send)) -> Self {
        Self::from_panic(panic_text(payload))
    }

    /// The process's exit code for this error: 2 usage or config, 3 data, 4 training, 6 memory, 130 interrupted, 1 the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Device(_) | Self::Output { .. } => 2,
            Self::Data { .. } | Self::Rows(_) | Self::Shape { .. } => 3,
            Self::Training(_) | Self::Diverged { .. } | Self::Collapsed { .. } => 4,
            Self::Unsaved(_) => 5,
            Self::Memory(_) => 6,
            Self::Outliers(_) => 7,
            Self::Interrupted => 130,
            Self::Fetch(_) | Self::Torch(_) | Self::Fault(_) | Self::Processes(_) => 1,
        }
    }
}

/// The first line of what a panic said.
fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("no reason given")
}

impl From<TchError> for Error {
    /// Without the C++ frames that libtorch's messages end with.
    fn from(error: TchError) -> Self {
        match error {
            TchError::Torch(text) => {
                out_of_memory(&text).unwrap_or_else(|| Self::Torch(TchError::Torch(one_line(&text))))
            }
            TchError::Io(io) if io.kind() == std::io::ErrorKind::OutOfMemory => Self::Memory(ran_out("memory", None)),
            other => Self::Torch(other),
        }
    }
}

impl From<linfa::Error> for Error {
    /// What linfa's traits ask of an error; its own errors are about rows that do not suit an algorithm.
    fn from(error: linfa::Error) -> Self {
        Self::Rows(error.to_string())
    }
}

/// The error for a message of libtorch's, or of the C++ library's, that says that memory ran out.
fn out_of_memory(text: &str) -> Option<Error> {
    const SIGNS: [&str; 5] =
        ["not enough memory", "can't allocate memory", "out of memory", "bad_alloc", "no memory for"];
    let lower = text.to_lowercase();
    if !SIGNS.iter().any(|sign| lower.contains(sign)) {
        return None;
    }
    // "tried to allocate 3136000000 bytes. …" on the CPU, "Tried to allocate 20.00 MiB. …" on a GPU.
    let place = lower.find("tried to allocate ").map(|at| at + "tried to allocate ".len());
    let mut words = place.and_then(|at| text.get(at..)).unwrap_or("").split_whitespace();
    let size = match (words.next(), words.next()) {
        (Some(number), Some(unit)) => match (number.parse(), unit.trim_end_matches('.')) {
            (Ok(bytes), "bytes") => Some(human(bytes)),
            (Err(_), unit) if number.parse::<f64>().is_ok() => Some(format!("{number} {unit}")),
            _ => None,
        },
        _ => None,
    };
    let of = if lower.contains("cuda") { "the GPU's memory" } else { "memory" };
    Some(Error::Memory(ran_out(of, size)))
}

fn ran_out(of: &str, size: Option<String>) -> String {
    let size = size.map_or(String::new(), |size| format!(": {size} more were asked for"));
    format!(
        "{of} ran out{size}; use fewer rows (data.limit), a smaller network (model.hidden, model.n_latent), smaller batches \
         (pretrain.batch_size, cluster.batch_size), or more memory"
    )
}

/// The line of a message of libtorch's that says what is wrong.
fn one_line(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    // A failure inside TorchScript comes after the Python-like frames that led there.
    let inner = lines().find_map(|line| line.strip_prefix("RuntimeError: "));
    let line = inner.or_else(|| lines().next()).unwrap_or("no reason given");
    // "[enforce fail at inline_container.cc:145] . PytorchStreamReader failed …"
    let line = match line.strip_prefix("[enforce fail at ").and_then(|rest| rest.split_once("] ")) {
        Some((_, said)) => said.trim_start_matches(". "),
        None => line,
    };
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: &str =
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried \
                       to allocate 3136000000 bytes. Error code 12 (Cannot allocate memory)\nException raised from \
                       alloc_cpu at /pytorch/c10/core/impl/alloc_cpu.cpp:124 (most recent call first):\nframe #0: \
                       c10::Error::Error(c10::SourceLocation, std::string) + 0x80 (0x7f in /lib/libc10.so)\n";

    fn torch(text: &str) -> Error {
        TchError::Torch(text.to_owned()).into()
    }

    #[test]
    fn memory_that_ran_out_is_one_line_with_its_own_code() {
        for error in
            [torch(CPU), Error::from_panic(&format!("called `Result::unwrap()` on an `Err` value: Torch({CPU:?})"))]
        {
            assert_eq!(error.exit_code(), 6);
            let text = error.to_string();
            assert!(
                text.starts_with("memory ran out: 3.1 GB more were asked for; ") && text.contains("data.limit"),
                "{text}"
            );
            assert!(!text.contains('\n') && !text.contains("frame") && !text.contains(".cpp"), "{text}");
        }
        let gpu =
            torch("CUDA out of memory. Tried to allocate 20.50 MiB. GPU 0 has a total capacity of 79 GiB\nframe #0");
        assert!(gpu.to_string().starts_with("the GPU's memory ran out: 20.50 MiB more were asked for; "), "{gpu}");
        for text in ["std::bad_alloc", "out of memory", "DefaultCPUAllocator: not enough memory: you tried to allocate"]
        {
            assert!(torch(text).to_string().starts_with("memory ran out; use fewer rows"), "{text}");
        }
        let io = TchError::Io(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        assert_eq!(Error::from(io).exit_code(), 6);
    }

    #[test]
    fn other_errors_of_libtorch_are_one_line_too() {
        let shapes =
            "The size of tensor a (3) must match the size of tensor b (4)\nException raised from infer_size at \
                      x.cpp:35 (most recent call first):\nframe #0: c10::Error::Error()";
        let script = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript, serialized \
                      code (most recent call last):\n  File \"code/__torch__.py\", line 9, in forward\n    x\nRuntimeError: \
                      mat1 and mat2 shapes cannot be multiplied (1x3 and 4x5)\n";
        let archive =
            "[enforce fail at inline_container.cc:145] . PytorchStreamReader failed reading zip archive: not a \
                       ZIP archive\nframe #0: c10::ThrowEnforceNotMet()";
        for (text, line) in [
            (shapes, "The size of tensor a (3) must match the size of tensor b (4)"),
            (script, "mat1 and mat2 shapes cannot be multiplied (1x3 and 4x5)"),
            (archive, "PytorchStreamReader failed reading zip archive: not a ZIP archive"),
            ("\n\n  one \n", "one"),
            ("", "no reason given"),
        ] {
            let said = format!("libtorch: Internal torch error: {line}");
            let panic = Error::from_panic(&format!("called `Result::unwrap()` on an `Err` value: Torch({text:?})"));
            for error in [torch(text), panic] {
                assert_eq!((error.to_string(), error.exit_code()), (said.clone(), 1));
            }
        }
    }

    #[test]
    fn a_panic_of_our_own_is_said_to_be_a_fault() {
        let fault = Error::from_panic("index out of bounds: the len is 3 but the index is 5\nmore");
        assert_eq!(fault.exit_code(), 1);
        assert!(fault.to_string().contains("the len is 3 but the index is 5; please report it"), "{fault}");
    }
}
