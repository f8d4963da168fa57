//! Scores of a clustering: against classes where there are labels, the silhouette where there are none.

use tch::Tensor;

use crate::control::{Control, Event, Method, MethodResult, StageTime};
use crate::error::Result;
use crate::metrics::{self, Contingency};
use crate::state::Run;
use crate::train::seed_for;

/// Scores `labels` of the rows, which were clustered as they lie in `space` \[n, ·\].
///
/// # Errors
/// A libtorch failure.
pub fn score(
    run: &mut Run,
    method: Method,
    space: &Tensor,
    labels: &[i64],
    inertia: f64,
    control: &mut Control,
) -> Result<()> {
    let Run { task, state, .. } = run;
    let against = task.labels_true.as_deref().map(|t| Contingency::new(t, labels)).transpose()?;
    let silhouette = match against {
        Some(_) => None,
        None => metrics::silhouette(space, labels, seed_for(task.config.seed, "silhouette"))?,
    };
    let needs = |stage: &StageTime| (stage.name == "kmeans_raw") == (method == Method::KMeans);
    let result = MethodResult {
        method,
        acc: against.as_ref().map(Contingency::accuracy),
        nmi: against.as_ref().map(Contingency::normalized_mutual_info),
        ari: against.as_ref().map(Contingency::adjusted_rand_index),
        silhouette,
        inertia,
        seconds: state.stages.iter().filter(|stage| needs(stage)).map(|stage| stage.seconds).sum(),
    };
    control.tell(&Event::Scored(&result));
    state.results.push(result);
    Ok(())
}
