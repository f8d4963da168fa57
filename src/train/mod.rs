//! A run from rows to clusters: the stages in the paper's order.
//!
//! 1. k-means on the raw rows, for comparison ([`Stage::KMeansRaw`]);
//! 2. pretraining of the autoencoder, end to end ([`Stage::Autoencoder`]) or layer by layer ([`Stage::Pretrain`]), and
//!    fine-tuning ([`Stage::Finetune`]);
//! 3. k-means on the latent rows, for comparison or as the start ([`Stage::KMeans`]);
//! 4. training towards more clusters than are wanted ([`Stage::OverCluster`]), where the recipe asks for it;
//! 5. the first assignment, which places the centroids ([`Stage::Start`]), where it is not that of k-means;
//! 6. self-training ([`Stage::Cluster`]).
//!
//! Of few rows several networks go through 2, 4 and 5, and the first assignment is a vote of what was found in all of them.
//!
//! [`Trainer::run`] is the whole of it; an [`Observer`] hears what happens and may stop it. Labels score what was found
//! and never touch training.

pub mod augmentation;
mod cluster;
pub mod engine;
mod finetune;
mod lengths;
mod observer;
pub mod optimiser;
mod pretrain;
mod replay;
pub mod step;
mod steps;

use std::ops::ControlFlow;
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use augmentation::Augmentation;
use cluster::Plan;
use engine::step_key;
use finetune::Length;
pub use observer::{Event, MethodResult, Observer, Stage, StageTime};
use steps::StageRun;

use crate::config::{AugmentKind, Config, Optimisation, PretrainMethod, Scale, StartMethod, WeightInit};
use crate::data::{
    self, array_of, hash, index_of, permutation, sample, tensor_of, values_of, Dataset, RowKind, Rows, Scaling,
};
use crate::error::{Error, Result};
use crate::kmeans::{self, KMeans, KMeansParams, Progress};
use crate::metrics::{self, Contingency};
use crate::model::{Autoencoder, ClusteringLayer, Dec, Init};
use crate::start::spectral::{self, Augmented, SpectralParams, Views};
use crate::start::{components, elect, mixture, Elected, NeighbourGraph};

/// Which cluster each row belongs to, in the order of the input's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The input's row numbers, ascending; all of them unless `data.limit` chose some.
    pub rows: Vec<usize>,
    /// The cluster of each, 0 to k − 1.
    pub labels: Vec<i64>,
    /// The soft assignment q to that cluster.
    pub confidence: Vec<f32>,
}

/// Trains one [`Dec`] on one data set, and keeps what there is at every moment, so that an interrupted or failed run can
/// be saved.
#[derive(Debug)]
pub struct Trainer<'a> {
    config: &'a Config,
    /// Row i of `rows` is row `order[i]` of the input.
    order: Vec<usize>,
    rows: Rows,
    labels_true: Option<Vec<i64>>,
    data_name: String,
    augmentation: Option<Augmentation>,
    /// What the seeds of the network at work follow from: the recipe's seed for the first, others for further ones.
    seed: u64,
    /// Of the rows themselves: made once for all clusterings of the start, and dropped after it.
    input_graph: Option<NeighbourGraph>,
    /// The network as trained so far.
    pub dec: Dec,
    /// The methods scored so far.
    pub results: Vec<MethodResult>,
    /// The stages finished so far.
    pub stages: Vec<StageTime>,
    /// The clusters; `None` until self-training has begun.
    pub assignment: Option<Assignment>,
    /// Refreshes of p that self-training has made.
    pub rounds: u64,
    /// Whether self-training reached `cluster.tol`.
    pub converged: bool,
}

