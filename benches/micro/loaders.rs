//! Reading rows: 10,000 × 784 bytes from gzip, IDX and NPY, and as many float32 values from NPY.

use std::path::Path;

use criterion::{Criterion, Throughput};
use dec::data::{load, Dataset, Features, Source};
use npyz::WriterBuilder;

pub fn bench(criterion: &mut Criterion, digits: &Dataset) {
    let Features::U8(bytes) = &digits.features else { panic!("the digits are bytes") };
    let (n, d) = bytes.dim();
    let bytes = bytes.as_slice().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name| dir.path().join(name);

    let header = [0x0803u32, n as u32, 28, 28].map(u32::to_be_bytes).concat();
    std::fs::write(file("rows.idx"), [&header, bytes].concat()).unwrap();
    write_npy(&file("bytes.npy"), bytes, [n, d]);
    let floats: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte)).collect();
    write_npy(&file("floats.npy"), &floats, [n, d]);

    let mut group = criterion.benchmark_group("load");
    group.throughput(Throughput::Elements(n as u64));
    group.bench_function("built-in digits, gzip", |b| b.iter(|| read("builtin")));
    for (name, path) in [("IDX", "rows.idx"), ("NPY, uint8", "bytes.npy"), ("NPY, float32", "floats.npy")] {
        let path = file(path);
        group.bench_function(name, |b| b.iter(|| read(path.to_str().unwrap())));
    }
    group.finish();
}

fn read(source: &str) -> Dataset {
    load(&Source { source, dir: None, labels: None, ..Source::default() }).unwrap()
}

fn write_npy<T: npyz::AutoSerialize + Copy>(path: &Path, values: &[T], shape: [usize; 2]) {
    let shape = shape.map(|length| length as u64);
    let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd().unwrap();
    writer.extend(values.iter().copied()).unwrap();
    writer.finish().unwrap();
}
