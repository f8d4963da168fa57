//! Safe wrappers of `shim.cpp`: what libtorch has and `tch` does not bind.
#![allow(unsafe_code)]

use std::ffi::{c_char, CStr, CString};
use std::ptr::{self, NonNull};

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use crate::error::Result;

/// `torch::jit::Module`, seen only through a pointer.
#[repr(C)]
struct RawModule {
    _private: [u8; 0],
}

// `C_tensor` is `at::Tensor` under torch-sys's name. The contract is at the head of guard.h.
extern "C" {
    fn dec_shim_libtorch_version() -> *const c_char;
    fn dec_shim_free(text: *mut c_char);
    fn dec_shim_module_new(name: *const c_char, out: *mut *mut RawModule) -> *mut c_char;
    fn dec_shim_module_delete(module: *mut RawModule);
    fn dec_shim_module_register_parameter(
        module: *mut RawModule,
        name: *const c_char,
        value: *const C_tensor,
    ) -> *mut c_char;
    fn dec_shim_module_define(module: *mut RawModule, source: *const c_char) -> *mut c_char;
    fn dec_shim_module_save(module: *const RawModule, bytes: *mut *mut c_char, length: *mut usize) -> *mut c_char;
}

/// Takes over the message that a shim function returned; null is success.
///
/// # Safety
///
/// `message` is what a function under guard.h's contract has just returned, and is not used again.
pub(super) unsafe fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so by the shim's contract a NUL-terminated string that is ours to read and then to free.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        dec_shim_free(message);
        text
    };
    Err(TchError::Torch(text).into())
}

fn c_string(text: &str) -> Result<CString> {
    Ok(CString::new(text).map_err(TchError::from)?)
}

/// The version of libtorch that this program was compiled against, such as "2.11.0".
pub fn libtorch_version() -> String {
    // SAFETY: returns a pointer to a string literal, valid for the life of the program.
    unsafe { CStr::from_ptr(dec_shim_libtorch_version()) }.to_string_lossy().into_owned()
}

/// A TorchScript module under construction: parameters, then methods given as source, then the archive's bytes.
///
/// What `torch.jit.load` and [`tch::CModule`] read. Parameters are registered as such (not constants of the code), so
/// that `.to(device)` moves them. The module is in evaluation mode.
#[derive(Debug)]
pub struct ScriptModule {
    raw: NonNull<RawModule>,
}

impl ScriptModule {
    /// An empty module whose TorchScript class is called `name`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Torch`] if libtorch does not take the name.
    pub fn new(name: &str) -> Result<Self> {
        let name = c_string(name)?;
        let mut raw = ptr::null_mut();
        // SAFETY: `name` is NUL-terminated and outlives the call; `raw` is a valid place for one pointer.
        unsafe { check(dec_shim_module_new(name.as_ptr(), &mut raw)) }?;
        let raw = NonNull::new(raw).ok_or_else(|| TchError::Torch("no module was made".to_owned()))?;
        Ok(Self { raw })
    }

    /// Adds `value` as the parameter `self.<name>` of the methods. The module shares its storage.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Torch`] if there is one of that name already.
    pub fn register_parameter(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let name = c_string(name)?;
        // SAFETY: `raw` is the live module that `new` made; `name` is NUL-terminated; `value` is a live at::Tensor,
        // of which the module keeps a counted reference of its own.
        unsafe { check(dec_shim_module_register_parameter(self.raw.as_ptr(), name.as_ptr(), value.as_ptr())) }
    }

    /// Compiles `source`, one or more TorchScript `def`s with `self` as first argument, into methods.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Torch`] with the compiler's message if it is not valid TorchScript.
    pub fn define(&mut self, source: &str) -> Result<()> {
        let source = c_string(source)?;
        // SAFETY: `raw` is the live module that `new` made; `source` is NUL-terminated and outlives the call.
        unsafe { check(dec_shim_module_define(self.raw.as_ptr(), source.as_ptr())) }
    }

    /// The module as an archive, what a `.pt` file holds. Modules made of equal parts give equal bytes.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Torch`] if libtorch fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (mut bytes, mut length) = (ptr::null_mut(), 0);
        // SAFETY: `raw` is the live module that `new` made; both places are valid for a write.
        unsafe { check(dec_shim_module_save(self.raw.as_ptr(), &mut bytes, &mut length)) }?;
        // SAFETY: without an error `bytes` is a block of `length` bytes from malloc, not null and ours: copied here and
        // freed once.
        unsafe {
            let copy = std::slice::from_raw_parts(bytes.cast::<u8>(), length).to_vec();
            dec_shim_free(bytes);
            Ok(copy)
        }
    }
}

impl Drop for ScriptModule {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `new`, belongs to this value alone and is not used after.
        unsafe { dec_shim_module_delete(self.raw.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Device, Kind};

    fn wave(shape: &[i64], phase: f64) -> Tensor {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Double, Device::Cpu)) * 7.31 + phase).sin().to_kind(Kind::Float).reshape(shape)
    }

    #[test]
    fn version_is_of_the_release_that_tch_binds() {
        assert!(libtorch_version().starts_with("2.11."), "{}", libtorch_version());
    }

    #[test]
    fn script_errors_are_errors() {
        let mut module = ScriptModule::new("Broken").unwrap();
        assert!(module.define("def forward(self, x):\n  return x +\n").is_err());
        assert!(module.define("def other(self, x):\n  return self.nowhere(x)\n").is_err());
        assert!(module.define("a\0b").is_err());
        module.register_parameter("w", &wave(&[2], 0.0)).unwrap();
        assert!(module.register_parameter("w", &wave(&[2], 0.0)).unwrap_err().to_string().contains("'w' already"));
        assert!(ScriptModule::new("").is_err());
    }

    #[test]
    fn a_module_runs_after_a_round_trip() {
        let build = || {
            let mut module = ScriptModule::new("Line").unwrap();
            module.register_parameter("slope", &Tensor::from_slice(&[2.0f32, 3.0])).unwrap();
            module.define("def forward(self, x):\n  return self.slope * x + 1\n").unwrap();
            module.to_bytes().unwrap()
        };
        let bytes = build();
        assert_eq!(bytes, build());
        let loaded = tch::CModule::load_data(&mut bytes.as_slice()).unwrap();
        let y = loaded.forward_ts(&[Tensor::from_slice(&[10.0f32, 20.0])]).unwrap();
        assert_eq!(y, Tensor::from_slice(&[21.0f32, 61.0]));
        assert_eq!(loaded.named_parameters().unwrap()[0].0, "slope");
    }
}
