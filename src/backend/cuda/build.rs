//! How `libdec_cuda.so` is compiled. A part of build.rs, and of the test that compiles it against the peers' PyTorch.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const SOURCE: &str = "src/backend/cuda/graph.cpp";
const RUNTIME: &str = "libcudart.so.13";

/// Whether the libtorch in `lib` is a build with CUDA.
pub fn has_cuda(lib: &Path) -> bool {
    lib.join("libtorch_cuda.so").exists()
}

/// What is needed of CUDA's toolkit.
pub struct Toolkit {
    include: PathBuf,
    runtime: PathBuf,
}

impl Toolkit {
    /// The toolkit beside the libtorch in `lib`, as PyTorch's wheels have it, else an installed one; the error says what is
    /// missing where.
    pub fn find(lib: &Path) -> Result<Self, String> {
        let beside = lib.join("../../nvidia/cu13");
        let installed = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
        let mut problems = Vec::new();
        for root in std::iter::once(beside).chain(installed).chain([PathBuf::from("/usr/local/cuda")]) {
            let include = root.join("include");
            let headers = ["cuda_runtime_api.h", "crt/host_defines.h"]; // two packages
            let runtime = [root.join("lib"), root.join("lib64"), lib.to_owned()].map(|dir| dir.join(RUNTIME));
            if let Some(header) = headers.iter().find(|header| !include.join(header).exists()) {
                problems.push(format!("no {}", include.join(header).display()));
            } else if let Some(runtime) = runtime.into_iter().find(|file| file.exists()) {
                return Ok(Self { include, runtime });
            } else {
                problems.push(format!("no {RUNTIME} in {}", root.display()));
            }
        }
        Err(problems.join(", "))
    }

    /// Adds to `compiler` what makes it write the library to `output`, for the libtorch in `lib`.
    pub fn compile<'c>(&self, compiler: &'c mut Command, lib: &Path, output: &Path) -> &'c mut Command {
        let torch = lib.with_file_name("include");
        for include in [&torch, &torch.join("torch/csrc/api/include"), &self.include] {
            compiler.arg("-isystem").arg(include);
        }
        compiler.args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", SOURCE, "-o"]).arg(output);
        compiler.arg("-L").arg(lib).args(["-ltorch_cuda", "-lc10_cuda", "-ltorch_cpu", "-lc10"]).arg(&self.runtime);
        // It is loaded after libtorch_cuda, so everything that it needs is there already under its name.
        compiler.arg("-Wl,--no-undefined").arg(format!("-Wl,-rpath-link,{}", lib.display()))
    }
}
