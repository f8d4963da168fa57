//! The default recipe's first assignment on data of several shapes, each right for another reason.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dec::config::Recipe;
use dec::control::Method;
use dec::data::{Dataset, Features};
use dec::error::Collapse;
use dec::run::Trainer;
use dec::start::choice::{Family, Reason};
use dec::Error;
use ndarray::Array2;
use rand::Rng;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::Device;

/// Accuracy of the start and of the end, and what the start's family was.
fn run(rows: Array2<f32>, truth: Vec<i64>) -> (f64, f64, Family, Reason) {
    let k = truth.iter().max().unwrap() + 1;
    let mut recipe = Recipe::load("default").unwrap();
    let settings = [
        format!("n_clusters={k}"),
        "threads=1".to_owned(),
        "model.hidden=[32, 32, 64]".to_owned(),
        "start.networks=1".to_owned(),
        "pretrain.steps=150".to_owned(),
        "cluster.max_rounds=20".to_owned(),
    ];
    recipe.set(&settings).unwrap();
    let dataset =
        Dataset { features: Features::F32(rows), labels: Some(truth), name: "rows".to_owned(), ..Dataset::default() };
    let mut trainer = Trainer::new(&recipe.config.check().unwrap(), &dataset, Device::Cpu).unwrap();
    let ended = trainer.run(&mut ());
    let of = |method| trainer.state().results.iter().find(|r| r.method == method).and_then(|r| r.acc).unwrap();
    let choice = trainer.state().choice.clone().unwrap();
    let end = match ended {
        Ok(_) => of(Method::Dec),
        // Then the start is the result, and the program says so with exit code 4.
        Err(Error::Collapsed { of: Collapse::Clusters, .. }) => of(Method::Start),
        Err(other) => panic!("{other}"),
    };
    (of(Method::Start), end, choice.family, choice.reason)
}

fn normal(rng: &mut Xoshiro256PlusPlus) -> f32 {
    (0..12).map(|_| rng.gen::<f32>()).sum::<f32>() - 6.0
}

/// Survey answers: 1,500 rows, of which 32 differ.
#[test]
fn few_distinct_rows_are_told_apart() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let truth: Vec<i64> = (0..900).map(|_| rng.gen_range(0..2)).collect();
    let rows = Array2::from_shape_fn((900, 4), |(i, _)| 1.0 + 3.0 * truth[i] as f32 + rng.gen_range(0..2) as f32);
    let (start, end, family, reason) = run(rows, truth);
    assert_eq!((start, end), (1.0, 1.0));
    assert_eq!((family, reason), (Family::Centres, Reason::Ties));
}

/// Ten rows of a thousand, five deviations out in each of ten columns.
#[test]
fn a_small_cluster_is_found() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let truth: Vec<i64> = (0..1000).map(|i| i64::from(i % 100 == 7)).collect();
    let rows = Array2::from_shape_fn((1000, 10), |(i, _)| 5.0 * truth[i] as f32 + normal(&mut rng));
    let (start, end, ..) = run(rows, truth);
    assert!(start >= 0.999 && end >= 0.999, "{start} {end}");
}

/// Two half circles that reach into each other, and k-means cuts in two.
#[test]
fn moons_are_followed_along_the_graph() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let truth: Vec<i64> = (0..800).map(|i| i % 2).collect();
    let mut rows = Array2::zeros((800, 2));
    for (mut row, &moon) in rows.rows_mut().into_iter().zip(&truth) {
        let angle = rng.gen::<f32>() * std::f32::consts::PI;
        let (x, y) = if moon == 0 { (angle.cos(), angle.sin()) } else { (1.0 - angle.cos(), 0.5 - angle.sin()) };
        row[0] = x + 0.05 * normal(&mut rng);
        row[1] = y + 0.05 * normal(&mut rng);
    }
    let (start, _, family, _) = run(rows, truth);
    assert!(start > 0.98, "{start} {family:?}");
    assert_eq!(family, Family::Graph);
}

/// One row of 10⁶ among three blobs: the run says so or ends with the start, but does not lose the blobs.
#[test]
fn one_absurd_row_does_not_spoil_the_others() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
    let truth: Vec<i64> = (0..600).map(|i| i % 3).collect();
    let centre = |class: i64, j: usize| match class {
        0 => 0.0,
        1 => 7.0,
        _ => 7.0 * (j % 2) as f32,
    };
    let mut rows = Array2::from_shape_fn((600, 8), |(i, j)| centre(truth[i], j) + normal(&mut rng));
    rows.row_mut(0).fill(1e6);
    let (start, end, ..) = run(rows, truth);
    assert!(start > 0.99 && end > 0.99, "{start} {end}");
}
