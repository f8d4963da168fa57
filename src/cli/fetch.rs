//! `dec fetch`: public data sets into the cache.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dec::data::{self, FetchProgress, Outcome};
use indicatif::ProgressBar;

use super::console::Console;

#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The data set
    #[arg(value_enum)]
    dataset: Dataset,

    /// Where to put its files [default: the cache, where --data mnist looks]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Download from here instead of the public mirrors; may be repeated, tried in order
    #[arg(long, value_name = "URL")]
    mirror: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dataset {
    /// 70,000 handwritten digits, four files, 11.6 MB
    Mnist,
}

impl FetchArgs {
    pub fn run(&self, console: &Console) -> anyhow::Result<()> {
        let Dataset::Mnist = self.dataset;
        let dir = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => data::mnist_dir()?,
        };
        let mut bars = DownloadBars { console, bar: None };
        // A signal ends the process at once: no file is ever half there.
        let fetched = data::fetch_mnist(&dir, &self.mirror, &mut |progress| {
            bars.show(&progress);
            ControlFlow::Continue(())
        });
        bars.clear();
        for file in fetched? {
            let how = match file.outcome {
                Outcome::AlreadyThere => "already there",
                Outcome::Downloaded => "downloaded",
            };
            super::print(&format!("{}: {how}, verified\n", file.path.display()))?;
        }
        Ok(())
    }
}

/// A bar for the file that is arriving.
struct DownloadBars<'a> {
    console: &'a Console,
    bar: Option<ProgressBar>,
}

impl DownloadBars<'_> {
    fn show(&mut self, progress: &FetchProgress) {
        match progress {
            FetchProgress::Receiving { url, done, total } => {
                let console = self.console;
                let bar = self.bar.get_or_insert_with(|| {
                    console.line(&format!("downloading {url}"));
                    console.bar(0, "{bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left")
                });
                bar.set_length(total.unwrap_or(*done));
                bar.set_position(*done);
            }
            FetchProgress::Failed { url, problem } => {
                self.clear();
                tracing::debug!("{url}: {problem}"); // the error at the end names every attempt
            }
            FetchProgress::Verified { .. } => self.clear(),
            FetchProgress::AlreadyThere { .. } => {}
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
