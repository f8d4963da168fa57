//! A run that is stopped anywhere and goes on from what was saved ends with the same bits, in every stage and recipe.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::Cell;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dec::config::{CheckedConfig, Recipe};
use dec::control::{Event, Observer};
use dec::data::{Dataset, Features};
use dec::run::{Checkpoint, Checkpoints, Fitted, Identity, Keeper, Moment, Trainer};
use dec::state::{Run, State};
use dec::Error;
use ndarray::Array2;
use tch::{Device, Tensor};

/// Three groups of rows, with noise that needs no generator.
fn dataset(image: Option<[usize; 2]>, counts: bool) -> Dataset {
    let columns = if counts { 60 } else { 16 };
    let noise = |i: usize| (i as f32 * 12.9898).sin() + (i as f32 * 78.233).cos();
    let value = |(i, j): (usize, usize)| {
        let signal = if j % 3 == i % 3 { 3.0 } else { 0.0 };
        let value = signal + noise(i * columns + j);
        if counts {
            (value.max(0.0) * value.max(0.0)).floor()
        } else {
            value
        }
    };
    let features = Features::F32(Array2::from_shape_fn((150, columns), value));
    Dataset { features, name: "rows".to_owned(), image, ..Dataset::default() }
}

fn config(settings: &[&str]) -> CheckedConfig {
    let small = [
        "n_clusters=3",
        "model.hidden=[12, 20]",
        "model.n_latent=4",
        "kmeans.n_init=3",
        "pretrain.batch_size=32",
        "cluster.batch_size=32",
        "finetune.batch_size=32",
        "threads=1",
    ];
    let mut recipe = Recipe::load("default").unwrap();
    let all: Vec<String> = small.iter().chain(settings).map(|&setting| setting.to_owned()).collect();
    recipe.set(&all).unwrap();
    recipe.config.check().unwrap()
}

/// Between them every stage, objective, optimiser and start; each with what makes its steps depend on more than the weights.
fn cases() -> Vec<(&'static str, CheckedConfig, Dataset)> {
    let layerwise = [
        "pretrain.method=layerwise",
        "pretrain.dropout=0.2",
        "pretrain.optimiser=sgd",
        "pretrain.epochs=3",
        "pretrain.lr=0.05",
        "finetune.epochs=3",
        "finetune.optimiser=sgd",
        "start.method=kmeans",
        "start.networks=1",
        "start.over_clustering=[]",
        "cluster.optimiser=sgd",
        "cluster.handover_epochs=0",
        "cluster.anchor=0",
        "cluster.max_rounds=4",
        "cluster.epochs_per_round=2",
        "cluster.reset_momentum=true",
    ];
    vec![
        (
            "spectral, two networks, anchored",
            config(&[
                "start.networks=2",
                "pretrain.epochs=4",
                "cluster.handover_epochs=2",
                "cluster.max_rounds=3",
                "cluster.augment=true",
            ]),
            dataset(None, false),
        ),
        (
            "images, over-clustering twice, patches, an interval that cuts epochs",
            config(&[
                "start.networks=1",
                "start.over_clustering=[2.0, 3.0]",
                "start.over_clustering_epochs=2",
                "pretrain.epochs=3",
                "cluster.cutmix=0.5",
                "cluster.handover_epochs=1",
                "cluster.update_interval_steps=7",
                "cluster.max_rounds=4",
            ]),
            dataset(Some([4, 4]), false),
        ),
        ("layer by layer, SGD, k-means", config(&layerwise), dataset(None, false)),
        (
            "idec, AdamW, mixture, counts",
            config(&[
                "cluster.objective=idec",
                "cluster.optimiser=adamw",
                "cluster.weight_decay=0.01",
                "start.method=gmm",
                "start.networks=1",
                "pretrain.epochs=3",
                "cluster.max_rounds=3",
                "cluster.tol=0.0",
            ]),
            dataset(None, true),
        ),
        (
            "aspc, k-means of two networks, train after tol",
            config(&[
                "cluster.objective=aspc",
                "start.method=kmeans",
                "start.networks=2",
                "pretrain.epochs=2",
                "cluster.tol=0.9",
                "cluster.train_after_tol=true",
                "cluster.max_rounds=5",
            ]),
            dataset(None, false),
        ),
    ]
}

/// What an observer hears, but for times; asks to stop after so many questions.
#[derive(Default)]
struct Watch {
    heard: Vec<String>,
    asked: Cell<u64>,
    stop_at: Option<u64>,
}

