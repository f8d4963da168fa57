//! How many clusters? Five criteria on the latent rows of one pretrained autoencoder, and a rule that recommends one number.
//!
//! The rows' graph of nearest neighbours is cut into parts, more than the greatest number that is tried, which are merged step by step:
//! so there is a clustering for each k, and those of neighbouring k differ by one merger.
//!
//! | criterion | what | source |
//! |---|---|---|
//! | separation (`separation.rs`) | how much of a single Gaussian's best cut the two clusters show that stand apart least | Liu et al. 2008, Kimes et al. 2017 |
//! | stability (`stability.rs`) | prediction strength along the graph, beside that of rows of one Gaussian | Tibshirani & Walther 2005 |
//! | silhouette | mean silhouette in the latent space, of 3,000 rows at most | Rousseeuw 1987 |
//! | G (`generality.rs`) | clustering loss on rows trained on, over that on others | Xie et al. 2016, §5.5 |
//! | eigengap | λ_k − λ_(k+1) of D^−1/2 W D^−1/2 of the graph | von Luxburg 2007, §8.3 |
//!
//! `rule.rs` says how they make a recommendation. Labels have no part in any of it.

mod generality;
mod range;
mod rule;
mod separation;
mod stability;
mod views;

use std::fmt;

use serde::Serialize;

use crate::control::{Control, Event, StageName};
use crate::data::sample;
use crate::error::{Error, Result};
use crate::metrics::silhouette;
use crate::stage::start::encode_augmented;
use crate::start::{leading_eigenvectors, merge_clusters, spectral, Joint, Merging, NeighbourGraph};
use crate::state::{of_latent, Run};
use crate::train::seed_for;
use generality::Generality;
pub use range::KRange;
use rule::Recommendation;
use separation::Separation;
use views::Views;

/// What was found for one number of clusters.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Trial {
    /// The number of clusters.
    pub k: usize,
    /// How much of a single Gaussian's best cut the two clusters show that stand apart least: 0 a gap, 1 none.
    pub separation: f64,
    /// Of rows that augmentation moves (images): the greatest share of a cluster's moved versions that lie next to rows of one other
    /// cluster. 0: augmentation leads out of no cluster.
    pub crossing: Option<f64>,
    /// Mean prediction strength, in \[0, 1\].
    pub stability: f64,
    /// The same of rows of one Gaussian with the same covariance.
    pub stability_gaussian: f64,
    /// Mean silhouette in the latent space, in \[−1, 1\].
    pub silhouette: Option<f64>,
    /// G: the clustering loss on rows that were trained on over that on others; falls where clusters are learned by heart.
    pub generalisability: Option<f64>,
    /// λ_k − λ_(k+1), in \[0, 2\].
    pub eigengap: Option<f64>,
    /// Rows of the smallest cluster, among those that the search sees.
    pub smallest: usize,
}

/// A recommended number of clusters, and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The number of clusters.
    pub recommended: usize,
    /// How clear it is, in \[0, 1\].
    pub margin: f64,
    /// What was found for each number, in ascending order.
    pub trials: Vec<Trial>,
    /// Rows that the search saw.
    pub n_rows: usize,
    /// Seconds, without the pretraining.
    pub seconds: f64,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { recommended, margin, .. } = self;
        let how = match *margin {
            margin if margin >= rule::CLEAR => "clear",
            margin if margin >= rule::LIKELY => "likely",
            _ => "not clear",
        };
        write!(f, "recommended: {recommended} clusters, {how} (margin {margin:.2})")
    }
}

/// Rows that a silhouette is the mean of at most: 29 of them are wanted, and time grows with the square.
const SILHOUETTE_ROWS: usize = 3_000;
/// Parts for each cluster of the greatest number that is tried.
const PARTS_PER_CLUSTER: usize = 2;
const RESTARTS: usize = 5;

