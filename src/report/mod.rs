//! What people look at: the table that a run ends with, its report, a page of HTML, and what was found about the number of clusters.
//!
//! [`write()`] makes `report.html` of a run's directory and a [`Sample`] of the rows; [`page`] is the page itself, [`why`] what tells
//! clusters apart.

mod choice;
mod compare;
mod curves;
mod gather;
mod map;
pub mod page;
mod pictures;
mod record;
mod sample;
mod table;
mod tensorboard;
pub mod why;

use std::path::{Path, PathBuf};

use crate::control::Control;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::run::REPORT;
use record::Record;

pub use choice::{choice_csv, choice_svg, choice_table};
pub use sample::Sample;
pub use table::{results_table, text_table};
pub use tensorboard::TensorBoard;

/// Writes the report of the run in `run` to its directory, or to `output`, and says where. Of several runs, `others` stand
/// beside it, with how far they agree.
///
/// # Errors
/// [`Error::Data`] with the file of the run that is missing or not what a run writes, or with rows that are not those of the run;
/// [`Error::Interrupted`]; [`Error::Output`] where it cannot be written; or a libtorch failure.
pub fn write(
    run: &Path,
    others: &[PathBuf],
    sample: Option<&Sample>,
    output: Option<&Path>,
    control: &mut Control,
) -> Result<PathBuf> {
    let record = Record::read(run)?;
    let mut report = gather::gather(run, &record, sample, control)?;
    if !others.is_empty() {
        report.runs = Some(compare::runs(run, record, others)?);
    }
    let output = output.map_or_else(|| run.join(REPORT), Path::to_owned);
    let page = page::render(&report).map_err(|problem| Error::Fault(problem.to_string()))?;
    write_atomic(&output, page.html.as_bytes())?;
    Ok(output)
}

impl From<why::WhyError> for Error {
    fn from(problem: why::WhyError) -> Self {
        Self::Fault(problem.to_string())
    }
}
