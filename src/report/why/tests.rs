#![allow(clippy::unwrap_used)]

use ndarray::{array, Array2};

use super::*;
use crate::umap::Random;

#[test]
fn effects_are_cohens_d() {
    // Cluster 0: 1, 2, 3 (mean 2, variance 1); the rest: 5, 7 (mean 6, variance 2). Pooled: sqrt((2·1 + 1·2) / 3).
    let rows = array![[1.0f32], [2.0], [3.0], [5.0], [7.0]];
    let found = distinguishing_columns(rows.view(), &[0, 0, 0, 1, 1], 2, 5, Ranking::Effect).unwrap();
    let expected = -4.0 / (4.0f64 / 3.0).sqrt();
    assert!((found[0][0].effect - expected).abs() < 1e-12);
    assert!((found[1][0].effect + expected).abs() < 1e-12);
    assert_eq!((found[0][0].mean, found[0][0].mean_rest), (2.0, 6.0));
    assert_eq!((found[0][0].share, found[0][0].share_rest), (0.0, 1.0));
}

#[test]
fn a_large_offset_does_not_drown_the_spread() {
    let mut random = Random::new(1);
    let near = Array2::from_shape_fn((400, 1), |(row, _)| random.unit() + (row % 2) as f32);
    let far = near.mapv(|value| value + 65_536.0);
    let labels: Vec<u32> = (0..400).map(|row| row % 2).collect();
    let effect =
        |rows: &Array2<f32>| distinguishing_columns(rows.view(), &labels, 2, 1, Ranking::Effect).unwrap()[1][0].effect;
    assert!((effect(&near) / effect(&far) - 1.0).abs() < 0.02);
}

#[test]
fn constant_and_strange_columns_are_harmless() {
    let rows = array![[1.0f32, 5.0, f32::NAN, 0.0], [1.0, 5.0, f32::INFINITY, 0.0], [1.0, 9.0, 3.0, 0.0]];
    let found = distinguishing_columns(rows.view(), &[0, 0, 1], 3, 9, Ranking::Effect).unwrap();
    let columns: Vec<u32> = found[1].iter().map(|effect| effect.column).collect();
    assert_eq!(columns, [1, 2]);
    assert!(found.iter().flatten().all(|effect| effect.effect.is_finite() && effect.score.is_finite()));
    assert!(found[2].is_empty());
    let alone = distinguishing_columns(rows.view(), &[0, 0, 0], 1, 9, Ranking::Effect).unwrap();
    assert!(alone[0].is_empty());
}

#[test]
fn counts_are_ranked_by_what_is_theirs_alone() {
    // Column 0 is high everywhere, column 1 in cluster 0 alone, column 2 in cluster 1 alone.
    let rows = array![[50.0f32, 9.0, 0.0], [50.0, 8.0, 0.0], [50.0, 0.0, 7.0], [50.0, 0.0, 9.0]];
    let found = distinguishing_columns(rows.view(), &[0, 0, 1, 1], 2, 2, Ranking::Counts).unwrap();
    assert_eq!((found[0][0].column, found[1][0].column), (0, 0));
    let of = |cluster: usize, column| found[cluster].iter().find(|effect| effect.column == column).copied();
    let marker = of(0, 1).unwrap();
    assert_eq!((marker.share, marker.share_rest), (1.0, 0.0));
    // tf · ln(1 + A / f), A = 233 / 2, f = 17.
    let expected = 17.0 / 117.0 * (1.0 + 116.5 / 17.0f64).ln();
    assert!((marker.score - expected).abs() < 1e-12);
    assert!(of(0, 2).is_none());
}

#[test]
fn many_columns_are_taken_in_groups() {
    // 300 clusters: groups of some 4,000 columns at most.
    let rows = Array2::from_shape_fn((300, 4_800), |(row, column)| if row * 16 == column { 1.0 } else { 0.0f32 });
    let labels: Vec<u32> = (0..300).collect();
    let found = distinguishing_columns(rows.view(), &labels, 300, 1, Ranking::Effect).unwrap();
    assert!(found.iter().enumerate().all(|(cluster, columns)| columns[0].column as usize == cluster * 16));
}

#[test]
fn typical_and_doubtful_rows() {
    let latent = array![[0.0f32], [0.2], [1.0], [9.0], [9.9]];
    let labels = [0, 0, 0, 1, 1];
    let centroids = array![[0.15f32], [10.0], [50.0]];
    let typical = typical_rows(latent.view(), &labels, centroids.view(), 2).unwrap();
    assert_eq!(typical, [vec![1, 0], vec![4, 3], vec![]]);
    let doubtful = doubtful_rows(&[0.9, 0.4, f32::NAN, 0.5, 0.5], &labels, 3, 2).unwrap();
    assert_eq!(doubtful, [vec![1, 0], vec![3, 4], vec![]]);
    let near = nearest_clusters(centroids.view(), 1);
    assert_eq!(near.iter().map(|list| list[0].0).collect::<Vec<_>>(), [1, 0, 1]);
}

#[test]
fn the_tree_is_scipys() {
    // scipy.cluster.hierarchy.linkage([[0], [1], [4], [9]], "average") and "ward".
    let centroids = array![[0.0f32], [1.0], [4.0], [9.0]];
    let average = dendrogram(centroids.view(), &[1; 4], Linkage::Average).unwrap();
    let heights: Vec<f64> = average.iter().map(|join| join.height).collect();
    assert_eq!(heights, [1.0, 3.5, 22.0 / 3.0]);
    assert_eq!(
        average.iter().map(|join| (join.a, join.b, join.size)).collect::<Vec<_>>(),
        [(0, 1, 2), (2, 4, 3), (3, 5, 4)]
    );
    let ward = dendrogram(centroids.view(), &[1; 4], Linkage::Ward).unwrap();
    let expected = [1.0, 4.041_451_884_327_38, 8.981_462_390_204_987];
    assert!(ward.iter().zip(expected).all(|(join, height)| (join.height - height).abs() < 1e-9), "{ward:?}");
}

#[test]
fn the_tree_of_equal_and_empty_clusters_ends() {
    let centroids = Array2::<f32>::zeros((40, 2));
    for linkage in [Linkage::Average, Linkage::Ward] {
        let joins = dendrogram(centroids.view(), &[0; 40], linkage).unwrap();
        assert_eq!((joins.len(), joins[38].size), (39, 40));
    }
    assert!(dendrogram(Array2::<f32>::zeros((1, 2)).view(), &[3], Linkage::Ward).unwrap().is_empty());
    assert!(dendrogram(Array2::<f32>::zeros((0, 2)).view(), &[], Linkage::Ward).unwrap().is_empty());
}

#[test]
fn what_does_not_fit_is_refused() {
    let rows = array![[1.0f32], [2.0]];
    assert!(distinguishing_columns(rows.view(), &[0], 1, 1, Ranking::Effect).is_err());
    let wrong = distinguishing_columns(rows.view(), &[0, 3], 2, 1, Ranking::Effect).unwrap_err();
    assert_eq!(wrong, WhyError::Label { row: 1, label: 3, k: 2 });
    assert!(typical_rows(rows.view(), &[0, 0], array![[1.0f32, 2.0]].view(), 1).is_err());
    assert!(dendrogram(rows.view(), &[1], Linkage::Ward).is_err());
}