impl<'a> Trainer<'a> {
    /// Checks that `dataset` can be clustered, shuffles its rows from the seed, and sets up the network on `device`.
    ///
    /// # Errors
    /// [`Error::Rows`] for rows that cannot be clustered, or a libtorch failure.
    pub fn new(config: &'a Config, dataset: &Dataset, device: Device) -> Result<Self> {
        if config.data.scale == Scale::Counts {
            data::check_counts(dataset)?;
        }
        let mut order = permutation(dataset.n_rows(), seed_for(config.seed, "shuffle"));
        order.truncate(config.data.limit.unwrap_or(usize::MAX));
        let dataset = dataset.select(&order);
        data::check_clusterable(&dataset, config.n_clusters)?;
        let no_images = matches!(config.augment.kind, AugmentKind::Noise | AugmentKind::TimeShift);
        let image = config.augment.image.or(dataset.image).or_else(|| {
            let found = data::guess_image(&dataset.features).filter(|_| !no_images)?;
            tracing::info!(
                "the rows look like images of {} x {} pixels and are treated as such (--set augment.kind=noise if they are \
                 not)",
                found[0],
                found[1]
            );
            Some(found)
        });
        let kind = match (config.augment.kind, image) {
            (AugmentKind::TimeShift, _) => RowKind::Series,
            (_, Some([height, width])) if height.min(width) >= data::LEAST_SIDE => RowKind::Image([height, width]),
            _ => RowKind::Table,
        };
        let (scaling, magnitude) = Scaling::new(config.data.scale, &dataset.features, kind);
        let augmentation = Augmentation::new(&config.augment, image, dataset.n_features(), magnitude)?;
        let autoencoder = new_autoencoder(config, dataset.n_features(), device, config.seed)?;
        let rows = Rows::new(&scaling.stored(dataset.features), scaling.factor(), device)?;
        let dec = Dec { scaling, autoencoder, clustering: None };
        Ok(Self {
            config,
            order,
            rows,
            labels_true: dataset.labels,
            data_name: dataset.name,
            augmentation,
            seed: config.seed,
            input_graph: None,
            dec,
            results: Vec::new(),
            stages: Vec::new(),
            assignment: None,
            rounds: 0,
            converged: false,
        })
    }

    /// Runs every stage.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the observer asked to stop, [`Error::Training`] for training that diverged or
    /// collapsed. What was reached until then is in the trainer's fields, the clusters too if self-training had begun.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let rows = self.rows.shallow_clone();
        let baseline = self.kmeans(Stage::KMeansRaw, &rows, observer)?;
        // As they are stored: a silhouette is the same at any scale.
        self.score("kmeans", rows.stored().0, &baseline.labels, baseline.inertia, observer)?;
        drop(baseline);

        let z = self.pretrain(&rows, observer)?;
        let by_kmeans =
            self.kmeans(Stage::KMeans, &Rows::from_tensor(z.shallow_clone()), observer).map_err(of_latent)?;
        self.score("autoencoder_kmeans", &z, &by_kmeans.labels, by_kmeans.inertia, observer)?;

