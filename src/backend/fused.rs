//! Safe wrappers of `fused.cpp`: operations of libtorch's on lists of tensors and with a factor, which tch does not bind.
//!
//! They are for GPUs, which start each as one; [`super::dense`] says what they compute, and checks shapes, kinds and devices.
#![allow(unsafe_code)]

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use super::dense_rules::{AdamRule, Sink};
use super::shim::check;
use crate::error::Result;

// The contract is at the head of guard.h.
extern "C" {
    fn dec_fused_descend(
        w: *const *const C_tensor,
        v: *const *const C_tensor,
        count: usize,
        rate: *const C_tensor,
        decay: f32,
    ) -> *mut c_char;
    fn dec_fused_adam(
        w: *const *const C_tensor,
        g: *const *const C_tensor,
        m: *const *const C_tensor,
        v: *const *const C_tensor,
        count: usize,
        rates: *const C_tensor,
        rule: *const AdamRule,
    ) -> *mut c_char;
    fn dec_fused_add_columns(gradient: *const C_tensor, sums: *const C_tensor, keep: f32) -> *mut c_char;
}

/// [`super::dense::descend`]; both lists are as long.
pub(super) fn descend(w: &[&Tensor], v: &[&Tensor], rate: &Tensor, decay: f64) -> Result<()> {
    assert_eq!(w.len(), v.len());
    let [w, v] = [w, v].map(pointers);
    // SAFETY: as many live tensors in either list; libtorch checks whatever else it asks of them.
    unsafe { check(dec_fused_descend(w.as_ptr(), v.as_ptr(), w.len(), rate.as_ptr(), decay as f32)) }
}

/// [`super::dense::adam`]; the lists are as long.
pub(super) fn adam(of: [&[&Tensor]; 4], rates: &Tensor, rule: AdamRule) -> Result<()> {
    assert!(of.iter().all(|list| list.len() == of[0].len()));
    let [w, g, m, v] = of.map(pointers);
    // SAFETY: as many live tensors in each list, a rule that outlives the call; libtorch checks whatever else it asks of them.
    unsafe {
        let (w, g, m, v, count) = (w.as_ptr(), g.as_ptr(), m.as_ptr(), v.as_ptr(), w.len());
        check(dec_fused_adam(w, g, m, v, count, rates.as_ptr(), &rule))
    }
}

/// The sums of the columns of `gradient` \[b, m\] go into `sums` \[m\], by a product with ones, which takes a GPU less time than a sum does.
pub(super) fn add_columns(gradient: &Tensor, sums: Sink) -> Result<()> {
    // SAFETY: two live tensors; libtorch writes the second alone, in its shape, and checks whatever else it asks of them.
    unsafe { check(dec_fused_add_columns(gradient.as_ptr(), sums.tensor.as_ptr(), sums.keep as f32)) }
}

fn pointers(tensors: &[&Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr()).collect()
}
