//! Event files and embeddings for TensorBoard, written without TensorFlow.
//!
//! `tensorboard --logdir DIR` shows what an [`EventWriter`] writes to DIR, while it is written: scalars, histograms and images.
//! [`write_projector`] adds rows for its projector.
//!
//! Values are written in the older of the format's two ways (`simple_value`, `histo`, `image`). TensorBoard turns these into the
//! newer one as it reads, and tools that read event files for tables and plots know the older one best.

mod event;
mod picture;
mod projector;
mod record;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use picture::{Picture, Tiles};
pub use projector::{write_projector, Column};

use crate::error::{Error, Result};
use crate::protobuf::Message;

/// How the names of event files begin: TensorBoard looks for it.
const PREFIX: &str = "events.out.tfevents.";
/// Bytes that are collected before they are written.
const BUFFER: usize = 1 << 16;

/// Writes one event file.
///
/// ```
/// # use dec::tensorboard::EventWriter;
/// # let dir = tempfile::tempdir()?;
/// let mut writer = EventWriter::create(&dir)?;
/// writer.scalar("pretrain/loss", 1, 1_800_000_000.0, 0.25)?;
/// writer.flush()?;
/// // Two records: what the file is (24 bytes and 16 of framing), and the value.
/// assert_eq!(std::fs::metadata(writer.path())?.len(), 40 + 51);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What could not be written (a full disk) is kept and tried again with the next flush.
///
/// Dropping it flushes, without telling of a failure.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    /// Bytes of the file that are whole records.
    length: u64,
    /// Records that are not in the file yet.
    pending: Vec<u8>,
}

impl EventWriter {
    /// Begins a new event file in the directory `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Output`] naming what cannot be made or written.
    pub fn create(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let problem = |e: io::Error| Error::output(dir, format!("no event file can be made here: {e}"));
        fs::create_dir_all(dir).map_err(problem)?;
        let (path, file) = new_file(dir).map_err(problem)?;
        let mut writer = Self { path, file, length: 0, pending: Vec::new() };
        writer.begin()?;
        Ok(writer)
    }

    /// Goes on in the latest event file in `dir`, behind its last whole record: half a one that a killed process left is
    /// cut off. Where there is none, or it is damaged, as [`EventWriter::create`]: TensorBoard reads all files of a directory.
    ///
    /// Only where no other process writes there. A step that is told again is shown twice.
    ///
    /// # Errors
    /// [`Error::Output`] naming what cannot be read or written.
    pub fn resume(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let Some(path) = latest(dir) else { return Self::create(dir) };
        let problem = |e: io::Error| Error::output(&path, format!("cannot be continued: {e}"));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(problem)?;
        let Some(length) = record::whole(io::BufReader::new(&file)).map_err(problem)? else { return Self::create(dir) };
        file.set_len(length).map_err(problem)?;
        let mut writer = Self { path, file, length, pending: Vec::new() };
        if length == 0 {
            writer.begin()?;
        }
        Ok(writer)
    }

    /// The first record says what the file is.
    fn begin(&mut self) -> Result<()> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.push(event::version(seconds))?;
        self.flush()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A value for the curve `tag`, as float32. `wall_time` is in seconds since 1970.
    ///
    /// # Errors
    /// [`Error::Output`] if the file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: f64, value: f64) -> Result<()> {
        self.push(event::summary(step, wall_time, &event::scalar(tag, value as f32)))
    }

    /// How `values` are distributed, in 30 bins of equal width. Those that are not finite are left out; where none is left,
    /// nothing is written.
    ///
    /// # Errors
    /// [`Error::Output`] if the file cannot be written.
    pub fn histogram(&mut self, tag: &str, step: u64, wall_time: f64, values: &[f32]) -> Result<()> {
        match event::histogram(tag, values) {
            Some(value) => self.push(event::summary(step, wall_time, &value)),
            None => Ok(()),
        }
    }

    /// An image: `pixels` row by row, the channels of a pixel together; 1 channel for grey, 3 for RGB, 4 for RGBA.
    ///
    /// # Errors
    /// [`Error::Config`] if `pixels` is not of width × height × channels bytes, [`Error::Output`] if the file cannot be written.
    pub fn image(
        &mut self,
        tag: &str,
        step: u64,
        wall_time: f64,
        [width, height]: [u32; 2],
        channels: u8,
        pixels: &[u8],
    ) -> Result<()> {
        let png = picture::png([width, height], channels, pixels)?;
        self.push(event::summary(step, wall_time, &event::image(tag, [width, height], channels, &png)))
    }

    fn push(&mut self, event: Message) -> Result<()> {
        record::push(&mut self.pending, &event.into_bytes());
        if self.pending.len() < BUFFER {
            return Ok(());
        }
        self.flush()
    }

    /// Writes what is pending, so that TensorBoard sees it.
    ///
    /// # Errors
    /// [`Error::Output`]; what is pending stays so.
    pub fn flush(&mut self) -> Result<()> {
        self.write().map_err(|e| Error::output(&self.path, format!("cannot be written: {e}")))
    }

    /// Behind the whole records: what a failed try left behind is written over.
    fn write(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&self.pending)?;
        self.length += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        let _ = self.write();
    }
}

