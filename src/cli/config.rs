//! `dec config`: the resolved recipe.

use clap::Args;

use super::recipe::RecipeArgs;

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
}

impl ConfigArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        super::print(&self.recipe.resolve()?.config.to_toml()?)
    }
}
