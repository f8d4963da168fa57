//! What a recipe's `auto` comes to: how long a stage trains, how many networks, how much noise. An epoch of few rows has few
//! steps, and so there are more of them; one of very many has more than training needs, and there are fewer.
//!
//! A record in `RESULTS.jsonl` was made with the figures that its commit has: make it anew when these change (`--again`).

use crate::config::{ClusterConfig, Count, ModelConfig, StartConfig, StartMethod};

/// So many epochs, as many more as it takes to come to `steps`, and of very many rows as few as come to `most` steps, but one at
/// least.
#[derive(Debug, Clone, Copy)]
struct Rule {
    epochs: u64,
    steps: u64,
    most: u64,
}

impl Rule {
    fn epochs(self, rows: i64, batch_size: usize) -> u64 {
        let per_epoch = per_epoch(rows, batch_size);
        self.epochs.min(self.most / per_epoch).max(self.steps.div_ceil(per_epoch)).max(1)
    }
}

/// Steps an epoch.
pub(crate) fn per_epoch(rows: i64, batch_size: usize) -> u64 {
    (rows.max(1) as u64).div_ceil(batch_size.max(1) as u64)
}

/// What 70,000 rows come to, by which the epochs were chosen, about twice.
const MOST_PRETRAIN: u64 = 8000;
const MOST_TOWARDS_CLUSTERS: u64 = 2200;
const MOST_SELF_TRAINING: u64 = 8000;

/// Noise does not turn few rows into many, as moving their values does: an autoencoder that trains for longer memorises them.
const PRETRAIN: Rule = Rule { epochs: 15, steps: 300, most: MOST_PRETRAIN };
/// Of rows that are moved.
const PRETRAIN_MOVED: Rule = Rule { epochs: 15, steps: 1500, most: MOST_PRETRAIN };
const OVER_CLUSTERING: Rule = Rule { epochs: 2, steps: 400, most: MOST_TOWARDS_CLUSTERS };
const HANDOVER: Rule = Rule { epochs: 4, steps: 200, most: MOST_TOWARDS_CLUSTERS };
const SELF_TRAINING: Rule = Rule { epochs: 12, steps: 1000, most: MOST_SELF_TRAINING };

/// The widths of the encoder's layers, from the rows' `n_features` to the latent, for rows whose values are `moved` or for
/// others. Of few rows a small network makes the same of what can be known of them, in a tenth of the time.
pub(crate) fn widths(model: &ModelConfig, n_features: usize, moved: bool, rows: i64) -> Vec<i64> {
    const FEW: i64 = 20_000;
    let auto = || if moved || rows > FEW { vec![500, 500, 2000] } else { vec![128, 128, 512] };
    let hidden = model.hidden.clone().or(auto).into_iter().map(|width| width as i64);
    std::iter::once(n_features as i64).chain(hidden).chain([model.n_latent as i64]).collect()
}

/// Networks whose clusterings of `rows` rows into k vote on the start. What one network makes of few rows is a matter of chance.
pub(crate) fn networks(config: &StartConfig, k: usize, rows: i64) -> u64 {
    const FEW: i64 = 5_000;
    config.networks.or(|| match config.method {
        StartMethod::Spectral if rows <= FEW && k > 1 => 3,
        _ => 1,
    })
}

/// The probability with which noise drops a value of rows of `n_features`.
///
/// Few rows of many features are soon known by heart, their noise too; what is left of a row after half of it is dropped has to
/// come from what features have in common. Of few features half says too little about the rest.
pub(crate) fn feature_dropout(n_features: usize) -> f64 {
    const MANY: usize = 25;
    if n_features < MANY {
        0.1
    } else {
        0.5
    }
}

/// Epochs of pretraining end to end, on rows whose values are `moved` or on others.
pub(crate) fn pretrain_epochs(given: Count, moved: bool, rows: i64, batch_size: usize) -> u64 {
    let rule = if moved { PRETRAIN_MOVED } else { PRETRAIN };
    given.or(|| rule.epochs(rows, batch_size))
}

