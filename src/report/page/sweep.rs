//! The page of a sweep: its members as lines through parallel axes (Inselberg 1985), and as a table.

use minijinja::value::Serde;
use minijinja::{context, Value};
use serde::Serialize;

use super::charts::{coordinate, Axis, Tick};
use super::{text, PageError};

const TEMPLATE: &str = include_str!("sweep.html");
const STYLE: &str = include_str!("sweep.css");
const SCRIPT: &str =
    concat!("(() => {\n\"use strict\";\n", include_str!("theme.js"), include_str!("sweep.js"), "})();\n");

/// Lines that are drawn at most, those of the best members.
const LINES: usize = 300;
/// Members that the table has at most.
const ROWS: usize = 2_000;
/// Axes at most.
const AXES: usize = 12;
/// Values of an axis of words that are named.
const WORDS: usize = 24;
/// Steps of the colours' ramp.
const SHADES: usize = 5;
/// Pixels between axes, and around them.
const STEP: f64 = 150.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 330.0;

/// A sweep, its best member first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sweep {
    /// What it is called.
    pub title: String,
    /// The data.
    pub data: String,
    /// The settings that vary, as dotted keys.
    pub keys: Vec<String>,
    /// The numbers that each member came to, such as `score`, `ACC`. Of all but those called `inertia` more is better.
    pub numbers: Vec<String>,
    /// The members, best first.
    pub members: Vec<SweepMember>,
    /// Facts about the sweep as a whole, with their names.
    pub facts: Vec<(String, String)>,
    /// How members were ranked, and what else a reader should know.
    pub notes: Vec<String>,
}

/// A member of a sweep.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SweepMember {
    /// Its name.
    pub name: String,
    /// The values of [`Sweep::keys`].
    pub values: Vec<String>,
    /// `finished`, or what else became of it.
    pub status: String,
    /// [`Sweep::numbers`].
    pub numbers: Vec<Option<f64>>,
    /// Seconds that it took.
    pub seconds: Option<f64>,
    /// What it had from other members.
    pub shared: String,
    /// Its page, relative to the sweep's; none where there is none.
    pub link: Option<String>,
}

#[derive(Debug, Serialize)]
struct View {
    title: String,
    data: String,
    tiles: Vec<(String, String)>,
    notes: Vec<String>,
    keys: Vec<String>,
    numbers: Vec<String>,
    rows: Vec<RowView>,
    plot: Option<Plot>,
    left_out: String,
}

#[derive(Debug, Serialize)]
struct RowView {
    place: usize,
    name: String,
    link: Option<String>,
    values: Vec<String>,
    status: String,
    finished: bool,
    /// What is shown, and what it is sorted by.
    numbers: Vec<(String, String)>,
    seconds: (String, String),
    shared: String,
}

/// Parallel coordinates.
#[derive(Debug, Serialize)]
struct Plot {
    width: String,
    axes: Vec<AxisView>,
    lines: Vec<LineView>,
    note: String,
}

#[derive(Debug, Serialize)]
struct AxisView {
    at: String,
    name: String,
    ticks: Vec<Tick>,
    result: bool,
}

#[derive(Debug, Serialize)]
struct LineView {
    member: usize,
    shade: usize,
    path: String,
    name: String,
}

/// The page of a sweep.
///
/// ```
/// use dec::report::page::{render_sweep, Sweep, SweepMember};
/// let member = SweepMember { name: "<b>".to_owned(), values: vec!["0.1".to_owned()], ..SweepMember::default() };
/// let page = render_sweep(&Sweep { keys: vec!["cluster.lr".to_owned()], members: vec![member], ..Sweep::default() })?;
/// assert!(page.contains("&lt;b&gt;"));
/// # Ok::<(), dec::report::page::PageError>(())
/// ```
///
/// # Errors
/// [`PageError::Shape`] for a member without a value for each key or number.
pub fn render_sweep(sweep: &Sweep) -> Result<String, PageError> {
    for member in &sweep.members {
        for (what, found, expected) in
            [("values", member.values.len(), sweep.keys.len()), ("numbers", member.numbers.len(), sweep.numbers.len())]
        {
            if found != expected {
                return Err(PageError::Shape { what: format!("members.{what}"), found, expected });
            }
        }
    }
    let own = context! { kind => "sweep", images => "data:", view => Value::from(Serde(view(sweep))) };
    super::filled(TEMPLATE, &(super::coloured() + STYLE), SCRIPT, own)
}

fn view(sweep: &Sweep) -> View {
    let members = sweep.members.iter().take(ROWS).enumerate();
    let left = sweep.members.len().saturating_sub(ROWS);
    View {
        title: text::name(&sweep.title),
        data: text::name(&sweep.data),
        tiles: sweep.facts.iter().map(|(name, value)| (text::name(name), text::name(value))).collect(),
        notes: sweep.notes.iter().map(|note| text::sentence(note)).collect(),
        keys: sweep.keys.iter().map(|key| text::name(key)).collect(),
        numbers: sweep.numbers.iter().map(|name| text::name(name)).collect(),
        rows: members.map(|(place, member)| row(place, member)).collect(),
        plot: plot(sweep),
        left_out: if left > 0 {
            format!("The table leaves out {left} members, which sweep.csv has.")
        } else {
            String::new()
        },
    }
}

