//! The first assignment of a run that starts from another: the clusters there, and the new ones ([`crate::warm`]).

use super::elect::score_start;
use super::{Done, Stage};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::state::{Clusters, Run};

/// Takes over network and clusters.
pub struct Warm;

impl Stage for Warm {
    fn total(&self) -> u64 {
        1
    }

    fn advance(&mut self, run: &mut Run, _: &mut Control) -> Result<Done> {
        let warm = run.task.warm.as_ref();
        let warm = warm.ok_or_else(|| Error::Fault("there is no run to start from".to_owned()))?;
        run.state.networks = vec![Some(warm.model.network.share())];
        run.state.chosen = 0;
        run.state.clusters = Some(Clusters { labels: warm.labels.clone(), centroids: warm.centroids.shallow_clone() });
        Ok(Done::All(1))
    }

    fn close(self: Box<Self>, run: &mut Run, control: &mut Control) -> Result<()> {
        score_start(run, control)
    }
}
