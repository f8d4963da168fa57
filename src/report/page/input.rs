//! What a report is made of: plain data that the caller fills from a run.
//!
//! A *row number* is the row's number in the data, from 0. A *place* is a point's place in [`Points::rows`]. Clusters are 0 to
//! k − 1. Text may hold anything: the page shows it as text.

/// All that the page tells. What is `None` or empty is left out of the page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The run: data, recipe, machine.
    pub run: Run,
    /// What the verdict is composed of.
    pub facts: Facts,
    /// Scores, a row for each method, in the order of the run.
    pub scores: Scores,
    /// The rows on the map.
    pub points: Option<Points>,
    /// The clusters, in the order of their numbers.
    pub clusters: Vec<Cluster>,
    /// The tree that joins the clusters, lowest join first, as in SciPy's linkage matrix.
    pub dendrogram: Vec<Merge>,
    /// Clusters against classes, where the rows have labels.
    pub contingency: Option<Contingency>,
    /// Rows and what the autoencoder makes of them. For images.
    pub reconstructions: Vec<Reconstruction>,
    /// What was measured while the run went on.
    pub curves: Vec<Curve>,
    /// Where stages begin, on the curves' x axis.
    pub stage_marks: Vec<StageMark>,
    /// What was found in the data before training.
    pub health: Vec<Finding>,
    /// Several runs beside each other.
    pub runs: Option<Runs>,
}

/// The run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// Name of the data.
    pub data: String,
    /// Name of the recipe.
    pub recipe: String,
    /// The recipe with every setting resolved, as TOML.
    pub recipe_toml: String,
    /// Seed.
    pub seed: u64,
    /// Device, such as `cpu`.
    pub device: String,
    /// Threads.
    pub threads: usize,
    /// Programs and their versions: (`dec`, `0.1.0`), (`libtorch`, `2.11.0`).
    pub versions: Vec<(String, String)>,
    /// Fingerprint of the data.
    pub fingerprint: Option<String>,
    /// When the run ended, as it is to be shown.
    pub ended: Option<String>,
    /// Duration in seconds.
    pub seconds: f64,
    /// Stages, in order.
    pub stages: Vec<Stage>,
    /// Rows of the data.
    pub n_rows: u64,
    /// Columns of the data.
    pub n_features: u64,
    /// What the rows are.
    pub kind: RowKind,
    /// How the run ended.
    pub status: Status,
    /// Warnings, in the order in which they came.
    pub warnings: Vec<String>,
}

/// A stage of the run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stage {
    /// Name.
    pub name: String,
    /// Duration in seconds.
    pub seconds: f64,
    /// Optimiser steps, or other steps of its own.
    pub steps: u64,
}

/// What the rows are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowKind {
    /// Rows of a table.
    #[default]
    Table,
    /// Images of one size.
    Images {
        /// Pixels from top to bottom.
        height: u32,
        /// Pixels from left to right.
        width: u32,
        /// Values a pixel.
        channels: u32,
    },
    /// Counts, such as genes in cells.
    Counts,
    /// Series, such as spectra.
    Series,
}

/// How the run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Status {
    /// As planned.
    #[default]
    Finished,
    /// It was stopped; the report shows what there was.
    Interrupted,
    /// Training collapsed or failed.
    Collapsed {
        /// What happened.
        message: String,
    },
}

/// What the verdict is composed of, beside scores and sizes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Whether self-training ended by itself because the clusters settled. `None`: not known.
    pub converged: Option<bool>,
    /// Rounds of self-training.
    pub rounds: Option<u64>,
    /// Share of the rows that changed cluster in each round, 0 to 1.
    pub changed: Vec<f32>,
    /// What a guard said when it stepped in. Empty: none did.
    pub guard: Vec<String>,
    /// Share of all rows with a confidence of 0.9 or more. `None`: taken from the points.
    pub sure_share: Option<f32>,
    /// Share of all rows with a confidence below 0.5. `None`: taken from the points.
    pub doubtful_share: Option<f32>,
    /// What to try next, before what the page proposes by itself.
    pub next: Vec<String>,
}

/// A table of scores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Columns. Those named `acc`, `nmi`, `ari` and `silhouette` (in any case) are used in the verdict.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<ScoreRow>,
}

/// A method's scores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreRow {
    /// Name of the method.
    pub method: String,
    /// One value a column.
    pub values: Vec<Option<f64>>,
    /// Whether this is what the result is compared with: k-means on the rows as they are.
    pub plain: bool,
    /// Whether this is the run's result. Where no row is, the last one is.
    pub result: bool,
}

/// Rows on the map: all of them or a sample. Each list has one value a point, unless it is empty or said otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Points {
    /// Row numbers, rising. Empty: 0, 1, 2, ….
    pub rows: Vec<u32>,
    /// Cluster of each point; says how many points there are.
    pub cluster: Vec<u32>,
    /// Largest entry of q, 0 to 1.
    pub confidence: Vec<f32>,
    /// Second most likely cluster.
    pub second: Vec<u32>,
    /// Class, an index into `class_names`; −1: none.
    pub class: Vec<i32>,
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Names of the rows.
    pub ids: Vec<String>,
    /// Outlier score, 0 (usual) to 1.
    pub outlier: Vec<f32>,
    /// Maps; the first one is shown first.
    pub layouts: Vec<Layout>,
    /// Columns of the data to colour by.
    pub columns: Vec<Column>,
    /// Small pictures of the rows.
    pub thumbnails: Option<Thumbnails>,
}

