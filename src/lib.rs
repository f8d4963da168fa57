//! Deep Embedded Clustering (Xie, Girshick & Farhadi, ICML 2016) on libtorch.
//!
//! Rows that nobody has labelled go in; clusters, soft memberships, an embedding and a TorchScript predictor come out. The
//! library trains and tells an [`Observer`](train::Observer) what happens; the binary `dec` around it reads the command
//! line, draws progress and writes the run directory.
//!
//! ```no_run
//! use dec::{config::Config, data, train::Trainer};
//!
//! let config = Config::default();
//! let dataset = data::load(&data::Source { source: "builtin", dir: None, labels: None })?;
//! let mut trainer = Trainer::new(&config, &dataset, tch::Device::Cpu)?;
//! trainer.run(&mut ())?;
//! for result in &trainer.results {
//!     assert!(result.inertia > 0.0, "{}", result.method);
//! }
//! # Ok::<(), dec::Error>(())
//! ```

pub mod backend;
pub mod config;
pub mod data;
pub mod error;
pub mod export;
pub mod kmeans;
pub mod metrics;
pub mod model;
pub mod report;
pub mod run;
pub mod start;
pub mod train;

pub use error::{Error, Result};
