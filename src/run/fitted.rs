//! What a run comes to: a model that predicts, and the clusters of the rows that it was fitted to.

use std::path::Path;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::names::{SUMMARY, WEIGHTS};
use super::saved::read_config;
use crate::config::Config;
use crate::control::{Control, MethodResult, Rollback, StageTime};
use crate::data::{self, values_of, Channels, Dataset, Features, Intake, RowKind, RowRule, Rows, Scaling};
use crate::error::{Error, Result};
use crate::model::profile::second_and_entropy;
use crate::model::{encode_all, set_parameters, ClusterNames, ClusteringLayer, Groups, Network, Profile};
use crate::output::{to_csv, Chunk, Header, Scores, TableWriter};
use crate::state::{new_network, State};

/// Which cluster each row belongs to, in the order of the input's rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignment {
    /// The input's row numbers, ascending; all of them unless `data.limit` chose some.
    pub rows: Vec<usize>,
    /// The cluster of each, 0 to k − 1.
    pub labels: Vec<i64>,
    /// The soft assignment q to that cluster.
    pub confidence: Vec<f32>,
    /// The cluster with the next largest q; −1 where there is one cluster alone.
    pub second: Vec<i64>,
    /// The entropy −Σ q ln q, in nats.
    pub entropy: Vec<f32>,
    /// How far out each row is in its cluster, as a share of the training rows, 0 to 1 ([`crate::model::outlier`]); none where the
    /// model is of a version that did not keep that.
    pub outlier: Option<Vec<f32>>,
    /// The rows' names, or none.
    pub ids: Vec<String>,
    /// What the clusters are called, by number ([`ClusterNames::of_all`]), or none.
    pub names: Vec<String>,
}

/// The shape of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Height and width.
    pub shape: [usize; 2],
    /// Their channels.
    pub channels: Channels,
}

impl Assignment {
    /// Of rows in the order of z \[n, m\] and q \[n, k\], numbered from 0, without names; with the centroids of the clusters, and how they
    /// were joined if they were.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn of(
        z: &Tensor,
        q: &Tensor,
        labels: Vec<i64>,
        (centroids, groups): (&Tensor, Option<&Groups>),
        profile: Option<&Profile>,
    ) -> Result<Self> {
        let chosen = Tensor::f_from_slice(&labels)?.f_to_device(q.device())?.f_unsqueeze(1)?;
        let confidence = values_of(&q.f_gather(1, &chosen, false)?.f_squeeze_dim(1)?)?;
        let (second, entropy) = second_and_entropy(q, &labels)?;
        let outlier = profile.map(|profile| profile.scores(z, &labels, centroids, groups)).transpose()?;
        Ok(Self {
            rows: (0..labels.len()).collect(),
            labels,
            confidence,
            second,
            entropy,
            outlier,
            ids: Vec::new(),
            names: Vec::new(),
        })
    }

    /// The rows at these places, which have these numbers.
    pub(super) fn at(&self, places: &[usize], rows: Vec<usize>) -> Self {
        fn at<T: Clone>(values: &[T], places: &[usize]) -> Vec<T> {
            places.iter().map(|&place| values[place].clone()).collect()
        }
        Self {
            rows,
            labels: at(&self.labels, places),
            confidence: at(&self.confidence, places),
            second: at(&self.second, places),
            entropy: at(&self.entropy, places),
            outlier: self.outlier.as_ref().map(|outlier| at(outlier, places)),
            ids: if self.ids.is_empty() { Vec::new() } else { at(&self.ids, places) },
            names: self.names.clone(),
        }
    }

    /// What a table of it holds, for a model of k clusters and m latent values.
    pub fn header(&self, [n_clusters, n_latent]: [usize; 2]) -> Header {
        let scores = Scores { second: true, entropy: true, outlier: self.outlier.is_some() };
        let (has_ids, names) = (!self.ids.is_empty(), self.names.clone());
        Header { has_ids, n_clusters, names, n_latent, embedding: false, memberships: false, scores }
    }

    /// Writes all of it to `table`, with the latent rows and soft assignments where these are given.
    ///
    /// # Errors
    /// As for [`TableWriter::write`].
    pub fn write(&self, table: &mut dyn TableWriter, z: Option<&[f32]>, q: Option<&[f32]>) -> Result<()> {
        table.write(&Chunk { z, q, ..self.chunk(&self.row_numbers()) })
    }

    /// As CSV: `row,cluster,confidence,second,entropy,outlier`, a line for each of the rows, in their order; with `id` behind `row` where
    /// rows have names, and `name` behind `cluster` where clusters have.
    ///
    /// # Errors
    /// As for [`to_csv`].
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        to_csv(self.header([0, 0]), &self.chunk(&self.row_numbers()))
    }

    fn row_numbers(&self) -> Vec<u64> {
        self.rows.iter().map(|&row| row as u64).collect()
    }

    fn chunk<'a>(&'a self, rows: &'a [u64]) -> Chunk<'a> {
        Chunk {
            rows,
            ids: Some(&self.ids[..]).filter(|ids| !ids.is_empty()),
            cluster: &self.labels,
            confidence: &self.confidence,
            second: Some(&self.second),
            entropy: Some(&self.entropy),
            outlier: self.outlier.as_deref(),
            z: None,
            q: None,
        }
    }
}

