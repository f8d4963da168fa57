//! What the step engine is made of: products into given memory, and the passes between them, each fused into one.
//!
//! On the CPU every function is one call of `dense.cpp`; elsewhere it is [`super::dense_generic`] and [`super::fused`], the same mathematics in
//! libtorch's operations. All tensors are float32 and contiguous unless said otherwise; what is written to is given by the
//! caller, and does not overlap what is read unless said so. No function records anything for autograd. The bits of a
//! result do not depend on the number of threads, but for the products that are libtorch's.
#![allow(unsafe_code)]

use std::ffi::c_char;

pub use super::dense_rules::{AdamRule, Dropout, Factors, Sink};
use tch::{Device, Kind, TchError, Tensor};
use torch_sys::C_tensor;

use super::dense_generic as generic;
use super::fused;
use super::shim::check;
use crate::error::Result;

/// What [`Dropout`] comes to without its key, as `dense.cpp` takes it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Added to the low half of the key.
    pub(super) site: u32,
    /// A hash below it drops the value.
    pub(super) threshold: u32,
    /// Of what is kept.
    pub(super) scale: f32,
}

impl Dropout<'_> {
    pub(super) fn rule(self) -> Rule {
        Rule {
            site: self.site.wrapping_mul(0x9e37_79b9), // far apart in the 32 bits
            threshold: (self.p * 4_294_967_296.0) as u32,
            scale: (1.0 / (1.0 - self.p)) as f32,
        }
    }

    fn check(dropout: Option<Self>) -> Result<()> {
        let Some(dropout) = dropout else { return Ok(()) };
        plain(dropout.key, &[2], Kind::Int64)?;
        require((0.0..1.0).contains(&dropout.p), || format!("dropout of {}", dropout.p))
    }
}

// `C_tensor` is `at::Tensor` under torch-sys's name. The contract is at the head of guard.h.
extern "C" {
    fn dec_dense_product(
        out: *const C_tensor,
        a: *const C_tensor,
        b: *const C_tensor,
        beta: f32,
        bf16: bool,
    ) -> *mut c_char;
    fn dec_dense_gather(
        stored: *const C_tensor,
        indices: *const C_tensor,
        scale: f32,
        out: *const C_tensor,
        inside: *mut bool,
    ) -> *mut c_char;
    fn dec_dense_dropout(
        from: *const C_tensor,
        to: *const C_tensor,
        key: *const C_tensor,
        rule: *const Rule,
    ) -> *mut c_char;
    fn dec_dense_activate(
        y: *const C_tensor,
        bias: *const C_tensor,
        relu: bool,
        key: *const C_tensor,
        rule: *const Rule,
    ) -> *mut c_char;
    fn dec_dense_activate_backward(
        delta: *const C_tensor,
        activation: *const C_tensor,
        relu: bool,
        key: *const C_tensor,
        rule: *const Rule,
        bias_gradient: *const C_tensor,
        beta: f32,
    ) -> *mut c_char;
    fn dec_dense_mse(
        y: *const C_tensor,
        bias: *const C_tensor,
        relu: bool,
        target: *const C_tensor,
        weight: f64,
        bias_gradient: *const C_tensor,
        beta: f32,
        loss_sum: *const C_tensor,
    ) -> *mut c_char;
    fn dec_dense_kl(
        z: *const C_tensor,
        centroids: *const C_tensor,
        p: *const C_tensor,
        indices: *const C_tensor,
        alpha: f64,
        weight: f64,
        dz: *const C_tensor,
        centroid_gradient: *const C_tensor,
        beta: f32,
        loss_sum: *const C_tensor,
        inside: *mut bool,
    ) -> *mut c_char;
    fn dec_dense_log_soft_assignment(
        z: *const C_tensor,
        centroids: *const C_tensor,
        alpha: f64,
        log_q: *const C_tensor,
    ) -> *mut c_char;
    fn dec_dense_shares(
        log_q: *const C_tensor,
        labels: *const C_tensor,
        frequency: *mut f64,
        confidence: *mut f64,
    ) -> *mut c_char;
    fn dec_dense_target(log_q: *const C_tensor, frequency: *const f64, divergence: *mut f64) -> *mut c_char;
    fn dec_dense_descend(w: *const C_tensor, v: *const C_tensor, rate: *const C_tensor, decay: f32) -> *mut c_char;
    fn dec_dense_adam(
        w: *const C_tensor,
        g: *const C_tensor,
        m: *const C_tensor,
        v: *const C_tensor,
        rates: *const C_tensor,
        rule: *const AdamRule,
    ) -> *mut c_char;
}

/// `out` \[n, m\] ← `keep` · `out` + `a` \[n, l\] · `b` \[l, m\]. `a` and `b` may be transposed views; `keep` 0 overwrites.
///
/// On the CPU, where at most three tenths of a large `a` are not 0 (what a ReLU returns, the gradient behind it), without its zeros:
/// `sparse.cpp`. Then a zero also hides an infinity or NaN of `b`. Else by oneDNN where it is the faster one (AMD processors
/// with AVX-512), or by whatever libtorch multiplies with.
///
/// `factors` says whether `a` and `b` may be rounded to bf16 first. On the CPU they are where all three sides are 64 or more and more than an
/// eighth of `a` is not 0 ([`super::precision::bf16_is_native`] tells whether that is faster); sums are of float32 in either case, and what
/// they come to is rounded to bf16 too on AMD's processors.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn product(out: &Tensor, a: &Tensor, b: &Tensor, keep: f64, factors: Factors) -> Result<()> {
    let ((n, l), (l2, m)) = (a.size2()?, b.size2()?);
    require(l == l2 && out.size() == [n, m], || {
        format!("product of {:?} and {:?} into {:?}", a.size(), b.size(), out.size())
    })?;
    for tensor in [out, a, b] {
        require(tensor.kind() == Kind::Float && tensor.device() == out.device(), || {
            format!("a product of {:?} on {:?}", tensor.kind(), tensor.device())
        })?;
    }
    require(out.is_contiguous(), || "a product into a tensor that is not contiguous".to_owned())?;
    let bf16 = factors == Factors::Bf16;
    // SAFETY: three live tensors of fitting shapes, kinds and devices; libtorch's own products write `out` alone.
    unsafe { check(dec_dense_product(out.as_ptr(), a.as_ptr(), b.as_ptr(), keep as f32, bf16)) }
}