impl Observer for Watch {
    fn on_event(&mut self, event: &Event) {
        let text = match event {
            Event::Epoch { stage, epoch, loss, learning_rate, .. } => {
                format!("{stage} {epoch} {:x} {:x}", loss.to_bits(), learning_rate.to_bits())
            }
            Event::Restart { stage, restart, inertia, .. } => format!("{stage} {restart} {:x}", inertia.to_bits()),
            Event::Round { round, .. } => format!("{round:?}"),
            Event::RolledBack(rollback) => format!("{rollback:?}"),
            Event::StageFinished { time, .. } => format!("{} {}", time.name, time.steps),
            Event::Scored(result) => format!("{:?} {:?} {:?}", result.method, result.silhouette, result.inertia),
            Event::NetworkStarted { network, .. } => format!("network {network}"),
            Event::Warning { text, .. } => (*text).to_owned(),
            Event::StageStarted { .. } | Event::Step { .. } => return,
        };
        self.heard.push(text);
    }

    fn should_stop(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.stop_at.is_some_and(|stop| self.asked.get() >= stop)
    }
}

/// Initial weights come from libtorch's one generator: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity() -> Identity {
    let text = || "same".to_owned();
    Identity {
        recipe: text(),
        data: text(),
        rows_sha256: text(),
        labels_sha256: None,
        start_sha256: None,
        device: "cpu".to_owned(),
        threads: 1,
    }
}

/// Saves the state where the run stops, as the program does.
struct Saver(Checkpoints);

impl Keeper for Saver {
    fn keep(&mut self, run: &Run, moment: Moment) {
        if moment == Moment::Stopped {
            self.0.save(&run.state).unwrap();
        }
    }
}

fn saver(dir: &Path) -> Saver {
    Saver(Checkpoints::new(dir, identity(), String::new(), 1, Duration::ZERO, 2))
}

/// Bits of everything that a run comes to.
fn bits(fitted: &Fitted) -> Vec<u32> {
    let values = |tensor: &Tensor| -> Vec<f32> { dec::data::values_of(tensor).unwrap() };
    let mut all: Vec<f32> = fitted.model.network.parameters().iter().flat_map(values).collect();
    all.extend(values(fitted.model.layer.centroids()));
    all.extend(values(&fitted.q));
    all.extend(values(&fitted.z));
    all.extend(fitted.assignment.labels.iter().map(|&label| label as f32));
    all.extend(&fitted.assignment.confidence);
    all.into_iter().map(f32::to_bits).collect()
}

fn state_of(dir: &Path, trainer: &Trainer) -> State {
    let checkpoint = Checkpoint::newest(dir).unwrap().expect("a checkpoint");
    checkpoint.state(trainer.task(), Device::Cpu).unwrap()
}

#[test]
fn stopped_anywhere_and_resumed_a_run_ends_with_the_same_bits() {
    let _alone = alone();
    for (name, config, dataset) in cases() {
        let mut whole = Watch::default();
        let fitted = Trainer::new(&config, &dataset, Device::Cpu).unwrap().run(&mut whole).unwrap();
        let (expected, questions) = (bits(&fitted), whole.asked.get());
        assert!(questions > 60, "{name}: {questions} places to stop at");
        // About forty places, spread over the run, and never the same remainder.
        for place in 0..40u64 {
            let stop = 1 + place * (questions - 1) / 39;
            let dir = tempfile::tempdir().unwrap();
            let mut first = Watch { stop_at: Some(stop), ..Watch::default() };
            let mut trainer = Trainer::new(&config, &dataset, Device::Cpu).unwrap();
            let ended = trainer.run_and_keep(&mut first, &mut saver(dir.path()));
            assert!(matches!(ended, Err(Error::Interrupted)), "{name}, {stop} of {questions}: {ended:?}");

            let mut second = Watch::default();
            let mut trainer = Trainer::new(&config, &dataset, Device::Cpu).unwrap();
            trainer.restore(state_of(dir.path(), &trainer));
            let resumed = trainer.run(&mut second).unwrap();
            assert!(bits(&resumed) == expected, "{name}: stopped at {stop} of {questions}, other bits");
            // Restarts of a k-means that was stopped are told again: what was told after the checkpoint.
            let told = state_of(dir.path(), &trainer).events as usize;
            let heard = [&first.heard[..told.min(first.heard.len())], &second.heard].concat();
            assert_eq!(heard, whole.heard, "{name}: stopped at {stop} of {questions}");
            assert_eq!(resumed.rounds, fitted.rounds);
        }
    }
}

