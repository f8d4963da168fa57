//! The network and the clustering layer on its latent; nothing here knows of files or flags.

pub mod autoencoder;
pub mod clustering;
pub mod stack;

pub use autoencoder::{Autoencoder, Init};
pub use clustering::ClusteringLayer;
pub use stack::{DenseLayer, DenseStack};

use tch::{Kind, Tensor};

use crate::data::{Rows, Scaling};
use crate::error::Result;

/// What a run trains: an autoencoder and, from the initialisation on, centroids in its latent space.
#[derive(Debug)]
pub struct Dec {
    /// What is done to raw rows before the encoder sees them.
    pub scaling: Scaling,
    /// Encoder and decoder.
    pub autoencoder: Autoencoder,
    /// The clustering layer; `None` until k-means has placed the centroids.
    pub clustering: Option<ClusteringLayer>,
}

impl Dec {
    /// Every tensor of the model with its PyTorch-style name: `encoder.0.weight` …, `decoder.0.weight` …, `centroids`; and where
    /// rows are centred, `input.mean` and `input.deviation`.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn named_tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut named = self.autoencoder.named_parameters();
        if let Some(layer) = &self.clustering {
            named.push(("centroids".to_owned(), layer.centroids().shallow_clone()));
        }
        for (name, row) in self.scaling.tensors()? {
            named.push((format!("input.{name}"), row.f_squeeze_dim(0)?));
        }
        Ok(named)
    }

    /// The latent rows z \[n, m\] of the whole data set, without a graph, in blocks that bound the memory.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn encode_all(&self, rows: &Rows) -> Result<Tensor> {
        match self.autoencoder.encoder_stack() {
            Some(stack) => stack.map_rows(rows),
            None => rows.map_blocks(self.autoencoder.widest(), |x| Ok(self.autoencoder.encode(x))),
        }
    }

    /// The latent rows z \[n, m\] of `n` rows that `fill` brings: it writes those from a number on into \[b, d\].
    ///
    /// # Errors
    /// What `fill` fails with, a libtorch failure (out of memory, say).
    pub fn encode_filled(&self, n: i64, d: i64, fill: &mut dyn FnMut(i64, &Tensor) -> Result<()>) -> Result<Tensor> {
        const BLOCK: i64 = 4096;
        let device = self.autoencoder.device();
        let mut parts = Vec::new();
        for start in (0..n).step_by(BLOCK as usize) {
            let x = Tensor::f_empty([BLOCK.min(n - start), d], (Kind::Float, device))?;
            fill(start, &x)?;
            parts.push(self.encode_all(&Rows::from_tensor(x))?);
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }
}
