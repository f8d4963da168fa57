//! Which numbers of clusters are tried.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Numbers of clusters from the first to the last, both tried.
///
/// ```
/// use dec::choose::KRange;
///
/// let range: KRange = "5..20".parse()?;
/// assert_eq!((range.from(), range.to()), (5, 20));
/// assert_eq!(KRange::default().check(178)?.to(), 17); // by default no more than a tenth of the rows
/// assert!(range.check(100).is_err() && "20..5".parse::<KRange>().is_err());
/// # Ok::<(), dec::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KRange {
    from: usize,
    to: usize,
    /// Whether somebody asked for it: then it is refused rather than shortened.
    given: bool,
}

/// Fewest rows for each cluster that is looked for: fewer say nothing.
const ROWS_PER_CLUSTER: usize = 10;

impl Default for KRange {
    /// 2 to 30.
    fn default() -> Self {
        Self { from: 2, to: 30, given: false }
    }
}

impl KRange {
    /// The first.
    pub fn from(self) -> usize {
        self.from
    }

    /// The last.
    pub fn to(self) -> usize {
        self.to
    }

    /// The range for `n_rows` rows, of which each cluster needs ten: the default one is shortened.
    ///
    /// # Errors
    /// [`Error::Config`] for a range that was given and goes beyond that, [`Error::Rows`] for fewer than 20 rows.
    pub fn check(self, n_rows: usize) -> Result<Self> {
        let most = n_rows / ROWS_PER_CLUSTER;
        if most < 2 {
            return Err(Error::Rows(format!("{n_rows} rows are too few to tell how many clusters they have")));
        }
        if self.given && self.to > most {
            return Err(Error::Config(format!(
                "range {}..{}: {n_rows} rows can be tried with {most} clusters at most, ten rows for each",
                self.from, self.to
            )));
        }
        Ok(Self { to: self.to.min(most), ..self })
    }
}

impl FromStr for KRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match text.split_once("..").map(|(from, to)| (number(from), number(to))) {
            Some((Some(from), Some(to))) if 2 <= from && from <= to => Ok(Self { from, to, given: true }),
            _ => {
                Err(Error::Config(format!("range {text:?}: give the first and the last number from 2 on, as in 5..20")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_read_or_refused() {
        let range: KRange = "2..2".parse().unwrap();
        assert_eq!((range.from(), range.to()), (2, 2));
        for text in ["", "5", "5..", "..5", "1..5", "0..3", "7..6", "+2..4", "2..=4", "a..b", "2..99999999999999999999"]
        {
            let refused = text.parse::<KRange>().unwrap_err();
            assert!(refused.to_string().contains("as in 5..20"), "{text}: {refused}");
        }
    }

    #[test]
    fn few_rows_shorten_the_default_alone() {
        assert_eq!(KRange::default().check(1_000).unwrap(), KRange::default());
        assert_eq!(KRange::default().check(45).unwrap().to(), 4);
        assert!(matches!(KRange::default().check(19), Err(Error::Rows(_))));
        let given: KRange = "2..5".parse().unwrap();
        assert_eq!(given.check(50).unwrap(), given);
        assert!(given.check(49).unwrap_err().to_string().contains("4 clusters at most"));
    }
}
