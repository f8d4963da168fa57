//! How far clusters stand apart, against what one Gaussian would show.
//!
//! Two clusters that are there have few edges of the neighbour graph between them. Two halves of one cluster have many, yet how many
//! depends on its size, its shape and its dimension. So the share of edges between two clusters (of those that leave the smaller one's
//! rows, its conductance) is divided by the same share for the best cut of as many rows, at the same proportions, of one Gaussian
//! with the covariance of both clusters together: the reference by which Liu, Hayes, Nobel & Marron (SigClust, 2008) and Kimes, Liu,
//! Hayes & Marron (2017) test whether two clusters are one. 1 is what a cut through a single cluster comes to, 0 a gap.
//! The separation of k clusters is that of the two that stand apart least.

use std::collections::HashMap;

use super::views::Views;
use crate::control::Control;
use crate::data::{hash, sample, values_of};
use crate::error::Result;
use crate::start::{leading_eigenvectors, Joint, NeighbourGraph};

/// Rows of two clusters that are looked at, at most.
const ROWS: usize = 400;
/// Pairs of clusters that are tested at each k: so many of the greatest conductance, and of the greatest share of edges above chance.
const PAIRS: usize = 3;
/// Conductance below which two clusters count as apart without a test.
const APART: f64 = 0.01;

/// The separation of clusterings of the same rows; pairs of clusters that come again are not tested again.
#[derive(Debug)]
pub(super) struct Separation<'a> {
    views: &'a Views,
    seed: u64,
    known: HashMap<[usize; 4], f64>,
}

impl<'a> Separation<'a> {
    pub(super) fn new(views: &'a Views, seed: u64) -> Self {
        Self { views, seed, known: HashMap::new() }
    }

    /// The greatest ratio over the pairs of the clusters `labels` (0 to k − 1) that are related most in `joint`, their joint table; 0
    /// where all stand apart.
    pub(super) fn worst(&mut self, labels: &[i64], joint: &Joint, k: usize, control: &mut Control) -> Result<f64> {
        let mut members = vec![Vec::new(); k];
        labels.iter().enumerate().for_each(|(row, &label)| members[label as usize].push(row));
        let mut worst: f64 = 0.0;
        for (a, b) in nearest_pairs(joint, k) {
            worst = worst.max(self.ratio(&members[a], &members[b], control)?);
        }
        Ok(worst)
    }

    fn ratio(&mut self, a: &[usize], b: &[usize], control: &mut Control) -> Result<f64> {
        let key = [a[0], a.len(), b[0], b.len()];
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        control.check()?;
        let mut rows: Vec<(usize, i64)> = a.iter().map(|&row| (row, 0)).chain(b.iter().map(|&row| (row, 1))).collect();
        let seed = hash(self.seed ^ ((a[0] as u64) << 32) ^ b[0] as u64);
        rows = sample(rows.len(), ROWS, seed).into_iter().map(|place| rows[place]).collect();
        let labels: Vec<i64> = rows.iter().map(|&(_, label)| label).collect();
        let views = self.views.at(&rows.iter().map(|&(row, _)| row).collect::<Vec<_>>())?;
        let found = conductance(&views.graph(control)?, &labels);
        let second = labels.iter().sum::<i64>() as usize;
        let chance = best_cut(&views.gaussian(seed)?.graph(control)?, second, seed, control)?;
        let ratio = if chance > 0.0 { found / chance } else { 1.0 };
        self.known.insert(key, ratio);
        Ok(ratio)
    }
}