impl Image {
    /// That of rows of this kind.
    pub fn of_kind(kind: RowKind) -> Option<Self> {
        match kind {
            RowKind::Image(shape) => Some(Self { shape, channels: Channels::default() }),
            RowKind::Colour(shape, channels) => Some(Self { shape, channels }),
            RowKind::Series | RowKind::Table => None,
        }
    }

    /// From the `rows` of a summary.
    fn of_summary(rows: &serde_json::Value) -> Option<Self> {
        let shape = |value: &serde_json::Value| serde_json::from_value(value.clone()).ok();
        match rows["kind"].as_str()? {
            "image" => Some(Self { shape: shape(&rows["shape"])?, channels: Channels::default() }),
            "colour" => {
                let channels = &rows["shape"][1];
                let count = usize::try_from(channels["count"].as_u64()?).ok()?;
                Some(Self {
                    shape: shape(&rows["shape"][0])?,
                    channels: Channels::new(count, channels["first"].as_bool()?),
                })
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([height, width], channels) = (self.shape, self.channels);
        match (channels.count, channels.first) {
            (1, _) => write!(f, "{height} x {width}"),
            (count, true) => write!(f, "{count} x {height} x {width} (channels first)"),
            (count, false) => write!(f, "{height} x {width} x {count} (channels last)"),
        }
    }
}

/// A network with centroids in its latent space, and what it does to raw rows.
#[derive(Debug)]
pub struct Model {
    /// What is done to raw rows as they are read.
    pub intake: Intake,
    /// The names of the columns that it was trained on, or none.
    pub columns: Vec<String>,
    /// What images the rows are, if they are.
    pub image: Option<Image>,
    /// d, the number of features that a row has.
    pub n_features: i64,
    /// What is done to rows before the encoder.
    pub scaling: Scaling,
    /// Encoder and decoder.
    pub network: Box<dyn Network>,
    /// The centroids.
    pub layer: ClusteringLayer,
    /// What the training rows were like; `None` of a version that did not keep that.
    pub profile: Option<Profile>,
    /// What people call the clusters.
    pub names: ClusterNames,
}

impl Model {
    /// Refuses images of another shape than those that the model was trained on.
    ///
    /// # Errors
    /// [`Error::Rows`] with both shapes.
    pub fn check_shape(&self, dataset: &Dataset) -> Result<()> {
        let (Some(trained), Some(shape)) = (self.image, dataset.image) else { return Ok(()) };
        let found = Image { shape, channels: dataset.channels };
        if trained == found {
            return Ok(());
        }
        Err(Error::Rows(format!("{} holds images of {found}, but the model was trained on {trained}", dataset.name)))
    }

    /// z \[n, m\] and q \[n, k\] of rows that were read with this model's [`Intake`].
    ///
    /// # Errors
    /// [`Error::Rows`] for rows of another width, or a libtorch failure.
    pub fn transform(&self, features: &Features) -> Result<(Tensor, Tensor)> {
        let rows = Rows::new(features, &self.scaling, self.network.device())?;
        let z = encode_all(&*self.network, &rows, &Control::ignored())?;
        let q = self.layer.soft_assign_all(&z)?;
        Ok((z, q))
    }

    /// The cluster of each raw row, and its q.
    ///
    /// # Errors
    /// As for [`Model::transform`].
    pub fn predict(&self, features: &Features) -> Result<Assignment> {
        let (z, q) = self.transform(features)?;
        self.assign(&z, &q)
    }

    /// The same of rows that [`Model::transform`] has been given.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn assign(&self, z: &Tensor, q: &Tensor) -> Result<Assignment> {
        let labels = values_of(&q.f_max_dim(1, false)?.1)?;
        let centroids = (self.layer.centroids(), self.layer.groups());
        let assignment = Assignment::of(z, q, labels, centroids, self.profile.as_ref())?;
        Ok(Assignment { names: self.names.of_all(self.layer.n_clusters()), ..assignment })
    }

    /// The numbers of clusters and of latent values: k and m, or k' and m where clusters were joined.
    pub fn shape(&self) -> [usize; 2] {
        [self.layer.n_clusters(), self.layer.centroids().size()[1] as usize]
    }

    /// Reads the model of a finished run back from its directory.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file that is missing or is not what a run writes.
    pub fn load(run: &Path, device: Device) -> Result<Self> {
        let read = |name: &str| {
            let path = run.join(name);
            std::fs::read(&path).map_err(|e| Error::data(&path, format!("cannot be read: {e}")))
        };
        let config = read_config(run)?;
        let summary: Summary = serde_json::from_slice(&read(SUMMARY)?)
            .map_err(|e| Error::data(run.join(SUMMARY), format!("is no summary of a run: {e}")))?;
        let path = run.join(WEIGHTS);
        let named = Tensor::read_safetensors(&path).map_err(|e| Error::data(&path, format!("cannot be read: {e}")))?;
        let model = Self::from_weights(&path, &named, &config, summary, device).map_err(|e| e.in_file(&path))?;
        model.names.check(model.layer.n_clusters()).map_err(|problem| Error::data(run.join(SUMMARY), problem))?;
        Ok(model)
    }

    /// The model whose tensors `named` have been read from `path`.
    fn from_weights(
        path: &Path,
        named: &[(String, Tensor)],
        config: &Config,
        summary: Summary,
        device: Device,
    ) -> Result<Self> {
        let tensor = |name: &str| named.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor);
        let missing = |name: &str| Error::data(path, format!("has no {name}: the run had not come so far"));

        let widths = widths(named).ok_or_else(|| missing("encoder"))?;
        if widths.first() != Some(&(summary.n_features as i64)) {
            let problem = format!("is of {:?} features, and the summary says {}", widths.first(), summary.n_features);
            return Err(Error::data(path, problem));
        }
        let network = new_network(config, &widths, device, config.seed)?;
        for (name, parameter) in network.named_parameters() {
            let value = tensor(&name).ok_or_else(|| missing(&name))?;
            set_parameters(&[parameter], &[value.shallow_clone()])?;
        }
        let not =
            |name: &str, shape: String| Error::data(path, format!("{name} is not {shape}, as the encoder has it"));
        let centroids = tensor("centroids").ok_or_else(|| missing("centroids"))?.f_to_device(device)?;
        if !matches!(centroids.size()[..], [k, m] if k > 0 && Some(&m) == widths.last()) {
            return Err(not("centroids", format!("[clusters, {}]", widths.last().unwrap_or(&0))));
        }
        let layer = ClusteringLayer::new(&centroids, config.cluster.alpha)?;
        let layer = match tensor("groups") {
            Some(groups) => layer.with_groups(Groups::of_matrix(groups)?)?,
            None => layer,
        };
        let row = |name: &str| tensor(&format!("input.{name}")).map(values_of::<f32>).transpose();
        let scaling = match (summary.scale, row("mean")?, row("deviation")?) {
            (_, Some(mean), Some(deviation)) => Scaling::Centre {
                mean: mean.into(),
                deviation: deviation.into(),
                rows: match (row("total")?.and_then(|total| total.first().copied()), row("unit")?) {
                    (Some(total), _) => RowRule::Counts(f64::from(total)),
                    (None, Some(_)) => RowRule::Unit,
                    (None, None) => RowRule::Plain,
                },
            },
            (Some(factor), ..) => Scaling::Factor(factor),
            _ => return Err(missing("input.mean")),
        };
        if let Scaling::Centre { mean, deviation, .. } = &scaling {
            if [mean.len(), deviation.len()] != [summary.n_features; 2] {
                return Err(not("input.mean or input.deviation", format!("[1, {}]", summary.n_features)));
            }
        }
        let intake = Intake::from_tensors(|name| tensor(&format!("input.{name}")))?;
        let image = Image::of_summary(&summary.rows);
        let n_features = summary.n_features as i64;
        let profile = Profile::from_tensors(|name| tensor(&format!("training.{name}")))?;
        let (columns, names) = (summary.columns, summary.names);
        Ok(Self { intake, columns, image, n_features, scaling, network, layer, profile, names })
    }
}

