//! The passes of [`super::dense`] in tensor operations, for devices whose tensors `dense.cpp` does not read (CUDA).
//!
//! The shapes have been checked by `dense`, and what these return is what `dense.cpp` returns, dropout masks included, up
//! to rounding.

use tch::{no_grad, Device, Kind, Tensor};

use super::cuda;
use super::dense_rules::{Dropout, Sink};
use super::fused;
use super::student_t;
use crate::error::Result;

pub(super) fn gather(stored: &Tensor, indices: &Tensor, scale: f64, out: &Tensor) -> Result<()> {
    no_grad(|| {
        let scale = Tensor::f_from_slice(&[scale as f32])?.f_squeeze()?; // of no dimension, so that it may be on the CPU
        let _ = stored.f_index_select(0, indices)?.f_mul_out(out, &scale)?;
        Ok(())
    })
}

pub(super) fn dropout(from: &Tensor, to: &Tensor, dropout: Dropout) -> Result<()> {
    no_grad(|| {
        let _ = from.f_mul_out(to, &kept(&from.size(), dropout)?)?;
        let _ = to.shallow_clone().f_mul_scalar_(f64::from(dropout.rule().scale))?;
        Ok(())
    })
}

pub(super) fn layer(y: &Tensor, x: &Tensor, weight: &Tensor, bias: &Tensor, relu: bool) -> Result<()> {
    no_grad(|| {
        let mut value = bias.f_addmm_out(y, x, &weight.f_tr()?)?;
        if relu {
            let _ = value.f_relu_()?; // cuBLAS could do it in the product, and does not say what becomes of a NaN
        }
        Ok(())
    })
}

pub(super) fn activate(y: &Tensor, bias: &Tensor, relu: bool, dropout: Option<Dropout>) -> Result<()> {
    no_grad(|| {
        let mut value = y.shallow_clone();
        let _ = value.f_add_(bias)?;
        if relu {
            let _ = value.f_relu_()?;
        }
        dropout.map_or(Ok(()), |drops| self::dropout(y, y, drops))
    })
}

pub(super) fn activate_backward(
    delta: &Tensor,
    activation: &Tensor,
    relu: bool,
    dropout: Option<Dropout>,
    bias: Sink,
) -> Result<()> {
    no_grad(|| {
        let mut value = delta.shallow_clone();
        match (relu, dropout) {
            (true, dropout) => {
                if let Some(dropout) = dropout {
                    let _ = value.f_mul_scalar_(f64::from(dropout.rule().scale))?;
                }
                close(&value, activation)?;
            }
            (false, Some(drops)) => self::dropout(delta, delta, drops)?,
            (false, None) => {}
        }
        fused::add_columns(&value, bias)
    })
}

pub(super) fn mean_squared_error(
    y: &Tensor,
    bias: &Tensor,
    relu: bool,
    target: &Tensor,
    weight: f64,
    bias_gradient: Sink,
    loss_sum: &Tensor,
) -> Result<()> {
    no_grad(|| {
        let mut output = y.shallow_clone();
        let _ = output.f_add_(bias)?;
        if relu {
            let _ = output.f_relu_()?;
        }
        let delta = output.f_sub(target)?;
        let count = y.numel() as f64;
        let mut squares = delta.f_square()?.f_sum(Kind::Double)?;
        add(loss_sum, &squares.f_mul_scalar_(weight / count)?)?;
        let factor = Tensor::f_from_slice(&[(2.0 * weight / count) as f32])?.f_squeeze()?;
        if relu {
            close(&delta, &output)?;
        }
        let _ = delta.f_mul_out(y, &factor)?;
        fused::add_columns(y, bias_gradient)
    })
}

#[allow(clippy::too_many_arguments)]
pub(super) fn kl_divergence(
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
    no_grad(|| {
        let p = p.f_index_select(0, indices)?;
        let log_q = student_t::log_soft_assignment(z, centroids, alpha)?;
        let loss = student_t::kl_divergence(&p, &log_q)?.f_to_kind(Kind::Double)?.f_mul_scalar(weight)?;
        add(loss_sum, &loss)?;
        let factor = weight / z.size()[0] as f64;
        let (for_z, for_centroids) = student_t::kl_gradients(z, centroids, &p, alpha)?;
        accumulate(centroid_gradient, &for_centroids.f_mul_scalar(factor)?)?;
        set(dz, &for_z.f_mul_scalar(factor)?)
    })
}

pub(super) fn squared_distance(
    z: &Tensor,
    centroids: &Tensor,
    p: &Tensor,
    indices: &Tensor,
    weight: f64,
    dz: &Tensor,
    loss_sum: &Tensor,
) -> Result<()> {
    no_grad(|| {
        let (rows, m) = z.size2()?;
        let factor = weight / (rows * m) as f64;
        let p = p.f_index_select(0, indices)?;
        let difference = z.f_unsqueeze(1)?.f_sub(&centroids.f_unsqueeze(0)?)?;
        let pulls = difference.f_mul(&p.f_unsqueeze(-1)?)?;
        let loss = pulls.f_mul(&difference)?.f_sum(Kind::Double)?.f_mul_scalar(factor)?;
        add(loss_sum, &loss)?;
        set(dz, &pulls.f_sum_dim_intlist(1, false, None)?.f_mul_scalar(2.0 * factor)?)
    })
}

