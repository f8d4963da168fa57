//! The setting `data.scale`.

use serde::{Deserialize, Serialize};

/// How raw values are scaled before the network sees them ([`Scaling`](super::Scaling) does it).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(
    rename_all = "lowercase",
    expecting = "a number, \"auto\", \"centre\", \"standardise\", \"counts\" or \"unit\""
)]
pub enum Scale {
    /// Chosen by what the rows are: [`Scaling::new`](super::Scaling::new).
    Auto,
    /// Each feature less its mean, over its own standard deviation.
    Standardise,
    /// Each feature less its mean, over one deviation for all features.
    Centre,
    /// For counts: each row brought to one total, ln(1 + x) of that, then as [`Scale::Centre`].
    Counts,
    /// For directions, as embeddings and weights of words are: each row brought to length 1, then as [`Scale::Centre`].
    Unit,
    /// Every value times this factor, above 0.
    #[serde(untagged)]
    Factor(f64),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        scale: Scale,
    }

    #[test]
    fn words_and_numbers_survive_toml() {
        for (text, scale) in [
            ("\"auto\"", Scale::Auto),
            ("\"standardise\"", Scale::Standardise),
            ("\"centre\"", Scale::Centre),
            ("\"counts\"", Scale::Counts),
            ("\"unit\"", Scale::Unit),
            ("0.02", Scale::Factor(0.02)),
        ] {
            let text = format!("scale = {text}\n");
            assert_eq!(toml::from_str::<Holder>(&text).unwrap(), Holder { scale });
            assert_eq!(toml::to_string(&Holder { scale }).unwrap(), text);
        }
        assert_eq!(toml::from_str::<Holder>("scale = 2").unwrap(), Holder { scale: Scale::Factor(2.0) });
    }

    #[test]
    fn anything_else_is_told_what_is_expected() {
        for text in ["\"big\"", "true", "[1.0]", "\"Auto\""] {
            let problem = toml::from_str::<Holder>(&format!("scale = {text}")).unwrap_err();
            assert_eq!(
                problem.message(),
                "a number, \"auto\", \"centre\", \"standardise\", \"counts\" or \"unit\"",
                "{text}"
            );
        }
    }
}
