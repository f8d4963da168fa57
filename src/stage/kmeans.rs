//! k-means on the raw rows, the baseline (of many rows the search sees a part, and all go to the centroids found there); and on the first network's latent rows, for comparison or as the start
//! (Xie et al. 2016, §3.1.2).

use tch::Tensor;

use super::{score, Done, Stage};
use crate::control::{Control, Method, StageName};
use crate::data::{tensor_of, Rows};
use crate::error::Result;
use crate::kmeans::{self, Best, KMeans, KMeansParams, Search};
use crate::state::{of_latent, Clusters, Restarts, Run};
use crate::train::seed_for;

/// Values of the raw rows that the search sees at the most: somewhat more than MNIST has.
pub const SEEN_VALUES: i64 = 1 << 26;

/// A k-means at work.
pub struct KMeansStage {
    search: Search,
    n_init: usize,
    /// The latent rows; `None` for the raw ones.
    latent: Option<Tensor>,
    /// Whether the search sees a part of the rows.
    partly: bool,
    fitted: Option<KMeans>,
}

impl KMeansStage {
    /// On the raw rows.
    ///
    /// # Errors
    /// Rows that cannot be clustered.
    pub fn of_rows(run: &mut Run) -> Result<Self> {
        let rows = &run.task.rows;
        let enough = SEEN_VALUES / rows.n_features().max(1);
        let seen = rows.first(enough.max(run.task.config.n_clusters as i64))?;
        let partly = seen.n_rows() < rows.n_rows();
        Ok(Self { partly, ..Self::new(run, StageName::KMeansRaw, &seen, None)? })
    }

    /// On the first network's latent rows.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`], latent rows that cannot be clustered, or a libtorch failure.
    pub fn of_latent(run: &mut Run, control: &Control) -> Result<Self> {
        let z = run.latent(0, control)?;
        let rows = Rows::from_tensor(z.shallow_clone());
        Self::new(run, StageName::KMeans, &rows, Some(z)).map_err(of_latent)
    }

    fn new(run: &mut Run, stage: StageName, rows: &Rows, latent: Option<Tensor>) -> Result<Self> {
        let seed = seed_for(run.task.config.seed, &stage.to_string());
        let params = KMeansParams { seed, ..run.task.kmeans_params() };
        let mut search = Search::new(rows, &params)?;
        if let Some(Restarts { done, best }) = run.state.restarts.take() {
            search.go_on_after(done, best);
        }
        Ok(Self { search, n_init: params.n_init, latent, partly: false, fitted: None })
    }
}

impl Stage for KMeansStage {
    fn total(&self) -> u64 {
        self.n_init as u64
    }

    fn advance(&mut self, run: &mut Run, control: &mut Control) -> Result<Done> {
        let of = |error| if self.latent.is_some() { of_latent(error) } else { error };
        self.fitted = self.search.advance(control).map_err(of)?;
        if let Some(fitted) = self.fitted.take_if(|_| self.partly) {
            self.fitted = Some(kmeans::assign(&run.task.rows, fitted.centroids, control)?);
        }
        Ok(if self.fitted.is_some() { Done::All(self.n_init as u64) } else { Done::More })
    }

    fn save(&self, run: &mut Run) -> Result<()> {
        let (done, best) = self.search.progress();
        let best = best.map(|best| Best { inertia: best.inertia, centroids: best.centroids.shallow_clone() });
        run.state.restarts = Some(Restarts { done, best });
        Ok(())
    }

    fn close(self: Box<Self>, run: &mut Run, control: &mut Control) -> Result<()> {
        run.state.restarts = None;
        let Some(fitted) = self.fitted else { return Ok(()) };
        let Some(z) = self.latent else {
            return score(run, Method::KMeans, &fitted.labels, fitted.inertia, control);
        };
        score(run, Method::AutoencoderKMeans, &fitted.labels, fitted.inertia, control)?;
        let centroids = tensor_of(fitted.centroids.view())?.f_to_device(z.device())?;
        run.state.clusters = Some(Clusters { labels: fitted.labels, centroids });
        Ok(())
    }
}
