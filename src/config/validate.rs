//! Refuses settings that cannot be run, naming the key, what was found and what would be right.

use std::fmt::Display;

use super::{Config, Optimisation, PretrainMethod, Scale, ScheduleKind};
use crate::backend::{threads, DeviceRequest};
use crate::error::{Error, Result};

/// A layer wider than this is a typing error, not a network.
const MAX_WIDTH: usize = 1 << 20;

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] about the first value that cannot be run.
    pub fn validate(&self) -> Result<()> {
        at_most("seed", self.seed, i64::MAX as u64)?;
        self.device.parse::<DeviceRequest>()?;
        self.threads.given().map_or(Ok(()), threads::check)?;
        at_least_one("n_clusters", self.n_clusters as u64)?;

        if let Scale::Factor(factor) = self.data.scale {
            check(
                "data.scale",
                factor,
                (factor as f32).is_normal() && factor > 0.0,
                "a number above 0, \"auto\", \"centre\", \"standardise\" or \"counts\"",
            )?;
        }
        if let Some(limit) = self.data.limit {
            at_least_one("data.limit", limit as u64)?;
        }

        for &width in &self.model.hidden {
            layer_width("model.hidden", width)?;
        }
        layer_width("model.n_latent", self.model.n_latent)?;
        positive("model.init_std", self.model.init_std)?;

        let a = &self.augment;
        if let Some([height, width]) = a.image {
            at_least_one("augment.image", (height.min(width)) as u64)?;
        }
        check("augment.rotation", a.rotation, (0.0..=180.0).contains(&a.rotation), "degrees, from 0 to 180")?;
        fraction("augment.shift", a.shift)?;
        check("augment.zoom", a.zoom, a.zoom >= 0.0 && (a.zoom as f32) < 1.0, "a number from 0 to below 1")?;
        fraction("augment.shear", a.shear)?;
        fraction("augment.elastic", a.elastic)?;
        not_negative("augment.noise", a.noise)?;
        fraction("augment.feature_dropout", a.feature_dropout.or(|| 0.0))?;
        fraction("augment.time_shift", a.time_shift)?;

        let p = &self.pretrain;
        optional_at_least_one("pretrain.epochs", p.epochs.given())?;
        optional_at_least_one("pretrain.steps", p.steps)?;
        fraction("pretrain.dropout", p.dropout)?;
        if p.dropout > 0.0 && p.method == PretrainMethod::EndToEnd {
            return Err(Error::Config(format!(
                "pretrain.dropout = {}: goes with pretrain.method = \"layerwise\" only; [augment] is what corrupts the rows \
                 of the other",
                p.dropout
            )));
        }
        optimisation("pretrain", &p.optimisation())?;

        let f = &self.finetune;
        optional_at_least_one("finetune.steps", f.steps)?;
        optimisation("finetune", &f.optimisation())?;

        at_least_one("kmeans.n_init", self.kmeans.n_init as u64)?;
        at_least_one("kmeans.max_iter", self.kmeans.max_iter)?;
        not_negative("kmeans.tol", self.kmeans.tol)?;

        let s = &self.start;
        at_least_one("start.n_neighbours", s.n_neighbours)?;
        optional_at_least_one("start.n_vectors", s.n_vectors.given())?;
        optional_at_least_one("start.networks", s.networks.given())?;
        for factor in s.over_clustering.clone().given().unwrap_or_default() {
            check("start.over_clustering", factor, (1.0..=1000.0).contains(&factor), "factors from 1 to 1000")?;
        }
        optional_at_least_one("start.over_clustering_epochs", s.over_clustering_epochs.given())?;

        let c = &self.cluster;
        not_negative("cluster.gamma", c.gamma)?;
        positive("cluster.alpha", c.alpha)?;
        fraction("cluster.label_smoothing", c.label_smoothing)?;
        fraction("cluster.anchor", c.anchor)?;
        check("cluster.cutmix", c.cutmix, (0.0..=1.0).contains(&c.cutmix), "a fraction of each side, from 0 to 1")?;
        check("cluster.tol", c.tol, (0.0..=1.0).contains(&c.tol), "a fraction of the rows, from 0 to 1")?;
        optional_at_least_one("cluster.max_rounds", c.max_rounds.given())?;
        at_least_one("cluster.epochs_per_round", c.epochs_per_round)?;
        optional_at_least_one("cluster.update_interval_steps", c.update_interval_steps)?;
        optimisation("cluster", &c.optimisation())
    }
}

/// What the stages share, each under its section's name.
fn optimisation(section: &str, o: &Optimisation) -> Result<()> {
    let key = |name: &str| format!("{section}.{name}");
    at_least_one(&key("batch_size"), o.batch_size as u64)?;
    positive(&key("lr"), o.lr)?;
    fraction(&key("momentum"), o.momentum)?;
    not_negative(&key("weight_decay"), o.weight_decay)?;
    positive(&key("lr_decay_factor"), o.lr_decay_factor)?;
    optional_at_least_one(&key("lr_decay_steps"), o.lr_decay_steps)?;
    match (o.schedule == ScheduleKind::Step, o.lr_decay_steps) {
        (true, None) => Err(Error::Config(format!(
            "{section}.schedule = step: it needs {section}.lr_decay_steps, the steps between two divisions of the rate"
        ))),
        (false, Some(steps)) => Err(Error::Config(format!(
            "{section}.lr_decay_steps = {steps}: goes with {section}.schedule = \"step\" only"
        ))),
        _ => Ok(()),
    }
}

fn check(key: &str, found: impl Display, right: bool, expected: &str) -> Result<()> {
    if right {
        Ok(())
    } else {
        Err(Error::Config(format!("{key} = {found}: must be {expected}")))
    }
}

