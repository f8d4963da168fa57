//! The passes of k-means by libtorch's operators, on any device.

use tch::{Kind, Tensor};

use super::passes::{block_rows, Passes, Space};
use crate::control::Control;
use crate::error::Result;

/// R restarts' state.
#[derive(Debug)]
pub(super) struct Plain<'a> {
    space: &'a Space,
    total: f64,
    k: i64,
    /// Squared distances to the nearest centre, float32 \[R, n\], until the first assignment.
    closest: Option<Tensor>,
    /// int32 \[R, n\].
    labels: Tensor,
    /// Each cluster's summed rows, float64 \[R, k, d\], and how many they are, float64 \[R, k\].
    sums: Tensor,
    counts: Tensor,
}

impl<'a> Plain<'a> {
    pub fn new(space: &'a Space, restarts: i64, k: i64) -> Result<Self> {
        let (n, d, device) = (space.n_rows(), space.n_features(), space.stored.device());
        let mut plain = Self {
            space,
            total: 0.0,
            k,
            closest: None,
            labels: Tensor::f_full([restarts, n], -1, (Kind::Int, device))?,
            sums: Tensor::f_zeros([restarts, k, d], (Kind::Double, device))?,
            counts: Tensor::f_zeros([restarts, k], (Kind::Double, device))?,
        };
        let mut total = 0.0;
        plain.for_blocks(d, &mut Control::ignored(), |_, _, rows| {
            total += f64::try_from(rows.f_square()?.f_sum(Kind::Double)?)?;
            Ok(())
        })?;
        plain.total = total;
        Ok(plain)
    }

    /// Calls `f` with start, length and centred rows \[b, d\] of consecutive blocks, given that it needs `width` values
    /// a row.
    fn for_blocks(
        &self,
        width: i64,
        control: &mut Control,
        mut f: impl FnMut(i64, i64, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let n = self.space.n_rows();
        let size = block_rows(width.max(self.space.n_features()));
        for start in (0..n).step_by(size as usize) {
            control.check()?;
            let length = size.min(n - start);
            f(start, length, &self.space.centred(&self.space.stored.f_narrow(0, start, length)?)?)?;
        }
        Ok(())
    }

    /// Each row's squared distance to the nearest centre, with each of `candidates` \[R, t, d\] for another centre:
    /// \[R, t, b\].
    fn least(&self, candidates: &Tensor, start: i64, rows: &Tensor) -> Result<Tensor> {
        let shape = candidates.size();
        let flat = candidates.f_reshape([-1, shape[2]])?;
        let row_norms = rows.f_square()?.f_sum_dim_intlist(1, false, None)?;
        let norms = flat.f_square()?.f_sum_dim_intlist(1, true, None)?;
        let distances = flat.f_matmul(&rows.f_tr()?)?.f_mul_scalar(-2.0)?.f_add(&norms)?.f_add(&row_norms)?;
        let length = rows.size()[0];
        let distances = distances.f_clamp_min(0.0)?.f_view([shape[0], shape[1], length])?;
        match &self.closest {
            Some(closest) => Ok(distances.f_minimum(&closest.f_narrow(1, start, length)?.f_unsqueeze(1)?)?),
            None => Ok(distances),
        }
    }

    /// The sums of rows and the counts by the labels of `restarts`, afresh.
    fn recount(&mut self, restarts: &[i64], control: &mut Control) -> Result<()> {
        let (d, device) = (self.space.n_features(), self.space.stored.device());
        let active = restarts.len() as i64;
        let index = Tensor::f_from_slice(restarts)?.f_to_device(device)?;
        let labels = self.labels.f_index_select(0, &index)?;
        let clusters = Tensor::f_arange(self.k, (Kind::Int, device))?.f_view([1, self.k, 1])?;
        let mut sums = Tensor::f_zeros([active * self.k, d], (Kind::Double, device))?;
        let mut counts = Tensor::f_zeros([active * self.k], (Kind::Double, device))?;
        self.for_blocks(active * self.k, control, |start, length, rows| {
            let labels = labels.f_narrow(1, start, length)?.f_unsqueeze(1)?;
            let members = labels.f_eq_tensor(&clusters)?.f_to_kind(Kind::Float)?.f_view([active * self.k, length])?;
            sums = sums.f_add(&members.f_matmul(rows)?)?;
            counts = counts.f_add(&members.f_sum_dim_intlist(1, false, Kind::Double)?)?;
            Ok(())
        })?;
        let _copied = self.sums.f_index_copy_(0, &index, &sums.f_view([active, self.k, d])?)?;
        let _copied = self.counts.f_index_copy_(0, &index, &counts.f_view([active, self.k])?)?;
        Ok(())
    }
}

impl Passes for Plain<'_> {
    fn total(&self) -> f64 {
        self.total
    }

