//! Both engines, and the passes against each other.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use linfa_clustering::KMeansInit;
use ndarray::{array, concatenate, s, Array2, ArrayView2, Axis};
use rand::Rng;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256Plus;
use tch::{Device, Tensor};

use super::fused::Fused;
use super::lloyd;
use super::passes::{Passes, Space};
use super::plain::Plain;
use super::*;
use crate::control::{Event, Observer};
use crate::data::{array_of, tensor_of, Features};
use crate::metrics::{self, squared_distance};

/// The inertia after each restart, and how often the search asked whether to stop; stops it at a given question.
#[derive(Default)]
struct Watch {
    seen: Vec<(usize, f64)>,
    asked: Cell<usize>,
    stop_at: usize,
}

impl Observer for Watch {
    fn on_event(&mut self, event: &Event) {
        if let Event::Restart { restart, inertia, .. } = event {
            self.seen.push((*restart as usize, *inertia));
        }
    }

    fn should_stop(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.asked.get() == self.stop_at
    }
}

fn noise(n: usize, d: usize, seed: u64) -> Array2<f32> {
    let mut rng = Xoshiro256Plus::seed_from_u64(seed);
    Array2::from_shape_fn((n, d), |_| rng.gen::<f32>())
}

fn bytes(n: usize, d: usize, seed: u64) -> Array2<u8> {
    noise(n, d, seed).mapv(|value| (value * value * 256.0) as u8)
}

fn rows_of(array: ArrayView2<f32>) -> Rows {
    Rows::from_tensor(tensor_of(array).unwrap())
}

fn fit_array(array: ArrayView2<f32>, params: &KMeansParams) -> Result<KMeans> {
    fit(&rows_of(array), params, &mut Control::ignored())
}

fn params(n_clusters: usize) -> KMeansParams {
    KMeansParams { n_clusters, ..KMeansParams::default() }
}

fn both_engines(params: &KMeansParams) -> [KMeansParams; 2] {
    [Engine::Tensor, Engine::Linfa].map(|engine| KMeansParams { engine, ..params.clone() })
}

/// Labels are of the nearest centroids, centroids the means of their rows, the inertia that of both.
fn assert_consistent(rows: ArrayView2<f32>, fitted: &KMeans) {
    let k = fitted.centroids.nrows();
    let mut sums = Array2::<f64>::zeros(fitted.centroids.dim());
    let mut sizes = vec![0usize; k];
    for (row, &label) in rows.rows().into_iter().zip(&fitted.labels) {
        let distance = |j: usize| squared_distance(row.iter().zip(fitted.centroids.row(j)));
        let own = distance(label as usize);
        assert!((0..k).all(|j| own <= distance(j) * (1.0 + 1e-5)), "a row is not with its nearest centroid");
        sums.row_mut(label as usize).zip_mut_with(&row, |sum, &value| *sum += f64::from(value));
        sizes[label as usize] += 1;
    }
    for (cluster, &size) in sizes.iter().enumerate() {
        assert!(size > 0, "cluster {cluster} of {k} is empty");
        let mean = sums.row(cluster).mapv(|sum| (sum / size as f64) as f32);
        assert_eq!(mean, fitted.centroids.row(cluster), "cluster {cluster}");
    }
    assert_eq!(metrics::inertia(rows, &fitted.labels, fitted.centroids.view()).unwrap(), fitted.inertia);
}

#[test]
fn finds_separate_blobs_exactly() {
    let blob = noise(50, 3, 1);
    let rows = concatenate![Axis(0), blob, &blob + 10.0, &blob - 10.0];
    for params in both_engines(&params(3)) {
        let fitted = fit_array(rows.view(), &params).unwrap();
        assert_consistent(rows.view(), &fitted);
        let label = |i: usize| fitted.labels[i];
        assert!((0..150).all(|i| label(i) == label(i / 50 * 50)));
        assert!(label(0) != label(50) && label(50) != label(100) && label(0) != label(100));
    }
}

