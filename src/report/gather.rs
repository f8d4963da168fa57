//! From a run's directory to what its report is made of.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use ndarray::{Array2, ArrayView2};
use tch::Tensor;

use super::curves::curves;
use super::map::layouts;
use super::page::{
    Cluster, Column, Contingency as ClassTable, Distinguishing, Facts, Finding, Merge, Points, Reconstruction, Report,
    RowKind, Run, ScoreRow, Scores, Stage, Status, DOUBTFUL, SURE,
};
use super::pictures::Painter;
use super::record::Record;
use super::sample::Sample;
use super::table::title;
use super::why::{self, Linkage, Ranking};
use crate::control::{Control, Method, MethodResult};
use crate::data::{array_of, RowRule, Scaling};
use crate::error::{Error, Result};
use crate::metrics::Contingency;
use crate::run::{Assignment, Model};

/// Rows of each kind that a cluster shows, and columns that tell it from others.
const ROWS: usize = 8;
const COLUMNS: usize = 10;
/// Columns that are told however weak they are; of the others those whose effect (Cohen's d) is at least small.
const FEW: usize = 3;
const WEAK: f64 = 0.2;
/// Clusters that are named as near.
const NEAR: usize = 6;
/// Columns that the map can be coloured by.
const COLOURS: usize = 12;
/// Bins of confidence, from 0 to 1.
const BINS: usize = 20;
/// Rows that are shown beside their reconstructions.
const RECONSTRUCTIONS: usize = 24;
/// Classes up to which clusters are shown against them.
const CLASSES: usize = 200;

/// What the run in `run` has to tell by its `record`; with rows, where they are at hand.
///
/// # Errors
/// [`Error::Data`] with rows that are not those of the run;
/// [`Error::Interrupted`], or a libtorch failure.
pub(super) fn gather(run: &Path, record: &Record, sample: Option<&Sample>, control: &mut Control) -> Result<Report> {
    let mut report = outline(record, sample);
    let Some(assignment) = &record.assignment else { return Ok(report) };
    let k = record.n_clusters();
    if let Some(problem) = assignment.labels.iter().find(|&&label| label < 0 || label as usize >= k) {
        return Err(Error::data(run, format!("its assignments name cluster {problem}, and it has {k}")));
    }
    report.clusters = counted(assignment, k);
    (report.facts.sure_share, report.facts.doubtful_share) = shares(&assignment.confidence);
    if let Some(model) = &record.model {
        around_centroids(&mut report, model)?;
        for (number, cluster) in report.clusters.iter_mut().enumerate() {
            cluster.name = model.names.get(number).map(|name| format!("{number} {name}"));
        }
    }
    let Some(sample) = sample else { return Ok(report) };
    report.contingency = against_classes(assignment, sample, k)?;
    if let Some(model) = &record.model {
        Shown::new(run, model, assignment, sample)?.add_to(&mut report, record.summary.seed, control)?;
    }
    Ok(report)
}

/// All that needs no rows.
fn outline(record: &Record, sample: Option<&Sample>) -> Report {
    let summary = &record.summary;
    let (curves, stage_marks, changed) = curves(&record.events);
    let mut guard: Vec<String> = summary.error.clone().into_iter().collect();
    guard.extend(summary.rollbacks.iter().map(ToString::to_string));
    Report {
        run: run(record),
        facts: Facts {
            converged: Some(summary.converged),
            rounds: Some(summary.rounds),
            changed,
            guard,
            ..Facts::default()
        },
        scores: scores(&summary.results),
        curves,
        stage_marks,
        health: sample.map(health).unwrap_or_default(),
        ..Report::default()
    }
}

