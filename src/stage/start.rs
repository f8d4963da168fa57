//! Candidates for the first assignment, from each network's latent rows and from the rows themselves.

use tch::Tensor;

use super::{Done, Stage};
use crate::config::StartMethod;
use crate::control::{Control, StageName};
use crate::data::{index_of, sample, Rows};
use crate::error::{Error, Result};
use crate::kmeans::{self, KMeansParams};
use crate::model::encode_filled;
use crate::start::choice::Family;
use crate::start::spectral::{self, Augmented, Found, SpectralParams, Views};
use crate::start::{extend, mixture, ward};
use crate::state::{of_latent, Candidate, Clusters, Run};
use crate::train::engine::key;
use crate::train::seed_for;

/// What a search is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// One clustering into so many parts, more than are wanted.
    Parts(usize),
    /// Clusterings into k, as many as vote.
    Candidates,
}

/// A search in the latent rows of one network, by the method of the recipe.
pub struct SearchStage {
    network: usize,
    goal: Goal,
    clusters: usize,
    latent: Tensor,
    /// Those of them that the search sees.
    seen: Tensor,
    seed: u64,
    /// The graph and its eigenvectors, made when they are first needed.
    spectral: Option<spectral::Search>,
    /// What is also clustered around centres.
    spaces: Vec<Space>,
    found: Found,
}

/// Rows that are clustered by distances.
struct Space {
    /// The network whose latent rows they are; none for the rows themselves.
    network: Option<usize>,
    rows: Tensor,
}

/// How they are clustered.
#[derive(Debug, Clone, Copy)]
enum Centres {
    KMeans,
    Mixture,
    Ward,
}

impl Centres {
    const ALL: [Self; 3] = [Self::KMeans, Self::Mixture, Self::Ward];

    fn fit(self, rows: &Tensor, k: usize, seed: u64, control: &mut Control) -> Result<Vec<i64>> {
        match self {
            Self::KMeans => {
                let params = KMeansParams { n_clusters: k, n_init: 20, seed, ..KMeansParams::default() };
                let rows = Rows::from_tensor(rows.shallow_clone());
                Ok(kmeans::fit(&rows, &params, &mut control.silenced())?.labels)
            }
            Self::Mixture => mixture::fit(rows, k, seed, control),
            Self::Ward => ward::fit(rows, k, seed, control),
        }
    }
}

impl SearchStage {
    /// At its beginning, or after the plans that the state has tried.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`], latent rows that cannot be clustered, or a libtorch failure.
    pub fn new(run: &mut Run, network: usize, goal: Goal, control: &Control) -> Result<Self> {
        let latent = run.latent(network, control)?;
        if matches!(goal, Goal::Parts(_)) {
            run.state.clusters = None; // those of k-means
        }
        let (clusters, stage) = match goal {
            Goal::Parts(parts) => (parts, StageName::OverCluster(parts)),
            Goal::Candidates => (run.task.config.n_clusters, StageName::Start),
        };
        let seed = seed_for(run.task.network_seed(network), &format!("{stage} labels"));
        let (spaces, seen) = (Vec::new(), run.task.seen_of(&latent)?);
        Ok(Self { network, goal, clusters, latent, seen, seed, spectral: None, spaces, found: Found::default() })
    }

    /// By k-means or a mixture, which find one clustering.
    fn single(&self, run: &Run, control: &mut Control) -> Result<Option<Vec<i64>>> {
        let clusters = self.clusters;
        Ok(match run.task.config.start.method {
            StartMethod::KMeans => {
                let params = KMeansParams { n_clusters: clusters, seed: self.seed, ..run.task.kmeans_params() };
                let z = Rows::from_tensor(self.latent.shallow_clone());
                Some(kmeans::fit(&z, &params, &mut control.silenced()).map_err(of_latent)?.labels)
            }
            StartMethod::Gmm => Some(mixture::fit(&self.latent, clusters, self.seed, control).map_err(of_latent)?),
            StartMethod::Spectral if clusters == 1 => Some(vec![0; run.task.seen()]),
            StartMethod::Spectral => None,
        })
    }

    /// The graph of the latent rows, with what else tells rows that belong together.
    fn spectral(&self, run: &mut Run, control: &mut Control) -> Result<spectral::Search> {
        let config = &run.task.config.start;
        let n_vectors = match self.goal {
            Goal::Parts(parts) => Some(parts as u64),
            Goal::Candidates => config.n_vectors.given(),
        };
        let n_neighbours = config.n_neighbours;
        let params = SpectralParams { n_clusters: self.clusters, n_neighbours, n_vectors, seed: self.seed };
        let augmented = match n_vectors {
            None => encode_augmented(run, self.network, self.seed, control)?,
            Some(_) => None,
        };
        let input = run.input_graph(control)?;
        let views = Views { latent: &self.seen, input, augmented: augmented.as_ref() };
        spectral::Search::new(views, &params, control).map_err(of_latent)
    }

    /// What is clustered around centres too: where augmentation moves values, distances say little, and nothing is.
    fn spaces(&self, run: &mut Run, control: &mut Control) -> Result<Vec<Space>> {
        let mut spaces = Vec::new();
        let searched = self.goal == Goal::Candidates && run.task.config.start.n_vectors.given().is_none();
        if searched && !run.task.moves_in_start() {
            spaces.push(Space { network: Some(self.network), rows: self.seen.shallow_clone() });
            if self.network == 0 {
                spaces.push(Space { network: None, rows: run.components(control)? });
            }
        }
        Ok(spaces)
    }

