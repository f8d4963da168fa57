//! Dotted keys such as `cluster.tol`: setting one, which of them differ, and when each first matters.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use crate::error::{Error, Result};

/// `config` with the value of a dotted key replaced; the error says what is wrong without naming its origin.
pub(super) fn set_value(config: &Config, key: &str, value: toml::Value) -> std::result::Result<Config, String> {
    let mut table = toml::Table::try_from(config).map_err(|e| e.to_string())?;
    let mut parts = key.split('.').peekable();
    let mut at = &mut table;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            at.insert(part.to_owned(), value);
            break;
        }
        at = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{part}` is a setting, not a section"))?;
    }
    serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|e| {
        let path = e.path().to_string();
        format!("{path}: {}", e.into_inner().message())
    })
}

/// The dotted keys whose values differ, in alphabetical order; one that only one of the two sets is among them.
///
/// ```
/// use dec::config::{changed_keys, Config};
///
/// let before = Config::default();
/// let mut after = before.clone();
/// after.cluster.tol = 0.01;
/// after.seed = 7;
/// assert_eq!(changed_keys(&before, &after)?, ["cluster.tol", "seed"]);
/// # Ok::<(), dec::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] for what TOML cannot say: a path that is not UTF-8.
pub fn changed_keys(before: &Config, after: &Config) -> Result<Vec<String>> {
    let (before, after) = (values_of(before)?, values_of(after)?);
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    Ok(keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect())
}

/// Every setting that has a value, by its dotted key.
pub(crate) fn values_of(config: &Config) -> Result<BTreeMap<String, toml::Value>> {
    let table = toml::Table::try_from(config)
        .map_err(|e| Error::Config(format!("the recipe cannot be written as TOML: {e}")))?;
    let mut values = BTreeMap::new();
    flatten("", table, &mut values);
    Ok(values)
}

fn flatten(prefix: &str, table: toml::Table, values: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        match value {
            toml::Value::Table(section) => flatten(&format!("{prefix}{name}."), section, values),
            value => {
                values.insert(format!("{prefix}{name}"), value);
            }
        }
    }
}

/// The moment of a run at which a setting first matters.
///
/// Moments are ordered: a setting may still change in a run that has reached the moment `reached` if
/// `earliest_use(key) > reached`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// From the beginning: it can never change.
    Always,
    /// As pretraining begins.
    Pretraining,
    /// As fine-tuning begins.
    Finetuning,
    /// As the start begins: over-clustering and the first assignment.
    Start,
    /// As self-training begins.
    SelfTraining,
    /// Never: training that goes well does not depend on it, and it can change at any time.
    Nothing,
}

/// The settings of `[cluster]` that only self-training reads.
const SELF_TRAINING: &[&str] = &[
    "cluster.anchor",
    "cluster.cutmix",
    "cluster.epochs_per_round",
    "cluster.handover_epochs",
    "cluster.max_rounds",
    "cluster.patience",
    "cluster.reset_momentum",
    "cluster.tol",
    "cluster.train_after_tol",
    "cluster.update_interval_steps",
];

