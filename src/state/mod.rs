//! What a run knows: a [`State`] that can be written down, the [`Task`] that it is about, and a [`Cache`] of what follows from
//! both.
//!
//! Nothing in a state follows from the recipe's seed and the data: the order of the rows, batches, masks, initial weights and
//! graphs are made again.

mod clusters;
mod task;

pub use clusters::Clusters;
pub use task::{new_network, order_of, stays_streamed, Kind, Task, ToldBy};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::control::{Control, MethodResult, Rollback, StageTime};
use crate::data::Rows;
use crate::error::{Collapse, Error, Result};
use crate::kmeans::Best;
use crate::model::{encode_all, ClusteringLayer, Network};
use crate::start::choice::{Family, Gaps, Reason};
use crate::start::{components, NeighbourGraph};
use crate::train::steps::Training;

/// One piece of a run; a run is a list of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageId {
    /// k-means on the raw rows.
    KMeansRaw,
    /// Pretraining end to end.
    Autoencoder {
        /// Which network, from 0.
        network: usize,
    },
    /// Pretraining of one layer.
    Layer {
        /// Which network, from 0.
        network: usize,
        /// Which layer, from 0.
        layer: usize,
    },
    /// Fine-tuning.
    Finetune {
        /// Which network, from 0.
        network: usize,
    },
    /// k-means on the first network's latent rows.
    KMeans,
    /// The search for more clusters than are wanted.
    FineSearch {
        /// Which network, from 0.
        network: usize,
        /// Which of several over-clusterings, from 0.
        place: usize,
        /// How many clusters.
        parts: usize,
    },
    /// Training towards those.
    OverCluster {
        /// Which network, from 0.
        network: usize,
        /// Which of several over-clusterings, from 0.
        place: usize,
        /// How many clusters.
        parts: usize,
    },
    /// The search for candidates of the first assignment.
    Search {
        /// Which network, from 0.
        network: usize,
    },
    /// The vote on the first assignment.
    Elect,
    /// The clusters of the run that this one starts from.
    Warm,
    /// Self-training.
    Cluster,
}

impl StageId {
    /// The network that the stage works on, where that is not the elected one.
    pub fn network(self) -> Option<usize> {
        match self {
            Self::Autoencoder { network }
            | Self::Layer { network, .. }
            | Self::Finetune { network }
            | Self::FineSearch { network, .. }
            | Self::OverCluster { network, .. }
            | Self::Search { network } => Some(network),
            Self::KMeans => Some(0),
            Self::KMeansRaw | Self::Elect | Self::Warm | Self::Cluster => None,
        }
    }
}

/// A clustering that takes part in the vote on the first assignment.
#[derive(Debug)]
pub struct Candidate {
    /// The network whose latent rows it is of; none for one of the rows themselves.
    pub network: Option<usize>,
    /// How it was found.
    pub family: Family,
    /// The cluster of each row.
    pub labels: Vec<i64>,
}

/// Which family of candidates the first assignment is of, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartChoice {
    /// The family.
    pub family: Family,
    /// What decided.
    pub reason: Reason,
    /// Normalised mutual information of what the two families elected.
    pub agreement: Option<f64>,
    /// Mean normalised mutual information of the clusterings around centres with what they elected.
    pub of_one_mind: Option<f64>,
    /// The modularity of what the graph's family and the other one elected, where that decided.
    pub modularity: Option<[f64; 2]>,
    /// What the graph's eigenvalues told.
    pub gaps: Option<Gaps>,
}

impl StartChoice {
    /// There was no choice.
    pub fn only(family: Family) -> Self {
        Self { family, reason: Reason::Only, agreement: None, of_one_mind: None, modularity: None, gaps: None }
    }
}