/// `out` \[b, d\] ← `scale` · `stored`\[`indices`\], from uint8 or float32 rows \[n, d\] and int64 indices \[b\].
///
/// # Errors
/// Shapes that do not fit each other, an index outside the rows.
pub fn gather(stored: &Tensor, indices: &Tensor, scale: f64, out: &Tensor) -> Result<()> {
    let (_, width) = stored.size2()?;
    plain(out, &[indices.size1()?, width], Kind::Float)?;
    plain(indices, &indices.size(), Kind::Int64)?;
    if !on_cpu(&[stored, indices, out]) {
        return generic::gather(stored, indices, scale, out);
    }
    require(matches!(stored.kind(), Kind::Uint8 | Kind::Float) && stored.is_contiguous(), || {
        format!("rows of kind {:?} or not contiguous", stored.kind())
    })?;
    let mut inside = true;
    // SAFETY: contiguous CPU tensors of the kinds and shapes that the function takes, checked above; it checks the
    // indices itself before it follows them, and writes `out` and `inside` alone.
    unsafe {
        let (stored, indices, out) = (stored.as_ptr(), indices.as_ptr(), out.as_ptr());
        check(dec_dense_gather(stored, indices, scale as f32, out, &mut inside))
    }?;
    require(inside, || "an index is outside the rows".to_owned())
}

/// `to` ← `from` after `dropout`; both of one shape, and possibly the same tensor.
///
/// # Errors
/// Shapes that differ.
pub fn dropout(from: &Tensor, to: &Tensor, dropout: Dropout) -> Result<()> {
    plain(from, &to.size(), Kind::Float)?;
    plain(to, &from.size(), Kind::Float)?;
    Dropout::check(Some(dropout))?;
    if !on_cpu(&[from, to, dropout.key]) {
        return generic::dropout(from, to, dropout);
    }
    // SAFETY: two contiguous float32 CPU tensors of one shape, a key of two int64 there, a rule that outlives the call.
    unsafe { check(dec_dense_dropout(from.as_ptr(), to.as_ptr(), dropout.key.as_ptr(), &dropout.rule())) }
}

/// `y` \[b, m\] ← dropout(activation(`x` \[b, l\] · `weight`ᵀ + `bias`)): a layer of weights \[m, l\], its [`product`] and what [`activate`] does
/// after it.
///
/// # Errors
/// Shapes that do not fit each other.
#[allow(clippy::too_many_arguments)]
pub fn layer(
    y: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    relu: bool,
    drops: Option<Dropout>,
    factors: Factors,
) -> Result<()> {
    if on_cpu(&[y]) || factors == Factors::Bf16 {
        product(y, x, &weight.f_tr()?, 0.0, factors)?;
        return activate(y, bias, relu, drops);
    }
    let ((rows, _), (width, inner)) = (y.size2()?, weight.size2()?);
    plain(y, &[rows, width], Kind::Float)?;
    plain(x, &[rows, inner], Kind::Float)?;
    plain(bias, &[width], Kind::Float)?;
    generic::layer(y, x, weight, bias, relu)?;
    drops.map_or(Ok(()), |drops| dropout(y, y, drops))
}

/// `y` \[b, m\] ← dropout(activation(`y` + `bias`)), in place: the second half of a layer, after its product. The activation
/// is ReLU or none.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn activate(y: &Tensor, bias: &Tensor, relu: bool, dropout: Option<Dropout>) -> Result<()> {
    let (rows, width) = y.size2()?;
    plain(y, &[rows, width], Kind::Float)?;
    plain(bias, &[width], Kind::Float)?;
    Dropout::check(dropout)?;
    if !on_cpu(&[y, bias]) || !on_cpu(dropout.map(|d| d.key).as_slice()) {
        return generic::activate(y, bias, relu, dropout);
    }
    let (key, rule) = (dropout.map(|d| d.key), dropout.map(Dropout::rule));
    // SAFETY: contiguous float32 CPU tensors, [rows, width] and [width]; a rule comes with a key of two int64 on the CPU
    // (without one the key is not read), and both outlive the call.
    unsafe {
        let key = key.map_or(std::ptr::null(), |key| key.as_ptr());
        check(dec_dense_activate(y.as_ptr(), bias.as_ptr(), relu, key, pointer(rule.as_ref())))
    }
}

/// Backward through [`activate`]: `delta` \[b, m\], the gradient with respect to what it returned, becomes the one with
/// respect to the product, and its column sums go into `bias`. `activation` \[b, m\] is what it returned.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn activate_backward(
    delta: &Tensor,
    activation: &Tensor,
    relu: bool,
    dropout: Option<Dropout>,
    bias: Sink,
) -> Result<()> {
    let (rows, width) = delta.size2()?;
    plain(delta, &[rows, width], Kind::Float)?;
    plain(activation, &[rows, width], Kind::Float)?;
    plain(bias.tensor, &[width], Kind::Float)?;
    Dropout::check(dropout)?;
    if !on_cpu(&[delta, activation, bias.tensor]) || !on_cpu(dropout.map(|d| d.key).as_slice()) {
        return generic::activate_backward(delta, activation, relu, dropout, bias);
    }
    let (key, rule) = (dropout.map(|d| d.key), dropout.map(Dropout::rule));
    // SAFETY: contiguous float32 CPU tensors, two of [rows, width] and one of [width]; a rule comes with a key of two
    // int64 on the CPU (without one the key is not read), and both outlive the call.
    unsafe {
        let key = key.map_or(std::ptr::null(), |key| key.as_ptr());
        let (delta, activation, gradient) = (delta.as_ptr(), activation.as_ptr(), bias.tensor.as_ptr());
        check(dec_dense_activate_backward(
            delta,
            activation,
            relu,
            key,
            pointer(rule.as_ref()),
            gradient,
            bias.keep as f32,
        ))
    }
}

