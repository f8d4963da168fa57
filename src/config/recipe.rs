//! Recipes: TOML files, or the names of those that are built in, with overrides from the command line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::keys::set_value;
use super::{sweep, Config};
use crate::error::{Error, Result};

/// The recipes of `configs/`, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("default", include_str!("../../configs/default.toml")),
    ("fast", include_str!("../../configs/fast.toml")),
    ("best", include_str!("../../configs/best.toml")),
    ("notebook", include_str!("../../configs/notebook.toml")),
    ("dec-paper", include_str!("../../configs/dec-paper.toml")),
    ("idec", include_str!("../../configs/idec.toml")),
    ("dec-da", include_str!("../../configs/dec-da.toml")),
    ("idec-da", include_str!("../../configs/idec-da.toml")),
    ("aspc-da", include_str!("../../configs/aspc-da.toml")),
    ("seeds", include_str!("../../configs/seeds.toml")),
];

/// A named configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The recipe's name: that of the file, without its ending.
    pub name: String,
    /// Its settings, resolved against the defaults and validated.
    pub config: Config,
}

impl Recipe {
    /// Reads the recipe `source`: a path, or a name in [`BUILT_IN`].
    ///
    /// # Errors
    /// [`Error::Config`] naming the file and line, the key, what was found and what would be right.
    pub fn load(source: &str) -> Result<Self> {
        let built_in = BUILT_IN.iter().find(|(name, _)| *name == source);
        let (name, text) = match built_in {
            Some((name, text)) => ((*name).to_owned(), (*text).to_owned()),
            None => read(source)?,
        };
        let config: Config =
            toml::from_str(&text).map_err(|e| Error::Config(format!("{source}: {}", one_place(&e))))?;
        config.validate().map_err(|e| Error::Config(format!("{source}: {e}")))?;
        for key in config.sweep.keys() {
            sweep::check_key(&config, key).map_err(|e| Error::Config(format!("{source}: {e}")))?;
        }
        Ok(Self { name, config })
    }

    /// Whether the file of a recipe that is not built in says something about the top-level setting `key`.
    pub fn file_says(source: &str, key: &str) -> bool {
        let built_in = BUILT_IN.iter().any(|(name, _)| *name == source);
        let table = || read(source).ok().and_then(|(_, text)| text.parse::<toml::Table>().ok());
        !built_in && table().is_some_and(|table| table.contains_key(key))
    }

    /// Applies `overrides`, each `key=value`, in order.
    ///
    /// A value is read as TOML, and as a plain string where it does not look like TOML, so that `data.source=mnist` needs no
    /// quotes.
    ///
    /// # Errors
    /// [`Error::Config`] naming the override, the key, what was found and what would be right.
    pub fn set(&mut self, overrides: &[String]) -> Result<()> {
        for assignment in overrides {
            self.config = set(&self.config, assignment)?;
        }
        self.config.validate()
    }
}

/// Largest size of a recipe's file in bytes: 1 MiB.
const MAX_FILE: u64 = 1 << 20;

fn read(source: &str) -> Result<(String, String)> {
    let path = Path::new(source);
    let text = read_text(path).map_err(|problem| {
        let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        Error::Config(format!(
            "recipe {source}: {problem}; give the path of a TOML file or one of the built-in names: {}",
            names.join(", ")
        ))
    })?;
    let name = path.file_stem().map_or_else(|| source.to_owned(), |stem| stem.to_string_lossy().into_owned());
    Ok((name, text))
}

/// The text of a file that is small enough for a recipe; a device such as /dev/zero never ends.
fn read_text(path: &Path) -> std::result::Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("larger than 1 MiB, too large for a recipe".to_owned());
    }
    String::from_utf8(bytes).map_err(|e| format!("not UTF-8 text, from byte {} on", e.utf8_error().valid_up_to() + 1))
}

/// TOML's own message (it shows the line with a caret) without its trailing newline.
fn one_place(error: &toml::de::Error) -> String {
    error.to_string().trim_end().to_owned()
}

/// `config` with one `key=value` applied.
fn set(config: &Config, assignment: &str) -> Result<Config> {
    let (key, text) = assignment
        .split_once('=')
        .ok_or_else(|| Error::Config(format!("setting {assignment}: write it as section.key=value")))?;
    parse_value(text.trim())
        .and_then(|value| set_value(config, key.trim(), value))
        .map_err(|problem| Error::Config(format!("setting {assignment}: {problem}")))
}

