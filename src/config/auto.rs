//! Settings that are a number or the word `auto`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backend::threads;
use crate::error::{Error, Result};

/// A type for a value that may be left to `auto`: its name, the type of the value, and what a recipe with something else is told.
macro_rules! given_or_auto {
    ($(#[$doc:meta])* $name:ident($given:ty), $expecting:literal, $(#[$auto:meta])*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(untagged, expecting = $expecting)]
        pub enum $name {
            /// The value given.
            Given($given),
            $(#[$auto])*
            #[default]
            #[serde(with = "word")]
            Auto,
        }

        impl $name {
            /// What is given, or what `auto` comes to.
            pub fn or(self, auto: impl FnOnce() -> $given) -> $given {
                self.given().unwrap_or_else(auto)
            }

            /// What is given, if anything.
            pub fn given(self) -> Option<$given> {
                match self {
                    Self::Given(given) => Some(given),
                    Self::Auto => None,
                }
            }
        }
    };
}

given_or_auto!(
    /// How many threads compute on the CPU.
    #[derive(Copy)]
    Threads(usize),
    "a number of threads, or \"auto\"",
    /// As many as the process may use ([`crate::backend::threads::set`]).
);

given_or_auto!(
    /// How many: epochs, rounds, eigenvectors, networks.
    #[derive(Copy)]
    Count(u64),
    "a number, or \"auto\"",
    /// What suits the data.
);

given_or_auto!(
    /// A probability: of dropping a feature.
    #[derive(Copy)]
    Probability(f64),
    "a number from 0 to below 1, or \"auto\"",
    /// What suits the data.
);

given_or_auto!(
    /// Whether to do something.
    #[derive(Copy)]
    Switch(bool),
    "true, false, or \"auto\"",
    /// Where it suits the data.
);

given_or_auto!(
    /// How often, and how finely, more clusters than are wanted are found first: so many times k clusters, in turn.
    OverClustering(Vec<f64>),
    "a list of factors, or \"auto\"",
    /// Once, 5 k, for images that are augmented; for other rows not at all, augmented or not: noise connects no more than the
    /// neighbours that it leads to, and training towards the parts only moves them apart.
);

impl FromStr for Threads {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()); // parse() would take "+1" too
        match text.parse() {
            Ok(count) if plain => Ok(Self::Given(count)),
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