/// The mean squared error of the last layer's output, activation(`y` + `bias`), to `target`: forward and backward at once.
///
/// `y` \[b, d\], the layer's product, becomes `weight` times the error's gradient with respect to it; its column sums go into
/// `bias_gradient`, and `weight` times the error, the mean over all values, is added to `loss_sum` (float64, one value).
///
/// # Errors
/// Shapes that do not fit each other.
pub fn mean_squared_error(
    y: &Tensor,
    bias: &Tensor,
    relu: bool,
    target: &Tensor,
    weight: f64,
    bias_gradient: Sink,
    loss_sum: &Tensor,
) -> Result<()> {
    let (rows, width) = y.size2()?;
    require(rows > 0 && width > 0, || format!("the error of a batch of shape [{rows}, {width}]"))?;
    plain(y, &[rows, width], Kind::Float)?;
    plain(target, &[rows, width], Kind::Float)?;
    plain(bias, &[width], Kind::Float)?;
    plain(bias_gradient.tensor, &[width], Kind::Float)?;
    plain(loss_sum, &[1], Kind::Double)?;
    if !on_cpu(&[y, target, bias, bias_gradient.tensor, loss_sum]) {
        return generic::mean_squared_error(y, bias, relu, target, weight, bias_gradient, loss_sum);
    }
    // SAFETY: contiguous CPU tensors, two of [rows, width], two of [width] in float32 and one float64 value.
    unsafe {
        check(dec_dense_mse(
            y.as_ptr(),
            bias.as_ptr(),
            relu,
            target.as_ptr(),
            weight,
            bias_gradient.tensor.as_ptr(),
            bias_gradient.keep as f32,
            loss_sum.as_ptr(),
        ))
    }
}

/// KL(P‖Q) of a batch and its closed gradients (Xie et al. 2016, Eq. 2, 4 and 5), the mean over the batch's rows.
///
/// `z` \[b, m\], `centroids` \[k, m\]; the target of row i is row `indices`\[i\] of `p` \[n, k\]. `weight` times the gradient
/// goes into `dz` \[b, m\] and into `centroid_gradient` \[k, m\], `weight` times the divergence is added to `loss_sum`
/// (float64, one value).
///
/// # Errors
/// Shapes that do not fit each other, an index outside `p`.
#[allow(clippy::too_many_arguments)]
pub fn kl_divergence(
    z: &Tensor,
    centroids: &Tensor,
    p: &Tensor,
    indices: &Tensor,
    alpha: f64,
    weight: f64,
    dz: &Tensor,
    centroid_gradient: Sink,
    loss_sum: &Tensor,
) -> Result<()> {
    let ((rows, m), (k, _), (n, _)) = (z.size2()?, centroids.size2()?, p.size2()?);
    require(rows > 0 && m > 0 && k > 0, || format!("KL(P‖Q) of {rows} rows, {m} values each, {k} clusters"))?;
    plain(z, &[rows, m], Kind::Float)?;
    plain(dz, &[rows, m], Kind::Float)?;
    plain(centroids, &[k, m], Kind::Float)?;
    plain(centroid_gradient.tensor, &[k, m], Kind::Float)?;
    plain(p, &[n, k], Kind::Float)?;
    plain(indices, &[rows], Kind::Int64)?;
    plain(loss_sum, &[1], Kind::Double)?;
    if !on_cpu(&[z, centroids, p, indices, dz, centroid_gradient.tensor, loss_sum]) {
        return generic::kl_divergence(z, centroids, p, indices, alpha, weight, dz, centroid_gradient, loss_sum);
    }
    let mut inside = true;
    // SAFETY: contiguous CPU tensors of the kinds and shapes that the function takes, checked above; it checks the
    // indices itself before it follows them.
    unsafe {
        check(dec_dense_kl(
            z.as_ptr(),
            centroids.as_ptr(),
            p.as_ptr(),
            indices.as_ptr(),
            alpha,
            weight,
            dz.as_ptr(),
            centroid_gradient.tensor.as_ptr(),
            centroid_gradient.keep as f32,
            loss_sum.as_ptr(),
            &mut inside,
        ))
    }?;
    require(inside, || "an index is outside the target distribution".to_owned())
}

/// Σ_j p_ij ‖z_i − μ_j‖² / m and its gradient for z, the mean over the batch's rows; p\[`indices`\[i\]\] is row i's.
///
/// `weight` times the gradient goes into `dz` \[b, m\], `weight` times the loss is added to `loss_sum` (float64, one value).
/// In tensor operations on every device: it is a small part of a step.
///
/// # Errors
/// Shapes that do not fit each other, an index outside `p`.
pub fn squared_distance(
    z: &Tensor,
    centroids: &Tensor,
    p: &Tensor,
    indices: &Tensor,
    weight: f64,
    dz: &Tensor,
    loss_sum: &Tensor,
) -> Result<()> {
    generic::squared_distance(z, centroids, p, indices, weight, dz, loss_sum)
}

/// `log_q` \[n, k\] ← log q of latent rows `z` \[n, m\] around `centroids` \[k, m\] (Xie et al. 2016, Eq. 1).
///
/// # Errors
/// Shapes that do not fit each other.
pub fn log_soft_assignment(z: &Tensor, centroids: &Tensor, alpha: f64, log_q: &Tensor) -> Result<()> {
    let ((n, m), (k, _)) = (z.size2()?, centroids.size2()?);
    require(m > 0 && k > 0, || format!("a soft assignment of {m} values a row to {k} clusters"))?;
    plain(z, &[n, m], Kind::Float)?;
    plain(centroids, &[k, m], Kind::Float)?;
    plain(log_q, &[n, k], Kind::Float)?;
    if !on_cpu(&[z, centroids, log_q]) {
        return generic::log_soft_assignment(z, centroids, alpha, log_q);
    }
    // SAFETY: contiguous float32 CPU tensors of shapes that fit each other.
    unsafe { check(dec_dense_log_soft_assignment(z.as_ptr(), centroids.as_ptr(), alpha, log_q.as_ptr())) }
}

/// Of `log_q` \[n, k\]: the sums f \[k\] of q over these rows, and the sum of each row's largest q. `labels` (int64, \[n\]) becomes each row's
/// most probable cluster.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn shares(log_q: &Tensor, labels: &Tensor) -> Result<(Vec<f64>, f64)> {
    let (n, k) = log_q.size2()?;
    plain(log_q, &[n, k], Kind::Float)?;
    plain(labels, &[n], Kind::Int64)?;
    require(k > 0, || format!("a soft assignment of shape [{n}, {k}]"))?;
    if !on_cpu(&[log_q, labels]) {
        return generic::shares(log_q, labels);
    }
    let (mut frequency, mut confidence) = (vec![0.0; k as usize], 0.0);
    // SAFETY: contiguous CPU tensors, [n, k] in float32 with k above zero and [n] in int64, and room for k sums.
    unsafe { check(dec_dense_shares(log_q.as_ptr(), labels.as_ptr(), frequency.as_mut_ptr(), &mut confidence)) }?;
    Ok((frequency, confidence))
}

