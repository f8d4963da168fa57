//! The rows as k-means sees them, and the passes over them that an implementation makes.
//!
//! n rows of d features, k clusters, R restarts of which A have not converged. All coordinates here are of rows as
//! scaled, minus their mean: in ‖x‖² − 2x·c + ‖c‖² little then cancels, wherever the rows lie.

use tch::{Kind, Tensor};

use super::exact;
use crate::control::Control;
use crate::data::Rows;
use crate::error::Result;

/// The rows, and what a search needs to know of them.
#[derive(Debug)]
pub(super) struct Space {
    /// uint8 or float32 \[n, d\], contiguous.
    pub stored: Tensor,
    /// The stored values times this are the rows.
    pub scale: f64,
    /// The rows' mean, float32 \[d\].
    pub origin: Tensor,
}

impl Space {
    pub fn new(rows: &Rows, control: &mut Control) -> Result<Self> {
        let (stored, scale) = (rows.stored_block(0, rows.n_rows())?, rows.scale());
        let stored = match stored.f_kind()? {
            Kind::Uint8 | Kind::Float => stored.f_contiguous()?,
            _ => stored.f_to_kind(Kind::Float)?.f_contiguous()?,
        };
        let mean = exact::means(rows, &vec![0; rows.n_rows() as usize], 1, control)?;
        let origin = Tensor::f_from_slice(&mean.iter().copied().collect::<Vec<f32>>())?.f_to_device(rows.device())?;
        Ok(Self { stored, scale: f64::from(scale as f32), origin })
    }

    pub fn n_rows(&self) -> i64 {
        self.stored.size()[0]
    }

    pub fn n_features(&self) -> i64 {
        self.stored.size()[1]
    }

    /// `rows`, a part of `stored`, as float32 around the origin.
    pub fn centred(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.f_to_kind(Kind::Float)?.f_mul_scalar(self.scale)?.f_sub(&self.origin)?)
    }
}

/// Passes over all rows for R restarts. What a pass finds for one restart does not depend on the others.
pub(super) trait Passes {
    /// Σ ‖x‖².
    fn total(&self) -> f64;

    /// Remembers each row's squared distance to the nearest centre so far, of which `centres` \[R, d\] are new.
    fn approach(&mut self, centres: &Tensor, control: &mut Control) -> Result<()>;

    /// Row numbers, int64 \[R, t\], drawn by those squared distances with `draws`, float64 \[R, t\] in \[0, 1).
    fn sample(&self, draws: &Tensor) -> Result<Tensor>;

    /// What the sum of those squared distances would be with each of `candidates` \[R, t, d\]: float64 \[R, t\].
    fn potentials(&mut self, candidates: &Tensor, control: &mut Control) -> Result<Tensor>;

    /// Gives every row the label of the nearest of its restart's `centroids` \[A, k, d\], and returns how many labels
    /// of each restart that changed.
    fn assign(&mut self, active: &[i64], centroids: &Tensor, control: &mut Control) -> Result<Vec<i64>>;

    /// The clusters' sizes, float64 \[A, k\], and means, float64 \[A, k, d\] (anything for an empty one).
    fn clusters(&self, active: &[i64]) -> Result<(Tensor, Tensor)>;

    /// One restart's labels: int32 \[n\].
    fn labels(&self, restart: i64) -> Result<Tensor>;

    /// Gives `rows` of one restart the labels `to`.
    fn relabel(&mut self, restart: i64, rows: &[usize], to: &[i64]) -> Result<()>;
}

/// Rows of a block whose temporaries are `width` float32 values a row.
pub(super) fn block_rows(width: i64) -> i64 {
    ((1 << 22) / width.max(1)).max(1)
}
