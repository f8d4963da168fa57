//! The options that choose a recipe and change it; shared by every command that takes one.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use dec::config::{Config, Recipe, Threads};
use dec::data::{self, Dataset, Reading, Source};
use dec::run::{read_config, Model, SUMMARY};
use tch::Device;

use super::finished;

#[derive(Debug, PartialEq, Args)]
pub struct RecipeArgs {
    /// Rows: a file or folder (or several, whose rows follow each other), "-" for standard input, "builtin" (10,000 digits) or
    /// "mnist" (70,000) [default: the recipe's, else builtin]
    ///
    /// NPY, IDX, NPZ, CSV and TSV, Parquet, Arrow and Feather, AnnData (.h5ad), Matrix Market and 10x folders, safetensors,
    /// svmlight, folders of PNG and JPEG images. `dec inspect DATA` says what would be made of it.
    #[arg(value_name = "DATA", conflicts_with = "data")]
    rows: Vec<String>,

    /// Recipe: a TOML file, or the name of a built-in one (`dec config --list` shows them)
    /// [default: default]
    #[arg(short, long, value_name = "FILE|NAME")]
    config: Option<String>,

    /// Override one setting of the recipe; may be repeated
    #[arg(short, long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,

    /// The same as DATA
    #[arg(short, long, value_name = "DATA")]
    data: Option<String>,

    /// The format of the rows, where content and name do not tell
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Columns to use, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,

    /// The column that holds labels, for scoring alone
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,

    /// The column that names the rows
    #[arg(long, value_name = "NAME")]
    id_column: Option<String>,

    /// Missing values: error, mean (filled with their column's), drop (the row is left out)
    #[arg(long, value_name = "HOW")]
    missing: Option<String>,

    /// Which array of a file that holds several: a member, a tensor, layers/NAME or obsm/NAME
    #[arg(long, value_name = "NAME")]
    array: Option<String>,

    /// The layer of AnnData to use instead of X: --array layers/NAME
    #[arg(long, value_name = "NAME", conflicts_with_all = ["array", "obsm"])]
    layer: Option<String>,

    /// The embedding of AnnData to use instead of X: --array obsm/NAME
    #[arg(long, value_name = "NAME", conflicts_with = "array")]
    obsm: Option<String>,

    /// Text columns to turn into one 0/1 column for each of their values, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    categorical: Vec<String>,

    /// Height and width that a folder's images are resized to
    #[arg(long, value_name = "HEIGHTxWIDTH")]
    image_size: Option<String>,

    /// Megabytes that the rows may take; larger ones are read a batch at a time [default: what memory there is]
    #[arg(long, value_name = "MB")]
    max_memory: Option<u64>,

    /// Directory with MNIST's four files; implies --data mnist
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Labels to score against, never trained on: one a row in an NPY, IDX, CSV or text file
    #[arg(short, long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Number of clusters; "auto": the one that `dec choose-k` recommends, found on the way [default: as many as the labels have
    /// classes, else 10]
    #[arg(short = 'k', long, value_name = "K|auto")]
    clusters: Option<Clusters>,

    /// Seed of everything random [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// Threads that compute on the CPU: a number, or auto (OMP_NUM_THREADS, else every processor that this program may
    /// use) [default: auto]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<String>,

    /// Let products on a GPU use TF32: faster, and less exact
    #[arg(long)]
    tf32: bool,
}

/// How many clusters somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clusters {
    /// As many as there seem to be.
    Auto,
    Given(usize),
}

impl FromStr for Clusters {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Given).map_err(|problem| format!("{problem}; give a number, or auto")),
        }
    }
}

impl RecipeArgs {
    /// The recipe with everything on the command line applied: first what names the rows, then `--set`, then the options
    /// of their own.
    pub fn resolve(&self) -> dec::Result<Recipe> {
        self.resolve_from(None)
    }

