//! Makes the targets remember where libtorch is, as dec's own executables do.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Some(link) = std::env::var_os("LIBTORCH") else { return };
    if let Ok(libtorch) = Path::new(&link).canonicalize() {
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,{}", libtorch.join("lib").display());
    }
}
