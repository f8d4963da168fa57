//! `dec predict`: cluster new rows with a trained model.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use dec::backend::DeviceRequest;
use dec::config::{Config, DataConfig, Recipe, Threads};
use dec::data::{self, Dataset, Reading, Rows, Scaling, Source};
use dec::export::LoadedPredictor;
use dec::model::Profile;
use dec::output::{to_csv, Chunk, Header, OutputFormat, Scores, TableWriter};
use dec::run::{check_writable, Assignment, Content, Model, RunDir, CONFIG, SUMMARY, WEIGHTS};
use tch::{Device, Kind, Tensor};

use super::shown;

/// Values and rows that are labelled together at the most.
const BLOCK_VALUES: usize = 1 << 24;
const MOST_ROWS: usize = 1 << 16;
/// The score above which a row counts as an outlier: one in a hundred training rows is.
const OUTLIER: f64 = 0.99;
/// Clusters whose shares are shown.
const MOST_SHOWN: usize = 20;

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A run directory, whose weights are used (an ensemble's names one of its runs), or a model.pt, whose program is run; then the
    /// rows, unscaled as in training: a file or folder of any format that `dec` trains on, "-" for standard input, "builtin" or
    /// "mnist"
    #[arg(value_name = "RUN|MODEL> <ROWS", num_args = 1..=2, required = true)]
    what: Vec<String>,

    /// The run directory or model.pt, where only the rows are named
    #[arg(short, long, value_name = "RUN|MODEL")]
    model: Option<PathBuf>,

    /// Directory with MNIST's four files, for "mnist"
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Where to write row, id, cluster, confidence, second choice, entropy and outlier score: .csv, .tsv, .parquet, .arrow, .npy
    /// (the clusters alone), or .h5ad (a copy of an .h5ad with the answer in it) [default: CSV to stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write the latent rows too
    #[arg(long, requires = "output")]
    embedding: bool,

    /// Write the soft assignments to all clusters too
    #[arg(long, requires = "output")]
    memberships: bool,

    /// Rows whose confidence is below this get the cluster -1
    #[arg(long, value_name = "SHARE")]
    min_confidence: Option<f32>,

    /// Exit with code 7 where a larger share of the rows is farther out than 99 of 100 training rows
    #[arg(long, value_name = "SHARE")]
    max_outliers: Option<f64>,

    /// How the rows are read, as in a recipe (data.missing=drop, data.format=csv, ...); may be repeated
    #[arg(short, long, value_name = "data.KEY=VALUE")]
    set: Vec<String>,

    /// Where to compute: auto, cpu, cuda, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,

    /// Threads that compute on the CPU: a number, or auto (OMP_NUM_THREADS, else every processor that this program may
    /// use)
    #[arg(long, value_name = "N", default_value = "auto", allow_negative_numbers = true)]
    threads: String,
}

/// What labels the rows.
enum Labeller {
    /// A run's weights.
    Run(Box<Model>),
    /// A TorchScript module.
    Module(Box<LoadedPredictor>),
}