    /// The same, to start from the run `from`, whose recipe it is unless another is named.
    pub fn resolve_from(&self, from: Option<&Path>) -> dec::Result<Recipe> {
        let mut recipe = match from {
            Some(run) if self.config.is_none() => Recipe { name: "warm".to_owned(), config: read_config(run)? },
            _ => Recipe::load(self.config_name())?,
        };
        let before = recipe.config.data.source.clone();
        self.choose_data(&mut recipe.config)?;
        if let Some(run) = from {
            if finished::summary_of(run)?["status"] != "finished" {
                return Err(dec::Error::data(run, "this run has not finished: `dec resume` goes on with it"));
            }
            recipe.config.start.from = Some(run.to_owned());
            let data = &mut recipe.config.data;
            if data.source != before {
                // These were about the other file.
                (data.format, data.array, data.limit) = (None, None, None);
                (data.label_column, data.id_column) = (None, None);
            }
        }
        recipe.set(&self.reading_settings()?)?;
        recipe.set(&self.set)?;
        let config = &mut recipe.config;
        if let Some(labels) = &self.labels {
            config.data.labels = Some(labels.clone());
        }
        if let Some(Clusters::Given(clusters)) = self.clusters {
            config.n_clusters = clusters;
        }
        if let Some(seed) = self.seed {
            config.seed = seed;
        }
        if let Some(device) = &self.device {
            config.device.clone_from(device);
        }
        if let Some(threads) = &self.threads {
            config.threads = threads.parse()?;
        }
        config.tf32 |= self.tf32;
        config.absolutise();
        config.validate()?;
        config.to_toml()?; // a path that is not UTF-8 is refused now, not after the data are read
        Ok(recipe)
    }

    /// What the options about reading come to, as settings.
    fn reading_settings(&self) -> dec::Result<Vec<String>> {
        let text = |value: &str| toml::Value::from(value).to_string();
        let within = |folder: &str, name: &Option<String>| name.as_ref().map(|name| format!("{folder}/{name}"));
        let array = self.array.clone().or(within("layers", &self.layer)).or(within("obsm", &self.obsm));
        let given = [
            ("format", &self.format),
            ("label_column", &self.label_column),
            ("id_column", &self.id_column),
            ("missing", &self.missing),
            ("array", &array),
        ];
        let mut settings: Vec<String> = given
            .into_iter()
            .filter_map(|(key, value)| Some(format!("data.{key}={}", text(value.as_deref()?))))
            .collect();
        for (key, names) in [("columns", &self.columns), ("categorical", &self.categorical)] {
            if !names.is_empty() {
                settings.push(format!("data.{key}={}", toml::Value::from(names.clone())));
            }
        }
        if let Some(size) = &self.image_size {
            let sides = size.split_once(['x', 'X']).and_then(|(h, w)| Some([h.parse::<u32>().ok()?, w.parse().ok()?]));
            let [height, width] = sides
                .ok_or_else(|| dec::Error::Config(format!("--image-size {size:?}: give height and width as 32x32")))?;
            settings.push(format!("data.image_size=[{height},{width}]"));
        }
        settings.extend(self.max_memory.map(|megabytes| format!("data.max_memory={megabytes}")));
        Ok(settings)
    }

    fn config_name(&self) -> &str {
        self.config.as_deref().unwrap_or("default")
    }

    /// Whether the command line has a number of clusters, or asks for one to be found.
    pub fn asks_for_clusters(&self) -> bool {
        self.clusters.is_some() || self.sets_clusters()
    }

    fn sets_clusters(&self) -> bool {
        self.set.iter().any(|setting| setting.split('=').next().is_some_and(|key| key.trim() == "n_clusters"))
    }

    /// Whether somebody has said how many clusters there are: by an option, a setting, or a recipe of their own.
    pub fn says_clusters(&self) -> bool {
        matches!(self.clusters, Some(Clusters::Given(_)))
            || self.sets_clusters()
            || Recipe::file_says(self.config_name(), "n_clusters")
    }

    /// Whether --clusters is given, as a number or as `auto`.
    pub fn gives_clusters(&self) -> bool {
        self.clusters.is_some()
    }

    /// Whether the number of clusters is to be looked for.
    pub fn chooses_clusters(&self) -> bool {
        self.clusters == Some(Clusters::Auto)
    }

