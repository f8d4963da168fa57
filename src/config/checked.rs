//! Configurations whose values can be run.

use std::ops::Deref;

use super::range::{at_least_one, at_most};
use super::Config;
use crate::backend::{threads, DeviceRequest};
use crate::error::Result;

/// A [`Config`] whose values are all in range; [`Config::check`] alone makes one, and nothing changes it afterwards.
///
/// ```
/// use dec::config::Config;
///
/// let checked = Config::default().check()?;
/// assert_eq!(checked.n_clusters, 10);
///
/// let refused = Config { n_clusters: 0, ..Config::default() }.check();
/// assert_eq!(refused.unwrap_err().to_string(), "n_clusters = 0: must be at least 1");
/// # Ok::<(), dec::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedConfig(Config);

impl CheckedConfig {
    /// The configuration, to be changed and checked again.
    pub fn into_inner(self) -> Config {
        self.0
    }
}

impl Deref for CheckedConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl Config {
    /// Checks every value, and gives the proof of it that training asks for.
    ///
    /// # Errors
    /// Those of [`Config::validate`].
    pub fn check(self) -> Result<CheckedConfig> {
        self.validate()?;
        Ok(CheckedConfig(self))
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) about the first value that cannot be run: its key, the value, and what it must
    /// be.
    pub fn validate(&self) -> Result<()> {
        at_most("seed", self.seed, i64::MAX as u64)?; // the largest integer of TOML
        self.device.parse::<DeviceRequest>()?;
        self.threads.given().map_or(Ok(()), threads::check)?;
        at_least_one("n_clusters", self.n_clusters as u64)?;
        self.data.check()?;
        self.model.check()?;
        self.augment.check()?;
        self.pretrain.check()?;
        self.finetune.check()?;
        self.kmeans.check()?;
        self.start.check()?;
        self.cluster.check()?;
        self.checkpoint.check()?;
        self.guard.check()
    }
}

/// A change of the default configuration.
#[cfg(test)]
type Change = fn(&mut Config);

/// Each change must be refused, with a message that begins with the key and contains what was found.
#[cfg(test)]
pub(super) fn assert_refused(cases: &[(&str, &str, Change)]) {
    for (key, found, spoil) in cases {
        let mut config = Config::default();
        spoil(&mut config);
        let Err(problem) = config.check() else { panic!("{key} = {found} is accepted") };
        let message = problem.to_string();
        assert!(message.starts_with(key) && message.contains(found), "{key}: {message}");
    }
}

/// Each change must be accepted.
#[cfg(test)]
pub(super) fn assert_accepted(changes: &[Change]) {
    for change in changes {
        let mut config = Config::default();
        change(&mut config);
        if let Err(problem) = config.validate() {
            panic!("{problem}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Threads;

    #[test]
    fn the_defaults_are_valid_and_stay_as_they_are() {
        let checked = Config::default().check().unwrap();
        assert_eq!(*checked, Config::default());
        assert_eq!(checked.into_inner(), Config::default());
    }

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("n_clusters", "0", |c| c.n_clusters = 0),
            ("seed", "18446744073709551615", |c| c.seed = u64::MAX),
            ("device", "gpu", |c| c.device = "gpu".to_owned()),
            ("threads", "0", |c| c.threads = Threads::Given(0)),
            ("threads", "1025", |c| c.threads = Threads::Given(1025)),
        ]);
    }
}
