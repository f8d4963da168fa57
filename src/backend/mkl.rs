//! Which of MKL's kernels multiply.
//!
//! MKL asks a function of its own whether the processor is Intel's, and takes slower kernels where it is not: on an AMD EPYC 7003 two threads
//! multiplied the layers of 784-500-500-2000-10 at 145 GFLOP/s, and at 165 with the kernels for Intel's AVX2. libtorch calls that function
//! by way of the loader, which finds the program's before MKL's. What instructions there are MKL asks the processor itself. In a library, as
//! the Python module is, MKL's answer stands.
#![allow(unsafe_code)]

use std::ffi::c_int;

/// In MKL's place, whether the processor is to be treated as Intel's.
// SAFETY: of MKL's name and signature, which takes nothing and returns a truth value; it reads nothing but what the processor says of itself.
#[no_mangle]
pub extern "C" fn mkl_serv_intel_cpu_true() -> c_int {
    c_int::from(std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"))
}
