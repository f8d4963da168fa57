//! Scores of a clustering: against classes where there are labels, the silhouette where there are none.

use crate::control::{Control, Event, Method, MethodResult, StageTime};
use crate::error::Result;
use crate::metrics::{self, Contingency};
use crate::state::Run;
use crate::train::seed_for;

/// Scores `labels` of the rows. The silhouette of every method is that in the scaled rows (in 50 components of them): in its own
/// latent a network that was trained towards clusters finds them far apart, right or wrong.
///
/// # Errors
/// A libtorch failure.
pub fn score(run: &mut Run, method: Method, labels: &[i64], inertia: f64, control: &mut Control) -> Result<()> {
    let silhouette = match run.task.labels_true {
        Some(_) => None,
        None => {
            let seed = seed_for(run.task.config.seed, "silhouette");
            // Not to be stopped: a stage that is closed is not begun again.
            metrics::silhouette(&run.components(&mut Control::ignored())?, &labels[..run.task.seen()], seed)?
        }
    };
    let Run { task, state, .. } = run;
    let against = task.labels_true.as_deref().map(|t| Contingency::of_labelled(t, labels)).transpose()?;
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