/// A two-dimensional map of the points.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layout {
    /// Name, such as `UMAP`.
    pub name: String,
    /// \[points, 2\].
    pub xy: Vec<[f32; 2]>,
}

/// A column of the data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// One value a point; NaN where there is none.
    pub values: Vec<f32>,
}

/// Small pictures, all of one size, which mean images, prototypes and reconstructions have too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thumbnails {
    /// Pixels from top to bottom.
    pub height: u32,
    /// Pixels from left to right.
    pub width: u32,
    /// 1 (grey) or 3 (RGB).
    pub channels: u32,
    /// Places of the points that have a picture, rising. Empty: all points, in order.
    pub places: Vec<u32>,
    /// \[pictures, height, width, channels\].
    pub pixels: Vec<u8>,
}

/// A cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    /// A name for it. `None`: its number.
    pub name: Option<String>,
    /// Rows.
    pub size: u64,
    /// Mean of its rows' confidence. NaN: not known.
    pub mean_confidence: f32,
    /// Rows by confidence, from 0 to 1 in bins of one width.
    pub confidence_histogram: Vec<u64>,
    /// Row numbers of typical rows, most typical first.
    pub typical: Vec<u32>,
    /// Row numbers of doubtful rows, most doubtful first.
    pub doubtful: Vec<u32>,
    /// Nearest clusters and the distance between the centroids, nearest first.
    pub nearest: Vec<(u32, f32)>,
    /// Columns that tell it apart, best first.
    pub columns: Vec<Distinguishing>,
    /// Mean image, \[height, width, channels\] of the thumbnails. Empty: none.
    pub mean_image: Vec<u8>,
    /// Images that the decoder makes of the centroid or of points near it, of the same size.
    pub prototypes: Vec<Vec<u8>>,
}

/// A column that tells a cluster from the other rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distinguishing {
    /// Name of the column.
    pub name: String,
    /// Cohen's d; above 0: higher in the cluster.
    pub effect: f32,
    /// Share of the cluster's rows with a value above the median (counts: above 0), 0 to 1. NaN: not known.
    pub share: f32,
    /// The same of the other rows. NaN: not known.
    pub share_rest: f32,
}

/// Two clusters that become one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Merge {
    /// Below k: a cluster; k + i: what merge i made.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// Their distance.
    pub height: f32,
    /// Clusters in the union.
    pub size: u32,
}

/// How many rows of each cluster are in each class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contingency {
    /// Classes.
    pub classes: Vec<String>,
    /// \[k, classes\], cluster after cluster.
    pub counts: Vec<u64>,
    /// The class that each cluster was matched with, one to one. Empty or `None`: none.
    pub matched: Vec<Option<u32>>,
}

/// A row's image and what the autoencoder makes of it, of the thumbnails' size.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reconstruction {
    /// Row number.
    pub row: u32,
    /// Cluster.
    pub cluster: u32,
    /// The image.
    pub input: Vec<u8>,
    /// What comes out.
    pub output: Vec<u8>,
}

/// Something that was measured again and again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// The chart that it belongs to; curves of one chart share axes.
    pub chart: String,
    /// Name.
    pub name: String,
    /// Unit of y, such as `rows`. Empty: none.
    pub unit: String,
    /// What x counts, such as `epoch`.
    pub x_name: String,
    /// Whether y is drawn on a logarithmic axis (where all values are above 0).
    pub log: bool,
    /// Rising.
    pub x: Vec<f64>,
    /// One value for each x. NaN: a gap.
    pub y: Vec<f64>,
}

/// Where a stage begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageMark {
    /// Name of the stage.
    pub name: String,
    /// On the curves' x axis.
    pub x: f64,
    /// The chart it belongs to. `None`: all charts.
    pub chart: Option<String>,
}

/// Something about the data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// What was looked for, such as `Duplicate rows`.
    pub label: String,
    /// What was found.
    pub text: String,
    /// Whether the reader should look at it.
    pub attention: bool,
}

/// Several runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Runs {
    /// Names of the runs.
    pub names: Vec<String>,
    /// Names of what is compared.
    pub columns: Vec<String>,
    /// \[runs, columns\], run after run.
    pub values: Vec<Option<f64>>,
    /// Adjusted Rand index of each pair of runs, \[runs, runs\]. Empty: none.
    pub ari: Vec<f64>,
    /// The clusters of the first run, by their numbers and names.
    pub clusters: Vec<String>,
    /// Where the rows of each of them are in each other run, \[clusters, runs − 1\]: the cluster that most of them are in, and the
    /// share of them that are. `None` where there are none.
    pub found: Vec<Option<(String, f64)>>,
}