impl PredictArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let request: DeviceRequest = self.device.parse()?;
        let threads: Threads = self.threads.parse()?;
        threads.given().map_or(Ok(()), dec::backend::threads::check)?;
        let (model, rows) = self.model_and_rows()?;
        let model = &super::ensemble::run_in(model)?;
        self.check_output(model, rows)?;
        let reading = self.reading(model)?;
        let device = dec::backend::select(request)?;
        super::recipe::set_threads(threads)?;
        let labeller = load(model, device)?;
        let (intake, names) = match &labeller {
            Labeller::Run(run) => (run.intake.clone(), run.columns.clone()),
            Labeller::Module(module) => (module.intake().clone(), Vec::new()),
        };
        // Text columns that became 0/1 columns do so again, whatever values occur here.
        let mut reading = reading;
        reading.categorical_of(&names);
        let reading = Reading { intake: Some(&intake), names: &names, ..reading.reading() };
        let source = Source { source: rows, more: &[], dir: self.data_dir.as_deref(), labels: None, reading };
        let dataset = data::load(&source).context("the rows cannot be used")?;
        labeller.check(&dataset, model)?;
        let mut table = self.table(&labeller, &dataset, rows)?;
        let (names, mut tally) = (self.names(&labeller), Tally::default());
        let size = (BLOCK_VALUES / dataset.n_features().max(1)).clamp(1, MOST_ROWS);
        for start in (0..dataset.n_rows()).step_by(size) {
            let chosen: Vec<usize> = (start..(start + size).min(dataset.n_rows())).collect();
            let mut block = labeller.label(&dataset, &chosen)?;
            if let Some(place) = block.assignment.confidence.iter().position(|confidence| !confidence.is_finite()) {
                let problem = format!(
                    "{rows}: row {} (counted from 0) gives no finite confidence: its values are too large for the model",
                    chosen[place]
                );
                return Err(dec::Error::Rows(problem).into());
            }
            tally.add(&block.assignment);
            self.mark_unsure(&mut block.assignment);
            block.assignment.names.clone_from(&names);
            table.write(&block)?;
        }
        table.finish()?;
        match labeller.profile() {
            Some(profile) => tally.compare(profile, &labeller.names(), self.max_outliers),
            None if self.max_outliers.is_some() => {
                Err(dec::Error::Config("--max-outliers: this model is of a version that kept no distances".to_owned()))
            }
            None => Ok(()),
        }?;
        Ok(())
    }

    /// Opens what is written to, before the work starts.
    fn table(&self, labeller: &Labeller, dataset: &Dataset, rows: &str) -> dec::Result<Table> {
        let device = |output: &Path| output.metadata().is_ok_and(|found| !found.is_file());
        let format = match &self.output {
            Some(output) if !device(output) => OutputFormat::of(output)?,
            _ => OutputFormat::Csv,
        };
        let [n_clusters, n_latent] = labeller.shape();
        let scores = Scores { second: true, entropy: true, outlier: labeller.profile().is_some() };
        let embedding = self.embedding || format == OutputFormat::H5ad;
        let (has_ids, memberships) = (!dataset.ids.is_empty(), self.memberships);
        let names = self.names(labeller);
        let header = Header { has_ids, n_clusters, names, n_latent, embedding, memberships, scores };
        Ok(match &self.output {
            None => Table::Stdout { begun: false, header },
            Some(output) => {
                let writer = dec::output::create_for(Path::new(rows), output, format, header)?;
                Table::File { writer, embedding, memberships }
            }
        })
    }

    /// The clusters' names as they are written: on a terminal without what is a command there.
    fn names(&self, labeller: &Labeller) -> Vec<String> {
        let names = labeller.names();
        match &self.output {
            None if std::io::stdout().is_terminal() => names.iter().map(|name| shown(name)).collect(),
            _ => names,
        }
    }

    fn mark_unsure(&self, assignment: &mut Assignment) {
        let Some(least) = self.min_confidence else { return };
        let rows = assignment.labels.iter_mut().zip(&assignment.confidence);
        rows.filter(|(_, confidence)| **confidence < least).for_each(|(label, _)| *label = -1);
    }

    fn model_and_rows(&self) -> dec::Result<(&Path, &str)> {
        match (&self.model, self.what.as_slice()) {
            (Some(model), [rows]) => Ok((model, rows)),
            (None, [model, rows]) => Ok((Path::new(model), rows)),
            (None, _) => Err(dec::Error::Config(
                "name a run directory or a model.pt, and then the rows: dec predict RUN ROWS".to_owned(),
            )),
            (Some(_), _) => {
                Err(dec::Error::Config("--model names the model, so what else is named is the rows alone".to_owned()))
            }
        }
    }

    /// Refuses an output that cannot be written, or that would replace what is read.
    fn check_output(&self, model: &Path, rows: &str) -> dec::Result<()> {
        let Some(output) = &self.output else { return Ok(()) };
        if output.is_dir() {
            return Err(dec::Error::output(output, "is a directory; name a file with --output"));
        }
        let same = |path: &Path| super::same_place(output, path);
        if same(model) || same(Path::new(rows)) {
            return Err(dec::Error::output(
                output,
                "is what is read here, and would be replaced; name another with --output",
            ));
        }
        let parent = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        check_writable(parent)
    }

    /// How the run read its rows, where the model is a run, and then `--set`.
    fn reading(&self, model: &Path) -> dec::Result<DataConfig> {
        let mut recipe = Recipe::load("default")?;
        let text = std::fs::read_to_string(model.join(CONFIG)).unwrap_or_default();
        if let Ok(config) = toml::from_str::<Config>(&text) {
            // What named that file's labels, rows and format does not have to be in this one.
            let DataConfig { categorical, missing, image_size, .. } = config.data;
            recipe.config.data = DataConfig { categorical, missing, image_size, ..recipe.config.data };
        }
        if let Some(other) = self.set.iter().find(|setting| !setting.trim_start().starts_with("data.")) {
            return Err(dec::Error::Config(format!("--set {other}: only settings of [data] matter here")));
        }
        recipe.set(&self.set)?;
        Ok(recipe.config.data)
    }
}

