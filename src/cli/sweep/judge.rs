//! The label-free scores of members ([`dec::ranking`]).

use std::path::PathBuf;

use dec::config::{Config, Member, Recipe};
use dec::control::Control;
use dec::data::Dataset;
use dec::estimator::set_up_machine;
use dec::ranking::Yardstick;
use dec::run::{Assignment, ASSIGNMENTS};
use dec::DecValidParams;

use crate::cli::members;
use crate::cli::recipe::load_data;
use crate::cli::session::Stoppable;

/// Scores members by the rows of the sweep's recipe.
pub struct Judge {
    recipe: Recipe,
    /// The rows, and their SHA-256.
    loaded: Option<(Dataset, String)>,
}

impl Judge {
    /// For a sweep of `recipe`.
    pub fn new(recipe: &Recipe) -> Self {
        let config = Config { sweep: Default::default(), device: "cpu".to_owned(), ..recipe.config.clone() };
        Self { recipe: Recipe { name: recipe.name.clone(), config }, loaded: None }
    }

    /// Rows that members on all rows have.
    pub fn n_rows(&mut self) -> anyhow::Result<usize> {
        let n_rows = self.dataset()?.0.n_rows();
        Ok(self.recipe.config.data.rows_of(n_rows))
    }

    /// The score of each member, in their order; none for one that has not finished or has clustered other rows. Where there can be
    /// no scores, a warning says why.
    pub fn scores(&mut self, ran: &[(&Member, PathBuf)]) -> Vec<Option<f64>> {
        self.try_scores(ran).unwrap_or_else(|problem| {
            tracing::warn!("members are not ranked: {problem:#}");
            vec![None; ran.len()]
        })
    }

    fn try_scores(&mut self, ran: &[(&Member, PathBuf)]) -> anyhow::Result<Vec<Option<f64>>> {
        let recipe = self.recipe.clone();
        let (dataset, sum) = self.dataset()?;
        let finished = ran.iter().map(|(_, dir)| {
            let summary = members::summary(dir)?;
            let same = summary["status"] == "finished" && summary["rows_sha256"] == **sum;
            same.then(|| Assignment::read_clusters(&dir.join(ASSIGNMENTS)).map(|(clusters, _)| clusters))
        });
        let clusterings: Vec<Option<Vec<(usize, i64)>>> =
            finished.map(Option::transpose).collect::<dec::Result<_>>()?;
        let measured = clusterings.iter().flatten().count();
        if measured == 0 {
            return Ok(vec![None; ran.len()]);
        }
        let mut count = vec![0; dataset.n_rows()];
        for &(row, _) in clusterings.iter().flatten().flatten() {
            if let Some(count) = count.get_mut(row) {
                *count += 1;
            }
        }
        let device = set_up_machine(&recipe.config)?;
        let trainer = DecValidParams::of_recipe(recipe)?.trainer(dataset, device)?;
        let in_all = |row| count.get(row) == Some(&measured);
        let yardstick = Yardstick::new(trainer.task(), in_all, &mut Control::new(&mut Stoppable))?;
        Ok(clusterings.iter().map(|clusters| yardstick.score(clusters.as_deref()?)).collect())
    }

    fn dataset(&mut self) -> anyhow::Result<&(Dataset, String)> {
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => {
                let dataset = load_data(&self.recipe.config)?;
                let sum = dataset.rows_sha256()?;
                (dataset, sum)
            }
        };
        Ok(self.loaded.insert(loaded))
    }
}