    /// Refuses `--clusters auto` for a command that does not look for the number of clusters.
    pub fn refuse_auto(&self) -> dec::Result<()> {
        if self.chooses_clusters() {
            let problem = "--clusters auto is for training alone; `dec choose-k` finds the number";
            return Err(dec::Error::Config(problem.to_owned()));
        }
        Ok(())
    }

    /// Applies `--data` and `--data-dir`; the recipe's labels belong to the recipe's rows and go with them.
    fn choose_data(&self, config: &mut Config) -> dec::Result<()> {
        let source = match (self.rows.first().or(self.data.as_ref()), &self.data_dir) {
            (Some(data), _) => data.clone(),
            (None, Some(_)) if matches!(config.data.source.as_str(), "builtin" | "mnist") => "mnist".to_owned(),
            _ => config.data.source.clone(),
        };
        let more = match self.rows.get(1..) {
            Some(more) => more.to_vec(),
            None if source != config.data.source => Vec::new(),
            None => config.data.more.clone(),
        };
        if source != config.data.source || more != config.data.more {
            config.data.source = source;
            config.data.more = more;
            config.data.labels = None;
            config.data.dir = None;
        }
        match &self.data_dir {
            Some(dir) if config.data.source != "mnist" => Err(dec::Error::Config(format!(
                "--data-dir {} goes with --data mnist, not with --data {}",
                dir.display(),
                config.data.source
            ))),
            Some(dir) => {
                config.data.dir = Some(dir.clone());
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Makes everything that computes use as many threads as asked for.
pub fn set_threads(threads: Threads) -> dec::Result<()> {
    dec::backend::threads::set(threads.given()).map(|_| ())
}

/// The recipe of the run in `run`, and the rows that it clustered, from where it had them.
pub fn data_of_run(run: &Path) -> anyhow::Result<(Config, Dataset)> {
    let config = read_config(run)?;
    anyhow::ensure!(config.data.source != "-", "the rows came from standard input");
    let dataset = match &config.start.from {
        Some(_) => read_as(&config, run)?, // which read them as the run that it started from
        None => load_data(&config)?,
    };
    let summary = std::fs::read(run.join(SUMMARY)).unwrap_or_default();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap_or_default();
    if let Some(sum) = summary["rows_sha256"].as_str() {
        anyhow::ensure!(sum == dataset.rows_sha256()?, "{} has changed since the run", dataset.name);
    }
    Ok((config, dataset))
}

/// The rows that `config` names; as the run that it starts from read its own.
pub fn load_data(config: &Config) -> anyhow::Result<Dataset> {
    match &config.start.from {
        Some(run) => read_as(config, run),
        None => read_data(config, config.data.reading()).context("the data cannot be used"),
    }
}

/// The rows that `config` names, with the columns of the model in `run`, and what that does on reading.
fn read_as(config: &Config, run: &Path) -> anyhow::Result<Dataset> {
    let model = Model::load(run, Device::Cpu)?;
    let mut data = config.data.clone();
    data.categorical_of(&model.columns);
    let reading = Reading { intake: Some(&model.intake), names: &model.columns, ..data.reading() };
    read_data(config, reading).context("the data cannot be used")
}

/// The same, read in another way.
pub fn read_data(config: &Config, reading: Reading) -> dec::Result<Dataset> {
    let data = &config.data;
    let (dir, labels) = (data.dir.as_deref(), data.labels.as_deref());
    data::load(&Source { source: &data.source, more: &data.more, dir, labels, reading })
}

/// As many clusters as the labels have classes; `None` without labels, and where all are alike.
pub fn classes_of(dataset: &Dataset) -> Option<usize> {
    dataset.n_classes().filter(|&classes| classes > 1)
}

/// `path`, or where that is taken the first that is free with a number behind it.
pub fn free(path: &Path) -> PathBuf {
    let numbered = |n: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-{n}"));
        PathBuf::from(name)
    };
    std::iter::once(path.to_owned()).chain((2..).map(numbered)).find(|path| !path.exists()).unwrap_or_default()
}