pub(super) fn log_soft_assignment(z: &Tensor, centroids: &Tensor, alpha: f64, log_q: &Tensor) -> Result<()> {
    // The differences z − μ take k·m values a row: 64 MiB of float32 at a time.
    const BLOCK_VALUES: i64 = 1 << 24;
    no_grad(|| {
        let n = z.size()[0];
        let size = (BLOCK_VALUES / centroids.numel().max(1) as i64).max(1);
        for start in (0..n).step_by(size as usize) {
            let count = size.min(n - start);
            let block = student_t::log_soft_assignment(&z.f_narrow(0, start, count)?, centroids, alpha)?;
            set(&log_q.f_narrow(0, start, count)?, &block)?;
        }
        Ok(())
    })
}

pub(super) fn shares(log_q: &Tensor, labels: &Tensor) -> Result<(Vec<f64>, f64)> {
    // The values of q take as much memory as log q: 16 MiB of float32 at a time.
    const BLOCK_VALUES: i64 = 1 << 22;
    no_grad(|| {
        let (n, k) = log_q.size2()?;
        let double = (Kind::Double, log_q.device());
        let (mut frequency, mut confidence) = (Tensor::f_zeros([k], double)?, Tensor::f_zeros([], double)?);
        let size = (BLOCK_VALUES / k).max(1);
        for start in (0..n).step_by(size as usize) {
            let count = size.min(n - start);
            let block = log_q.f_narrow(0, start, count)?;
            let (largest, label) = block.f_max_dim(1, false)?;
            set(&labels.f_narrow(0, start, count)?, &label)?;
            let _ = frequency.f_add_(&student_t::cluster_frequency(&block.f_exp()?)?)?;
            let _ = confidence.f_add_(&largest.f_exp()?.f_sum(Kind::Double)?)?;
        }
        Ok((Vec::try_from(frequency.f_to_device(Device::Cpu)?)?, f64::try_from(confidence)?))
    })
}

pub(super) fn target_distribution(log_q: &Tensor, frequency: &[f64]) -> Result<f64> {
    if log_q.size()[0] == 0 {
        return Ok(0.0); // a process may have no rows, whose mean is nothing
    }
    no_grad(|| {
        let frequency = Tensor::f_from_slice(frequency)?.f_to_device(log_q.device())?;
        let p = student_t::target_distribution(&log_q.f_exp()?, &frequency)?;
        let loss = f64::try_from(student_t::kl_divergence(&p, log_q)?)? * log_q.size()[0] as f64;
        set(log_q, &p)?;
        Ok(loss)
    })
}

/// Whether dropout keeps a value.
fn kept(shape: &[i64], dropout: Dropout) -> Result<Tensor> {
    let rule = dropout.rule();
    let width = shape[1..].iter().product();
    let bits = drawn(shape[0] * width, width, dropout.key, rule.site)?;
    Ok(bits.f_ge(i64::from(rule.threshold))?.f_view(shape)?)
}

/// 32 random bits, in int64, for each of `count` values: `hashed` of `hash.h`, of their places in a batch of which they are the rows of `width`
/// values from the one on that the second number of `key` names.
pub(super) fn drawn(count: i64, width: i64, key: &Tensor, site: u32) -> Result<Tensor> {
    let places = Tensor::f_arange(count, (Kind::Int64, key.device()))?;
    if let Some(bits) = cuda::drawn(&places, width, key, site)? {
        return Ok(bits);
    }
    let places = places.f_add(&key.f_narrow(0, 1, 1)?.f_mul_scalar(width)?)?;
    let key = key.f_narrow(0, 0, 1)?;
    let first_key = low_bits(&key.f_add_scalar(i64::from(site))?)?;
    let second_key = low_bits(&shifted(&key, 32)?)?;
    let first = mix(&low_bits(&places.f_add(&first_key)?)?)?;
    mix(&first.f_bitwise_xor_tensor(&second_key)?)
}

fn mix(x: &Tensor) -> Result<Tensor> {
    let mut x = x.shallow_clone();
    for (shift, factor) in [(16, 0x7feb_352d_i64), (15, 0x846c_a68b)] {
        x = x.f_bitwise_xor_tensor(&shifted(&x, shift)?)?;
        x = low_bits(&x.f_mul_scalar(factor)?)?; // overflow wraps, and the low 32 bits are right
    }
    Ok(x.f_bitwise_xor_tensor(&shifted(&x, 16)?)?)
}

fn shifted(x: &Tensor, bits: i64) -> Result<Tensor> {
    Ok(x.f_bitwise_right_shift_tensor_scalar(bits)?)
}

fn low_bits(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_bitwise_and(0xffff_ffff_i64)?)
}

/// Sets to 0 what of `gradient` does not pass a ReLU that returned `activation`.
fn close(gradient: &Tensor, activation: &Tensor) -> Result<()> {
    let _ = activation.f_threshold_backward_grad_input(gradient, gradient, 0.0)?;
    Ok(())
}

fn accumulate(sink: Sink, gradient: &Tensor) -> Result<()> {
    if sink.keep == 0.0 {
        return set(sink.tensor, gradient);
    }
    let _ = sink.tensor.shallow_clone().f_mul_scalar_(sink.keep)?.f_add_(gradient)?;
    Ok(())
}

/// Adds `value` to what is in the memory of `to`.
fn add(to: &Tensor, value: &Tensor) -> Result<()> {
    let _ = to.shallow_clone().f_add_(value)?;
    Ok(())
}

/// Copies `value` into the memory of `to`.
pub(super) fn set(to: &Tensor, value: &Tensor) -> Result<()> {
    Ok(to.shallow_clone().f_copy_(value)?)
}
