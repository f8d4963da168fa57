//! Along the graph, around centres, or both: which of the elected clusterings is the start. No label has a say.
//!
//! Spectral clustering finds clusters of any shape, as long as the graph of neighbours tells how its parts hang together. Where
//! the graph falls into more islands than clusters (ties, few distinct rows, small groups far out) it does not: which islands
//! are joined is chance, and a cut of nothing is as good as any. There k-means, mixtures and Ward's linkage know better, which
//! look at distances. Elsewhere the modularity of the two decides (Newman 2006): the share of the graph's weight inside clusters,
//! less what chance would put there; where it hardly differs, all vote together. Figures in docs/EXPERIMENTS.md.

use serde::{Deserialize, Serialize};

/// 1 − λ from which on a part of the graph is no island.
const ISLAND: f64 = 0.01;
/// So many times as far from 1 the eigenvalue behind the k-th is where the graph falls into exactly k pieces; and what is as good
/// as 0.
const CLEAR: f64 = 5.0;
const ZERO: f64 = 1e-4;
/// Share of rows with seven doubles and more, from which on neighbours are a matter of ties.
const TIED: f64 = 0.5;
/// Mean agreement with the elected one from which on clusterings around centres are of one mind.
const UNANIMOUS: f64 = 0.95;

/// A difference of modularity that tells nothing.
const AS_GOOD: f64 = 0.03;

/// How a clustering was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Along the graph of neighbours: spectral clustering.
    Graph,
    /// By distances: k-means, a mixture of Gaussians, Ward's linkage.
    Centres,
    /// By both, which vote together.
    Both,
}

/// What the eigenvalues of a normalised graph tell, as 1 − λ: how far it is from falling apart there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gaps {
    /// At the k-th.
    pub at_k: f64,
    /// At the one behind it.
    pub behind_k: f64,
    /// At the one behind the 2k-th, or at the last where there are fewer.
    pub behind_2k: f64,
}

impl Gaps {
    /// Of `values`, the largest first, for `k` clusters; `None` where there are no more than k.
    pub fn new(values: &[f64], k: usize) -> Option<Self> {
        let gap = |place: usize| (1.0 - values[place]).max(0.0);
        (k >= 1 && values.len() > k).then(|| Self {
            at_k: gap(k - 1),
            behind_k: gap(k),
            behind_2k: gap((2 * k).min(values.len() - 1)),
        })
    }

    /// Whether the graph falls into k pieces rather than into k + 1.
    pub fn are_pieces(&self) -> bool {
        self.behind_k + ZERO > CLEAR * (self.at_k + ZERO)
    }

    /// The geometric means of several graphs.
    pub fn mean(all: &[Self]) -> Option<Self> {
        let mean = |of: fn(&Self) -> f64| {
            let logs: f64 = all.iter().map(|gaps| of(gaps).max(1e-12).ln()).sum();
            (logs / all.len() as f64).exp()
        };
        (!all.is_empty()).then(|| Self {
            at_k: mean(|gaps| gaps.at_k),
            behind_k: mean(|gaps| gaps.behind_k),
            behind_2k: mean(|gaps| gaps.behind_2k),
        })
    }
}

/// What made the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// One family alone was asked.
    Only,
    /// The graph falls into just as many pieces as there are clusters.
    Pieces,
    /// Most rows are the same as many others: which of them are neighbours is chance.
    Ties,
    /// The graph has more islands than there are clusters.
    Islands,
    /// All clusterings around centres agree.
    Unanimous,
    /// The clusters hold more of the graph's weight than chance would.
    Modularity,
}

/// By the share of tied rows, the eigenvalues of the graph, and the mean agreement (normalised mutual information) of the clusterings around centres with
/// what they elected; `None` where the modularity has to tell.
pub fn by_shape(ties: f64, gaps: Gaps, agreement: f64) -> Option<(Family, Reason)> {
    if ties > TIED {
        Some((Family::Centres, Reason::Ties))
    } else if gaps.are_pieces() {
        // Islands within the pieces: a small one that is cut off clearly may be all that there is to it.
        (gaps.behind_k >= ISLAND).then_some((Family::Graph, Reason::Pieces))
    } else if gaps.behind_2k < ISLAND {
        Some((Family::Centres, Reason::Islands))
    } else if agreement > UNANIMOUS {
        Some((Family::Centres, Reason::Unanimous))
    } else {
        None
    }
}

/// By the modularity of each; where there is little between them, both together, or the pieces that the graph falls into.
pub fn by_modularity(pieces: bool, graph: f64, centres: f64) -> (Family, Reason) {
    let family = if pieces && centres <= graph + AS_GOOD {
        Family::Graph
    } else if (graph - centres).abs() <= AS_GOOD {
        Family::Both
    } else if centres > graph {
        Family::Centres
    } else {
        Family::Graph
    };
    (family, Reason::Modularity)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn eigenvalues_behind_the_last_cluster_tell() {
        let chosen = |values: &[f64], agreement| by_shape(0.0, Gaps::new(values, 2).unwrap(), agreement);
        assert_eq!(chosen(&[1.0, 1.0, 0.95, 0.9, 0.8], 1.0), Some((Family::Graph, Reason::Pieces)));
        assert_eq!(chosen(&[1.0, 1.0, 0.995, 0.994, 0.993], 0.99), None, "pieces that fall apart themselves");
        assert_eq!(chosen(&[1.0, 0.999, 0.999, 0.998, 0.997], 0.5), Some((Family::Centres, Reason::Islands)));
        assert_eq!(chosen(&[1.0, 1.0, 1.0, 1.0, 1.0], 0.5), Some((Family::Centres, Reason::Islands)));
        assert_eq!(chosen(&[1.0, 0.9, 0.8, 0.7, 0.6], 0.99), Some((Family::Centres, Reason::Unanimous)));
        assert_eq!(chosen(&[1.0, 0.9, 0.8, 0.7, 0.6], 0.9), None);
        let pieces = Gaps::new(&[1.0, 1.0, 0.5], 2).unwrap();
        assert_eq!(by_shape(0.9, pieces, 0.0), Some((Family::Centres, Reason::Ties)));
        assert_eq!(Gaps::new(&[1.0, 0.5], 2), None);
    }

    #[test]
    fn of_several_graphs_the_mean_counts() {
        let gaps = |behind_2k| Gaps { at_k: 0.002, behind_k: 0.004, behind_2k };
        let chosen = |of: [f64; 3]| by_shape(0.1, Gaps::mean(&of.map(gaps)).unwrap(), 0.0);
        assert_eq!(chosen([0.005, 0.006, 0.02]), Some((Family::Centres, Reason::Islands)));
        assert_eq!(chosen([0.005, 0.03, 0.02]), None);
        assert_eq!(Gaps::mean(&[]), None);
    }

    #[test]
    fn the_greater_modularity_wins() {
        assert_eq!(by_modularity(false, 0.5, 0.4).0, Family::Graph);
        assert_eq!(by_modularity(true, 0.4, 0.5).0, Family::Centres);
        assert_eq!(by_modularity(false, 0.4, 0.42).0, Family::Both);
        assert_eq!(by_modularity(true, 0.4, 0.42).0, Family::Graph);
    }
}
