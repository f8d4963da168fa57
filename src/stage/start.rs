//! The first assignment: candidates from each network's latent rows, and the vote on them.

use tch::{Kind, Tensor};

use super::{score, Done, Stage};
use crate::config::StartMethod;
use crate::control::{Control, Method, StageName};
use crate::data::{array_of, index_of, sample, Rows};
use crate::error::Result;
use crate::kmeans::{self, KMeansParams};
use crate::metrics;
use crate::model::encode_filled;
use crate::start::spectral::{self, Augmented, Found, SpectralParams, Views};
use crate::start::{components, elect, mixture, Elected, NeighbourGraph};
use crate::state::{of_latent, Candidate, Clusters, Run};
use crate::train::engine::step_key;
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
    seed: u64,
    /// The graph and its eigenvectors, made when they are first needed.
    spectral: Option<spectral::Search>,
    found: Found,
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
        Ok(Self { network, goal, clusters, latent, seed, spectral: None, found: Found::default() })
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
            StartMethod::Gmm => Some(mixture::fit(&self.latent, clusters, self.seed)?),
            StartMethod::Spectral if clusters == 1 => Some(vec![0; run.task.n_rows()]),
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
            None => self.encode_augmented(run, control)?,
            Some(_) => None,
        };
        find_input_graph(run, control)?;
        let input = run.cache.input_graph.as_ref();
        let views = Views { latent: &self.latent, input, augmented: augmented.as_ref() };
        spectral::Search::new(views, &params, control).map_err(of_latent)
    }

    /// Augmented versions of the rows in the latent space; none where nothing is augmented. Of few rows there are several
    /// versions, since what one draw of each says is a matter of chance; of many, one version of some.
    fn encode_augmented(&self, run: &Run, control: &Control) -> Result<Option<Augmented>> {
        /// Augmented rows in all, unless that were more than `VERSIONS`.
        const ROWS: usize = 30_000;
        const VERSIONS: usize = 3;
        let Some(augmentation) = run.task.augmentation_of(StageName::Start) else { return Ok(None) };
        let rows = &run.task.rows;
        let chosen = sample(run.task.n_rows(), ROWS, self.seed);
        let n = chosen.len() as i64;
        let indices = index_of(&chosen)?.f_to_device(rows.device())?;
        let network = run.state.network(self.network)?;
        let encode = |version: usize| {
            let mut fill = |start: i64, x: &Tensor| {
                let draw = step_key(self.seed, (version as i64 * n + start) as u64);
                let key = Tensor::f_full([1], draw, (Kind::Int64, rows.device()))?;
                augmentation.gather(rows, &indices.f_narrow(0, start, x.size()[0])?, &key, x)
            };
            encode_filled(network, [n, rows.n_features()], &mut fill, control)
        };
        let versions = (ROWS / chosen.len()).min(VERSIONS);
        let latent = Tensor::f_cat(&(0..versions).map(encode).collect::<Result<Vec<_>>>()?, 0)?;
        Ok(Some(Augmented { latent, of: chosen.repeat(versions) }))
    }

    /// Puts what was found where the next stage looks for it.
    fn keep(&self, run: &mut Run, clusterings: Vec<Vec<i64>>) -> Result<()> {
        match self.goal {
            Goal::Parts(parts) => {
                for labels in clusterings.into_iter().take(1) {
                    let centroids = means(&self.latent, &labels, parts)?;
                    run.state.clusters = Some(Clusters { labels, centroids });
                }
            }
            Goal::Candidates => {
                let network = self.network;
                let candidates = clusterings.into_iter().map(|labels| Candidate { network, labels });
                run.state.candidates.extend(candidates);
            }
        }
        Ok(())
    }
}

impl Stage for SearchStage {
    fn total(&self) -> u64 {
        1
    }

