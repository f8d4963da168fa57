//! What holds for every input, tried on random ones.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use dec::control::{Control, Event, Observer};
use dec::data::Rows;
use dec::kmeans::{self, KMeansParams};
use dec::metrics::{self, Contingency};
use dec::model::assignment::{
    cluster_frequency, kl_divergence, log_soft_assignment, soft_assignment, target_distribution,
};
use ndarray::{Array1, Array2, Axis};
use proptest::collection::vec;
use proptest::prelude::*;
use tch::{Kind, Tensor};

/// Two labellings of the same rows, with labels of any value and their own numbers of groups.
fn labellings() -> impl Strategy<Value = (Vec<i64>, Vec<i64>)> {
    (1usize..60, vec(any::<i64>(), 1..7), vec(any::<i64>(), 1..7)).prop_flat_map(|(n, classes, clusters)| {
        (vec(prop::sample::select(classes), n), vec(prop::sample::select(clusters), n))
    })
}

/// Rows \[n, d\] of values of the size that latents have, or of far smaller or larger ones.
fn rows(n: std::ops::Range<usize>) -> impl Strategy<Value = Array2<f32>> {
    (n, 1usize..20, prop::sample::select(vec![1e-3f32, 1.0, 1e3])).prop_flat_map(|(n, d, scale)| {
        vec(-scale..scale, n * d).prop_map(move |values| Array2::from_shape_vec((n, d), values).unwrap())
    })
}

fn tensor(array: &Array2<f32>) -> Tensor {
    let shape = [array.nrows() as i64, array.ncols() as i64];
    Tensor::from_slice(array.as_standard_layout().as_slice().unwrap()).view(shape)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.contiguous().view(-1)).unwrap()
}

fn scores(labels_true: &[i64], labels_pred: &[i64]) -> [f64; 3] {
    let table = Contingency::new(labels_true, labels_pred).unwrap();
    [table.accuracy(), table.normalized_mutual_info(), table.adjusted_rand_index()]
}

fn close(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12)
}

proptest! {
    #[test]
    fn rows_of_q_and_p_are_distributions(
        z in rows(1..40),
        k in 1usize..12,
        alpha in 0.1f64..20.0,
        seed in any::<u64>(),
    ) {
        // Centroids are other rows of the same kind, some of them rows of z.
        let pick = |j: usize| seed.rotate_left(7 * j as u32) as usize % z.nrows();
        let mut centroids = Array2::from_shape_fn((k, z.ncols()), |(j, f)| z[[pick(j), f]]);
        centroids.row_mut(0).mapv_inplace(|value| value * 0.5 - 0.1);
        let (z, centroids) = (tensor(&z), tensor(&centroids));

        let q = soft_assignment(&z, &centroids, alpha).unwrap();
        let p = target_distribution(&q, &cluster_frequency(&q).unwrap()).unwrap();
        for (name, distribution) in [("q", &q), ("p", &p)] {
            prop_assert_eq!(distribution.size(), vec![z.size()[0], k as i64]);
            prop_assert!(values(distribution).iter().all(|v| (0.0..=1.0 + 1e-6).contains(v)), "{} {}", name, distribution);
            let sums = values(&distribution.sum_dim_intlist(1, false, Kind::Float));
            prop_assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{name}: {sums:?}");
        }

        let log_q = log_soft_assignment(&z, &centroids, alpha).unwrap();
        prop_assert!(values(&log_q).iter().all(|v| v.is_finite() && *v <= 1e-6), "{}", log_q);
        let divergence = |of: &Tensor| kl_divergence(of, &log_q).unwrap().double_value(&[]);
        prop_assert!(divergence(&p) > -1e-6);
        prop_assert!(divergence(&q).abs() < 1e-5);
    }

    #[test]
    fn the_nearest_centroid_has_the_largest_q(z in rows(2..30), alpha in 0.1f64..20.0) {
        let k = 2.max(z.nrows() / 4);
        let centroids = z.slice(ndarray::s![..k, ..]).to_owned();
        let q = soft_assignment(&tensor(&z), &tensor(&centroids), alpha).unwrap();
        // Each centroid is a row of z, which is nearer to it than to any other centroid (or as near as to its double).
        for j in 0..k {
            let of_row = values(&q.get(j as i64));
            prop_assert!(of_row.iter().all(|other| *other <= of_row[j]), "row {}: {:?}", j, of_row);
        }
    }

    #[test]
    fn scores_do_not_depend_on_the_names_of_labels((labels_true, labels_pred) in labellings(), shift in any::<i64>()) {
        // Odd multiples wrap around without collisions: another name, in another order, for each label.
        let renamed = |labels: &[i64]| -> Vec<i64> {
            labels.iter().map(|label| label.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(shift)).collect()
        };
        let expected = scores(&labels_true, &labels_pred);
        prop_assert!(close(&scores(&renamed(&labels_true), &labels_pred), &expected));
        prop_assert!(close(&scores(&labels_true, &renamed(&labels_pred)), &expected));
        prop_assert!(close(&scores(&labels_true, &renamed(&labels_true)), &[1.0, 1.0, 1.0]));
    }

    #[test]
    fn scores_do_not_depend_on_the_order_of_rows((labels_true, labels_pred) in labellings()) {
        let mut pairs: Vec<(i64, i64)> = labels_true.iter().copied().zip(labels_pred.iter().copied()).collect();
        pairs.sort_unstable();
        let (sorted_true, sorted_pred): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        prop_assert_eq!(scores(&labels_true, &labels_pred), scores(&sorted_true, &sorted_pred));
    }

    #[test]
    fn classes_and_clusters_can_change_places((labels_true, labels_pred) in labellings()) {
        prop_assert!(close(&scores(&labels_true, &labels_pred), &scores(&labels_pred, &labels_true)));
    }

    #[test]
    fn scores_stay_in_their_ranges((labels_true, labels_pred) in labellings()) {
        let [acc, nmi, ari] = scores(&labels_true, &labels_pred);
        let groups = |labels: &[i64]| labels.iter().collect::<BTreeSet<_>>().len();
        let at_least = 1.0 / groups(&labels_true).max(groups(&labels_pred)) as f64;
        prop_assert!((at_least - 1e-12..=1.0).contains(&acc), "{acc} below {at_least}");
        prop_assert!((0.0..=1.0).contains(&nmi));
        prop_assert!((-0.5..=1.0).contains(&ari));
        let same_partition = groups(&labels_true) == groups(&labels_pred)
            && labels_true.iter().zip(&labels_pred).collect::<BTreeSet<_>>().len() == groups(&labels_true);
        prop_assert_eq!(acc == 1.0, same_partition);
        prop_assert_eq!(ari == 1.0, same_partition);
    }

    #[test]
    fn silhouettes_stay_in_their_range(z in rows(2..40), names in vec(-3i64..3, 40)) {
        let labels = &names[..z.nrows()];
        let groups = labels.iter().collect::<BTreeSet<_>>().len();
        match metrics::silhouette(&tensor(&z), labels, 0).unwrap() {
            Some(score) => prop_assert!((-1.0..=1.0).contains(&score)),
            None => prop_assert!(groups < 2 || groups == labels.len()),
        }
    }
}

