//! The vote on the first assignment: one within each family of candidates, and the choice between the two.

use super::{score, Done, Stage};
use crate::control::{Control, Event, Method, StageName};
use crate::data::array_of;
use crate::error::{Error, Result};
use crate::metrics::{self, Contingency};
use crate::start::choice::{by_modularity, by_shape, Family, Gaps, Reason};
use crate::start::{elect, extend, Elected, Joint, NeighbourGraph};
use crate::state::{Candidate, Clusters, Run, StartChoice};

/// Normalised mutual information below which it is said that the two families disagree.
const DISAGREEMENT: f64 = 0.5;

/// The vote. Self-training goes on with the network whose clustering agrees most with the elected one.
pub struct Elect;

/// What a family elected, and the network of the candidate that agrees most with it.
struct Winner {
    elected: Elected,
    network: usize,
}

impl Elect {
    /// Candidates are left as they are: an interruption leaves the state as if this had not begun.
    fn decide(run: &mut Run, control: &mut Control) -> Result<(Clusters, usize, StartChoice)> {
        let k = run.task.config.n_clusters;
        let graph = winner(&run.state.candidates, Family::Graph, k)?;
        let centres = winner(&run.state.candidates, Family::Centres, k)?;
        let (winner, choice) = match (graph, centres) {
            (Some(graph), Some(centres)) => choose(graph, centres, run, control)?,
            (Some(only), None) => (only, StartChoice::only(Family::Graph)),
            (None, Some(only)) => (only, StartChoice::only(Family::Centres)),
            (None, None) => return Err(Error::Rows("no clusterings to choose among".to_owned())),
        };
        let Winner { elected, network } = winner;
        let z = run.latent(network, control)?;
        let clusters = Clusters::around_means(&z, extend(&z, elected.labels, control)?, k)?;
        Ok((clusters, network, choice))
    }
}

impl Stage for Elect {
    fn total(&self) -> u64 {
        1
    }

    fn advance(&mut self, run: &mut Run, control: &mut Control) -> Result<Done> {
        let (clusters, chosen, choice) = Self::decide(run, control)?;
        tracing::debug!("{choice:?}, on with network {}", chosen + 1);
        if choice.reason != Reason::Only {
            tracing::info!("the first assignment: {choice}");
        }
        if choice.agreement.is_some_and(|agreement| agreement < DISAGREEMENT) {
            let text = format!("two ways to a first assignment disagree: {choice}");
            control.tell(&Event::Warning { stage: StageName::Start, text: &text });
            run.state.warnings.push(text);
        }
        let state = &mut run.state;
        state.candidates = Vec::new();
        state.gaps = Vec::new();
        state.choice = Some(choice);
        state.chosen = chosen;
        state.clusters = Some(clusters);
        run.cache.input_graph = None;
        for (number, network) in state.networks.iter_mut().enumerate() {
            if number != chosen {
                *network = None;
            }
        }
        Ok(Done::All(1))
    }

    fn close(self: Box<Self>, run: &mut Run, control: &mut Control) -> Result<()> {
        score_start(run, control)
    }
}

/// Scores the first assignment in the latent space of its network.
pub(super) fn score_start(run: &mut Run, control: &mut Control) -> Result<()> {
    let z = run.latent(run.state.chosen, control)?;
    let Some(Clusters { labels, centroids }) = run.state.clusters.take() else { return Ok(()) };
    let inertia = metrics::inertia(array_of(&z)?.view(), &labels, array_of(&centroids)?.view())?;
    score(run, Method::Start, &labels, inertia, control)?;
    run.state.clusters = Some(Clusters { labels, centroids });
    Ok(())
}

/// What the candidates of a family elect; `None` without any.
fn winner(candidates: &[Candidate], family: Family, k: usize) -> Result<Option<Winner>> {
    of_candidates(candidates.iter().filter(|candidate| candidate.family == family).collect(), k)
}

/// What those along the graph elect that were found at once from k eigenvectors, which is the first of each network: where the
/// graph falls into k pieces, finer parts only blur them.
fn pieces(candidates: &[Candidate], k: usize) -> Result<Option<Winner>> {
    let mut firsts: Vec<&Candidate> = Vec::new();
    for candidate in candidates.iter().filter(|candidate| candidate.family == Family::Graph) {
        if firsts.iter().all(|first| first.network != candidate.network) {
            firsts.push(candidate);
        }
    }
    of_candidates(firsts, k)
}

/// What both families elect together, at most two along the graph for each around centres.
fn together(candidates: &[Candidate], k: usize) -> Result<Option<Winner>> {
    let of = |family| candidates.iter().filter(move |candidate| candidate.family == family);
    let (graph, centres) = (of(Family::Graph).count(), of(Family::Centres).count());
    let step = graph.div_ceil(2 * centres.max(1)).max(1);
    of_candidates(of(Family::Centres).chain(of(Family::Graph).step_by(step)).collect(), k)
}

fn of_candidates(of_it: Vec<&Candidate>, k: usize) -> Result<Option<Winner>> {
    if of_it.is_empty() {
        return Ok(None);
    }
    let clusterings: Vec<&[i64]> = of_it.iter().map(|candidate| candidate.labels.as_slice()).collect();
    let elected = elect(&clusterings, k)?;
    let mut best = None;
    for (candidate, &agreement) in of_it.iter().zip(&elected.agreements) {
        let Some(network) = candidate.network else { continue };
        if best.is_none_or(|(_, most)| agreement > most) {
            best = Some((network, agreement));
        }
    }
    Ok(best.map(|(network, _)| Winner { elected, network }))
}

fn choose(graph: Winner, centres: Winner, run: &mut Run, control: &mut Control) -> Result<(Winner, StartChoice)> {
    let k = run.task.config.n_clusters;
    let gaps = Gaps::mean(&run.state.gaps);
    let pieced = gaps.is_some_and(|gaps| gaps.are_pieces());
    let graph = match pieced {
        true => pieces(&run.state.candidates, k)?.unwrap_or(graph),
        false => graph,
    };
    let agreement = Contingency::new(&graph.elected.labels, &centres.elected.labels)?.normalized_mutual_info();
    let agreements = &centres.elected.agreements;
    let of_one_mind = agreements.iter().sum::<f64>() / agreements.len() as f64;
    let ties = run.input_graph(control)?.map_or(0.0, NeighbourGraph::ties);
    let mut modularity = None;
    let (family, reason) = match gaps.and_then(|gaps| by_shape(ties, gaps, of_one_mind)) {
        Some(chosen) => chosen,
        None => {
            let z = run.latent(graph.network, control)?;
            let neighbours = run.graph(&z, control)?;
            let of = |winner: &Winner| Joint::of_graph(&neighbours, &winner.elected.labels, k).modularity();
            let both = [of(&graph), of(&centres)];
            modularity = Some(both);
            by_modularity(pieced, both[0], both[1])
        }
    };
    let winner = match family {
        Family::Graph => graph,
        Family::Centres => centres,
        Family::Both => together(&run.state.candidates, k)?.unwrap_or(graph),
    };
    Ok((
        winner,
        StartChoice { family, reason, agreement: Some(agreement), of_one_mind: Some(of_one_mind), modularity, gaps },
    ))
}
