//! Arrow IPC: files (Feather V2 is the same) and streams, compressed or not.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReaderBuilder, StreamReader};
use arrow_ipc::{root_as_footer, root_as_message, Block, Message, MessageHeader};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use super::record::{self, Each, Source};
use super::{Pick, Table};
use crate::error::{Error, Result};

/// What a file begins and ends with.
const FILE_MAGIC: &[u8; 6] = b"ARROW1";
/// What the first version of Feather begins with.
const FEATHER_1_MAGIC: &[u8; 4] = b"FEA1";
/// What messages begin with since version 0.15 of the format.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// The length of a record batch's description is limited, to refuse what is no Arrow stream.
const MOST_METADATA: u64 = 1 << 28;

/// Reads the Arrow file or stream, or Feather file, `path`.
pub fn read(path: &Path, pick: &Pick) -> Result<Table> {
    let source = Arrow::open(path, pick)?;
    record::table(&source, pick)
}

/// One file of either kind.
struct Arrow<'a> {
    path: &'a Path,
    is_stream: bool,
    schema: SchemaRef,
    rows: u64,
    /// Whether a stream has its end mark.
    has_end: bool,
}

impl<'a> Arrow<'a> {
    fn open(path: &'a Path, pick: &Pick) -> Result<Self> {
        let mut file = opened(path)?;
        let mut magic = vec![];
        (&mut file).take(8).read_to_end(&mut magic).map_err(|error| cannot_read(path, &error))?;
        if magic.starts_with(FEATHER_1_MAGIC) {
            let problem = "this is Feather of version 1; resave it with pyarrow.feather.write_feather(table, file)";
            return Err(Error::data(path, problem));
        }
        let is_stream = !magic.starts_with(FILE_MAGIC);
        let mut claims = Claims { path, pick, length: 0, file: BufReader::new(file), rows: 0, unpacked: 0 };
        claims.length = claims.file.get_ref().metadata().map_err(|error| cannot_read(path, &error))?.len();
        let has_end = if is_stream { claims.check_stream()? } else { claims.check_file().map(|()| true)? };
        let rows = claims.rows;
        let mut source = Self { path, is_stream, schema: SchemaRef::new(Schema::empty()), rows, has_end };
        source.schema = record::guarded(|| source.read_schema())
            .map_err(|error| damaged(path, &error))?
            .map_err(|error| damaged(path, &error))?;
        Ok(source)
    }

    fn read_schema(&self) -> Result<SchemaRef, ArrowError> {
        let file = BufReader::new(File::open(self.path)?);
        if self.is_stream {
            return Ok(StreamReader::try_new(file, None)?.schema());
        }
        Ok(FileReaderBuilder::new().build(file)?.schema())
    }

