//! Deep Embedded Clustering (Xie, Girshick & Farhadi, ICML 2016) on libtorch.
//!
//! Rows that nobody has labelled go in; clusters, soft memberships, an embedding and a TorchScript predictor come out. The
//! library trains and tells an [`Observer`](control::Observer) what happens; the binary `dec` around it reads the command
//! line, draws progress and writes the run directory.
//!
//! ```
//! use dec::{config::Config, data, run::Trainer};
//!
//! let mut config = Config::default();
//! # config.data.limit = Some(200);
//! # config.model.hidden = dec::config::Widths::Given(vec![20]);
//! # config.pretrain.steps = Some(20);
//! # config.start.method = dec::config::StartMethod::KMeans;
//! # config.start.over_clustering = dec::config::OverClustering::Given(Vec::new());
//! # config.cluster.handover_epochs = dec::config::Count::Given(1);
//! # config.cluster.max_rounds = dec::config::Count::Given(1);
//! let dataset = data::load(&data::Source { source: "builtin", ..data::Source::default() })?;
//! let fitted = Trainer::new(&config.check()?, &dataset, tch::Device::Cpu)?.run(&mut ())?;
//! let again = fitted.predict(&dataset.features.select(&fitted.assignment.rows))?;
//! let same = again.labels.iter().zip(&fitted.assignment.labels).filter(|(a, b)| a == b).count();
//! assert_eq!(same, fitted.assignment.labels.len());
//! # Ok::<(), dec::Error>(())
//! ```

pub mod backend;
pub mod config;
pub mod control;
pub mod data;
pub mod error;
pub mod export;
mod files;
#[cfg(test)]
mod gpu_tests;
pub mod kmeans;
pub mod metrics;
pub mod model;
pub mod objective;
pub mod output;
mod protobuf;
pub mod report;
pub mod run;
pub mod stage;
pub mod start;
pub mod state;
pub mod train;

pub use error::{Error, Result};