#[test]
fn stopped_again_and_again_a_run_gets_to_its_end() {
    let _alone = alone();
    let (_, config, dataset) = cases().swap_remove(1);
    let mut whole = Watch::default();
    let expected = bits(&Trainer::new(&config, &dataset, Device::Cpu).unwrap().run(&mut whole).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let every = whole.asked.get() / 15;
    for go in 1.. {
        assert!(go < 200, "it does not get ahead");
        let mut watch = Watch { stop_at: Some(every + go), ..Watch::default() };
        let mut trainer = Trainer::new(&config, &dataset, Device::Cpu).unwrap();
        if go > 1 {
            trainer.restore(state_of(dir.path(), &trainer));
        }
        match trainer.run_and_keep(&mut watch, &mut saver(dir.path())) {
            Err(Error::Interrupted) => {}
            ended => {
                assert!(go > 5, "stopped only {go} times");
                assert!(bits(&ended.unwrap()) == expected);
                return;
            }
        }
    }
}

/// A rate that is far too high: back to the boundary and on at a lower one, the same in a run that was stopped on the way.
#[test]
fn divergence_goes_back_and_on_with_a_lower_rate_and_resumes_with_the_same_bits() {
    let _alone = alone();
    let settings = |more: &[&'static str]| {
        let base = ["start.networks=1", "pretrain.optimiser=sgd", "pretrain.schedule=constant", "pretrain.epochs=60"];
        config(&[&base, more].concat())
    };
    let dataset = dataset(None, false);
    let diverging = settings(&["pretrain.lr=30.0", "cluster.max_rounds=2", "guard.max_rollbacks=6"]);
    let mut whole = Watch::default();
    let fitted = Trainer::new(&diverging, &dataset, Device::Cpu).unwrap().run(&mut whole).unwrap();
    assert!(!fitted.rollbacks.is_empty(), "it did not diverge: {:?}", whole.heard);
    assert!(fitted.rollbacks.iter().all(|rollback| rollback.stage == "pretrain" && rollback.rate_factor <= 0.1));
    let expected = bits(&fitted);
    for place in 1..12 {
        let dir = tempfile::tempdir().unwrap();
        let stop_at = Some(1 + place * whole.asked.get() / 20);
        let mut trainer = Trainer::new(&diverging, &dataset, Device::Cpu).unwrap();
        let ended = trainer.run_and_keep(&mut Watch { stop_at, ..Watch::default() }, &mut saver(dir.path()));
        assert!(matches!(ended, Err(Error::Interrupted)));
        let mut trainer = Trainer::new(&diverging, &dataset, Device::Cpu).unwrap();
        trainer.restore(state_of(dir.path(), &trainer));
        assert!(bits(&trainer.run(&mut ()).unwrap()) == expected, "stopped at {stop_at:?}");
    }

    let hopeless = settings(&["pretrain.lr=1e30"]);
    let ended = Trainer::new(&hopeless, &dataset, Device::Cpu).unwrap().run(&mut ());
    assert!(matches!(ended, Err(Error::Diverged { .. })), "{ended:?}");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let _alone = alone();
    let (_, config, dataset) = cases().swap_remove(0);
    let dir = tempfile::tempdir().unwrap();
    let trainer = Trainer::new(&config, &dataset, Device::Cpu).unwrap();
    let mut checkpoints = saver(dir.path()).0;
    for cursor in 0..4 {
        checkpoints.save(&State { cursor, ..State::default() }).unwrap();
    }
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path().join("checkpoints"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(files(), ["000002.json", "000002.safetensors", "000003.json", "000003.safetensors"]);
    assert_eq!(state_of(dir.path(), &trainer).cursor, 3);
    let newest = dir.path().join("checkpoints/000003.safetensors");
    let mut bytes = std::fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    assert_eq!(state_of(dir.path(), &trainer).cursor, 2);
    let marker = dir.path().join("checkpoints/000002.json");
    let text = std::fs::read_to_string(&marker).unwrap();
    std::fs::write(&marker, &text[..text.len() / 2]).unwrap();
    assert!(Checkpoint::newest(dir.path()).unwrap().is_none(), "none is whole");
    std::fs::write(&marker, text.replace("\"format\":3", "\"format\":9")).unwrap();
    let refused = Checkpoint::newest(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("format 9") && refused.contains("000002.json"), "{refused}");
}
