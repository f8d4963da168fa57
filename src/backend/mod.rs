//! The machine below the mathematics: which device, what libtorch does that `tch` has no binding for, memory used, locks of
//! files, child processes.
//!
//! The only `unsafe` code of the crate is here: loading libraries, calling the C++ file that has a module's name, and what a
//! child process does before it begins. Each block says why it is sound, and what the modules export is safe.

pub(crate) mod augment;
pub mod cuda;
pub(crate) mod dense;
mod dense_generic;
mod dense_rules;
pub mod device;
mod exit;
mod fused;
pub(crate) mod graph;
pub(crate) mod lloyd;
pub(crate) mod locked_file;
pub mod memory;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod mkl;
pub mod precision;
mod process;
pub mod ranks;
pub mod shim;
pub mod signals;
pub(crate) mod student_t;
pub mod threads;
pub mod waiting;

pub use device::{device_name, select, DeviceRequest};
pub use exit::{exit, kill_self};
pub use memory::{available_bytes, peak_memory_bytes};
pub use process::end_with_parent;
pub use shim::{libtorch_version, ScriptModule};