fn at_least_one(key: &str, found: u64) -> Result<()> {
    check(key, found, found >= 1, "at least 1")
}

fn optional_at_least_one(key: &str, found: Option<u64>) -> Result<()> {
    found.map_or(Ok(()), |found| at_least_one(key, found))
}

fn at_most(key: &str, found: u64, most: u64) -> Result<()> {
    check(key, found, found <= most, &format!("at most {most}"))
}

fn layer_width(key: &str, found: usize) -> Result<()> {
    check(key, found, (1..=MAX_WIDTH).contains(&found), &format!("a layer's width, from 1 to {MAX_WIDTH}"))
}

fn positive(key: &str, found: f64) -> Result<()> {
    check(key, found, found.is_finite() && found > 0.0, "a number above 0")
}

fn not_negative(key: &str, found: f64) -> Result<()> {
    check(key, found, found.is_finite() && found >= 0.0, "a number from 0 up")
}

fn fraction(key: &str, found: f64) -> Result<()> {
    check(key, found, (0.0..1.0).contains(&found), "a number from 0 to below 1")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Count, OverClustering, Probability, Threads};

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn every_refusal_names_the_key_and_what_was_found() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, &str, Spoil); 49] = [
            ("n_clusters", "0", |c| c.n_clusters = 0),
            ("seed", "18446744073709551615", |c| c.seed = u64::MAX),
            ("device", "gpu", |c| c.device = "gpu".to_owned()),
            ("threads", "0", |c| c.threads = Threads::Given(0)),
            ("threads", "1025", |c| c.threads = Threads::Given(1025)),
            ("data.scale", "-1", |c| c.data.scale = Scale::Factor(-1.0)),
            ("data.limit", "0", |c| c.data.limit = Some(0)),
            ("model.hidden", "0", |c| c.model.hidden = vec![5, 0]),
            ("model.n_latent", "0", |c| c.model.n_latent = 0),
            ("model.init_std", "0", |c| c.model.init_std = 0.0),
            ("pretrain.epochs", "0", |c| c.pretrain.epochs = Count::Given(0)),
            ("pretrain.steps", "0", |c| c.pretrain.steps = Some(0)),
            ("pretrain.batch_size", "0", |c| c.pretrain.batch_size = 0),
            ("pretrain.dropout", "1", |c| c.pretrain.dropout = 1.0),
            ("pretrain.lr", "-0.1", |c| c.pretrain.lr = -0.1),
            ("pretrain.momentum", "1.5", |c| c.pretrain.momentum = 1.5),
            ("pretrain.lr_decay_factor", "0", |c| c.pretrain.lr_decay_factor = 0.0),
            ("finetune.steps", "0", |c| c.finetune.steps = Some(0)),
            ("finetune.batch_size", "0", |c| c.finetune.batch_size = 0),
            ("finetune.lr", "NaN", |c| c.finetune.lr = f64::NAN),
            ("finetune.momentum", "-1", |c| c.finetune.momentum = -1.0),
            ("kmeans.n_init", "0", |c| c.kmeans.n_init = 0),
            ("kmeans.max_iter", "0", |c| c.kmeans.max_iter = 0),
            ("kmeans.tol", "-1", |c| c.kmeans.tol = -1.0),
            ("cluster.alpha", "0", |c| c.cluster.alpha = 0.0),
            ("cluster.tol", "1.1", |c| c.cluster.tol = 1.1),
            ("cluster.max_rounds", "0", |c| c.cluster.max_rounds = Count::Given(0)),
            ("cluster.epochs_per_round", "0", |c| c.cluster.epochs_per_round = 0),
            ("cluster.lr", "inf", |c| c.cluster.lr = f64::INFINITY),
            ("cluster.batch_size", "0", |c| c.cluster.batch_size = 0),
            ("cluster.weight_decay", "-1", |c| c.cluster.weight_decay = -1.0),
            ("cluster.gamma", "-1", |c| c.cluster.gamma = -1.0),
            ("cluster.label_smoothing", "1", |c| c.cluster.label_smoothing = 1.0),
            ("cluster.anchor", "1", |c| c.cluster.anchor = 1.0),
            ("cluster.cutmix", "1.5", |c| c.cluster.cutmix = 1.5),
            ("cluster.schedule", "step", |c| c.cluster.schedule = ScheduleKind::Step),
            ("pretrain.lr_decay_steps", "7", |c| c.pretrain.lr_decay_steps = Some(7)),
            ("augment.image", "0", |c| c.augment.image = Some([0, 3])),
            ("augment.rotation", "181", |c| c.augment.rotation = 181.0),
            ("augment.shift", "1", |c| c.augment.shift = 1.0),
            ("augment.zoom", "0.99999999", |c| c.augment.zoom = 0.99999999),
            ("augment.elastic", "1", |c| c.augment.elastic = 1.0),
            ("augment.noise", "-1", |c| c.augment.noise = -1.0),
            ("augment.feature_dropout", "1", |c| c.augment.feature_dropout = Probability::Given(1.0)),
            ("start.n_neighbours", "0", |c| c.start.n_neighbours = 0),
            ("start.n_vectors", "0", |c| c.start.n_vectors = Count::Given(0)),
            ("start.networks", "0", |c| c.start.networks = Count::Given(0)),
            ("start.over_clustering", "0.5", |c| c.start.over_clustering = OverClustering::Given(vec![3.0, 0.5])),
            ("start.over_clustering_epochs", "0", |c| c.start.over_clustering_epochs = Count::Given(0)),
        ];
        for (key, found, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(key) && message.contains(found), "{key}: {message}");
        }
    }
}
