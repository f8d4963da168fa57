//! Settings that are a number or the word `auto`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backend::threads;
use crate::error::{Error, Result};

/// How many threads compute on the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of threads, or \"auto\"")]
pub enum Threads {
    /// So many.
    Count(usize),
    /// As many as the process may use ([`crate::backend::threads::set`]).
    #[default]
    #[serde(with = "word")]
    Auto,
}

impl Threads {
    /// The number, where one is given.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count),
            Self::Auto => None,
        }
    }
}

impl FromStr for Threads {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()); // parse() would take "+1" too
        match text.parse() {
            Ok(count) if plain => Ok(Self::Count(count)),
            _ if text == "auto" => Ok(Self::Auto),
            _ => Err(threads::refusal(text)),
        }
    }
}

/// What the rows are multiplied by before the network sees them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, or \"auto\"")]
pub enum Scale {
    /// A given factor.
    Factor(f64),
    /// 1/255 for images of bytes, so that they lie in [0, 1]; for other rows one over the root mean square of all values, so
    /// that the mean of ‖x‖²/d is 1 (Xie et al. 2016, §4.1).
    #[serde(with = "word")]
    Auto,
}

/// How many: epochs, rounds, eigenvectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, or \"auto\"")]
pub enum Count {
    /// So many.
    Given(u64),
    /// What suits the data.
    #[default]
    #[serde(with = "word")]
    Auto,
}

impl Count {
    /// The number, or what `auto` comes to.
    pub fn or(self, auto: impl FnOnce() -> u64) -> u64 {
        match self {
            Self::Given(count) => count,
            Self::Auto => auto(),
        }
    }

    /// The number, where one is given.
    pub fn given(self) -> Option<u64> {
        match self {
            Self::Given(count) => Some(count),
            Self::Auto => None,
        }
    }
}

/// The word `auto` as a unit.
mod word {
    use serde::{de::Error, Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("auto")
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(()),
            other => Err(D::Error::custom(format!("`{other}` is neither a number nor \"auto\""))),
        }
    }
}
