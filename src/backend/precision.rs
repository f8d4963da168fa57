//! The precision of float32 products: TF32 on a GPU, bf16.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::marker::PhantomData;

use tch::Device;

use super::shim::check;
use crate::error::Result;

// The contract is at the head of guard.h.
extern "C" {
    fn dec_shim_set_tf32(allow: bool) -> *mut c_char;
    fn dec_shim_get_tf32(out: *mut bool) -> *mut c_char;
    fn dec_bf16_is_native() -> bool;
    fn dec_bf16_begin();
    fn dec_bf16_end();
    fn dec_bf16_clear();
}

/// The environment variable that has factors rounded to bf16 on processors without instructions for it too, which is slower than float32:
/// what rounding does to a result can then be seen anywhere.
const EVERYWHERE: &str = "DEC_BF16_EVERYWHERE";

/// Whether this processor multiplies bf16 faster than float32: it has AVX512-BF16, and libtorch a library that uses it.
pub fn bf16_is_native() -> bool {
    // SAFETY: asks the processor, and multiplies matrices of its own.
    unsafe { dec_bf16_is_native() }
}

/// Whether products on `device` are computed in bf16 where a recipe asks for it: on GPUs, and on processors where [`bf16_is_native`].
pub fn multiplies_bf16(device: Device) -> bool {
    match device {
        Device::Cpu => bf16_is_native() || std::env::var_os(EVERYWHERE).is_some(),
        other => other.is_cuda(),
    }
}

/// While it lives, a factor of this thread's products on the CPU that is rounded to bf16 is rounded once, until a product writes to it. What
/// has been a factor may be changed by nothing else meanwhile, but where it is none again, and by these, which round what they write:
/// `dense::dropout`, `activate`, `activate_backward` and `mean_squared_error` for this value, `descend` and `adam` for the next one, unless the
/// parameter is changed again in between.
#[derive(Debug)]
pub struct RoundedOnce {
    /// It ends where it began.
    thread: PhantomData<*const ()>,
}

impl RoundedOnce {
    /// From here on.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        // SAFETY: sets what belongs to this thread.
        unsafe { dec_bf16_begin() };
        Self { thread: PhantomData }
    }
}

impl Drop for RoundedOnce {
    fn drop(&mut self) {
        // SAFETY: sets what belongs to this thread, which is the one of `new`: the value cannot leave it.
        unsafe { dec_bf16_end() };
    }
}

/// Gives back the memory of the factors that were kept, rounded, for [`RoundedOnce`] of this thread.
pub fn forget_rounded() {
    // SAFETY: frees what belongs to this thread and is used by nothing but products, which round anew what they do not find.
    unsafe { dec_bf16_clear() }
}

/// Whether float32 products on a GPU may use TF32, for the whole process; libtorch's default is that they may not.
///
/// TF32 keeps float32's range of numbers and rounds the factors to 10 bits of fraction instead of 23: on GPUs since Ampere
/// products are several times faster, with a relative error of about 10⁻³ instead of 10⁻⁷ in each. Sums stay in float32.
/// Products on the CPU are what they were.
///
/// # Errors
///
/// [`crate::Error::Torch`] if libtorch fails.
///
/// ```
/// use dec::backend::precision;
/// precision::allow_tf32(true)?;
/// assert!(precision::tf32_allowed()?);
/// # Ok::<(), dec::Error>(())
/// ```
pub fn allow_tf32(allow: bool) -> Result<()> {
    // SAFETY: takes a plain value; `check` gets what it has just returned.
    unsafe { check(dec_shim_set_tf32(allow)) }
}

/// What [`allow_tf32`] set last, as libtorch has it.
///
/// # Errors
///
/// [`crate::Error::Torch`] if another library in the process has left libtorch's two flags for this in disagreement.
pub fn tf32_allowed() -> Result<bool> {
    let mut allowed = false;
    // SAFETY: `allowed` is a valid place for one bool, which the function writes whole or not at all.
    unsafe { check(dec_shim_get_tf32(&mut allowed)) }?;
    Ok(allowed)
}

/// Exact float32 products for as long as it lives; see [`without_tf32`].
#[derive(Debug)]
pub struct WithoutTf32 {
    allowed_before: bool,
}

/// Forbids TF32 until the returned value is dropped.
///
/// # Errors
///
/// As [`tf32_allowed`].
pub fn without_tf32() -> Result<WithoutTf32> {
    let allowed_before = tf32_allowed()?;
    if allowed_before {
        allow_tf32(false)?;
    }
    Ok(WithoutTf32 { allowed_before })
}

impl Drop for WithoutTf32 {
    fn drop(&mut self) {
        if self.allowed_before {
            if let Err(error) = allow_tf32(true) {
                tracing::warn!("TF32 stays off: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn libtorch_knows_what_was_set() {
        for allow in [true, false, true, false] {
            allow_tf32(allow).unwrap();
            assert_eq!(tf32_allowed().unwrap(), allow);
        }
        allow_tf32(true).unwrap();
        let exact = without_tf32().unwrap();
        assert!(!tf32_allowed().unwrap());
        drop(exact);
        assert!(tf32_allowed().unwrap());
        allow_tf32(false).unwrap();
        drop(without_tf32().unwrap());
        assert!(!tf32_allowed().unwrap());
    }
}