fn run(record: &Record) -> Run {
    let summary = &record.summary;
    let is_counts = record.model.as_ref().is_some_and(|model| ranking(model) == Ranking::Counts);
    let kind = match (summary.rows["kind"].as_str(), record.model.as_ref().and_then(|model| model.image)) {
        (_, Some(image)) => {
            let [height, width] = image.shape.map(|side| side as u32);
            RowKind::Images { height, width, channels: image.channels.count as u32 }
        }
        (Some("series"), _) => RowKind::Series,
        _ if is_counts => RowKind::Counts,
        _ => RowKind::Table,
    };
    let status = match summary.status.as_str() {
        "interrupted" => Status::Interrupted,
        "failed" => Status::Collapsed { message: summary.error.clone().unwrap_or_default() },
        _ => Status::Finished,
    };
    let mut warnings = summary.warnings.clone();
    if let (Status::Interrupted, Some(stage)) = (&status, &summary.stopped_in) {
        warnings.push(format!("it was stopped in the stage {stage}; `dec resume` goes on"));
    }
    Run {
        data: short_name(&summary.data),
        recipe: summary.recipe.clone(),
        recipe_toml: record.recipe.clone(),
        seed: summary.seed,
        device: summary.device.clone(),
        threads: summary.threads,
        versions: summary.versions.clone().into_iter().collect(),
        fingerprint: summary.rows_sha256.as_ref().map(|sum| format!("sha256:{sum}")),
        ended: record.ended.and_then(local_time),
        seconds: summary.seconds,
        stages: summary
            .stages
            .iter()
            .map(|stage| Stage { name: stage.name.clone(), seconds: stage.seconds, steps: stage.steps })
            .collect(),
        n_rows: summary.n_rows,
        n_features: summary.n_features,
        kind,
        status,
        warnings,
    }
}

/// The file's name alone, where the data are a file; the recipe has its path.
fn short_name(data: &str) -> String {
    let path = Path::new(data);
    let name = path.file_name().filter(|_| path.is_absolute()).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| data.to_owned())
}

/// As `2026-11-27 07:10`, in local time.
fn local_time(time: SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time).ok()?.to_zoned(jiff::tz::TimeZone::system());
    Some(time.strftime("%Y-%m-%d %H:%M").to_string())
}

/// A row for each method, with the columns that any of them has.
fn scores(results: &[MethodResult]) -> Scores {
    type Value = fn(&MethodResult) -> Option<f64>;
    let all: [(&str, Value); 5] = [
        ("ACC", |result| result.acc),
        ("NMI", |result| result.nmi),
        ("ARI", |result| result.ari),
        ("silhouette", |result| result.silhouette),
        ("inertia", |result| Some(result.inertia)),
    ];
    let columns: Vec<&(&str, Value)> = all.iter().filter(|(_, of)| results.iter().any(|r| of(r).is_some())).collect();
    let row = |result: &MethodResult| ScoreRow {
        method: title(result.method).to_owned(),
        values: columns.iter().map(|(_, of)| of(result)).collect(),
        plain: result.method == Method::KMeans,
        result: result.method == Method::Dec,
    };
    Scores {
        rows: results.iter().map(row).collect(),
        columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
    }
}

fn health(sample: &Sample) -> Vec<Finding> {
    let health = &sample.health;
    let of = |label: &str, count: usize, all: usize| Finding {
        label: label.to_owned(),
        text: if count == 0 { "none".to_owned() } else { format!("{count} of {all}") },
        attention: count > 0,
    };
    let columns = sample.features.n_features();
    let mut findings = vec![
        of("Constant columns", health.constant_columns, columns),
        of("Columns that repeat another", health.duplicate_columns, columns),
        of("Rows that repeat another", health.duplicate_rows, health.rows),
    ];
    if sample.offset.is_some() {
        findings.push(Finding {
            label: "Columns far from 0".to_owned(),
            text: "their means were taken off in double precision".to_owned(),
            attention: false,
        });
    }
    findings
}

/// Clusters with what the assignments tell of them.
fn counted(assignment: &Assignment, k: usize) -> Vec<Cluster> {
    let new = || Cluster { confidence_histogram: vec![0; BINS], ..Cluster::default() };
    let mut clusters: Vec<Cluster> = std::iter::repeat_with(new).take(k).collect();
    let mut sums = vec![0.0f64; k];
    for (&label, &confidence) in assignment.labels.iter().zip(&assignment.confidence) {
        let cluster = &mut clusters[label as usize];
        cluster.size += 1;
        cluster.confidence_histogram[((confidence * BINS as f32) as usize).min(BINS - 1)] += 1;
        sums[label as usize] += f64::from(confidence);
    }
    for (cluster, sum) in clusters.iter_mut().zip(sums) {
        cluster.mean_confidence = (sum / cluster.size as f64) as f32; // of an empty one NaN: not known
    }
    clusters
}

