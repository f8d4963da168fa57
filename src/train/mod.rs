//! How a network is trained on a loss, whatever the stage: batches in, gradient steps, an event an epoch.
//!
//! [`steps`] is the loop that all stages share, with its way back after divergence. A [`step::Step`] is one gradient step: by
//! the [`engine`] for dense layers, by autograd for the rest ([`build`] chooses). [`optimiser`] turns gradients into moves;
//! [`augmentation`] changes a batch's rows at random.

pub mod augmentation;
pub mod build;
pub mod engine;
pub mod optimiser;
mod replay;
pub mod step;
pub mod steps;

use crate::data::hash;

/// A seed of its own for every purpose, so that a longer stage does not change what the next one draws.
///
/// FNV-1a over the purpose, mixed with the run's seed by SplitMix64's finaliser.
pub fn seed_for(seed: u64, purpose: &str) -> u64 {
    let name =
        purpose.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    hash(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name)
}

#[cfg(test)]
mod tests {
    use super::seed_for;

    #[test]
    fn seeds_differ_by_run_and_by_purpose() {
        let all: std::collections::HashSet<_> = (0..50)
            .flat_map(|seed| ["weights", "shuffle", "finetune"].map(|purpose| seed_for(seed, purpose)))
            .collect();
        assert_eq!(all.len(), 150);
    }
}
