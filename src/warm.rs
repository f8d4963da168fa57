//! A start from a run that has finished: its network and scaling, its clusters under their numbers, and new clusters of rows that are
//! in none of them.
//!
//! Rows that lie farther out in their cluster than 99 of 100 rows of that run are candidates. Where many of them are each other's
//! neighbours in the latent space, and few edges of the graph lead from them to other rows, they are a cluster that was not there
//! before; single ones stay where they are nearest. Two new clusters that touch each other count as one.

use std::path::Path;

use tch::Tensor;

use crate::control::Control;
use crate::data::{values_of, Dataset, Rows};
use crate::error::{Error, Result};
use crate::model::encode_all;
use crate::run::{widths, Model};
use crate::start::{extend, NeighbourGraph};
use crate::state::Clusters;

/// The share of a run's rows beyond which a row is in none of its clusters.
const OUT: f32 = 0.99;
/// The share of the edges of a new cluster that may lead to other rows.
const LEAVING: f64 = 0.2;
/// Rows of a new cluster: so large a share at least, and more than a row has neighbours.
const LEAST_SHARE: f64 = 0.005;

/// A run to start from, and what its clusters are among the rows of another.
#[derive(Debug)]
pub struct WarmStart {
    /// The run's model.
    pub model: Model,
    /// The cluster of each row: below the run's number of clusters one of its own, from there on a new one.
    pub labels: Vec<i64>,
    /// The centroids \[k, m\] of all.
    pub centroids: Tensor,
    /// How many of the clusters are new.
    pub n_new: usize,
}

/// Reads the model to start from, and refuses rows that it does not fit.
///
/// # Errors
/// [`Error::Data`] for a directory that is no finished run, [`Error::Config`] for a run whose clusters were joined or that keeps no
/// distances, [`Error::Rows`] for rows that the model was not made for.
pub fn model_for(run: &Path, dataset: &Dataset, device: tch::Device) -> Result<Model> {
    let model = Model::load(run, device)?;
    if model.layer.groups().is_some() {
        return Err(Error::Config(format!(
            "the clusters of {} were joined by `dec merge`: start from the run that they are of",
            run.display()
        )));
    }
    if model.profile.is_none() {
        return Err(Error::Config(format!(
            "{} is of a version that kept no distances, by which new clusters are told from old ones",
            run.display()
        )));
    }
    if dataset.n_features() as i64 != model.n_features || dataset.intake != model.intake {
        return Err(Error::Rows(format!(
            "{} has {} features a row, read in its own way, but the run to start from has {}: give rows with the same columns",
            dataset.name,
            dataset.n_features(),
            model.n_features
        )));
    }
    model.check_shape(dataset)?;
    Ok(model)
}

impl WarmStart {
    /// Puts `rows` through `model`. The graph is of the first `seen` of them; the others go by their nearest neighbours.
    ///
    /// # Errors
    /// Latent rows without finite distances, or a libtorch failure.
    pub fn new(run: &Path, model: Model, rows: &Rows, seen: usize, n_neighbours: i64) -> Result<Self> {
        let control = &mut Control::ignored();
        let z = encode_all(&*model.network, rows, control)?;
        let known = model.layer.centroids();
        let k = model.layer.n_clusters();
        let mut labels: Vec<i64> = values_of(&model.layer.soft_assign_all(&z)?.f_argmax(1, false)?)?;
        let Some(profile) = &model.profile else { return Err(Error::Fault("a model without distances".to_owned())) };
        let out: Vec<bool> = profile.scores(&z, &labels, known, None)?.iter().map(|&score| score > OUT).collect();
        let n_out = out.iter().filter(|&&out| out).count();
        let least = ((LEAST_SHARE * labels.len() as f64).ceil() as usize).max(n_neighbours as usize + 1);
        let mut n_new = 0;
        if n_out >= least {
            let seen = seen.min(labels.len());
            let graph = NeighbourGraph::new(&z.f_narrow(0, 0, seen as i64)?, n_neighbours, control)?;
            let groups =
                novel(&graph, &out[..seen], (least * seen).div_ceil(labels.len()).max(n_neighbours as usize + 1));
            n_new = groups.iter().flatten().max().map_or(0, |last| last + 1);
            let of_seen: Vec<i64> =
                groups.iter().zip(&labels).map(|(group, &old)| group.map_or(old, |new| (k + new) as i64)).collect();
            let by_neighbours = extend(&z, of_seen, control)?;
            for (row, label) in labels.iter_mut().enumerate() {
                if by_neighbours[row] >= k as i64 && (out[row] || row < seen) {
                    *label = by_neighbours[row];
                }
            }
        }
        tracing::info!(
            "{}: {k} clusters, and {n_new} new; {:.1} % of the rows are farther out than 99 of 100 rows there",
            run.display(),
            100.0 * n_out as f64 / labels.len().max(1) as f64
        );
        let means = Clusters::around_means(&z, labels.clone(), k + n_new)?.centroids;
        let new = means.f_narrow(0, k as i64, n_new as i64)?;
        let centroids = Tensor::f_cat(&[known.shallow_clone(), new], 0)?;
        Ok(Self { model, labels, centroids, n_new })
    }

