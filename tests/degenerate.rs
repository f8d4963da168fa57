//! Inputs at the edge of what can be clustered work, or are refused in words.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dec::config::Recipe;
use dec::control::{Event, Observer};
use dec::data::{Dataset, Features};
use dec::run::{Fitted, Trainer};
use dec::Error;
use ndarray::Array2;
use proptest::prelude::*;
use tch::Device;

struct Nobody;

impl Observer for Nobody {
    fn on_event(&mut self, _: &Event) {}
}

/// Trains the default recipe on small networks, in some ten epochs.
fn run(rows: &Array2<f32>, k: usize, settings: &[&str]) -> Result<Fitted, Error> {
    let small = [
        format!("n_clusters={k}"),
        "model.hidden=[8, 16]".to_owned(),
        "model.n_latent=3".to_owned(),
        "kmeans.n_init=2".to_owned(),
        "threads=1".to_owned(),
        "start.networks=2".to_owned(),
        "pretrain.steps=40".to_owned(),
        "cluster.handover_epochs=2".to_owned(),
        "cluster.max_rounds=3".to_owned(),
    ];
    let mut recipe = Recipe::load("default").unwrap();
    recipe.set(&small.into_iter().chain(settings.iter().map(|&s| s.to_owned())).collect::<Vec<_>>()).unwrap();
    let config = recipe.config.check().unwrap();
    let dataset = Dataset { features: Features::F32(rows.clone()), name: "rows".to_owned(), ..Dataset::default() };
    Trainer::new(&config, &dataset, Device::Cpu)?.run(&mut Nobody)
}

/// What a person may see: clusters of all rows with finite memberships, or an error that says what is wrong with the rows or
/// with what became of them. Never a fault of this program, and never libtorch's own words.
fn check(rows: &Array2<f32>, k: usize, outcome: Result<Fitted, Error>) -> Result<(), TestCaseError> {
    match outcome {
        Ok(fitted) => {
            let labels = &fitted.assignment.labels;
            prop_assert_eq!(labels.len(), rows.nrows());
            prop_assert!(labels.iter().all(|label| (0..k as i64).contains(label)));
            prop_assert!(bool::try_from(fitted.q.isfinite().all()).unwrap());
        }
        Err(Error::Rows(_) | Error::Training(_) | Error::Collapsed { .. }) => {}
        Err(other) => prop_assert!(false, "{other:?}"),
    }
    Ok(())
}

/// `n` rows of `d` values around `groups` places, the first of which has all rows but `small` for each of the others.
fn blobs(n: usize, d: usize, groups: usize, small: usize, seed: u64) -> Array2<f32> {
    let noise = |i: usize| ((i as f64 + seed as f64) * 12.9898).sin() as f32;
    let group = |i: usize| if i >= small * (groups - 1) { 0 } else { 1 + i % (groups - 1).max(1) };
    Array2::from_shape_fn((n, d), |(i, j)| 5.0 * ((group(i) * 7 + j * 3) % 11) as f32 + noise(i * d + j))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn as_many_clusters_as_rows(n in 2usize..12, d in 1usize..6, seed in any::<u16>()) {
        let rows = blobs(n, d, 2, n / 2, seed.into());
        check(&rows, n, run(&rows, n, &[]))?;
    }

    #[test]
    fn fewer_rows_than_a_batch_and_two_clusters(n in 3usize..60, d in 1usize..30, seed in any::<u16>()) {
        let rows = blobs(n, d, 2, n / 2, seed.into());
        check(&rows, 2, run(&rows, 2, &[]))?;
    }

    #[test]
    fn one_feature(n in 20usize..80, k in 2usize..6, seed in any::<u16>()) {
        let rows = blobs(n, 1, k, n / k, seed.into());
        check(&rows, k, run(&rows, k, &[]))?;
    }

    #[test]
    fn nearly_all_rows_in_one_class(n in 200usize..400, k in 2usize..5, seed in any::<u16>()) {
        let rows = blobs(n, 5, k, 1, seed.into());
        check(&rows, k, run(&rows, k, &[]))?;
    }

    #[test]
    fn duplicates(distinct in 2usize..6, copies in 5usize..40, k in 2usize..8, seed in any::<u16>()) {
        let one = blobs(distinct, 4, distinct, 1, seed.into());
        let rows = Array2::from_shape_fn((distinct * copies, 4), |(i, j)| one[[i % distinct, j]]);
        let outcome = run(&rows, k, &[]);
        if k > distinct {
            // Refused at once, and with the number.
            let told = matches!(&outcome, Err(Error::Rows(problem)) if problem.contains(&distinct.to_string()));
            prop_assert!(told, "{distinct} distinct rows, {k} clusters: {:?}", outcome.map(|_| ()));
            return Ok(());
        }
        check(&rows, k, outcome)?;
    }

    #[test]
    fn columns_without_a_difference(n in 30usize..90, varying in 0usize..3, seed in any::<u16>()) {
        let some = blobs(n, 3, 3, n / 3, seed.into());
        let rows = Array2::from_shape_fn((n, 9), |(i, j)| if j < varying { some[[i, j]] } else { 1e6 + j as f32 });
        let outcome = run(&rows, 3, &[]);
        prop_assert!(varying > 0 || matches!(outcome, Err(Error::Rows(_))));
        check(&rows, 3, outcome)?;
    }

    #[test]
    fn one_absurd_row(n in 50usize..150, far in 3i32..30, seed in any::<u16>()) {
        let mut rows = blobs(n, 6, 3, n / 3, seed.into());
        rows[[n / 2, 1]] = 10f32.powi(far);
        check(&rows, 3, run(&rows, 3, &[]))?;
    }
}
