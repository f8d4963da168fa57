//! Safe wrappers of `lloyd.cpp`: the passes of k-means over rows on the CPU, in the type that they are stored in.
//!
//! n rows of d features, R restarts of which A are active, k clusters, t candidates. Centroids, candidates and `origin`
//! are in the coordinates of x · scale − origin.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::ops::Range;
use std::ptr;

use tch::{Device, Kind, TchError, Tensor};
use torch_sys::C_tensor;

use super::shim::check;
use crate::error::Result;

/// Ranges of rows that [`potentials`] takes begin at multiples of this, so that its sums are the same for any ranges.
pub const CHUNK: i64 = 1024;

// The contract is at the head of guard.h.
extern "C" {
    fn dec_lloyd_norms(rows: *const C_tensor, scale: f64, origin: *const C_tensor, norms: *mut C_tensor)
        -> *mut c_char;
    fn dec_lloyd_assign(
        rows: *const C_tensor,
        scale: f64,
        origin: *const C_tensor,
        norms: *const C_tensor,
        active: *const C_tensor,
        centroids: *const C_tensor,
        drift: *const C_tensor,
        bounds: *mut C_tensor,
        labels: *mut C_tensor,
        start: i64,
        length: i64,
    ) -> *mut c_char;
    fn dec_lloyd_update(
        rows: *const C_tensor,
        active: *const C_tensor,
        labels: *const C_tensor,
        previous: *mut C_tensor,
        sums: *mut C_tensor,
        counts: *mut C_tensor,
        changed: *mut C_tensor,
        start: i64,
        length: i64,
    ) -> *mut c_char;
    fn dec_lloyd_seed(
        rows: *const C_tensor,
        scale: f64,
        origin: *const C_tensor,
        norms: *const C_tensor,
        candidates: *const C_tensor,
        closest: *mut C_tensor,
        potentials: *mut C_tensor,
        start: i64,
        length: i64,
    ) -> *mut c_char;
    fn dec_lloyd_sample(closest: *const C_tensor, draws: *const C_tensor, picks: *mut C_tensor) -> *mut c_char;
    fn dec_lloyd_column_sums(
        rows: *const C_tensor,
        scale: f64,
        labels: *const C_tensor,
        sums: *mut C_tensor,
    ) -> *mut c_char;
    fn dec_lloyd_nearest(
        rows: *const C_tensor,
        scale: f64,
        centroids: *const C_tensor,
        labels: *mut C_tensor,
        distances: *mut C_tensor,
    ) -> *mut c_char;
}

/// Rows as the passes see them: x · scale − origin, float32.
#[derive(Debug)]
pub struct View<'a> {
    /// \[n, d\], uint8 or float32.
    pub rows: &'a Tensor,
    /// What the stored values are multiplied by.
    pub scale: f64,
    /// float32 \[d\].
    pub origin: &'a Tensor,
    /// ‖x‖² of each row, float32 \[n\], from [`squared_norms`].
    pub norms: &'a Tensor,
}

/// What is known of each restart's labels.
#[derive(Debug)]
pub struct Labelling<'a> {
    /// int32 \[R, n\]; −1: none yet.
    pub labels: &'a Tensor,
    /// float32 \[3, R, n\]: what is known of the distances; −1 where nothing is.
    pub bounds: &'a Tensor,
}

/// Each restart's clusters as sums over `previous`' labels, in stored units.
#[derive(Debug)]
pub struct Totals<'a> {
    /// int32 \[R, n\]; −1: none yet.
    pub previous: &'a Tensor,
    /// float64 \[R, k, d\].
    pub sums: &'a Tensor,
    /// float64 \[R, k\].
    pub counts: &'a Tensor,
}

/// ‖x · scale − origin‖² of each row: float64 \[n\].
///
/// # Errors
/// [`crate::Error::Torch`] for tensors that do not go together.
pub fn squared_norms(rows: &Tensor, scale: f64, origin: &Tensor) -> Result<Tensor> {
    let (n, d) = check_rows(rows)?;
    expect("origin", origin, Kind::Float, &[d])?;
    let norms = Tensor::f_zeros([n], (Kind::Double, Device::Cpu))?;
    // SAFETY: live tensors of the kinds and shapes that the kernel reads and writes, contiguous, on the CPU.
    unsafe { check(dec_lloyd_norms(rows.as_ptr(), scale, origin.as_ptr(), norms.as_ptr().cast_mut()))? };
    Ok(norms)
}