/// A value as TOML; as a string where it begins like none of TOML's values.
fn parse_value(text: &str) -> std::result::Result<toml::Value, String> {
    #[derive(Deserialize)]
    struct Holder {
        value: toml::Value,
    }
    match toml::from_str::<Holder>(&format!("value = {text}")) {
        Ok(holder) => Ok(holder.value),
        Err(e) if text.starts_with(|c: char| c.is_ascii_digit() || "+-[{\"'".contains(c)) => {
            Err(format!("`{text}` is no TOML value: {}", e.message()))
        }
        Err(_) => Ok(toml::Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Scale;

    fn load(overrides: &[&str]) -> Result<Config> {
        let overrides: Vec<_> = overrides.iter().map(|&o| o.to_owned()).collect();
        let mut recipe = Recipe::load("default")?;
        recipe.set(&overrides)?;
        Ok(recipe.config)
    }

    #[test]
    fn the_default_recipe_says_what_the_defaults_are() {
        assert_eq!(load(&[]).unwrap(), Config::default());
    }

    #[test]
    fn every_built_in_recipe_loads_and_survives_a_round_trip() {
        for (name, _) in BUILT_IN {
            let recipe = Recipe::load(name).unwrap();
            let again: Config = toml::from_str(&recipe.config.to_toml().unwrap()).unwrap();
            assert_eq!(again, recipe.config, "{name}");
        }
    }

    #[test]
    fn overrides_reach_their_keys() {
        let config =
            load(&["seed=7", "data.scale=0.02", "data.source=mnist", "cluster.update_interval_steps = 160"]).unwrap();
        assert_eq!(config.seed, 7);
        assert_eq!(config.data.scale, Scale::Factor(0.02));
        assert_eq!(config.data.source, "mnist");
        assert_eq!(config.cluster.update_interval_steps, Some(160));
        assert_eq!(load(&["data.scale=0.02", "data.scale=auto"]).unwrap().data.scale, Scale::Auto);
        assert_eq!(load(&["data.scale=1"]).unwrap().data.scale, Scale::Factor(1.0));
    }

    #[test]
    fn a_bad_override_is_named_with_its_key_and_what_it_takes() {
        for (assignment, expected) in [
            ("cluster.tolerance=1", "unknown field `tolerance`"),
            ("clustre.tol=1", "unknown field `clustre`"),
            ("seed=abc", "seed: invalid type: string \"abc\", expected u64"),
            ("seed=-1", "-1"),
            ("seed.low=1", "`seed` is a setting, not a section"),
            ("cluster.tol", "section.key=value"),
            ("data.scale=big", "data.scale"),
            ("seed=18446744073709551616", "is no TOML value"),
            ("model.hidden=[1, 2", "is no TOML value"),
            ("pretrain.epochs=0", "pretrain.epochs = 0: must be at least 1"),
        ] {
            let message = load(&[assignment]).unwrap_err().to_string();
            assert!(message.contains(expected), "{assignment}: {message}");
        }
    }

    #[test]
    fn a_bad_recipe_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, "seed = 1\n[cluster]\ntolerance = 0.1\n").unwrap();
        let message = Recipe::load(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(
            message.contains("mine.toml") && message.contains("line 3") && message.contains("tolerance"),
            "{message}"
        );
        assert!(message.contains("`tol`"), "says what would be right: {message}");
    }

    #[test]
    fn a_file_that_is_no_recipe_is_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            Recipe::load(path.to_str().unwrap()).unwrap_err().to_string()
        };
        let mut comment = vec![b'#'; MAX_FILE as usize + 1];
        let message = refusal("large.toml", &comment);
        assert!(message.contains("large.toml: larger than 1 MiB") && message.contains("default"), "{message}");
        let message = refusal("latin1.toml", b"# caf\xe9\n");
        assert!(message.contains("latin1.toml: not UTF-8 text, from byte 6 on"), "{message}");

        comment.pop();
        let path = dir.path().join("largest.toml");
        std::fs::write(&path, comment).unwrap();
        assert_eq!(Recipe::load(path.to_str().unwrap()).unwrap().config, Config::default());
    }
}
