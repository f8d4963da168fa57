//! Scores from entropies: homogeneity, completeness, and the mutual information less what chance gives.

use super::Contingency;

impl Contingency {
    /// I(classes; clusters), in nats.
    pub(super) fn mutual_info(&self) -> f64 {
        let n = self.n_rows as f64;
        let of_cell = |&(class, cluster, rows): &(usize, usize, u64)| {
            let independent = self.class_sizes[class] as f64 * self.cluster_sizes[cluster] as f64 / n;
            rows as f64 / n * (rows as f64 / independent).ln()
        };
        self.cells.iter().map(of_cell).sum()
    }

    /// H of sizes, in nats.
    pub(super) fn entropy(&self, sizes: &[u64]) -> f64 {
        let n = self.n_rows as f64;
        sizes.iter().map(|&size| size as f64 / n).map(|share| -share * share.ln()).sum()
    }

    /// 1 where every cluster holds rows of one class: I / H(classes) (Rosenberg & Hirschberg 2007). In \[0, 1\].
    pub fn homogeneity(&self) -> f64 {
        share(self.mutual_info(), self.entropy(&self.class_sizes))
    }

    /// 1 where every class lies in one cluster: I / H(clusters). In \[0, 1\].
    pub fn completeness(&self) -> f64 {
        share(self.mutual_info(), self.entropy(&self.cluster_sizes))
    }

    /// AMI: the mutual information corrected for chance, over the mean of the entropies (Vinh, Epps & Bailey 2010); 0 is what
    /// random labels get, 1 the same partition. scikit-learn's `adjusted_mutual_info_score`.
    pub fn adjusted_mutual_info(&self) -> f64 {
        let (classes, clusters) = (self.class_sizes.len(), self.cluster_sizes.len());
        let n = self.n_rows as usize;
        if (classes == 1 && clusters == 1) || (classes == n && clusters == n) {
            return 1.0;
        }
        let expected = self.expected_mutual_info();
        let mean = 0.5 * (self.entropy(&self.class_sizes) + self.entropy(&self.cluster_sizes));
        let (above, below) = (self.mutual_info() - expected, mean - expected);
        // A denominator of rounding errors alone.
        let below = if below < 0.0 { below.min(-f64::EPSILON) } else { below.max(f64::EPSILON) };
        above / below
    }

    /// The mean of the mutual information over all ways to deal the rows to clusters of these sizes.
    fn expected_mutual_info(&self) -> f64 {
        let n = self.n_rows as usize;
        let mut log_factorial = vec![0.0; n + 1];
        for i in 1..=n {
            log_factorial[i] = log_factorial[i - 1] + (i as f64).ln();
        }
        let of = |count: u64| log_factorial[count as usize];
        let total = self.n_rows;
        let mut sum = 0.0;
        for &a in &self.class_sizes {
            for &b in &self.cluster_sizes {
                let fixed = of(a) + of(b) + of(total - a) + of(total - b) - of(total);
                for both in (a + b).saturating_sub(total).max(1)..=a.min(b) {
                    let information =
                        both as f64 / total as f64 * ((total as f64 * both as f64).ln() - (a as f64 * b as f64).ln());
                    let chance = fixed - of(both) - of(a - both) - of(b - both) - of(total + both - a - b);
                    sum += information * chance.exp();
                }
            }
        }
        sum
    }
}

/// `part` of `whole`, 1 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole == 0.0 {
        1.0
    } else {
        (part / whole).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scores_are_those_of_scikit_learn() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        let table = Contingency::new(&[0, 0, 0, 1, 1, 1], &[7, 7, 3, 3, 3, 3]).unwrap();
        let found = [table.adjusted_mutual_info(), table.homogeneity(), table.completeness()];
        assert!(
            found.iter().zip([0.355_245_321_275_764, 0.459_147_917_027_244_8, 0.5]).all(|(a, b)| close(*a, b)),
            "{found:?}"
        );
        let classes: Vec<i64> = (0..200).map(|i| i * i % 7).collect();
        let clusters: Vec<i64> = (0..200).map(|i| (i * i % 7 + i64::from(i % 3 == 0) * 2) % 5).collect();
        let table = Contingency::new(&classes, &clusters).unwrap();
        let found = [table.adjusted_mutual_info(), table.homogeneity(), table.completeness()];
        assert!(
            found
                .iter()
                .zip([0.598_227_705_334_583_5, 0.641_137_657_579_446_4, 0.576_397_252_148_924_5])
                .all(|(a, b)| close(*a, b)),
            "{found:?}"
        );
        let same = Contingency::new(&[1, 1, 1], &[2, 2, 2]).unwrap();
        assert_eq!([same.adjusted_mutual_info(), same.homogeneity(), same.completeness()], [1.0; 3]);
    }
}
