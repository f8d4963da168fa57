//! Tables of plain text.

use crate::control::{Method, MethodResult};

/// The closing table of a run, a row a method: ACC, NMI and ARI where there are labels, the silhouette where there are
/// none, inertia and seconds.
pub fn results_table(results: &[MethodResult]) -> String {
    let labelled = results.iter().any(|result| result.acc.is_some());
    let scores: &[&str] = if labelled { &["ACC", "NMI", "ARI"] } else { &["silhouette"] };
    let header = [&["method"], scores, &["inertia", "seconds"]].concat().into_iter().map(str::to_owned).collect();
    let rows = results.iter().map(|result| {
        let scores = if labelled { vec![result.acc, result.nmi, result.ari] } else { vec![result.silhouette] };
        let mut row = vec![title(result.method).to_owned()];
        row.extend(scores.into_iter().map(|score| score.map_or_else(|| "-".to_owned(), |s| format!("{s:.4}"))));
        row.push(short(result.inertia));
        row.push(format!("{:.1}", result.seconds));
        row
    });
    text_table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

/// Rows of cells as aligned text, the first column to the left and the others to the right, a rule under the first row.
pub fn text_table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width_of =
        |column| rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width_of(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        if i == 0 {
            text.push_str(&"─".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1)));
            text.push('\n');
        }
    }
    text
}

pub(super) fn title(method: Method) -> &'static str {
    match method {
        Method::KMeans => "k-means on the scaled rows",
        Method::AutoencoderKMeans => "autoencoder + k-means",
        Method::Start => "first assignment",
        Method::Dec => "DEC",
    }
}

/// A number of five significant digits, in plain notation while that is short.
fn short(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e7).contains(&value.abs()) {
        return format!("{value:.4e}");
    }
    let digits_before = value.abs().max(1.0).log10().floor() as usize + 1;
    format!("{value:.*}", 5usize.saturating_sub(digits_before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(acc: Option<f64>, silhouette: Option<f64>) -> MethodResult {
        MethodResult { method: Method::Dec, acc, nmi: acc, ari: acc, silhouette, inertia: 12345.678, seconds: 1.25 }
    }

    #[test]
    fn scores_follow_what_is_known() {
        let labelled = results_table(&[result(Some(0.98765), None)]);
        assert!(labelled.starts_with("method     ACC     NMI     ARI  inertia  seconds\n"), "{labelled}");
        assert!(labelled.contains("DEC     0.9877  0.9877  0.9877    12346      1.2"), "{labelled}");
        let unlabelled = results_table(&[result(None, Some(0.5))]);
        assert!(unlabelled.contains("silhouette") && unlabelled.contains("0.5000") && !unlabelled.contains("ACC"));
    }

    #[test]
    fn numbers_stay_short() {
        for (value, text) in [
            (0.0, "0.0000"),
            (0.5, "0.5000"),
            (12.3456, "12.346"),
            (99999.5, "100000"),
            (1.5e9, "1.5000e9"),
            (1e-9, "1.0000e-9"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
