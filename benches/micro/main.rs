//! Micro-benchmarks of what a run spends its time in: `cargo bench --bench micro`, or with a name behind it for some.
//!
//! They tell one version of dec from another; `scripts/bench` measures dec beside its peers.

#![allow(clippy::unwrap_used)] // as in tests

mod assignment;
mod batches;
mod kmeans;
mod loaders;
mod step;

use criterion::Criterion;
use dec::data::{load, Dataset, Source};

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let digits = digits();
    loaders::bench(&mut criterion, &digits);
    batches::bench(&mut criterion, &digits);
    assignment::bench(&mut criterion);
    kmeans::bench(&mut criterion, &digits);
    step::bench(&mut criterion, &digits);
    criterion.final_summary();
}

/// The 10,000 built-in digits.
fn digits() -> Dataset {
    load(&Source { source: "builtin", dir: None, labels: None, ..Source::default() }).unwrap()
}
