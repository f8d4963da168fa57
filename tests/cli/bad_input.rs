//! Everything that cannot be run is refused before training: one message, its exit code, nothing left behind.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::support::{idx, write_npy, Ran, Scratch};

/// An NPY file by hand: for types that our independent writer does not write, and for headers that lie.
fn npy(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
    header += &" ".repeat(64 - (header.len() + 11) % 64);
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    bytes
}

/// Runs `dec ARGS --out=run` for each case and expects the exit code, the words on stderr, and nothing new on the disk.
fn refused(scratch: &Scratch, code: i32, cases: &[(&[&str], &[&str])]) {
    let before = scratch.tree();
    for (args, words) in cases {
        let out: &[&str] = if args.iter().any(|arg| arg.starts_with("--out")) { &[] } else { &["--out=run"] };
        let ran = scratch.dec(args.iter().chain(out));
        ran.failed(code, words);
        assert_eq!(ran.stdout, "", "{args:?}");
        assert!(scratch.tree() == before, "{args:?} leaves something behind: {:?}", scratch.names(""));
    }
}

#[test]
fn files_that_are_no_data() {
    let scratch = Scratch::blobs();
    let write = |name: &str, bytes: &[u8]| fs::write(scratch.path(name), bytes).unwrap();
    write("magic.idx", &idx(0x07, &[2, 2, 2], &[0; 8]));
    write("cut.idx", &idx(0x08, &[20, 2, 2], &[0; 8]));
    write("long.idx", &idx(0x08, &[2, 2, 2], &[0; 9]));
    write("overflow.idx", &idx(0x0e, &[u32::MAX; 3], &[0; 8]));
    write("header.idx", &idx(0x08, &[20], &[])[..6]);
    write("cut.npy", &npy("'<f4'", "(100, 8)", &[0; 100]));
    write("overflow.npy", &npy("'<f8'", "(4294967296, 4294967296)", &[0; 8]));
    write("complex.npy", &npy("'<c16'", "(2, 2)", &[0; 64]));
    write("objects.npy", &npy("'|O'", "(2, 2)", &[0; 64]));
    write("strings.npy", &npy("'<U5'", "(2, 2)", &[0; 80]));
    write("record.npy", &npy("[('a', '<f4')]", "(2,)", &[0; 8]));
    write("table.csv", b"a,b\n1.0,2.0\n3.0\n");
    write("empty.npy", b"");
    fs::create_dir(scratch.path("folder")).unwrap();

    refused(
        &scratch,
        3,
        &[
            (&["--data=none.npy"], &["none.npy", "no such file"]),
            (&["--data=folder"], &["folder", "is a directory with nothing that can be read"]),
            (&["--data=empty.npy"], &["empty.npy", "empty (0 bytes)"]),
            (&["table.csv"], &["table.csv", "line 3 has 1 cells but the header has 2"]),
            (&["--data=magic.idx"], &["magic.idx", "wrong magic number, 00 00 07 03", "08 (uint8)"]),
            (&["--data=header.idx"], &["header.idx", "cut off inside its IDX header"]),
            (&["--data=cut.idx"], &["cut.idx", "cut off", "20 x 2 x 2", "80 bytes", "only 8 are there"]),
            (&["--data=long.idx"], &["long.idx", "bytes after its end", "8 bytes"]),
            (&["--data=overflow.idx"], &["overflow.idx", "4294967295 x 4294967295", "overflows", "header"]),
            (&["--data=cut.npy"], &["cut.npy", "cut off", "100 x 8", "only 100 are there"]),
            (&["--data=overflow.npy"], &["overflow.npy", "overflows"]),
            (&["--data=complex.npy"], &["complex.npy", "<c16 (complex) is not supported", "a.real, a.imag"]),
            (&["--data=objects.npy"], &["objects.npy", "|O (Python objects) is not supported", "astype('float64')"]),
            (&["--data=strings.npy"], &["strings.npy", "<U5 (strings) is not supported", "--labels"]),
            (&["--data=record.npy"], &["record.npy", "not supported"]),
            (&["--data=y.npy"], &["y.npy", "1 dimension", "[rows, features]", "--labels"]),
            (&["--data=mnist"], &["MNIST is not here", "train-images-idx3-ubyte", "dec fetch mnist", "--data-dir"]),
            (&["--data-dir=nowhere"], &["nowhere", "no such directory", "dec fetch mnist"]),
        ],
    );
}

