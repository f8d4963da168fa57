//! The network and the clustering layer on its latent; nothing here knows of files or flags.

pub mod autoencoder;
pub mod clustering;

pub use autoencoder::Autoencoder;
pub use clustering::ClusteringLayer;

use tch::Tensor;

use crate::data::Rows;
use crate::error::Result;

/// What a run trains: an autoencoder and, from the initialisation on, centroids in its latent space.
#[derive(Debug)]
pub struct Dec {
    /// Rows are multiplied by this before the encoder sees them.
    pub scale: f64,
    /// Encoder and decoder.
    pub autoencoder: Autoencoder,
    /// The clustering layer; `None` until k-means has placed the centroids.
    pub clustering: Option<ClusteringLayer>,
}

impl Dec {
    /// Every parameter with its PyTorch-style name: `encoder.0.weight` …, `decoder.0.weight` …, `centroids`.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        let mut named = self.autoencoder.named_parameters();
        if let Some(layer) = &self.clustering {
            named.push(("centroids".to_owned(), layer.centroids().shallow_clone()));
        }
        named
    }

    /// The latent rows z \[n, m\] of the whole data set, without a graph, in blocks that bound the memory.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn encode_all(&self, rows: &Rows) -> Result<Tensor> {
        rows.map_blocks(self.autoencoder.widest(), |x| Ok(self.autoencoder.encode(x)))
    }

    /// log q \[n, k\] of all latent rows `z` \[n, m\], without a graph, in blocks that bound the memory.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn log_soft_assign(&self, layer: &ClusteringLayer, z: &Tensor) -> Result<Tensor> {
        let differences = layer.centroids().size().iter().product(); // k·m a row
        Rows::from_tensor(z.shallow_clone()).map_blocks(differences, |z| layer.log_soft_assignment(z))
    }
}
