//! `dec config`: the resolved recipe.

use clap::Args;
use dec::config::BUILT_IN;

use super::recipe::RecipeArgs;

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// List the built-in recipes, each with what it is
    #[arg(long)]
    list: bool,

    #[command(flatten)]
    recipe: RecipeArgs,
}

impl ConfigArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        if self.list {
            return super::print(&recipes());
        }
        self.recipe.refuse_auto()?;
        super::print(&self.recipe.resolve()?.config.to_toml()?)
    }
}

/// A line a recipe: its name, and the first line of its file, a comment.
fn recipes() -> String {
    let summary = |text: &'static str| text.lines().next().unwrap_or_default().trim_start_matches('#').trim();
    BUILT_IN.iter().map(|(name, text)| format!("{name:<10} {}\n", summary(text))).collect()
}
