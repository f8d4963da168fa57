//! The network and the clustering of its latent; nothing here knows of files or flags.

pub mod assignment;
pub mod dense;
pub mod groups;
pub mod names;
pub mod network;
pub mod outlier;
pub mod profile;
pub mod stack;

pub use assignment::ClusteringLayer;
pub use dense::{Autoencoder, Init};
pub use groups::Groups;
pub use names::ClusterNames;
pub use network::{copies, encode_all, encode_filled, encode_own, set_parameters, LayerPair, Network};
pub use profile::Profile;
pub use stack::{Activation, DenseLayer, DenseStack};