/// Gives the rows of `range` the label of the nearest of their restart's `centroids`, float32 \[A, k, d\], where it may
/// have changed.
///
/// `active` holds the A restarts. `drift`, float32 \[2, A, k\]: the lengths of all steps that a centroid has made; and
/// the sum over the steps of the longest that another centroid made.
///
/// # Errors
/// [`crate::Error::Torch`] for tensors that do not go together.
pub fn assign(
    view: &View,
    active: &[i64],
    centroids: &Tensor,
    drift: &Tensor,
    labelling: &Labelling,
    range: Range<i64>,
) -> Result<()> {
    let (n, d) = check_view(view)?;
    let (n_active, k) = (active.len() as i64, size(centroids, 1));
    expect("centroids", centroids, Kind::Float, &[n_active, k, d])?;
    expect("drift", drift, Kind::Float, &[2, n_active, k])?;
    let restarts = size(labelling.labels, 0);
    expect("labels", labelling.labels, Kind::Int, &[restarts, n])?;
    expect("bounds", labelling.bounds, Kind::Float, &[3, restarts, n])?;
    check_active(active, restarts)?;
    check_range(&range, n)?;
    if k == 0 {
        return Err(TchError::Shape("k-means: no centroids".to_owned()).into());
    }
    let active = Tensor::f_from_slice(active)?;
    // SAFETY: live tensors of the kinds and shapes that the kernel reads and writes, contiguous, on the CPU; the
    // restarts and the range lie within them, and the kernel clamps the labels that it reads.
    unsafe {
        check(dec_lloyd_assign(
            view.rows.as_ptr(),
            view.scale,
            view.origin.as_ptr(),
            view.norms.as_ptr(),
            active.as_ptr(),
            centroids.as_ptr(),
            drift.as_ptr(),
            labelling.bounds.as_ptr().cast_mut(),
            labelling.labels.as_ptr().cast_mut(),
            range.start,
            range.end - range.start,
        ))
    }
}

/// Brings `totals` from their own labels to `labels`, int32 \[R, n\], for the rows of `range` and the active restarts;
/// adds to `changed`, int64 \[A\], how many labels differ.
///
/// # Errors
/// [`crate::Error::Torch`] for tensors that do not go together, or a label outside 0..k.
pub fn update(
    rows: &Tensor,
    active: &[i64],
    labels: &Tensor,
    totals: &Totals,
    changed: &Tensor,
    range: Range<i64>,
) -> Result<()> {
    let (n, d) = check_rows(rows)?;
    let (restarts, k) = (size(totals.sums, 0), size(totals.sums, 1));
    expect("sums", totals.sums, Kind::Double, &[restarts, k, d])?;
    expect("counts", totals.counts, Kind::Double, &[restarts, k])?;
    expect("labels", labels, Kind::Int, &[restarts, n])?;
    expect("previous labels", totals.previous, Kind::Int, &[restarts, n])?;
    expect("changed", changed, Kind::Int64, &[active.len() as i64])?;
    check_active(active, restarts)?;
    check_range(&range, n)?;
    let active = Tensor::f_from_slice(active)?;
    // SAFETY: live tensors of the kinds and shapes that the kernel reads and writes, contiguous, on the CPU; the
    // restarts and the range lie within them, and the kernel checks the labels that it indexes with.
    unsafe {
        check(dec_lloyd_update(
            rows.as_ptr(),
            active.as_ptr(),
            labels.as_ptr(),
            totals.previous.as_ptr().cast_mut(),
            totals.sums.as_ptr().cast_mut(),
            totals.counts.as_ptr().cast_mut(),
            changed.as_ptr().cast_mut(),
            range.start,
            range.end - range.start,
        ))
    }
}

