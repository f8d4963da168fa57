//! `libdec_cuda.so` compiles and links against the CUDA build of libtorch that the peers' PyTorch is. It is not loaded: that
//! takes a GPU's driver.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../src/backend/cuda/build.rs"]
mod build;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const EXPORTED: [&str; 8] = [
    "dec_cuda_drawn",
    "dec_cuda_free",
    "dec_cuda_graph_begin",
    "dec_cuda_graph_delete",
    "dec_cuda_graph_end",
    "dec_cuda_graph_new",
    "dec_cuda_graph_replay",
    "dec_cuda_libtorch_version",
];

/// The directory of libtorch in the PyTorch of `DEC_PYTHON`, found without importing it; `None` if there is none.
fn peers_libtorch() -> Option<PathBuf> {
    let python = env::var_os("DEC_PYTHON").filter(|python| !python.is_empty())?;
    let script = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    let output = Command::new(python).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(Path::new(String::from_utf8(output.stdout).unwrap().trim()).join("lib"))
}

#[test]
fn the_library_compiles_and_has_the_functions_that_are_looked_up() {
    let Some(lib) = peers_libtorch() else {
        return eprintln!("skipped: DEC_PYTHON does not name a Python with PyTorch (scripts/test sets it)");
    };
    if !build::has_cuda(&lib) {
        return eprintln!("skipped: the PyTorch in {} is a build without CUDA", lib.display());
    }
    let toolkit = match build::Toolkit::find(&lib) {
        Ok(toolkit) => toolkit,
        Err(missing) => return eprintln!("skipped: {missing} (scripts/setup --peers brings it)"),
    };
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("libdec_cuda.so");
    let mut compiler = Command::new("c++");
    compiler.arg("-Werror").current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = toolkit.compile(&mut compiler, &lib, &library).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output();
    let Ok(output) = output else { return eprintln!("the symbols are not looked at: there is no nm") };
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split_whitespace().last());
    let mut found: Vec<_> = names.filter(|name| name.starts_with("dec_cuda_")).collect();
    found.sort_unstable();
    assert_eq!(found, EXPORTED);
    for name in EXPORTED {
        let looked_up = format!("\"{name}\"");
        assert!(include_str!("../src/backend/cuda.rs").contains(&looked_up), "{name} is not looked up");
    }
}
