//! What the dense kernels are told besides tensors.

use tch::Tensor;

/// Which values dropout drops, each with probability `p`; the others are multiplied by 1/(1 − p).
///
/// A value's fate is a hash of its place in the tensor, of `key` and of `site`, so that it is the same for any number of
/// threads, in the backward pass, on every device, and in a run that is resumed.
#[derive(Debug, Clone, Copy)]
pub struct Dropout<'a> {
    /// The probability to drop, at least 0 and below 1.
    pub p: f64,
    /// Two int64 on the tensors' device. The first: another key, another mask. The second: the row of the whole batch that the first row of the
    /// tensor is. In a tensor, so that a recorded step can be repeated with others.
    pub key: &'a Tensor,
    /// Tells apart the masks that one step draws.
    pub site: u32,
}

/// Where a loss's gradient with respect to one parameter goes: `tensor` ← `keep` · `tensor` + gradient.
///
/// With the momentum as `keep`, `tensor` is the velocity of SGD and the gradient never exists by itself; with 0 it is the
/// gradient.
#[derive(Debug, Clone, Copy)]
pub struct Sink<'a> {
    /// Of the parameter's shape.
    pub tensor: &'a Tensor,
    /// What is kept of it.
    pub keep: f64,
}

/// What the factors of a product are rounded to before they are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factors {
    /// Nothing: they are multiplied as they are.
    Float32,
    /// bf16: float32's range with 8 bits of fraction.
    Bf16,
}

/// What stays the same from step to step of Adam.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamRule {
    /// Of the first moment.
    pub beta1: f32,
    /// Of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Weight decay that is added to the gradient.
    pub decay: f32,
    /// Weight decay apart from the gradient (AdamW), where that is 0.
    pub apart: f32,
}
