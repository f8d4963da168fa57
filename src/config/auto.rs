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

/// What is done to the values of raw rows before the network sees them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, \"auto\", \"centre\", \"standardise\" or \"counts\"")]
pub enum Scale {
    /// A given factor.
    Factor(f64),
    /// What suits the rows: [`crate::data::Scaling::new`].
    #[serde(with = "word")]
    Auto,
    /// Not one factor: each feature less its mean, over its standard deviation.
    #[serde(with = "standardise")]
    Standardise,
    /// Each feature less its mean, over the deviation of all.
    #[serde(with = "centre")]
    Centre,
    /// Of counts: each row brought to one total, ln(1 + x) of that, then as [`Scale::Centre`].
    #[serde(with = "counts")]
    Counts,
}

/// How many: epochs, rounds, eigenvectors, networks.
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

/// How often, and how finely, more clusters than are wanted are found first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of factors, or \"auto\"")]
pub enum OverClustering {
    /// So many times k clusters, in turn.
    Factors(Vec<f64>),
    /// Once, 5 k, for images that are augmented; for other rows not at all: noise connects no more than the neighbours that it
    /// leads to, and training towards the parts only moves them apart.
    #[default]
    #[serde(with = "word")]
    Auto,
}

impl OverClustering {
    /// The factors, where they are given.
    pub fn given(&self) -> Option<&[f64]> {
        match self {
            Self::Factors(factors) => Some(factors),
            Self::Auto => None,
        }
    }
}

/// A probability: of dropping a feature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number from 0 to below 1, or \"auto\"")]
pub enum Probability {
    /// This one.
    Given(f64),
    /// What suits the data.
    #[default]
    #[serde(with = "word")]
    Auto,
}

impl Probability {
    /// The number, or what `auto` comes to.
    pub fn or(self, auto: impl FnOnce() -> f64) -> f64 {
        match self {
            Self::Given(probability) => probability,
            Self::Auto => auto(),
        }
    }
}

/// A word as a unit, in a module of its own for `#[serde(with)]`.
macro_rules! word {
    ($module:ident, $word:literal) => {
        mod $module {
            use serde::{de::Error, Deserialize, Deserializer, Serializer};

            pub fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($word)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
                match String::deserialize(deserializer)?.as_str() {
                    $word => Ok(()),
                    other => Err(D::Error::custom(format!("`{other}` is not \"{}\"", $word))),
                }
            }
        }
    };
}

word!(word, "auto");
word!(standardise, "standardise");
word!(centre, "centre");
word!(counts, "counts");
