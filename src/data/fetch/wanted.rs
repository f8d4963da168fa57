//! The files that are fetched, and how they are known.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::CHUNK_BYTES;
use crate::data::mnist;

/// A file to have: its name without `.gz`, and the size and SHA-256 of its decompressed contents.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: u64,
    pub(super) sha256: &'a str,
}

/// The files in the order in which they are fetched: a mirror that lacks the large one has by then given the others.
pub(super) const MNIST: [Wanted; 4] = [
    Wanted {
        name: mnist::FILES[2],
        bytes: 7_840_016,
        sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    },
    Wanted {
        name: mnist::FILES[3],
        bytes: 10_008,
        sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    Wanted {
        name: mnist::FILES[1],
        bytes: 60_008,
        sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    Wanted {
        name: mnist::FILES[0],
        bytes: 47_040_016,
        sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    },
];

impl Wanted<'_> {
    /// The most bytes that the compressed file may have: gzip adds at most a header and 5 bytes to each 16 KiB.
    pub(super) fn most_bytes(&self) -> u64 {
        self.bytes + self.bytes / 1024 + 1024
    }

    /// Whether the file at `path`, gzipped or raw, has the right contents; else what it has.
    pub(super) fn verify_at(&self, path: &Path) -> Result<(), String> {
        self.verify(&File::open(path).map_err(unreadable)?)
    }

    /// As [`Self::verify_at`], for an open file.
    pub(super) fn verify(&self, mut file: &File) -> Result<(), String> {
        file.rewind().map_err(unreadable)?;
        let mut file = BufReader::with_capacity(CHUNK_BYTES, file);
        let gzip = io::BufRead::fill_buf(&mut file).map_err(unreadable)?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn Read + '_> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        // One byte more than there should be is enough to see that there are more.
        let mut reader = reader.take(self.bytes + 1);
        let mut sha256 = Sha256::new();
        let bytes = io::copy(&mut reader, &mut sha256).map_err(|e| format!("is damaged: {e}"))?;
        if bytes != self.bytes {
            let found = if bytes > self.bytes { "more".to_owned() } else { bytes.to_string() };
            return Err(format!("has {found} bytes decompressed, not {}", self.bytes));
        }
        let found: String = sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != self.sha256 {
            return Err(format!("has the SHA-256 {found} decompressed, not {}", self.sha256));
        }
        Ok(())
    }
}

fn unreadable(e: io::Error) -> String {
    format!("cannot be read: {e}")
}
