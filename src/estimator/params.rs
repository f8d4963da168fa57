//! What a fit is asked to do: a builder that takes anything, and the proof that it can be run.

use std::sync::OnceLock;

use linfa::ParamGuard;

use crate::config::{AugmentKind, CheckedConfig, Config, Recipe, Threads};
use crate::error::{Error, Result};

/// Settings of a fit, not checked yet; [`Dec::params`](super::Dec::params) makes one.
///
/// They are applied in this order: the recipe or configuration, [`DecParams::set`] in the order of its calls, then the methods that are
/// named for one setting. Nothing is refused before [`ParamGuard::check`], which `fit` calls itself.
///
/// ```
/// use dec::{Dec, ParamGuard};
///
/// let params = Dec::params(3).seed(7).set("cluster.tol", 0.01).latent(5).check()?;
/// assert_eq!((params.config().n_clusters, params.config().seed), (3, 7));
/// assert_eq!((params.config().cluster.tol, params.config().model.n_latent), (0.01, 5));
///
/// let refused = Dec::params(0).check().unwrap_err();
/// assert_eq!(refused.to_string(), "n_clusters = 0: must be at least 1");
/// # Ok::<(), dec::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DecParams {
    n_clusters: usize,
    base: Base,
    settings: Vec<(String, toml::Value)>,
    seed: Option<u64>,
    latent: Option<usize>,
    device: Option<String>,
    threads: Option<Threads>,
    image: Option<[usize; 2]>,
    row_kind: Option<AugmentKind>,
    checked: OnceLock<DecValidParams>,
}

/// What the settings change.
#[derive(Debug, Clone)]
enum Base {
    /// A recipe, by its name or path.
    Recipe(String),
    /// A configuration.
    Config(Box<Config>),
}

/// Settings of a fit that can be run; [`ParamGuard::check`] of [`DecParams`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct DecValidParams {
    recipe: String,
    config: CheckedConfig,
}

impl DecParams {
    /// For k clusters, with the default recipe.
    pub(super) fn new(n_clusters: usize) -> Self {
        Self {
            n_clusters,
            base: Base::Recipe("default".to_owned()),
            settings: Vec::new(),
            seed: None,
            latent: None,
            device: None,
            threads: None,
            image: None,
            row_kind: None,
            checked: OnceLock::new(),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        self.checked = OnceLock::new();
        change(&mut self);
        self
    }

    /// A recipe: one of [`BUILT_IN`](crate::config::BUILT_IN) (`default`, `fast`, `best`, `notebook`, …) or the path of a TOML file.
    /// Default `default`.
    #[must_use]
    pub fn recipe(self, name: impl Into<String>) -> Self {
        self.with(|params| params.base = Base::Recipe(name.into()))
    }

    /// A whole configuration, in place of a recipe.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        self.with(|params| params.base = Base::Config(Box::new(config)))
    }

    /// Changes one setting by its dotted key: `.set("cluster.tol", 0.001)`, `.set("model.hidden", vec![128, 128, 512])`.
    #[must_use]
    pub fn set(self, key: impl Into<String>, value: impl Into<toml::Value>) -> Self {
        self.with(|params| params.settings.push((key.into(), value.into())))
    }

    /// Seed of everything random, 0 to 2⁶³ − 1. Default 0.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.with(|params| params.seed = Some(seed))
    }

    /// m, the width of the latent, at least 1. Default: the recipe's, 10.
    #[must_use]
    pub fn latent(self, n_latent: usize) -> Self {
        self.with(|params| params.latent = Some(n_latent))
    }

    /// Where to compute: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`. Default `auto`.
    #[must_use]
    pub fn device(self, device: impl Into<String>) -> Self {
        self.with(|params| params.device = Some(device.into()))
    }

    /// Threads that compute on the CPU, 1 to 1024. Default: as many as the process may use.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        self.with(|params| params.threads = Some(Threads::Given(threads)))
    }

    /// Says that rows are images of this height and width, in pixels, line by line. Default: told from the values.
    #[must_use]
    pub fn image(self, shape: [usize; 2]) -> Self {
        self.with(|params| params.image = Some(shape))
    }

    /// How rows may be varied at random, which is what they are: `Image`, `Noise` (a table), `TimeShift` (a series), `None`. Default
    /// `Auto`.
    #[must_use]
    pub fn row_kind(self, kind: AugmentKind) -> Self {
        self.with(|params| params.row_kind = Some(kind))
    }

    fn resolve(&self) -> Result<DecValidParams> {
        let mut recipe = match &self.base {
            Base::Recipe(name) => Recipe::load(name)?,
            Base::Config(config) => Recipe { name: "config".to_owned(), config: (**config).clone() },
        };
        // As the command line's --set: a value as TOML writes it. Strings have their quotes then.
        let settings: Vec<String> = self.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let config = &mut recipe.config;
        config.n_clusters = self.n_clusters;
        let Self { seed, latent, threads, image, row_kind, .. } = *self;
        recipe.set(&settings)?;
        let config = &mut recipe.config;
        config.seed = seed.unwrap_or(config.seed);
        config.model.n_latent = latent.unwrap_or(config.model.n_latent);
        config.threads = threads.unwrap_or(config.threads);
        config.augment.image = image.or(config.augment.image);
        config.augment.kind = row_kind.unwrap_or(config.augment.kind);
        if let Some(device) = &self.device {
            config.device.clone_from(device);
        }
        if !config.sweep.is_empty() {
            let problem =
                format!("the recipe {} has a [sweep] table, which is many fits; `dec sweep` runs it", recipe.name);
            return Err(Error::Config(problem));
        }
        Ok(DecValidParams { recipe: recipe.name, config: recipe.config.check()? })
    }
}

impl ParamGuard for DecParams {
    type Checked = DecValidParams;
    type Error = Error;

    fn check_ref(&self) -> Result<&DecValidParams> {
        if let Some(checked) = self.checked.get() {
            return Ok(checked);
        }
        let checked = self.resolve()?;
        Ok(self.checked.get_or_init(|| checked))
    }

    fn check(mut self) -> Result<DecValidParams> {
        self.checked.take().map_or_else(|| self.resolve(), Ok)
    }
}

impl DecValidParams {
    /// A recipe that is checked already.
    ///
    /// # Errors
    /// [`Error::Config`] about the first value that cannot be run.
    pub fn of_recipe(recipe: Recipe) -> Result<Self> {
        Ok(Self { recipe: recipe.name, config: recipe.config.check()? })
    }

    /// The resolved configuration.
    pub fn config(&self) -> &CheckedConfig {
        &self.config
    }

    /// With the recipe's name.
    pub(super) fn to_recipe(&self) -> Recipe {
        Recipe { name: self.recipe.clone(), config: self.config.clone().into_inner() }
    }
}
