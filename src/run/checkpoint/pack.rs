//! A state as JSON and named tensors, and back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::control::{MethodResult, Rollback, StageTime};
use crate::data::values_of;
use crate::error::{Error, Result};
use crate::kmeans::Best;
use crate::model::{set_parameters, ClusteringLayer};
use crate::start::choice::{Family, Gaps};
use crate::state::{Candidate, Clusters, Restarts, SelfTraining, StartChoice, State, Task};
use crate::train::steps::{Boundary, Counters, Training};

/// The numbers of a state; which tensors belong to it follows from them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Packed {
    pub(super) cursor: usize,
    seconds: f64,
    #[serde(default)]
    pub(super) pretrained: bool,
    /// Whether each network is there.
    networks: Vec<bool>,
    training: Option<PackedTraining>,
    restarts: Option<PackedRestarts>,
    plans: usize,
    clusters: bool,
    layer: bool,
    /// The network of each candidate.
    candidates: Vec<PackedCandidate>,
    gaps: Vec<Gaps>,
    choice: Option<StartChoice>,
    chosen: usize,
    self_training: Option<PackedSelfTraining>,
    rounds: u64,
    converged: bool,
    results: Vec<MethodResult>,
    stages: Vec<StageTime>,
    rollbacks: Vec<Rollback>,
    warnings: Vec<String>,
    pub(super) events: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedTraining {
    counters: Counters,
    optimiser: usize,
    /// Counters and number of parameters of the last boundary.
    boundary: Option<(Counters, usize)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedRestarts {
    done: usize,
    /// Inertia of the best, as its bits.
    best: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedSelfTraining {
    start_parameters: usize,
    boundary_round: u64,
    quiet: u64,
    warned: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedCandidate {
    network: Option<usize>,
    family: Family,
}

impl PackedCandidate {
    fn of(candidate: &Candidate) -> Self {
        Self { network: candidate.network, family: candidate.family }
    }
}

type Named = Vec<(String, Tensor)>;

impl Packed {
    pub(super) fn pack(state: &State) -> Result<(Self, Named)> {
        let mut named = Named::new();
        for (number, network) in state.networks.iter().enumerate() {
            let parameters = network.iter().flat_map(|network| network.named_parameters());
            named.extend(parameters.map(|(name, tensor)| (format!("network.{number}.{name}"), tensor)));
        }
        let training = state.training.as_ref().map(|training| pack_training(training, &mut named));
        let restarts = state.restarts.as_ref().map(|restarts| {
            if let Some(best) = &restarts.best {
                named.push(("restarts.centroids".to_owned(), best.centroids.shallow_clone()));
            }
            PackedRestarts { done: restarts.done, best: restarts.best.as_ref().map(|best| best.inertia.to_bits()) }
        });
        if let Some(clusters) = &state.clusters {
            pack_clusters("clusters", clusters, &mut named)?;
        }
        if let Some(layer) = &state.layer {
            named.push(("layer.centroids".to_owned(), layer.centroids().shallow_clone()));
        }
        for (number, candidate) in state.candidates.iter().enumerate() {
            named.push((format!("candidate.{number}"), labels_tensor(&candidate.labels)?));
        }
        let self_training = match &state.self_training {
            Some(begun) => Some(pack_self_training(begun, &mut named)?),
            None => None,
        };
        let packed = Self {
            cursor: state.cursor,
            seconds: state.seconds,
            pretrained: state.pretrained,
            networks: state.networks.iter().map(Option::is_some).collect(),
            training,
            restarts,
            plans: state.plans,
            clusters: state.clusters.is_some(),
            layer: state.layer.is_some(),
            candidates: state.candidates.iter().map(PackedCandidate::of).collect(),
            gaps: state.gaps.clone(),
            choice: state.choice.clone(),
            chosen: state.chosen,
            self_training,
            rounds: state.rounds,
            converged: state.converged,
            results: state.results.clone(),
            stages: state.stages.clone(),
            rollbacks: state.rollbacks.clone(),
            warnings: state.warnings.clone(),
            events: state.events,
        };
        Ok((packed, named))
    }

    pub(super) fn unpack(&self, task: &Task, tensors: BTreeMap<String, Tensor>) -> Result<State> {
        let tensors = Tensors(tensors);
        let mut networks = Vec::new();
        for (number, &there) in self.networks.iter().enumerate() {
            networks.push(match there {
                true => {
                    let network = task.new_network(number)?;
                    for (name, parameter) in network.named_parameters() {
                        set_parameters(&[parameter], &[tensors.get(&format!("network.{number}.{name}"))?])?;
                    }
                    Some(network)
                }
                false => None,
            });
        }
        let layer = match self.layer {
            true => Some(ClusteringLayer::new(&tensors.get("layer.centroids")?, task.config.cluster.alpha)?),
            false => None,
        };
        let candidate = |(number, of): (usize, &PackedCandidate)| {
            let labels = tensors.labels(&format!("candidate.{number}"))?;
            Ok(Candidate { network: of.network, family: of.family, labels })
        };
        Ok(State {
            cursor: self.cursor,
            seconds: self.seconds,
            pretrained: self.pretrained,
            networks,
            training: self.training.as_ref().map(|training| training.unpack(&tensors)).transpose()?,
            restarts: self.restarts.as_ref().map(|restarts| restarts.unpack(&tensors)).transpose()?,
            plans: self.plans,
            clusters: self.clusters.then(|| tensors.clusters("clusters")).transpose()?,
            layer,
            candidates: self.candidates.iter().enumerate().map(candidate).collect::<Result<_>>()?,
            gaps: self.gaps.clone(),
            choice: self.choice.clone(),
            chosen: self.chosen,
            self_training: self.self_training.as_ref().map(|begun| begun.unpack(&tensors)).transpose()?,
            rounds: self.rounds,
            converged: self.converged,
            results: self.results.clone(),
            stages: self.stages.clone(),
            rollbacks: self.rollbacks.clone(),
            warnings: self.warnings.clone(),
            events: self.events,
        })
    }
}

impl PackedTraining {
    fn unpack(&self, tensors: &Tensors) -> Result<Training> {
        let boundary = match self.boundary {
            Some((counters, parameters)) => Some(Boundary {
                counters,
                parameters: tensors.list("boundary.parameters", parameters)?,
                optimiser: tensors.list("boundary.optimiser", self.optimiser)?,
            }),
            None => None,
        };
        Ok(Training { counters: self.counters, optimiser: tensors.list("optimiser", self.optimiser)?, boundary })
    }
}

impl PackedRestarts {
    fn unpack(&self, tensors: &Tensors) -> Result<Restarts> {
        let best = |bits| -> Result<Best> {
            Ok(Best { inertia: f64::from_bits(bits), centroids: tensors.get("restarts.centroids")? })
        };
        Ok(Restarts { done: self.done, best: self.best.map(best).transpose()? })
    }
}

impl PackedSelfTraining {
    fn unpack(&self, tensors: &Tensors) -> Result<SelfTraining> {
        Ok(SelfTraining {
            start: tensors.clusters("start")?,
            start_parameters: tensors.list("start.parameters", self.start_parameters)?,
            labels: tensors.labels("labels")?,
            p: tensors.get("p")?,
            boundary: (self.boundary_round, tensors.labels("boundary.labels")?),
            quiet: self.quiet,
            warned: self.warned.clone(),
        })
    }
}

fn pack_training(training: &Training, named: &mut Named) -> PackedTraining {
    push_list("optimiser", &training.optimiser, named);
    let boundary = training.boundary.as_ref().map(|boundary| {
        push_list("boundary.parameters", &boundary.parameters, named);
        push_list("boundary.optimiser", &boundary.optimiser, named);
        (boundary.counters, boundary.parameters.len())
    });
    PackedTraining { counters: training.counters, optimiser: training.optimiser.len(), boundary }
}

fn pack_self_training(begun: &SelfTraining, named: &mut Named) -> Result<PackedSelfTraining> {
    pack_clusters("start", &begun.start, named)?;
    push_list("start.parameters", &begun.start_parameters, named);
    named.push(("labels".to_owned(), labels_tensor(&begun.labels)?));
    named.push(("p".to_owned(), begun.p.shallow_clone()));
    named.push(("boundary.labels".to_owned(), labels_tensor(&begun.boundary.1)?));
    Ok(PackedSelfTraining {
        start_parameters: begun.start_parameters.len(),
        boundary_round: begun.boundary.0,
        quiet: begun.quiet,
        warned: begun.warned.clone(),
    })
}

fn pack_clusters(name: &str, clusters: &Clusters, named: &mut Named) -> Result<()> {
    named.push((format!("{name}.labels"), labels_tensor(&clusters.labels)?));
    named.push((format!("{name}.centroids"), clusters.centroids.shallow_clone()));
    Ok(())
}

fn push_list(name: &str, tensors: &[Tensor], named: &mut Named) {
    named.extend(tensors.iter().enumerate().map(|(i, tensor)| (format!("{name}.{i}"), tensor.shallow_clone())));
}

/// Labels are below 2³¹: half the bytes.
fn labels_tensor(labels: &[i64]) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(&labels.iter().map(|&label| label as i32).collect::<Vec<_>>())?)
}

/// The tensors of a checkpoint by their names.
struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    fn get(&self, name: &str) -> Result<Tensor> {
        let tensor = self.0.get(name).map(Tensor::shallow_clone);
        tensor.ok_or_else(|| Error::Rows(format!("has no tensor {name}")))
    }

    fn list(&self, name: &str, count: usize) -> Result<Vec<Tensor>> {
        (0..count).map(|i| self.get(&format!("{name}.{i}"))).collect()
    }

    fn labels(&self, name: &str) -> Result<Vec<i64>> {
        values_of(&self.get(name)?.f_to_kind(Kind::Int64)?)
    }

    fn clusters(&self, name: &str) -> Result<Clusters> {
        let (labels, centroids) = (self.labels(&format!("{name}.labels"))?, self.get(&format!("{name}.centroids"))?);
        Ok(Clusters { labels, centroids })
    }
}