impl std::fmt::Display for StartChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self.family {
            Family::Graph => "along the graph of neighbours",
            Family::Centres => "around centres",
            Family::Both => "by the graph of neighbours and by centres together",
        })?;
        match self.reason {
            Reason::Only => {}
            Reason::Pieces => f.write_str(", which falls into just as many pieces as there are clusters")?,
            Reason::Ties => f.write_str(", since most rows are the same as many others")?,
            Reason::Islands => {
                f.write_str(", since the graph of neighbours has more islands than there are clusters")?
            }
            Reason::Unanimous => f.write_str(", where k-means, mixtures and Ward's linkage agree")?,
            Reason::Modularity => {
                f.write_str(match self.family {
                    Family::Both => ", whose clusters hold together equally well",
                    Family::Graph | Family::Centres => ", whose clusters hold together better",
                })?;
                if let Some([graph, centres]) = self.modularity {
                    write!(f, " (modularity {graph:.3} along the graph, {centres:.3} around centres)")?;
                }
            }
        }
        match self.agreement {
            Some(agreement) => write!(f, "; the two ways agree to {agreement:.2} (NMI)"),
            None => Ok(()),
        }
    }
}

/// Where the search of a k-means stands.
#[derive(Debug)]
pub struct Restarts {
    /// Restarts done.
    pub done: usize,
    /// The best of them.
    pub best: Option<Best>,
}

/// Where self-training stands, besides its steps.
#[derive(Debug)]
pub struct SelfTraining {
    /// What it began with.
    pub start: Clusters,
    /// The network's parameters then.
    pub start_parameters: Vec<Tensor>,
    /// The cluster of each row at the last refresh.
    pub labels: Vec<i64>,
    /// p \[n, k\], as its loss reads it.
    pub p: Tensor,
    /// The round and the labels at the last boundary of the steps.
    pub boundary: (u64, Vec<i64>),
    /// Rounds on end in which no row changed cluster.
    pub quiet: u64,
    /// Kinds of warnings that were given.
    pub warned: Vec<String>,
}

/// All that a run has found out and cannot find out again without its work. Whole between two pieces of a stage.
#[derive(Debug, Default)]
pub struct State {
    /// The place of the stage at work in the task's list.
    pub cursor: usize,
    /// Seconds that the stage at work has taken.
    pub seconds: f64,
    /// Whether the first network was pretrained before the first stage: its pretraining is passed over.
    pub pretrained: bool,
    /// The networks that are still needed, as trained so far; `None` for those that failed or lost the vote.
    pub networks: Vec<Option<Box<dyn Network>>>,
    /// Where the steps of the stage at work stand, if it takes steps.
    pub training: Option<Training>,
    /// Where the k-means at work stands.
    pub restarts: Option<Restarts>,
    /// Plans that the search at work has tried.
    pub plans: usize,
    /// What the last search, or the vote, came to.
    pub clusters: Option<Clusters>,
    /// Centroids in training: those of over-clustering or of self-training.
    pub layer: Option<ClusteringLayer>,
    /// What votes on the first assignment.
    pub candidates: Vec<Candidate>,
    /// What the graphs' eigenvalues told, one for each network.
    pub gaps: Vec<Gaps>,
    /// Which family of candidates the start is of, once it is elected.
    pub choice: Option<StartChoice>,
    /// The network that self-training goes on with.
    pub chosen: usize,
    /// Where self-training stands.
    pub self_training: Option<SelfTraining>,
    /// Refreshes of p that self-training has made.
    pub rounds: u64,
    /// Whether self-training reached `cluster.tol`.
    pub converged: bool,
    /// The methods scored so far.
    pub results: Vec<MethodResult>,
    /// The stages finished so far.
    pub stages: Vec<StageTime>,
    /// Returns to a boundary after training diverged.
    pub rollbacks: Vec<Rollback>,
    /// What went wrong without ending the run.
    pub warnings: Vec<String>,
    /// Events told so far that a log keeps.
    pub events: u64,
}

impl State {
    /// A network that is needed.
    ///
    /// # Errors
    /// [`Error::Training`] where it failed before.
    pub fn network(&self, number: usize) -> Result<&dyn Network> {
        let network = self.networks.get(number).and_then(Option::as_deref);
        network.ok_or_else(|| Error::Training(format!("network {} is not there any more", number + 1)))
    }
}

/// What follows from task and state and takes time to make; never saved.
#[derive(Debug, Default)]
pub struct Cache {
    /// The latent rows of a network, by its number, as it is now.
    pub latent: Option<(usize, Tensor)>,
    /// What the layer of this number trains on, for a network.
    pub codes: Option<(usize, usize, Rows)>,
    /// The rows in fewer dimensions ([`components`]).
    pub components: Option<Tensor>,
    /// The graph of the rows themselves.
    pub input_graph: Option<NeighbourGraph>,
}

