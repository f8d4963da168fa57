//! Rows for TensorBoard's projector, which shows them in two or three dimensions.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::picture::Tiles;
use crate::error::{Error, Result};
use crate::files::write_atomic;

const TENSORS: &str = "tensors.tsv";
const METADATA: &str = "metadata.tsv";
const SPRITE: &str = "sprite.png";
/// TensorBoard looks for this name.
const CONFIG: &str = "projector_config.pbtxt";
/// Browsers show no larger sprite; in pixels.
const LARGEST_SIDE: u32 = 8192;

/// Something that is known of each row: its cluster, its class.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// The name, by which points can be coloured.
    pub name: &'a str,
    /// One for each row.
    pub values: &'a [String],
}

/// Writes `rows` \[n, `width`\], row by row, to the log directory `dir`, with what is known of each: `tensors.tsv`,
/// `metadata.tsv` (where there are columns), `sprite.png` (where there are thumbnails), and last `projector_config.pbtxt`, which
/// names them.
///
/// `thumbnails` are small images, one for each row, shown in its place.
///
/// TensorBoard reads all rows at once in the browser: some 10,000 are a good number. It shows a directory only if there is
/// an event file in it too.
///
/// # Errors
/// [`Error::Config`] if the numbers of rows do not fit together or the sprite would exceed 8,192 pixels a side,
/// [`Error::Output`] if a file cannot be written.
pub fn write_projector(
    dir: impl AsRef<Path>,
    rows: &[f32],
    width: usize,
    columns: &[Column],
    thumbnails: Option<Tiles>,
) -> Result<()> {
    let dir = dir.as_ref();
    if width == 0 || rows.is_empty() || !rows.len().is_multiple_of(width) {
        return Err(Error::Config(format!("{} values are not rows of {width}", rows.len())));
    }
    let n = rows.len() / width;
    if let Some(column) = columns.iter().find(|column| column.values.len() != n) {
        return Err(Error::Config(format!("{} values of {:?} for {n} rows", column.values.len(), column.name)));
    }
    let sprite = thumbnails.as_ref().map(|thumbnails| sprite(thumbnails, n)).transpose()?;
    fs::create_dir_all(dir).map_err(|e| Error::output(dir, format!("cannot be made: {e}")))?;
    write_atomic(&dir.join(TENSORS), tensors(rows, width).as_bytes())?;
    if !columns.is_empty() {
        write_atomic(&dir.join(METADATA), metadata(columns, n).as_bytes())?;
    }
    if let Some(sprite) = &sprite {
        write_atomic(&dir.join(SPRITE), sprite)?;
    }
    let size = thumbnails.map(|thumbnails| [thumbnails.width, thumbnails.height]);
    write_atomic(&dir.join(CONFIG), config(!columns.is_empty(), size).as_bytes())
}

/// The thumbnails as one image, as many beside as below each other.
fn sprite(thumbnails: &Tiles, n: usize) -> Result<Vec<u8>> {
    let count = thumbnails.count()?;
    if count != n {
        return Err(Error::Config(format!("{count} thumbnails for {n} rows")));
    }
    let side = (n as f64).sqrt().ceil() as usize;
    let longest = side.saturating_mul(thumbnails.width.max(thumbnails.height) as usize);
    if longest > LARGEST_SIDE as usize {
        return Err(Error::Config(format!(
            "{n} thumbnails of {} × {} pixels make a sprite of {longest} pixels a side, and browsers show {LARGEST_SIDE} at \
             most; take fewer rows or smaller thumbnails",
            thumbnails.width, thumbnails.height
        )));
    }
    // Square, as TensorBoard's guide has it: empty rows of thumbnails make up for what is missing.
    let mut picture = thumbnails.grid(side)?;
    picture.height = thumbnails.height * side as u32;
    picture.pixels.resize(picture.width as usize * picture.height as usize * usize::from(picture.channels), 0);
    picture.to_png()
}

fn tensors(rows: &[f32], width: usize) -> String {
    let mut text = String::new();
    for row in rows.chunks_exact(width) {
        for (column, value) in row.iter().enumerate() {
            let tab = if column > 0 { "\t" } else { "" };
            let _ = write!(text, "{tab}{value}"); // writing to a String cannot fail
        }
        text.push('\n');
    }
    text
}

/// One column has no line of names: TensorBoard would take it for a row.
fn metadata(columns: &[Column], n: usize) -> String {
    let line = |values: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = values.map(cell).collect();
        cells.join("\t") + "\n"
    };
    let mut text = String::new();
    if columns.len() > 1 {
        text += &line(&mut columns.iter().map(|column| column.name));
    }
    (0..n).for_each(|row| text += &line(&mut columns.iter().map(|column| column.values[row].as_str())));
    text
}

/// A value of a table, which has no way to quote a tab or a line's end. An empty one would be lost where it is the only one.
fn cell(value: &str) -> String {
    if value.is_empty() {
        return "-".to_owned();
    }
    value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// In protocol buffers' text format.
fn config(has_metadata: bool, thumbnail: Option<[u32; 2]>) -> String {
    let metadata = if has_metadata { format!("  metadata_path: \"{METADATA}\"\n") } else { String::new() };
    let sprite = thumbnail.map_or_else(String::new, |[width, height]| {
        format!(
            "  sprite {{\n    image_path: \"{SPRITE}\"\n    single_image_dim: {width}\n    single_image_dim: {height}\n  }}\n"
        )
    });
    format!("embeddings {{\n  tensor_name: \"embedding\"\n  tensor_path: \"{TENSORS}\"\n{metadata}{sprite}}}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables_have_a_line_a_row() {
        assert_eq!(tensors(&[1.0, -0.5, 1e-20, 3.25e10], 2), "1\t-0.5\n0.00000000000000000001\t32500000000\n");
        let strings = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        let (clusters, classes) = (strings(&["0", "1"]), strings(&["a\tb\n", ""]));
        let columns = [Column { name: "cluster", values: &clusters }, Column { name: "class", values: &classes }];
        assert_eq!(metadata(&columns, 2), "cluster\tclass\n0\ta b \n1\t-\n");
        assert_eq!(metadata(&columns[..1], 2), "0\n1\n");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |rows: &[f32], width, columns: &[Column], thumbnails| {
            assert!(matches!(write_projector(dir.path(), rows, width, columns, thumbnails), Err(Error::Config(_))));
        };
        refused(&[], 2, &[], None);
        refused(&[0.0; 3], 2, &[], None);
        refused(&[0.0; 4], 2, &[Column { name: "a", values: &[String::new()] }], None);
        let pixels = vec![0; 9000];
        refused(&[0.0; 4], 2, &[], Some(Tiles { width: 1, height: 1, channels: 1, pixels: &pixels[..1] }));
        refused(&[0.0; 2], 2, &[], Some(Tiles { width: 9000, height: 1, channels: 1, pixels: &pixels }));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
