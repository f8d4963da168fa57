//! The members of a `[sweep]` table: all combinations of its values, or some that are drawn at random.

use std::collections::{BTreeMap, HashSet};

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use super::keys::set_value;
use super::Config;
use crate::error::{Error, Result};
use crate::text::hex;

/// More runs than this are a typing error, not a sweep.
const MAX_MEMBERS: u64 = 10_000;

/// Bytes of a member's name at most. File systems take 255 for a file's name, and `.toml` comes behind this one.
const MAX_NAME_BYTES: usize = 120;
/// Hexadecimal digits of the hash that a cut name ends in.
const HASH_DIGITS: usize = 12;

/// Tries for each member to draw one that is not there yet.
const TRIES: usize = 100;
/// Significant digits of numbers that are drawn: names stay short.
const DIGITS: i32 = 4;

/// What a sweep gives one key.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Axis {
    /// These values.
    Values(Vec<toml::Value>),
    /// Numbers that are drawn: `{ min = 1e-4, max = 1e-2, log = true }`.
    Range(Range),
}

/// Numbers from `min` to `max`; whole ones, where both are written as such.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The smallest.
    pub min: toml::Value,
    /// The largest.
    pub max: toml::Value,
    /// Whether all powers of ten are equally likely, rather than all numbers. Default false.
    #[serde(default)]
    pub log: bool,
}

impl<'de> Deserialize<'de> for Axis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error as _;
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Array(values) => Ok(Self::Values(values)),
            table @ toml::Value::Table(_) => {
                let range: Range = table.try_into().map_err(|e: toml::de::Error| {
                    D::Error::custom(format!(
                        "{}; a range is {{ min = …, max = …, log = true }}, and keys with dots stand in quotes",
                        e.message()
                    ))
                })?;
                range.check().map_err(D::Error::custom)?;
                Ok(Self::Range(range))
            }
            _ => Err(D::Error::custom("give a list of values, or a range { min = …, max = …, log = true }")),
        }
    }
}

impl Axis {
    /// A value that is as good as any to check whether the key takes such.
    fn first(&self) -> Option<&toml::Value> {
        match self {
            Self::Values(values) => values.first(),
            Self::Range(range) => Some(&range.min),
        }
    }

    /// Whether members differ in it.
    fn varies(&self) -> bool {
        !matches!(self, Self::Values(values) if values.len() == 1)
    }

    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> toml::Value {
        match self {
            Self::Values(values) => values[random.gen_range(0..values.len())].clone(),
            Self::Range(range) => range.draw(random),
        }
    }
}

impl Range {
    fn check(&self) -> std::result::Result<(), String> {
        let (Some(min), Some(max)) = (number(&self.min), number(&self.max)) else {
            return Err("min and max of a range are numbers".to_owned());
        };
        if !(min < max && min.is_finite() && max.is_finite()) {
            return Err(format!(
                "min = {} and max = {}: a range goes from a number to a larger one",
                self.min, self.max
            ));
        }
        if self.log && min <= 0.0 {
            return Err(format!("min = {}: a range with log = true begins above 0", self.min));
        }
        Ok(())
    }

    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> toml::Value {
        let (min, max) = (number(&self.min).unwrap_or(0.0), number(&self.max).unwrap_or(1.0)); // they were checked
        let whole = self.min.is_integer() && self.max.is_integer();
        // Of whole numbers each end is as likely as the others.
        let (low, high) = if whole { (min - if self.log { 0.0 } else { 0.5 }, max + 0.5) } else { (min, max) };
        let share: f64 = random.gen();
        let drawn = match self.log {
            true => (low.ln() + share * (high.ln() - low.ln())).exp(),
            false => low + share * (high - low),
        };
        if whole {
            return toml::Value::Integer(drawn.round().clamp(min, max) as i64);
        }
        let digits = format!("{drawn:.*e}", DIGITS as usize - 1).parse().unwrap_or(drawn);
        toml::Value::Float(f64::clamp(digits, min, max))
    }
}