fn shares(confidence: &[f32]) -> (Option<f32>, Option<f32>) {
    let share = |fits: fn(f32) -> bool| {
        let count = confidence.iter().filter(|&&value| fits(value)).count();
        Some(count as f32 / confidence.len() as f32).filter(|share| share.is_finite())
    };
    (share(|value| value >= SURE), share(|value| value < DOUBTFUL))
}

/// The clusters' neighbours and the tree that joins them.
fn around_centroids(report: &mut Report, model: &Model) -> Result<()> {
    let centroids = centres(model)?;
    let sizes: Vec<u64> = report.clusters.iter().map(|cluster| cluster.size).collect();
    for (cluster, near) in report.clusters.iter_mut().zip(why::nearest_clusters(centroids.view(), NEAR)) {
        cluster.nearest = near.into_iter().map(|(other, distance)| (other, distance as f32)).collect();
    }
    let joins = why::dendrogram(centroids.view(), &sizes, Linkage::Average)?;
    report.dendrogram =
        joins.iter().map(|join| Merge { a: join.a, b: join.b, height: join.height as f32, size: join.size }).collect();
    Ok(())
}

/// Where the clusters are, \[k, m\]: their centroids; the mean of its centroids, of one that was joined of several.
pub(super) fn centres(model: &Model) -> Result<Array2<f32>> {
    let centroids = array_of(&model.layer.centroids().f_detach()?)?;
    let Some(groups) = model.layer.groups() else { return Ok(centroids) };
    let mut centres = Array2::zeros((groups.n_clusters(), centroids.ncols()));
    for (mut centre, members) in centres.outer_iter_mut().zip(groups.members()) {
        for &member in &members {
            centre.scaled_add(1.0 / members.len() as f32, &centroids.row(member));
        }
    }
    Ok(centres)
}

/// The classes that rows have, ascending, each with its name.
fn classes_of(sample: &Sample, assignment: &Assignment) -> Option<(Vec<i64>, Vec<String>)> {
    let labels = sample.labels.as_ref()?;
    let found: BTreeSet<i64> =
        assignment.rows.iter().filter_map(|&row| labels.get(row).copied()).filter(|&class| class >= 0).collect();
    let name = |&class: &i64| sample.classes.get(class as usize).cloned().unwrap_or_else(|| class.to_string());
    let names = found.iter().map(name).collect();
    let classes: Vec<i64> = found.into_iter().collect();
    (!classes.is_empty() && classes.len() <= CLASSES).then_some((classes, names))
}

fn against_classes(assignment: &Assignment, sample: &Sample, k: usize) -> Result<Option<ClassTable>> {
    let (Some(labels), Some((classes, names))) = (&sample.labels, classes_of(sample, assignment)) else {
        return Ok(None);
    };
    let truth: Vec<i64> = assignment.rows.iter().map(|&row| labels.get(row).copied().unwrap_or(-1)).collect();
    let mut counts = vec![0u64; k * classes.len()];
    let mut seen = BTreeSet::new();
    for (&class, &cluster) in truth.iter().zip(&assignment.labels) {
        if let Ok(place) = classes.binary_search(&class) {
            counts[cluster as usize * classes.len() + place] += 1;
            seen.insert(cluster);
        }
    }
    // The table's clusters are those that have rows with a class.
    let seen: Vec<i64> = seen.into_iter().collect();
    let mut matched = vec![None; k];
    for (class, cluster) in Contingency::of_labelled(&truth, &assignment.labels)?.matching() {
        if let Some(&cluster) = seen.get(cluster) {
            matched[cluster as usize] = Some(class as u32);
        }
    }
    Ok(Some(ClassTable { classes: names, counts, matched }))
}

/// How columns are ranked that tell clusters apart.
fn ranking(model: &Model) -> Ranking {
    match &model.scaling {
        Scaling::Centre { rows: RowRule::Counts(_), .. } => Ranking::Counts,
        _ => Ranking::Effect,
    }
}

/// The rows that are shown, with what the model makes of them.
pub(super) struct Shown<'a> {
    model: &'a Model,
    assignment: &'a Assignment,
    pub(super) sample: &'a Sample,
    /// Where the sample's rows are in the assignment.
    places: Vec<usize>,
    /// Their clusters.
    pub(super) labels: Vec<u32>,
    /// float32 \[n, d\].
    pub(super) rows: Array2<f32>,
    /// \[n, m\].
    pub(super) z: Tensor,
    /// \[n, k\].
    pub(super) q: Tensor,
    names: Vec<String>,
}