/// Refuses a directory without the weights of a finished run.
pub fn check_is_run(run: &Path) -> dec::Result<()> {
    if run.join(WEIGHTS).exists() && !matches!(RunDir::content(run), Content::Unfinished) {
        return Ok(());
    }
    let why = unfinished(&run.join(WEIGHTS)).unwrap_or_else(|| format!("is no run directory: it has no {WEIGHTS}"));
    Err(dec::Error::data(run, why))
}

fn load(model: &Path, device: tch::Device) -> dec::Result<Labeller> {
    if model.is_dir() {
        check_is_run(model)?;
        return Ok(Labeller::Run(Box::new(Model::load(model, device)?)));
    }
    if !model.exists() {
        if let Some(why) = unfinished(model) {
            return Err(dec::Error::data(model, why));
        }
    }
    Ok(Labeller::Module(Box::new(LoadedPredictor::load(model, device)?)))
}

/// Rows that were labelled together.
struct Block {
    assignment: Assignment,
    z: Tensor,
    q: Tensor,
}

impl Labeller {
    fn shape(&self) -> [usize; 2] {
        match self {
            Self::Run(run) => run.shape(),
            Self::Module(module) => [module.n_clusters() as usize, module.n_latent() as usize],
        }
    }

    fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Run(run) => run.profile.as_ref(),
            Self::Module(module) => module.profile().filter(|_| module.centroids().is_some()),
        }
    }

    /// What the clusters are called, where they have names; a module keeps none.
    fn names(&self) -> Vec<String> {
        match self {
            Self::Run(run) => run.names.of_all(run.layer.n_clusters()),
            Self::Module(_) => Vec::new(),
        }
    }

    /// Refuses rows of another width or shape.
    fn check(&self, dataset: &Dataset, model: &Path) -> dec::Result<()> {
        let expected = match self {
            Self::Run(run) => run.n_features,
            Self::Module(module) => module.n_features(),
        };
        if let Self::Run(run) = self {
            run.check_shape(dataset)?;
        }
        if dataset.n_features() as i64 == expected {
            return Ok(());
        }
        Err(dec::Error::Rows(format!(
            "{} has {} features a row, but {} was trained on {expected}; give it rows like those it was trained on",
            dataset.name,
            dataset.n_features(),
            model.display()
        )))
    }

    /// Labels the rows of these numbers.
    fn label(&self, dataset: &Dataset, chosen: &[usize]) -> dec::Result<Block> {
        let features = dataset.features.select(chosen);
        let (z, q, assignment) = match self {
            Self::Run(run) => {
                let (z, q) = run.transform(&features)?;
                let assignment = run.assign(&z, &q)?;
                (z, q, assignment)
            }
            Self::Module(module) => {
                let mut rows =
                    Rows::new(&features, &Scaling::Factor(1.0), Device::Cpu)?.stored_block(0, chosen.len() as i64)?;
                if let Some(offset) = &dataset.intake.offset {
                    // The module takes it off itself.
                    rows = rows.f_to_kind(Kind::Double)?.f_add(&Tensor::f_from_slice(&offset.to_vec())?)?;
                }
                let z = module.encode(&rows)?;
                let q = module.assign(&z)?;
                let labels = data::values_of(&q.f_argmax(1, false)?)?;
                let nowhere = Tensor::f_zeros([module.n_clusters(), module.n_latent()], (Kind::Float, Device::Cpu))?;
                let centroids = module.centroids().unwrap_or(&nowhere);
                let assignment = Assignment::of(&z, &q, labels, (centroids, module.groups()), self.profile())?;
                (z, q, assignment)
            }
        };
        let ids = match dataset.ids.is_empty() {
            true => Vec::new(),
            false => chosen.iter().map(|&row| dataset.ids[row].clone()).collect(),
        };
        Ok(Block { assignment: Assignment { rows: chosen.to_vec(), ids, ..assignment }, z, q })
    }
}

