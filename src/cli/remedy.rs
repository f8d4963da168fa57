//! What a person can do about an error, in terms of the command line.

use dec::error::Collapse;
use dec::Error;

/// Options that may help; `None` where the message says it all.
pub fn remedy(error: &Error) -> Option<String> {
    match error {
        Error::Diverged { stage, learning_rate, .. } => Some(format!(
            "lower the rate (--set {}.lr={:?}) or scale the rows down (--set data.scale=…)",
            section(stage),
            learning_rate / 10.0
        )),
        Error::Collapsed { of: Collapse::Latent, .. } => {
            Some("train it longer (--set pretrain.epochs=…), or scale the rows up (--set data.scale=…)".to_owned())
        }
        Error::Collapsed { of: Collapse::Clusters, .. } => Some(
            "look for rows far from all others, or lower the rate of self-training (--set cluster.lr=…)".to_owned(),
        ),
        _ => None,
    }
}

/// The recipe's section that a stage's settings are in.
fn section(stage: &str) -> &'static str {
    if stage.starts_with("pretrain") {
        "pretrain"
    } else if stage == "finetune" {
        "finetune"
    } else {
        "cluster"
    }
}
