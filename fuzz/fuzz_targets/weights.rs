//! A run directory as `dec predict` reads it: `config.toml`, `summary.json` and `weights.safetensors`, the parts of the input between
//! NUL bytes.
#![no_main]

use std::fs;
use std::path::Path;

use dec::run::{Model, CONFIG, SUMMARY, WEIGHTS};
use dec::Dec;
use dec_fuzz::{accepted, bounded, few_rows, folder, write_if_asked};
use libfuzzer_sys::fuzz_target;
use tch::Device;

/// Writes the run directory of a small model, as a seed.
fn write_seed(to: &Path) {
    let rows = few_rows();
    let params = Dec::params(2).set("model.hidden", vec![3]).set("model.n_latent", 2).set("pretrain.steps", 4);
    let params = params.set("start.networks", 1).set("cluster.max_rounds", 1).set("threads", 1).set("device", "cpu");
    let run = folder().join("seed");
    params.fit(&rows).and_then(|dec| dec.save(&run)).expect("a run");
    let part = |name: &str| fs::read(run.join(name)).expect("a part");
    fs::write(to, [part(CONFIG), vec![0], part(SUMMARY), vec![0], part(WEIGHTS)].concat()).expect("a seed");
}

fuzz_target!(
    init: {
        write_if_asked(write_seed);
    },
    |data: &[u8]| {
        let run = folder().join("run");
        fs::create_dir_all(&run).expect("a folder");
        let mut parts = data.splitn(3, |&byte| byte == 0);
        for name in [CONFIG, SUMMARY, WEIGHTS] {
            fs::write(run.join(name), parts.next().unwrap_or_default()).expect("a file");
        }
        bounded(0, || drop(accepted(&run.join(WEIGHTS), Model::load(&run, Device::Cpu))));
    }
);
