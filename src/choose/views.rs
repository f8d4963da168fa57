//! The rows as they are looked at: in the latent space, and where distances between the rows themselves mean something, there too.

use rand::Rng;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{no_grad, Device, Kind, Tensor};

use crate::control::Control;
use crate::data::index_of;
use crate::error::Result;
use crate::start::NeighbourGraph;
use crate::state::Run;

/// The same rows in one or two spaces: float32 \[n, m\] each, on the CPU.
#[derive(Debug)]
pub(super) struct Views {
    spaces: Vec<Tensor>,
    n_neighbours: i64,
}

impl Views {
    /// Of the rows that a spectral start sees: their latent rows, and the rows themselves (in 50 components) unless augmentation moves
    /// values. It is what the start's graph is of.
    pub(super) fn of(run: &mut Run, control: &mut Control) -> Result<Self> {
        let z = run.latent(0, control)?;
        let mut spaces = vec![run.task.seen_of(&z)?.f_to_device(Device::Cpu)?];
        if !run.task.moves_in_start() {
            spaces.push(run.components(control)?.f_to_device(Device::Cpu)?);
        }
        Ok(Self { spaces, n_neighbours: run.task.config.start.n_neighbours as i64 })
    }

    /// Of rows in one space.
    #[cfg(test)]
    pub(super) fn of_rows(rows: Tensor) -> Self {
        Self { spaces: vec![rows], n_neighbours: 15 }
    }

    pub(super) fn n_rows(&self) -> usize {
        self.spaces[0].size()[0] as usize
    }

    /// The first space.
    pub(super) fn latent(&self) -> &Tensor {
        &self.spaces[0]
    }

    /// Some of the rows.
    pub(super) fn at(&self, rows: &[usize]) -> Result<Self> {
        let index = index_of(rows)?;
        let chosen = self.spaces.iter().map(|space| Ok(space.f_index_select(0, &index)?)).collect::<Result<_>>()?;
        Ok(Self { spaces: chosen, n_neighbours: self.n_neighbours })
    }

    /// The graph of neighbours: that of each space, added up.
    pub(super) fn graph(&self, control: &mut Control) -> Result<NeighbourGraph> {
        let mut graph = NeighbourGraph::new(&self.spaces[0], self.n_neighbours, control)?;
        for space in &self.spaces[1..] {
            graph = graph.plus(&NeighbourGraph::new(space, self.n_neighbours, control)?);
        }
        Ok(graph)
    }

    /// As many rows without clusters: of one Gaussian with the covariance of these, over both spaces together.
    ///
    /// With X (centred, \[n, m\]) and G standard normal \[n, n\], the rows of G X / √n have it; through the m × m factor of the
    /// covariance, so that it takes n · m numbers.
    pub(super) fn gaussian(&self, seed: u64) -> Result<Self> {
        no_grad(|| {
            let joined = Tensor::f_cat(&self.spaces, 1)?.f_to_kind(Kind::Double)?;
            let (n, m) = joined.size2()?;
            let centred = joined.f_sub(&joined.f_mean_dim([0i64].as_slice(), true, None)?)?;
            let covariance = centred.f_tr()?.f_matmul(&centred)?.f_div_scalar(n.max(1) as f64)?;
            let (values, vectors) = covariance.f_linalg_eigh("L")?;
            let axes = vectors.f_mul(&values.f_clamp_min(0.0)?.f_sqrt()?)?; // [m, m], a column an axis
            let drawn = Tensor::f_from_slice(&normals((n * m) as usize, seed))?.f_view([n, m])?;
            let rows = drawn.f_matmul(&axes.f_tr()?)?.f_to_kind(Kind::Float)?;
            let widths: Vec<i64> = self.spaces.iter().map(|space| space.size()[1]).collect();
            let spaces = rows.f_split_with_sizes(&widths, 1)?;
            let spaces = spaces.iter().map(|space| Ok(space.f_contiguous()?)).collect::<Result<_>>()?;
            Ok(Self { spaces, n_neighbours: self.n_neighbours })
        })
    }
}

/// Standard normal numbers (Box & Muller 1958).
fn normals(count: usize, seed: u64) -> Vec<f64> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut draw = || {
        let (radius, angle): (f64, f64) = (rng.gen(), rng.gen());
        let length = (-2.0 * (1.0 - radius).ln()).sqrt();
        [length * (std::f64::consts::TAU * angle).cos(), length * (std::f64::consts::TAU * angle).sin()]
    };
    std::iter::repeat_with(&mut draw).flatten().take(count).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::values_of;

    #[test]
    fn the_gaussian_has_the_covariance_of_the_rows_over_both_spaces() {
        tch::manual_seed(3);
        let options = (Kind::Float, Device::Cpu);
        let first = Tensor::randn([4_000, 2], options) * Tensor::from_slice(&[3.0f32, 0.5]);
        let second = first.narrow(1, 0, 1) * 2.0 + Tensor::randn([4_000, 1], options) + 7.0;
        let views = Views { spaces: vec![first, second], n_neighbours: 15 };
        let drawn = views.gaussian(1).unwrap();
        let covariance = |views: &Views| {
            let rows = Tensor::cat(&views.spaces, 1);
            let centred = &rows - rows.mean_dim([0i64].as_slice(), true, Kind::Float);
            values_of::<f32>(&(centred.tr().matmul(&centred) / 4_000.0)).unwrap()
        };
        for (found, expected) in covariance(&drawn).iter().zip(covariance(&views)) {
            assert!((found - expected).abs() < 1.5, "{found} {expected}");
        }
        let again = views.gaussian(1).unwrap();
        assert_eq!(drawn.spaces[1], again.spaces[1]);
        assert_ne!(drawn.spaces[1], views.gaussian(2).unwrap().spaces[1]);
    }

    #[test]
    fn normals_have_mean_0_and_deviation_1() {
        let drawn = normals(50_001, 4);
        let mean = drawn.iter().sum::<f64>() / 50_001.0;
        let square = drawn.iter().map(|x| x * x).sum::<f64>() / 50_001.0;
        assert!(drawn.len() == 50_001 && mean.abs() < 0.02 && (square - 1.0).abs() < 0.03, "{mean} {square}");
    }
}