        let (labels, centroids) = self.start(z, by_kmeans, &rows, observer)?;
        let trained = self.cluster(&rows, &centroids, labels, observer);
        match trained {
            Ok(()) => self.conclude(&rows, observer),
            Err(Error::Interrupted) => {
                if let Err(e) = self.conclude(&rows, observer) {
                    tracing::warn!("{e}");
                }
                Err(Error::Interrupted)
            }
            failed => failed,
        }
    }

    /// What `stage` is told besides its section of the recipe.
    fn stage_run(&self, stage: Stage) -> StageRun {
        StageRun {
            seed: seed_for(self.seed, &stage.to_string()),
            cuda_graphs: self.config.cuda_graphs,
            augmentation: self.augmentation_of(stage),
        }
    }

    /// How `stage` changes rows at random, if at all.
    fn augmentation_of(&self, stage: Stage) -> Option<Augmentation> {
        let Config { ref pretrain, ref finetune, ref cluster, .. } = *self.config;
        let changes = |augmentation: &Augmentation| match stage {
            Stage::Autoencoder | Stage::Pretrain(_) => pretrain.augment,
            Stage::Finetune => finetune.augment,
            Stage::KMeansRaw | Stage::KMeans => false,
            Stage::Start | Stage::OverCluster(_) | Stage::Cluster => cluster.augment.or(|| augmentation.moves()),
        };
        let augmentation = self.augmentation.filter(changes)?;
        Some(match stage {
            Stage::Cluster => augmentation.with_patches(cluster.cutmix),
            _ => augmentation,
        })
    }

    /// Pretraining and fine-tuning of the network as it is; returns the latent rows after it.
    fn pretrain(&mut self, rows: &Rows, observer: &mut dyn Observer) -> Result<Tensor> {
        match self.config.pretrain.method {
            PretrainMethod::Layerwise => self.pretrain_layers(rows, observer)?,
            PretrainMethod::EndToEnd => self.pretrain_end_to_end(rows, observer)?,
        }
        let finetune = &self.config.finetune;
        if finetune.epochs > 0 || finetune.steps.is_some() {
            let length = Length { epochs: finetune.epochs, steps: finetune.steps };
            self.train_autoencoder(Stage::Finetune, rows, &finetune.optimisation(), length, observer)?;
        }
        let z = self.dec.encode_all(rows)?;
        check_latent(&z)?;
        Ok(z)
    }

    fn pretrain_end_to_end(&mut self, rows: &Rows, observer: &mut dyn Observer) -> Result<()> {
        let config = &self.config.pretrain;
        let moved = self.augmentation_of(Stage::Autoencoder).is_some_and(|augmentation| augmentation.moves());
        let epochs = lengths::pretrain_epochs(config.epochs, moved, rows.n_rows(), config.batch_size);
        let length = Length { epochs, steps: config.steps };
        self.train_autoencoder(Stage::Autoencoder, rows, &config.optimisation(), length, observer)
    }

    /// The whole autoencoder on the mean squared error.
    fn train_autoencoder(
        &mut self,
        stage: Stage,
        rows: &Rows,
        settings: &Optimisation,
        length: Length,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.timed(stage, observer, |this, observer| {
            let run = this.stage_run(stage);
            let steps = finetune::train(stage, &this.dec.autoencoder, rows, settings, length, run, observer)?;
            Ok((steps, ()))
        })
    }

    /// The first assignment of the rows, and the means of its clusters in the latent space \[k, m\]; `z` is what `by_kmeans`
    /// clustered. The network is then the one in which the clustering was found that agrees most with the elected one.
    fn start(
        &mut self,
        z: Tensor,
        by_kmeans: KMeans,
        rows: &Rows,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<i64>, Tensor)> {
        let config = self.config;
        let k = config.n_clusters;
        let networks = self.networks();
        let over_clustering = self.over_clustering();
        if config.start.method == StartMethod::KMeans && networks == 1 && over_clustering.is_empty() {
            let centroids = tensor_of(by_kmeans.centroids.view())?.f_to_device(rows.device())?;
            return Ok((by_kmeans.labels, centroids));
        }
        // One entry for each network but the one at work, which comes after them.
        let mut earlier: Vec<(Autoencoder, Tensor)> = Vec::new();
        let (mut z, mut clusterings) = self.candidates(&over_clustering, z, rows, observer)?;
        let mut network_of = vec![0; clusterings.len()];
        for network in 1..networks {
            observer.on_event(&Event::NetworkStarted { network: network + 1, networks });
            self.seed = seed_for(config.seed, &format!("network {network}"));
            let fresh = new_autoencoder(config, self.n_features(), rows.device(), self.seed)?;
            earlier.push((std::mem::replace(&mut self.dec.autoencoder, fresh), z.shallow_clone()));
            let found =
                self.pretrain(rows, observer).and_then(|z| self.candidates(&over_clustering, z, rows, observer));
            match found {
                Ok((latent, found)) => {
                    z = latent;
                    network_of.extend(found.iter().map(|_| earlier.len()));
                    clusterings.extend(found);
                }
                Err(problem @ Error::Training(_)) => {
                    self.dec.autoencoder = earlier.swap_remove(earlier.len() - 1).0;
                    tracing::warn!("network {} of {networks} has no say in the start: {problem}", network + 1);
                }
                Err(problem) => {
                    // What is saved is the first network, which was scored.
                    self.dec.autoencoder = earlier.swap_remove(0).0;
                    return Err(problem);
                }
            }
        }
        self.seed = config.seed;
        self.input_graph = None;
        let Elected { labels, agreements, central } = elect(&clusterings, k)?;
        let chosen = network_of[central];
        tracing::debug!("agreements {agreements:.3?} of networks {network_of:?}: on with {chosen}");
        if chosen < earlier.len() {
            (self.dec.autoencoder, z) = earlier.swap_remove(chosen);
        }
        let centroids = means(&z, &labels, k)?;
        let inertia = metrics::inertia(array_of(&z)?.view(), &labels, array_of(&centroids)?.view())?;
        self.score("start", &z, &labels, inertia, observer)?;
        Ok((labels, centroids))
    }

    /// What the network as it is contributes to the first assignment: it is trained towards so many clusters in turn, and then
    /// clustered into k. Returns its latent rows after that, and the clusterings.
    fn candidates(
        &mut self,
        over_clustering: &[usize],
        z: Tensor,
        rows: &Rows,
        observer: &mut dyn Observer,
    ) -> Result<(Tensor, Vec<Vec<i64>>)> {
        let config = self.config;
        let mut z = z;
        for (place, &parts) in over_clustering.iter().enumerate() {
            z = self.over_cluster(place, parts, z, rows, observer)?;
        }
        let n_vectors = config.start.n_vectors.given();
        let found = self.assign(Stage::Start, config.n_clusters, n_vectors, &z, rows, observer)?;
        Ok((z, found))
    }

    /// How many networks vote on the first assignment.
    fn networks(&self) -> u64 {
        lengths::networks(&self.config.start, self.config.n_clusters, self.n_rows() as i64)
    }

    /// How many clusters are found before the k, in turn.
    fn over_clustering(&self) -> Vec<usize> {
        const OF_IMAGES: f64 = 5.0;
        let images = self.augmentation_of(Stage::Start).is_some_and(|a| a.is_of_images());
        let auto = || if images { vec![OF_IMAGES] } else { Vec::new() };
        let factors = self.config.start.over_clustering.clone().or(auto);
        let k = self.config.n_clusters;
        // Parts of fewer than ten rows say nothing.
        let parts = |factor: f64| ((factor * k as f64).ceil() as usize).min(self.n_rows() / 10);
        factors.into_iter().map(parts).filter(|&parts| parts > k).collect()
    }

    /// Finds `parts` clusters in the latent rows `z`, trains the encoder towards them, and returns the latent rows after it.
    fn over_cluster(
        &mut self,
        place: usize,
        parts: usize,
        z: Tensor,
        rows: &Rows,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let stage = Stage::OverCluster(parts);
        let config = self.config;
        let epochs = lengths::over_clustering_epochs(
            config.start.over_clustering_epochs,
            rows.n_rows(),
            config.cluster.batch_size,
        );
        let labels = self.assign(stage, parts, Some(parts as u64), &z, rows, observer)?.swap_remove(0);
        let layer = ClusteringLayer::new(&means(&z, &labels, parts)?, config.cluster.alpha)?;
        let plan = Plan::towards(&config.cluster, epochs);
        self.timed(stage, observer, |this, observer| {
            let mut run = this.stage_run(stage);
            run.seed = hash(run.seed ^ place as u64); // the same number of parts may come twice
            let training = cluster::SelfTraining { stage, dec: &this.dec, layer: &layer, rows, labels_true: None, run };
            let mut progress = cluster::Progress::default();
            training.train(labels, &plan, &mut progress, observer)?;
            Ok((progress.steps, ()))
        })?;
        self.dec.encode_all(rows)
    }

    /// The clusterings that the start's method finds for `clusters` clusters in the latent rows `z`: at least one, and no more
    /// where `n_vectors` is given.
    fn assign(
        &mut self,
        stage: Stage,
        clusters: usize,
        n_vectors: Option<u64>,
        z: &Tensor,
        rows: &Rows,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Vec<i64>>> {
        let config = self.config;
        let seed = seed_for(self.seed, &format!("{stage} labels"));
        self.timed(Stage::Start, observer, |this, observer| {
            observer.on_event(&Event::StageStarted { stage: Stage::Start, steps: 1 });
            let clusterings = match config.start.method {
                StartMethod::KMeans => {
                    let params = KMeansParams { n_clusters: clusters, seed, ..this.kmeans_params() };
                    let z = Rows::from_tensor(z.shallow_clone());
                    vec![kmeans::fit(&z, &params, &mut |_| go_on(observer)).map_err(of_latent)?.labels]
                }
                StartMethod::Gmm => vec![mixture::fit(z, clusters, seed)?],
                StartMethod::Spectral if clusters == 1 => vec![vec![0; this.n_rows()]],
                StartMethod::Spectral => {
                    let n_neighbours = config.start.n_neighbours;
                    let params = SpectralParams { n_clusters: clusters, n_neighbours, n_vectors, seed };
                    let augmented = match n_vectors {
                        None => this.encode_augmented(rows, seed)?,
                        Some(_) => None,
                    };
                    this.find_input_graph(rows, observer)?;
                    let views = Views { latent: z, input: this.input_graph.as_ref(), augmented: augmented.as_ref() };
                    let found = spectral::search(views, &params, &mut || go_on(observer)).map_err(of_latent)?;
                    tracing::debug!("{stage}: {:?}", found.ways);
                    found.clusterings
                }
            };
            observer.on_event(&Event::Step { done: 1 });
            Ok((1, clusterings))
        })
    }

    /// Makes the graph of the rows themselves, where it counts and there is none yet.
    fn find_input_graph(&mut self, rows: &Rows, observer: &mut dyn Observer) -> Result<()> {
        // Neighbours of rows that may be moved are those at the same place, which is meant not to matter.
        let moved = self.augmentation_of(Stage::Start).is_some_and(|augmentation| augmentation.moves());
        if moved || self.input_graph.is_some() {
            return Ok(());
        }
        let components = components(rows, &mut || go_on(observer))?;
        let n_neighbours = self.config.start.n_neighbours as i64;
        self.input_graph = Some(NeighbourGraph::new(&components, n_neighbours, &mut || go_on(observer))?);
        Ok(())
    }

    /// Augmented versions of the rows in the latent space; none where nothing is augmented. Of few rows there are several versions,
    /// since what one draw of each says is a matter of chance; of many, one version of some.
    fn encode_augmented(&self, rows: &Rows, seed: u64) -> Result<Option<Augmented>> {
        /// Augmented rows in all, unless that were more than `VERSIONS`.
        const ROWS: usize = 30_000;
        const VERSIONS: usize = 3;
        let Some(augmentation) = self.augmentation_of(Stage::Start) else { return Ok(None) };
        let chosen = sample(self.n_rows(), ROWS, seed);
        let n = chosen.len() as i64;
        let indices = index_of(&chosen)?.f_to_device(rows.device())?;
        let encode = |version: usize| {
            let mut fill = |start: i64, x: &Tensor| {
                let draw = step_key(seed, (version as i64 * n + start) as u64);
                let key = Tensor::f_full([1], draw, (Kind::Int64, rows.device()))?;
                augmentation.gather(rows, &indices.f_narrow(0, start, x.size()[0])?, &key, x)
            };
            self.dec.encode_filled(n, rows.n_features(), &mut fill)
        };
        let versions = (ROWS / chosen.len()).min(VERSIONS);
        let latent = Tensor::f_cat(&(0..versions).map(encode).collect::<Result<Vec<_>>>()?, 0)?;
        Ok(Some(Augmented { latent, of: chosen.repeat(versions) }))
    }

    fn pretrain_layers(&mut self, rows: &Rows, observer: &mut dyn Observer) -> Result<()> {
        let mut codes: Option<Rows> = None;
        let depth = self.dec.autoencoder.depth();
        for layer in 0..depth {
            let stage = Stage::Pretrain(layer + 1);
            self.timed(stage, observer, |this, observer| {
                let pair = this.dec.autoencoder.pair(layer);
                let input = codes.as_ref().unwrap_or(rows);
                // A code is no image any more: what is deeper trains on codes of the rows as they are.
                let mut run = this.stage_run(stage);
                run.augmentation = run.augmentation.filter(|_| layer == 0);
                let steps = pretrain::train_layer(stage, &pair, input, &this.config.pretrain, run, observer)?;
                if layer + 1 < depth {
                    codes = Some(pretrain::codes(&pair, input, this.dec.autoencoder.widest())?);
                }
                Ok((steps, ()))
            })?;
        }
        Ok(())
    }

    fn kmeans(&mut self, stage: Stage, rows: &Rows, observer: &mut dyn Observer) -> Result<KMeans> {
        self.timed(stage, observer, |this, observer| {
            let seed = seed_for(this.config.seed, &stage.to_string());
            let params = KMeansParams { seed, ..this.kmeans_params() };
            observer.on_event(&Event::StageStarted { stage, steps: params.n_init as u64 });
            let started = Instant::now();
            let fitted = kmeans::fit(rows, &params, &mut |progress| {
                if let Progress::Restart { done, inertia } = progress {
                    let (restart, seconds) = (done as u64, started.elapsed().as_secs_f64());
                    observer.on_event(&Event::Restart { stage, restart, inertia, seconds });
                    observer.on_event(&Event::Step { done: restart });
                }
                go_on(observer)
            })?;
            Ok((params.n_init as u64, fitted))
        })
    }

    fn kmeans_params(&self) -> KMeansParams {
        let Config { n_clusters, ref kmeans, .. } = *self.config;
        KMeansParams {
            n_clusters,
            n_init: kmeans.n_init,
            max_iter: kmeans.max_iter,
            tol: kmeans.tol,
            seed: 0,
            engine: kmeans.engine,
        }
    }

    fn cluster(
        &mut self,
        rows: &Rows,
        centroids: &Tensor,
        labels: Vec<i64>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let layer = ClusteringLayer::new(centroids, self.config.cluster.alpha)?;
        let mut progress = cluster::Progress::default();
        let trained = self.timed(Stage::Cluster, observer, |this, observer| {
            let run = this.stage_run(Stage::Cluster);
            let labels_true = this.labels_true.as_deref();
            let stage = Stage::Cluster;
            let training = cluster::SelfTraining { stage, dec: &this.dec, layer: &layer, rows, labels_true, run };
            let plan = Plan::new(&this.config.cluster, rows.n_rows());
            let interrupted = match training.train(labels, &plan, &mut progress, observer) {
                Err(Error::Interrupted) => true, // the stage counts all the same: its result is kept
                trained => trained.map(|()| false)?,
            };
            Ok((progress.steps, interrupted))
        });
        self.rounds = progress.rounds;
        self.converged = progress.converged;
        let interrupted = trained?; // weights that diverged are no clustering
        self.dec.clustering = Some(layer);
        if interrupted {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Assigns every row by the weights as they are now, and scores that.
    fn conclude(&mut self, rows: &Rows, observer: &mut dyn Observer) -> Result<()> {
        let Some(layer) = &self.dec.clustering else { return Ok(()) };
        let z = self.dec.encode_all(rows)?;
        let log_q = layer.log_soft_assign_all(&z)?;
        if !bool::try_from(log_q.f_isfinite()?.f_all()?)? {
            self.dec.clustering = None; // weights that diverged are no clustering
            return Err(Error::Training(cluster::diverged()));
        }
        let (confidence, labels) = log_q.f_exp()?.f_max_dim(1, false)?;
        let labels: Vec<i64> = values_of(&labels)?;
        let confidence: Vec<f32> = values_of(&confidence)?;
        let inertia = metrics::inertia(array_of(&z)?.view(), &labels, array_of(layer.centroids())?.view())?;

        let mut by_row: Vec<usize> = (0..self.order.len()).collect();
        by_row.sort_unstable_by_key(|&i| self.order[i]);
        self.assignment = Some(Assignment {
            rows: by_row.iter().map(|&i| self.order[i]).collect(),
            labels: by_row.iter().map(|&i| labels[i]).collect(),
            confidence: by_row.iter().map(|&i| confidence[i]).collect(),
        });
        self.score("dec", &z, &labels, inertia, observer)?;
        self.check_clusters(labels)
    }

    /// Refuses a single cluster, warns of empty ones.
    fn check_clusters(&self, mut labels: Vec<i64>) -> Result<()> {
        let (n, k) = (labels.len(), self.config.n_clusters);
        labels.sort_unstable();
        labels.dedup();
        if k > 1 && labels.len() == 1 {
            return Err(Error::Training(format!(
                "self-training collapsed: all {n} rows ended in cluster {}; lower its rate (--set cluster.lr={:?})",
                labels[0],
                self.config.cluster.lr / 10.0
            )));
        }
        if labels.len() < k {
            tracing::warn!("{} of the {k} clusters ended empty; fewer (--clusters) may fit the data", k - labels.len());
        }
        Ok(())
    }

    fn score(
        &mut self,
        method: &'static str,
        space: &Tensor,
        labels: &[i64],
        inertia: f64,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let against = self.labels_true.as_deref().map(|t| Contingency::new(t, labels)).transpose()?;
        let silhouette = match against {
            Some(_) => None,
            None => metrics::silhouette(space, labels, seed_for(self.config.seed, "silhouette"))?,
        };
        let needs = |stage: &StageTime| match method {
            "kmeans" => stage.name == "kmeans_raw",
            _ => stage.name != "kmeans_raw",
        };
        let result = MethodResult {
            method,
            acc: against.as_ref().map(Contingency::accuracy),
            nmi: against.as_ref().map(Contingency::normalized_mutual_info),
            ari: against.as_ref().map(Contingency::adjusted_rand_index),
            silhouette,
            inertia,
            seconds: self.stages.iter().filter(|stage| needs(stage)).map(|stage| stage.seconds).sum(),
        };
        observer.on_event(&Event::Scored(&result));
        self.results.push(result);
        Ok(())
    }

    /// Runs a stage, which returns its steps and what it found, and keeps the time it took.
    fn timed<T>(
        &mut self,
        stage: Stage,
        observer: &mut dyn Observer,
        run: impl FnOnce(&mut Self, &mut dyn Observer) -> Result<(u64, T)>,
    ) -> Result<T> {
        let started = Instant::now();
        let (steps, found) = run(self, observer)?;
        let time = StageTime { name: stage.to_string(), seconds: started.elapsed().as_secs_f64(), steps };
        observer.on_event(&Event::StageFinished { stage, time: &time });
        self.stages.push(time);
        Ok(found)
    }

    /// Rows that are clustered.
    pub fn n_rows(&self) -> usize {
        self.order.len()
    }

    /// What the data are called.
    pub fn data_name(&self) -> &str {
        &self.data_name
    }

    /// Features of a row.
    pub fn n_features(&self) -> usize {
        self.rows.n_features() as usize
    }
}

/// A network for rows of `n_features` values, with the weights that follow from `seed`.
fn new_autoencoder(config: &Config, n_features: usize, device: Device, seed: u64) -> Result<Autoencoder> {
    let init = match config.model.init {
        WeightInit::Normal => Init::Normal(config.model.init_std),
        WeightInit::FanIn => Init::FanIn,
    };
    tch::manual_seed(seed_for(seed, "weights") as i64);
    Autoencoder::new(&config.widths(n_features as i64), device, init)
}

/// What the observer has to say, as the searches for clusters ask for it.
fn go_on(observer: &mut dyn Observer) -> ControlFlow<()> {
    if observer.should_stop() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// The means \[k, m\] of the latent rows of each cluster; that of all rows for a cluster without any.
fn means(z: &Tensor, labels: &[i64], k: usize) -> Result<Tensor> {
    let (_, m) = z.size2()?;
    let options = (Kind::Float, z.device());
    let labels = Tensor::f_from_slice(labels)?.f_to_device(z.device())?;
    let sums = Tensor::f_zeros([k as i64, m], options)?.f_index_add(0, &labels, z)?;
    let ones = Tensor::f_ones([labels.size()[0]], options)?;
    let counts = Tensor::f_zeros([k as i64], options)?.f_index_add(0, &labels, &ones)?.f_unsqueeze(1)?;
    let all = z.f_mean_dim(0, true, Kind::Float)?;
    Ok(sums.f_div(&counts.f_clamp_min(1.0)?)?.f_add(&all.f_mul(&counts.f_eq(0.0)?.f_to_kind(Kind::Float)?)?)?)
}

/// Latent rows that cannot be clustered are the network's fault, not the data's.
fn of_latent(error: Error) -> Error {
    match error {
        Error::Rows(problem) => Error::Training(format!("the autoencoder collapsed: among its latent rows, {problem}")),
        other => other,
    }
}

/// Refuses latent rows that k-means could only fail on.
fn check_latent(z: &Tensor) -> Result<()> {
    if !bool::try_from(z.f_isfinite()?.f_all()?)? {
        return Err(Error::Training(
            "the autoencoder diverged: its latent rows are not finite; lower the rate (--set finetune.lr=…)".to_owned(),
        ));
    }
    let spread = z.f_amax([0], false)?.f_sub(&z.f_amin([0], false)?)?;
    if f64::try_from(spread.f_max()?)? == 0.0 {
        return Err(Error::Training(
            "the autoencoder collapsed: all latent rows are the same; train it longer (--set pretrain.epochs=…) or scale \
             the rows up (--set data.scale=…)"
                .to_owned(),
        ));
    }
    Ok(())
}

/// A seed of its own for every purpose, so that a longer stage does not change what the next one draws.
///
/// FNV-1a over the purpose, mixed with the run's seed by SplitMix64's finaliser.
fn seed_for(seed: u64, purpose: &str) -> u64 {
    let name =
        purpose.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    hash(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{ClusterConfig, Count, ObjectiveKind, Switch};
    use crate::data::Features;
    use crate::model::autoencoder::Activation;
    use tch::Kind;

    #[test]
    fn seeds_differ_by_run_and_by_purpose() {
        let all: std::collections::HashSet<_> = (0..50)
            .flat_map(|seed| ["weights", "shuffle", "finetune"].map(|purpose| seed_for(seed, purpose)))
            .collect();
        assert_eq!(all.len(), 150);
    }

    #[test]
    fn self_training_changes_rows_where_values_are_moved_or_as_it_is_told() {
        let features = |columns| Features::F32(ndarray::Array2::from_shape_fn((9, columns), |(i, j)| (i + j) as f32));
        let dataset =
            |columns, image| Dataset { features: features(columns), labels: None, name: String::new(), image };
        let (table, images) = (dataset(4, None), dataset(64, Some([8, 8])));
        let mut config = Config { n_clusters: 2, ..Config::default() };
        config.model.hidden = vec![2];
        let changes = |stage, dataset, augment| {
            let mut config = config.clone();
            config.cluster.augment = augment;
            Trainer::new(&config, dataset, Device::Cpu).unwrap().augmentation_of(stage).is_some()
        };
        for stage in [Stage::Start, Stage::OverCluster(4), Stage::Cluster] {
            assert!(changes(stage, &images, Switch::Auto) && !changes(stage, &table, Switch::Auto), "{stage}");
            assert!(changes(stage, &table, Switch::Given(true)) && !changes(stage, &images, Switch::Given(false)));
        }
        assert!(changes(Stage::Autoencoder, &table, Switch::Auto));
        config.cluster.cutmix = 0.5;
        let trainer = Trainer::new(&config, &images, Device::Cpu).unwrap();
        let patches =
            |stage| matches!(trainer.augmentation_of(stage), Some(Augmentation::Warp(w)) if w.patch_width == 4);
        assert_eq!(
            [Stage::Autoencoder, Stage::Start, Stage::OverCluster(4), Stage::Cluster].map(patches),
            [false, false, false, true]
        );
        config.augment.kind = AugmentKind::TimeShift;
        config.pretrain.augment = false;
        let trainer = Trainer::new(&config, &table, Device::Cpu).unwrap();
        let stages = [Stage::Autoencoder, Stage::Finetune, Stage::Cluster];
        assert_eq!(stages.map(|stage| trainer.augmentation_of(stage).is_some()), [false, true, true]);
    }

    /// The losses of the epochs, and that of each round.
    #[derive(Default)]
    struct Losses(Vec<f64>);

    impl Observer for Losses {
        fn on_event(&mut self, event: &Event) {
            if let Event::Epoch { loss, .. } | Event::Round { loss, .. } = event {
                self.0.push(*loss);
            }
        }
    }

    /// A network that the step engine does not know goes through every stage all the same.
    #[test]
    fn an_unknown_activation_is_trained_by_autograd() {
        tch::manual_seed(1);
        let features = ndarray::Array2::from_shape_fn((60, 8), |(i, j)| ((i % 3 * 40 + i * j) % 120) as u8);
        let rows = Rows::new(&Features::U8(features), 0.02, Device::Cpu).unwrap();
        let tanh = Activation::Function(Tensor::tanh);
        let autoencoder = Autoencoder::with_activation(&[8, 6, 2], Device::Cpu, Init::Normal(0.3), tanh).unwrap();
        let run = StageRun { seed: 4, cuda_graphs: false, augmentation: None };
        let config = crate::config::Recipe::load("notebook").unwrap().config;

        let falls =
            |losses: &Losses| losses.0.last() < losses.0.first() && losses.0.iter().all(|loss| loss.is_finite());
        let (pretraining, finetuning) = (config.pretrain, config.finetune);
        let pair = autoencoder.pair(0);
        let mut losses = Losses::default();
        pretrain::train_layer(Stage::Pretrain(1), &pair, &rows, &pretraining, run, &mut losses).unwrap();
        assert!(falls(&losses), "{:?}", losses.0);
        let codes = pretrain::codes(&pair, &rows, 8).unwrap();
        assert!(codes.to_tensor().unwrap().allclose(&pair.encode(&rows.to_tensor().unwrap()), 1e-5, 1e-6, false));
        let mut losses = Losses::default();
        let length = Length { epochs: finetuning.epochs, steps: None };
        let settings = finetuning.optimisation();
        finetune::train(Stage::Finetune, &autoencoder, &rows, &settings, length, run, &mut losses).unwrap();
        assert!(falls(&losses), "{:?}", losses.0);

        let dec = Dec { scaling: Scaling::Factor(0.02), autoencoder, clustering: None };
        let z = dec.encode_all(&rows).unwrap();
        for objective in [ObjectiveKind::Dec, ObjectiveKind::Idec, ObjectiveKind::Aspc] {
            let (stage, dec, rows) = (Stage::Cluster, &dec, &rows);
            let layer = ClusteringLayer::new(&z.narrow(0, 0, 3), 1.0).unwrap();
            let training = cluster::SelfTraining { stage, dec, layer: &layer, rows, labels_true: None, run };
            let mut progress = cluster::Progress::default();
            let max_rounds = Count::Given(3);
            let config = ClusterConfig {
                tol: 0.0,
                objective,
                max_rounds,
                handover_epochs: Count::Given(2),
                ..config.cluster.clone()
            };
            let plan = Plan::new(&config, rows.n_rows());
            let before = (layer.centroids().copy(), dec.encode_all(rows).unwrap());
            training.train(vec![0; 60], &plan, &mut progress, &mut Losses::default()).unwrap();
            assert_eq!(progress.rounds, 3);
            assert!(before.1 != dec.encode_all(rows).unwrap(), "{objective:?}: the encoder was not trained");
            let fixed = objective == ObjectiveKind::Aspc;
            assert_eq!(before.0 == *layer.centroids(), fixed, "{objective:?}: the centroids");
        }
    }

    #[test]
    fn means_are_of_the_clusters_and_of_all_where_there_is_no_row() {
        let z = Tensor::from_slice(&[0.0f32, 2.0, 4.0, 10.0]).view([4, 1]);
        let found: Vec<f32> = values_of(&means(&z, &[0, 0, 2, 2], 3).unwrap()).unwrap();
        assert_eq!(found, [1.0, 4.0, 7.0]);
    }

    #[test]
    fn a_latent_without_spread_is_a_collapse_and_nan_a_divergence() {
        let device = Device::Cpu;
        let same = Tensor::ones([4, 2], (Kind::Float, device));
        assert!(check_latent(&same).unwrap_err().to_string().contains("collapsed"));
        let nan = Tensor::full([4, 2], f64::NAN, (Kind::Float, device));
        assert!(check_latent(&nan).unwrap_err().to_string().contains("diverged"));
        check_latent(&Tensor::randn([4, 2], (Kind::Float, device))).unwrap();
    }
}
