//! Greedy k-means++ (Arthur & Vassilvitskii 2007, with the trials of their section 5), as scikit-learn has it.
//!
//! The first centre is any row. Each further one is the best of 2 + ⌊ln k⌋ rows drawn with the probability of their
//! squared distance to the nearest centre so far: the one that leaves the smallest sum of such distances.

use rand::Rng;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256Plus;
use tch::Tensor;

use super::passes::{Passes, Space};
use super::KMeansParams;
use crate::control::Control;
use crate::data::values_of;
use crate::error::Result;

/// Centroids for the restarts from `first` on: float32 \[restarts, k, d\].
pub(super) fn centroids(
    space: &Space,
    passes: &mut dyn Passes,
    params: &KMeansParams,
    first: usize,
    restarts: usize,
    control: &mut Control,
) -> Result<Tensor> {
    let device = space.stored.device();
    let (n, d, k) = (space.n_rows(), space.n_features(), params.n_clusters);
    let trials = 2 + (k as f64).ln() as i64;
    let shape = [restarts as i64, trials];
    let mut generators = generators(params.seed, first, restarts);

    let any: Vec<i64> = generators.iter_mut().map(|rng| rng.gen_range(0..n)).collect();
    let mut centres = vec![rows_at(space, &Tensor::f_from_slice(&any)?.f_to_device(device)?)?];
    for index in 1..k {
        passes.approach(&centres[index - 1], control)?;
        let draws: Vec<f64> = generators.iter_mut().flat_map(|rng| (0..trials).map(|_| rng.gen::<f64>())).collect();
        let picks = passes.sample(&Tensor::f_from_slice(&draws)?.f_view(shape)?.f_to_device(device)?)?;
        let candidates = rows_at(space, &picks.f_view(-1)?)?.f_view([shape[0], trials, d])?;
        let potentials: Vec<f64> = values_of(&passes.potentials(&candidates, control)?)?;
        let mut chosen = Vec::with_capacity(restarts);
        for (restart, potentials) in potentials.chunks_exact(trials as usize).enumerate() {
            let mut best = 0;
            for (trial, potential) in potentials.iter().enumerate() {
                if *potential < potentials[best] {
                    best = trial;
                }
            }
            chosen.push(restart as i64 * trials + best as i64);
        }
        let chosen = Tensor::f_from_slice(&chosen)?.f_to_device(device)?;
        centres.push(candidates.f_view([-1, d])?.f_index_select(0, &chosen)?);
    }
    Ok(Tensor::f_stack(&centres, 1)?)
}

/// A generator for each restart: the seed's, jumped as often as the restart's number.
fn generators(seed: u64, first: usize, restarts: usize) -> Vec<Xoshiro256Plus> {
    let mut rng = Xoshiro256Plus::seed_from_u64(seed);
    for _ in 0..first {
        rng.jump();
    }
    let mut next = || {
        let current = rng.clone();
        rng.jump();
        current
    };
    (0..restarts).map(|_| next()).collect()
}

/// The rows with these numbers, around the origin.
fn rows_at(space: &Space, indices: &Tensor) -> Result<Tensor> {
    space.centred(&space.stored.f_index_select(0, indices)?)
}
