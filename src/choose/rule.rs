//! From what was found for each k to one number: separation says between which numbers, stability which of them.
//!
//! The clusters of successive k are nested. As long as there are no more of them than there are in the rows, each two stand apart: the
//! separation is below [`APART`]. Once one is cut in two, those two are one: it reaches [`ONE`]. From the last number that is clearly
//! not too many to the last that may not be, each is a candidate; most often there is one. Of several that one is recommended whose
//! clusters come back best, by how much their stability exceeds that of rows of one Gaussian.
//!
//! The margin is, of one candidate, by how much the separation rises from there to the next number (on generated mixtures from
//! about 0 to about 1); of several, by how much the stability of the recommended one exceeds the second's.
//!
//! The other criteria are for people to compare: the eigengap loses count where clusters touch, the silhouette likes few clusters,
//! and G moves little.

use super::Trial;

/// Separation below which clusters stand apart, and from which on two of them are one.
const APART: f64 = 0.4;
const ONE: f64 = 0.8;
/// Margins from which on a recommendation is clear, and likely.
pub(super) const CLEAR: f64 = 0.4;
pub(super) const LIKELY: f64 = 0.1;

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
    let before = |bound: f64| trials.iter().take_while(|trial| trial.separation < bound).count();
    let (few, most) = (before(APART).saturating_sub(1), before(ONE));
    let candidates = trials.get(few..most).unwrap_or_default();
    match candidates {
        [] => Recommendation { k: trials.first().map_or(1, |trial| trial.k), margin: 0.0 },
        [only] => {
            let next = trials.get(most).map(|trial| trial.separation).or(beyond);
            let margin = next.map_or(0.0, |next| (next - only.separation).clamp(0.0, 1.0));
            Recommendation { k: only.k, margin }
        }
        several => most_stable(several),
    }
}

/// The one that exceeds a Gaussian's stability most, the first of equals.
fn most_stable(candidates: &[Trial]) -> Recommendation {
    let mut ranked: Vec<(f64, usize)> =
        candidates.iter().map(|trial| (trial.stability - trial.stability_gaussian, trial.k)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let lead = ranked.first().zip(ranked.get(1)).map_or(0.0, |(first, second)| first.0 - second.0);
    Recommendation { k: ranked.first().map_or(1, |first| first.1), margin: lead.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these separations and stabilities, for 2 clusters, 3, …
    fn recommended(found: &[(f64, f64)], beyond: Option<f64>) -> (usize, f64) {
        let trial = |(&(separation, stability), k): (&(f64, f64), usize)| Trial {
            k,
            separation,
            stability,
            stability_gaussian: 0.25,
            ..Trial::default()
        };
        let trials: Vec<Trial> = found.iter().zip(2..).map(trial).collect();
        let found = recommend(&trials, beyond);
        (found.k, (found.margin * 100.0).round() / 100.0)
    }

    #[test]
    fn the_last_that_stand_apart_are_recommended() {
        assert_eq!(recommended(&[(0.0, 1.0), (0.1, 1.0), (0.2, 0.9), (0.95, 1.0), (1.2, 0.0)], None), (4, 0.75));
        assert_eq!(recommended(&[(0.0, 1.0), (1.3, 1.0)], None), (2, 1.0), "a margin is 1 at most");
        let again = [(0.0, 1.0), (0.9, 1.0), (0.1, 1.0)];
        assert_eq!(recommended(&again, None), (2, 0.9), "a cut is a cut, whatever is cut further");
    }

    #[test]
    fn where_separation_does_not_tell_stability_does() {
        assert_eq!(recommended(&[(0.3, 0.6), (0.6, 0.9), (0.7, 0.75), (1.1, 1.0)], None), (3, 0.15));
        assert_eq!(recommended(&[(0.0, 0.9), (0.3, 0.6), (0.6, 0.5), (1.1, 1.0)], None), (3, 0.1), "2 is too few");
        assert_eq!(recommended(&[(0.5, 0.5), (0.5, 0.5)], None), (2, 0.0), "the fewer of equals");
    }

    #[test]
    fn at_the_ends_of_the_range_the_margin_is_what_is_known() {
        assert_eq!(recommended(&[(0.0, 1.0), (0.1, 1.0)], Some(0.9)), (3, 0.8));
        assert_eq!(recommended(&[(0.0, 1.0), (0.1, 1.0)], Some(0.1)), (3, 0.0), "more clusters stand apart too");
        assert_eq!(recommended(&[(0.0, 1.0), (0.1, 1.0)], None), (3, 0.0));
        assert_eq!(recommended(&[(1.1, 1.0), (0.9, 1.0)], Some(1.0)), (2, 0.0), "one cluster, as far as can be seen");
    }
}