#[test]
fn result_is_a_fixed_point_of_lloyds_algorithm() {
    // 19 features: one vector of lanes and a remainder. No structure: many steps after the tolerance is reached.
    for (n, d) in [(400, 19), (1500, 70)] {
        let rows = noise(n, d, 2);
        for params in both_engines(&KMeansParams { tol: 0.1, n_init: 3, ..params(12) }) {
            assert_consistent(rows.view(), &fit_array(rows.view(), &params).unwrap());
        }
    }
}

#[test]
fn same_seed_same_bits_and_another_seed_another_search() {
    let rows = noise(300, 5, 3);
    for engine in both_engines(&KMeansParams { n_init: 1, ..params(8) }) {
        let run = |seed| fit_array(rows.view(), &KMeansParams { seed, ..engine.clone() }).unwrap();
        assert_eq!(run(1), run(1));
        assert!((2..6).any(|seed| run(seed).labels != run(1).labels));
    }
}

#[test]
fn rows_in_any_memory_order_give_the_same() {
    let rows = noise(100, 5, 4);
    let expected = fit_array(rows.view(), &params(4)).unwrap();
    let tensor = tensor_of(rows.view()).unwrap();
    let by_column = Rows::from_tensor(tensor.tr().contiguous().tr());
    let every_second = Rows::from_tensor(Tensor::cat(&[&tensor, &tensor], 1).slice(1, 5, None, 1));
    for rows in [by_column, every_second] {
        assert_eq!(fit(&rows, &params(4), &mut Control::ignored()).unwrap(), expected);
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let _alone = crate::backend::threads::tests::alone();
    let before = tch::get_num_threads();
    for (n, d, k) in [(3001, 90, 7), (5000, 10, 9)] {
        let rows = noise(n, d, 5);
        let results = [1, 2, 3, 5].map(|threads| {
            tch::set_num_threads(threads);
            fit_array(rows.view(), &KMeansParams { n_init: 3, ..params(k) }).unwrap()
        });
        assert!(results.iter().all(|result| *result == results[0]), "{d} features");
    }
    tch::set_num_threads(before);
}

#[test]
fn bytes_and_the_floats_that_they_stand_for_give_the_same() {
    let stored = bytes(700, 33, 6);
    let scale = 0.02;
    let rows = Rows::new(&Features::U8(stored), &crate::data::Scaling::Factor(scale), Device::Cpu).unwrap();
    let floats = array_of(&rows.to_tensor().unwrap()).unwrap();
    let of_bytes = fit(&rows, &params(6), &mut Control::ignored()).unwrap();
    let of_floats = fit_array(floats.view(), &params(6)).unwrap();
    assert_consistent(floats.view(), &of_bytes);
    assert_eq!(of_bytes.labels, of_floats.labels);
    assert_eq!(of_bytes.centroids, of_floats.centroids);
    assert_eq!(of_bytes.inertia, of_floats.inertia);
}

#[test]
fn restarts_report_a_falling_inertia_and_the_first_ones_do_not_depend_on_how_many_follow() {
    let rows = noise(200, 4, 5);
    for engine in both_engines(&params(9)) {
        let history = |n_init, seed| {
            let mut watch = Watch::default();
            let params = KMeansParams { n_init, seed, ..engine.clone() };
            fit(&rows_of(rows.view()), &params, &mut Control::new(&mut watch)).unwrap();
            watch.seen
        };
        let long = history(8, 0);
        assert!(long.iter().map(|seen| seen.0).eq(1..=8));
        assert!(long.windows(2).all(|pair| pair[1].1 <= pair[0].1));
        assert_eq!(history(3, 0), long[..3]);
        let falls = |seed| history(8, seed).windows(2).any(|pair| pair[1].1 < pair[0].1);
        assert!((0..4).any(falls), "no restart beats its first: do they all start from the same centroids?");
    }
}

#[test]
fn a_break_interrupts_wherever_it_comes() {
    let rows = rows_of(noise(50, 2, 6).view());
    for params in both_engines(&KMeansParams { n_init: 3, ..params(3) }) {
        let mut watch = Watch::default();
        fit(&rows, &params, &mut Control::new(&mut watch)).unwrap();
        let all = watch.asked.get();
        assert!(all > 6, "{all} questions whether to stop");
        for stop_at in 1..=all {
            let mut watch = Watch { stop_at, ..Watch::default() };
            let result = fit(&rows, &params, &mut Control::new(&mut watch));
            assert!(matches!(result, Err(Error::Interrupted)));
            assert_eq!(watch.asked.get(), stop_at);
        }
    }
}

#[test]
fn a_search_goes_on_from_what_it_has_reached() {
    let rows = rows_of(noise(120, 3, 8).view());
    for params in both_engines(&KMeansParams { n_init: 7, ..params(4) }) {
        let whole = fit(&rows, &params, &mut Control::ignored()).unwrap();
        // Pieces of single restarts: each search is given one more to do, and what the last one came to.
        let (mut done, mut best) = (0, None);
        for n_init in 1..=7 {
            let mut search = Search::new(&rows, &KMeansParams { n_init, ..params.clone() }).unwrap();
            search.go_on_after(done, best);
            assert!(search.advance(&mut Control::ignored()).unwrap().is_none());
            let progress = search.progress();
            done = progress.0;
            best = progress.1.map(|best| Best { inertia: best.inertia, centroids: best.centroids.copy() });
        }
        let mut last = Search::new(&rows, &params).unwrap();
        last.go_on_after(done, best);
        assert_eq!(last.advance(&mut Control::ignored()).unwrap().unwrap(), whole);
    }
}

#[test]
fn restarts_that_do_not_converge_still_give_a_clustering() {
    let rows = noise(500, 6, 7);
    for engine in both_engines(&params(10)) {
        let hurried = KMeansParams { max_iter: 1, tol: 0.0, ..engine.clone() };
        let fitted = fit_array(rows.view(), &hurried).unwrap();
        assert_eq!(metrics::inertia(rows.view(), &fitted.labels, fitted.centroids.view()).unwrap(), fitted.inertia);
        let converged = fit_array(rows.view(), &engine).unwrap();
        assert!(converged.inertia < fitted.inertia);
    }
}

#[test]
fn empty_clusters_take_the_farthest_rows() {
    let rows = array![[0.0f32], [1.0], [2.0], [50.0], [51.0], [90.0]];
    let centroids = array![[1.0f32], [1000.0], [60.0], [2000.0]];
    let mut labels = vec![0, 0, 0, 2, 2, 2];
    let moved = exact::fill(&mut labels, 4, &[1.0, 0.0, 1.0, 100.0, 81.0, 900.0]);
    assert_eq!(moved, [5, 3]);
    assert_eq!(labels, [0, 0, 0, 3, 2, 1], "90 is 30 away, 50 is 10 away, 51 must stay");
    let finished = exact::finish(&rows_of(rows.view()), centroids, 100, &Control::ignored()).unwrap();
    assert_consistent(rows.view(), &finished);
    assert_eq!(finished.inertia, 2.0);
}

/// What both implementations of the passes find from the same centroids.
fn descents(rows: &Rows, start: &Array2<f32>, tol: f64, max_iter: u64) -> [(f64, Array2<f32>); 2] {
    let space = Space::new(rows, &mut Control::ignored()).unwrap();
    let norms = Fused::norms(&space).unwrap();
    let start = (tensor_of(start.view()).unwrap() - &space.origin).unsqueeze(0);
    let k = start.size()[1];
    let descend = |passes: &mut dyn Passes| {
        let (inertia, centroids) =
            lloyd::descend(&space, passes, start.copy(), tol, max_iter, &mut Control::ignored(), &mut |_, _, _| {})
                .unwrap();
        (inertia, array_of(&(centroids + &space.origin)).unwrap())
    };
    [descend(&mut Fused::new(&space, &norms, 1, k).unwrap()), descend(&mut Plain::new(&space, 1, k).unwrap())]
}

fn near(a: &Array2<f32>, b: &Array2<f32>, tolerance: f32) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

#[test]
fn both_implementations_of_the_passes_take_the_same_way() {
    for (n, d, k) in [(2000, 70, 12), (3000, 10, 10), (500, 3, 1), (260, 17, 90)] {
        let rows = noise(n, d, 9);
        let start = rows.slice(s![..k, ..]).to_owned();
        for iterations in [1, 4, 300] {
            let [fused, plain] = descents(&rows_of(rows.view()), &start, 0.0, iterations);
            assert!((fused.0 / plain.0 - 1.0).abs() < 1e-6, "{n} x {d}, {iterations}: {} and {}", fused.0, plain.0);
            assert!(near(&fused.1, &plain.1, 1e-5), "{n} x {d}, {iterations} iterations");
        }
    }
}

#[test]
fn a_search_by_either_implementation_of_the_passes_ends_at_the_same() {
    let rows = Rows::new(&Features::U8(bytes(900, 40, 10)), &crate::data::Scaling::Factor(0.01), Device::Cpu).unwrap();
    let params = KMeansParams { n_init: 4, ..params(5) };
    let space = Space::new(&rows, &mut Control::ignored()).unwrap();
    let norms = Fused::norms(&space).unwrap();
    let search = |fused: bool| {
        let mut watch = Watch::default();
        let control = &mut Control::new(&mut watch);
        let centroids = if fused {
            let best = search::best_of(
                &space,
                Fused::new(&space, &norms, 4, 5).unwrap(),
                &params,
                0,
                4,
                f64::INFINITY,
                control,
            );
            search::settled(&space, Fused::new(&space, &norms, 1, 5).unwrap(), &best.unwrap(), params.max_iter, control)
        } else {
            let best =
                search::best_of(&space, Plain::new(&space, 4, 5).unwrap(), &params, 0, 4, f64::INFINITY, control);
            search::settled(&space, Plain::new(&space, 1, 5).unwrap(), &best.unwrap(), params.max_iter, control)
        };
        (centroids.unwrap(), watch.seen.iter().map(|seen| seen.1).collect::<Vec<_>>())
    };
    let (fused, plain) = (search(true), search(false));
    assert!(near(&fused.0, &plain.0, 1e-5));
    assert_eq!(fused.1.len(), 4);
    assert!(fused.1.iter().zip(&plain.1).all(|(a, b)| (a / b - 1.0).abs() < 1e-6), "{:?} {:?}", fused.1, plain.1);
}

#[test]
fn an_emptied_cluster_is_filled_on_the_way() {
    // The third centroid is nearest to no row.
    let rows = array![[0.0f32, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 10.0], [40.0, 9.0]];
    let start = array![[0.0f32, 0.0], [9.0, 9.0], [-500.0, 0.0]];
    for (inertia, centroids) in descents(&rows_of(rows.view()), &start, 0.0, 100) {
        assert!((inertia - (4.0 / 3.0 + 0.5)).abs() < 1e-4, "{inertia}");
        assert!(near(&centroids, &array![[1.0 / 3.0, 1.0 / 3.0], [9.0, 9.5], [40.0, 9.0]], 1e-5), "{centroids}");
    }
}

#[test]
fn ends_where_linfa_ends_from_the_same_centroids() {
    for (n, d, k) in [(600, 8, 6), (900, 60, 5)] {
        let blobs: Array2<f32> = Array2::from_shape_fn((n, d), |(i, j)| if j % k == i % k { 1.2 } else { 0.0 });
        let rows = noise(n, d, 11) + blobs;
        let start = rows.slice(s![..k, ..]).to_owned();
        let shared = KMeansParams { tol: 0.0, ..params(k) };
        let init = KMeansInit::Precomputed(start.clone());
        let rng = Xoshiro256Plus::seed_from_u64(0);
        let theirs = linfa::restart_from(init, rows.view(), &shared, f32::MIN_POSITIVE, &rng).unwrap();
        let finish = |centroids| exact::finish(&rows_of(rows.view()), centroids, 300, &Control::ignored()).unwrap();
        let theirs = finish(theirs);
        let [ours, _] = descents(&rows_of(rows.view()), &start, 0.0, 300);
        let ours = finish(ours.1);
        assert!((ours.inertia / theirs.inertia - 1.0).abs() < 1e-9, "{} and {}", ours.inertia, theirs.inertia);
        assert_eq!(ours.labels, theirs.labels);
    }
}

#[test]
fn rows_far_from_the_origin_are_clustered_as_well() {
    for (n, d) in [(600, 40), (900, 4)] {
        // Multiples of 2⁻¹³, so that moving them by 1000 rounds nothing.
        let rows = noise(n, d, 12).mapv(|value| (value * 4096.0).round() / 4096.0);
        let moved = &rows + 1000.0;
        assert_eq!(&moved - 1000.0, rows);
        let params = KMeansParams { n_init: 4, ..params(6) };
        let (near, far) = (fit_array(rows.view(), &params).unwrap(), fit_array(moved.view(), &params).unwrap());
        assert_consistent(moved.view(), &far);
        assert!((far.inertia / near.inertia - 1.0).abs() < 1e-3, "{} and {}", far.inertia, near.inertia);
    }
}

#[test]
fn as_many_clusters_as_different_rows_is_the_limit() {
    let rows = array![[1.0f32, 0.0], [1.0, -0.0], [2.0, 0.0], [3.0, 0.0], [3.0, 0.0]];
    for engine in both_engines(&params(3)) {
        let fitted = fit_array(rows.view(), &engine).unwrap();
        assert_consistent(rows.view(), &fitted);
        assert_eq!(fitted.inertia, 0.0);
    }
    // Differences that the products cannot see.
    let close = array![[1000.0f32], [1000.0], [1000.0001], [1000.0002], [0.0], [0.0]];
    let fitted = fit_array(close.view(), &params(4)).unwrap();
    assert_consistent(close.view(), &fitted);
    assert_eq!(fitted.inertia, 0.0);

    let problem = |rows: ArrayView2<f32>, k| match fit_array(rows, &params(k)) {
        Err(Error::Rows(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert!(problem(rows.view(), 4).contains("only 3 different"));
    assert!(problem(rows.view(), 6).contains("5 rows"));
    assert!(problem(Array2::ones((9, 4)).view(), 2).contains("all the same"));
    assert!(problem(Array2::zeros((0, 4)).view(), 1).contains("0 rows"));
    assert!(problem(Array2::zeros((4, 0)).view(), 1).contains("without features"));
    assert!(problem(array![[0.0, 1.0], [f32::NAN, 1.0]].view(), 1)
        .contains("row 1 has NaN in column 0: k-means needs finite"));
    assert!(problem(array![[1e30f32], [-1e30], [0.0]].view(), 2).contains("scale the rows down"));
    let same = fit_array(Array2::ones((9, 4)).view(), &params(1)).unwrap();
    assert_eq!((same.inertia, same.labels), (0.0, vec![0; 9]));
}

#[test]
fn impossible_parameters_name_the_field() {
    let rows = noise(20, 2, 8);
    let good = params(2);
    let bad = [
        ("n_clusters", KMeansParams { n_clusters: 0, ..good.clone() }),
        ("n_init", KMeansParams { n_init: 0, ..good.clone() }),
        ("max_iter", KMeansParams { max_iter: 0, ..good.clone() }),
        ("tol", KMeansParams { tol: -1.0, ..good.clone() }),
        ("tol", KMeansParams { tol: f64::NAN, ..good }),
    ];
    for (field, params) in bad {
        match fit_array(rows.view(), &params) {
            Err(Error::Config(problem)) => assert!(problem.contains(field), "{problem}"),
            other => panic!("{field}: {other:?}"),
        }
    }
}
