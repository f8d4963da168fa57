//! The time that a run will take, from its recipe and its rows, before it is begun.
//!
//! The work is counted: optimiser steps of every stage, passes over the rows, searches for clusters. Each kind is then done for a
//! moment, on these rows and with a network of the run's widths, and timed. That takes a second or two.
//!
//! Steps are most of a run, and are timed as they are. k-means and the search for the first assignment are timed on some of the
//! rows, and their time is taken to grow with these; how often they iterate depends on what training makes of the rows.
//! Self-training is counted at its full length; it may end earlier.

use std::fmt;
use std::time::{Duration, Instant};

use tch::{Kind, Tensor};

use crate::config::{Optimisation, StartMethod};
use crate::control::{Control, StageName};
use crate::data::Rows;
use crate::error::{Error, Result};
use crate::kmeans::{self, KMeansParams};
use crate::model::{encode_all, ClusteringLayer, Network};
use crate::objective;
use crate::stage::{self, cluster, kmeans::SEEN_VALUES};
use crate::start::mixture;
use crate::start::spectral::{self, SpectralParams, Views};
use crate::state::{StageId, Task};
use crate::train::build;
use crate::train::engine::EngineParams;
use crate::train::step::{Batch, Step};

/// How long a piece of work is repeated to be timed, and how often at the most.
const MEASURED: Duration = Duration::from_millis(100);
const REPEATS: u32 = 50;
/// Rows of a pass that is timed.
const PASS_ROWS: i64 = 4096;
/// Values times clusters times restarts of a k-means that is timed, and its restarts.
const KMEANS_WORK: u64 = 200_000_000;
const KMEANS_RESTARTS: usize = 4;
/// Rows and clusters of a search that is timed.
const SEARCH_ROWS: i64 = 1000;
const SEARCH_CLUSTERS: usize = 60;
/// How the time of a search grows with the rows: as n to this power, by runs of 10,000 to 250,000 rows.
const SEARCH_GROWTH: f64 = 0.85;
/// What is told: so much of the time that was computed, to so much. Machines slow down when they are warm, and others use them.
const LEAST: f64 = 0.7;
const MOST: f64 = 1.5;

/// The time that a run will take; see [`expected`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// In seconds: if all goes well.
    pub least: f64,
    /// In seconds: if it does not.
    pub most: f64,
}

/// How long a run of `task` will take on this machine, as busy as it is now.
///
/// # Errors
/// [`Error::Interrupted`], rows that cannot be read, or a libtorch failure (out of memory, say).
pub fn expected(task: &Task, control: &mut Control) -> Result<Expected> {
    let network = task.new_network(0)?;
    let mut clock = Clock { task, network, control, timed: Vec::new() };
    let mut seconds = 0.0;
    for id in stage::list(task) {
        for (work, times) in works(id, task) {
            seconds += times * clock.seconds(work)?;
        }
    }
    Ok(Expected { least: LEAST * seconds, most: MOST * seconds })
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        const UNITS: [(f64, &str); 4] = [(1.0, "second"), (60.0, "minute"), (3600.0, "hour"), (86_400.0, "day")];
        // The largest unit of which it is at least one and a half.
        let (size, unit) = UNITS.into_iter().rev().find(|(size, _)| self.most >= 1.5 * size).unwrap_or((1.0, "second"));
        let (least, most) = (rounded(self.least / size), rounded(self.most / size));
        let plural = if most == 1 { "" } else { "s" };
        if least == most {
            write!(f, "about {most} {unit}{plural}")
        } else {
            write!(f, "about {least} to {most} {unit}{plural}")
        }
    }
}

/// As many digits as are known: whole numbers up to 20, then every fifth, then every tenth.
fn rounded(value: f64) -> u64 {
    let step = match value {
        ..20.0 => 1.0,
        ..60.0 => 5.0,
        _ => 10.0,
    };
    ((value / step).round() * step).max(1.0) as u64
}

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Work {
    /// A step on the reconstruction, as in pretraining or in fine-tuning.
    Reconstruction(StageName),
    /// A step of a layer alone, counted from 0.
    Layer(usize),
    /// A step towards so many clusters.
    Clustering(StageName, usize),
    /// All rows through the encoder.
    Pass,
    /// k-means on the rows.
    KMeansRaw,
    /// k-means on the latent rows.
    KMeans,
    /// The search for the first assignment, or for so many more clusters than are wanted.
    Search(Option<usize>),
}

