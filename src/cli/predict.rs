//! `dec predict`: cluster new rows with a trained model.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use dec::backend::DeviceRequest;
use dec::config::{Config, DataConfig, Recipe, Threads};
use dec::data::{self, Dataset, Reading, Source};
use dec::export::LoadedPredictor;
use dec::run::{
    assignments_csv, check_writable, write_atomic, Assignment, Content, Model, RunDir, CONFIG, SUMMARY, WEIGHTS,
};

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A run directory, whose weights are used, or a model.pt, whose program is run; then the rows, unscaled as in training: a
    /// file or folder of any format that `dec` trains on, "-" for standard input, "builtin" or "mnist"
    #[arg(value_name = "RUN|MODEL> <ROWS", num_args = 1..=2, required = true)]
    what: Vec<String>,

    /// The run directory or model.pt, where only the rows are named
    #[arg(short, long, value_name = "RUN|MODEL")]
    model: Option<PathBuf>,

    /// Directory with MNIST's four files, for "mnist"
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Where to write row, id, cluster and confidence as CSV [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

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
        if reading.categorical.is_empty() {
            let of_values = names.iter().filter_map(|name| Some(name.split_once('=')?.0.to_owned()));
            reading.categorical = of_values.collect::<BTreeSet<_>>().into_iter().collect();
        }
        let reading = Reading { intake: Some(&intake), names: &names, ..reading.reading() };
        let source = Source { source: rows, dir: self.data_dir.as_deref(), labels: None, reading };
        let dataset = data::load(&source).context("the rows cannot be used")?;
        let assignment = labeller.label(dataset, model)?;
        if let Some(place) = assignment.confidence.iter().position(|confidence| !confidence.is_finite()) {
            let problem = format!(
                "{rows}: row {} (counted from 0) gives no finite confidence: its values are too large for the model",
                assignment.rows[place]
            );
            return Err(dec::Error::Rows(problem).into());
        }
        let csv = assignments_csv(&assignment);
        match &self.output {
            Some(output) => Ok(write_atomic(output, &csv)?),
            None => super::print(&String::from_utf8(csv)?),
        }
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
        let same = |path: &Path| matches!((output.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b);
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

fn load(model: &Path, device: tch::Device) -> dec::Result<Labeller> {
    if model.is_dir() {
        if !model.join(WEIGHTS).exists() || matches!(RunDir::content(model), Content::Unfinished) {
            let why =
                unfinished(&model.join(WEIGHTS)).unwrap_or_else(|| format!("is no run directory: it has no {WEIGHTS}"));
            return Err(dec::Error::data(model, why));
        }
        return Ok(Labeller::Run(Box::new(Model::load(model, device)?)));
    }
    if !model.exists() {
        if let Some(why) = unfinished(model) {
            return Err(dec::Error::data(model, why));
        }
    }
    Ok(Labeller::Module(Box::new(LoadedPredictor::load(model, device)?)))
}

impl Labeller {
    fn label(&self, dataset: Dataset, model: &Path) -> dec::Result<Assignment> {
        let expected = match self {
            Self::Run(run) => run.n_features,
            Self::Module(module) => module.n_features(),
        };
        if let Self::Run(run) = self {
            run.check_shape(&dataset)?;
        }
        if dataset.n_features() as i64 != expected {
            return Err(dec::Error::Rows(format!(
                "{} has {} features a row, but {} was trained on {expected}; give it rows like those it was trained on",
                dataset.name,
                dataset.n_features(),
                model.display()
            )));
        }
        let assignment = match self {
            Self::Run(run) => run.predict(&dataset.features)?,
            Self::Module(module) => {
                let mut rows = dataset.features.to_tensor()?;
                if let Some(offset) = &dataset.intake.offset {
                    // The module takes it off itself.
                    rows = rows.f_to_kind(tch::Kind::Double)?.f_add(&tch::Tensor::f_from_slice(&offset.to_vec())?)?;
                }
                let (labels, confidence) = module.predict(&rows)?;
                Assignment { rows: (0..dataset.n_rows()).collect(), labels, confidence, ids: Vec::new() }
            }
        };
        Ok(Assignment { ids: dataset.ids, ..assignment })
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