fn row(place: usize, member: &SweepMember) -> RowView {
    let number = |value: Option<f64>| {
        value.map_or_else(|| ("–".to_owned(), String::new()), |v| (text::number(v), v.to_string()))
    };
    let seconds = member.seconds;
    RowView {
        place: place + 1,
        name: text::name(&member.name),
        link: member.link.as_deref().map(encoded),
        values: member.values.iter().map(|value| text::name(value)).collect(),
        status: text::name(&member.status),
        finished: member.status == "finished",
        numbers: member.numbers.iter().map(|&value| number(value)).collect(),
        seconds: (
            seconds.map_or_else(|| "–".to_owned(), text::duration),
            seconds.map_or_else(String::new, |s| s.to_string()),
        ),
        shared: text::sentence(&member.shared),
    }
}

/// A relative path as a link: whatever it is called, it is no scheme and no other host.
fn encoded(path: &str) -> String {
    let mut link = "./".to_owned();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b',' => link.push(char::from(byte)),
            other => link.push_str(&format!("%{other:02X}")),
        }
    }
    link
}

/// An axis with the place of each member on it.
struct Placed {
    view: AxisView,
    places: Vec<Option<f64>>,
}

fn plot(sweep: &Sweep) -> Option<Plot> {
    let drawn: Vec<&SweepMember> =
        sweep.members.iter().take(LINES).filter(|member| member.numbers.iter().any(Option::is_some)).collect();
    let key = |at: usize| drawn.iter().map(|member| member.values[at].as_str()).collect::<Vec<_>>();
    let number = |at: usize| drawn.iter().map(|member| member.numbers[at]).collect::<Vec<_>>();
    let results = (0..sweep.numbers.len()).filter(|&at| number(at).iter().any(Option::is_some)).take(2);
    let varied: Vec<usize> =
        (0..sweep.keys.len()).filter(|&at| key(at).iter().any(|value| *value != key(at)[0])).collect();
    let mut axes: Vec<Placed> = varied.iter().take(AXES - 2).map(|&at| of_key(&sweep.keys[at], &key(at))).collect();
    axes.extend(results.map(|at| of_numbers(&sweep.numbers[at], &number(at), true)));
    if drawn.is_empty() || axes.len() < 2 {
        return None;
    }
    for (place, axis) in axes.iter_mut().enumerate() {
        axis.view.at = coordinate(LEFT + STEP * place as f64);
    }
    let mut lines: Vec<LineView> =
        drawn.iter().enumerate().map(|(i, member)| line(i, member, drawn.len(), &axes)).collect();
    lines.reverse(); // the best on top
    let left = sweep.members.len() - drawn.len();
    Some(Plot {
        width: coordinate(2.0 * LEFT + STEP * (axes.len() - 1) as f64),
        note: match (left, varied.len().saturating_sub(AXES - 2)) {
            (0, 0) => String::new(),
            (left, 0) => format!("{left} members are not drawn."),
            (left, axes) => format!("{left} members and {axes} settings are not drawn."),
        },
        axes: axes.into_iter().map(|axis| axis.view).collect(),
        lines,
    })
}

fn line(place: usize, member: &SweepMember, of: usize, axes: &[Placed]) -> LineView {
    let mut path = String::new();
    let mut pen_down = false;
    for (at, axis) in axes.iter().enumerate() {
        match axis.places[place] {
            Some(y) => {
                path += &format!(
                    "{}{} {}",
                    if pen_down { "L" } else { "M" },
                    coordinate(LEFT + STEP * at as f64),
                    coordinate(y)
                );
                pen_down = true;
            }
            None => pen_down = false,
        }
    }
    let shade = SHADES - 1 - (place * SHADES / of.max(1)).min(SHADES - 1);
    LineView { member: place + 1, shade, path, name: text::name(&member.name) }
}

/// The axis of a setting: of numbers, where all its values are such, else of words in their order.
fn of_key(name: &str, values: &[&str]) -> Placed {
    let numbers: Vec<Option<f64>> =
        values.iter().map(|value| value.parse().ok().filter(|number: &f64| number.is_finite())).collect();
    if numbers.iter().all(Option::is_some) {
        return of_numbers(name, &numbers, false);
    }
    let mut words: Vec<&str> = values.to_vec();
    words.sort_unstable();
    words.dedup();
    let place = |word: &str| {
        let place = words.iter().position(|known| *known == word).unwrap_or(0) as f64;
        BOTTOM - (place + 0.5) / words.len() as f64 * (BOTTOM - TOP)
    };
    let every = words.len().div_ceil(WORDS);
    let ticks =
        words.iter().step_by(every).map(|word| Tick { at: coordinate(place(word)), label: short(word) }).collect();
    Placed {
        places: values.iter().map(|word| Some(place(word))).collect(),
        view: AxisView { at: String::new(), name: short(name), ticks, result: false },
    }
}

