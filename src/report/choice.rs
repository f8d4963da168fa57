//! What was found about the number of clusters: a table, a CSV and a plot.

use std::fmt::Write as _;

use super::text_table;
use crate::choose::{Choice, Trial};

/// A criterion: its name in the CSV, its title in the table and the plot, and its value.
struct Column {
    name: &'static str,
    title: &'static str,
    of: fn(&Trial) -> Option<f64>,
}

const COLUMNS: [Column; 7] = [
    Column { name: "separation", title: "separation", of: |trial| Some(trial.separation) },
    Column { name: "crossing", title: "crossing", of: |trial| trial.crossing },
    Column { name: "stability", title: "stability", of: |trial| Some(trial.stability) },
    Column { name: "stability_gaussian", title: "by chance", of: |trial| Some(trial.stability_gaussian) },
    Column { name: "silhouette", title: "silhouette", of: |trial| trial.silhouette },
    Column { name: "generalisability", title: "G", of: |trial| trial.generalisability },
    Column { name: "eigengap", title: "eigengap", of: |trial| trial.eigengap },
];

/// A line a number of clusters, the recommended one marked, and what is recommended in words.
pub fn choice_table(choice: &Choice) -> String {
    let mut header = vec!["k".to_owned()];
    header.extend(COLUMNS.iter().map(|column| column.title.to_owned()));
    header.push("recommended".to_owned());
    let rows = choice.trials.iter().map(|trial| {
        let mut row = vec![trial.k.to_string()];
        row.extend(
            COLUMNS
                .iter()
                .map(|column| (column.of)(trial).map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))),
        );
        row.push(if trial.k == choice.recommended { "<--".to_owned() } else { String::new() });
        row
    });
    let table = text_table(&std::iter::once(header).chain(rows).collect::<Vec<_>>());
    format!("{table}\n{choice}\n")
}

/// The same as comma-separated values, with all digits; cells are empty where a criterion is not defined.
pub fn choice_csv(choice: &Choice) -> String {
    let mut text = format!("k,{},recommended\n", COLUMNS.map(|column| column.name).join(","));
    for trial in &choice.trials {
        let cells = COLUMNS.iter().map(|column| (column.of)(trial).map_or_else(String::new, |value| value.to_string()));
        let cells = cells.collect::<Vec<_>>().join(",");
        let _ = writeln!(text, "{},{cells},{}", trial.k, u8::from(trial.k == choice.recommended));
    }
    text
}

const WIDTH: f64 = 640.0;
const PANEL: f64 = 92.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 36.0;

/// A panel for each criterion over the numbers of clusters, as SVG; a dashed line at the recommended one.
pub fn choice_svg(choice: &Choice) -> String {
    let panels: Vec<&Column> =
        COLUMNS.iter().filter(|column| choice.trials.iter().any(|trial| (column.of)(trial).is_some())).collect();
    let (first, last) = (choice.trials.first().map_or(2, |t| t.k), choice.trials.last().map_or(2, |t| t.k));
    let x = |k: usize| LEFT + (WIDTH - LEFT - RIGHT) * (k - first) as f64 / (last - first).max(1) as f64;
    let bottom = TOP + PANEL * panels.len() as f64;
    let height = bottom + 34.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"13\">recommended: {} clusters (margin {:.2})</text>\n",
        choice.recommended, choice.margin
    );
    for (number, column) in panels.into_iter().enumerate() {
        panel(&mut svg, choice, column, TOP + PANEL * number as f64, x);
    }
    let at = x(choice.recommended);
    let _ = writeln!(
        svg,
        "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#c33\" stroke-dasharray=\"4 3\"/>"
    );
    let step = (last - first).div_ceil(14).max(1);
    for k in (first..=last).filter(|k| (k - first) % step == 0) {
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{k}</text>", x(k), bottom + 15.0);
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ =
        writeln!(svg, "<text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">clusters</text>\n</svg>", bottom + 30.0);
    svg
}

/// One criterion, between its least and its greatest value.
fn panel(svg: &mut String, choice: &Choice, column: &Column, top: f64, x: impl Fn(usize) -> f64) {
    let points: Vec<(usize, f64)> =
        choice.trials.iter().filter_map(|trial| Some((trial.k, (column.of)(trial)?))).collect();
    let least = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let (above, below) = (top + 8.0, top + PANEL - 8.0);
    let y = |value: f64| below - (below - above) * (value - least) / (most - least).max(1e-12);
    let line: Vec<String> = points.iter().map(|&(k, value)| format!("{:.1},{:.1}", x(k), y(value))).collect();
    let _ = writeln!(
        svg,
        "<text x=\"8\" y=\"{:.1}\">{}</text>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{most:.3}</text>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{least:.3}</text>\n\
         <line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#2266aa\" stroke-width=\"1.5\"/>",
        (above + below) / 2.0 + 4.0,
        column.title,
        LEFT - 8.0,
        above + 4.0,
        LEFT - 8.0,
        below + 4.0,
        WIDTH - RIGHT,
        top + PANEL,
        top + PANEL,
        line.join(" ")
    );
    for &(k, value) in &points {
        let _ = writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\" fill=\"#2266aa\"/>", x(k), y(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice() -> Choice {
        let trial = |k: usize| Trial {
            k,
            separation: if k < 4 { 0.125 } else { 1.0 },
            stability: 1.0 / k as f64,
            silhouette: (k != 2).then_some(-0.25),
            ..Trial::default()
        };
        let trials = (2..6).map(trial).collect();
        Choice { recommended: 3, margin: 0.875, trials, n_rows: 100, seconds: 1.5 }
    }

    #[test]
    fn the_table_marks_what_is_recommended() {
        let table = choice_table(&choice());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 8, "{table}");
        assert!(lines[0].starts_with('k') && lines[0].ends_with("recommended"), "{table}");
        assert!(lines[2].starts_with("2       0.125         -      0.500      0.000           -"), "{table}");
        assert!(lines[3].ends_with("<--") && lines.iter().filter(|line| line.contains("<--")).count() == 1, "{table}");
        assert_eq!(lines[7], "recommended: 3 clusters, clear (margin 0.88)");
    }

    #[test]
    fn the_csv_has_every_digit_and_empty_cells() {
        let csv = choice_csv(&choice());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(
            lines[0],
            "k,separation,crossing,stability,stability_gaussian,silhouette,generalisability,eigengap,recommended"
        );
        assert_eq!(lines[1], "2,0.125,,0.5,0,,,,0");
        assert_eq!(lines[2], "3,0.125,,0.3333333333333333,0,-0.25,,,1");
    }

    #[test]
    fn the_plot_has_a_panel_for_each_criterion_that_is_known() {
        let svg = choice_svg(&choice());
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert_eq!(svg.matches("<circle").count(), 4 + 4 + 4 + 3);
        assert!(svg.contains("recommended: 3 clusters") && !svg.contains("NaN") && !svg.contains("inf"));
        let one = Choice { trials: choice().trials[..1].to_vec(), ..choice() };
        assert!(!choice_svg(&one).contains("NaN"), "one number alone");
    }
}
