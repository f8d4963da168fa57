//! A training step of each stage of the notebook's recipe and of the default one, as a run makes it: batch, forward, backward,
//! update; 256 rows of 784 values.
//!
//! A whole trainer runs, and its observer's clock is read where the stage's first and last steps are: so the figures are
//! those of whatever engine the trainer chooses.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use dec::config::{Config, Count, OverClustering, Recipe};
use dec::control::{Event, Observer, StageName};
use dec::data::Dataset;
use dec::run::Trainer;
use tch::Device;

const ROWS: usize = 2_560; // ten batches, so that all are full
const WARM_UP_STEPS: u64 = 10;

pub fn bench(criterion: &mut Criterion, digits: &Dataset) {
    let notebook = [
        StageName::Pretrain(1),
        StageName::Pretrain(2),
        StageName::Pretrain(3),
        StageName::Finetune,
        StageName::Cluster,
    ];
    for (recipe, stages) in [("notebook", &notebook[..]), ("default", &[StageName::Autoencoder, StageName::Cluster])] {
        let mut group = criterion.benchmark_group(format!("step_{recipe}"));
        group.sample_size(10).throughput(Throughput::Elements(256));
        for &stage in stages {
            group.bench_function(stage.to_string(), |b| b.iter_custom(|steps| time(recipe, stage, steps, digits)));
        }
        group.finish();
    }
}

/// How long `steps` steps of `stage` take, the stages before it being as short as they can be.
fn time(recipe: &str, stage: StageName, steps: u64, digits: &Dataset) -> Duration {
    let measured = WARM_UP_STEPS + steps;
    let mut config: Config = Recipe::load(recipe).unwrap().config;
    config.data.limit = Some(ROWS);
    config.model.init_std = 0.05; // a few steps leave the latent rows apart
    config.kmeans.n_init = 1;
    config.start.over_clustering = OverClustering::Given(Vec::new());
    let pretrains = matches!(stage, StageName::Autoencoder | StageName::Pretrain(_));
    config.pretrain.steps = Some(if pretrains { measured } else { 1 });
    config.finetune.steps = (recipe == "notebook").then_some(if stage == StageName::Finetune { measured } else { 1 });
    config.cluster.update_interval_steps = Some(measured);
    config.cluster.max_rounds = Count::Given(1);
    config.cluster.handover_epochs = Count::Given(0);
    let mut clock = Clock { stage, last: measured, running: false, from: None, to: None };
    let ended = Trainer::new(&config.check().unwrap(), digits, Device::Cpu).unwrap().run(&mut clock);
    match (clock.from, clock.to) {
        (Some(from), Some(to)) => to - from,
        _ => panic!("{stage} did not come to its last step: {ended:?}"),
    }
}

/// Reads the clock at the end of a stage's warm-up and of its last step, then stops the run.
struct Clock {
    stage: StageName,
    last: u64,
    running: bool,
    from: Option<Instant>,
    to: Option<Instant>,
}

impl Observer for Clock {
    fn on_event(&mut self, event: &Event) {
        match event {
            Event::StageStarted { stage, .. } => self.running = *stage == self.stage,
            Event::Step { done } if self.running && *done == WARM_UP_STEPS => self.from = Some(Instant::now()),
            Event::Step { done } if self.running && *done == self.last => self.to = Some(Instant::now()),
            _ => {}
        }
    }

    fn should_stop(&self) -> bool {
        self.to.is_some()
    }
}