impl<'a> Shown<'a> {
    /// # Errors
    /// [`Error::Data`] where the sample is not of the run's rows, or a libtorch failure.
    pub(super) fn new(run: &Path, model: &'a Model, assignment: &'a Assignment, sample: &'a Sample) -> Result<Self> {
        let other = |why: &str| Error::data(run, format!("these are not the rows that it clustered: {why}"));
        let places: Option<Vec<usize>> =
            sample.rows.iter().map(|row| assignment.rows.binary_search(row).ok()).collect();
        let places = places.ok_or_else(|| other("they have other numbers"))?;
        if sample.features.n_features() as i64 != model.n_features {
            return Err(other(&format!("{} columns, not {}", sample.features.n_features(), model.n_features)));
        }
        let (z, q) = model.transform(&sample.features)?;
        let d = sample.features.n_features();
        let given = [&sample.columns, &model.columns].into_iter().find(|names| names.len() == d).cloned();
        let names = given.unwrap_or_else(|| (0..d).map(|column| format!("column {column}")).collect());
        let labels = places.iter().map(|&place| assignment.labels[place] as u32).collect();
        let rows = sample.features.sample(usize::MAX)?;
        Ok(Self { model, assignment, sample, places, labels, rows, z, q, names })
    }

    /// Of one value for each row of the assignment, those of the rows that are shown.
    pub(super) fn at<T: Copy>(&self, values: &[T]) -> Vec<T> {
        self.places.iter().map(|&place| values[place]).collect()
    }

    fn add_to(&self, report: &mut Report, seed: u64, control: &mut Control) -> Result<()> {
        let k = report.clusters.len();
        let mut points = Points {
            rows: self.sample.rows.iter().map(|&row| row as u32).collect(),
            cluster: self.labels.clone(),
            confidence: self.at(&self.assignment.confidence),
            ids: self.sample.ids.clone(),
            outlier: self.assignment.outlier.as_ref().map(|outlier| self.at(outlier)).unwrap_or_default(),
            layouts: layouts(&self.z, seed, control)?,
            ..Points::default()
        };
        if self.assignment.second.iter().all(|&second| second >= 0) {
            points.second = self.at(&self.assignment.second).into_iter().map(|second| second as u32).collect();
        }
        if let Some((class, names)) = self.classes() {
            (points.class, points.class_names) = (class, names);
        }
        let centroids = centres(self.model)?;
        let latent = array_of(&self.z)?;
        let typical = why::typical_rows(latent.view(), &self.labels, centroids.view(), ROWS)?;
        let doubtful = why::doubtful_rows(&points.confidence, &self.labels, k, ROWS)?;
        let numbers = |places: &[u32]| places.iter().map(|&place| points.rows[place as usize]).collect();
        for (cluster, (typical, doubtful)) in report.clusters.iter_mut().zip(typical.iter().zip(&doubtful)) {
            (cluster.typical, cluster.doubtful) = (numbers(typical), numbers(doubtful));
        }
        match self.model.image {
            Some(image) => {
                let painter = Painter::new(image, self.rows.view());
                points.thumbnails = Some(painter.thumbnails(self.rows.view()));
                points.columns = vec![self.brightness()];
                self.add_pictures(report, &painter, &centroids)?;
                report.reconstructions = self.reconstructions(&painter, &typical, &doubtful)?;
            }
            None => points.columns = self.add_columns(report, k)?,
        }
        report.points = Some(points);
        Ok(())
    }

    /// The class of each row, as a place among the names or −1 for none; where there are classes.
    pub(super) fn classes(&self) -> Option<(Vec<i32>, Vec<String>)> {
        let labels = self.sample.labels.as_ref()?;
        let (classes, names) = classes_of(self.sample, self.assignment)?;
        let class = |&row: &usize| {
            labels.get(row).and_then(|class| classes.binary_search(class).ok()).map_or(-1, |place| place as i32)
        };
        Some((self.sample.rows.iter().map(class).collect(), names))
    }

