//! Safe wrappers of `shim.cpp`: what libtorch has and `tch` does not bind.
#![allow(unsafe_code)]

use std::ffi::{c_char, CStr, CString};
use std::ptr::{self, NonNull};

use tch::{Kind, TchError, Tensor};
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
    fn dec_shim_sgd_step(
        parameters: *const *const C_tensor,
        gradients: *const *const C_tensor,
        momenta: *const *const C_tensor,
        count: usize,
        learning_rate: f64,
        momentum: f64,
    ) -> *mut c_char;
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

/// One step of stochastic gradient descent with momentum, in place, in one pass over each parameter.
///
/// v ← momentum · v + g, then w ← w − learning_rate · v (the form of Sutskever et al. 2013 that PyTorch's `SGD` uses),
/// with no weight decay, dampening or Nesterov term. `parameters` (w), `gradients` (g) and `momenta` (v, zeros before
/// the first step) go together by position; each triple has one shape, one floating kind and one device, CPU or CUDA.
/// Nothing is recorded for autograd. Parameters and momenta must be contiguous.
///
/// # Errors
///
/// [`crate::Error::Torch`] if the lists or a triple do not go together (nothing has been changed then) or libtorch
/// fails.
///
/// ```
/// use tch::Tensor;
/// let w = [Tensor::from_slice(&[1.0f32, 2.0])];
/// let g = [Tensor::from_slice(&[0.5f32, -1.0])];
/// let v = [Tensor::from_slice(&[1.0f32, 0.0])];
/// dec::backend::sgd_step(&w, &g, &v, 0.1, 0.9)?;
/// assert!(v[0].allclose(&Tensor::from_slice(&[1.4f32, -1.0]), 1e-6, 0.0, false));
/// assert!(w[0].allclose(&Tensor::from_slice(&[0.86f32, 2.1]), 1e-6, 0.0, false));
/// # Ok::<(), dec::Error>(())
/// ```
pub fn sgd_step(
    parameters: &[Tensor],
    gradients: &[Tensor],
    momenta: &[Tensor],
    learning_rate: f64,
    momentum: f64,
) -> Result<()> {
    if parameters.len() != gradients.len() || parameters.len() != momenta.len() {
        return Err(TchError::Shape(format!(
            "SGD step over {} parameters, {} gradients and {} momenta",
            parameters.len(),
            gradients.len(),
            momenta.len()
        ))
        .into());
    }
    for (index, ((w, g), v)) in parameters.iter().zip(gradients).zip(momenta).enumerate() {
        check_triple(w, g, v).map_err(|problem| TchError::Shape(format!("SGD step, parameter {index}: {problem}")))?;
    }
    if parameters.is_empty() {
        return Ok(()); // libtorch would look for a first parameter
    }
    let pointers = |list: &[Tensor]| list.iter().map(Tensor::as_ptr).collect::<Vec<_>>();
    let (w, g, v) = (pointers(parameters), pointers(gradients), pointers(momenta));
    // SAFETY: each of the three arrays holds `w.len()` pointers (the lengths were compared) to live at::Tensors, which
    // the borrowed slices keep alive for the call. The shim reads the handles and writes only through libtorch to the
    // tensors' storage, which every `&Tensor` of tch shares; the kernels' bounds hold because shapes, kinds, devices
    // and memory layout were checked above.
    unsafe { check(dec_shim_sgd_step(w.as_ptr(), g.as_ptr(), v.as_ptr(), w.len(), learning_rate, momentum)) }
}