/// Adds Σ min(closest, ‖x − candidate‖²) over the rows of `range` to `potentials`, float64 \[R, t\], for `candidates`,
/// float32 \[R, t, d\]; `closest`, float32 \[R, n\], is only read.
///
/// # Errors
/// [`crate::Error::Torch`] for tensors that do not go together, or a range that does not begin at a [`CHUNK`].
pub fn potentials(
    view: &View,
    candidates: &Tensor,
    closest: &Tensor,
    potentials: &Tensor,
    range: Range<i64>,
) -> Result<()> {
    expect("potentials", potentials, Kind::Double, &candidates.size()[..2])?;
    if range.start % CHUNK != 0 {
        return Err(TchError::Shape(format!("k-means: rows from {} on are no whole chunks", range.start)).into());
    }
    seed(view, candidates, closest, Some(potentials), range)
}

/// Lowers `closest`, float32 \[R, n\], to the squared distance to `centroids`, float32 \[R, 1, d\], over the rows of
/// `range`.
///
/// # Errors
/// [`crate::Error::Torch`] for tensors that do not go together.
pub fn approach(view: &View, centroids: &Tensor, closest: &Tensor, range: Range<i64>) -> Result<()> {
    expect("centroids", centroids, Kind::Float, &[size(centroids, 0), 1, size(centroids, 2)])?;
    seed(view, centroids, closest, None, range)
}

fn seed(
    view: &View,
    candidates: &Tensor,
    closest: &Tensor,
    potentials: Option<&Tensor>,
    range: Range<i64>,
) -> Result<()> {
    let (n, d) = check_view(view)?;
    let restarts = size(candidates, 0);
    expect("candidates", candidates, Kind::Float, &[restarts, size(candidates, 1), d])?;
    expect("closest", closest, Kind::Float, &[restarts, n])?;
    check_range(&range, n)?;
    // SAFETY: live tensors of the kinds and shapes that the kernel reads and writes, contiguous, on the CPU; the range
    // lies within them; potentials are either null, with one candidate a restart, or of the candidates' shape.
    unsafe {
        check(dec_lloyd_seed(
            view.rows.as_ptr(),
            view.scale,
            view.origin.as_ptr(),
            view.norms.as_ptr(),
            candidates.as_ptr(),
            closest.as_ptr().cast_mut(),
            potentials.map_or(ptr::null_mut(), |tensor| tensor.as_ptr().cast_mut()),
            range.start,
            range.end - range.start,
        ))
    }
}

/// Draws rows with the probabilities `closest`, float32 \[R, n\]: for each of `draws`, float64 \[R, t\] in \[0, 1), the
/// row in which the running sum passes that part of the whole, int64 \[R, t\]. Where a restart's are all 0, each row is
/// as likely.
///
/// # Errors
/// [`crate::Error::Torch`] for tensors that do not go together.
pub fn sample(closest: &Tensor, draws: &Tensor) -> Result<Tensor> {
    let (restarts, n, t) = (size(closest, 0), size(closest, 1), size(draws, 1));
    expect("closest", closest, Kind::Float, &[restarts, n])?;
    expect("draws", draws, Kind::Double, &[restarts, t])?;
    let picks = Tensor::f_zeros([restarts, t], (Kind::Int64, Device::Cpu))?;
    // SAFETY: live tensors of the kinds and shapes that the kernel reads and writes, contiguous, on the CPU.
    unsafe { check(dec_lloyd_sample(closest.as_ptr(), draws.as_ptr(), picks.as_ptr().cast_mut()))? };
    Ok(picks)
}

