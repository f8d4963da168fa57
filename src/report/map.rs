//! The latent rows on a map: UMAP, and their principal components.

use tch::{no_grad, Kind, Tensor};

use super::page::Layout;
use crate::control::Control;
use crate::data::values_of;
use crate::error::{Error, Result};
use crate::start::neighbours;
use crate::umap::{layout_while, Neighbours, UmapError, UmapSettings};

/// Neighbours that UMAP looks at, without the row itself.
const NEIGHBOURS: i64 = 14;
/// Rows below which there is no UMAP.
const FEW: i64 = 8;

/// The maps of latent rows z \[n, m\], float32 on the CPU: UMAP first, which starts from the principal components.
///
/// # Errors
/// [`Error::Interrupted`], or a libtorch failure.
pub(super) fn layouts(z: &Tensor, seed: u64, control: &mut Control) -> Result<Vec<Layout>> {
    let flat = principal(z)?;
    let pairs = |values: &[f32]| values.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
    let pca = Layout { name: "PCA".to_owned(), xy: pairs(&flat) };
    let n = z.size2()?.0;
    if n < FEW {
        return Ok(vec![pca]);
    }
    let width = NEIGHBOURS.min(n - 1);
    let near = neighbours(None, z, width, control)?;
    let indices: Vec<i64> = values_of(&near.indices.f_reshape([-1])?)?;
    let indices: Vec<u32> = indices.into_iter().map(|index| u32::try_from(index).unwrap_or(u32::MAX)).collect();
    let distances: Vec<f32> = values_of(&near.distances.f_sqrt()?.f_reshape([-1])?)?;
    let fault = |problem: UmapError| match problem {
        UmapError::Stopped => Error::Interrupted,
        other => Error::Fault(other.to_string()),
    };
    let near = Neighbours::new(n as usize, width as usize, &indices, &distances).map_err(fault)?;
    let settings = UmapSettings { seed, ..UmapSettings::default() };
    let xy = layout_while(&near, Some(&flat), &settings, |_, _| control.check().is_ok()).map_err(fault)?;
    Ok(vec![Layout { name: "UMAP".to_owned(), xy }, pca])
}

/// Rows \[n, m\] along their two leading principal axes, \[n, 2\], one row after the other; 0 for axes that there are not. The
/// largest entry of an axis is above 0.
fn principal(z: &Tensor) -> Result<Vec<f32>> {
    no_grad(|| {
        let centred = z.f_to_kind(Kind::Double)?;
        let centred = centred.f_sub(&centred.f_mean_dim(&[0i64][..], true, Kind::Double)?)?;
        let (_, axes) = centred.f_tr()?.f_matmul(&centred)?.f_linalg_eigh("L")?; // ascending
        let m = axes.size()[1];
        let two = axes.f_narrow(1, (m - 2).max(0), m.min(2))?.f_flip([1])?;
        let largest = two.f_gather(0, &two.f_abs()?.f_argmax(0, true)?, false)?;
        let turned = two.f_mul(&largest.f_sign()?)?;
        let flat = centred.f_matmul(&turned)?.f_constant_pad_nd([0, 2 - m.min(2)])?;
        values_of(&flat.f_to_kind(Kind::Float)?.f_reshape([-1])?)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn principal_axes_are_found_longest_first() {
        // Along (1, 0) from −3 to 3, along (0, 1) from −1 to 1.
        let z = Tensor::from_slice(&[-3.0f32, 0.0, 3.0, 0.0, 0.0, -1.0, 0.0, 1.0]).view([4, 2]);
        assert_eq!(principal(&z).unwrap(), [-3.0, 0.0, 3.0, 0.0, 0.0, -1.0, 0.0, 1.0]);
        let line = Tensor::from_slice(&[1.0f32, 2.0, 3.0]).view([3, 1]);
        assert_eq!(principal(&line).unwrap(), [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn few_rows_have_principal_components_alone_and_repeats_do_no_harm() {
        let names = |z: &Tensor| -> Vec<String> {
            let layouts = layouts(z, 0, &mut Control::ignored()).unwrap();
            assert!(layouts.iter().all(|layout| layout.xy.iter().flatten().all(|value| value.is_finite())));
            layouts.into_iter().map(|layout| layout.name).collect()
        };
        assert_eq!(names(&Tensor::from_slice(&[0.0f32, 1.0, 2.0, 3.0]).view([2, 2])), ["PCA"]);
        assert_eq!(names(&Tensor::ones([40, 3], (Kind::Float, tch::Device::Cpu))), ["UMAP", "PCA"]);
    }
}
