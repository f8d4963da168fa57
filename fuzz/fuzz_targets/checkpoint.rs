//! Checkpoints. The input is a marker, a NUL byte and tensors; the marker's hash is made to be that of the tensors.
#![no_main]

use std::fs;
use std::path::Path;
use std::time::Duration;

use dec::config::Recipe;
use dec::control::{Event, Observer};
use dec::data::{Dataset, Features};
use dec::run::{Checkpoint, Checkpoints, Identity, Trainer};
use dec::state::Task;
use dec_fuzz::{accepted, bounded, few_rows, folder, write_if_asked};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use tch::Device;

struct Nobody;

impl Observer for Nobody {
    fn on_event(&mut self, _: &Event) {}
}

const SETTINGS: [&str; 9] = [
    "n_clusters=2",
    "model.hidden=[3]",
    "model.n_latent=2",
    "kmeans.n_init=1",
    "threads=1",
    "start.networks=1",
    "pretrain.steps=4",
    "cluster.handover_epochs=1",
    "cluster.max_rounds=1",
];

fn trainer() -> Trainer {
    let mut recipe = Recipe::load("default").expect("the default");
    recipe.set(&SETTINGS.map(str::to_owned)).expect("settings");
    let config = recipe.config.check().expect("settings");
    let rows = few_rows();
    let rows = Dataset { features: Features::F32(rows), name: "rows".to_owned(), ..Dataset::default() };
    Trainer::new(&config, &rows, Device::Cpu).expect("a trainer")
}

thread_local! {
    static TRAINER: Trainer = trainer();
}

/// Writes the checkpoint of a run that is done, as a seed.
fn write_seed(to: &Path) {
    let identity = Identity {
        recipe: "default".to_owned(),
        data: "rows".to_owned(),
        rows_sha256: String::new(),
        labels_sha256: None,
        start_sha256: None,
        device: "cpu".to_owned(),
        threads: 1,
    };
    let mut done = trainer();
    done.run(&mut Nobody).expect("a run");
    let run = folder().join("seed");
    fs::create_dir_all(&run).expect("a folder");
    Checkpoints::new(&run, identity, String::new(), 1, Duration::ZERO, 1).save(done.state()).expect("a checkpoint");
    let part = |end: &str| fs::read(run.join(format!("checkpoints/000000.{end}"))).expect("a part");
    fs::write(to, [part("json"), vec![0], part("safetensors")].concat()).expect("a seed");
}

fn read(task: &Task, data: &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == 0);
    let (marker, tensors) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut marker = marker.to_vec();
    if let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(&marker) {
        if let Some(hash) = value.get_mut("tensors_sha256") {
            let found: String = Sha256::digest(tensors).iter().map(|byte| format!("{byte:02x}")).collect();
            *hash = found.into();
            marker = value.to_string().into_bytes();
        }
    }
    let run = folder().join("run");
    let checkpoints = run.join("checkpoints");
    fs::create_dir_all(&checkpoints).expect("a folder");
    fs::write(checkpoints.join("000000.json"), marker).expect("a file");
    fs::write(checkpoints.join("000000.safetensors"), tensors).expect("a file");
    bounded(0, || {
        let found = accepted(&checkpoints.join("000000.json"), Checkpoint::newest(&run)).flatten();
        if let Some(found) = found {
            // Tensors that do not fit are refused in libtorch's words.
            match found.state(task, Device::Cpu) {
                Err(dec::Error::Torch(_) | dec::Error::Shape { .. } | dec::Error::Training(_)) => {}
                other => drop(accepted(found.path(), other)),
            }
        }
    });
}

fuzz_target!(
    init: {
        write_if_asked(write_seed);
    },
    |data: &[u8]| {
        folder();
        TRAINER.with(|trainer| read(trainer.task(), data));
    }
);