/// Looks for the number of clusters in `range` in the latent rows of the run's first network, which is trained already. The weights are
/// afterwards as they were.
///
/// # Errors
/// [`Error::Config`] for numbers that the rows cannot be clustered into, [`Error::Interrupted`], latent rows that cannot be clustered,
/// or a libtorch failure.
pub fn choose(run: &mut Run, range: KRange, control: &mut Control) -> Result<Choice> {
    let range = range.check(run.task.seen())?;
    let ks: Vec<usize> = (range.from()..=range.to()).collect();
    let seed = seed_for(run.task.config.seed, "choose k");
    let mut progress = Progress { done: 0 };
    control.tell(&Event::StageStarted { stage: StageName::ChooseK, steps: 3 + ks.len() as u64 });
    let views = Views::of(run, control)?;
    let levels = Levels::new(run, &views, &ks, seed, control)?;
    progress.step(control);
    let stability = stability::strengths(&views, &ks, seed, control)?;
    progress.step(control);
    let by_chance = stability::strengths(&views.gaussian(seed)?, &ks, seed, control)?;
    progress.step(control);

    let mut separation = Separation::new(&views, seed);
    let generality = Generality::new(run)?;
    let sampled = sample(views.n_rows(), SILHOUETTE_ROWS, seed);
    let z = views.at(&sampled)?;
    let mut trials = Vec::with_capacity(ks.len());
    for (place, &k) in ks.iter().enumerate() {
        let Some((labels, joint)) = levels.at(k) else { break };
        let of_sample: Vec<i64> = sampled.iter().map(|&row| labels[row]).collect();
        trials.push(Trial {
            k,
            separation: separation.worst(&labels, &joint, k, control)?,
            crossing: levels.crossing(&labels, k),
            stability: stability[place],
            stability_gaussian: by_chance[place],
            silhouette: silhouette(z.latent(), &of_sample, seed)?,
            generalisability: generality.of(run, &labels, k, control)?,
            eigengap: levels.gap(k),
            smallest: smallest(&labels, k),
        });
        progress.step(control);
    }
    let beyond = match levels.at(range.to() + 1) {
        Some((labels, joint)) => Some(separation.worst(&labels, &joint, range.to() + 1, control)?),
        None => None,
    };
    let Recommendation { k, margin } = rule::recommend(&trials, beyond);
    Ok(Choice { recommended: k, margin, trials, n_rows: views.n_rows(), seconds: control.seconds() })
}

/// Counts what is done.
struct Progress {
    done: u64,
}

impl Progress {
    fn step(&mut self, control: &mut Control) {
        self.done += 1;
        control.tell(&Event::Step { done: self.done });
    }
}

/// Rows of the smallest cluster.
fn smallest(labels: &[i64], k: usize) -> usize {
    let mut sizes = vec![0; k];
    labels.iter().for_each(|&label| sizes[label as usize] += 1);
    sizes.into_iter().min().unwrap_or(0)
}

/// A clustering for each k, each a merger of two clusters of the one before.
struct Levels {
    graph: NeighbourGraph,
    /// Eigenvalues of the graph, the largest first.
    values: Vec<f64>,
    /// The part of each row, 0 to `n_parts` − 1.
    parts: Vec<i64>,
    n_parts: usize,
    /// How parts are related, as they are merged.
    joint: Joint,
    /// Pairs of rows that an augmentation connects.
    related: Option<Vec<(usize, usize)>>,
}

impl Levels {
    fn new(run: &mut Run, views: &Views, ks: &[usize], seed: u64, control: &mut Control) -> Result<Self> {
        let n = views.n_rows();
        let most = ks.last().copied().unwrap_or(1);
        let wanted = (PARTS_PER_CLUSTER * most).clamp(most + 1, (n / 10).max(most + 1)).min(n);
        let z = run.latent(0, control)?;
        let graph = run.graph(&z, control).map_err(of_latent)?;
        let eigen = leading_eigenvectors(&graph.normalised()?, (wanted + 1).min(n) as i64, seed, control)?;
        // Fewer, where there are not so many different rows.
        let mut found = None;
        for n_parts in (most..=wanted).rev() {
            found =
                spectral::at_once(&eigen.vectors, n_parts, RESTARTS, seed, control)?.map(|labels| (labels, n_parts));
            if found.is_some() {
                break;
            }
        }
        let (parts, n_parts) =
            found.ok_or_else(|| of_latent(Error::Rows(format!("fewer than {most} are different"))))?;
        let mut joint = Joint::of_graph(&graph, &parts, n_parts);
        let related = match encode_augmented(run, 0, seed, control)? {
            Some(augmented) => Some(augmented.related(views.latent(), control)?),
            None => None,
        };
        if let Some(related) = &related {
            joint = joint.mean(&Joint::of_pairs(related, &parts, n_parts));
        }
        Ok(Self { graph, values: eigen.values, parts, n_parts, joint, related })
    }

    /// The clusters, 0 to k − 1, of the rows, and how they are related in the graph; `None` for more than there are parts.
    fn at(&self, k: usize) -> Option<(Vec<i64>, Joint)> {
        if k > self.n_parts {
            return None;
        }
        let into = merge_clusters(&self.joint, k, Merging::Linkage);
        let labels: Vec<i64> = self.parts.iter().map(|&part| into[part as usize] as i64).collect();
        let joint = Joint::of_graph(&self.graph, &labels, k);
        Some((labels, joint))
    }

    fn crossing(&self, labels: &[i64], k: usize) -> Option<f64> {
        let joint = Joint::of_pairs(self.related.as_ref()?, labels, k);
        let share =
            |a: usize, b: usize| joint.at(a, b) / joint.marginal(a).min(joint.marginal(b)).max(f64::MIN_POSITIVE);
        (0..k).flat_map(|a| (0..a).map(move |b| (a, b))).map(|(a, b)| share(a, b)).reduce(f64::max)
    }

    fn gap(&self, k: usize) -> Option<f64> {
        Some(self.values.get(k - 1)? - self.values.get(k)?)
    }
}
