//! The grid of a `[sweep]` table.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::keys::set_value;
use super::Config;
use crate::error::{Error, Result};

/// More runs than this are a typing error, not a sweep.
const MAX_MEMBERS: u64 = 10_000;

/// Bytes of a member's name at most. File systems take 255 for a file's name, and `.toml` comes behind this one.
const MAX_NAME_BYTES: usize = 120;
/// Hexadecimal digits of the hash that a cut name ends in.
const HASH_DIGITS: usize = 12;

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The values that set it apart, such as `cluster.lr=0.1,seed=3`; safe as the name of a directory.
    pub name: String,
    /// Its values alone, in the order of the table's keys.
    pub values: Vec<String>,
    settings: Vec<(String, toml::Value)>,
}

impl Member {
    /// Its configuration: `config`, which the sweep is of, with its values and without the `[sweep]` table.
    ///
    /// # Errors
    /// [`Error::Config`] if a value does not fit its key, or all together cannot be run.
    pub fn config(&self, config: &Config) -> Result<Config> {
        let mut config = without_sweep(config);
        for (key, value) in &self.settings {
            config = with_value(&config, key, value)?;
        }
        finish(config).map_err(|e| named(&self.name, &e))
    }
}

/// The runs of `config`'s `[sweep]` table: every combination of its values, the last key varying fastest. Each one's settings
/// are checked; one configuration at a time is in memory.
///
/// # Errors
/// [`Error::Config`] if there is no `[sweep]`, a list is empty, a value does not fit its key, or there are more than
/// 10,000 runs.
pub fn members(config: &Config) -> Result<Vec<Member>> {
    if config.sweep.is_empty() {
        return Err(Error::Config(
            "this recipe has no [sweep] table; write one, such as\n[sweep]\nseed = [0, 1, 2]\n\"cluster.lr\" = [0.01, 0.1]"
                .to_owned(),
        ));
    }
    check_size(config)?;
    for key in config.sweep.keys() {
        check_key(config, key)?;
    }
    let mut grid = Grid { axes: config.sweep.iter().collect(), settings: Vec::new(), members: Vec::new() };
    grid.descend(&without_sweep(config))?;
    let mut names = HashSet::new();
    if let Some(twin) = grid.members.iter().find(|member| !names.insert(&member.name)) {
        return Err(Error::Config(format!("two members of the sweep are called {}: give each value once", twin.name)));
    }
    Ok(grid.members)
}

/// Counts the grid before anything is made of it.
fn check_size(config: &Config) -> Result<()> {
    if let Some((key, _)) = config.sweep.iter().find(|(_, values)| values.is_empty()) {
        return Err(Error::Config(format!("sweep.{key}: the list is empty; give it at least one value")));
    }
    let lengths: Vec<u64> = config.sweep.values().map(|values| values.len() as u64).collect();
    let count = lengths.iter().try_fold(1u64, |count, &length| count.checked_mul(length));
    if count.is_some_and(|count| count <= MAX_MEMBERS) {
        return Ok(());
    }
    let factors: Vec<String> = lengths.iter().filter(|&&length| length > 1).map(u64::to_string).collect();
    let count = count.map_or_else(|| format!("more than {}", u64::MAX), |count| count.to_string());
    Err(Error::Config(format!(
        "the [sweep] table has {count} combinations ({}); a sweep has {MAX_MEMBERS} at most: give fewer values",
        factors.join(" × ")
    )))
}

/// The tree of a sweep's settings while it is walked: a level a key, a leaf a member.
struct Grid<'a> {
    axes: Vec<(&'a String, &'a Vec<toml::Value>)>,
    /// The path to where we are.
    settings: Vec<(String, toml::Value)>,
    /// The leaves so far.
    members: Vec<Member>,
}

impl Grid<'_> {
    /// Goes through everything below the current path, whose configuration is `config`.
    fn descend(&mut self, config: &Config) -> Result<()> {
        let Some(&(key, values)) = self.axes.get(self.settings.len()) else {
            let name = self.name();
            finish(config.clone()).map_err(|e| named(&name, &e))?;
            let values = self.settings.iter().map(|(_, value)| text(value)).collect();
            self.members.push(Member { name, values, settings: self.settings.clone() });
            return Ok(());
        };
        for value in values {
            let below = with_value(config, key, value)?;
            self.settings.push((key.clone(), value.clone()));
            self.descend(&below)?;
            self.settings.pop();
        }
        Ok(())
    }

    /// The name of the leaf that we are at: the settings that vary, or all if none does.
    fn name(&self) -> String {
        let none_varies = self.axes.iter().all(|(_, values)| values.len() == 1);
        let named = self.settings.iter().zip(&self.axes).filter(|(_, (_, values))| none_varies || values.len() > 1);
        let (parts, exact): (Vec<_>, Vec<_>) =
            named.map(|((key, value), _)| (format!("{key}={}", in_a_name(value)), format!("{key}={value}"))).unzip();
        shorten(parts.join(","), &exact.join(","))
    }
}

/// `name`, or where it is too long its beginning and a hash of `exact`, which tells names apart that begin alike.
fn shorten(name: String, exact: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let hash: String = Sha256::digest(exact).iter().map(|byte| format!("{byte:02x}")).collect();
    let beginning: String = name.chars().take(MAX_NAME_BYTES - HASH_DIGITS - 1).collect(); // ASCII: bytes are characters
    format!("{beginning}-{}", &hash[..HASH_DIGITS])
}

fn without_sweep(config: &Config) -> Config {
    Config { sweep: Default::default(), ..config.clone() }
}

