//! Ranges of values: each check names the key, what was found and what would be right.

use std::fmt::Display;

use crate::error::{Error, Result};

/// Refuses `found` unless it `fits` what is `expected`.
pub(super) fn require(key: &str, found: impl Display, fits: bool, expected: &str) -> Result<()> {
    if fits {
        Ok(())
    } else {
        Err(Error::Config(format!("{key} = {found}: must be {expected}")))
    }
}

pub(super) fn at_least_one(key: &str, found: u64) -> Result<()> {
    require(key, found, found >= 1, "at least 1")
}

pub(super) fn optional_at_least_one(key: &str, found: Option<u64>) -> Result<()> {
    found.map_or(Ok(()), |found| at_least_one(key, found))
}

pub(super) fn at_most(key: &str, found: u64, most: u64) -> Result<()> {
    require(key, found, found <= most, &format!("at most {most}"))
}

pub(super) fn positive(key: &str, found: f64) -> Result<()> {
    require(key, found, found.is_finite() && found > 0.0, "a number above 0")
}

pub(super) fn not_negative(key: &str, found: f64) -> Result<()> {
    require(key, found, found.is_finite() && found >= 0.0, "a number from 0 up")
}

/// From 0 to below 1.
pub(super) fn fraction(key: &str, found: f64) -> Result<()> {
    require(key, found, (0.0..1.0).contains(&found), "a number from 0 to below 1")
}
