//! Deep embedded clustering as an estimator: parameters, `fit`, a fitted [`Dec`] that labels, embeds and reconstructs rows.
//!
//! It follows linfa: [`Dec::params`] gives unchecked parameters, [`ParamGuard::check`](linfa::ParamGuard) valid ones,
//! [`Fit`](linfa::traits::Fit) a model, [`Predict`](linfa::traits::Predict) labels. Nothing is printed and no file written unless
//! [`Dec::save`] is called. [`run::Trainer`](crate::run::Trainer) is the layer below, for runs that can be resumed.

mod fit;

mod machine;
mod params;
mod predict;
mod store;

use ndarray::{Array1, Array2};

use crate::config::Config;
use crate::control::MethodResult;
use crate::data::{array_of, Dataset, Missing, Reading, ToDataset};
use crate::error::{Error, Result};
use crate::run::{Assignment, Fitted, Model, Summary};

pub use machine::set_up_machine;
pub use params::{DecParams, DecValidParams};

/// A fitted clustering: an encoder z = f(x), centroids μ in its latent space, and the clusters of the rows that it was fitted to.
///
/// Xie, Girshick & Farhadi, ICML 2016. The soft assignment of a latent row is Student's t kernel around each centroid,
/// q_ij ∝ (1 + ‖z_i − μ_j‖²/α)^−(α+1)/2, whose rows sum to 1 (Eq. 1); the label is the cluster of the largest q.
///
/// n rows of d features, m latent values, k clusters. Rows are raw, as in `fit`: the scaling is part of the model.
///
/// ```
/// use dec::Dec;
/// use ndarray::{array, Array2};
///
/// // Three groups of rows in four dimensions.
/// let x = Array2::from_shape_fn((60, 4), |(i, j)| (i % 3) as f32 * 5.0 + ((7 * i + j) % 5) as f32 * 0.1);
/// let dec = Dec::params(3)
///     .seed(0)
///     .set("start.networks", 1)
///     .set("cluster.max_rounds", 2)
///     .fit(&x)?;
///
/// let labels = dec.labels();
/// assert_eq!(labels.len(), 60);
/// assert!((0..60).all(|i| labels[i] == labels[i % 3]) && labels[0] != labels[1] && labels[1] != labels[2]);
///
/// let new = array![[5.1f32, 5.2, 5.3, 5.4]];
/// assert_eq!(dec.try_predict(&new)?[0], labels[1]);
/// assert_eq!(dec.transform(&new)?.dim(), (1, 10));
/// assert!((dec.soft_assignments(&new)?.sum() - 1.0).abs() < 1e-5);
/// assert_eq!(dec.try_predict(&array![[1.0f32, 2.0]]).unwrap_err().to_string(),
///     "the rows have the shape [1, 2], and the model takes [1, 4]");
/// # Ok::<(), dec::Error>(())
/// ```
#[derive(Debug)]
pub struct Dec {
    model: Model,
    config: Config,
    /// The rows that were trained on, which `data.limit` may have chosen.
    assignment: Assignment,
    labels: Array1<usize>,
    centroids: Array2<f32>,
    results: Vec<MethodResult>,
    /// The run's summary, as its directory has it.
    summary: serde_json::Value,
    /// The run's log, as its directory has it.
    events: Vec<u8>,
}

impl Dec {
    /// Parameters of a fit into `n_clusters` clusters; everything else has a default.
    ///
    /// ```
    /// use dec::{Dec, ParamGuard};
    /// let params = Dec::params(7).recipe("notebook").seed(1).device("cpu").check()?;
    /// assert_eq!(params.config().n_clusters, 7);
    /// # Ok::<(), dec::Error>(())
    /// ```
    pub fn params(n_clusters: usize) -> DecParams {
        DecParams::new(n_clusters)
    }

    fn new(fitted: Fitted, config: Config, summary: &Summary, events: Vec<u8>, dataset: &Dataset) -> Result<Self> {
        let Fitted { model, assignment, results, .. } = fitted;
        let summary = serde_json::to_value(summary)
            .map_err(|e| Error::Unsaved(format!("the summary cannot be written as JSON: {e}")))?;
        let labels = if assignment.rows.len() == dataset.n_rows() {
            labels_of(&assignment)
        } else {
            labels_of(&model.predict(&dataset.features)?) // data.limit left some out
        };
        let centroids = array_of(model.layer.centroids())?;
        Ok(Self { model, config, assignment, labels, centroids, results, summary, events })
    }

    /// The cluster of each row, 0 to k − 1.
    ///
    /// [`Predict`](linfa::traits::Predict) does the same and panics where this is an error.
    ///
    /// # Errors
    /// [`Error::Shape`] for rows of another width, [`Error::Rows`] for values that are missing or infinite, or a libtorch failure.
    pub fn try_predict<X: ToDataset + ?Sized>(&self, x: &X) -> Result<Array1<usize>> {
        self.on_rows(x, Array1::zeros(0), |dataset| Ok(labels_of(&self.model.predict(&dataset.features)?)))
    }

    /// z = f(x): the rows in the latent space, \[n, m\].
    ///
    /// # Errors
    /// As for [`Dec::try_predict`].
    pub fn transform<X: ToDataset + ?Sized>(&self, x: &X) -> Result<Array2<f32>> {
        self.on_rows(x, Array2::zeros((0, self.n_latent())), |dataset| {
            array_of(&self.model.transform(&dataset.features)?.0)
        })
    }

