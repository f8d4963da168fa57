//! Saves a clustering, loads it, and clusters new rows: `cargo run --release --example save_and_load -- DIRECTORY`.
#![allow(clippy::print_stdout)] // which an example is for

use dec::Dec;
use ndarray::{array, Array2};

fn main() -> dec::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "three-groups".to_owned());
    let rows = Array2::from_shape_fn((60, 4), |(i, j)| (i % 3) as f32 * 5.0 + ((7 * i + j) % 5) as f32 * 0.1);

    // `dec predict DIRECTORY new.csv` reads what is saved here, and Dec::load what `dec` leaves in a run directory.
    Dec::params(3).set("start.networks", 1).fit(&rows)?.save(&directory)?;

    let dec = Dec::load(&directory)?;
    let new = array![[0.1f32, 0.2, 0.0, 0.3], [5.0, 5.2, 5.1, 5.3], [10.3, 10.1, 10.2, 10.0]];
    println!("new rows are in the clusters {}", dec.try_predict(&new)?);
    println!("and rows like them were in {}", dec.labels().slice(ndarray::s![..3]));
    println!("as the autoencoder knows them: {:.1}", dec.reconstruct(&new)?);
    Ok(())
}
