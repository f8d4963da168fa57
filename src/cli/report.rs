//! `dec report`: the page of a run, made again, or of several.

use std::path::PathBuf;

use clap::Args;
use dec::control::Control;
use dec::report::{self, Sample};
use dec::run::SUMMARY;

use super::recipe::data_of_run;

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run directories; of several, the first is shown in detail, and how far the others agree
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,

    /// Where to write it [default: report.html in the run directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ReportArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let [run, others @ ..] = self.runs.as_slice() else { return Ok(()) };
        if !others.is_empty() && self.output.is_none() {
            let problem = "of several runs: say where the report goes (--output FILE)";
            return Err(dec::Error::Config(problem.to_owned()).into());
        }
        if !run.join(SUMMARY).exists() {
            let problem = format!("is no run directory with results: it has no {SUMMARY}");
            return Err(dec::Error::data(run, problem).into());
        }
        let sample = match sample(run) {
            Ok(sample) => Some(sample),
            Err(problem) => {
                tracing::warn!("{problem:#}; the report is without what needs the rows");
                None
            }
        };
        let output = self.output.as_deref();
        let written = report::write(run, others, sample.as_ref(), output, &mut Control::ignored())?;
        super::print(&format!("{}\n", written.display()))
    }
}

/// The rows of the run, from where it had them.
fn sample(run: &std::path::Path) -> anyhow::Result<Sample> {
    let (config, dataset) = data_of_run(run)?;
    Ok(Sample::of(&dataset, &dec::state::order_of(&config, dataset.n_rows()))?)
}
