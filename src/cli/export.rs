//! `dec export`: a run's predictor in another format.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dec::export::{to_onnx, to_torchscript, Predictor};
use dec::run::{write_atomic, Model, MODEL, ONNX};

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run directory, or an ensemble's for the run that it names
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// The format: onnx, for ONNX Runtime; torchscript, for PyTorch and libtorch
    #[arg(long, value_name = "FORMAT")]
    to: Target,

    /// Where to write it [default: model.onnx or model.pt in the run directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    Onnx,
    Torchscript,
}

impl ExportArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let run = super::ensemble::run_in(&self.run)?;
        super::predict::check_is_run(&run)?;
        let model = Model::load(&run, tch::Device::Cpu)?;
        let scaled = (&model.intake, &model.scaling);
        let profile = model.profile.as_ref();
        let bytes = Predictor::with(&*model.network, &model.layer, scaled, profile, |predictor| match self.to {
            Target::Onnx => to_onnx(predictor, &model.columns),
            Target::Torchscript => to_torchscript(predictor),
        })?;
        let Some(bytes) = bytes else {
            anyhow::bail!("this network cannot be exported: its layers are not dense ones")
        };
        let name = match self.to {
            Target::Onnx => ONNX,
            Target::Torchscript => MODEL,
        };
        let output = self.output.clone().unwrap_or_else(|| run.join(name));
        write_atomic(&output, &bytes)?;
        super::print(&format!("{}\n", output.display()))
    }
}
