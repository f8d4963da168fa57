//! `report.html`: a run on one page that loads nothing from elsewhere.
//!
//! [`render`] takes a [`Report`], plain data that the caller fills, and gives the page. Names, messages and labels may hold
//! anything: they are shown as text. The page's Content-Security-Policy allows its own script alone, by its SHA-256.
//!
//! The page stays below a number of bytes ([`LIMIT`]): it leaves out pictures first, then columns to colour by and names of
//! rows, then points of the map, and says so.
//!
//! ```
//! use dec::report::page::{render, Cluster, Points, Report};
//! let mut report = Report::default();
//! report.run.data = "two <b>bold</b> rows".to_owned();
//! report.clusters = vec![Cluster { size: 2, ..Cluster::default() }];
//! report.points = Some(Points { cluster: vec![0, 0], ..Points::default() });
//! let page = render(&report)?;
//! assert!(page.html.contains("two &lt;b&gt;bold&lt;"));
//! assert!(page.left_out.is_empty());
//! # Ok::<(), dec::report::page::PageError>(())
//! ```

mod bounds;
mod charts;
mod check;
mod input;
mod pack;
mod palette;
mod pictures;
mod points;
mod sprite;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod verdict;
mod view;

use base64::prelude::{Engine, BASE64_STANDARD};
use minijinja::value::Serde;
use minijinja::{context, Environment, UndefinedBehavior, Value};
use sha2::{Digest, Sha256};

use bounds::Cut;
pub use input::*;
pub use sweep::{render_sweep, Sweep, SweepMember};
pub use verdict::{DOUBTFUL, SURE};

/// Bytes that a page has at most.
pub const LIMIT: usize = 5_000_000;

const TEMPLATE: &str = include_str!("page/page.html");
/// Who may load what, and the style: the same for every page.
const HEAD: &str = include_str!("page/head.html");
const MACROS: &str = include_str!("page/macros.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n",
    include_str!("page/theme.js"),
    include_str!("page/data.js"),
    include_str!("page/raster.js"),
    include_str!("page/map.js"),
    include_str!("page/panel.js"),
    include_str!("page/main.js"),
    "})();\n"
);

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The file.
    pub html: String,
    /// What was left out so that the page stays small; the page says so too.
    pub left_out: Vec<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// A list whose length does not fit the others.
    #[error("report: {what}: {found} values, where there should be {expected}")]
    Shape {
        /// The list.
        what: String,
        /// Values in it.
        found: usize,
        /// Values that would fit.
        expected: usize,
    },
    /// A number that points at nothing.
    #[error("report: {what}: {found} is not below {limit}")]
    Range {
        /// The list.
        what: String,
        /// The number.
        found: u64,
        /// What it must be below.
        limit: u64,
    },
    /// The page is too large even without points and pictures.
    #[error("report: the page has {bytes} bytes at least, more than {limit}")]
    TooLarge {
        /// Bytes of the smallest page.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The pictures could not be encoded.
    #[error("report: pictures: {0}")]
    Picture(#[from] png::EncodingError),
    /// The points could not be packed.
    #[error("report: points: {0}")]
    Pack(#[from] std::io::Error),
    /// The script's data could not be written.
    #[error("report: data: {0}")]
    Data(#[from] serde_json::Error),
    /// The template could not be filled.
    #[error("report: template: {0:#}")]
    Template(#[from] minijinja::Error),
}

/// The page of a report, below [`LIMIT`] bytes.
///
/// # Errors
/// [`PageError`]; a report whose lists fit each other has a page.
pub fn render(report: &Report) -> Result<Page, PageError> {
    render_within(report, LIMIT)
}

/// The page of a report, of at most `limit` bytes.
///
/// # Errors
/// Those of [`render`]; [`PageError::TooLarge`] where the limit is below what a page needs.
pub fn render_within(report: &Report, limit: usize) -> Result<Page, PageError> {
    check::check(report)?;
    let mut cut = Cut::none(report);
    loop {
        let (page, weights) = assemble(report, &cut)?;
        if page.html.len() <= limit {
            return Ok(page);
        }
        if !cut.tighten(&weights, page.html.len() - limit) {
            return Err(PageError::TooLarge { bytes: page.html.len(), limit });
        }
    }
}

/// Makes the page with what the cut leaves.
fn assemble(report: &Report, cut: &Cut) -> Result<(Page, bounds::Weights), PageError> {
    let order = view::order(report);
    let gallery = pictures::gallery(report, &order, cut);
    let packed = points::pack(report, cut, &gallery)?;
    let sheet = gallery.png()?;
    let weights =
        bounds::Weights { pictures: sheet.len(), picture_count: gallery.count(), points: packed.base64.len() };
    let left_out = cut.notes(report, &gallery);
    let own = context! {
        kind => "clusters",
        images => "data: blob:",
        data => text::script_json(&packed.json),
        points => packed.base64,
        left_out => &left_out,
        view => Value::from(Serde(view::view(report, &order, &gallery, cut))),
    };
    let html = filled(TEMPLATE, &style(&gallery, &sheet), SCRIPT, own)?;
    Ok((Page { html, left_out }, weights))
}

/// A page from its template. `own` has what that asks for, and `head.html`: the `view`, what `kind` of page it is, and where
/// `images` may come from.
fn filled(template: &str, style: &str, script: &str, own: Value) -> Result<String, PageError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template("head.html", HEAD)?;
    environment.add_template("macros.html", MACROS)?;
    environment.add_template("page.html", template)?;
    let script_hash = BASE64_STANDARD.encode(Sha256::digest(script.as_bytes()));
    Ok(environment.get_template("page.html")?.render(context! { style, script, script_hash, ..own })?)
}

/// The style sheet: the fixed part, the colours, and the sprite sheet as the background of every picture.
fn style(gallery: &pictures::Gallery, sheet: &str) -> String {
    let mut style = coloured();
    if let Some((columns, rows, width, height)) = gallery.size() {
        style.push_str(&format!(
            ":root{{--cols:{columns};--rows:{rows};--tw:{width};--th:{height};--small:{};--large:{}}}\n.px{{background-image:url(\"data:image/png;base64,{sheet}\")}}\n",
            zoom(width.max(height), 33.0),
            zoom(width.max(height), 92.0),
        ));
    }
    style
}

/// The fixed part of the style sheet, and the colours.
fn coloured() -> String {
    let mut style = STYLE.to_owned();
    for (number, colour) in palette::COLOURS.iter().enumerate() {
        style.push_str(&format!(".c{number}{{--c:{colour}}}\n"));
    }
    for scope in [
        "@media screen{:root[data-theme=\"dark\"]",
        "@media screen and (prefers-color-scheme:dark){:root:not([data-theme=\"light\"])",
    ] {
        for (number, colour) in palette::COLOURS.iter().enumerate() {
            style.push_str(&format!("{scope} .c{number}{{--c:{}}}}}\n", palette::on_dark(colour)));
        }
    }
    style
}

/// How much a picture is enlarged to be about `wanted` pixels long: small ones by a whole number, so that their pixels stay alike.
fn zoom(side: usize, wanted: f64) -> f64 {
    let ratio = wanted / side as f64;
    if side < 16 {
        ratio.round()
    } else {
        (ratio * 100.0).round().max(1.0) / 100.0
    }
}