fn of_numbers(name: &str, values: &[Option<f64>], result: bool) -> Placed {
    let finite = || values.iter().flatten().copied().filter(|value| value.is_finite());
    let (low, high) = finite().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let log = !result && low > 0.0 && high / low >= 50.0;
    let axis = Axis::new(finite(), BOTTOM, TOP, log, false);
    Placed {
        places: values.iter().map(|value| value.filter(|v| v.is_finite()).map(|v| axis.place(v))).collect(),
        view: AxisView { at: String::new(), name: short(name), ticks: axis.ticks(5), result },
    }
}

/// What fits between two axes.
fn short(word: &str) -> String {
    const MOST: usize = 22;
    let name = text::name(word);
    if name.chars().count() <= MOST {
        return name;
    }
    name.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use base64::prelude::{Engine, BASE64_STANDARD};
    use sha2::{Digest, Sha256};

    fn sweep(values: &[&[&str]]) -> Sweep {
        let member = |(place, values): (usize, &&[&str])| SweepMember {
            name: format!("member {place}"),
            values: values.iter().map(|&value| value.to_owned()).collect(),
            status: "finished".to_owned(),
            numbers: vec![Some(1.0 - place as f64 / 10.0), None],
            link: Some(format!("m{place}/report.html")),
            ..SweepMember::default()
        };
        Sweep {
            keys: (0..values[0].len()).map(|at| format!("key{at}")).collect(),
            numbers: vec!["score".to_owned(), "ACC".to_owned()],
            members: values.iter().enumerate().map(member).collect(),
            ..Sweep::default()
        }
    }

    #[test]
    fn a_setting_that_varies_is_an_axis_and_a_member_a_line() {
        let plot = plot(&sweep(&[&["0.001", "7", "dec"], &["0.1", "7", "idec"], &["0.01", "7", "dec"]])).unwrap();
        let names: Vec<&str> = plot.axes.iter().map(|axis| axis.name.as_str()).collect();
        assert_eq!(names, ["key0", "key2", "score"]);
        assert_eq!(plot.lines.len(), 3);
        let best = plot.lines.last().unwrap();
        assert_eq!((best.member, best.shade, best.path.as_str()), (1, 4, "M90 330L240 257.5L390 40"));
        assert!(plot.lines[0].path.starts_with("M90 185"), "on a scale of powers: {}", plot.lines[0].path);
    }

    #[test]
    fn names_and_values_stay_text_and_links_stay_here() {
        let evil = "</script><script>alert(1)</script>\u{202e}";
        let mut hostile = sweep(&[&[evil], &["\"onload=x"]]);
        hostile.title = evil.to_owned();
        hostile.members[0].name = evil.to_owned();
        hostile.members[0].link = Some("javascript:alert(1)".to_owned());
        hostile.members[1].link = Some("//evil.example/\"x".to_owned());
        hostile.facts = vec![(evil.to_owned(), evil.to_owned())];
        hostile.notes = vec![evil.to_owned()];
        let page = render_sweep(&hostile).unwrap().replace("&#x2f;", "/");
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("<script>alert") && !page.contains('\u{202e}') && !page.contains("\"onload"));
        assert!(page.contains("href=\"./javascript%3Aalert%281%29\""));
        assert!(page.contains("href=\".///evil.example/%22x\""), "a path, not a host");
    }

    #[test]
    fn the_script_is_the_one_that_the_policy_allows() {
        let page = render_sweep(&sweep(&[&["1"], &["2"]])).unwrap();
        let script = page.rsplit("<script>").next().unwrap().split("</script>").next().unwrap();
        let hash = BASE64_STANDARD.encode(Sha256::digest(script.as_bytes()));
        assert!(page.contains(&format!("script-src 'sha256-{hash}'")));
        for source in [crate::report::page::HEAD, TEMPLATE, STYLE, SCRIPT] {
            assert!(!source.contains("http:") && !source.contains("https:") && !source.contains("innerHTML"));
        }
    }

    #[test]
    fn odd_sweeps_have_a_page() {
        assert!(render_sweep(&Sweep::default()).is_ok());
        let mut one = sweep(&[&["1"]]);
        one.members[0].numbers = vec![Some(f64::NAN), Some(f64::INFINITY)];
        assert!(render_sweep(&one).is_ok());
        one.members[0].values.clear();
        assert!(render_sweep(&one).unwrap_err().to_string().contains("members.values"));
        let many: Vec<Vec<String>> = (0..3000).map(|i| vec![format!("w{i}")]).collect();
        let many: Vec<Vec<&str>> = many.iter().map(|values| values.iter().map(String::as_str).collect()).collect();
        let page = render_sweep(&sweep(&many.iter().map(Vec::as_slice).collect::<Vec<_>>())).unwrap();
        assert!(page.contains("leaves out 1000 members") && page.contains("2700 members are not drawn"));
    }
}