/// Pairs of k clusters that may be one, each once.
fn nearest_pairs(joint: &Joint, k: usize) -> Vec<(usize, usize)> {
    let all = || (0..k).flat_map(|a| (0..a).map(move |b| (a, b)));
    let leaving = |a: usize, b: usize| joint.at(a, b) / joint.marginal(a).min(joint.marginal(b));
    let above_chance = |a: usize, b: usize| joint.at(a, b) / (joint.marginal(a) * joint.marginal(b));
    let greatest = |of: &dyn Fn(usize, usize) -> f64| {
        let mut pairs: Vec<(usize, usize)> = all().filter(|&(a, b)| leaving(a, b) >= APART).collect();
        pairs.sort_by(|&(a, b), &(c, d)| of(c, d).total_cmp(&of(a, b)));
        pairs.truncate(PAIRS);
        pairs
    };
    let mut pairs = greatest(&leaving);
    pairs.extend(greatest(&above_chance));
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// The probability that a step of a random walk leaves the smaller of two clusters 0 and 1.
fn conductance(graph: &NeighbourGraph, labels: &[i64]) -> f64 {
    let joint = Joint::of_graph(graph, labels, 2);
    joint.at(0, 1) / joint.marginal(0).min(joint.marginal(1)).max(f64::MIN_POSITIVE)
}

/// The least conductance of a cut along the second eigenvector (Shi & Malik 2000) that takes `count` rows off one end or the other.
fn best_cut(graph: &NeighbourGraph, count: usize, seed: u64, control: &mut Control) -> Result<f64> {
    let n = graph.n_rows();
    let eigen = leading_eigenvectors(&graph.normalised()?, 2.min(n as i64), seed, control)?;
    let second: Vec<f32> = values_of(&eigen.vectors.f_select(1, eigen.vectors.size()[1] - 1)?)?;
    let place = |row: usize| f64::from(second[row]) / graph.degree(row).sqrt();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| place(a).total_cmp(&place(b)));
    let cut = |first: usize| {
        let mut labels = vec![0; n];
        order[..first].iter().for_each(|&row| labels[row] = 1);
        conductance(graph, &labels)
    };
    Ok(cut(count).min(cut(n - count)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Stop;
    use crate::Error;
    use tch::{Device, Kind, Tensor};

    /// The separation of `k` clusters of these rows.
    fn worst(rows: Tensor, labels: &[i64], k: usize) -> f64 {
        let views = Views::of_rows(rows);
        let joint = Joint::of_graph(&views.graph(&mut Control::ignored()).unwrap(), labels, k);
        Separation::new(&views, 5).worst(labels, &joint, k, &mut Control::ignored()).unwrap()
    }

    /// Clouds of 150 rows at these places on a line, and the cloud of each row.
    fn clouds(places: &[f64]) -> (Tensor, Vec<i64>) {
        tch::manual_seed(12);
        let cloud = |&place: &f64| {
            let rows = Tensor::randn([150, 4], (Kind::Float, Device::Cpu));
            rows + Tensor::from_slice(&[place as f32, 0.0, 0.0, 0.0])
        };
        let rows = Tensor::cat(&places.iter().map(cloud).collect::<Vec<_>>(), 0);
        (rows, (0..places.len() as i64 * 150).map(|row| row / 150).collect())
    }

    #[test]
    fn clouds_stand_apart_and_halves_of_one_do_not() {
        let (rows, labels) = clouds(&[0.0, 5.0, 10.0]);
        let apart = worst(rows, &labels, 3);
        let (rows, _) = clouds(&[0.0, 0.0]);
        let first: Vec<f32> = values_of(&rows.select(1, 0)).unwrap();
        let halves: Vec<i64> = first.iter().map(|&value| i64::from(value > 0.0)).collect();
        let cut = worst(rows, &halves, 2);
        assert!(apart < 0.3 && cut > 0.7, "{apart} {cut}");
    }

    #[test]
    fn what_the_worst_pair_shows_counts() {
        let (rows, labels) = clouds(&[0.0, 20.0, 40.0]);
        assert_eq!(worst(rows.shallow_clone(), &labels, 3), 0.0, "no edges between them");
        let first: Vec<f32> = values_of(&rows.select(1, 1)).unwrap();
        let split = |(&label, &value): (&i64, &f32)| if label == 2 && value > 0.0 { 3 } else { label };
        let four: Vec<i64> = labels.iter().zip(&first).map(split).collect();
        assert!(worst(rows, &four, 4) > 0.7);
    }

    #[test]
    fn few_rows_are_no_trouble_and_a_stop_is_heard() {
        let rows = Tensor::from_slice(&[0.0f32, 0.1, 0.2, 0.3]).view([4, 1]);
        assert!(worst(rows.shallow_clone(), &[0, 0, 1, 1], 2).is_finite());
        let same = Tensor::ones([6, 2], (Kind::Float, Device::Cpu));
        assert!(worst(same, &[0, 0, 0, 1, 1, 1], 2).is_finite());
        let views = Views::of_rows(rows);
        let joint = Joint::of_graph(&views.graph(&mut Control::ignored()).unwrap(), &[0, 0, 1, 1], 2);
        let stopped = Separation::new(&views, 0).worst(&[0, 0, 1, 1], &joint, 2, &mut Control::new(&mut Stop));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}
