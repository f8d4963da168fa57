//! Deep Embedded Clustering (Xie, Girshick & Farhadi, ICML 2016) on libtorch.
//!
//! Rows that nobody has labelled go in; clusters, soft memberships and an embedding come out. An autoencoder is trained on the rows,
//! first clusters are found in its latent space, and self-training sharpens both.
//!
//! ```
//! use dec::{data, Dec};
//!
//! let digits = data::load(&data::Source { source: "builtin", ..data::Source::default() })?; // 10,000 rows of 784 bytes
//! let dec = Dec::params(10) // into ten clusters
//!     .seed(0)
//! #     .set("model.hidden", vec![20])
//! #     .set("pretrain.steps", 20)
//! #     .set("start.method", "kmeans")
//! #     .set("start.over_clustering", Vec::<f64>::new())
//! #     .set("cluster.handover_epochs", 1)
//! #     .set("cluster.max_rounds", 1)
//!     .set("data.limit", 200) // any setting of a recipe; this one takes 200 of the rows
//!     .fit(&digits)?;
//!
//! assert_eq!(dec.labels().len(), 10_000); // the cluster of each row
//! let three = digits.select(&[0, 1, 2]);
//! assert_eq!(dec.try_predict(&three)?, dec.labels().slice(ndarray::s![..3]));
//! assert_eq!(dec.transform(&three)?.dim(), (3, 10)); // z, the embedding
//! assert_eq!(dec.soft_assignments(&three)?.dim(), (3, 10)); // q, rows sum to 1
//! # Ok::<(), dec::Error>(())
//! ```
//!
//! `fit` takes arrays of ndarray, datasets of linfa and files that [`data::read`] read. [`Dec`] says what a fitted model can do,
//! [`DecParams`] what can be asked for, [`config::Config`] lists every setting, and `examples/` has whole programs.
//!
//! | to | use |
//! |---|---|
//! | fit, predict, embed, save, load | [`Dec`] |
//! | watch or stop a fit | [`DecParams::fit_with`] and an [`Observer`](control::Observer) |
//! | find the number of clusters | [`choose`] |
//! | read files | [`data`] |
//! | score against labels | [`metrics`] |
//! | keep checkpoints, resume, go stage by stage | [`run::Trainer`], [`run::RunDir`] |
//!
//! The library prints nothing: it logs by `tracing` and tells the observer what happens. The binary `dec` is the command line around
//! it.

pub mod backend;
pub mod choose;
pub mod config;
pub mod control;
pub mod data;
pub mod ensemble;
pub mod error;
pub mod estimator;
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
pub mod ranking;
pub mod report;
pub mod run;
pub mod stage;
pub mod start;
pub mod state;
pub mod tensorboard;
mod text;
pub mod train;
pub mod umap;
mod warm;
pub mod watch;

pub use error::{Error, Result};
pub use estimator::{Dec, DecParams, DecValidParams};
pub use linfa::{self, ParamGuard};
