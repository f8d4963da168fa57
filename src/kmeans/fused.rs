//! The passes of k-means by the CPU's kernels, which skip the rows whose label cannot have changed.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::passes::{Passes, Space};
use crate::backend::lloyd::{self, Labelling, Totals, View};
use crate::control::Control;
use crate::data::values_of;
use crate::error::Result;

/// Products between two questions whether to stop: a fraction of a second.
const PRODUCTS: i64 = 1 << 34;

/// Each row's ‖x‖², float32 \[n\], and their sum.
#[derive(Debug)]
pub(super) struct Norms {
    each: Tensor,
    total: f64,
}

/// R restarts' state.
#[derive(Debug)]
pub(super) struct Fused<'a> {
    space: &'a Space,
    norms: &'a Norms,
    /// Squared distances to the nearest centre, float32 \[R, n\], until the first assignment.
    closest: Option<Tensor>,
    labels: Tensor,
    previous: Tensor,
    /// What is known of the rows' distances, float32 \[3, R, n\]: see [`Labelling`].
    bounds: Tensor,
    sums: Tensor,
    counts: Tensor,
    /// The centroids that rows were last assigned by, float32 \[R, k, d\].
    centroids: Tensor,
    /// How far each has moved, and how far the farthest-moving other one of each step: \[R, k\].
    drift: Vec<(f64, f64)>,
}

impl<'a> Fused<'a> {
    pub fn norms(space: &Space) -> Result<Norms> {
        let each = lloyd::squared_norms(&space.stored, space.scale, &space.origin)?;
        let total = values_of::<f64>(&each)?.iter().sum();
        Ok(Norms { each: each.f_to_kind(Kind::Float)?, total })
    }

    pub fn new(space: &'a Space, norms: &'a Norms, restarts: i64, k: i64) -> Result<Self> {
        let (n, d) = (space.n_rows(), space.n_features());
        Ok(Self {
            space,
            norms,
            closest: None,
            labels: Tensor::f_full([restarts, n], -1, (Kind::Int, Device::Cpu))?,
            previous: Tensor::f_full([restarts, n], -1, (Kind::Int, Device::Cpu))?,
            bounds: Tensor::f_full([3, restarts, n], -1.0, (Kind::Float, Device::Cpu))?,
            sums: Tensor::f_zeros([restarts, k, d], (Kind::Double, Device::Cpu))?,
            counts: Tensor::f_zeros([restarts, k], (Kind::Double, Device::Cpu))?,
            centroids: Tensor::f_zeros([restarts, k, d], (Kind::Float, Device::Cpu))?,
            drift: vec![(0.0, 0.0); (restarts * k) as usize],
        })
    }

    fn view(&self) -> View<'_> {
        View { rows: &self.space.stored, scale: self.space.scale, origin: &self.space.origin, norms: &self.norms.each }
    }

    fn closest(&mut self, restarts: i64) -> Result<Tensor> {
        let closest = match self.closest.take() {
            Some(closest) => closest,
            None => Tensor::f_full([restarts, self.space.n_rows()], f64::INFINITY, (Kind::Float, Device::Cpu))?,
        };
        self.closest = Some(closest.shallow_clone());
        Ok(closest)
    }

    /// Ranges of rows that `columns` products a feature can be made of in one go.
    fn ranges(&self, columns: i64) -> impl Iterator<Item = Range<i64>> {
        let n = self.space.n_rows();
        let chunks = PRODUCTS / (columns * self.space.n_features()).max(1) / lloyd::CHUNK;
        let size = chunks.clamp(1, 1 << 20) * lloyd::CHUNK;
        (0..n).step_by(size as usize).map(move |start| start..(start + size).min(n))
    }

    /// Adds to the drift what the active restarts' centroids have moved, and returns it: float32 \[2, A, k\].
    fn drifted(&mut self, active: &[i64], centroids: &Tensor) -> Result<Tensor> {
        let k = centroids.size()[1] as usize;
        let index = Tensor::f_from_slice(active)?;
        let old = self.centroids.f_index_select(0, &index)?;
        let step = centroids.f_to_kind(Kind::Double)?.f_sub(&old)?;
        let steps: Vec<f64> = values_of(&step.f_square()?.f_sum_dim_intlist(2, false, None)?.f_sqrt()?)?;
        let _filled = self.centroids.f_index_copy_(0, &index, centroids)?;
        let (mut own, mut others) = (Vec::with_capacity(2 * steps.len()), Vec::with_capacity(steps.len()));
        for (steps, &restart) in steps.chunks_exact(k).zip(active) {
            let drift = &mut self.drift[restart as usize * k..][..k];
            for (cluster, (drift, step)) in drift.iter_mut().zip(steps).enumerate() {
                let rest = steps.iter().enumerate().filter(|&(other, _)| other != cluster).map(|(_, step)| *step);
                drift.0 += step;
                drift.1 += rest.fold(0.0, f64::max);
                own.push(drift.0 as f32);
                others.push(drift.1 as f32);
            }
        }
        own.append(&mut others);
        Ok(Tensor::f_from_slice(&own)?.f_view([2, active.len() as i64, k as i64])?)
    }

    fn update(&mut self, active: &[i64], control: &mut Control) -> Result<Vec<i64>> {
        let changed = Tensor::f_zeros([active.len() as i64], (Kind::Int64, Device::Cpu))?;
        let totals = Totals { previous: &self.previous, sums: &self.sums, counts: &self.counts };
        for range in self.ranges(active.len() as i64 * 4) {
            control.check()?;
            lloyd::update(&self.space.stored, active, &self.labels, &totals, &changed, range)?;
        }
        values_of(&changed)
    }
}