fn number(value: &toml::Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))
}

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
/// [`Error::Config`] if there is no `[sweep]`, a list is empty, a value does not fit its key, a key has a range, or there are more
/// than 10,000 runs.
pub fn members(config: &Config) -> Result<Vec<Member>> {
    check_table(config)?;
    if let Some((key, _)) = config.sweep.iter().find(|(_, axis)| matches!(axis, Axis::Range(_))) {
        let problem =
            format!("sweep.{key} is a range, of which there are no combinations: `dec sweep --random N` draws from it");
        return Err(Error::Config(problem));
    }
    check_size(config)?;
    let mut grid = Grid { sweep: &config.sweep, axes: lists(&config.sweep), settings: Vec::new(), members: Vec::new() };
    grid.descend(&without_sweep(config))?;
    let mut names = HashSet::new();
    if let Some(twin) = grid.members.iter().find(|member| !names.insert(&member.name)) {
        return Err(Error::Config(format!("two members of the sweep are called {}: give each value once", twin.name)));
    }
    Ok(grid.members)
}

/// `count` runs of `config`'s `[sweep]` table, drawn by its seed: of each key one of its values, or a number of its range. No two are
/// the same, and of a larger `count` the first are those of a smaller one.
///
/// # Errors
/// As for [`members`], but for ranges; and if there are not so many runs, or `count` is not from 1 to 10,000.
pub fn random_members(config: &Config, count: usize) -> Result<Vec<Member>> {
    if !(1..=MAX_MEMBERS).contains(&(count as u64)) {
        return Err(Error::Config(format!("--random {count}: must be from 1 to {MAX_MEMBERS}")));
    }
    check_table(config)?;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(config.seed);
    let plain = without_sweep(config);
    let (mut drawn, mut names) = (Vec::new(), HashSet::new());
    for _ in 0..count * TRIES {
        if drawn.len() == count {
            break;
        }
        let settings: Vec<_> = config.sweep.iter().map(|(key, axis)| (key.clone(), axis.draw(&mut random))).collect();
        let name = name_of(&settings, &config.sweep);
        if !names.insert(name.clone()) {
            continue;
        }
        let values = settings.iter().map(|(_, value)| text(value)).collect();
        let member = Member { name, values, settings };
        member.config(&plain)?;
        drawn.push(member);
    }
    if drawn.len() < count {
        let problem =
            format!("--random {count}: the [sweep] table has no more than about {} combinations", drawn.len());
        return Err(Error::Config(problem));
    }
    Ok(drawn)
}

/// Refuses a table that no run can be made of.
fn check_table(config: &Config) -> Result<()> {
    if config.sweep.is_empty() {
        return Err(Error::Config(
            "this recipe has no [sweep] table; write one, such as\n[sweep]\nseed = [0, 1, 2]\n\"cluster.lr\" = [0.01, 0.1]"
                .to_owned(),
        ));
    }
    if let Some((key, _)) = config.sweep.iter().find(|(_, axis)| axis.first().is_none()) {
        return Err(Error::Config(format!("sweep.{key}: the list is empty; give it at least one value")));
    }
    config.sweep.keys().try_for_each(|key| check_key(config, key))
}

/// The keys that have lists.
fn lists(sweep: &BTreeMap<String, Axis>) -> Vec<(&String, &Vec<toml::Value>)> {
    let mut lists = Vec::new();
    for (key, axis) in sweep {
        if let Axis::Values(values) = axis {
            lists.push((key, values));
        }
    }
    lists
}

/// A member's name: the settings that vary, or all if none does.
fn name_of(settings: &[(String, toml::Value)], sweep: &BTreeMap<String, Axis>) -> String {
    let none_varies = !sweep.values().any(Axis::varies);
    let named = settings.iter().zip(sweep.values()).filter(|(_, axis)| none_varies || axis.varies());
    let (parts, exact): (Vec<_>, Vec<_>) =
        named.map(|((key, value), _)| (format!("{key}={}", in_a_name(value)), format!("{key}={value}"))).unzip();
    shorten(parts.join(","), &exact.join(","))
}