    fn batches(
        &self,
        fields: &[usize],
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>, ArrowError> {
        let file = BufReader::new(File::open(self.path)?);
        let fields = fields.to_vec();
        if self.is_stream {
            return Ok(Box::new(StreamReader::try_new(file, Some(fields))?));
        }
        Ok(Box::new(FileReaderBuilder::new().with_projection(fields).build(file)?))
    }
}

impl Source for Arrow<'_> {
    fn path(&self) -> &Path {
        self.path
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn scan(&self, fields: &[usize], each: &mut Each<'_>) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| damaged(self.path, error);
        let opened = record::guarded(|| self.batches(fields)).map_err(|error| failed(&error))?;
        let mut batches = opened.map_err(|error| failed(&error))?;
        while let Some(batch) = record::guarded(|| batches.next()).map_err(|error| failed(&error))? {
            if each(&batch.map_err(|error| failed(&error))?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        let note = "the stream ends without its end mark, so later rows may be missing";
        if self.has_end {
            vec![]
        } else {
            vec![note.to_owned()]
        }
    }
}

/// Walks over the messages of a file without their data. It counts rows, and refuses sizes that the file cannot keep or
/// memory cannot hold, because the reader would reserve them.
struct Claims<'a> {
    path: &'a Path,
    pick: &'a Pick<'a>,
    length: u64,
    file: BufReader<File>,
    rows: u64,
    /// The memory that the largest message takes.
    unpacked: u64,
}

impl Claims<'_> {
    fn check_file(&mut self) -> Result<()> {
        let cut_off = "it has no end; the file is cut off, copy it again";
        let mut tail = [0; 10];
        if self.length < 18 {
            return Err(damaged(self.path, &cut_off));
        }
        self.seek(self.length - 10)?;
        self.read(&mut tail)?;
        let footer = u64::try_from(i32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])).unwrap_or(u64::MAX);
        if &tail[4..] != FILE_MAGIC || footer > self.length - 18 {
            return Err(damaged(self.path, &cut_off));
        }
        self.seek(self.length - 10 - footer)?;
        let mut bytes = vec![0; footer as usize];
        self.read(&mut bytes)?;
        let footer = root_as_footer(&bytes).map_err(|error| damaged(self.path, &error))?;
        let lists = [footer.dictionaries(), footer.recordBatches()];
        for block in lists.into_iter().flatten().flat_map(|blocks| blocks.iter()) {
            self.check_block(block)?;
        }
        Ok(())
    }

    /// Of a file, whose footer tells where messages are.
    fn check_block(&mut self, block: &Block) -> Result<()> {
        let size = |value: i64| u64::try_from(value).ok().filter(|&value| value <= self.length);
        let parts = (size(block.offset()), size(i64::from(block.metaDataLength())), size(block.bodyLength()));
        let (Some(offset), Some(metadata), Some(body)) = parts else { return Err(self.beyond()) };
        if offset.saturating_add(metadata).saturating_add(body) > self.length {
            return Err(self.beyond());
        }
        self.seek(offset)?;
        let (_, claimed) = self.check_message(Some(offset + metadata))?.ok_or_else(|| self.beyond())?;
        if claimed != body {
            return Err(damaged(self.path, &"its footer and its messages disagree"));
        }
        Ok(())
    }

    /// Of a stream, whose messages follow each other. Says whether it ends with the mark for that, as it should.
    fn check_stream(&mut self) -> Result<bool> {
        let mut at = 0;
        while at < self.length {
            self.seek(at)?;
            let Some((metadata, body)) = self.check_message(None)? else { return Ok(true) };
            at = at.saturating_add(metadata).saturating_add(body);
        }
        Ok(false)
    }

    /// Checks the message that begins here, and gives the lengths of its head and its body; nothing at the end mark. Its
    /// body begins at `body_start`, which a file's footer tells, or right after the head.
    fn check_message(&mut self, body_start: Option<u64>) -> Result<Option<(u64, u64)>> {
        let start = self.file.stream_position().map_err(|error| cannot_read(self.path, &error))?;
        let mut word = [0; 4];
        self.read(&mut word)?;
        let mut head = 4;
        if word == CONTINUATION {
            self.read(&mut word)?;
            head = 8;
        }
        let metadata = u64::from(u32::from_le_bytes(word));
        if metadata == 0 {
            return Ok(None);
        }
        let head_end = start + head + metadata;
        let body_start = body_start.unwrap_or(head_end);
        if metadata > MOST_METADATA || head_end.max(body_start) > self.length {
            return Err(self.beyond());
        }
        let mut bytes = vec![0; metadata as usize];
        self.read(&mut bytes)?;
        let message = root_as_message(&bytes).map_err(|error| damaged(self.path, &error))?;
        let body = u64::try_from(message.bodyLength()).map_err(|_| self.beyond())?;
        if body > self.length - body_start {
            return Err(self.beyond());
        }
        self.check_buffers(&message, body_start, body)?;
        Ok(Some((head + metadata, body)))
    }

    /// Sums up what the buffers of a message claim to be once they are decompressed.
    fn check_buffers(&mut self, message: &Message<'_>, body_start: u64, body: u64) -> Result<()> {
        let is_dictionary = message.header_type() == MessageHeader::DictionaryBatch;
        let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        let Some(batch) = message.header_as_record_batch().or(dictionary) else { return Ok(()) };
        let mut unpacked = 0u64;
        for buffer in batch.buffers().iter().flat_map(|buffers| buffers.iter()) {
            let (Ok(offset), Ok(length)) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length())) else {
                return Err(self.beyond());
            };
            if offset.saturating_add(length) > body {
                return Err(self.beyond());
            }
            if batch.compression().is_some() && length >= 8 {
                let mut claim = [0; 8];
                self.seek(body_start + offset)?;
                self.read(&mut claim)?;
                // Minus one says that a buffer was not compressed.
                unpacked = unpacked.saturating_add(u64::try_from(i64::from_le_bytes(claim)).unwrap_or(length));
            } else {
                unpacked = unpacked.saturating_add(length);
            }
        }
        self.unpacked = self.unpacked.max(unpacked);
        self.pick.check_bytes(self.path, "the values of one record batch", self.unpacked)?;
        if !is_dictionary {
            let rows = u64::try_from(batch.length()).map_err(|_| self.beyond())?;
            self.rows = self.rows.saturating_add(rows);
        }
        Ok(())
    }

    fn seek(&mut self, to: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(to)).map_err(|error| cannot_read(self.path, &error))?;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<()> {
        self.file.read_exact(into).map_err(|error| damaged(self.path, &error))
    }

    fn beyond(&self) -> Error {
        damaged(self.path, &"a part of it is said to lie where the file has ended")
    }
}

