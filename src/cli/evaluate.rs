//! `dec evaluate`: scores of clusters that are there already, against labels.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use dec::control::Control;
use dec::data::{read_labels, Dataset, Rows};
use dec::metrics::{self, Contingency};
use dec::run::{Assignment, Called, Model, ASSIGNMENTS};
use dec::start::components;
use tch::Device;

use super::recipe::data_of_run;
use super::shown;

/// Classes and clusters up to which the whole table is shown.
const MOST_SHOWN: usize = 24;

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A run directory, or a CSV with the columns row and cluster (an assignments.csv, what `dec predict` writes)
    #[arg(value_name = "RUN|CSV")]
    clusters: PathBuf,

    /// Labels: one a row of the data, in an NPY, IDX, CSV or text file
    #[arg(short, long, value_name = "FILE")]
    labels: PathBuf,

    /// The column of the labels' file that holds them
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
}

impl EvaluateArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let path = if self.clusters.is_dir() { self.clusters.join(ASSIGNMENTS) } else { self.clusters.clone() };
        let (assigned, names) = Assignment::read_clusters(&path)?;
        let labels = read_labels(&self.labels, self.label_column.as_deref())?;
        let mut all = Dataset::default();
        all.set_labels(&labels);
        let classes = all.labels.unwrap_or_default();
        let of_row = |row: usize| {
            classes.get(row).copied().ok_or_else(|| {
                let problem = format!("has {} labels, but {} has row {row}", classes.len(), path.display());
                dec::Error::data(&self.labels, problem)
            })
        };
        let truth = assigned.iter().map(|&(row, _)| of_row(row)).collect::<dec::Result<Vec<i64>>>()?;
        let clusters: Vec<i64> = assigned.iter().map(|&(_, cluster)| cluster).collect();
        let table = Contingency::of_labelled(&truth, &clusters)?;
        let silhouette = match self.clusters.is_dir() {
            true => silhouette(&self.clusters, &assigned).unwrap_or_else(|problem| {
                tracing::warn!("no silhouette, which needs the rows: {problem:#}");
                None
            }),
            false => None,
        };
        super::print(&page(&table, silhouette, &all.classes, &names, &truth, &clusters))
    }
}

/// The mean silhouette of a run's clusters in its scaled rows, as its own table has it where there are no labels.
fn silhouette(run: &Path, assigned: &[(usize, i64)]) -> anyhow::Result<Option<f64>> {
    let (config, dataset) = data_of_run(run)?;
    let (chosen, clusters): (Vec<usize>, Vec<i64>) = assigned.iter().copied().unzip();
    anyhow::ensure!(chosen.iter().all(|&row| row < dataset.n_rows()), "{} has fewer rows", dataset.name);
    let model = Model::load(run, Device::Cpu)?;
    let rows = Rows::new(&dataset.select(&chosen).features, &model.scaling, Device::Cpu)?;
    Ok(metrics::silhouette(&components(&rows, rows.n_rows(), &mut Control::ignored())?, &clusters, config.seed)?)
}

fn page(
    table: &Contingency,
    silhouette: Option<f64>,
    names: &[String],
    called: &Called,
    truth: &[i64],
    clusters: &[i64],
) -> String {
    let scored = truth.iter().filter(|&&class| class >= 0).count();
    let mut text = format!("{scored} of {} rows have a label\n\n", truth.len());
    for (name, value) in [
        ("ACC", table.accuracy()),
        ("NMI", table.normalized_mutual_info()),
        ("ARI", table.adjusted_rand_index()),
        ("AMI", table.adjusted_mutual_info()),
        ("homogeneity", table.homogeneity()),
        ("completeness", table.completeness()),
    ] {
        let _ = writeln!(text, "{name:<13}{value:.4}");
    }
    if let Some(value) = silhouette {
        let _ = writeln!(text, "{:<13}{value:.4} (in the scaled rows, without labels)", "silhouette");
    }
    let labelled = || truth.iter().copied().zip(clusters.iter().copied()).filter(|(class, _)| *class >= 0);
    let classes: BTreeSet<i64> = labelled().map(|(class, _)| class).collect();
    let cluster_names: Vec<i64> = labelled().map(|(_, cluster)| cluster).collect::<BTreeSet<_>>().into_iter().collect();
    let class_names: Vec<String> = classes
        .iter()
        .map(|&class| names.get(class as usize).map_or_else(|| class.to_string(), |name| shown(name)))
        .collect();
    if class_names.len() > MOST_SHOWN || cluster_names.len() > MOST_SHOWN {
        return text;
    }
    let matched = table.matching();
    let width = class_names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    let _ = write!(text, "\n{:<width$}", "class");
    cluster_names.iter().for_each(|cluster| text += &format!(" {cluster:>7}"));
    text.push_str("  matched\n");
    for (class, name) in class_names.iter().enumerate() {
        let _ = write!(text, "{name:<width$}");
        for cluster in 0..cluster_names.len() {
            let _ = write!(text, " {:>7}", table.rows_of(class, cluster));
        }
        let own = matched.iter().find(|pair| pair.0 == class).map(|pair| cluster_names[pair.1]);
        let own = own.map_or_else(
            || "-".to_owned(),
            |own| match called.get(&own) {
                Some(name) => format!("{own} {}", shown(name)),
                None => own.to_string(),
            },
        );
        let _ = writeln!(text, "  {own}");
    }
    if !called.is_empty() {
        text.push('\n');
    }
    for (cluster, name) in called {
        let _ = writeln!(text, "cluster {cluster}: {}", shown(name));
    }
    text
}
