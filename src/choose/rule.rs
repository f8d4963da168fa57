//! From what was found for each k to one number.
//!
//! The clusters of successive k are nested. As long as there are no more of them than there are in the rows, each two stand apart; beyond
//! that one is cut in two, and those two do not. So the largest k is recommended whose clusters all stand apart, that is whose
//! separation is below [`ONE`]. The margin is by how much the separation rises from that k to the next: on generated mixtures from
//! about 0 to about 1.
//!
//! The other criteria are for people to compare: none of them told as much (docs/EXPERIMENTS.md). The eigengap loses count where clusters
//! touch, stability and silhouette like few clusters, and G moves little.

use super::Trial;

/// The separation from which on two clusters count as one.
const ONE: f64 = 0.6;
/// Margins from which on a recommendation is clear, and likely.
pub(super) const CLEAR: f64 = 0.5;
pub(super) const LIKELY: f64 = 0.2;

/// What the rule comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Recommendation {
    /// The number of clusters.
    pub(super) k: usize,
    /// In \[0, 1\].
    pub(super) margin: f64,
}

/// By the trials, whose k ascend one by one, and the separation of one cluster more than the last has. Where not even the clusters of the
/// first stand apart, that one without a margin.
pub(super) fn recommend(trials: &[Trial], beyond: Option<f64>) -> Recommendation {
    let chosen = trials.iter().rposition(|trial| trial.separation < ONE);
    let Some(place) = chosen else {
        return Recommendation { k: trials.first().map_or(1, |trial| trial.k), margin: 0.0 };
    };
    let Trial { k, separation, .. } = trials[place];
    let next = trials.get(place + 1).map(|trial| trial.separation).or(beyond);
    let margin = next.map_or(0.0, |next| (next - separation).clamp(0.0, 1.0));
    Recommendation { k, margin }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recommended(separations: &[f64], beyond: Option<f64>) -> (usize, f64) {
        let trial = |(separation, k): (&f64, usize)| Trial { k, separation: *separation, ..Trial::default() };
        let trials: Vec<Trial> = separations.iter().zip(2..).map(trial).collect();
        let found = recommend(&trials, beyond);
        (found.k, (found.margin * 100.0).round() / 100.0)
    }

    #[test]
    fn the_last_that_stand_apart_are_recommended() {
        assert_eq!(recommended(&[0.0, 0.1, 0.2, 0.95, 1.2], Some(1.0)), (4, 0.75));
        assert_eq!(recommended(&[0.3, 0.47, 1.6, 1.2], None), (3, 1.0), "a margin is 1 at most");
        assert_eq!(recommended(&[0.0, 0.7, 0.5, 0.8], None), (4, 0.3), "what is cut further may stand apart again");
    }

    #[test]
    fn at_the_ends_of_the_range_the_margin_is_what_is_known() {
        assert_eq!(recommended(&[0.0, 0.1], Some(0.9)), (3, 0.8));
        assert_eq!(recommended(&[0.0, 0.1], Some(0.1)), (3, 0.0), "more clusters stand apart too");
        assert_eq!(recommended(&[0.0, 0.1], None), (3, 0.0));
        assert_eq!(recommended(&[1.1, 0.9], Some(1.0)), (2, 0.0), "one cluster, as far as can be seen");
    }
}