/// What a stage does, and how often.
fn works(id: StageId, task: &Task) -> Vec<(Work, f64)> {
    let steps = stage::steps(id, task) as f64;
    match id {
        StageId::KMeansRaw => vec![(Work::KMeansRaw, 1.0)],
        StageId::KMeans => vec![(Work::Pass, 1.0), (Work::KMeans, 1.0)],
        StageId::Autoencoder { .. } => vec![(Work::Reconstruction(StageName::Autoencoder), steps)],
        StageId::Finetune { .. } => vec![(Work::Reconstruction(StageName::Finetune), steps)],
        StageId::Layer { layer, .. } => vec![(Work::Layer(layer), steps)],
        StageId::FineSearch { parts, .. } => vec![(Work::Pass, 1.0), (Work::Search(Some(parts)), 1.0)],
        StageId::OverCluster { parts, .. } => {
            vec![(Work::Clustering(StageName::OverCluster(parts), parts), steps)]
        }
        StageId::Search { .. } => vec![(Work::Pass, 1.0), (Work::Search(None), 1.0)],
        StageId::Elect => Vec::new(),
        StageId::Warm => vec![(Work::Pass, 1.0)],
        StageId::Cluster => {
            let rounds = cluster::Length::of(task).max_rounds as f64;
            vec![(Work::Clustering(StageName::Cluster, task.config.n_clusters), steps), (Work::Pass, rounds)]
        }
    }
}

/// Times each kind of work once.
struct Clock<'a, 'c> {
    task: &'a Task,
    /// With the weights that a run begins with, and after some steps: what they are makes no difference to the time.
    network: Box<dyn Network>,
    control: &'a mut Control<'c>,
    timed: Vec<(Work, f64)>,
}

impl Clock<'_, '_> {
    fn seconds(&mut self, work: Work) -> Result<f64> {
        if let Some((_, seconds)) = self.timed.iter().find(|(timed, _)| *timed == work) {
            return Ok(*seconds);
        }
        self.control.check()?;
        let seconds = match self.time(work) {
            // Fewer different rows than clusters, among those that were chosen: the run will see.
            Err(Error::Rows(problem) | Error::Training(problem)) => {
                tracing::debug!("{work:?} could not be timed: {problem}");
                0.0
            }
            timed => timed?,
        };
        tracing::debug!("{work:?}: {seconds:.4} s");
        self.timed.push((work, seconds));
        Ok(seconds)
    }

    fn time(&mut self, work: Work) -> Result<f64> {
        let task = self.task;
        let (rows, config) = (&task.rows, &task.config);
        match work {
            Work::Reconstruction(name) => {
                let settings = match name {
                    StageName::Finetune => config.finetune.optimisation(),
                    _ => config.pretrain.optimisation(),
                };
                let network = &*self.network;
                self.steps(name, rows, &settings, 0.0, |rows, params| build::reconstruction(network, rows, params))
            }
            Work::Layer(layer) => {
                let settings = config.pretrain.optimisation();
                let Some(pair) = self.network.pair(layer) else { return Ok(0.0) };
                // The codes that a deeper layer trains on are float32 rows in memory, whatever their values.
                let input = match layer {
                    0 => rows.shallow_clone(),
                    _ => {
                        let n = (settings.batch_size as i64).min(rows.n_rows());
                        Rows::from_tensor(Tensor::f_rand([n, task.widths()[layer]], (Kind::Float, rows.device()))?)
                    }
                };
                let name = StageName::Pretrain(layer + 1);
                self.steps(name, &input, &settings, config.pretrain.dropout, |rows, params| {
                    build::layer(pair, rows, params)
                })
            }
            Work::Clustering(name, k) => {
                let term = match name {
                    StageName::Cluster => objective::of(&config.cluster).term(),
                    _ => objective::term_towards_labels(&config.cluster),
                };
                let float = (Kind::Float, rows.device());
                let centroids = Tensor::f_rand([k as i64, config.model.n_latent as i64], float)?;
                let p = Tensor::f_full([rows.n_rows(), k as i64], 1.0 / k as f64, float)?;
                let layer = ClusteringLayer::new(&centroids, config.cluster.alpha)?;
                let network = &*self.network;
                self.steps(name, rows, &config.cluster.optimisation(), 0.0, |rows, params| {
                    build::clustering(network, &layer, &p, term, rows, params)
                })
            }
            Work::Pass => {
                let seen = rows.first(PASS_ROWS)?;
                let once = per_call(|| encode_all(&*self.network, &seen, &*self.control).map(drop))?;
                Ok(once * rows.n_rows() as f64 / seen.n_rows().max(1) as f64)
            }
            Work::KMeansRaw => {
                let most = (SEEN_VALUES / rows.n_features().max(1)).max(config.n_clusters as i64);
                self.kmeans(rows, rows.n_rows().min(most))
            }
            Work::KMeans => {
                let z = self.latent(PASS_ROWS)?;
                self.kmeans(&Rows::from_tensor(z), rows.n_rows())
            }
            Work::Search(parts) => self.search(parts),
        }
    }