    fn brightness(&self) -> Column {
        let mean = |row: ndarray::ArrayView1<f32>| row.mean().unwrap_or(f32::NAN);
        Column { name: "mean of all pixels".to_owned(), values: self.rows.outer_iter().map(mean).collect() }
    }

    /// The mean image of each cluster, and what the decoder makes of its centroid.
    fn add_pictures(&self, report: &mut Report, painter: &Painter, centroids: &Array2<f32>) -> Result<()> {
        let prototypes = self.model.decode(centroids)?;
        for (cluster, mean) in means(self.rows.view(), &self.labels, report.clusters.len()).into_iter().enumerate() {
            let own = &mut report.clusters[cluster];
            own.mean_image = mean.map(|mean| painter.paint(&mean)).unwrap_or_default();
            own.prototypes = vec![painter.paint(&prototypes.row(cluster).to_vec())];
        }
        Ok(())
    }

    /// A typical and a doubtful row of each cluster, then more of them.
    fn reconstructions(
        &self,
        painter: &Painter,
        typical: &[Vec<u32>],
        doubtful: &[Vec<u32>],
    ) -> Result<Vec<Reconstruction>> {
        let mut chosen: Vec<usize> = Vec::new();
        for turn in 0..ROWS {
            for list in typical.iter().chain(doubtful) {
                if let Some(&place) = list.get(turn).filter(|&&place| !chosen.contains(&(place as usize))) {
                    chosen.push(place as usize);
                }
            }
        }
        chosen.truncate(RECONSTRUCTIONS);
        chosen.sort_by_key(|&place| self.labels[place]);
        let outputs = self.model.reconstruct(&self.sample.features.resident_at(&chosen)?)?;
        let pair = |(&place, output): (&usize, ndarray::ArrayView1<f64>)| Reconstruction {
            row: self.sample.rows[place] as u32,
            cluster: self.labels[place],
            input: painter.paint(&self.rows.row(place).to_vec()),
            output: painter.paint(&output.to_vec()),
        };
        Ok(chosen.iter().zip(outputs.outer_iter()).map(pair).collect())
    }

    /// The columns that tell each cluster from the others; and those that the map can be coloured by, which are the strongest
    /// of these.
    fn add_columns(&self, report: &mut Report, k: usize) -> Result<Vec<Column>> {
        let found = why::distinguishing_columns(self.rows.view(), &self.labels, k, COLUMNS, ranking(self.model))?;
        let mut colours: Vec<u32> = Vec::new();
        for turn in 0..COLUMNS {
            for effect in found.iter().filter_map(|columns| columns.get(turn)) {
                if colours.len() < COLOURS && !colours.contains(&effect.column) {
                    colours.push(effect.column);
                }
            }
        }
        for (cluster, columns) in report.clusters.iter_mut().zip(found) {
            // The strongest are told even where none is strong.
            let told = columns.into_iter().enumerate().filter(|(place, e)| *place < FEW || e.effect.abs() >= WEAK);
            let told = told.map(|(_, effect)| Distinguishing {
                name: self.names[effect.column as usize].clone(),
                effect: effect.effect as f32,
                share: effect.share as f32,
                share_rest: effect.share_rest as f32,
            });
            cluster.columns = told.collect();
        }
        let column = |&column: &u32| {
            let offset = self.sample.offset.as_ref().map_or(0.0, |offset| offset[column as usize]);
            let values = self.rows.column(column as usize).mapv(|value| (f64::from(value) + offset) as f32);
            Column { name: self.names[column as usize].clone(), values: values.to_vec() }
        };
        Ok(colours.iter().map(column).collect())
    }
}

/// The mean row of each cluster; none of an empty one.
fn means(rows: ArrayView2<f32>, labels: &[u32], k: usize) -> Vec<Option<Vec<f64>>> {
    let mut sums = vec![(vec![0.0f64; rows.ncols()], 0u64); k];
    for (row, &label) in rows.outer_iter().zip(labels) {
        let (sum, count) = &mut sums[label as usize];
        sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        *count += 1;
    }
    let mean = |(sum, count): (Vec<f64>, u64)| -> Option<Vec<f64>> {
        (count > 0).then(|| sum.into_iter().map(|value| value / count as f64).collect())
    };
    sums.into_iter().map(mean).collect()
}
