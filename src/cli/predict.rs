//! `dec predict`: cluster new rows with a trained model.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use dec::backend::DeviceRequest;
use dec::config::Threads;
use dec::data::{self, Source};
use dec::export::LoadedPredictor;
use dec::run::{assignments_csv, check_writable, write_atomic, Assignment, Content, RunDir, SUMMARY};

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The model.pt of a run
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,

    /// Rows, unscaled as in training: an IDX (.gz too) or NPY file, "builtin" or "mnist"
    #[arg(value_name = "ROWS")]
    rows: String,

    /// Directory with MNIST's four files, for "mnist"
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Where to write row, cluster and confidence as CSV [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Where to compute: auto, cpu, cuda, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,

    /// Threads that compute on the CPU: a number, or auto (OMP_NUM_THREADS, else every processor that this program may
    /// use)
    #[arg(long, value_name = "N", default_value = "auto", allow_negative_numbers = true)]
    threads: String,
}

impl PredictArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let request: DeviceRequest = self.device.parse()?;
        let threads: Threads = self.threads.parse()?;
        threads.given().map_or(Ok(()), dec::backend::threads::check)?;
        if let Some(output) = &self.output {
            if output.is_dir() {
                return Err(dec::Error::output(output, "is a directory; name a file with --output").into());
            }
            let parent = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            check_writable(parent)?;
        }
        let device = dec::backend::select(request)?;
        super::recipe::set_threads(threads)?;
        if !self.model.exists() {
            if let Some(why) = unfinished(&self.model) {
                return Err(dec::Error::data(&self.model, why).into());
            }
        }
        let model = LoadedPredictor::load(&self.model, device)?;
        let source = Source { source: &self.rows, dir: self.data_dir.as_deref(), labels: None };
        let dataset = data::load(&source).context("the rows cannot be used")?;
        let expected = model.n_features();
        if dataset.n_features() as i64 != expected {
            return Err(dec::Error::Rows(format!(
                "{} has {} features a row, but {} was trained on {expected}; give it rows like those it was trained on",
                dataset.name,
                dataset.n_features(),
                self.model.display()
            ))
            .into());
        }
        let (labels, confidence) = model.predict(&dataset.features.to_tensor()?)?;
        let csv = assignments_csv(&Assignment { rows: (0..dataset.n_rows()).collect(), labels, confidence });
        match &self.output {
            Some(output) => Ok(write_atomic(output, &csv)?),
            None => super::print(&String::from_utf8(csv)?),
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