/// The widths of the encoder whose weights these are, from the rows to the latent.
pub(crate) fn widths(named: &[(String, Tensor)]) -> Option<Vec<i64>> {
    let mut layers: Vec<(usize, Vec<i64>)> = Vec::new();
    for (name, tensor) in named {
        let layer = name.strip_prefix("encoder.").and_then(|rest| rest.strip_suffix(".weight"));
        if let Some(Ok(layer)) = layer.map(str::parse) {
            layers.push((layer, tensor.size()));
        }
    }
    layers.sort();
    let mut widths = vec![*layers.first()?.1.get(1)?];
    for (_, shape) in layers {
        let &[to, from] = shape.as_slice() else { return None };
        // A tensor that is empty has any width without taking a byte.
        if widths.last() != Some(&from) {
            return None;
        }
        widths.push(to);
    }
    Some(widths)
}

/// What of `summary.json` a model needs.
#[derive(Deserialize)]
struct Summary {
    n_features: usize,
    scale: Option<f64>,
    #[serde(default)]
    columns: Vec<String>,
    #[serde(default)]
    rows: serde_json::Value,
    #[serde(default)]
    names: ClusterNames,
}

/// A finished run.
#[derive(Debug)]
pub struct Fitted {
    /// What predicts.
    pub model: Model,
    /// The clusters of the rows.
    pub assignment: Assignment,
    /// The soft assignment \[n, k\], in the order of `assignment.rows`.
    pub q: Tensor,
    /// The latent rows \[n, m\], in the same order.
    pub z: Tensor,
    /// Scores of every method.
    pub results: Vec<MethodResult>,
    /// Time and steps of every stage.
    pub stages: Vec<StageTime>,
    /// Refreshes of p that self-training has made.
    pub rounds: u64,
    /// Whether it reached `cluster.tol`.
    pub converged: bool,
    /// Returns to an earlier boundary after training diverged.
    pub rollbacks: Vec<Rollback>,
}