impl Passes for Fused<'_> {
    fn total(&self) -> f64 {
        self.norms.total
    }

    fn approach(&mut self, centres: &Tensor, control: &mut Control) -> Result<()> {
        let closest = self.closest(centres.size()[0])?;
        let centres = centres.f_unsqueeze(1)?;
        for range in self.ranges(centres.size()[0]) {
            control.check()?;
            lloyd::approach(&self.view(), &centres, &closest, range)?;
        }
        Ok(())
    }

    fn sample(&self, draws: &Tensor) -> Result<Tensor> {
        match &self.closest {
            Some(closest) => lloyd::sample(closest, draws),
            None => Ok(draws.f_mul_scalar(self.space.n_rows() as f64)?.f_to_kind(Kind::Int64)?),
        }
    }

    fn potentials(&mut self, candidates: &Tensor, control: &mut Control) -> Result<Tensor> {
        let closest = self.closest(candidates.size()[0])?;
        let potentials = Tensor::f_zeros(&candidates.size()[..2], (Kind::Double, Device::Cpu))?;
        for range in self.ranges(candidates.size()[0] * candidates.size()[1]) {
            control.check()?;
            lloyd::potentials(&self.view(), candidates, &closest, &potentials, range)?;
        }
        Ok(potentials)
    }

    fn assign(&mut self, active: &[i64], centroids: &Tensor, control: &mut Control) -> Result<Vec<i64>> {
        self.closest = None;
        let centroids = centroids.f_contiguous()?;
        let drift = self.drifted(active, &centroids)?;
        let labelling = Labelling { labels: &self.labels, bounds: &self.bounds };
        for range in self.ranges(active.len() as i64 * centroids.size()[1]) {
            control.check()?;
            lloyd::assign(&self.view(), active, &centroids, &drift, &labelling, range)?;
        }
        self.update(active, control)
    }

    fn clusters(&self, active: &[i64]) -> Result<(Tensor, Tensor)> {
        let index = Tensor::f_from_slice(active)?;
        let counts = self.counts.f_index_select(0, &index)?;
        let per_row = counts.f_reciprocal()?.f_mul_scalar(self.space.scale)?.f_unsqueeze(2)?;
        let means = self.sums.f_index_select(0, &index)?.f_mul(&per_row)?.f_sub(&self.space.origin)?;
        Ok((counts, means))
    }

    fn labels(&self, restart: i64) -> Result<Tensor> {
        Ok(self.labels.f_get(restart)?)
    }

    fn relabel(&mut self, restart: i64, rows: &[usize], to: &[i64]) -> Result<()> {
        for (&row, &label) in rows.iter().zip(to) {
            let _filled = self.labels.f_get(restart)?.f_get(row as i64)?.f_fill_(label)?;
            let _filled = self.bounds.f_select(1, restart)?.f_select(1, row as i64)?.f_fill_(-1.0)?;
        }
        self.update(&[restart], &mut Control::ignored())?;
        Ok(())
    }
}
