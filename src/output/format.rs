//! The formats of a table, by name and by file extension.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Header;
use crate::error::{Error, Result};

/// The format of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// Comma-separated text, `.csv`. Cells are quoted where they have to be. An id that begins with `=`, `+`, `-` or `@` stays
    /// as it is: a spreadsheet may take it for a formula.
    #[default]
    Csv,
    /// The same, separated by tabs, `.tsv`.
    Tsv,
    /// Parquet, `.parquet` or `.pq`: Snappy, row groups of up to 65,536 rows.
    Parquet,
    /// NumPy arrays: the clusters, int64 \[n\], in `NAME.npy`; the latent codes, float32 \[n, m\], in `NAME.embedding.npy`; the soft
    /// assignments, float32 \[n, k\], in `NAME.memberships.npy`. Other columns are left out, see [`OutputFormat::leaves_out`].
    Npy,
    /// Arrow IPC file, also called Feather V2, `.arrow` or `.feather`: LZ4.
    Arrow,
    /// AnnData, `.h5ad`: `obs["dec"]` (categories "0", "1", …; unsure rows have none), `obs["dec_confidence"]`,
    /// `obs["dec_name"]` where clusters have names, `obs["dec_second"]`, `obs["dec_entropy"]`, `obs["dec_outlier"]`, `obsm["X_dec"]` and `obsm["dec_memberships"]`.
    H5ad,
}

/// Every format with its name and its extensions.
const FORMATS: [(OutputFormat, &str, &[&str]); 6] = [
    (OutputFormat::Csv, "csv", &["csv"]),
    (OutputFormat::Tsv, "tsv", &["tsv"]),
    (OutputFormat::Parquet, "parquet", &["parquet", "pq"]),
    (OutputFormat::Npy, "npy", &["npy"]),
    (OutputFormat::Arrow, "arrow", &["arrow", "feather"]),
    (OutputFormat::H5ad, "h5ad", &["h5ad"]),
];

impl OutputFormat {
    /// Its name, which [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|(format, ..)| *format == self).map_or("", |(_, name, _)| name)
    }

    /// The extension that its files usually have.
    pub fn extension(self) -> &'static str {
        FORMATS.iter().find(|(format, ..)| *format == self).map_or("", |(_, _, extensions)| extensions[0])
    }

    /// The format that the extension of `path` stands for; CSV for `-`, which is standard output.
    ///
    /// # Errors
    /// [`Error::Output`] with the extensions that are known.
    pub fn of(path: &Path) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::Csv);
        }
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let known = |extension: &str| FORMATS.iter().find(|(_, _, all)| all.contains(&extension));
        if let Some((format, ..)) = extension.as_deref().and_then(known) {
            return Ok(*format);
        }
        let all: Vec<String> = FORMATS.iter().flat_map(|(_, _, all)| *all).map(|one| format!(".{one}")).collect();
        let found = extension.map_or("no extension".to_owned(), |extension| format!("the extension .{extension}"));
        Err(Error::output(path, format!("{found} stands for no format of a table; use one of {}", all.join(", "))))
    }

    /// The names of what `header` asks for and this format does not hold.
    pub fn leaves_out(self, header: &Header) -> Vec<&'static str> {
        let scores = header.scores;
        let columns = match self {
            Self::Npy => vec![
                ("id", header.has_ids),
                ("name", !header.names.is_empty()),
                ("confidence", true),
                ("second", scores.second),
                ("entropy", scores.entropy),
                ("outlier", scores.outlier),
            ],
            _ => vec![],
        };
        columns.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
    }
}

impl FromStr for OutputFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = FORMATS.iter().find(|(_, name, all)| *name == text || all.contains(&text));
        found.map(|(format, ..)| *format).ok_or_else(|| {
            let names: Vec<&str> = FORMATS.iter().map(|(_, name, _)| *name).collect();
            format!("\"{text}\" is no format of a table; use one of {}", names.join(", "))
        })
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_format_has_a_name_and_extensions() {
        for (format, name, extensions) in FORMATS {
            assert_eq!(name.parse(), Ok(format));
            assert_eq!(format.to_string(), name);
            for extension in extensions {
                assert_eq!(OutputFormat::of(Path::new(&format!("a/b.{}", extension.to_uppercase()))).unwrap(), format);
            }
        }
        assert_eq!(OutputFormat::of(Path::new("-")).unwrap(), OutputFormat::Csv);
    }

    #[test]
    fn other_extensions_are_told_which_there_are() {
        let text = OutputFormat::of(Path::new("out.xlsx")).unwrap_err().to_string();
        let all = "use one of .csv, .tsv, .parquet, .pq, .npy, .arrow, .feather, .h5ad";
        assert!(text.starts_with("out.xlsx: the extension .xlsx") && text.ends_with(all), "{text}");
        assert!(OutputFormat::of(Path::new("out")).unwrap_err().to_string().contains("no extension"));
        assert!("xlsx".parse::<OutputFormat>().unwrap_err().contains("csv, tsv, parquet"));
    }
}
