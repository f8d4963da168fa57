//! Among many clusterings of the same rows the one that others agree with most: the most central of an ensemble (Strehl & Ghosh
//! 2002). It needs no labels and, unlike a score of clusters by their separation, does not prefer clusters of equal size.
//!
//! Only the half of the others that is nearest counts. Where clusters are of very different sizes, some ways of clustering go
//! wrong, each in another way; the compromise between those and the right ones is not right either.

use crate::error::{Error, Result};
use crate::metrics::Contingency;

/// Rows that are compared at most: enough to tell agreements apart by a hundredth.
const ROWS: usize = 10_000;

/// How far each of the `clusterings` agrees with the nearest half of the others: their mean normalised mutual information, in
/// \[0, 1\]; 1 where there is but one. Time grows with the square of their number.
///
/// # Errors
/// [`Error::Rows`] for clusterings of different numbers of rows, or of none.
///
/// ```
/// use dec::start::agreements;
/// let found = agreements(&[vec![0, 0, 1, 1], vec![1, 1, 0, 0], vec![0, 1, 0, 1]])?;
/// assert!(found[0] == found[1] && found[0] > found[2]);
/// # Ok::<(), dec::Error>(())
/// ```
pub fn agreements(clusterings: &[Vec<i64>]) -> Result<Vec<f64>> {
    let rows = clusterings.first().map_or(0, Vec::len);
    if let Some(other) = clusterings.iter().find(|labels| labels.len() != rows) {
        return Err(Error::Rows(format!("clusterings of {rows} and {} rows cannot be compared", other.len())));
    }
    let step = rows.div_ceil(ROWS).max(1);
    let compared: Vec<Vec<i64>> =
        clusterings.iter().map(|labels| labels.iter().copied().step_by(step).collect()).collect();
    let mut with_others = vec![Vec::with_capacity(compared.len()); compared.len()];
    for (i, a) in compared.iter().enumerate() {
        for (j, b) in compared[..i].iter().enumerate() {
            let both = Contingency::new(a, b)?.normalized_mutual_info();
            with_others[i].push(both);
            with_others[j].push(both);
        }
    }
    Ok(with_others.into_iter().map(mean_of_greater_half).collect())
}

/// 1 of none.
fn mean_of_greater_half(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    let half = values.len().div_ceil(2);
    if half == 0 {
        return 1.0;
    }
    values[..half].iter().sum::<f64>() / half as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_clustering_amid_others_is_the_most_central() {
        let sizes = |first: usize| (0..30_000).map(|i| i64::from(i >= first)).collect::<Vec<_>>();
        let found = agreements(&[sizes(1_000), sizes(3_000), sizes(4_000), sizes(5_500), sizes(9_000)]).unwrap();
        assert!((0..5).all(|i| i == 2 || found[i] < found[2]), "{found:?}");
        let all = Contingency::new(&sizes(3_000), &sizes(5_000)).unwrap().normalized_mutual_info();
        let two = agreements(&[sizes(3_000), sizes(5_000)]).unwrap();
        assert_eq!(two[0], two[1]);
        assert!((two[0] - all).abs() < 0.01, "a part of the rows tells the same: {} and {all}", two[0]);
    }

    #[test]
    fn those_that_agree_count_more_than_the_compromise() {
        let exchanged = |from: usize, to: usize| {
            (0..1_100).map(|i| (i % 2) as i64 ^ i64::from((from..to).contains(&i))).collect::<Vec<_>>()
        };
        let mut found = vec![exchanged(0, 100); 4];
        found.extend((1..7).map(|i| exchanged(100 * i, 100 * i + 100)));
        found.push(exchanged(0, 0)); // nearer to every other than most others are
        let agreement = agreements(&found).unwrap();
        assert!(agreement[..4].iter().all(|same| agreement[4..].iter().all(|other| same > other)), "{agreement:?}");
    }

    #[test]
    fn one_clustering_agrees_and_unequal_lengths_are_refused() {
        assert_eq!(agreements(&[vec![0, 1]]).unwrap(), [1.0]);
        assert!(agreements(&[]).unwrap().is_empty());
        assert!(agreements(&[vec![0; 20_000], vec![0; 19_999]]).is_err());
        assert!(agreements(&[vec![], vec![]]).is_err());
    }
}
