//! A run for TensorBoard: its events as they come, and at the end what q, z and the rows look like.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::gather::{centres, Shown};
use super::pictures::Painter;
use super::record::Record;
use super::sample::Sample;
use crate::control::{Event, Observer, StageName};
use crate::data::{array_of, values_of};
use crate::error::Result;
use crate::run::TENSORBOARD;
use crate::tensorboard::{write_projector, Column, EventWriter, Tiles};

/// Rows of the projector, which the browser has to hold at once.
const PROJECTED: usize = 10_000;
/// Pictures in a row of a grid.
const COLUMNS: usize = 8;

/// Writes a run's events to `tensorboard/` in its directory: `tensorboard --logdir RUN` shows them, while they are written.
///
/// | tag | step | what |
/// |---|---|---|
/// | `pretrain/loss`, `pretrain/learning_rate`, … | epoch | of each stage; of further networks `network2/pretrain/loss`, … |
/// | `rounds/changed`, `rounds/confidence`, … | round | of self-training |
/// | `q`, `q/confidence`, `z` | round | histograms at the end, over the rows that the report shows |
/// | `prototypes`, `reconstructions` | round | of images, at the end |
///
/// The projector has the embedding of up to 10,000 rows.
#[derive(Debug)]
pub struct TensorBoard {
    writer: EventWriter,
    network: u64,
    round: u64,
    failed: bool,
}

impl TensorBoard {
    /// Begins in a run's directory, or goes on there.
    ///
    /// # Errors
    /// [`crate::Error::Output`] if nothing can be written there.
    pub fn open(run: &Path) -> Result<Self> {
        Ok(Self { writer: EventWriter::resume(run.join(TENSORBOARD))?, network: 1, round: 0, failed: false })
    }

    /// Writes what is known at the end of the run in `run`, where it has come to clusters.
    ///
    /// # Errors
    /// Those of reading the run back, of libtorch, and [`crate::Error::Output`].
    pub fn end(&mut self, run: &Path, sample: &Sample) -> Result<()> {
        let record = Record::read(run)?;
        let (Some(model), Some(assignment)) = (&record.model, &record.assignment) else { return Ok(()) };
        let shown = Shown::new(run, model, assignment, sample)?;
        let (step, now) = (self.round, now());
        self.writer.histogram("q", step, now, &values_of::<f32>(&shown.q.f_reshape([-1])?)?)?;
        self.writer.histogram("q/confidence", step, now, &shown.at(&assignment.confidence))?;
        self.writer.histogram("z", step, now, &values_of::<f32>(&shown.z.f_reshape([-1])?)?)?;

        let painter = model.image.map(|image| Painter::new(image, shown.rows.view()));
        if let Some(painter) = &painter {
            let prototypes = model.decode(&centres(model)?)?;
            let pictures: Vec<u8> = prototypes.outer_iter().flat_map(|row| painter.paint(&row.to_vec())).collect();
            self.grid("prototypes", painter, &pictures)?;
            let first: Vec<usize> = (0..shown.rows.nrows().min(2 * COLUMNS * COLUMNS)).collect();
            let outputs = model.reconstruct(&sample.features.resident_at(&first)?)?;
            // A row beside what becomes of it.
            let pairs = first.iter().zip(outputs.outer_iter()).flat_map(|(&place, output)| {
                [painter.paint(&shown.rows.row(place).to_vec()), painter.paint(&output.to_vec())].concat()
            });
            self.grid("reconstructions", painter, &pairs.collect::<Vec<u8>>())?;
        }
        self.project(run, &shown, painter.as_ref())?;
        self.writer.flush()
    }

    fn grid(&mut self, tag: &str, painter: &Painter, pixels: &[u8]) -> Result<()> {
        let [height, width, channels] = painter.shape();
        let tiles = Tiles { width: width as u32, height: height as u32, channels: channels as u8, pixels };
        let grid = tiles.grid(COLUMNS)?;
        self.writer.image(tag, self.round, now(), [grid.width, grid.height], grid.channels, &grid.pixels)
    }

    fn project(&self, run: &Path, shown: &Shown, painter: Option<&Painter>) -> Result<()> {
        let z = array_of(&shown.z)?;
        let n = z.nrows().min(PROJECTED);
        let rows: Vec<f32> = z.outer_iter().take(n).flatten().copied().collect();
        let texts = |values: &mut dyn Iterator<Item = String>| values.take(n).collect::<Vec<String>>();
        let mut columns = vec![
            ("row", texts(&mut shown.sample.rows.iter().map(usize::to_string))),
            ("cluster", texts(&mut shown.labels.iter().map(u32::to_string))),
        ];
        if !shown.sample.ids.is_empty() {
            columns.push(("id", texts(&mut shown.sample.ids.iter().cloned())));
        }
        if let Some((classes, names)) = shown.classes() {
            columns.push((
                "class",
                texts(&mut classes.iter().map(|&class| match usize::try_from(class) {
                    Ok(class) => names[class].clone(),
                    Err(_) => "-".to_owned(),
                })),
            ));
        }
        let columns: Vec<Column> = columns.iter().map(|(name, values)| Column { name, values }).collect();
        let thumbnails = painter.map(|painter| painter.thumbnails(shown.rows.slice(ndarray::s![..n, ..])));
        let tiles = thumbnails.as_ref().map(|found| Tiles {
            width: found.width,
            height: found.height,
            channels: found.channels as u8,
            pixels: &found.pixels,
        });
        write_projector(run.join(TENSORBOARD), &rows, z.ncols(), &columns, tiles)
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let now = now();
        match event {
            Event::Epoch { stage, epoch, loss, learning_rate, .. } => {
                let of = match (self.network, stage) {
                    (1, _) | (_, StageName::Cluster) => stage.to_string(),
                    (network, _) => format!("network{network}/{stage}"),
                };
                self.writer.scalar(&format!("{of}/loss"), *epoch, now, *loss)?;
                self.writer.scalar(&format!("{of}/learning_rate"), *epoch, now, *learning_rate)?;
            }
            Event::Round { round, .. } => {
                self.round = round.round;
                let values = [
                    ("changed", Some(round.changed)),
                    ("loss", Some(round.loss)),
                    ("confidence", Some(round.confidence)),
                    ("effective_clusters", Some(round.effective_clusters)),
                    ("centroid_distance", round.centroid_distance),
                    ("acc", round.acc),
                    ("smallest_cluster", round.sizes.iter().min().map(|&size| size as f64)),
                    ("largest_cluster", round.sizes.iter().max().map(|&size| size as f64)),
                ];
                for (name, value) in values {
                    if let Some(value) = value {
                        self.writer.scalar(&format!("rounds/{name}"), round.round, now, value)?;
                    }
                }
            }
            Event::NetworkStarted { network, .. } => self.network = *network,
            _ => return Ok(()),
        }
        self.writer.flush()
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Observer for TensorBoard {
    /// What cannot be written is said once, and is no reason to stop.
    fn on_event(&mut self, event: &Event) {
        if let Err(problem) = self.write(event) {
            if !self.failed {
                tracing::warn!("{problem}; training goes on");
            }
            self.failed = true;
        }
    }
}
