//! From parameters and rows to a fitted [`Dec`].

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Instant;

use linfa::dataset::{DatasetBase, Records};
use linfa::traits::Fit;
use linfa::ParamGuard;
use tch::Device;

use super::machine::borrow_machine;
use super::{Dec, DecParams, DecValidParams};
use crate::backend::available_bytes;
use crate::control::Observer;
use crate::data::{Dataset, Missing, Reading, ToDataset, IN_MEMORY};
use crate::error::{Error, Result};
use crate::run::{estimate, Summary, Told, Trainer};
use crate::state::stays_streamed;

impl DecParams {
    /// Checks the parameters and fits; see [`DecValidParams::fit`].
    ///
    /// # Errors
    /// Those of [`ParamGuard::check`] and of [`DecValidParams::fit`].
    pub fn fit<X: ToDataset + ?Sized>(&self, x: &X) -> Result<Dec> {
        self.check_ref()?.fit(x)
    }

    /// Checks the parameters and fits; see [`DecValidParams::fit_with`].
    ///
    /// # Errors
    /// Those of [`ParamGuard::check`] and of [`DecValidParams::fit_with`].
    pub fn fit_with<X: ToDataset + ?Sized>(&self, x: &X, observer: &mut dyn Observer) -> Result<Dec> {
        self.check_ref()?.fit_with(x, observer)
    }
}

impl DecValidParams {
    /// Clusters the rows of `x` \[n, d\]: an array of `u8`, `f32` or `f64`, a linfa dataset of one (its targets are not looked at), or a
    /// [`Dataset`] that was read from a file, whose labels score the result and touch nothing else.
    ///
    /// The same rows, parameters, device and number of threads give the same bits.
    ///
    /// # Errors
    /// [`Error::Rows`] for rows that cannot be clustered (missing values, all the same, fewer than clusters), [`Error::Memory`],
    /// [`Error::Device`]; [`Error::Diverged`], [`Error::Collapsed`] or [`Error::Training`] for training that failed.
    pub fn fit<X: ToDataset + ?Sized>(&self, x: &X) -> Result<Dec> {
        self.fit_with(x, &mut ())
    }

    /// [`DecValidParams::fit`] with an [`Observer`], which is told what happens and may ask to stop.
    ///
    /// # Errors
    /// As for [`DecValidParams::fit`], and [`Error::Interrupted`] where the observer asked to stop.
    ///
    /// ```
    /// use dec::{control::{Event, Observer}, Dec};
    ///
    /// struct Rounds(usize);
    /// impl Observer for Rounds {
    ///     fn on_event(&mut self, event: &Event) {
    ///         self.0 += usize::from(matches!(event, Event::Round { .. }));
    ///     }
    ///     fn should_stop(&self) -> bool {
    ///         self.0 >= 2
    ///     }
    /// }
    /// let x = ndarray::Array2::from_shape_fn((60, 4), |(i, j)| (i % 3) as f32 * 5.0 + ((7 * i + j) % 5) as f32 * 0.1);
    /// let mut rounds = Rounds(0);
    /// let stopped = Dec::params(3).set("start.networks", 1).fit_with(&x, &mut rounds).unwrap_err();
    /// assert!(matches!(stopped, dec::Error::Interrupted));
    /// assert_eq!(rounds.0, 2);
    /// ```
    pub fn fit_with<X: ToDataset + ?Sized>(&self, x: &X, observer: &mut dyn Observer) -> Result<Dec> {
        let (device, _as_it_was) = borrow_machine(self.config())?;
        let data = &self.config().data;
        let dataset =
            x.to_dataset(&Reading { missing: data.missing, features: data.features, ..Reading::default() })?;
        let [n, _] = x.shape();
        if dataset.n_rows() != n {
            debug_assert_eq!(data.missing, Missing::Drop);
            return Err(Error::Rows(format!(
                "{}: {} of {n} rows have missing values, and data.missing=drop would leave them without a label; leave them out \
                 before fitting, or use data.missing=mean",
                dataset.name,
                n - dataset.n_rows()
            )));
        }
        // tch panics where memory runs out in the middle of a network.
        catch_unwind(AssertUnwindSafe(|| self.run(&dataset, device, observer)))
            .unwrap_or_else(|payload| Err(Error::from_payload(&*payload)))
    }

    /// A trainer of this configuration on `dataset`, after it was made sure that there is memory for it: the layer below `fit`, for runs
    /// that keep checkpoints.
    ///
    /// # Errors
    /// [`Error::Memory`] for a run that would not fit, and those of [`Trainer::new`].
    pub fn trainer(&self, dataset: &Dataset, device: Device) -> Result<Trainer> {
        let streamed = stays_streamed(self.config(), &dataset.features);
        let element_bytes = if streamed { 0 } else { dataset.features.element_bytes() };
        estimate(self.config(), dataset.n_rows(), dataset.n_features(), element_bytes).check(available_bytes())?;
        Trainer::new(self.config(), dataset, device)
    }

    fn run(&self, dataset: &Dataset, device: Device, observer: &mut dyn Observer) -> Result<Dec> {
        let started = Instant::now();
        let mut trainer = self.trainer(dataset, device)?;
        let mut told = Told::new(trainer.task(), observer);
        let fitted = trainer.run(&mut told)?;
        let events = told.into_text();
        let mut recipe = self.to_recipe();
        recipe.config.n_clusters = trainer.task().config.n_clusters;
        if dataset.name == IN_MEMORY {
            // Who runs the saved recipe again has to bring the rows.
            "-".clone_into(&mut recipe.config.data.source);
        }
        let summary = Summary::new(&recipe, &trainer, dataset.rows_sha256()?, None, started.elapsed().as_secs_f64());
        drop(trainer); // with its copy of the rows
        Dec::new(fitted, recipe.config, &summary, events, dataset)
    }
}

/// For linfa's own ways; [`DecValidParams::fit`] does the same for arrays too.
impl<R: ToDataset + Records, T> Fit<R, T, Error> for DecValidParams {
    type Object = Dec;

    fn fit(&self, dataset: &DatasetBase<R, T>) -> Result<Dec> {
        DecValidParams::fit(self, &dataset.records)
    }
}
