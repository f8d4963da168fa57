//! The machine below the mathematics: which device, what libtorch does that `tch` has no binding for, memory used.
//!
//! The only `unsafe` code of the crate is here: loading libraries, and calling the C++ file that has a module's name. Each
//! block says why it is sound, and what the modules export is safe.

pub(crate) mod augment;
pub mod cuda;
pub(crate) mod dense;
mod dense_generic;
pub mod device;
mod exit;
pub(crate) mod graph;
pub(crate) mod lloyd;
pub mod memory;
pub mod precision;
pub mod shim;
pub(crate) mod student_t;
pub mod threads;

pub use device::{device_name, select, DeviceRequest};
pub use exit::exit;
pub use memory::peak_memory_bytes;
pub use shim::{libtorch_version, ScriptModule};