/// `log_q` \[n, k\] becomes the target distribution p (Xie et al. 2016, Eq. 3), in place; `frequency` is f \[k\], the sums of q over all rows
/// of the data set, of which these may be a part. Returns the sum over these rows of KL(p‖q).
///
/// # Errors
/// Shapes that do not fit each other.
pub fn target_distribution(log_q: &Tensor, frequency: &[f64]) -> Result<f64> {
    let (n, k) = log_q.size2()?;
    plain(log_q, &[n, k], Kind::Float)?;
    require(k > 0 && k == frequency.len() as i64, || {
        format!("a target distribution of shape [{n}, {k}] by {} sums", frequency.len())
    })?;
    if !on_cpu(&[log_q]) {
        return generic::target_distribution(log_q, frequency);
    }
    let mut divergence = 0.0;
    // SAFETY: a contiguous float32 CPU tensor [n, k] with k above zero, and k sums.
    unsafe { check(dec_dense_target(log_q.as_ptr(), frequency.as_ptr(), &mut divergence)) }?;
    Ok(divergence)
}

/// For each parameter `w` and its `v`: `v` ← `v` + `decay` · `w`, `w` ← `w` − `rate` · `v`, the second half of a step of SGD. `rate` is a
/// tensor of one value, on the parameters' device, so that a recorded step can be repeated with another rate.
///
/// # Errors
/// Shapes that differ.
pub fn descend(w: &[&Tensor], v: &[&Tensor], rate: &Tensor, decay: f64) -> Result<()> {
    same_shapes(&[w, v])?;
    plain(rate, &[1], Kind::Float)?;
    if !on_cpu(w) || !on_cpu(&[rate]) {
        return fused::descend(w, v, rate, decay);
    }
    for (w, v) in w.iter().zip(v) {
        // SAFETY: two contiguous float32 CPU tensors of one shape and one float32 value.
        unsafe { check(dec_dense_descend(w.as_ptr(), v.as_ptr(), rate.as_ptr(), decay as f32)) }?;
    }
    Ok(())
}

/// A step of Adam (Kingma & Ba 2015, Algorithm 1) in place, for each parameter w, its gradient g and its moments m and v, which `of` lists in
/// this order: g ← g + decay · w, m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², w ← r₂ w − r₀ m / (r₁ √v + ε).
///
/// `rates` is r, five values on the parameters' device, so that a recorded step can be repeated: rate / (1 − β₁ᵗ), 1 / √(1 − β₂ᵗ), and
/// 1 − rate · decay for a decay apart from the gradient (AdamW), else 1; then the rate and t, which these were made of.
///
/// # Errors
/// Shapes that differ.
pub fn adam(of: [&[&Tensor]; 4], rates: &Tensor, rule: AdamRule) -> Result<()> {
    same_shapes(&of)?;
    plain(rates, &[5], Kind::Float)?;
    if !on_cpu(of[0]) || !on_cpu(&[rates]) {
        return fused::adam(of, rates, rule);
    }
    let [w, g, m, v] = of;
    for (((w, g), m), v) in w.iter().zip(g).zip(m).zip(v) {
        // SAFETY: four contiguous float32 CPU tensors of one shape, five float32 values, a rule that outlives the call.
        unsafe { check(dec_dense_adam(w.as_ptr(), g.as_ptr(), m.as_ptr(), v.as_ptr(), rates.as_ptr(), &rule)) }?;
    }
    Ok(())
}

/// Contiguous float32 tensors on one device, in each list as many and of the same shapes.
fn same_shapes(lists: &[&[&Tensor]]) -> Result<()> {
    for list in lists {
        require(list.len() == lists[0].len(), || format!("{} parameters and {} for them", lists[0].len(), list.len()))?;
        for (tensor, other) in list.iter().zip(lists[0]) {
            plain(tensor, &other.size(), Kind::Float)?;
            require(tensor.device() == lists[0][0].device(), || format!("a parameter on {:?}", tensor.device()))?;
        }
    }
    Ok(())
}

fn pointer(rule: Option<&Rule>) -> *const Rule {
    rule.map_or(std::ptr::null(), std::ptr::from_ref)
}

pub(super) fn on_cpu(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device() == Device::Cpu)
}

/// Refuses a tensor that is not contiguous, of `shape` and of `kind`.
pub(super) fn plain(tensor: &Tensor, shape: &[i64], kind: Kind) -> Result<()> {
    require(tensor.size() == shape && tensor.f_kind()? == kind && tensor.is_contiguous(), || {
        let contiguous = if tensor.is_contiguous() { "" } else { ", not contiguous" };
        let found = tensor.f_kind().map_or_else(|_| "unknown".to_owned(), |kind| format!("{kind:?}"));
        format!("needs {kind:?} {shape:?}, is {found} {:?}{contiguous}", tensor.size())
    })
}

