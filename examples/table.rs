//! Clusters a table by linfa's traits: `cargo run --release --example table`.
#![allow(clippy::print_stdout)] // which an example is for

use dec::linfa::traits::{Fit, Predict};
use dec::linfa::DatasetBase;
use dec::{Dec, ParamGuard};
use ndarray::{Array1, Array2};

fn main() -> dec::Result<()> {
    // Three groups of 50 rows; what is measured last is in other units.
    let rows = Array2::from_shape_fn((150, 5), |(i, j)| {
        let (group, jitter) = ((i % 3) as f64, ((7 * i + 3 * j) % 11) as f64 * 0.05);
        (group * (j + 1) as f64 + jitter) * if j == 4 { 1000.0 } else { 1.0 }
    });
    let dataset = DatasetBase::from(rows);

    let params = Dec::params(3).seed(1).set("data.scale", "standardise").set("start.networks", 1).check()?;
    let dec = Fit::fit(&params, &dataset)?;

    let labels: Array1<usize> = dec.predict(&dataset);
    let q = dec.soft_assignments(&dataset)?;
    for i in 0..3 {
        println!("row {i}: cluster {}, q {:.3}", labels[i], q.row(i));
    }
    println!("{} rounds; the centroids are {:?} values", dec.rounds(), dec.centroids().dim());
    Ok(())
}
