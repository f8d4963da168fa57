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

/// The `rows` \[n, d\] along their 50 leading right singular vectors, float32 \[n, 50\] on the rows' device; the rows themselves
/// where they have no more features than that. Distances between them are those of the rows, but for what is left out.
///
/// # Errors
/// [`crate::Error::Interrupted`], or a libtorch failure.
pub fn components(rows: &Rows, control: &mut Control) -> Result<Tensor> {
    let d = rows.n_features();
    if d <= N_COMPONENTS {
        return rows.to_tensor();
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
            let _ = rows.map_blocks(N_COMPONENTS, |block| {
                control.check()?;
                let _ = image.f_add_(&block.f_tr()?.f_matmul(&block.f_matmul(&basis)?)?)?;
                Ok(Tensor::f_empty([0], options)?)
            })?;
            basis = orthonormal(&image.f_to_device(Device::Cpu)?)?.f_to_device(rows.device())?;
        }
        rows.map_blocks(N_COMPONENTS, |block| Ok(block.f_matmul(&basis)?))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(rows: &Tensor) -> Tensor {
        components(&Rows::from_tensor(rows.shallow_clone()), &mut Control::ignored()).unwrap()
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