    fn advance(&mut self, run: &mut Run, control: &mut Control) -> Result<Done> {
        if let Some(labels) = self.single(run, control)? {
            self.keep(run, vec![labels])?;
            return Ok(Done::All(1));
        }
        if self.spectral.is_none() {
            self.spectral = Some(self.spectral(run, control)?);
            return Ok(Done::More);
        }
        let Some(search) = &self.spectral else { return Ok(Done::More) };
        if run.state.plans < search.n_plans() {
            let mut found = search.clusterings(run.state.plans, control).map_err(of_latent)?;
            let clusterings = std::mem::take(&mut found.clusterings);
            self.found.extend(found);
            self.keep(run, clusterings)?;
            run.state.plans += 1;
        }
        if run.state.plans < search.n_plans() {
            return Ok(Done::More);
        }
        let none = match self.goal {
            Goal::Parts(_) => run.state.clusters.is_none(),
            Goal::Candidates => run.state.candidates.iter().all(|candidate| candidate.network != self.network),
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

/// Makes the graph of the rows themselves, where it counts and there is none yet.
fn find_input_graph(run: &mut Run, control: &mut Control) -> Result<()> {
    // Neighbours of rows that may be moved are those at the same place, which is meant not to matter.
    let moved = run.task.augmentation_of(StageName::Start).is_some_and(|augmentation| augmentation.moves());
    if moved || run.cache.input_graph.is_some() {
        return Ok(());
    }
    let components = components(&run.task.rows, control)?;
    let n_neighbours = run.task.config.start.n_neighbours as i64;
    run.cache.input_graph = Some(NeighbourGraph::new(&components, n_neighbours, control)?);
    Ok(())
}

/// The vote. Self-training goes on with the network whose clustering agrees most with the elected one.
pub struct Elect;

impl Stage for Elect {
    fn total(&self) -> u64 {
        1
    }

    fn advance(&mut self, run: &mut Run, control: &mut Control) -> Result<Done> {
        let k = run.task.config.n_clusters;
        let (networks, clusterings): (Vec<usize>, Vec<Vec<i64>>) = std::mem::take(&mut run.state.candidates)
            .into_iter()
            .map(|candidate| (candidate.network, candidate.labels))
            .unzip();
        let Elected { labels, agreements, central } = elect(&clusterings, k)?;
        let chosen = networks[central];
        tracing::debug!("agreements {agreements:.3?} of networks {networks:?}: on with {chosen}");
        let z = match run.latent(chosen, control) {
            Ok(z) => z,
            Err(stopped) => {
                // As if it had not begun.
                let candidates = networks.into_iter().zip(clusterings);
                run.state.candidates = candidates.map(|(network, labels)| Candidate { network, labels }).collect();
                return Err(stopped);
            }
        };
        let centroids = means(&z, &labels, k)?;
        run.state.chosen = chosen;
        run.state.clusters = Some(Clusters { labels, centroids });
        run.cache.input_graph = None;
        for (number, network) in run.state.networks.iter_mut().enumerate() {
            if number != chosen {
                *network = None;
            }
        }
        Ok(Done::All(1))
    }

    fn close(self: Box<Self>, run: &mut Run, control: &mut Control) -> Result<()> {
        let z = run.latent(run.state.chosen, control)?;
        let Some(Clusters { labels, centroids }) = run.state.clusters.take() else { return Ok(()) };
        let inertia = metrics::inertia(array_of(&z)?.view(), &labels, array_of(&centroids)?.view())?;
        score(run, Method::Start, &z, &labels, inertia, control)?;
        run.state.clusters = Some(Clusters { labels, centroids });
        Ok(())
    }
}

/// The means \[k, m\] of the latent rows of each cluster; that of all rows for a cluster without any.
fn means(z: &Tensor, labels: &[i64], k: usize) -> Result<Tensor> {
    let (_, m) = z.size2()?;
    let options = (Kind::Float, z.device());
    let labels = Tensor::f_from_slice(labels)?.f_to_device(z.device())?;
    let sums = Tensor::f_zeros([k as i64, m], options)?.f_index_add(0, &labels, z)?;
    let ones = Tensor::f_ones([labels.size()[0]], options)?;
    let counts = Tensor::f_zeros([k as i64], options)?.f_index_add(0, &labels, &ones)?.f_unsqueeze(1)?;
    let all = z.f_mean_dim(0, true, Kind::Float)?;
    Ok(sums.f_div(&counts.f_clamp_min(1.0)?)?.f_add(&all.f_mul(&counts.f_eq(0.0)?.f_to_kind(Kind::Float)?)?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::values_of;

    #[test]
    fn means_are_of_the_clusters_and_of_all_where_there_is_no_row() {
        let z = Tensor::from_slice(&[0.0f32, 2.0, 4.0, 10.0]).view([4, 1]);
        let found: Vec<f32> = values_of(&means(&z, &[0, 0, 2, 2], 3).unwrap()).unwrap();
        assert_eq!(found, [1.0, 4.0, 7.0]);
    }
}