impl Fitted {
    /// The clusters of rows that were not trained on.
    ///
    /// # Errors
    /// As for [`Model::transform`].
    pub fn predict(&self, features: &Features) -> Result<Assignment> {
        self.model.predict(features)
    }
}

/// What a run has reached, finished or not: what its directory is written from.
#[derive(Debug)]
pub struct Reached<'a> {
    /// What is done to raw rows as they are read.
    pub intake: &'a Intake,
    /// What is done to raw rows then.
    pub scaling: &'a Scaling,
    /// The network, once there is one.
    pub network: Option<&'a dyn Network>,
    /// The centroids, once self-training has begun.
    pub layer: Option<&'a ClusteringLayer>,
    /// What the rows are like around them.
    pub profile: Option<&'a Profile>,
    /// z \[n, m\] and q \[n, k\], in the run's order of rows, and the places of the input's rows in it.
    pub tables: Option<(&'a Tensor, &'a Tensor, Vec<usize>)>,
    /// The columns' names, or none.
    pub columns: &'a [String],
    /// The clusters, once they are known.
    pub assignment: Option<&'a Assignment>,
    /// Results, stages, rounds, rollbacks, warnings.
    pub state: &'a State,
}

impl Reached<'_> {
    /// Every tensor with its PyTorch-style name: `encoder.0.weight` …, `decoder.0.weight` …, `centroids`; where clusters were joined
    /// `groups` ([`Groups`], \[k, k'\] of 0 and 1); and where rows are
    /// centred, `input.mean` and `input.deviation`, of counts `input.total`. Float32 on the CPU. Of what was done on reading,
    /// `input.offset` (float64 \[d\]), `input.selected` (int64 \[d\]) and `input.selected_of` (int64 \[1\], the file's columns). Of the
    /// training rows, `training.medians`, `training.quantiles`, `training.shares`, `training.confidence` ([`Profile`]).
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn named_tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let Some(network) = self.network else { return Ok(Vec::new()) };
        let mut named = network.named_parameters();
        if let Some(layer) = self.layer {
            named.push(("centroids".to_owned(), layer.centroids().shallow_clone()));
            if let Some(groups) = layer.groups() {
                named.push(("groups".to_owned(), groups.matrix()?));
            }
        }
        for (name, row) in self.scaling.tensors()? {
            named.push((format!("input.{name}"), row.f_squeeze_dim(0)?));
        }
        let on_cpu = |tensor: Tensor| -> Result<Tensor> {
            Ok(tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?)
        };
        let mut named: Vec<(String, Tensor)> =
            named.into_iter().map(|(name, tensor)| Ok((name, on_cpu(tensor)?))).collect::<Result<_>>()?;
        for (name, tensor) in self.intake.tensors()? {
            named.push((format!("input.{name}"), tensor));
        }
        for (name, tensor) in self.profile.map(Profile::tensors).transpose()?.into_iter().flatten() {
            named.push((format!("training.{name}"), tensor));
        }
        Ok(named)
    }
}

/// The inverse of the order in which a run has its rows: the places of the input's rows in theirs, and their numbers.
pub(super) fn input_order(order: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut places: Vec<usize> = (0..order.len()).collect();
    places.sort_unstable_by_key(|&i| order[i]);
    let rows = places.iter().map(|&i| order[i]).collect();
    (places, rows)
}

/// `tensor`'s rows at these places.
pub(super) fn rows_at(tensor: &Tensor, places: &[usize]) -> Result<Tensor> {
    let index = data::index_of(places)?.f_to_device(tensor.device())?;
    Ok(tensor.f_index_select(0, &index)?)
}