    /// The run's clusters, and the new ones.
    pub fn n_clusters(&self) -> usize {
        self.model.layer.n_clusters() + self.n_new
    }

    /// The widths of the encoder's layers, from the rows to the latent.
    pub fn widths(&self) -> Vec<i64> {
        widths(&self.model.network.named_parameters()).unwrap_or_default()
    }
}

/// The new cluster of each row, from 0 for the largest, of rows that are `out` of those known; of `least` rows at least.
fn novel(graph: &NeighbourGraph, out: &[bool], least: usize) -> Vec<Option<usize>> {
    let share = |row: usize, inside: &dyn Fn(usize) -> bool| {
        let within: f64 = graph.edges(row).filter(|&(to, _)| inside(to)).map(|(_, weight)| f64::from(weight)).sum();
        within / graph.degree(row).max(f64::MIN_POSITIVE)
    };
    let among = |row: usize| out[row] && share(row, &|to| out[to]) > 0.5;
    let candidate: Vec<bool> = (0..out.len()).map(among).collect();
    let mut group = vec![None; out.len()];
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for first in 0..out.len() {
        if !candidate[first] || group[first].is_some() {
            continue;
        }
        let (number, mut members, mut at) = (groups.len(), vec![first], 0);
        group[first] = Some(number);
        while let Some(&row) = members.get(at) {
            for (to, _) in graph.edges(row) {
                if candidate[to] && group[to].is_none() {
                    group[to] = Some(number);
                    members.push(to);
                }
            }
            at += 1;
        }
        groups.push(members);
    }
    let leaving = |number: usize| {
        let degree = |row: &usize| graph.degree(*row);
        let within = |row: &usize| share(*row, &|to| group[to] == Some(number)) * graph.degree(*row);
        let total: f64 = groups[number].iter().map(degree).sum();
        1.0 - groups[number].iter().map(within).sum::<f64>() / total.max(f64::MIN_POSITIVE)
    };
    let mut kept: Vec<usize> =
        (0..groups.len()).filter(|&number| groups[number].len() >= least && leaving(number) < LEAVING).collect();
    kept.sort_by_key(|&number| (std::cmp::Reverse(groups[number].len()), groups[number][0]));
    group.iter().map(|number| kept.iter().position(|&kept| Some(kept) == *number)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Device, Kind};

    /// Clouds of 60 rows at these places on a line.
    fn graph(places: &[f64]) -> NeighbourGraph {
        tch::manual_seed(3);
        let cloud = |&place: &f64| Tensor::randn([60, 2], (Kind::Float, Device::Cpu)) + place;
        let rows = Tensor::cat(&places.iter().map(cloud).collect::<Vec<_>>(), 0);
        NeighbourGraph::new(&rows, 10, &mut Control::ignored()).unwrap()
    }

    #[test]
    fn rows_that_are_out_together_are_a_cluster_and_single_ones_are_none() {
        let graph = graph(&[0.0, 30.0, 60.0]);
        let together: Vec<bool> = (0..180).map(|row| row >= 60 || row % 20 == 0).collect();
        let found = novel(&graph, &together, 20);
        assert!(found[..60].iter().all(Option::is_none), "three rows of the first cloud are only far out");
        assert!(found[60..].iter().all(Option::is_some));
        assert!(found[60..120].iter().all(|group| *group == found[60]) && found[60] != found[120]);
        assert!(novel(&graph, &together, 61).iter().all(Option::is_none), "too few");
    }

    #[test]
    fn half_of_a_cluster_is_no_new_one() {
        let graph = graph(&[0.0, 30.0]);
        let half: Vec<bool> = (0..120).map(|row| row < 60 && row % 2 == 0).collect();
        assert!(novel(&graph, &half, 5).iter().all(Option::is_none));
    }
}
