//! q, p, their divergence and its gradients as tensor operations (Xie et al. 2016, Eq. 1 to 5); public as
//! [`crate::model::assignment`], which has the table of symbols.

use tch::{no_grad, Kind, Tensor};

use crate::error::Result;

/// ‖z_i − μ_j‖² \[n, k\], by direct differences: exact also where z is far from the origin.
fn squared_distances(z: &Tensor, centroids: &Tensor) -> Result<Tensor> {
    let difference = z.f_unsqueeze(1)?.f_sub(&centroids.f_unsqueeze(0)?)?;
    Ok(difference.f_square()?.f_sum_dim_intlist(-1, false, None)?)
}

/// log q \[n, k\], from −(α+1)/2 · log1p(d²/α), never from the log of a rounded q.
///
/// `z` is \[n, m\], `centroids` \[k, m\], `alpha` > 0 the degrees of freedom (1 in the paper). Takes n·k·m values of memory.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn log_soft_assignment(z: &Tensor, centroids: &Tensor, alpha: f64) -> Result<Tensor> {
    let kernel = squared_distances(z, centroids)?.f_div_scalar(alpha)?.f_log1p()?.f_mul_scalar(-(alpha + 1.0) / 2.0)?;
    Ok(kernel.f_log_softmax(1, None)?)
}

/// q \[n, k\] (Xie et al. 2016, Eq. 1); see [`log_soft_assignment`].
///
/// # Errors
/// Shapes that do not fit each other.
pub fn soft_assignment(z: &Tensor, centroids: &Tensor, alpha: f64) -> Result<Tensor> {
    Ok(log_soft_assignment(z, centroids, alpha)?.f_exp()?)
}

/// f \[k\], the soft cluster frequencies Σ_i q_ij of the whole data set, summed in float64 and returned so.
///
/// # Errors
/// A libtorch failure.
pub fn cluster_frequency(q: &Tensor) -> Result<Tensor> {
    Ok(q.f_sum_dim_intlist(0, false, Kind::Double)?)
}

/// p \[n, k\] (Xie et al. 2016, Eq. 3) of rows `q` \[n, k\], given the `frequency` f \[k\] of the whole data set.
///
/// A constant for the gradient. A cluster that nobody belongs to at all (f_j = 0) gets p_ij = 0.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn target_distribution(q: &Tensor, frequency: &Tensor) -> Result<Tensor> {
    no_grad(|| {
        let weight = q.f_square()?.f_div(&frequency.f_to_kind(q.kind())?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
        let total = weight.f_sum_dim_intlist(1, true, None)?;
        Ok(weight.f_div(&total)?)
    })
}

/// KL(P‖Q), the mean over the rows of Σ_j p_ij (log p_ij − log q_ij), from `p` and `log_q`, both \[n, k\].
///
/// # Errors
/// Shapes that do not fit each other.
pub fn kl_divergence(p: &Tensor, log_q: &Tensor) -> Result<Tensor> {
    let entropy = p.f_xlogy(p)?;
    let per_row = entropy.f_sub(&p.f_mul(log_q)?)?.f_sum_dim_intlist(1, false, None)?;
    Ok(per_row.f_mean(None)?)
}

/// The gradients of Σ_i KL(p_i‖q_i) with respect to z \[n, m\] and μ \[k, m\], in closed form (Xie et al. 2016, Eq. 4 and 5):
///
/// ∂L/∂z_i = (α+1)/α · Σ_j u_ij (p_ij − q_ij)(z_i − μ_j) with u_ij = (1 + ‖z_i − μ_j‖²/α)⁻¹, and ∂L/∂μ_j its negative,
/// summed over i instead.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn kl_gradients(z: &Tensor, centroids: &Tensor, p: &Tensor, alpha: f64) -> Result<(Tensor, Tensor)> {
    no_grad(|| {
        // Both gradients depend on differences z − μ alone: around the centroids' mean, the sums below cancel little.
        let origin = centroids.f_mean_dim([0i64].as_slice(), true, None)?;
        let (z, centroids) = (&z.f_sub(&origin)?, &centroids.f_sub(&origin)?);
        let u = squared_distances(z, centroids)?.f_div_scalar(alpha)?.f_add_scalar(1.0)?.f_reciprocal()?;
        let q = soft_assignment(z, centroids, alpha)?;
        let w = p.f_sub(&q)?.f_mul(&u)?.f_mul_scalar((alpha + 1.0) / alpha)?; // [n, k]
        let dz = w.f_sum_dim_intlist(1, true, None)?.f_mul(z)?.f_sub(&w.f_matmul(centroids)?)?;
        let column_sums = w.f_sum_dim_intlist(0, false, None)?.f_unsqueeze(1)?;
        let dmu = column_sums.f_mul(centroids)?.f_sub(&w.f_tr()?.f_matmul(z)?)?;
        Ok((dz, dmu))
    })
}
