//! Clusters handwritten digits that are built in: `cargo run --release --example digits`.

use dec::control::{Event, Observer};
use dec::{data, Dec};

/// Prints a line for each stage.
struct Lines;

impl Observer for Lines {
    fn on_event(&mut self, event: &Event) {
        if let Event::StageFinished { stage, time } = event {
            println!("{stage}: {} steps in {:.1} s", time.steps, time.seconds);
        }
    }
}

fn main() -> dec::Result<()> {
    let digits = data::load(&data::Source { source: "builtin", ..data::Source::default() })?;
    // The first argument is the number of rows: few rows are quick.
    let n: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2000);
    let some = digits.select(&(0..n.min(digits.n_rows())).collect::<Vec<_>>());

    let dec = Dec::params(10).recipe("fast").seed(0).set("start.networks", 1).fit_with(&some, &mut Lines)?;

    println!("rows 0 to 9 are in the clusters {}", dec.labels().slice(ndarray::s![..10]));
    for result in dec.results() {
        println!("{:?}: accuracy {:.3}", result.method, result.acc.unwrap_or(f64::NAN));
    }
    Ok(())
}
