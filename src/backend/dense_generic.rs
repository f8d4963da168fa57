//! The passes of [`super::dense`] in tensor operations, for devices that `dense.cpp` does not know (CUDA).
//!
//! The shapes have been checked by `dense`, and what these return is what `dense.cpp` returns, dropout masks included, up
//! to rounding.

use tch::{no_grad, Device, Kind, Tensor};

use super::dense_rules::{AdamRule, Dropout, Sink};
use super::student_t;
use crate::error::Result;

pub(super) fn gather(stored: &Tensor, indices: &Tensor, scale: f64, out: &Tensor) -> Result<()> {
    no_grad(|| {
        let rows = stored.f_index_select(0, indices)?;
        set(out, &rows.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?)
    })
}

pub(super) fn bf16_product(out: &Tensor, a: &Tensor, b: &Tensor, keep: f64) -> Result<()> {
    no_grad(|| {
        let product = a.f_to_kind(Kind::BFloat16)?.f_mm(&b.f_to_kind(Kind::BFloat16)?)?;
        let mut out = out.shallow_clone();
        // Nothing of what is overwritten shows, a NaN neither.
        let _ = if keep == 0.0 { out.f_zero_()? } else { out.f_mul_scalar_(keep)? };
        let _ = out.f_add_(&product)?;
        Ok(())
    })
}

pub(super) fn dropout(from: &Tensor, to: &Tensor, dropout: Dropout) -> Result<()> {
    no_grad(|| set(to, &from.f_mul(&mask(&from.size(), dropout, from.device())?)?))
}

pub(super) fn activate(y: &Tensor, bias: &Tensor, relu: bool, dropout: Option<Dropout>) -> Result<()> {
    no_grad(|| {
        let mut value = y.shallow_clone();
        let _ = value.f_add_(bias)?;
        if relu {
            let _ = value.f_relu_()?;
        }
        if let Some(dropout) = dropout {
            let _ = value.f_mul_(&mask(&y.size(), dropout, y.device())?)?;
        }
        Ok(())
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
                let _ = value.f_masked_fill_(&activation.f_le(0.0)?, 0.0)?;
            }
            (false, Some(dropout)) => {
                let _ = value.f_mul_(&mask(&delta.size(), dropout, delta.device())?)?;
            }
            (false, None) => {}
        }
        accumulate(bias, &value.f_sum_dim_intlist(0, false, None)?)
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
        // Where ReLU gives 0 it passes nothing on.
        let closed = if relu { Some(output.f_relu_()?.f_le(0.0)?) } else { None };
        let mut delta = output.f_sub_(target)?;
        let loss = delta.f_square()?.f_mean(Kind::Double)?.f_mul_scalar(weight)?;
        add(loss_sum, &loss)?;
        let count = y.numel() as f64;
        let _ = delta.f_mul_scalar_(2.0 * weight / count)?;
        if let Some(closed) = closed {
            let _ = delta.f_masked_fill_(&closed, 0.0)?;
        }
        accumulate(bias_gradient, &delta.f_sum_dim_intlist(0, false, None)?)
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

pub(super) fn descend(w: &Tensor, v: &Tensor, rate: &Tensor, decay: f64) -> Result<()> {
    no_grad(|| {
        if decay != 0.0 {
            add(v, &w.f_mul_scalar(decay)?)?;
        }
        let _ = w.shallow_clone().f_sub_(&v.f_mul(rate)?)?;
        Ok(())
    })
}

pub(super) fn adam(w: &Tensor, g: &Tensor, m: &Tensor, v: &Tensor, rates: &Tensor, rule: AdamRule) -> Result<()> {
    no_grad(|| {
        let (beta1, beta2) = (f64::from(rule.beta1), f64::from(rule.beta2));
        let decayed = match rule.decay {
            0.0 => g.shallow_clone(),
            decay => g.f_add(&w.f_mul_scalar(f64::from(decay))?)?,
        };
        let _ = m.shallow_clone().f_lerp_(&decayed, 1.0 - beta1)?;
        let _ = v.shallow_clone().f_mul_scalar_(beta2)?.f_add_(&decayed.f_square()?.f_mul_scalar_(1.0 - beta2)?)?;
        let at = |place: i64| rates.f_narrow(0, place, 1);
        let mut denominator = v.f_sqrt()?;
        let _ = denominator.f_mul_(&at(1)?)?.f_add_scalar_(f64::from(rule.epsilon))?;
        let _ = w.shallow_clone().f_mul_(&at(2)?)?.f_sub_(&m.f_mul(&at(0)?)?.f_div_(&denominator)?)?;
        Ok(())
    })
}

/// 1/(1 − p) where dropout keeps, 0 where it drops: the hash of `dense.cpp` in int64 arithmetic.
fn mask(shape: &[i64], dropout: Dropout, device: Device) -> Result<Tensor> {
    let rule = dropout.rule();
    let place = places(shape[0], shape[1..].iter().product(), dropout.key, device)?;
    let kept = hashed(&place, dropout.key, rule.site)?.f_ge(i64::from(rule.threshold))?;
    Ok(kept.f_to_kind(Kind::Float)?.f_mul_scalar(f64::from(rule.scale))?.f_view(shape)?)
}

/// The places in the whole batch of `count` rows of `width` values, which begin at the row that the key names.
pub(super) fn places(count: i64, width: i64, key: &Tensor, device: Device) -> Result<Tensor> {
    let here = Tensor::f_arange(count * width, (Kind::Int64, device))?;
    Ok(here.f_add(&key.f_narrow(0, 1, 1)?.f_mul_scalar(width)?)?)
}

/// 32 random bits for each of the `places`: `hashed` of `hash.h`.
pub(super) fn hashed(places: &Tensor, key: &Tensor, site: u32) -> Result<Tensor> {
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