    fn approach(&mut self, centres: &Tensor, control: &mut Control) -> Result<()> {
        let centres = centres.f_unsqueeze(1)?;
        let mut parts = Vec::new();
        self.for_blocks(centres.size()[0], control, |start, _, rows| {
            parts.push(self.least(&centres, start, rows)?.f_squeeze_dim(1)?);
            Ok(())
        })?;
        self.closest = Some(Tensor::f_cat(&parts, 1)?);
        Ok(())
    }

    fn sample(&self, draws: &Tensor) -> Result<Tensor> {
        let n = self.space.n_rows();
        let any = draws.f_mul_scalar(n as f64)?.f_to_kind(Kind::Int64)?;
        let Some(closest) = &self.closest else { return Ok(any) };
        let restarts = closest.size()[0];
        // CUDA's running sum of a single row is not the same bits every time; of two it is.
        let running = match restarts {
            1 => closest.f_expand([2, n], false)?.f_cumsum(1, Kind::Double)?.f_narrow(0, 0, 1)?,
            _ => closest.f_cumsum(1, Kind::Double)?,
        };
        let total = running.f_narrow(1, n - 1, 1)?;
        let drawn = draws.f_mul(&total)?.f_searchsorted(&running, false, true, "right", None::<&Tensor>)?;
        Ok(drawn.f_where_self(&total.f_gt(0.0)?, &any)?.f_clamp_max(n - 1)?)
    }

    fn potentials(&mut self, candidates: &Tensor, control: &mut Control) -> Result<Tensor> {
        let shape = candidates.size();
        let mut potentials = Tensor::f_zeros(&shape[..2], (Kind::Double, candidates.device()))?;
        self.for_blocks(shape[0] * shape[1], control, |start, _, rows| {
            let sums = self.least(candidates, start, rows)?.f_sum_dim_intlist(2, false, Kind::Double)?;
            potentials = potentials.f_add(&sums)?;
            Ok(())
        })?;
        Ok(potentials)
    }

    fn assign(&mut self, active: &[i64], centroids: &Tensor, control: &mut Control) -> Result<Vec<i64>> {
        self.closest = None;
        let shape = centroids.size();
        let index = Tensor::f_from_slice(active)?.f_to_device(centroids.device())?;
        let flat = centroids.f_reshape([-1, shape[2]])?;
        let half_norms = flat.f_square()?.f_sum_dim_intlist(1, true, None)?.f_mul_scalar(0.5)?;
        let mut parts = Vec::new();
        self.for_blocks(shape[0] * shape[1], control, |_, length, rows| {
            let scores = half_norms.f_sub(&flat.f_matmul(&rows.f_tr()?)?)?;
            parts.push(scores.f_view([shape[0], shape[1], length])?.f_argmin(1, false)?.f_to_kind(Kind::Int)?);
            Ok(())
        })?;
        let labels = Tensor::f_cat(&parts, 1)?;
        let differ = labels.f_ne_tensor(&self.labels.f_index_select(0, &index)?)?;
        let changed = crate::data::values_of(&differ.f_sum_dim_intlist(1, false, Kind::Int64)?)?;
        let _copied = self.labels.f_index_copy_(0, &index, &labels)?;
        self.recount(active, control)?;
        Ok(changed)
    }

    fn clusters(&self, active: &[i64]) -> Result<(Tensor, Tensor)> {
        let index = Tensor::f_from_slice(active)?.f_to_device(self.sums.device())?;
        let counts = self.counts.f_index_select(0, &index)?;
        let means = self.sums.f_index_select(0, &index)?.f_div(&counts.f_unsqueeze(2)?)?;
        Ok((counts, means))
    }

    fn labels(&self, restart: i64) -> Result<Tensor> {
        Ok(self.labels.f_get(restart)?)
    }

    fn relabel(&mut self, restart: i64, rows: &[usize], to: &[i64]) -> Result<()> {
        for (&row, &label) in rows.iter().zip(to) {
            let _filled = self.labels.f_get(restart)?.f_get(row as i64)?.f_fill_(label)?;
        }
        self.recount(&[restart], &mut Control::ignored())
    }
}
