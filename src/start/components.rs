//! Rows in fewer dimensions without a network: their coordinates along the leading right singular vectors.
//!
//! By subspace iteration (Halko, Martinsson & Tropp 2011, §4.5): six passes over the rows in blocks, each of n · d · 50 steps or
//! twice that, and memory for some d · 50 values beside the result.

use tch::{no_grad, Device, Kind, Tensor};

use super::eigen::orthonormal;
use crate::backend::precision;
use crate::control::Control;
use crate::data::Rows;
use crate::error::Result;

/// Coordinates that are kept: what single-cell analysis by custom takes for its graphs.
const N_COMPONENTS: i64 = 50;
const ITERATIONS: usize = 5;
/// Values of rows that are gone through together.
const BLOCK_VALUES: i64 = 1 << 22;

/// The first `n` of `rows` \[·, d\] along their 50 leading right singular vectors, float32 \[n, 50\] on the rows' device; the rows themselves
/// where they have no more features than that. Distances between them are those of the rows, but for what is left out. For all processes: of
/// rows that are divided each goes through those that it holds.
///
/// # Errors
/// [`crate::Error::Interrupted`], [`crate::Error::Processes`], or a libtorch failure.
pub fn components(rows: &Rows, n: i64, control: &mut Control) -> Result<Tensor> {
    let d = rows.n_features();
    if d <= N_COMPONENTS {
        return rows.first(n)?.to_tensor();
    }
    no_grad(|| {
        let _exact = precision::without_tf32()?;
        // Cosines of ever shorter waves lie across all features: a start that needs no seed.
        let options = (Kind::Float, rows.device());
        let places = Tensor::f_arange(d, options)?.f_add_scalar(0.5)?.f_unsqueeze(1)?;
        let waves = Tensor::f_arange(N_COMPONENTS, options)?.f_mul_scalar(std::f64::consts::PI / d as f64)?;
        let mut basis = places.f_mul(&waves.f_unsqueeze(0)?)?.f_cos()?;
        for _ in 0..ITERATIONS {
            let mut image = basis.f_zeros_like()?;
            for_held(rows, n, control, |_, block| {
                let _ = image.f_add_(&block.f_tr()?.f_matmul(&block.f_matmul(&basis)?)?)?;
                Ok(())
            })?;
            rows.ranks().sum(&image)?;
            basis = orthonormal(&image.f_to_device(Device::Cpu)?)?.f_to_device(rows.device())?;
        }
        let found = Tensor::f_zeros([n.min(rows.n_rows()), N_COMPONENTS], options)?;
        for_held(rows, n, control, |start, block| {
            let mut part = found.f_narrow(0, start, block.size()[0])?;
            Ok(part.f_copy_(&block.f_matmul(&basis)?)?)
        })?;
        rows.ranks().sum(&found)?; // a row is 0 in all processes but one
        Ok(found)
    })
}

/// Calls `f` with blocks of those of the first `n` rows that this process holds, and each block's first row.
fn for_held(rows: &Rows, n: i64, control: &Control, mut f: impl FnMut(i64, &Tensor) -> Result<()>) -> Result<()> {
    let held = rows.held();
    let end = held.end.min(n);
    let size = (BLOCK_VALUES / rows.n_features().max(1)).max(1);
    let mut part = || {
        for start in (held.start..end).step_by(size as usize) {
            control.check()?;
            let block = Tensor::f_empty([size.min(end - start), rows.n_features()], (Kind::Float, rows.device()))?;
            rows.copy_held(start, &block)?;
            f(start, &block)?;
        }
        Ok(())
    };
    control.divided(part())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(rows: &Tensor) -> Tensor {
        components(&Rows::from_tensor(rows.shallow_clone()), i64::MAX, &mut Control::ignored()).unwrap()
    }

    #[test]
    fn nearly_all_that_fifty_dimensions_can_hold_is_held() {
        tch::manual_seed(5);
        let options = (Kind::Float, Device::Cpu);
        // Thirty strong directions among ninety, and noise.
        let rows = Tensor::randn([400, 30], options).matmul(&Tensor::randn([30, 90], options))
            + Tensor::randn([400, 90], options) * 0.3;
        let held = found(&rows).square().sum(Kind::Double).double_value(&[]);
        let rows = rows.to_kind(Kind::Double);
        let squares = rows.tr().matmul(&rows).linalg_eigvalsh("L"); // of the singular values, the least first
        let most = squares.narrow(0, 90 - N_COMPONENTS, N_COMPONENTS).sum(Kind::Double).double_value(&[]);
        assert!(held <= most * (1.0 + 1e-5) && held > 0.997 * most, "{held} of {most}");
    }

    #[test]
    fn few_features_stay_and_few_rows_or_a_low_rank_are_no_trouble() {
        let options = (Kind::Float, Device::Cpu);
        let rows = Tensor::randn([20, 50], options);
        assert_eq!(found(&rows), rows);
        let wide = Tensor::randn([3, 200], options);
        let far = |x: &Tensor| (x.get(0) - x.get(2)).square().sum(Kind::Double).double_value(&[]);
        assert!((far(&found(&wide)) / far(&wide) - 1.0).abs() < 1e-4, "three rows span three dimensions");
        let zeros = Tensor::zeros([5, 60], options);
        assert_eq!(found(&zeros).abs().max().double_value(&[]), 0.0);
    }
}
