//! The grid of a `[sweep]` table.

use super::recipe::set_value;
use super::Config;
use crate::error::{Error, Result};

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The values that set it apart, such as `cluster.lr=0.1,seed=3`; safe as the name of a directory.
    pub name: String,
    /// Its values alone, in the order of the table's keys.
    pub values: Vec<String>,
    /// Its configuration, without the `[sweep]` table.
    pub config: Config,
}

/// The runs of `config`'s `[sweep]` table: every combination of its values, the last key varying fastest.
///
/// # Errors
/// [`Error::Config`] if there is no `[sweep]`, a list is empty, or a value does not fit its key.
pub fn members(config: &Config) -> Result<Vec<Member>> {
    if config.sweep.is_empty() {
        return Err(Error::Config(
            "this recipe has no [sweep] table; write one, such as\n[sweep]\nseed = [0, 1, 2]\n\"cluster.lr\" = [0.01, 0.1]"
                .to_owned(),
        ));
    }
    let base = Config { sweep: Default::default(), ..config.clone() };
    let mut grid = vec![Member { name: String::new(), values: Vec::new(), config: base }];
    for (key, values) in &config.sweep {
        if values.is_empty() {
            return Err(Error::Config(format!("sweep.{key}: the list is empty; give it at least one value")));
        }
        let mut next = Vec::with_capacity(grid.len() * values.len());
        for member in &grid {
            for value in values {
                let config = set_value(&member.config, key, value.clone())
                    .map_err(|problem| Error::Config(format!("sweep.\"{key}\" = {value}: {problem}")))?;
                let part = format!("{key}={}", in_a_name(value));
                let mut values = member.values.clone();
                values.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                let name = if member.name.is_empty() { part } else { format!("{},{part}", member.name) };
                next.push(Member { name, values, config });
            }
        }
        grid = next;
    }
    for member in &mut grid {
        member.config.absolutise();
        member.config.validate().map_err(|e| Error::Config(format!("sweep member {}: {e}", member.name)))?;
    }
    if let Some(twin) = grid.iter().enumerate().find_map(|(i, a)| grid[..i].iter().find(|b| a.name == b.name)) {
        return Err(Error::Config(format!("two members of the sweep are called {}: give each value once", twin.name)));
    }
    Ok(grid)
}

/// Refuses a `[sweep]` key that is not a setting.
pub(super) fn check_key(config: &Config, key: &str) -> Result<()> {
    if key == "sweep" || key.starts_with("sweep.") {
        return Err(Error::Config(format!("sweep.{key}: a sweep cannot vary itself")));
    }
    let Some(value) = config.sweep.get(key).and_then(|values| values.first()) else { return Ok(()) };
    let base = Config { sweep: Default::default(), ..config.clone() };
    set_value(&base, key, value.clone())
        .map(|_| ())
        .map_err(|problem| Error::Config(format!("sweep.\"{key}\" = {value}: {problem}")))
}

/// A value as part of a file name: what is not a letter, digit, `.`, `-` or `_` becomes `_`.
fn in_a_name(value: &toml::Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sweep(text: &str) -> Result<Vec<Member>> {
        members(&toml::from_str(text).unwrap())
    }

    #[test]
    fn every_combination_comes_once() {
        let grid = sweep("[sweep]\nseed = [0, 1]\n\"cluster.lr\" = [0.01, 0.1]\n").unwrap();
        let names: Vec<_> = grid.iter().map(|member| member.name.as_str()).collect();
        let expected =
            ["cluster.lr=0.01,seed=0", "cluster.lr=0.01,seed=1", "cluster.lr=0.1,seed=0", "cluster.lr=0.1,seed=1"];
        assert_eq!(names, expected);
        assert_eq!(grid[2].config.cluster.lr, 0.1);
        assert!(grid.iter().all(|member| member.config.sweep.is_empty()));
    }

    #[test]
    fn bad_sweeps_are_named() {
        for (text, expected) in [
            ("seed = 1", "no [sweep] table"),
            ("[sweep]\nseed = []", "sweep.seed: the list is empty"),
            ("[sweep]\n\"cluster.rate\" = [1]", "unknown field `rate`"),
            ("[sweep]\nseed = [\"x\"]", "expected u64"),
            ("[sweep]\n\"cluster.lr\" = [-1.0]", "cluster.lr = -1: must be a number above 0"),
            ("[sweep]\nseed = [1, 1]", "two members"),
        ] {
            let message = sweep(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