/// Adds every row, as float32 times `scale`, to the row of `sums`, float64 \[k, d\], that its label, int32 \[n\],
/// names; in the rows' order.
///
/// # Errors
/// [`crate::Error::Torch`] for tensors that do not go together, or a label outside 0..k.
pub fn add_rows(rows: &Tensor, scale: f64, labels: &Tensor, sums: &Tensor) -> Result<()> {
    let (n, d) = check_rows(rows)?;
    let k = size(sums, 0);
    expect("sums", sums, Kind::Double, &[k, d])?;
    expect("labels", labels, Kind::Int, &[n])?;
    if n == 0 {
        return Ok(());
    }
    let (least, most) = (i64::try_from(labels.f_min()?)?, i64::try_from(labels.f_max()?)?);
    if least < 0 || most >= k {
        return Err(TchError::Shape(format!("k-means: labels from {least} to {most} for {k} clusters")).into());
    }
    // SAFETY: live tensors of the kinds and shapes that the kernel reads and writes, contiguous, on the CPU, and labels
    // within `sums`.
    unsafe { check(dec_lloyd_column_sums(rows.as_ptr(), scale, labels.as_ptr(), sums.as_ptr().cast_mut())) }
}

/// Each row's nearest of `centroids`, float32 \[k, d\], by direct differences in float32, as int32 \[n\] (the first of
/// equally near ones), and its squared distance, float64 \[n\]. Rows are float32 times `scale`.
///
/// # Errors
/// [`crate::Error::Torch`] for tensors that do not go together.
pub fn nearest(rows: &Tensor, scale: f64, centroids: &Tensor) -> Result<(Tensor, Tensor)> {
    let (n, d) = check_rows(rows)?;
    let k = size(centroids, 0);
    expect("centroids", centroids, Kind::Float, &[k, d])?;
    if k == 0 {
        return Err(TchError::Shape("k-means: no centroids".to_owned()).into());
    }
    let labels = Tensor::f_zeros([n], (Kind::Int, Device::Cpu))?;
    let distances = Tensor::f_zeros([n], (Kind::Double, Device::Cpu))?;
    // SAFETY: live tensors of the kinds and shapes that the kernel reads and writes, contiguous, on the CPU.
    unsafe {
        check(dec_lloyd_nearest(
            rows.as_ptr(),
            scale,
            centroids.as_ptr(),
            labels.as_ptr().cast_mut(),
            distances.as_ptr().cast_mut(),
        ))?;
    }
    Ok((labels, distances))
}

fn size(tensor: &Tensor, dimension: usize) -> i64 {
    tensor.size().get(dimension).copied().unwrap_or(0)
}

fn check_rows(rows: &Tensor) -> Result<(i64, i64)> {
    let kind = if rows.f_kind()? == Kind::Uint8 { Kind::Uint8 } else { Kind::Float };
    let (n, d) = (size(rows, 0), size(rows, 1));
    expect("rows", rows, kind, &[n, d])?;
    Ok((n, d))
}

fn check_view(view: &View) -> Result<(i64, i64)> {
    let (n, d) = check_rows(view.rows)?;
    expect("origin", view.origin, Kind::Float, &[d])?;
    expect("norms", view.norms, Kind::Float, &[n])?;
    Ok((n, d))
}

fn check_active(active: &[i64], restarts: i64) -> Result<()> {
    // Each once: threads share the restarts among themselves.
    let ascending = active.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || active.iter().any(|restart| !(0..restarts).contains(restart)) {
        return Err(TchError::Shape(format!("k-means: restarts {active:?} of {restarts}")).into());
    }
    Ok(())
}

fn check_range(range: &Range<i64>, n: i64) -> Result<()> {
    if range.start < 0 || range.start > range.end || range.end > n || range.end - range.start > i64::from(i32::MAX) {
        return Err(TchError::Shape(format!("k-means: rows {range:?} of {n}")).into());
    }
    Ok(())
}

/// What the kernels take for granted about a tensor.
fn expect(name: &str, tensor: &Tensor, kind: Kind, shape: &[i64]) -> Result<()> {
    let problem = if !tensor.defined() {
        "undefined".to_owned()
    } else if tensor.f_kind()? != kind || tensor.size() != shape {
        format!("{:?} {:?}, expected {kind:?} {shape:?}", tensor.f_kind()?, tensor.size())
    } else if tensor.device() != Device::Cpu {
        format!("on {:?}, expected on the CPU", tensor.device())
    } else if !tensor.is_contiguous() {
        "not contiguous".to_owned()
    } else {
        return Ok(());
    };
    Err(TchError::Shape(format!("k-means: {name}: {problem}")).into())
}