/// The moment at which the setting with this dotted key first matters; [`Use::Always`] for a key that is not known.
///
/// ```
/// use dec::config::{earliest_use, Use};
///
/// let reached = Use::Finetuning;
/// assert!(earliest_use("cluster.lr") > reached); // may still change
/// assert!(earliest_use("pretrain.lr") < reached);
/// assert!(earliest_use("seed") < reached);
/// ```
pub fn earliest_use(key: &str) -> Use {
    let section = key.split_once('.').map_or(key, |(section, _)| section);
    match section {
        "start" if key == "start.from" => Use::Always,
        "pretrain" => Use::Pretraining,
        "finetune" => Use::Finetuning,
        "cluster" if SELF_TRAINING.contains(&key) => Use::SelfTraining,
        "start" | "cluster" => Use::Start, // over-clustering trains by [cluster]
        "checkpoint" | "guard" | "output" => Use::Nothing,
        _ => Use::Always,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Axis, Count, OverClustering, Scale, ScheduleKind, Widths};

    #[test]
    fn changed_keys_are_named_once_each_whatever_their_type() {
        let before = Config::default();
        assert_eq!(changed_keys(&before, &before).unwrap(), [""; 0]);
        let mut after = before.clone();
        after.n_clusters = 3;
        after.data.scale = Scale::Factor(0.02);
        after.data.labels = Some(PathBuf::from("y.npy"));
        after.model.hidden = Widths::Given(vec![500, 500]);
        after.pretrain.epochs = Count::Given(3);
        after.start.over_clustering = OverClustering::Given(vec![5.0]);
        after.cluster.schedule = ScheduleKind::Step;
        after.cluster.lr_decay_steps = Some(100);
        after.guard.max_rollbacks = 0;
        after.sweep.insert("cluster.lr".to_owned(), Axis::Values(vec![toml::Value::Float(0.1)]));
        let expected = [
            "cluster.lr_decay_steps",
            "cluster.schedule",
            "data.labels",
            "data.scale",
            "guard.max_rollbacks",
            "model.hidden",
            "n_clusters",
            "pretrain.epochs",
            "start.over_clustering",
            "sweep.cluster.lr",
        ];
        assert_eq!(changed_keys(&before, &after).unwrap(), expected);
        assert_eq!(changed_keys(&after, &before).unwrap(), expected, "a value that is taken away is a change too");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_toml_cannot_say_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let mut config = Config::default();
        config.data.dir = Some(std::ffi::OsString::from_vec(vec![0xff]).into());
        let problem = changed_keys(&Config::default(), &config).unwrap_err().to_string();
        assert!(problem.contains("cannot be written as TOML"), "{problem}");
    }

    /// A section that is not listed here fails the test: say when its settings first matter.
    #[test]
    fn every_setting_has_its_earliest_use() {
        let sections = [
            (Use::Always, "seed device threads tf32 precision cuda_graphs n_clusters data model augment kmeans sweep"),
            (Use::Pretraining, "pretrain"),
            (Use::Finetuning, "finetune"),
            (Use::Start, "start cluster"),
            (Use::Nothing, "checkpoint guard output"),
        ];
        let mut config = Config::default();
        config.sweep.insert("pretrain.lr".to_owned(), Axis::Values(vec![toml::Value::Float(0.1)]));
        for key in values_of(&config).unwrap().into_keys() {
            let section = key.split('.').next().unwrap();
            let found = sections.iter().find(|(_, names)| names.split(' ').any(|name| name == section));
            let expected = match found {
                Some((Use::Start, _)) if SELF_TRAINING.contains(&key.as_str()) => Some(Use::SelfTraining),
                found => found.map(|(moment, _)| *moment),
            };
            assert_eq!(Some(earliest_use(&key)), expected, "{key}");
        }
        let mut config = Config::default();
        config.cluster.update_interval_steps = Some(1);
        let known = values_of(&config).unwrap();
        assert!(SELF_TRAINING.iter().all(|key| known.contains_key(*key)));
    }

    #[test]
    fn a_setting_may_change_until_it_is_reached() {
        let moments = [Use::Always, Use::Pretraining, Use::Finetuning, Use::Start, Use::SelfTraining];
        let allowed = |key: &str| moments.map(|reached| earliest_use(key) > reached);
        assert_eq!(allowed("seed"), [false; 5]);
        assert_eq!(allowed("start.from"), [false; 5]);
        assert_eq!(allowed("pretrain.lr"), [true, false, false, false, false]);
        assert_eq!(allowed("finetune.epochs"), [true, true, false, false, false]);
        assert_eq!(allowed("start.networks"), [true, true, true, false, false]);
        assert_eq!(allowed("cluster.lr"), [true, true, true, false, false]);
        assert_eq!(allowed("cluster.max_rounds"), [true, true, true, true, false]);
        assert_eq!(allowed("checkpoint.keep"), [true; 5]);
        assert_eq!(allowed("no.such.key"), [false; 5]);
    }
}