    /// Seconds a step of a stage, as it trains on `rows`.
    fn steps(
        &self,
        name: StageName,
        rows: &Rows,
        settings: &Optimisation,
        dropout: f64,
        step: impl FnOnce(&Rows, EngineParams) -> Result<Box<dyn Step>>,
    ) -> Result<f64> {
        let stage = self.task.stage_run(name, 0);
        let mut batches = stage.batches(rows, settings)?;
        let mut step = step(rows, stage.engine(&batches, dropout, settings))?;
        let mut number = 0;
        per_call(|| {
            self.control.check()?;
            let indices = batches.next_batch()?;
            step.step(&Batch { indices: &indices, number }, f64::from(f32::EPSILON))?;
            number += 1;
            Ok(())
        })
    }

    /// The latent rows of so many.
    fn latent(&self, rows: i64) -> Result<Tensor> {
        encode_all(&*self.network, &self.task.rows.first(rows)?, &*self.control)
    }

    /// Seconds of k-means on `n` rows like those of `rows`.
    fn kmeans(&mut self, rows: &Rows, n: i64) -> Result<f64> {
        let params = self.task.kmeans_params();
        let n_init = params.n_init.min(KMEANS_RESTARTS);
        let each = (rows.n_features().unsigned_abs() * (params.n_clusters * n_init) as u64).max(1);
        let enough = (KMEANS_WORK / each).max(2 * params.n_clusters as u64);
        let seen = rows.first(i64::try_from(enough).unwrap_or(i64::MAX).min(n))?;
        let begun = Instant::now();
        kmeans::fit(&seen, &KMeansParams { n_init, ..params.clone() }, &mut self.control.silenced())?;
        let growth = n as f64 / seen.n_rows().max(1) as f64 * params.n_init as f64 / n_init as f64;
        Ok(begun.elapsed().as_secs_f64() * growth)
    }

    /// Seconds of a search in the latent rows.
    fn search(&mut self, parts: Option<usize>) -> Result<f64> {
        let (config, seen) = (&self.task.config, self.task.seen() as f64);
        let z = self.latent(SEARCH_ROWS.min(self.task.seen() as i64))?;
        let n = z.size2()?.0;
        let wanted = parts.unwrap_or(config.n_clusters);
        let k = wanted.min(SEARCH_CLUSTERS).min(n as usize);
        let begun = Instant::now();
        match config.start.method {
            StartMethod::KMeans => return self.kmeans(&Rows::from_tensor(z), self.task.rows.n_rows()),
            StartMethod::Gmm => drop(mixture::fit(&z, k, config.seed, self.control)?),
            StartMethod::Spectral => {
                let n_vectors = match parts {
                    Some(_) => Some(k as u64),
                    None => config.start.n_vectors.given(),
                };
                let n_neighbours = config.start.n_neighbours;
                let params = SpectralParams { n_clusters: k, n_neighbours, n_vectors, seed: config.seed };
                spectral::search(Views::latent(&z), &params, self.control)?;
            }
        }
        let elapsed = begun.elapsed().as_secs_f64();
        // Where values are not moved there is a graph of the rows too, and clusterings around centres.
        let again = if parts.is_none() && !self.task.moves_in_start() { 2.0 } else { 1.0 };
        let clusters = (wanted as f64 / k.max(1) as f64).powi(2);
        Ok(elapsed * again * clusters * (seen / n.max(1) as f64).powf(SEARCH_GROWTH))
    }
}

