//! Whether self-training came to less than it began with.

use crate::config::StartMethod;
use crate::control::Control;
use crate::data::values_of;
use crate::error::Result;
use crate::metrics::Contingency;
use crate::model::{copies, encode_all, set_parameters, ClusteringLayer};
use crate::start::Joint;
use crate::state::Run;

/// Modularity that may be lost: the start was sought in that graph, so that a better end has less of it too (digits: 0.885 and 0.867,
/// ACC 0.960 and 0.977).
const LOSS: f64 = 0.05;
/// Normalised mutual information of start and end from which on nothing is.
const SAME: f64 = 0.98;

/// Whether `labels` are clearly below the start, in words: by their modularity in the graph that the start's network makes of the
/// rows (and that of the rows themselves, where values are not moved). No label has a say. A start by k-means is left to the
/// recipe that asked for it.
///
/// # Errors
/// [`crate::Error::Interrupted`], or a libtorch failure.
pub fn below_start(run: &mut Run, labels: &[i64], control: &mut Control) -> Result<Option<String>> {
    let Run { task, state, .. } = &*run;
    let k = task.config.n_clusters;
    let Some(begun) = &state.self_training else { return Ok(None) };
    if task.config.start.method != StartMethod::Spectral || k < 2 || labels.len() < 2 {
        return Ok(None);
    }
    let agreement = Contingency::new(&begun.start.labels, labels)?.normalized_mutual_info();
    if agreement > SAME {
        return Ok(None);
    }
    let parameters = state.network(state.chosen)?.parameters();
    let trained = copies(&parameters)?;
    set_parameters(&parameters, &begun.start_parameters)?;
    let z = encode_all(state.network(state.chosen)?, &task.rows, control);
    set_parameters(&parameters, &trained)?;
    let z = z?;
    // What the start's network and centroids give, as a predictor would; not the vote itself, which no centroid may tell.
    let layer = ClusteringLayer::new(&begun.start.centroids, task.config.cluster.alpha)?;
    let nearest: Vec<i64> = values_of(&layer.log_soft_assign_all(&z)?.f_argmax(1, false)?)?;
    let graph = run.graph(&z, control)?;
    let of = |labels: &[i64]| Joint::of_graph(&graph, &labels[..graph.n_rows()], k).modularity();
    let (before, after) = (of(&nearest), of(labels));
    tracing::debug!("modularity {before:.4} at the start, {after:.4} at the end, which agree to {agreement:.3}");
    Ok((after < before - LOSS).then(|| {
        format!(
            "self-training ended below its start (modularity {after:.3}, {before:.3} at the start): the clusters around the \
             start's centroids are the result"
        )
    }))
}