/// A file that was not there before: `events.out.tfevents.<seconds>.<host>.<process>.<number>`. TensorBoard reads a directory's
/// files in the order of their names.
fn new_file(dir: &Path) -> io::Result<(PathBuf, File)> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let host: String = host().chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let mut number = 0u32;
    loop {
        let path = dir.join(format!("{PREFIX}{seconds:010}.{host}.{}.{number}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => number += 1,
            file => return Ok((path, file?)),
        }
    }
}

#[cfg(unix)]
fn host() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|_| "host".to_owned())
}

#[cfg(not(unix))]
fn host() -> String {
    "host".to_owned()
}

/// The event file in `dir` that TensorBoard reads last.
fn latest(dir: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.file_name());
    let name = names.filter(|name| name.to_string_lossy().starts_with(PREFIX)).max()?;
    Some(dir.join(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protobuf::decode::{all, fields, text, Value};

    /// The tags of the events in a file, of whole records only.
    fn tags(path: &Path) -> Vec<String> {
        let mut bytes = fs::read(path).unwrap();
        bytes.truncate(record::whole(bytes.as_slice()).unwrap().unwrap() as usize);
        let mut rest = bytes.as_slice();
        let mut tags = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<8>() {
            let length = u64::from_le_bytes(*length) as usize;
            let event = &after[4..4 + length];
            rest = &after[4 + length + 4..];
            tags.extend(all(event, 5).iter().map(|summary| text(&all(summary, 1)[0], 1)));
            tags.extend(all(event, 3).into_iter().map(|version| String::from_utf8(version).unwrap()));
        }
        tags
    }

    fn told(writer: &mut EventWriter, tag: &str) {
        writer.scalar(tag, 1, 0.0, 0.5).unwrap();
        writer.flush().unwrap();
    }

    #[test]
    fn half_a_record_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::resume(dir.path()).unwrap();
        told(&mut writer, "a");
        let path = writer.path().to_owned();
        drop(writer);
        let whole = fs::read(&path).unwrap();
        told(&mut EventWriter::resume(dir.path()).unwrap(), "b");
        let full = fs::read(&path).unwrap();
        for length in whole.len()..full.len() {
            fs::write(&path, &full[..length]).unwrap();
            told(&mut EventWriter::resume(dir.path()).unwrap(), "c");
            assert_eq!(tags(&path), ["brain.Event:2", "a", "c"]);
        }
        fs::write(&path, &full[..5]).unwrap();
        told(&mut EventWriter::resume(dir.path()).unwrap(), "d");
        assert_eq!(tags(&path), ["brain.Event:2", "d"]);
        fs::write(&path, "no event file").unwrap();
        let writer = EventWriter::resume(dir.path()).unwrap();
        assert!(writer.path() > path.as_path());
        assert_eq!(fs::read_to_string(&path).unwrap(), "no event file");
    }

    #[test]
    fn writers_in_one_second_have_files_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let writers = [0; 3].map(|_| EventWriter::create(dir.path()).unwrap());
        let mut paths: Vec<&Path> = writers.iter().map(EventWriter::path).collect();
        paths.dedup();
        assert_eq!(paths.len(), 3);
        assert!(paths.is_sorted());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = EventWriter::create(file.path().join("logs")).unwrap_err().to_string();
        assert!(error.contains("logs: no event file"), "{error}");
    }

    #[test]
    fn an_event_has_step_time_and_value() {
        let event = event::summary(300, 1.5, &event::scalar("loss", 0.25)).into_bytes();
        let fields = fields(&event);
        assert_eq!(fields[..2], [(1, Value::Eight(1.5f64.to_le_bytes())), (2, Value::Varint(300))]);
        let value = all(&all(&event, 5)[0], 1).remove(0);
        assert_eq!(text(&value, 1), "loss");
        assert_eq!(crate::protobuf::decode::fields(&value)[1], (2, Value::Four(0.25f32.to_le_bytes())));
    }
}
