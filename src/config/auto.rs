//! Settings that are a value or the word `auto`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::Device;

use crate::backend::dense::Factors;
use crate::backend::{precision, threads};
use crate::error::{Error, Result};

/// What the factors of a training step's products are rounded to; sums, parameters, gradients and all that is not a step are float32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Whatever was measured to be faster and no worse: float32 so far.
    #[default]
    Auto,
    /// Nothing.
    Float32,
    /// bf16 where the device multiplies it ([`precision::multiplies_bf16`]), else nothing.
    Bf16,
}

impl Precision {
    /// What it comes to on `device`.
    pub fn factors(self, device: Device) -> Factors {
        match self {
            Self::Bf16 if precision::multiplies_bf16(device) => Factors::Bf16,
            _ => Factors::Float32,
        }
    }
}

/// Declares the type of a setting that is a value or the word `auto`; `$expecting` is what any other value is told.
macro_rules! given_or_auto {
    ($(#[$doc:meta])* $name:ident($given:ty), $expecting:literal, $(#[$auto:meta])*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase", expecting = $expecting)]
        pub enum $name {
            $(#[$auto])*
            #[default]
            Auto,
            /// The value given.
            #[serde(untagged)]
            Given($given),
        }

        impl $name {
            /// The value given, or what `auto` comes to.
            pub fn or(self, auto: impl FnOnce() -> $given) -> $given {
                self.given().unwrap_or_else(auto)
            }

            /// The value given, if any.
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
    /// Number of threads that compute on the CPU.
    #[derive(Copy)]
    Threads(usize),
    "a number of threads, or \"auto\"",
    /// As many as the process may use ([`crate::backend::threads::set`]).
);

given_or_auto!(
    /// Number of epochs, rounds, eigenvectors or networks.
    #[derive(Copy)]
    Count(u64),
    "a number, or \"auto\"",
    /// Chosen to suit the data.
);

given_or_auto!(
    /// Probability of dropping a value.
    #[derive(Copy)]
    Probability(f64),
    "a number from 0 to below 1, or \"auto\"",
    /// Chosen to suit the data.
);

given_or_auto!(
    /// Whether to do something.
    #[derive(Copy)]
    Switch(bool),
    "true, false, or \"auto\"",
    /// Chosen to suit the data.
);

given_or_auto!(
    /// Rounds of finding more clusters than k: for each factor, so many times k.
    OverClustering(Vec<f64>),
    "a list of factors, or \"auto\"",
    /// One round of 5 k clusters for augmented images, none for other rows: noise connects only rows that are neighbours already,
    /// and training towards the parts moves them apart.
);

given_or_auto!(
    /// Widths of the encoder's hidden layers.
    Widths(Vec<usize>),
    "a list of widths, or \"auto\"",
    /// The paper's 500, 500 and 2,000; for up to 20,000 rows whose values are not moved 128, 128 and 512.
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