/// Runs `dec ARGS` with an address space of `gigabytes`.
fn within(scratch: &Scratch, gigabytes: usize, args: &[&str]) -> Ran {
    let dec = scratch.command(args);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -v {} && exec \"$0\" \"$@\"", gigabytes * 1_000_000));
    command.arg(dec.get_program()).args(dec.get_args()).current_dir(scratch.path(""));
    command.envs(dec.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ran::from(command.output().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn files_that_memory_has_no_room_for() {
    let scratch = Scratch::new();
    let sparse = |name: &str, descr: &str, shape: &str, bytes: u64| {
        // Columns one after the other cannot be read row by row, as rows can that stay in their file.
        let header = String::from_utf8_lossy(&npy(descr, shape, &[])[10..]).replace("False", "True ");
        let header = [&npy(descr, shape, &[])[..10], header.as_bytes()].concat();
        fs::write(scratch.path(name), &header).unwrap();
        let file = fs::OpenOptions::new().write(true).open(scratch.path(name)).unwrap();
        file.set_len(header.len() as u64 + bytes).unwrap();
    };
    sparse("bytes.npy", "'|u1'", "(4000000, 1000)", 4_000_000_000);
    // Two bytes a value on the disk, and four in memory.
    sparse("halves.npy", "'<f2'", "(2000000, 500)", 2_000_000_000);
    // Eight bytes a label on the disk, and a text in memory.
    sparse("labels.npy", "'<i8'", "(500000000,)", 4_000_000_000);
    write_npy(&scratch.path("rows.npy"), &[4, 2], &[0.5f32; 8]);
    // Honest about 4 GB of zeros, in 4 MB: a stream of gzip may have many members.
    let gz = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut zipped = gz(&npy("'|u1'", "(4000000, 1000)", &[]));
    zipped.extend(gz(&vec![0; 40_000_000]).repeat(100));
    fs::write(scratch.path("zeros.npy.gz"), zipped).unwrap();

    let before: Vec<_> = scratch.names("");
    for (args, words) in [
        (["--data=bytes.npy", "--out=run"], ["bytes.npy", "4000000 x 1000 uint8 values need 8.0 GB"]),
        (["--data=halves.npy", "--out=run"], ["halves.npy", "2000000 x 500 float16 values need 8.0 GB"]),
        (["--data=zeros.npy.gz", "--out=run"], ["zeros.npy.gz", "4000000 x 1000 uint8 values need 4.0 GB"]),
        (["--data=rows.npy", "--labels=labels.npy"], ["labels.npy", "500000000 int64 values need 24 GB"]),
    ] {
        let ran = within(&scratch, 3, &args);
        ran.failed(6, &words);
        ran.failed(6, &["are available", "fewer rows", "data.limit does not help"]);
        assert_eq!(ran.stdout, "");
        assert!(scratch.names("") == before, "{args:?}: {:?}", scratch.names(""));
    }
}

#[test]
fn rows_that_cannot_be_clustered() {
    let scratch = Scratch::blobs();
    let mut rows = crate::support::blobs().0;
    rows[7 * 8 + 3] = f32::NAN;
    rows[100 * 8] = f32::NAN;
    write_npy(&scratch.path("nan.npy"), &[180, 8], &rows);
    rows[2 * 8 + 5] = f32::NEG_INFINITY;
    write_npy(&scratch.path("both.npy"), &[180, 8], &rows);
    write_npy(&scratch.path("large.npy"), &[2, 2], &[0.0, 1.0, 2.0, 1e300]);
    write_npy(&scratch.path("same.npy"), &[20, 2], &[1.5f32; 40]);
    write_npy(&scratch.path("none.npy"), &[0, 8], &[0f32; 0]);
    write_npy(&scratch.path("narrow.npy"), &[20, 0], &[0f32; 0]);

    refused(
        &scratch,
        3,
        &[
            (
                &["--data=nan.npy"],
                &[
                    "nan.npy",
                    "2 of its values are missing or NaN, in 2 of 180 rows",
                    "row 7, column 3",
                    "data.missing=mean",
                ],
            ),
            (&["--data=both.npy"], &["2 of its values are missing", "row 7, column 3"]),
            (&["--data=both.npy", "--missing=drop"], &["1 infinite", "the first is -inf at row 2, column 5"]),
            (&["--data=large.npy", "-k2"], &["large.npy", "1 infinite", "row 1, column 1", "float32"]),
            (&["--data=same.npy", "-k3"], &["same.npy", "all its rows (20) are the same"]),
            (&["--data=none.npy"], &["none.npy", "no rows"]),
            (&["--data=narrow.npy"], &["narrow.npy", "nothing to cluster by"]),
            (&["--data=rows.npy", "-k181"], &["rows.npy", "180 rows", "181 clusters", "fewer clusters"]),
            (&["--data=rows.npy", "--set=data.limit=5"], &["5 rows", "10 clusters"]),
        ],
    );
}

#[test]
fn labels_that_do_not_fit() {
    let scratch = Scratch::blobs();
    write_npy(&scratch.path("short.npy"), &[3], &[0i64, 1, 2]);
    write_npy(&scratch.path("half.npy"), &[180], &[0.5f64; 180]);
    refused(
        &scratch,
        3,
        &[
            (&["--data=rows.npy", "--labels=short.npy"], &["short.npy", "3 labels", "rows.npy has 180 rows"]),
            (&["--data=rows.npy", "--labels=half.npy"], &["half.npy", "row 0", "0.5", "whole numbers"]),
            (&["--data=rows.npy", "--labels=rows.npy"], &["rows.npy", "shape [180, 8]", "[rows]"]),
            (&["--data=rows.npy", "--labels=none.npy"], &["none.npy", "no such file"]),
        ],
    );
}

#[test]
fn settings_that_cannot_be_run() {
    let scratch = Scratch::blobs();
    fs::write(scratch.path("key.toml"), "seed = 1\n[cluster]\ntolerance = 0.1\n").unwrap();
    fs::write(scratch.path("section.toml"), "[clustre]\ntol = 0.1\n").unwrap();
    fs::write(scratch.path("type.toml"), "[pretrain]\nepochs = \"many\"\n").unwrap();
    fs::write(scratch.path("syntax.toml"), "seed = \n").unwrap();
    fs::write(scratch.path("rate.toml"), "[finetune]\nlr = -0.5\n").unwrap();
    fs::write(scratch.path("sweep.toml"), "[sweep]\n\"cluster.rate\" = [0.1]\n").unwrap();
    refused(
        &scratch,
        2,
        &[
            (
                &["--config=none.toml"],
                &[
                    "none.toml",
                    "No such file",
                    "default, fast, best, notebook, dec-paper, idec, dec-da, idec-da, aspc-da, seeds",
                ],
            ),
            (&["--config=key.toml"], &["key.toml", "line 3", "tolerance", "`tol`"]),
            (&["--config=section.toml"], &["section.toml", "line 1", "clustre", "`cluster`"]),
            (&["--config=type.toml"], &["type.toml", "line 2", "\"many\"", "a number, or"]),
            (&["--config=syntax.toml"], &["syntax.toml", "line 1"]),
            (&["--config=rate.toml"], &["finetune.lr = -0.5", "above 0"]),
            (&["--config=sweep.toml"], &["sweep", "cluster.rate", "unknown field `rate`", "`lr`"]),
            (&["--config=seeds"], &["seeds", "[sweep]", "dec sweep"]),
            (&["--set=cluster.tolerance=1"], &["setting cluster.tolerance=1", "unknown field `tolerance`", "`tol`"]),
            (&["--set=clustre.tol=1"], &["unknown field `clustre`", "`cluster`"]),
            (&["--set=pretrain.lr=-0.1"], &["pretrain.lr = -0.1", "above 0"]),
            (&["--set=finetune.lr=nan"], &["finetune.lr = NaN", "above 0"]),
            (&["--set=pretrain.epochs=0"], &["pretrain.epochs = 0", "at least 1"]),
            (&["--set=finetune.steps=0"], &["finetune.steps = 0", "at least 1"]),
            (&["--set=pretrain.dropout=0.2"], &["pretrain.dropout = 0.2", "layerwise"]),
            (&["--set=cluster.schedule=step"], &["cluster.schedule = step", "lr_decay_steps"]),
            (&["--set=start.method=ward"], &["start.method", "kmeans"]),
            (&["--set=augment.image=[20, 20]"], &["augment.image = [20, 20]", "784 values"]),
            (&["--set=pretrain.batch_size=0"], &["pretrain.batch_size = 0", "at least 1"]),
            (&["--set=cluster.batch_size=0"], &["cluster.batch_size = 0", "at least 1"]),
            (&["--set=finetune.batch_size=-1"], &["finetune.batch_size", "-1"]),
            (
                &["--set=pretrain.method=layerwise", "--set=pretrain.dropout=1"],
                &["pretrain.dropout = 1", "from 0 to below 1"],
            ),
            (&["--set=cluster.tol=2"], &["cluster.tol = 2", "from 0 to 1"]),
            (&["--set=cluster.tol"], &["setting cluster.tol", "section.key=value"]),
            (&["--set=seed=abc"], &["seed", "\"abc\"", "u64"]),
            (&["--set=model.hidden=[]", "--set=model.n_latent=0"], &["model.n_latent = 0", "from 1"]),
            (&["--clusters=0"], &["n_clusters = 0", "at least 1"]),
            (&["--clusters=ten"], &["ten", "--clusters"]),
            (&["--device=gpu"], &["device \"gpu\" is unknown", "auto, cpu, cuda or cuda:N"]),
            (&["--nonsense"], &["--nonsense", "Usage:", "--help"]),
            (&["--quiet", "--verbose"], &["--quiet", "--verbose"]),
        ],
    );
}

#[test]
fn a_gpu_that_is_not_there() {
    let scratch = Scratch::blobs();
    for device in ["cuda", "cuda:3"] {
        let mut command = scratch.command(["--data=rows.npy", "--out=run", "--device", device]);
        command.env("CUDA_VISIBLE_DEVICES", ""); // so it is not there on a machine with a GPU either
        let ran = crate::support::Ran::from(command.output().unwrap());
        ran.failed(2, &[&format!("--device {device}"), "Looked for:", "libtorch_cuda.so", "--device cpu"]);
        assert_eq!(ran.stdout, "");
        assert!(!scratch.path("run").exists());
    }
}

#[test]
fn places_that_cannot_be_written() {
    let scratch = Scratch::blobs();
    fs::write(scratch.path("file.txt"), "a file").unwrap();
    fs::create_dir(scratch.path("full")).unwrap();
    fs::write(scratch.path("full/assignments.csv"), "mine").unwrap();
    let sweep = "data.source = \"rows.npy\"\nn_clusters = 3\n[sweep]\nseed = [0]\n";
    fs::write(scratch.path("s.toml"), sweep).unwrap();
    refused(
        &scratch,
        2,
        &[
            // Below a file: that fails for root too, whom permissions do not bind.
            (&["--data=rows.npy", "--out=file.txt/run"], &["file.txt/run", "Not a directory", "--out"]),
            (&["--data=rows.npy", "--out=file.txt"], &["file.txt", "--out"]),
            (&["--data=rows.npy", "--out=full"], &["full", "results of a run", "--out", "--force"]),
            (&["sweep", "--config=s.toml", "--out=file.txt/sweep"], &["file.txt/sweep", "Not a directory", "--out"]),
            (&["--data=rows.npy", "--out="], &["--out"]),
        ],
    );
    scratch.dec(["--data=rows.npy", "--force"]).failed(2, &["--out <DIR>"]);
    assert!(!scratch.path("runs").exists());
}

#[test]
fn sweeps_that_cannot_be_run() {
    let scratch = Scratch::blobs();
    fs::write(scratch.path("none.toml"), "seed = 1\n").unwrap();
    fs::write(scratch.path("empty.toml"), "[sweep]\nseed = []\n").unwrap();
    fs::write(scratch.path("negative.toml"), "[sweep]\n\"cluster.lr\" = [0.1, -0.1]\n").unwrap();
    fs::write(scratch.path("twice.toml"), "[sweep]\nseed = [1, 1]\n").unwrap();
    refused(
        &scratch,
        2,
        &[
            (&["sweep", "--config=none.toml"], &["no [sweep] table", "seed = [0, 1, 2]"]),
            (&["sweep", "--config=empty.toml"], &["sweep.seed", "empty", "at least one value"]),
            (&["sweep", "--config=negative.toml"], &["cluster.lr = -0.1", "above 0"]),
            (&["sweep", "--config=twice.toml"], &["two members", "seed=1"]),
            (&["sweep", "--config=missing.toml"], &["missing.toml", "No such file"]),
        ],
    );
}