/// A run at work: what stages work on.
#[derive(Debug)]
pub struct Run {
    /// What it is about.
    pub task: Task,
    /// How far it is.
    pub state: State,
    /// What follows from both.
    pub cache: Cache,
}

impl Run {
    /// The scaled rows that the start sees, along their 50 leading singular vectors ([`components`]).
    ///
    /// # Errors
    /// [`Error::Interrupted`], or a libtorch failure.
    pub fn components(&mut self, control: &mut Control) -> Result<Tensor> {
        if let Some(components) = &self.cache.components {
            return Ok(components.shallow_clone());
        }
        let found = components(&self.task.rows, self.task.seen() as i64, control)?;
        self.cache.components = Some(found.shallow_clone());
        Ok(found)
    }

    /// The graph of the rows themselves that the start sees; none where augmentation moves their values. Neighbours of such rows are those at the same
    /// place, which is meant not to matter.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or a libtorch failure.
    pub fn input_graph(&mut self, control: &mut Control) -> Result<Option<&NeighbourGraph>> {
        if self.cache.input_graph.is_none() && !self.task.moves_in_start() {
            let components = self.components(control)?;
            self.cache.input_graph = Some(NeighbourGraph::new(&components, self.n_neighbours(), control)?);
        }
        Ok(self.cache.input_graph.as_ref())
    }

    /// The graph of the latent rows `z` \[n, m\] that the start sees, with that of the rows themselves where there is one.
    ///
    /// # Errors
    /// [`Error::Interrupted`], latent rows without finite distances, or a libtorch failure.
    pub fn graph(&mut self, z: &Tensor, control: &mut Control) -> Result<NeighbourGraph> {
        let graph = NeighbourGraph::new(&self.task.seen_of(z)?, self.n_neighbours(), control)?;
        Ok(match self.input_graph(control)? {
            Some(input) => graph.plus(input),
            None => graph,
        })
    }

    fn n_neighbours(&self) -> i64 {
        self.task.config.start.n_neighbours as i64
    }

    /// The latent rows z \[n, m\] of a network as it is now.
    ///
    /// # Errors
    /// [`Error::Interrupted`], [`Error::Collapsed`] or [`Error::Training`] for latent rows that cannot be clustered, or a
    /// libtorch failure.
    pub fn latent(&mut self, network: usize, control: &Control) -> Result<Tensor> {
        match &self.cache.latent {
            Some((number, z)) if *number == network => Ok(z.shallow_clone()),
            _ => {
                let z = encode_all(self.state.network(network)?, &self.task.rows, control)?;
                check_latent(&z)?;
                self.cache.latent = Some((network, z.shallow_clone()));
                Ok(z)
            }
        }
    }
}

/// Refuses latent rows that k-means could only fail on.
fn check_latent(z: &Tensor) -> Result<()> {
    if !bool::try_from(z.f_isfinite()?.f_all()?)? {
        return Err(Error::Training("the autoencoder diverged: its latent rows are not finite".to_owned()));
    }
    let spread = z.f_amax([0], false)?.f_sub(&z.f_amin([0], false)?)?;
    if f64::try_from(spread.f_max()?)? == 0.0 {
        return Err(collapsed("all latent rows are the same"));
    }
    Ok(())
}

/// Latent rows that cannot be clustered are the network's fault, not the data's.
pub fn of_latent(error: Error) -> Error {
    match error {
        Error::Rows(problem) => collapsed(&format!("among its latent rows, {problem}")),
        other => other,
    }
}

fn collapsed(problem: &str) -> Error {
    Error::Collapsed { of: Collapse::Latent, problem: format!("the autoencoder collapsed: {problem}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_latent_without_spread_is_a_collapse_and_nan_a_divergence() {
        let device = Device::Cpu;
        let same = Tensor::ones([4, 2], (Kind::Float, device));
        assert!(check_latent(&same).unwrap_err().to_string().contains("collapsed"));
        let nan = Tensor::full([4, 2], f64::NAN, (Kind::Float, device));
        assert!(check_latent(&nan).unwrap_err().to_string().contains("diverged"));
        check_latent(&Tensor::randn([4, 2], (Kind::Float, device))).unwrap();
    }
}