    /// The clustering number `plan` around centres; none where there are fewer different rows than clusters, or where a mixture
    /// cannot be fitted.
    fn around_centres(&self, plan: usize, run: &mut Run, control: &mut Control) -> Result<()> {
        let (space, method) = (&self.spaces[plan / Centres::ALL.len()], Centres::ALL[plan % Centres::ALL.len()]);
        match method.fit(&space.rows, self.clusters, self.seed, control) {
            Ok(labels) => {
                let (network, family) = (space.network, Family::Centres);
                run.state.candidates.push(Candidate { network, family, labels });
                Ok(())
            }
            Err(Error::Rows(problem) | Error::Training(problem)) => {
                tracing::debug!("network {}: {method:?} found nothing: {problem}", self.network + 1);
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// Puts what was found where the next stage looks for it.
    fn keep(&self, run: &mut Run, clusterings: Vec<Vec<i64>>, control: &mut Control) -> Result<()> {
        match self.goal {
            Goal::Parts(parts) => {
                for labels in clusterings.into_iter().take(1) {
                    let labels = extend(&self.latent, labels, control)?;
                    run.state.clusters = Some(Clusters::around_means(&self.latent, labels, parts)?);
                }
            }
            Goal::Candidates => {
                let (network, family) = (Some(self.network), Family::Graph);
                let candidates = clusterings.into_iter().map(|labels| Candidate { network, family, labels });
                run.state.candidates.extend(candidates);
            }
        }
        Ok(())
    }
}

/// Augmented versions of the rows in the latent space; none where nothing is augmented. Of few rows there are several
/// versions, since what one draw of each says is a matter of chance; of many, one version of some.
///
/// # Errors
/// [`crate::Error::Interrupted`], or a libtorch failure.
pub fn encode_augmented(run: &Run, network: usize, seed: u64, control: &Control) -> Result<Option<Augmented>> {
    /// Augmented rows in all, unless that were more than `VERSIONS`.
    const ROWS: usize = 30_000;
    const VERSIONS: usize = 3;
    let Some(augmentation) = run.task.augmentation_of(StageName::Start) else { return Ok(None) };
    let rows = &run.task.rows;
    let chosen = sample(run.task.seen(), ROWS, seed);
    let n = chosen.len() as i64;
    let indices = index_of(&chosen)?.f_to_device(rows.device())?;
    let network = run.state.network(network)?;
    let encode = |version: usize| {
        let mut fill = |start: i64, x: &Tensor| {
            let key = key(seed, (version as i64 * n + start) as u64, 0)?.f_to_device(rows.device())?;
            augmentation.gather(rows, &indices.f_narrow(0, start, x.size()[0])?, &key, x)
        };
        encode_filled(network, [n, rows.n_features()], &mut fill, control)
    };
    let versions = (ROWS / chosen.len()).min(VERSIONS);
    let latent = Tensor::f_cat(&(0..versions).map(encode).collect::<Result<Vec<_>>>()?, 0)?;
    Ok(Some(Augmented { latent, of: chosen.repeat(versions) }))
}

impl Stage for SearchStage {
    fn total(&self) -> u64 {
        1
    }

    fn advance(&mut self, run: &mut Run, control: &mut Control) -> Result<Done> {
        if let Some(labels) = self.single(run, control)? {
            self.keep(run, vec![labels], control)?;
            return Ok(Done::All(1));
        }
        if self.spectral.is_none() {
            let search = self.spectral(run, control)?;
            self.spaces = self.spaces(run, control)?;
            if self.goal == Goal::Candidates && run.state.plans == 0 && !run.task.moves_in_start() {
                run.state.gaps.extend(search.gaps());
            }
            self.spectral = Some(search);
            return Ok(Done::More);
        }
        let Some(search) = &self.spectral else { return Ok(Done::More) };
        let n_plans = search.n_plans() + self.spaces.len() * Centres::ALL.len();
        if run.state.plans < search.n_plans() {
            let mut found = search.clusterings(run.state.plans, control).map_err(of_latent)?;
            let clusterings = std::mem::take(&mut found.clusterings);
            self.found.extend(found);
            self.keep(run, clusterings, control)?;
            run.state.plans += 1;
        } else if run.state.plans < n_plans {
            self.around_centres(run.state.plans - search.n_plans(), run, control)?;
            run.state.plans += 1;
        }
        if run.state.plans < n_plans {
            return Ok(Done::More);
        }
        let none = match self.goal {
            Goal::Parts(_) => run.state.clusters.is_none(),
            Goal::Candidates => run.state.candidates.iter().all(|candidate| candidate.network != Some(self.network)),
        };
        if none {
            return Err(of_latent(self.found.refusal()));
        }
        tracing::debug!("network {}: {:?}", self.network + 1, self.found.ways);
        Ok(Done::All(1))
    }

    fn close(self: Box<Self>, run: &mut Run, _: &mut Control) -> Result<()> {
        run.state.plans = 0;
        Ok(())
    }
}
