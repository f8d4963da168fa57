//! Clusters handwritten digits that are built in: `cargo run --release --example digits -- [ROWS] [STEPS]`.
#![allow(clippy::print_stdout)] // which an example is for

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
    let number = |place, default| std::env::args().nth(place).and_then(|text| text.parse().ok()).unwrap_or(default);
    let digits = data::load(&data::Source { source: "builtin", ..data::Source::default() })?;
    let some = digits.select(&(0..number(1, 2000).min(digits.n_rows())).collect::<Vec<_>>());

    let params = Dec::params(10).seed(0).set("model.hidden", vec![128, 128, 512]).set("start.networks", 1);
    let dec = params
        .set("pretrain.steps", number(2, 1500) as i64)
        .set("cluster.max_rounds", 20)
        .fit_with(&some, &mut Lines)?;

    println!("rows 0 to 9 are in the clusters {}", dec.labels().slice(ndarray::s![..10]));
    for result in dec.results() {
        println!("{:?}: accuracy {:.3}", result.method, result.acc.unwrap_or(f64::NAN));
    }
    Ok(())
}
