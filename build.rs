//! Compiles the C++ shim against libtorch's headers and makes every executable remember where libtorch is.
//!
//! libtorch itself is found by torch-sys, by way of `LIBTORCH` in `.cargo/config.toml`: the link `.libtorch` that
//! `scripts/setup` makes.

#[path = "src/backend/cuda/build.rs"]
mod cuda;

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

const LIBTORCH_VERSION: &str = "2.11.0";
const SHIM: [&str; 6] = [
    "src/backend/shim.cpp",
    "src/backend/fused.cpp",
    "src/backend/lloyd.cpp",
    "src/backend/precision.cpp",
    "src/backend/sparse.cpp",
    "src/backend/waiting.cpp",
];
const DENSE: [&str; 4] =
    ["src/backend/dense.cpp", "src/backend/bf16.cpp", "src/backend/augment.cpp", "src/backend/graph.cpp"];
const HEADERS: [&str; 8] = [
    "src/backend/adam.h",
    "src/backend/bf16.h",
    "src/backend/guard.h",
    "src/backend/hash.h",
    "src/backend/parallel.h",
    "src/backend/prefetch.h",
    "src/backend/rows.h",
    "src/backend/sparse.h",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in SHIM.iter().chain(&HEADERS).chain(&DENSE) {
        println!("cargo:rerun-if-changed={file}");
    }

    let lib = env::var("DEP_TCH_LIBTORCH_LIB").map_err(|_| "torch-sys does not say where libtorch is")?;
    // The directory itself and not the link to it: an executable then outlives its checkout.
    let lib = fs::canonicalize(&lib).map_err(|e| format!("{lib}: {e}: run scripts/setup"))?;
    let include = lib.with_file_name("include");
    check_version(&include)?;

    println!("cargo:rustc-env=DEC_LIBTORCH_LIB={}", lib.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // DT_RPATH and not DT_RUNPATH: it comes before LD_LIBRARY_PATH, which may lead to another libtorch.
        println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
    }

    // libtorch's loops are OpenMP's. Linked by the name that libtorch's own library has, so that there is one pool of threads.
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-lib=dylib:+verbatim={}", openmp(&lib)?);

    let mut compiler = cc::Build::new();
    compiler
        .cpp(true)
        .opt_level(3) // in a debug build too: these are the inner loops
        .flag("-fopenmp")
        .std("c++17")
        // -isystem: libtorch's headers are not ours to warn about.
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .warnings(true)
        .extra_warnings(true);
    compiler.clone().files(SHIM).compile("dec_shim");
    // With errno to set, a square root is no vector instruction.
    compiler.flag("-fno-math-errno");
    // A loop's last values, which do not fill a vector, are to be rounded as the others are: how many there are depends on the
    // number of threads.
    compiler.files(DENSE).flag("-ffp-contract=off").compile("dec_dense");
    if env::var_os("CARGO_FEATURE_MPI").is_some() {
        mpi()?;
    }
    cuda_library(&lib)
}

/// Compiles what calls MPI, by what the MPI's own compiler says of itself.
fn mpi() -> Result<(), Box<dyn Error>> {
    const SOURCE: &str = "src/backend/mpi.c";
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-env-changed=MPICC");
    let mpicc = env::var("MPICC").unwrap_or_else(|_| "mpicc".to_owned());
    // Open MPI's, then MPICH's words for it.
    let flags = |options: [&str; 2]| {
        let ask = |option: &str| Command::new(&mpicc).arg(option).output().ok().filter(|said| said.status.success());
        let said = options.into_iter().find_map(ask).ok_or_else(|| {
            format!("feature mpi: {mpicc} is not there or does not say how it compiles; Debian: apt install libopenmpi-dev openmpi-bin")
        })?;
        Ok::<_, String>(String::from_utf8_lossy(&said.stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let mut compiler = cc::Build::new();
    for flag in flags(["--showme:compile", "-compile-info"])?.iter().filter(|flag| flag.starts_with('-')) {
        compiler.flag(flag);
    }
    compiler.file(SOURCE).opt_level(3).warnings(true).compile("dec_mpi");
    for flag in flags(["--showme:link", "-link-info"])?.iter().filter(|flag| flag.starts_with('-')) {
        match (flag.strip_prefix("-L"), flag.strip_prefix("-l")) {
            (Some(directory), _) => println!("cargo:rustc-link-search=native={directory}"),
            (_, Some(library)) => println!("cargo:rustc-link-lib=dylib={library}"),
            _ => {}
        }
    }
    Ok(())
}

/// Compiles `libdec_cuda.so` where libtorch has CUDA and the toolkit's headers are there; without them the program lacks
/// CUDA graphs and the kernel of dropout's masks, for which libtorch's operations take longer.
fn cuda_library(lib: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={}", cuda::SOURCE);
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    println!("cargo:rerun-if-env-changed=CUDA_PATH");
    if !cuda::has_cuda(lib) {
        return Ok(());
    }
    let toolkit = match cuda::Toolkit::find(lib) {
        Ok(toolkit) => toolkit,
        Err(missing) => {
            println!("cargo:warning=CUDA graphs are left out: {missing}; scripts/setup --cuda brings it");
            return Ok(());
        }
    };
    let output = Path::new(&env::var("OUT_DIR")?).join("libdec_cuda.so");
    let mut compiler = cc::Build::new().cpp(true).get_compiler().to_command();
    if toolkit.compile(&mut compiler, lib, &output).status()?.success() {
        println!("cargo:rustc-env=DEC_CUDA_LIBRARY={}", output.display());
    } else {
        println!("cargo:warning=CUDA graphs are left out: {} does not compile here", cuda::SOURCE);
    }
    Ok(())
}

/// The OpenMP library that libtorch brings, else the system's.
fn openmp(lib: &Path) -> Result<String, Box<dyn Error>> {
    for entry in fs::read_dir(lib)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("libgomp") {
            return Ok(name);
        }
    }
    Ok("libgomp.so.1".to_owned())
}

/// torch-sys checks the version of a libtorch archive only; a PyTorch installation has no `build-version` file.
fn check_version(include: &Path) -> Result<(), Box<dyn Error>> {
    let header = include.join("torch/headeronly/version.h");
    println!("cargo:rerun-if-changed={}", header.display());
    let text = fs::read_to_string(&header).map_err(|e| format!("{}: {e}: run scripts/setup", header.display()))?;
    let part = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("#define TORCH_VERSION_")?.strip_prefix(name))
            .unwrap_or("?")
            .trim()
    };
    let found = [part("MAJOR"), part("MINOR"), part("PATCH")].join(".");
    if found != LIBTORCH_VERSION {
        let link = include.with_file_name("").display().to_string();
        return Err(format!("{link} is libtorch {found}, not {LIBTORCH_VERSION}: run scripts/setup").into());
    }
    Ok(())
}