/// Seconds a call. The first is not timed: it touches memory that the others find.
fn per_call(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let (begun, mut calls) = (Instant::now(), 0);
    while calls == 0 || (calls < REPEATS && begun.elapsed() < MEASURED) {
        work()?;
        calls += 1;
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(calls))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{CheckedConfig, Config, Count, OverClustering, PretrainMethod, Widths};
    use crate::data::{Dataset, Features};
    use crate::run::Trainer;
    use tch::Device;

    #[test]
    fn ranges_are_told_in_words() {
        for (least, most, words) in [
            (0.01, 0.02, "about 1 second"),
            (0.7, 1.5, "about 1 to 2 seconds"),
            (31.0, 72.0, "about 30 to 70 seconds"),
            (240.0, 490.0, "about 4 to 8 minutes"),
            (1500.0, 3300.0, "about 25 to 55 minutes"),
            (4000.0, 8000.0, "about 1 to 2 hours"),
            (100_000.0, 200_000.0, "about 1 to 2 days"),
            (1e9, 1e9, "about 11570 days"),
        ] {
            assert_eq!(Expected { least, most }.to_string(), words);
        }
    }

    fn small(change: impl FnOnce(&mut Config)) -> (CheckedConfig, Dataset) {
        let features = ndarray::Array2::from_shape_fn((200, 6), |(i, j)| ((i * 7 + j * 13) % 31) as f32);
        let dataset = Dataset { features: Features::F32(features), ..Dataset::default() };
        let mut config = Config { n_clusters: 3, ..Config::default() };
        config.model.hidden = Widths::Given(vec![16]);
        change(&mut config);
        (config.check().unwrap(), dataset)
    }

    fn seconds(change: impl FnOnce(&mut Config)) -> f64 {
        let (config, dataset) = small(change);
        let task = Task::new(&config, &dataset, Device::Cpu).unwrap();
        expected(&task, &mut Control::ignored()).unwrap().most
    }

    /// Every kind of stage is counted.
    #[test]
    fn more_steps_take_longer_in_every_stage() {
        const MANY: u64 = 100_000_000;
        const LONG: f64 = 600.0;
        let layerwise = |c: &mut Config| c.pretrain.method = PretrainMethod::Layerwise;
        assert!(seconds(|_| ()) < LONG && seconds(layerwise) < LONG);
        assert!(seconds(|c| c.pretrain.epochs = Count::Given(MANY)) > LONG);
        assert!(seconds(|c| c.finetune.steps = Some(MANY)) > LONG);
        assert!(seconds(|c| c.cluster.max_rounds = Count::Given(MANY)) > LONG);
        assert!(seconds(|c| c.kmeans.n_init = 1_000_000_000) > LONG);
        assert!(seconds(|c| c.start.networks = Count::Given(100_000)) > LONG);
        let over_clustered = |c: &mut Config| {
            c.start.over_clustering = OverClustering::Given(vec![2.0]);
            c.start.over_clustering_epochs = Count::Given(MANY);
        };
        assert!(seconds(over_clustered) > LONG);
        let long_layers = |c: &mut Config| {
            layerwise(c);
            c.pretrain.steps = Some(MANY);
        };
        assert!(seconds(long_layers) > LONG);
    }

    #[test]
    fn the_counted_steps_are_those_that_a_run_takes() {
        for method in [PretrainMethod::EndToEnd, PretrainMethod::Layerwise] {
            let (config, dataset) = small(|c| {
                (c.pretrain.method, c.pretrain.epochs, c.finetune.epochs) = (method, Count::Given(3), 2);
                c.start.networks = Count::Given(1);
                c.start.over_clustering = OverClustering::Given(vec![2.0]);
                c.start.over_clustering_epochs = Count::Given(2);
                (c.cluster.max_rounds, c.cluster.patience) = (Count::Given(4), 0);
                (c.pretrain.batch_size, c.cluster.batch_size) = (64, 48);
            });
            let mut trainer = Trainer::new(&config, &dataset, Device::Cpu).unwrap();
            trainer.run(&mut ()).unwrap();
            let counted = |id: StageId| Some((stage::name(id)?.to_string(), stage::steps(id, trainer.task())));
            let counted: Vec<_> = trainer.stages().iter().filter_map(|&id| counted(id)).collect();
            let taken = trainer.state().stages.iter().map(|time| (time.name.clone(), time.steps));
            let trained: Vec<_> = taken.zip(&counted).filter(|(_, (_, steps))| *steps > 0).collect();
            assert_eq!(trained.len(), if method == PretrainMethod::EndToEnd { 4 } else { 5 }, "{counted:?}");
            trained.iter().for_each(|(taken, counted)| assert_eq!(taken, *counted));
        }
    }
}