/// Epochs of training towards more clusters than are wanted.
pub(crate) fn over_clustering_epochs(given: Count, rows: i64, batch_size: usize) -> u64 {
    given.or(|| OVER_CLUSTERING.epochs(rows, batch_size))
}

/// Epochs of training towards the first assignment.
pub(crate) fn handover_epochs(given: Count, rows: i64, batch_size: usize) -> u64 {
    given.or(|| HANDOVER.epochs(rows, batch_size))
}

/// Rounds of self-training: as many as come to the epochs of the rule.
pub(crate) fn rounds(config: &ClusterConfig, rows: i64) -> u64 {
    config.max_rounds.or(|| {
        let epochs = SELF_TRAINING.epochs(rows, config.batch_size);
        match config.update_interval_steps {
            None => epochs.div_ceil(config.epochs_per_round),
            Some(interval) => (epochs * per_epoch(rows, config.batch_size)).div_ceil(interval),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Widths;

    #[test]
    fn few_rows_train_for_more_epochs() {
        let moved = |rows| pretrain_epochs(Count::Auto, true, rows, 256);
        assert_eq!([70_000, 10_000, 1_797, 1].map(moved), [15, 38, 188, 1500]);
        let others = |rows| pretrain_epochs(Count::Auto, false, rows, 256);
        assert_eq!([70_000, 10_000, 1_797, 1].map(others), [15, 15, 38, 300]);
        assert_eq!(pretrain_epochs(Count::Given(3), true, 1_797, 256), 3);
    }

    #[test]
    fn very_many_rows_train_for_fewer() {
        let pretrain = |rows| pretrain_epochs(Count::Auto, false, rows, 256);
        assert_eq!([130_000, 250_000, 1_000_000, 10_000_000].map(pretrain), [15, 8, 2, 1]);
        let handover = |rows| handover_epochs(Count::Auto, rows, 256);
        assert_eq!([70_000, 250_000, 1_000_000].map(handover), [4, 2, 1]);
        assert_eq!([70_000, 1_000_000].map(|rows| rounds(&ClusterConfig::default(), rows)), [12, 2]);
    }

    #[test]
    fn few_rows_are_given_a_small_network_where_nothing_is_moved() {
        let auto = |moved, rows| widths(&ModelConfig::default(), 7, moved, rows);
        assert_eq!(auto(false, 20_000), [7, 128, 128, 512, 10]);
        assert_eq!([auto(false, 20_001), auto(true, 100)], [vec![7, 500, 500, 2000, 10], vec![7, 500, 500, 2000, 10]]);
        let given = ModelConfig { hidden: Widths::Given(vec![4]), n_latent: 3, ..ModelConfig::default() };
        assert_eq!(widths(&given, 7, false, 10), [7, 4, 3]);
    }

    #[test]
    fn many_features_are_dropped_more() {
        assert_eq!([2, 24, 25, 1000].map(feature_dropout), [0.1, 0.1, 0.5, 0.5]);
    }

    #[test]
    fn few_rows_are_given_several_networks() {
        let config = StartConfig::default();
        assert_eq!([1, 5_000, 5_001].map(|rows| networks(&config, 10, rows)), [3, 3, 1]);
        assert_eq!(networks(&config, 1, 200), 1);
        let of = |method, count| StartConfig { method, networks: count, ..StartConfig::default() };
        assert_eq!(networks(&of(StartMethod::KMeans, Count::Auto), 10, 200), 1);
        assert_eq!(networks(&of(StartMethod::KMeans, Count::Given(2)), 10, 70_000), 2);
    }

    #[test]
    fn rounds_come_to_the_same_epochs() {
        let config = ClusterConfig::default();
        assert_eq!(rounds(&config, 10_000), 25);
        assert_eq!(rounds(&ClusterConfig { epochs_per_round: 5, ..config.clone() }, 10_000), 5);
        assert_eq!(rounds(&ClusterConfig { update_interval_steps: Some(20), ..config }, 10_000), 50);
    }
}