fn opened(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| cannot_read(path, &error))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Error {
    Error::data(path, format!("cannot be read ({error}); check the path and its permissions"))
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Error {
    // Some errors of the decoder are several lines long.
    let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    Error::data(path, format!("not a whole Arrow file or stream ({error}); copy it again, or write it anew"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{file, ROOMY};
    use super::super::Values;
    use super::*;

    fn problem(name: &str) -> String {
        read(&file(name), &ROOMY).map_or_else(|error| error.to_string(), |table| format!("{table:?}"))
    }

    #[test]
    fn reads_what_parquet_reads() -> Result<()> {
        let pick = Pick { label_column: Some("species"), ..ROOMY };
        let expected = super::super::parquet::read(&file("plain.parquet"), &pick)?;
        let bits = |table: &Table| match &table.values {
            Values::F32(values) => values.mapv(f32::to_bits),
            other => panic!("not float32: {other:?}"),
        };
        for name in ["plain.feather", "zstd.feather", "raw.feather", "plain.arrows"] {
            let table = read(&file(name), &pick)?;
            assert_eq!(bits(&table), bits(&expected), "{name}");
            let rest =
                |table: &Table| (table.columns.clone(), table.ids.clone(), table.labels.clone(), table.notes.clone());
            assert_eq!(rest(&table), rest(&expected), "{name}");
        }
        Ok(())
    }

    #[test]
    fn refuses_nothing_too_much_and_other_files() -> std::io::Result<()> {
        assert!(problem("empty.feather").contains("the file holds no rows"));
        assert!(problem("plain.parquet").contains("not a whole Arrow file or stream"));
        assert!(matches!(read(&file("huge.feather"), &ROOMY), Err(Error::Memory(_))));
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("old.feather");
        std::fs::write(&path, b"FEA1 and more")?;
        let text = read(&path, &ROOMY).map_or_else(|error| error.to_string(), |_| String::new());
        assert!(text.contains("Feather of version 1"), "{text}");
        Ok(())
    }

    #[test]
    fn labels_that_are_all_missing_take_no_more_memory_than_is_allowed() -> Result<(), Box<dyn std::error::Error>> {
        let nulls = std::sync::Arc::new(arrow_array::NullArray::new(1 << 40));
        let batch = RecordBatch::try_from_iter([("y", nulls as arrow_array::ArrayRef)])?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("nulls.arrow");
        let mut writer = arrow_ipc::writer::FileWriter::try_new(File::create(&path)?, &batch.schema())?;
        writer.write(&batch)?;
        writer.finish()?;
        let error = read(&path, &Pick { label_column: Some("y"), ..ROOMY });
        assert!(matches!(error, Err(Error::Memory(_))), "{error:?}");
        Ok(())
    }

    #[test]
    fn refuses_files_that_are_cut_off() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("cut");
        for name in ["plain.feather", "raw.feather", "plain.arrows"] {
            let whole = std::fs::read(file(name))?;
            for length in (0..whole.len()).step_by(31) {
                std::fs::write(&path, &whole[..length])?;
                let result = read(&path, &ROOMY);
                assert!(matches!(result, Err(Error::Data { .. })), "{name} {length}: {result:?}");
            }
        }
        // A stream may end between two messages, but that is worth a note.
        let whole = std::fs::read(file("plain.arrows"))?;
        std::fs::write(&path, &whole[..whole.len() - 8])?;
        let notes = read(&path, &ROOMY).map(|table| table.notes).unwrap_or_default();
        assert!(notes.iter().any(|note| note.contains("without its end mark")), "{notes:?}");
        Ok(())
    }
}