/// Counts the grid before anything is made of it.
fn check_size(config: &Config) -> Result<()> {
    let lengths: Vec<u64> = lists(&config.sweep).iter().map(|(_, values)| values.len() as u64).collect();
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
    sweep: &'a BTreeMap<String, Axis>,
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
            let name = name_of(&self.settings, self.sweep);
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
}

/// `name`, or where it is too long its beginning and a hash of `exact`, which tells names apart that begin alike.
fn shorten(name: String, exact: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let hash = hex(Sha256::digest(exact));
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
    let Some(value) = config.sweep.get(key).and_then(Axis::first) else { return Ok(()) };
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
    fn drawn_members_are_of_the_table_and_no_two_are_the_same() {
        let text = "[sweep]\nseed = [0, 1, 2]\n\"cluster.lr\" = { min = 1e-4, max = 1e-2, log = true }\nn_clusters = { min = 3, max = 5 }\n\
                    \"pretrain.batch_size\" = [64]\n";
        let config: Config = toml::from_str(text).unwrap();
        let drawn = random_members(&config, 60).unwrap();
        let configs: Vec<Config> = drawn.iter().map(|member| member.config(&config).unwrap()).collect();
        assert!(configs.iter().all(|c| (1e-4..=1e-2).contains(&c.cluster.lr) && (3..=5).contains(&c.n_clusters)));
        let small = configs.iter().filter(|c| c.cluster.lr < 1e-3).count();
        assert!((20..=40).contains(&small), "both powers of ten are as likely: {small}");
        for k in 3..=5 {
            assert!(configs.iter().filter(|c| c.n_clusters == k).count() > 8);
        }
        assert_eq!(drawn.iter().map(|member| &member.name).collect::<HashSet<_>>().len(), 60);
        assert!(drawn.iter().all(|member| !member.name.contains("batch_size") && member.name.len() < 60));
        assert_eq!(random_members(&config, 7).unwrap(), drawn[..7], "a larger search goes on with a smaller one");
        let mut other = config.clone();
        other.seed = 5;
        assert_ne!(random_members(&other, 7).unwrap(), drawn[..7]);
        assert_eq!(toml::from_str::<Config>(&config.to_toml().unwrap()).unwrap(), config);

        let grid: Config = toml::from_str("[sweep]\nseed = [0, 1, 2]\n\"cluster.lr\" = [0.1, 0.2]\n").unwrap();
        let mut all = random_members(&grid, 6).unwrap();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(all, {
            let mut grid = members(&grid).unwrap();
            grid.sort_by(|a, b| a.name.cmp(&b.name));
            grid
        });
        let message = random_members(&grid, 7).unwrap_err().to_string();
        assert!(message.contains("--random 7") && message.contains("about 6"), "{message}");
        assert!(random_members(&grid, 0).is_err() && random_members(&Config::default(), 1).is_err());
        let message = members(&config).unwrap_err().to_string();
        assert!(message.contains("sweep.cluster.lr is a range") && message.contains("--random"), "{message}");
    }

    #[test]
    fn bad_ranges_are_named() {
        for (range, expected) in [
            ("{ min = 1 }", "missing field `max`"),
            ("{ min = 1, max = 2, step = 1 }", "unknown field `step`"),
            ("{ min = 2, max = 1 }", "a number to a larger one"),
            ("{ min = 0.0, max = nan }", "a number to a larger one"),
            ("{ min = 0, max = 1.0, log = true }", "begins above 0"),
            ("{ min = \"a\", max = \"b\" }", "are numbers"),
            ("3", "give a list of values, or a range"),
        ] {
            let message = toml::from_str::<Config>(&format!("[sweep]\nseed = {range}\n")).unwrap_err().to_string();
            assert!(message.contains(expected), "{range}: {message}");
        }
        let message = toml::from_str::<Config>("[sweep]\ncluster.lr = [1.0]\n").unwrap_err().to_string();
        assert!(message.contains("stand in quotes"), "{message}");
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