    /// q (Xie et al. 2016, Eq. 1): how much each row belongs to each cluster, \[n, k\]; rows sum to 1.
    ///
    /// # Errors
    /// As for [`Dec::try_predict`].
    pub fn soft_assignments<X: ToDataset + ?Sized>(&self, x: &X) -> Result<Array2<f32>> {
        self.on_rows(x, Array2::zeros((0, self.n_clusters())), |dataset| {
            array_of(&self.model.transform(&dataset.features)?.1)
        })
    }

    /// x̂ = g(f(x)): the rows as the autoencoder knows them, \[n, d\], in the units of `x`. `f64`, since `f32` may be too coarse for those.
    ///
    /// Counts have the total of their row, rows that were brought to length 1 their length.
    ///
    /// # Errors
    /// As for [`Dec::try_predict`].
    pub fn reconstruct<X: ToDataset + ?Sized>(&self, x: &X) -> Result<Array2<f64>> {
        self.on_rows(x, Array2::zeros((0, self.n_features())), |dataset| self.model.reconstruct(&dataset.features))
    }

    /// x̂ = g(z): latent rows \[n, m\] as rows \[n, d\], in the units of the rows that were trained on.
    ///
    /// Of counts the total is the median of the training rows; rows that were brought to length 1 stay so, since a latent row does not
    /// tell its length.
    ///
    /// # Errors
    /// [`Error::Shape`] for latent rows of another width, or a libtorch failure.
    pub fn decode(&self, z: &Array2<f32>) -> Result<Array2<f64>> {
        let (n, m) = z.dim();
        if m != self.n_latent() {
            return Err(Error::Shape { found: [n, m], expected: [n, self.n_latent()] });
        }
        if n == 0 {
            return Ok(Array2::zeros((0, self.n_features())));
        }
        self.model.decode(z)
    }

    /// The clusters of the rows that it was fitted to, in their order. Empty where it was loaded and the run left no
    /// `assignments.csv`.
    pub fn labels(&self) -> &Array1<usize> {
        &self.labels
    }

    /// μ: the centroids in the latent space, \[k, m\]. Where clusters were joined after training there are as many as before, and
    /// `model().layer.groups()` tells the cluster of each.
    pub fn centroids(&self) -> &Array2<f32> {
        &self.centroids
    }

    /// How k-means, the autoencoder with k-means, the first assignment and DEC clustered the rows: scores where the rows had labels,
    /// else silhouettes.
    pub fn results(&self) -> &[MethodResult] {
        &self.results
    }

    /// Rows and confidences of the training rows, in the order of the input; `data.limit` may have chosen some.
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// Rounds of self-training that were made.
    pub fn rounds(&self) -> u64 {
        self.summary["rounds"].as_u64().unwrap_or(0)
    }

    /// Whether self-training reached `cluster.tol` before its last round.
    pub fn converged(&self) -> bool {
        self.summary["converged"].as_bool().unwrap_or(false)
    }

    /// What the run came to, as `summary.json` has it.
    pub fn summary(&self) -> &serde_json::Value {
        &self.summary
    }

    /// The resolved configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The layer below: network, scaling and centroids as tensors.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// d, the number of features that the network takes.
    pub fn n_features(&self) -> usize {
        usize::try_from(self.model.n_features).unwrap_or(0)
    }

    /// m, the width of the latent.
    pub fn n_latent(&self) -> usize {
        self.centroids.ncols()
    }

    /// k, the number of clusters; fewer than centroids where some were joined ([`crate::model::Groups`]).
    pub fn n_clusters(&self) -> usize {
        self.model.layer.n_clusters()
    }

    /// `work` on the rows of `x` as the model takes them; `none` where there are no rows.
    fn on_rows<X, T>(&self, x: &X, none: T, work: impl FnOnce(&Dataset) -> Result<T>) -> Result<T>
    where
        X: ToDataset + ?Sized,
    {
        self.on_rows_with(x, Missing::default(), none, work)
    }

    /// The same, missing values treated as `missing` says.
    fn on_rows_with<X, T>(
        &self,
        x: &X,
        missing: Missing,
        none: T,
        work: impl FnOnce(&Dataset) -> Result<T>,
    ) -> Result<T>
    where
        X: ToDataset + ?Sized,
    {
        let found = x.shape();
        let of_file = self.model.intake.selected.as_ref().map(|selection| selection.of);
        if found[1] != self.n_features() && Some(found[1]) != of_file {
            return Err(Error::Shape { found, expected: [found[0], of_file.unwrap_or(self.n_features())] });
        }
        if found[0] == 0 {
            return Ok(none);
        }
        let (_, _as_it_was) = machine::borrow_machine(&self.config)?;
        let reading = Reading { intake: Some(&self.model.intake), missing, ..Reading::default() };
        let dataset = x.to_dataset(&reading)?;
        self.model.check_shape(&dataset)?;
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&dataset)))
            .unwrap_or_else(|payload| Err(Error::from_payload(&*payload)))
    }
}

fn labels_of(assignment: &Assignment) -> Array1<usize> {
    assignment.labels.iter().map(|&label| usize::try_from(label).unwrap_or(0)).collect()
}
