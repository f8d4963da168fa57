//! The first assignment of the latent rows to clusters, which self-training starts from.
//!
//! k-means ([`crate::kmeans`]) looks for round clusters of equal size; the latent of an autoencoder has others. Spectral
//! clustering ([`spectral`]) looks for groups of rows that are each other's neighbours, whatever their shape; a Gaussian mixture
//! ([`mixture`]) for ellipses; Ward's linkage ([`ward`]) also for small groups that stand apart. [`choice`] says when which is
//! believed.

pub mod choice;
mod components;
mod consensus;
mod eigen;
mod extend;
mod graph;
mod merging;
pub mod mixture;
mod neighbours;
pub mod spectral;
pub mod ward;

pub use components::components;
pub use consensus::{elect, Elected};
pub use eigen::{leading_eigenvectors, Eigen};
pub use extend::extend;
pub use graph::NeighbourGraph;
pub use merging::{merge_clusters, Joint, Merging};
pub use neighbours::{neighbours, Neighbours};
