//! Parquet and Arrow IPC: rows are gathered into batches of columns.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::CompressionType;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::draft::{failed, Draft};
use super::{Chunk, Header, OutputFormat, TableWriter};
use crate::error::Result;

/// Most rows of a batch, which is a row group of Parquet.
const BATCH_ROWS: usize = 1 << 16;
/// Most bytes of a batch, about, so that wide tables do not take more memory.
const BATCH_BYTES: usize = 32 << 20;

/// Opens a table of `format`.
pub(super) fn open(path: &Path, format: OutputFormat, header: Header) -> Result<Box<dyn TableWriter>> {
    let schema = Arc::new(Schema::new(fields(&header)));
    let file = Draft::buffered(path)?;
    let refused = |error: &dyn std::fmt::Display| failed(path, error);
    let sink = if format == OutputFormat::Arrow {
        let options = IpcWriteOptions::default()
            .try_with_compression(Some(CompressionType::LZ4_FRAME))
            .map_err(|error| refused(&error))?;
        let writer = FileWriter::try_new_with_options(file, &schema, options).map_err(|error| refused(&error))?;
        Sink::Arrow(Box::new(writer))
    } else {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|error| refused(&error))?;
        Sink::Parquet(Box::new(writer))
    };
    let row_bytes = 4 * (header.n_latent + header.n_clusters) + 64;
    let most = (BATCH_BYTES / row_bytes).clamp(1, BATCH_ROWS);
    Ok(Box::new(Writer { path: path.to_owned(), header, schema, most, held: Held::default(), sink }))
}

/// The columns of the table.
fn fields(header: &Header) -> Vec<Field> {
    let Header { has_ids, embedding, memberships, n_latent, n_clusters, scores, .. } = *header;
    let list = |width: usize| DataType::FixedSizeList(item(), i32::try_from(width).unwrap_or(i32::MAX));
    let all = [
        ("row", DataType::UInt64, true),
        ("id", DataType::Utf8, has_ids),
        ("cluster", DataType::Int64, true),
        ("name", DataType::Utf8, !header.names.is_empty()),
        ("confidence", DataType::Float32, true),
        ("second", DataType::Int64, scores.second),
        ("entropy", DataType::Float32, scores.entropy),
        ("outlier", DataType::Float32, scores.outlier),
        ("embedding", list(n_latent), embedding),
        ("memberships", list(n_clusters), memberships),
    ];
    all.into_iter().filter(|(.., there)| *there).map(|(name, kind, _)| Field::new(name, kind, false)).collect()
}

/// The values of a list.
fn item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Float32, false))
}

/// Rows that wait for their batch to be full.
#[derive(Default)]
struct Held {
    rows: Vec<u64>,
    ids: Vec<String>,
    cluster: Vec<i64>,
    confidence: Vec<f32>,
    second: Vec<i64>,
    entropy: Vec<f32>,
    outlier: Vec<f32>,
    z: Vec<f32>,
    q: Vec<f32>,
}

impl Held {
    /// Takes the rows `from..to` of a chunk; what the header does not have is taken too and not used.
    fn take(&mut self, chunk: &Chunk, header: &Header, from: usize, to: usize) {
        let Header { n_latent, n_clusters, scores, .. } = *header;
        self.rows.extend_from_slice(&chunk.rows[from..to]);
        if let Some(ids) = chunk.ids.filter(|_| header.has_ids) {
            self.ids.extend_from_slice(&ids[from..to]);
        }
        self.cluster.extend_from_slice(&chunk.cluster[from..to]);
        self.confidence.extend_from_slice(&chunk.confidence[from..to]);
        if let Some(second) = chunk.second.filter(|_| scores.second) {
            self.second.extend_from_slice(&second[from..to]);
        }
        for (held, values, wanted, width) in [
            (&mut self.entropy, chunk.entropy, scores.entropy, 1),
            (&mut self.outlier, chunk.outlier, scores.outlier, 1),
            (&mut self.z, chunk.z, header.embedding, n_latent),
            (&mut self.q, chunk.q, header.memberships, n_clusters),
        ] {
            if let Some(values) = values.filter(|_| wanted) {
                held.extend_from_slice(&values[from * width..to * width]);
            }
        }
    }

    /// The columns, in the order of the header.
    fn into_batch(self, header: &Header, schema: &Arc<Schema>) -> Result<RecordBatch, ArrowError> {
        let list = |width: usize, values: Vec<f32>| -> Result<ArrayRef, ArrowError> {
            let width = i32::try_from(width).map_err(|_| ArrowError::SchemaError("too many columns".to_owned()))?;
            let values = Arc::new(Float32Array::from(values));
            Ok(Arc::new(FixedSizeListArray::try_new(item(), width, values, None)?))
        };
        let Header { n_latent, n_clusters, scores, .. } = *header;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(self.rows))];
        if header.has_ids {
            columns.push(Arc::new(StringArray::from(self.ids)));
        }
        if !header.names.is_empty() {
            let names = StringArray::from_iter_values(self.cluster.iter().map(|&cluster| header.name_of(cluster)));
            columns.extend([Arc::new(Int64Array::from(self.cluster)) as ArrayRef, Arc::new(names)]);
        } else {
            columns.push(Arc::new(Int64Array::from(self.cluster)));
        }
        columns.push(Arc::new(Float32Array::from(self.confidence)));
        if scores.second {
            columns.push(Arc::new(Int64Array::from(self.second)));
        }
        for (values, wanted) in [(self.entropy, scores.entropy), (self.outlier, scores.outlier)] {
            if wanted {
                columns.push(Arc::new(Float32Array::from(values)));
            }
        }
        if header.embedding {
            columns.push(list(n_latent, self.z)?);
        }
        if header.memberships {
            columns.push(list(n_clusters, self.q)?);
        }
        RecordBatch::try_new(schema.clone(), columns)
    }
}

/// The file.
enum Sink {
    Parquet(Box<ArrowWriter<BufWriter<Draft>>>),
    Arrow(Box<FileWriter<BufWriter<Draft>>>),
}

struct Writer {
    path: PathBuf,
    header: Header,
    schema: Arc<Schema>,
    /// Rows of a full batch.
    most: usize,
    held: Held,
    sink: Sink,
}

impl Writer {
    /// Writes the rows that are held as one batch.
    fn flush(&mut self) -> Result<()> {
        if self.held.rows.is_empty() {
            return Ok(());
        }
        let path = &self.path;
        let held = std::mem::take(&mut self.held);
        let batch = held.into_batch(&self.header, &self.schema).map_err(|error| failed(path, &error))?;
        match &mut self.sink {
            Sink::Parquet(writer) => {
                writer.write(&batch).and_then(|()| writer.flush()).map_err(|error| failed(path, &error))
            }
            Sink::Arrow(writer) => writer.write(&batch).map_err(|error| failed(path, &error)),
        }
    }
}

impl TableWriter for Writer {
    fn write(&mut self, chunk: &Chunk) -> Result<()> {
        let mut from = 0;
        while from < chunk.len() {
            let to = chunk.len().min(from + self.most - self.held.rows.len());
            self.held.take(chunk, &self.header, from, to);
            from = to;
            if self.held.rows.len() == self.most {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<PathBuf>> {
        self.flush()?;
        let Self { path, sink, .. } = *self;
        let file = match sink {
            Sink::Parquet(writer) => writer.into_inner().map_err(|error| failed(&path, &error))?,
            Sink::Arrow(writer) => writer.into_inner().map_err(|error| failed(&path, &error))?,
        };
        Ok(vec![Draft::unbuffered(file)?.publish()?])
    }
}
