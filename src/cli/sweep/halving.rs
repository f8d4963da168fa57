//! Successive halving (Jamieson & Talwalkar 2016): all members on few rows, the best third of them on three times as many, and so on,
//! until the last train on all rows. Rows are the resource, as in scikit-learn's `HalvingGridSearchCV`.

use dec::config::Config;

/// One in so many goes on, to so many times the rows.
const FACTOR: usize = 3;
/// Rows that a rung has at least, and rows for each cluster.
const LEAST_ROWS: usize = 200;
const LEAST_ROWS_A_CLUSTER: usize = 20;

/// A step of the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Rows that its members train on.
    pub rows: usize,
    /// Members that it has.
    pub members: usize,
}

/// The rungs for so many members on `n_rows` rows, the last of which has all rows. Those that would have too few rows are left out:
/// the first has all members then, on more rows.
pub fn rungs(members: usize, n_rows: usize, config: &Config) -> Vec<Rung> {
    let least = LEAST_ROWS.max(LEAST_ROWS_A_CLUSTER.saturating_mul(config.n_clusters));
    let mut rows = vec![n_rows];
    let mut left = members;
    while left > FACTOR - 1 {
        left = left.div_ceil(FACTOR);
        let fewer = rows[0].div_ceil(FACTOR);
        if fewer < least {
            break;
        }
        rows.insert(0, fewer);
    }
    let mut members = members;
    let rung = |rows| {
        let rung = Rung { rows, members };
        members = kept(members);
        rung
    };
    rows.into_iter().map(rung).collect()
}

/// Of so many members, those that go on.
pub fn kept(members: usize) -> usize {
    members.div_ceil(FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_grow_as_members_shrink() {
        let of = |members, n_rows| {
            let rungs = rungs(members, n_rows, &Config::default());
            rungs.into_iter().map(|rung| (rung.rows, rung.members)).collect::<Vec<_>>()
        };
        assert_eq!(of(12, 9000), [(1000, 12), (3000, 4), (9000, 2)]);
        assert_eq!(of(9, 10_000), [(1112, 9), (3334, 3), (10_000, 1)]);
        assert_eq!(of(9, 1000), [(334, 9), (1000, 3)], "fewer than 200 rows say nothing");
        assert_eq!(of(27, 180), [(180, 27)]);
        assert_eq!(of(2, 10_000), [(10_000, 2)]);
        assert_eq!(of(1, 10_000), [(10_000, 1)]);
    }
}
