//! Among many clusterings of the same rows the one that the others agree with most: the most central of an ensemble (Strehl &
//! Ghosh 2002). It needs no labels and, unlike a score of clusters by their separation, does not prefer clusters of equal size.

use crate::error::{Error, Result};
use crate::metrics::Contingency;

/// Rows that are compared at most: enough to tell agreements apart by a hundredth.
const ROWS: usize = 10_000;

/// How far each of the `clusterings` agrees with the others: the mean normalised mutual information, in \[0, 1\]; 1 where there
/// is but one. Time grows with the square of their number.
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
    let mut sums = vec![0.0; compared.len()];
    for (i, a) in compared.iter().enumerate() {
        for (j, b) in compared[..i].iter().enumerate() {
            let both = Contingency::new(a, b)?.normalized_mutual_info();
            sums[i] += both;
            sums[j] += both;
        }
    }
    let others = compared.len().saturating_sub(1);
    Ok(sums.into_iter().map(|sum| if others == 0 { 1.0 } else { sum / others as f64 }).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_clustering_between_two_others_is_the_most_central() {
        let sizes = |first: usize| (0..30_000).map(|i| i64::from(i >= first)).collect::<Vec<_>>();
        let found = agreements(&[sizes(3_000), sizes(5_000), sizes(9_000)]).unwrap();
        assert!(found[1] > found[0] && found[1] > found[2], "{found:?}");
        let all = Contingency::new(&sizes(3_000), &sizes(5_000)).unwrap().normalized_mutual_info();
        let two = agreements(&[sizes(3_000), sizes(5_000)]).unwrap();
        assert_eq!(two[0], two[1]);
        assert!((two[0] - all).abs() < 0.01, "a part of the rows tells the same: {} and {all}", two[0]);
    }

    #[test]
    fn one_clustering_agrees_and_unequal_lengths_are_refused() {
        assert_eq!(agreements(&[vec![0, 1]]).unwrap(), [1.0]);
        assert!(agreements(&[]).unwrap().is_empty());
        assert!(agreements(&[vec![0; 20_000], vec![0; 19_999]]).is_err());
        assert!(agreements(&[vec![], vec![]]).is_err());
    }
}