fn with_value(config: &Config, key: &str, value: &toml::Value) -> Result<Config> {
    set_value(config, key, value.clone())
        .map_err(|problem| Error::Config(format!("sweep.\"{key}\" = {value}: {problem}")))
}

/// A member's configuration with all its values set, ready to run from any directory.
fn finish(mut config: Config) -> Result<Config> {
    config.absolutise();
    config.validate()?;
    Ok(config)
}

fn named(member: &str, e: &Error) -> Error {
    Error::Config(format!("sweep member {member}: {e}"))
}

/// Refuses a `[sweep]` key that is not a setting.
pub(super) fn check_key(config: &Config, key: &str) -> Result<()> {
    if key == "sweep" || key.starts_with("sweep.") {
        return Err(Error::Config(format!("sweep.{key}: a sweep cannot vary itself")));
    }
    let Some(value) = config.sweep.get(key).and_then(|values| values.first()) else { return Ok(()) };
    with_value(&without_sweep(config), key, value).map(drop)
}

/// A value as the table of results shows it.
fn text(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A value as part of a file name: what is not a letter, digit, `.`, `-` or `_` becomes `_`.
fn in_a_name(value: &toml::Value) -> String {
    text(value).chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sweep(text: &str) -> Result<Vec<Member>> {
        members(&toml::from_str(text).unwrap())
    }

    fn names(text: &str) -> Vec<String> {
        sweep(text).unwrap().into_iter().map(|member| member.name).collect()
    }

    #[test]
    fn every_combination_comes_once() {
        let config: Config = toml::from_str("[sweep]\nseed = [0, 1]\n\"cluster.lr\" = [0.01, 0.1]\n").unwrap();
        let grid = members(&config).unwrap();
        let names: Vec<_> = grid.iter().map(|member| member.name.as_str()).collect();
        let expected =
            ["cluster.lr=0.01,seed=0", "cluster.lr=0.01,seed=1", "cluster.lr=0.1,seed=0", "cluster.lr=0.1,seed=1"];
        assert_eq!(names, expected);
        assert_eq!(grid[2].values, ["0.1", "0"]);
        let third = grid[2].config(&config).unwrap();
        assert_eq!((third.cluster.lr, third.seed), (0.1, 0));
        assert!(third.sweep.is_empty());
    }

    /// Settings of one value tell no members apart.
    #[test]
    fn a_name_has_what_varies() {
        let single = "\"pretrain.batch_size\" = [64]\n\"model.hidden\" = [[16, 16]]\n";
        assert_eq!(names(&format!("[sweep]\n{single}seed = [0, 1]\n")), ["seed=0", "seed=1"]);
        assert_eq!(names(&format!("[sweep]\n{single}")), ["model.hidden=_16__16_,pretrain.batch_size=64"]);
        assert_eq!(names("[sweep]\nseed = [4]\n"), ["seed=4"]);
    }

    #[test]
    fn long_names_are_cut_and_differ() {
        // Widths that differ at their end alone, by a character that no file name shows.
        let widths = |n: usize, last: &str| format!("[{}{last}]", "16, ".repeat(n));
        let text = |values: &[String]| format!("[sweep]\n\"model.hidden\" = [{}]\n", values.join(", "));
        let long = names(&text(&[widths(40, "16"), widths(40, "17"), widths(41, "16")]));
        for name in &long {
            assert_eq!(name.len(), MAX_NAME_BYTES, "{name}");
            assert!(name.starts_with("model.hidden=_16__16__16_"), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "=.-_".contains(c)), "{name}");
        }
        assert_eq!(long.iter().collect::<HashSet<_>>().len(), 3, "{long:?}");
        assert_eq!(
            long,
            names(&text(&[widths(40, "16"), widths(40, "17"), widths(41, "16")])),
            "the next sweep finds them"
        );

        let source = |n: usize| "ä".repeat(n);
        let text = |n| format!("[sweep]\n\"data.source\" = [\"{}.npy\", \"b.npy\"]\n", source(n));
        let at_most = MAX_NAME_BYTES - "data.source=.npy".len();
        assert_eq!(names(&text(at_most))[0], format!("data.source={}.npy", "_".repeat(at_most)));
        assert_eq!(names(&text(at_most + 1))[0].len(), MAX_NAME_BYTES);
    }

    /// 10⁹ members would need the memory of 10⁹ members: they are counted first.
    #[test]
    fn a_grid_that_is_too_large_is_counted_and_refused() {
        let list = |n: usize| format!("[{}]", (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(", "));
        let keys = [
            "seed",
            "n_clusters",
            "kmeans.n_init",
            "kmeans.max_iter",
            "data.limit",
            "pretrain.epochs",
            "cluster.max_rounds",
        ];
        let grid = |lengths: &[usize]| {
            let lines = keys.iter().zip(lengths).map(|(key, &n)| format!("\"{key}\" = {}\n", list(n)));
            format!("[sweep]\n{}", lines.collect::<String>())
        };
        for (lengths, expected) in [
            (&[1000, 1000][..], "1000000 combinations (1000 × 1000)"),
            (&[1000, 1000, 1000, 1], "1000000000 combinations (1000 × 1000 × 1000)"),
            (&[1000; 7], "more than 18446744073709551615 combinations"),
            (&[10_001], "10001 combinations"),
        ] {
            let message = sweep(&grid(lengths)).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("10000 at most"), "{message}");
        }
        assert_eq!(sweep(&grid(&[40, 5])).unwrap().len(), 200);
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
            ("[sweep]\n\"sweep.seed\" = [[1]]", "cannot vary itself"),
        ] {
            let message = sweep(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
