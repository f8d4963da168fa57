//! Public files, and how they are known: by the SHA-256 of their decompressed contents.
//!
//! Mirrors compress the same files differently (the published `train-images-idx3-ubyte.gz` has 9,912,422 bytes, others
//! fewer), and only the contents matter.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::text::hex;

const BUFFER_BYTES: usize = 1 << 16;

/// A public file: its name without `.gz`, and the size and SHA-256 of its decompressed contents.
pub(super) struct Published<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: u64,
    pub(super) sha256: &'a str,
}

/// MNIST's files in the order of the rows: images and labels, train and test.
pub(super) const MNIST: [Published; 4] = [
    Published {
        name: "train-images-idx3-ubyte",
        bytes: 47_040_016,
        sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    },
    Published {
        name: "train-labels-idx1-ubyte",
        bytes: 60_008,
        sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    Published {
        name: "t10k-images-idx3-ubyte",
        bytes: 7_840_016,
        sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    },
    Published {
        name: "t10k-labels-idx1-ubyte",
        bytes: 10_008,
        sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
];

impl Published<'_> {
    /// The file in `dir`, gzipped or raw, under either of the two spellings in use; what `dec fetch` writes comes first.
    pub(super) fn find(&self, dir: &Path) -> Option<PathBuf> {
        let (name, dotted) = (self.name, self.name.replace("-idx", ".idx"));
        [format!("{name}.gz"), name.to_owned(), format!("{dotted}.gz"), dotted]
            .into_iter()
            .map(|name| dir.join(name))
            .find(|path| path.is_file())
    }

    /// The most bytes that the compressed file may have: gzip adds at most a header and 5 bytes to each 16 KiB.
    pub(super) fn most_bytes(&self) -> u64 {
        self.bytes + self.bytes / 1024 + 1024
    }

    /// Whether the file at `path`, gzipped or raw, has the right contents; else what it has.
    pub(super) fn verify_at(&self, path: &Path) -> Result<(), String> {
        self.verify(BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(unreadable)?))
    }

    /// As [`Self::verify_at`], for a file that is being read.
    pub(super) fn verify(&self, mut file: impl BufRead) -> Result<(), String> {
        let gzip = file.fill_buf().map_err(unreadable)?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn Read + '_> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        // One byte more than there should be is enough to see that there are more.
        let mut reader = reader.take(self.bytes + 1);
        let mut sha256 = Sha256::new();
        let bytes = io::copy(&mut reader, &mut sha256).map_err(|e| format!("is damaged: {e}"))?;
        if bytes != self.bytes {
            let found = if bytes > self.bytes { "more".to_owned() } else { bytes.to_string() };
            return Err(format!("has {found} bytes decompressed, not {}", self.bytes));
        }
        let found = hex(sha256.finalize());
        if found != self.sha256 {
            return Err(format!("has the SHA-256 {found} decompressed, not {}", self.sha256));
        }
        Ok(())
    }
}

fn unreadable(e: io::Error) -> String {
    format!("cannot be read: {e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_files_are_the_ones_that_are_built_in() {
        // The sums of the test set against the digits that the binary carries.
        assert_eq!(MNIST[2].verify(&include_bytes!("builtin/t10k-images-idx3-ubyte.gz")[..]), Ok(()));
        assert_eq!(MNIST[3].verify(&include_bytes!("builtin/t10k-labels-idx1-ubyte.gz")[..]), Ok(()));
    }
}