pub(super) fn require(holds: bool, problem: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(TchError::Shape(format!("step engine: {}", problem())).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backend::precision;

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn noise(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, FLOAT)
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        a.allclose(b, 1e-5, 1e-6, false)
    }

    fn key(value: i64) -> Tensor {
        Tensor::from_slice(&[value, 0])
    }

    /// Shapes around the sizes of a vector, of a task's columns and rows, and of a part for a thread.
    const SHAPES: [[i64; 2]; 6] = [[1, 1], [3, 7], [64, 64], [65, 129], [256, 500], [17, 2000]];

    #[test]
    fn products_keep_what_they_are_told_to_and_take_transposed_views() {
        tch::manual_seed(1);
        for [n, m] in SHAPES {
            let (a, b) = (noise(&[n, 33]), noise(&[m, 33]));
            for keep in [0.0, 0.9, 1.0] {
                let before = noise(&[n, m]);
                let out = before.copy();
                product(&out, &a, &b.tr(), keep, Factors::Float32).unwrap();
                assert!(out.allclose(&(&before * keep + a.matmul(&b.tr())), 1e-5, 1e-4, false), "[{n}, {m}], {keep}");
                let out = before.copy().tr().contiguous();
                product(&out, &b, &a.tr(), keep, Factors::Float32).unwrap();
                assert!(out.allclose(&(&before * keep + a.matmul(&b.tr())).tr(), 1e-5, 1e-4, false));
            }
        }
        // Nothing of what is overwritten shows.
        let out = Tensor::full([2, 2], f64::NAN, FLOAT);
        product(&out, &noise(&[2, 3]), &noise(&[3, 2]), 0.0, Factors::Float32).unwrap();
        assert!(bool::try_from(out.isfinite().all()).unwrap());
    }

    #[test]
    fn factors_in_bf16_are_rounded_and_their_sums_are_not() {
        tch::manual_seed(8);
        let rounded = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16).to_kind(Kind::Float);
        // Some libraries round what the sums come to.
        let slack = |native: bool| if native { 0.0079 } else { 1e-5 };
        for (n, l, m) in [(256, 500, 784), (64, 64, 64), (70, 700, 130)] {
            let (a, b, before) = (noise(&[n, l]), noise(&[l, m]), noise(&[n, m]));
            for (a, b) in [
                (a.copy(), b.copy()),
                (a.tr().contiguous().tr(), b.copy()),
                (a.copy(), b.tr().contiguous().tr()),
                (a.tr().contiguous().tr(), b.tr().contiguous().tr()),
            ] {
                for keep in [0.0, 0.9] {
                    let begin = || if keep == 0.0 { before.full_like(f64::NAN) } else { before.copy() };
                    let expected = rounded(&a).matmul(&rounded(&b));
                    let kept = if keep == 0.0 { before.zeros_like() } else { &before * keep };
                    let far = |out: &Tensor, slack: f64| {
                        let beyond: Tensor = (out - &kept - &expected).abs() - expected.abs() * slack;
                        beyond.max().double_value(&[])
                    };
                    let out = begin();
                    product(&out, &a, &b, keep, Factors::Bf16).unwrap();
                    assert!(
                        far(&out, slack(precision::bf16_is_native())) < 1e-4,
                        "[{n}, {l}] x [{l}, {m}], keep {keep}"
                    );
                    let exact = begin();
                    product(&exact, &a, &b, keep, Factors::Float32).unwrap();
                    assert!(far(&exact, 0.0) > 1e-2, "float32 cannot be told from bf16 here");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_and_what_is_small_is_the_same_in_bf16() {
        tch::manual_seed(9);
        let (a, b) = (noise(&[80, 90]), noise(&[90, 70]));
        let _ = a.get(3).get(5).fill_(f64::NAN);
        let _ = a.get(4).get(5).fill_(f64::INFINITY);
        let _ = a.get(5).get(5).fill_(3.4e38); // rounds up, out of bf16's range
        let out = Tensor::zeros([80, 70], FLOAT);
        product(&out, &a, &b, 0.0, Factors::Bf16).unwrap();
        assert!(bool::try_from(out.get(3).isnan().all()).unwrap());
        assert!(bool::try_from(out.get(4).isinf().all()).unwrap() && bool::try_from(out.get(5).isinf().all()).unwrap());
        let others = out.isfinite().all_dim(1, false).to_kind(Kind::Int64).sum(Kind::Int64);
        assert_eq!(i64::try_from(others).unwrap(), 77);

        let (a, b) = (noise(&[80, 10]), noise(&[10, 70]));
        let out = [Tensor::zeros([80, 70], FLOAT), Tensor::zeros([80, 70], FLOAT)];
        product(&out[0], &a, &b, 0.0, Factors::Bf16).unwrap();
        product(&out[1], &a, &b, 0.0, Factors::Float32).unwrap();
        assert_eq!(out[0], out[1], "ten terms a sum are not worth rounding");
    }

    /// This process's threads are what its environment said when it began: others are asked.
    #[test]
    fn products_are_whole_whatever_openmp_gives() {
        let test = "backend::dense::tests::products_keep_what_they_are_told_to_and_take_transposed_views";
        for (variable, value) in [("OMP_THREAD_LIMIT", "1"), ("OMP_DYNAMIC", "true"), ("OMP_MAX_ACTIVE_LEVELS", "0")] {
            let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
            tests.args(["--exact", test]).env("OMP_NUM_THREADS", "64").env("OMP_WAIT_POLICY", "passive");
            let said = String::from_utf8(tests.env(variable, value).output().unwrap().stdout).unwrap();
            assert!(said.contains("1 passed; 0 failed"), "{variable}={value}: {said}");
        }
    }

    /// [n, l] of which so much is not 0, and nothing of column 3.
    fn mostly_zeros(n: i64, l: i64, density: f64) -> Tensor {
        let kept = Tensor::rand([n, l], FLOAT).lt(density).to_kind(Kind::Float);
        let _ = kept.select(1, 3).fill_(0.0);
        noise(&[n, l]) * kept
    }

    #[test]
    fn products_without_their_zeros_are_the_dense_ones() {
        tch::manual_seed(6);
        for (n, l, m) in [(256, 500, 784), (70, 700, 33), (2000, 10, 64), (300, 193, 130)] {
            for density in [0.0, 0.03, 0.25] {
                let (a, b, before) = (mostly_zeros(n, l, density), noise(&[l, m]), noise(&[n, m]));
                let _ = b.select(0, 3).fill_(f64::NAN);
                for (a, b) in [
                    (a.copy(), b.copy()),
                    (a.tr().contiguous().tr(), b.copy()),
                    (a.copy(), b.tr().contiguous().tr()),
                    (a.tr().contiguous().tr(), b.tr().contiguous().tr()),
                ] {
                    for keep in [0.0, 1.0, 0.9] {
                        let out = if keep == 0.0 { before.full_like(f64::NAN) } else { before.copy() };
                        product(&out, &a, &b, keep, Factors::Float32).unwrap();
                        let kept = if keep == 0.0 { before.zeros_like() } else { &before * keep };
                        let expected = kept + a.matmul(&b.nan_to_num(0.0, None, None));
                        // The NaN behind a column of zeros tells that these were left out.
                        let same = out.allclose(&expected, 1e-5, 1e-4, false);
                        assert!(same, "[{n}, {l}] x [{l}, {m}], {density} not 0, keep {keep}");
                    }
                }
            }
        }
        // What is not 0 counts, a NaN too.
        let a = mostly_zeros(200, 100, 0.1);
        let _ = a.get(7).get(5).fill_(f64::NAN);
        let out = noise(&[200, 50]);
        product(&out, &a, &noise(&[100, 50]), 0.0, Factors::Float32).unwrap();
        assert!(bool::try_from(out.get(7).isnan().all()).unwrap());
        assert_eq!(i64::try_from(out.isnan().sum(Kind::Int64)).unwrap(), 50);
    }

    #[test]
    fn passes_are_those_of_the_generic_path() {
        tch::manual_seed(2);
        let key = key(0x1234_5678_9abc_def0);
        for shape @ [rows, width] in SHAPES {
            for (relu, drops) in [(false, false), (true, false), (false, true), (true, true)] {
                let dropout = drops.then_some(Dropout { p: 0.3, key: &key, site: 2 });
                let (y, bias) = (noise(&shape), noise(&[width]));
                let (fused, plain) = (y.copy(), y.copy());
                activate(&fused, &bias, relu, dropout).unwrap();
                generic::activate(&plain, &bias, relu, dropout).unwrap();
                assert!(close(&fused, &plain), "activate {shape:?} {relu} {drops}");

                let (delta, sums) = (noise(&shape), noise(&[width]));
                let (d1, d2, s1, s2) = (delta.copy(), delta.copy(), sums.copy(), sums.copy());
                activate_backward(&d1, &fused, relu, dropout, Sink { tensor: &s1, keep: 0.9 }).unwrap();
                generic::activate_backward(&d2, &fused, relu, dropout, Sink { tensor: &s2, keep: 0.9 }).unwrap();
                assert!(close(&d1, &d2) && s1.allclose(&s2, 1e-4, 1e-4, false), "backward {shape:?} {relu} {drops}");

                let target = noise(&shape);
                let run = |generic_path: bool| {
                    let (y, sums) = (y.copy(), sums.copy());
                    let loss = Tensor::from_slice(&[1.5f64]);
                    let sink = Sink { tensor: &sums, keep: 0.0 };
                    let function = if generic_path { generic::mean_squared_error } else { mean_squared_error };
                    function(&y, &bias, relu, &target, 0.5, sink, &loss).unwrap();
                    (y, sums, loss)
                };
                let ((y1, s1, l1), (y2, s2, l2)) = (run(false), run(true));
                assert!(close(&y1, &y2) && close(&s1, &s2), "error {shape:?} {relu}");
                assert!(l1.allclose(&l2, 1e-5, 0.0, false), "{} {}", l1.double_value(&[0]), l2.double_value(&[0]));
            }
            let (w, v, rate) = (noise(&[rows, width]), noise(&[rows, width]), Tensor::from_slice(&[0.3f32]));
            let (w1, w2) = (w.copy(), w.copy());
            descend(&[&w1], &[&v], &rate, 0.0).unwrap();
            fused::descend(&[&w2], &[&v], &rate, 0.0).unwrap();
            assert!(close(&w1, &w2));

            let (x, y) = (noise(&[rows, 9]), [noise(&shape), noise(&shape)]);
            let (weight, bias) = (noise(&[width, 9]), noise(&[width]));
            for relu in [false, true] {
                layer(&y[0], &x, &weight, &bias, relu, None, Factors::Float32).unwrap();
                generic::layer(&y[1], &x, &weight, &bias, relu).unwrap();
                assert!(y[0].allclose(&y[1], 1e-4, 1e-5, false), "layer {shape:?} {relu}");
            }
        }
    }

    #[test]
    fn what_gpus_do_in_lists_and_by_ones_is_the_same() {
        tch::manual_seed(5);
        let shapes = [vec![3, 7], vec![7], vec![65, 129], vec![1]];
        let list = |f: &dyn Fn(&[i64]) -> Tensor| shapes.iter().map(|shape| f(shape)).collect::<Vec<_>>();
        let all = [list(&noise), list(&noise), list(&noise), list(&|shape| noise(shape).square() + 0.01)];
        for (decay, apart) in [(0.0, 0.0), (0.1, 0.0), (0.0, 1.0f32)] {
            let (rate, t, beta1, beta2) = (0.02f64, 3, 0.8f64, 0.999f64);
            let rule = AdamRule { beta1: beta1 as f32, beta2: beta2 as f32, epsilon: 1e-8, decay, apart };
            let shrink = 1.0 - rate * f64::from(apart);
            let (first, second) = (rate / (1.0 - beta1.powi(t)), 1.0 / (1.0 - beta2.powi(t)).sqrt());
            let rates = [first, second, shrink, rate, f64::from(t)].map(|value| value as f32);
            let moved = |lists: bool| {
                let copies = all.each_ref().map(|list| list.iter().map(Tensor::copy).collect::<Vec<_>>());
                let of = copies.each_ref().map(|list| list.iter().collect::<Vec<_>>());
                let of = of.each_ref().map(Vec::as_slice);
                (if lists { fused::adam } else { adam })(of, &Tensor::from_slice(&rates), rule).unwrap();
                let rate = Tensor::from_slice(&[0.3f32]);
                (if lists { fused::descend } else { descend })(of[0], of[1], &rate, f64::from(decay)).unwrap();
                copies
            };
            for (a, b) in moved(false).iter().flatten().zip(moved(true).iter().flatten()) {
                assert!(close(a, b), "decay {decay}, apart {apart}: {:?}", a.size());
            }
        }
        let (gradient, before) = (noise(&[65, 129]), noise(&[129]));
        for keep in [0.0, 0.9] {
            let sums = if keep == 0.0 { before.full_like(f64::NAN) } else { before.copy() };
            let kept = if keep == 0.0 { before.zeros_like() } else { &before * keep };
            fused::add_columns(&gradient, Sink { tensor: &sums, keep }).unwrap();
            let expected = kept + gradient.sum_dim_intlist(0, false, Kind::Float);
            assert!(sums.allclose(&expected, 1e-4, 1e-4, false), "columns, keep {keep}");
        }
        let (a, b) = (noise(&[3]), noise(&[4]));
        assert!(descend(&[&a], &[&b], &noise(&[1]), 0.0).is_err());
        assert!(descend(&[&a], &[], &noise(&[1]), 0.0).is_err());
    }

    #[test]
    fn clustering_passes_are_those_of_the_generic_path() {
        tch::manual_seed(3);
        for (n, m, k, alpha) in [(1, 1, 1, 1.0), (70, 10, 10, 1.0), (3000, 3, 5, 2.5), (200, 40, 300, 1.0)] {
            let (z, centroids) = (noise(&[n, m]), noise(&[k, m]));
            let (q1, q2) = (Tensor::zeros([n, k], FLOAT), Tensor::zeros([n, k], FLOAT));
            log_soft_assignment(&z, &centroids, alpha, &q1).unwrap();
            generic::log_soft_assignment(&z, &centroids, alpha, &q2).unwrap();
            assert!(close(&q1, &q2));
            let labels = || Tensor::zeros([n], (Kind::Int64, Device::Cpu));
            let (c1, c2) = (labels(), labels());
            let q = q1.copy();
            let ((f1, s1), (f2, s2)) = (shares(&q1, &c1).unwrap(), generic::shares(&q2, &c2).unwrap());
            let near = |a: f64, b: f64| (a - b).abs() < 1e-5 * (1.0 + b.abs());
            assert!(f1.iter().zip(&f2).all(|(&a, &b)| near(a, b)) && near(s1, s2), "{f1:?} {f2:?} {s1} {s2}");
            assert!(near(f1.iter().sum(), n as f64), "rows of q sum to 1: {f1:?}");
            let (l1, l2) = (target_distribution(&q1, &f1).unwrap(), generic::target_distribution(&q2, &f1).unwrap());
            assert!(close(&q1, &q2) && c1 == c2 && near(l1, l2), "{l1} {l2}");
            assert!(close(&q1.sum_dim_intlist(1, false, None), &Tensor::ones([n], FLOAT)));
            assert!(q1 != q || k == 1);

            let indices = Tensor::randint(n, [90], (Kind::Int64, Device::Cpu));
            let z = noise(&[90, m]);
            let run = |generic_path: bool| {
                let (dz, dmu) = (z.zeros_like(), centroids.copy());
                let loss = Tensor::from_slice(&[0.0f64]);
                let sink = Sink { tensor: &dmu, keep: 0.9 };
                let function = if generic_path { generic::kl_divergence } else { kl_divergence };
                function(&z, &centroids, &q1, &indices, alpha, 0.7, &dz, sink, &loss).unwrap();
                (dz, dmu, loss)
            };
            let ((z1, m1, l1), (z2, m2, l2)) = (run(false), run(true));
            assert!(close(&z1, &z2) && close(&m1, &m2), "n {n}, m {m}, k {k}");
            assert!(l1.allclose(&l2, 1e-5, 1e-7, false));
        }
    }

    #[test]
    fn rows_are_gathered_in_their_own_type() {
        let stored = Tensor::randint(256, [40, 33], (Kind::Uint8, Device::Cpu));
        let indices = Tensor::from_slice(&[39i64, 0, 7, 7]);
        for stored in [stored.shallow_clone(), stored.to_kind(Kind::Float)] {
            let (fused, plain) = (Tensor::zeros([4, 33], FLOAT), Tensor::zeros([4, 33], FLOAT));
            gather(&stored, &indices, 0.02, &fused).unwrap();
            generic::gather(&stored, &indices, 0.02, &plain).unwrap();
            assert_eq!(fused, plain);
        }
        let out = Tensor::zeros([1, 33], FLOAT);
        for outside in [-1i64, 40] {
            let error = gather(&stored, &Tensor::from_slice(&[outside]), 1.0, &out).unwrap_err();
            assert!(error.to_string().contains("outside the rows"), "{error}");
        }
    }

    #[test]
    fn dropout_drops_its_share_and_shares_nothing_between_places_keys_and_sites() {
        let count = 200_000;
        let ones = Tensor::ones([count], FLOAT);
        let kept = |p: f64, bits: i64, site: u32| {
            let (out, key) = (ones.zeros_like(), key(bits));
            dropout(&ones, &out, Dropout { p, key: &key, site }).unwrap();
            out
        };
        let base = kept(0.2, 7, 0);
        let plain = ones.zeros_like();
        generic::dropout(&ones, &plain, Dropout { p: 0.2, key: &key(7), site: 0 }).unwrap();
        assert_eq!(base, plain, "the generic path has other masks");
        assert_eq!(base, kept(0.2, 7, 0));
        assert!((base.max().double_value(&[]) - 1.25).abs() < 1e-6);
        let dropped = |mask: &Tensor| mask.eq(0.0);
        let share = |mask: &Tensor| mask.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        // Standard deviations: 0.0009 for a share of 0.2, 0.0004 for one of 0.04.
        for p in [0.0, 0.2, 0.5, 0.9] {
            assert!((share(&dropped(&kept(p, 7, 1))) - p).abs() < 0.006, "{p}");
        }
        let together = |other: &Tensor| share(&dropped(&base).logical_and(&dropped(other)));
        let others = [kept(0.2, 8, 0), kept(0.2, 7, 1), kept(0.2, 7 << 32, 0), base.roll(1, 0), base.roll(500, 0)];
        for (i, other) in others.iter().enumerate() {
            assert!((together(other) - 0.04).abs() < 0.003, "mask {i}: {}", together(other));
        }
    }

    #[test]
    fn the_number_of_threads_does_not_show() {
        let _alone = crate::backend::threads::tests::alone();
        tch::manual_seed(4);
        let (y, bias, target) = (noise(&[256, 500]), noise(&[500]), noise(&[256, 500]));
        let (z, centroids) = (noise(&[5000, 10]), noise(&[10, 10]));
        let key = key(3);
        let (sparse, weights) = (mostly_zeros(256, 2000, 0.1), noise(&[500, 2000]));
        let run = |threads: i32| {
            tch::set_num_threads(threads);
            let (forward, back_to_weights) = (Tensor::zeros([256, 500], FLOAT), Tensor::zeros([2000, 500], FLOAT));
            product(&forward, &sparse, &weights.tr(), 0.0, Factors::Float32).unwrap();
            product(&back_to_weights, &sparse.tr(), &y, 0.0, Factors::Float32).unwrap();
            let (activated, error, sums) = (y.copy(), y.copy(), bias.copy());
            let (dropped, back, moved) = (y.copy(), y.copy(), y.copy());
            let drops = Dropout { p: 0.3, key: &key, site: 1 };
            dropout(&y, &dropped, drops).unwrap();
            let sink = Sink { tensor: &sums, keep: 0.9 };
            activate_backward(&back, &dropped, true, Some(drops), sink).unwrap();
            descend(&[&moved], &[&target], &Tensor::from_slice(&[0.1f32]), 0.0).unwrap();
            activate(&activated, &bias, true, Some(Dropout { p: 0.2, key: &key, site: 0 })).unwrap();
            let loss = Tensor::from_slice(&[0.0f64]);
            let sink = Sink { tensor: &sums, keep: 0.9 };
            mean_squared_error(&error, &bias, false, &target, 1.0, sink, &loss).unwrap();
            let (table, labels) = (Tensor::zeros([5000, 10], FLOAT), Tensor::zeros([5000], (Kind::Int64, Device::Cpu)));
            log_soft_assignment(&z, &centroids, 1.0, &table).unwrap();
            let (frequency, confidence) = shares(&table, &labels).unwrap();
            let divergence = target_distribution(&table, &frequency).unwrap();
            let dz = z.zeros_like();
            let dmu = centroids.copy();
            let rows = Tensor::arange(5000, (Kind::Int64, Device::Cpu));
            let into = Sink { tensor: &dmu, keep: 0.0 };
            kl_divergence(&z, &centroids, &table, &rows, 1.0, 1.0, &dz, into, &loss).unwrap();
            let products = [forward, back_to_weights];
            let passes = [activated, dropped, back, moved, error, sums, loss, table, dz, dmu];
            (products.into_iter().chain(passes).collect::<Vec<_>>(), (divergence, frequency, confidence))
        };
        let before = tch::get_num_threads();
        let runs = [run(1), run(2), run(3)];
        tch::set_num_threads(before);
        for other in &runs[1..] {
            assert_eq!(runs[0].1, other.1);
            for (place, (a, b)) in runs[0].0.iter().zip(&other.0).enumerate() {
                assert!(a == b, "tensor {place}");
            }
        }
    }

    #[test]
    fn nan_shows() {
        let nan = || Tensor::full([2, 3], f64::NAN, FLOAT);
        let bias = Tensor::zeros([3], FLOAT);
        let y = nan();
        activate(&y, &bias, true, None).unwrap();
        assert!(bool::try_from(y.isnan().all()).unwrap());
        let (loss, sums) = (Tensor::from_slice(&[0.0f64]), bias.copy());
        let sink = Sink { tensor: &sums, keep: 0.0 };
        mean_squared_error(&nan(), &bias, true, &noise(&[2, 3]), 1.0, sink, &loss).unwrap();
        assert!(loss.double_value(&[0]).is_nan());
        let (delta, sums) = (nan(), bias.copy());
        activate_backward(&delta, &noise(&[2, 3]).abs(), true, None, Sink { tensor: &sums, keep: 0.0 }).unwrap();
        assert!(bool::try_from(sums.isnan().all()).unwrap());
        let (dz, dmu, loss) = (nan(), noise(&[4, 3]), Tensor::from_slice(&[0.0f64]));
        let (p, rows) = (Tensor::full([2, 4], 0.25, FLOAT), Tensor::from_slice(&[0i64, 1]));
        let sink = Sink { tensor: &dmu, keep: 0.0 };
        kl_divergence(&nan(), &noise(&[4, 3]), &p, &rows, 1.0, 1.0, &dz, sink, &loss).unwrap();
        assert!(loss.double_value(&[0]).is_nan() && bool::try_from(dmu.isnan().all()).unwrap());
        let (table, labels) = (nan(), Tensor::zeros([2], (Kind::Int64, Device::Cpu)));
        let (frequency, confidence) = shares(&table, &labels).unwrap();
        assert!(confidence.is_nan() && target_distribution(&table, &frequency).unwrap().is_nan());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let problem = |result: Result<()>| result.unwrap_err().to_string();
        let t = |shape: &[i64]| Tensor::zeros(shape, FLOAT);
        assert!(problem(product(&t(&[2, 2]), &t(&[2, 3]), &t(&[2, 2]), 0.0, Factors::Float32))
            .contains("[2, 3] and [2, 2]"));
        assert!(problem(product(&t(&[3, 2]).tr(), &t(&[2, 4]), &t(&[4, 3]), 0.0, Factors::Float32))
            .contains("not contiguous"));
        assert!(problem(product(&t(&[1, 1]), &t(&[1, 1]).to_kind(Kind::Double), &t(&[1, 1]), 0.0, Factors::Float32))
            .contains("Double"));
        assert!(problem(activate(&t(&[2, 3]), &t(&[2]), true, None)).contains("needs Float [3], is Float [2]"));
        assert!(problem(activate(&t(&[3, 2]).tr(), &t(&[3]), true, None)).contains("not contiguous"));
        let key = key(0);
        let certain = Dropout { p: 1.0, key: &key, site: 0 };
        assert!(problem(dropout(&t(&[2]), &t(&[2]), certain)).contains("dropout of 1"));
        assert!(problem(descend(&[&t(&[2])], &[&t(&[3])], &t(&[1]), 0.0)).contains("[3]"));
        let loss = Tensor::zeros([1], (Kind::Double, Device::Cpu));
        let none = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
        let (z, centroids, p) = (t(&[0, 2]), t(&[3, 2]), t(&[5, 3]));
        let sink = Sink { tensor: &centroids, keep: 0.0 };
        let empty = kl_divergence(&z, &centroids, &p, &none, 1.0, 1.0, &z, sink, &loss);
        assert!(problem(empty).contains("0 rows"));
        let sink = Sink { tensor: &t(&[3]), keep: 0.0 };
        let empty = mean_squared_error(&t(&[0, 3]), &t(&[3]), false, &t(&[0, 3]), 1.0, sink, &loss);
        assert!(problem(empty).contains("[0, 3]"));
        assert!(problem(log_soft_assignment(&t(&[4, 2]), &t(&[0, 2]), 1.0, &t(&[4, 0]))).contains("0 clusters"));
        let refused = target_distribution(&t(&[2, 3]), &[1.0, 1.0]).map(drop);
        assert!(problem(refused).contains("[2, 3] by 2 sums"));
        assert_eq!(shares(&t(&[0, 3]), &none).unwrap(), (vec![0.0; 3], 0.0), "a process may have no rows");
    }
}