/// The lowest inertia of a k-means' restarts.
struct Lowest(f64);

impl Observer for Lowest {
    fn on_event(&mut self, event: &Event) {
        if let Event::Restart { inertia, .. } = event {
            self.0 = *inertia;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn kmeans_ends_at_a_fixed_point_no_worse_than_its_best_restart(
        rows in rows(12..60),
        k in 1usize..7,
        seed in any::<u64>(),
    ) {
        let params = KMeansParams { n_clusters: k, n_init: 3, seed, ..KMeansParams::default() };
        let mut lowest = Lowest(f64::INFINITY);
        let fitted = kmeans::fit(&Rows::from_tensor(tensor(&rows)), &params, &mut Control::new(&mut lowest)).unwrap();
        let lowest = lowest.0;

        // A restart's inertia is told as a difference of sums over float32 rows: exact to a part of their whole spread.
        let one = KMeansParams { n_clusters: 1, n_init: 1, ..params };
        let spread = kmeans::fit(&Rows::from_tensor(tensor(&rows)), &one, &mut Control::ignored()).unwrap();
        let told = lowest + 1e-6 * spread.inertia;
        prop_assert!(fitted.inertia <= told, "finishing the best restart raised {} to {}", lowest, fitted.inertia);
        let again = metrics::inertia(rows.view(), &fitted.labels, fitted.centroids.view()).unwrap();
        prop_assert_eq!(again, fitted.inertia);

        // No cluster is empty, and moving any row to another centroid does not help (beyond float32's ties).
        let used: BTreeSet<i64> = fitted.labels.iter().copied().collect();
        prop_assert_eq!(used, (0..k as i64).collect::<BTreeSet<_>>());
        for (row, &label) in rows.rows().into_iter().zip(&fitted.labels) {
            let distance = |j: usize| -> f64 {
                row.iter().zip(fitted.centroids.row(j)).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
            };
            let own = distance(label as usize);
            prop_assert!((0..k).all(|j| own <= distance(j) * (1.0 + 1e-5)));
        }

        // One cluster is the worst case: k of them are never above it.
        let mean = rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(rows.ncols())).insert_axis(Axis(0));
        let single = metrics::inertia(rows.view(), &vec![0; rows.nrows()], mean.view()).unwrap();
        prop_assert!(fitted.inertia <= single * (1.0 + 1e-6));
    }
}