/// What the fused kernels take for granted about one parameter, its gradient and its momentum.
fn check_triple(w: &Tensor, g: &Tensor, v: &Tensor) -> std::result::Result<(), String> {
    for (name, tensor) in [("parameter", w), ("gradient", g), ("momentum", v)] {
        if !tensor.defined() {
            return Err(format!("there is no {name} (an undefined tensor)"));
        }
        if tensor.is_sparse() {
            return Err(format!("the {name} is sparse"));
        }
    }
    if w.size() != g.size() || w.size() != v.size() {
        return Err(format!("shapes {:?}, gradient {:?}, momentum {:?} differ", w.size(), g.size(), v.size()));
    }
    let kinds = [w, g, v].map(|tensor| tensor.f_kind().ok());
    if kinds[0].is_none() || kinds[0] != kinds[1] || kinds[0] != kinds[2] {
        return Err(format!("kinds {:?}, gradient {:?}, momentum {:?} differ", kinds[0], kinds[1], kinds[2]));
    }
    if !matches!(kinds[0], Some(Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)) {
        return Err(format!("kind {:?} is not a floating one", kinds[0]));
    }
    if w.device() != g.device() || w.device() != v.device() {
        return Err(format!("devices {:?}, gradient {:?}, momentum {:?} differ", w.device(), g.device(), v.device()));
    }
    if !w.is_contiguous() || !v.is_contiguous() {
        return Err("the parameter or its momentum is not contiguous".to_owned());
    }
    Ok(())
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
    use tch::Device;

    fn wave(shape: &[i64], phase: f64) -> Tensor {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Double, Device::Cpu)) * 7.31 + phase).sin().to_kind(Kind::Float).reshape(shape)
    }

    /// The largest absolute difference; double throughout.
    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
    }

    #[test]
    fn version_is_of_the_release_that_tch_binds() {
        assert!(libtorch_version().starts_with("2.11."), "{}", libtorch_version());
    }

    #[test]
    fn sgd_agrees_with_plain_arithmetic_over_several_steps() {
        // Sizes around the vector width and one large enough to be split among threads.
        let shapes: [&[i64]; 4] = [&[1], &[7, 5], &[33], &[400, 501]];
        let fused: Vec<_> = shapes.iter().map(|s| wave(s, 0.3).set_requires_grad(true)).collect();
        let velocity: Vec<_> = shapes.iter().map(|s| Tensor::zeros(*s, (Kind::Float, Device::Cpu))).collect();
        let mut w: Vec<_> = fused.iter().map(|t| t.detach().to_kind(Kind::Double)).collect();
        let mut v: Vec<_> = velocity.iter().map(|t| t.to_kind(Kind::Double)).collect();
        for step in 0..5 {
            let g: Vec<_> = shapes.iter().map(|s| wave(s, f64::from(step))).collect();
            sgd_step(&fused, &g, &velocity, 0.1, 0.9).unwrap();
            for i in 0..shapes.len() {
                v[i] = &v[i] * 0.9 + g[i].to_kind(Kind::Double);
                w[i] = &w[i] - &v[i] * 0.1;
            }
        }
        for i in 0..shapes.len() {
            assert!(distance(&fused[i].detach(), &w[i]) < 1e-6, "parameter {i}");
            assert!(distance(&velocity[i], &v[i]) < 1e-6, "momentum {i}");
        }
    }

    #[test]
    fn sgd_takes_a_transposed_gradient() {
        let w = [wave(&[6, 4], 0.0)];
        let v = [w[0].zeros_like()];
        let g = [wave(&[4, 6], 1.0).tr()];
        assert!(!g[0].is_contiguous());
        let expected = &w[0] - &g[0] * 0.5;
        sgd_step(&w, &g, &v, 0.5, 0.9).unwrap();
        assert!(distance(&w[0], &expected) < 1e-6);
        assert_eq!(v[0], g[0]);
    }

    #[test]
    fn sgd_refuses_what_does_not_go_together_and_changes_nothing() {
        let w = [wave(&[3, 2], 0.0)];
        let before = w[0].copy();
        let zeros = |shape: &[i64], kind| [Tensor::zeros(shape, (kind, Device::Cpu))];
        let v = zeros(&[3, 2], Kind::Float);
        let g = [wave(&[3, 2], 1.0)];
        let problem = |w: &[Tensor], g: &[Tensor], v: &[Tensor]| sgd_step(w, g, v, 0.1, 0.9).unwrap_err().to_string();
        assert!(problem(&w, &[], &v).contains("1 parameters, 0 gradients and 1 momenta"));
        assert!(problem(&w, &[wave(&[2, 3], 1.0)], &v).contains("[3, 2], gradient [2, 3]"));
        assert!(problem(&w, &g, &zeros(&[3, 2], Kind::Double)).contains("kinds"));
        assert!(problem(&w, &[Tensor::new()], &v).contains("no gradient"));
        assert!(problem(&[wave(&[2, 3], 0.0).tr()], &g, &v).contains("not contiguous"));
        let whole = zeros(&[2], Kind::Int64);
        assert!(problem(&whole, &whole, &whole).contains("not a floating one"));
        assert_eq!(w[0], before);
        assert!(sgd_step(&[], &[], &[], 0.1, 0.9).is_ok());
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