/// Where the answer goes.
enum Table {
    Stdout { begun: bool, header: Header },
    File { writer: Box<dyn TableWriter>, embedding: bool, memberships: bool },
}

impl Table {
    fn write(&mut self, block: &Block) -> anyhow::Result<()> {
        let assignment = &block.assignment;
        match self {
            Self::Stdout { begun, .. } => {
                let text = String::from_utf8(assignment.to_csv()?)?;
                let header = text.find('\n').map_or(0, |end| end + 1);
                super::print(if *begun { &text[header..] } else { &text })?;
                *begun = true;
            }
            Self::File { writer, embedding, memberships } => {
                let values = |wanted: bool, tensor: &Tensor| wanted.then(|| data::values_of::<f32>(tensor)).transpose();
                let (z, q) = (values(*embedding, &block.z)?, values(*memberships, &block.q)?);
                assignment.write(&mut **writer, z.as_deref(), q.as_deref())?;
            }
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout { begun: true, .. } => Ok(()),
            Self::Stdout { header, .. } => super::print(&String::from_utf8(to_csv(header, &Chunk::default())?)?),
            Self::File { writer, .. } => {
                writer.finish()?;
                Ok(())
            }
        }
    }
}

/// What is said of all rows at the end.
#[derive(Default)]
struct Tally {
    rows: usize,
    outliers: usize,
    confidence: f64,
    sizes: Vec<usize>,
}

impl Tally {
    fn add(&mut self, assignment: &Assignment) {
        self.rows += assignment.rows.len();
        let outlier = assignment.outlier.iter().flatten();
        self.outliers += outlier.filter(|&&score| f64::from(score) > OUTLIER).count();
        self.confidence += assignment.confidence.iter().map(|&value| f64::from(value)).sum::<f64>();
        for &label in &assignment.labels {
            let label = label as usize;
            if label >= self.sizes.len() {
                self.sizes.resize(label + 1, 0);
            }
            self.sizes[label] += 1;
        }
    }

    /// Says how these rows compare with those of training, and refuses more outliers than `most`.
    fn compare(&self, profile: &Profile, names: &[String], most: Option<f64>) -> dec::Result<()> {
        let n = self.rows.max(1) as f64;
        let outliers = self.outliers as f64 / n;
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let shares = profile.shares.iter().enumerate().map(|(cluster, &share)| {
            let size = self.sizes.get(cluster).copied().unwrap_or(0) as f64;
            let name = names.get(cluster).map_or_else(String::new, |name| shown(name) + " ");
            format!("{name}{} ({})", percent(size / n), percent(f64::from(share)))
        });
        let shown: Vec<String> = shares.take(MOST_SHOWN).collect();
        let more = if profile.shares.len() > MOST_SHOWN { ", ..." } else { "" };
        tracing::info!(
            "{} rows, in brackets those of training: outliers {} % (1.0), mean confidence {:.3} ({:.3}), clusters {}{more} %",
            self.rows,
            percent(outliers),
            self.confidence / n,
            profile.confidence,
            shown.join(", ")
        );
        match most {
            Some(most) if outliers > most => Err(dec::Error::Outliers(format!(
                "{} % of the rows are farther out than 99 of 100 training rows, and --max-outliers allows {} %: these rows are \
                 unlike those of training",
                percent(outliers),
                percent(most)
            ))),
            _ => Ok(()),
        }
    }
}

/// Why a run's directory has no model: how far the run had come, and how it goes on. `None` where that cannot be told.
fn unfinished(model: &Path) -> Option<String> {
    let run = model.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = std::fs::read(run.join(SUMMARY)).ok();
    let summary: Option<serde_json::Value> = text.and_then(|text| serde_json::from_slice(&text).ok());
    let stage = summary.as_ref().and_then(|summary| summary["stopped_in"].as_str());
    let stopped = stage.map_or_else(String::new, |stage| format!(" in {stage}"));
    match (RunDir::content(run), summary) {
        (Content::Unfinished, _) => Some(format!(
            "there is none yet: the run was stopped{stopped}, before self-training; `dec resume {}` goes on",
            run.display()
        )),
        (_, Some(_)) => Some(format!("there is none: the run ended{stopped}, before self-training")),
        _ => None,
    }
}
