//! Reports of runs that never were, with more points and clusters than a test can train.

use dec::report::page::{
    Cluster, Column, Curve, Distinguishing, Layout, Merge, Points, Report, RowKind, ScoreRow, Scores, Thumbnails,
};
use dec::report::why::{dendrogram, nearest_clusters, Linkage};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Roughly normal.
fn normal(random: &mut Xoshiro256PlusPlus) -> f32 {
    (0..12).map(|_| random.gen::<f32>()).sum::<f32>() - 6.0
}

/// `n` points in `k` clusters; with pictures, if asked.
pub fn blobs(n: usize, k: usize, pictures: bool) -> Report {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(17);
    let side = (k as f32).sqrt().ceil();
    let spots: Vec<[f32; 2]> = (0..k)
        .map(|c| [c as f32 % side + 0.5 * random.gen::<f32>(), (c as f32 / side).floor() + 0.5 * random.gen::<f32>()])
        .collect();
    let cluster: Vec<u32> =
        (0..n).map(|_| ((random.gen::<f32>() * random.gen::<f32>().max(0.2)) * k as f32) as u32).collect();
    let spread = 0.16;
    let xy: Vec<[f32; 2]> =
        cluster.iter().map(|&c| spots[c as usize].map(|v| v + spread * normal(&mut random))).collect();
    let pca = xy.iter().map(|&[x, y]| [x * 0.8 + y * 0.3, y + 0.4 * normal(&mut random)]).collect();
    let confidence: Vec<f32> = xy
        .iter()
        .zip(&cluster)
        .map(|(p, &c)| {
            let away = (p[0] - spots[c as usize][0]).hypot(p[1] - spots[c as usize][1]) / spread;
            (1.05 - 0.02 * away.powi(3)).clamp(0.2, 1.0)
        })
        .collect();
    let thumbnails = pictures.then(|| Thumbnails {
        height: 28,
        width: 28,
        channels: 1,
        places: vec![],
        pixels: cluster.iter().flat_map(|&c| stroke(c, &mut random)).collect(),
    });
    let centroids = Array2::from_shape_fn((k, 2), |(c, axis)| spots[c][axis]);
    let near = nearest_clusters(centroids.view(), 4);
    let mut sizes = vec![0u64; k];
    cluster.iter().for_each(|&c| sizes[c as usize] += 1);
    let joins = dendrogram(centroids.view(), &sizes, Linkage::Average).unwrap();
    let rows_of = |c: usize| (0..n as u32).filter(move |&i| c as u32 == i % k as u32);
    let clusters = (0..k).map(|c| Cluster {
        size: sizes[c],
        mean_confidence: 0.93,
        confidence_histogram: (0..10).map(|bin| sizes[c] * bin * bin / 285).collect(),
        nearest: near[c].iter().map(|&(other, d)| (other, d as f32)).collect(),
        typical: rows_of(c).take(8).collect(),
        columns: (0..6)
            .map(|i| Distinguishing {
                name: format!("column {}", (c * 7 + i) % 64),
                effect: (2.6 - i as f32 * 0.4) * if i % 2 == 0 { 1.0 } else { -1.0 },
                share: 0.9 - 0.1 * i as f32,
                share_rest: 0.2,
            })
            .collect(),
        ..Cluster::default()
    });
    let mut report = Report { clusters: clusters.collect(), ..Report::default() };
    report.dendrogram = joins.iter().map(|j| Merge { a: j.a, b: j.b, height: j.height as f32, size: j.size }).collect();
    report.points = Some(Points {
        columns: vec![Column { name: "height".into(), values: xy.iter().map(|p| p[1]).collect() }],
        outlier: confidence.iter().map(|q| 1.0 - q).collect(),
        second: cluster.iter().map(|&c| (c + 1) % k as u32).collect(),
        cluster,
        confidence,
        layouts: vec![Layout { name: "UMAP".into(), xy }, Layout { name: "PCA".into(), xy: pca }],
        thumbnails,
        ..Points::default()
    });
    report.scores = Scores {
        columns: vec!["silhouette".into()],
        rows: vec![ScoreRow { method: "DEC".into(), values: vec![Some(0.64)], plain: false, result: true }],
    };
    report.curves.push(Curve {
        chart: "Loss".into(),
        name: "reconstruction".into(),
        x_name: "epoch".into(),
        log: true,
        x: (0..90).map(f64::from).collect(),
        y: (0..90).map(|i| 0.2 + (-f64::from(i) / 12.0).exp()).collect(),
        ..Curve::default()
    });
    (report.run.data, report.run.n_rows, report.run.n_features) = (format!("{n} points, {k} clusters"), n as u64, 64);
    if pictures {
        report.run.kind = RowKind::Images { height: 28, width: 28, channels: 1 };
    }
    report
}

/// A line whose direction is the cluster's.
fn stroke(c: u32, random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let (turn, shift) = (c as f32 * 0.7 + 0.2 * normal(random), normal(random));
    (0..784)
        .map(|at| {
            let (x, y) = ((at % 28) as f32 - 13.5 + shift, (at / 28) as f32 - 13.5);
            let line = (x * turn.cos() + y * turn.sin()).abs();
            let inside = x * x + y * y <= 110.0;
            ((3.0 - line).clamp(0.0, 1.0) * if inside { 200.0 + 55.0 * random.gen::<f32>() } else { 0.0 }) as u8
        })
        .collect()
}
