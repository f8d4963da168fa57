//! Rows as a training step sees them, changed at random: an affine and elastic warp of images, patches of other images, noise.
//!
//! On the CPU every function is one call of `augment.cpp`; elsewhere it is the same mathematics in tensor operations (`generic`
//! below). What is drawn is a hash of `key` and of the row's place in the batch (for noise: of the value's place), so that it
//! is the same for any number of threads, on every device, and in a run that is resumed. Where the rows are a part of a batch, the key
//! says which of its rows the first is.
#![allow(unsafe_code)]

use std::ffi::c_char;

use tch::{no_grad, Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::dense::{on_cpu, plain, require};
use super::dense_generic::{drawn, set};
use super::shim::check;
use crate::error::Result;

/// How far an image may be changed, each either way; how large a patch of another it may have; and what lies outside it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warp {
    /// Pixels.
    pub height: i64,
    /// Pixels.
    pub width: i64,
    /// Pixels; 0 in either direction for no patches.
    pub patch_height: i64,
    /// Pixels.
    pub patch_width: i64,
    /// Radians.
    pub rotation: f32,
    /// 0.1 is 90 to 110 %; below 1.
    pub zoom: f32,
    /// Pixels to the side per pixel down.
    pub shear: f32,
    /// Pixels.
    pub shift_y: f32,
    /// Pixels.
    pub shift_x: f32,
    /// Pixels, by which the control points of a smooth field of displacements are moved.
    pub elastic_y: f32,
    /// Pixels, likewise.
    pub elastic_x: f32,
    /// Whether the outermost pixels go on outside; else there is nothing, 0.
    pub edge: bool,
    /// Values of a pixel, all moved alike.
    pub channels: i64,
    /// Whether the values of a channel lie together (channel, y, x), and not those of a pixel (y, x, channel).
    pub channels_first: bool,
}

impl Warp {
    /// What leaves images of this size as they are.
    pub fn still(height: i64, width: i64) -> Self {
        Self {
            height,
            width,
            patch_height: 0,
            patch_width: 0,
            rotation: 0.0,
            zoom: 0.0,
            shear: 0.0,
            shift_y: 0.0,
            shift_x: 0.0,
            elastic_y: 0.0,
            elastic_x: 0.0,
            edge: false,
            channels: 1,
            channels_first: false,
        }
    }
}

extern "C" {
    fn dec_augment_warp(
        stored: *const C_tensor,
        indices: *const C_tensor,
        scale: f32,
        key: *const C_tensor,
        rule: *const Warp,
        out: *const C_tensor,
        inside: *mut bool,
    ) -> *mut c_char;
    fn dec_augment_noise(x: *const C_tensor, deviation: f32, key: *const C_tensor, site: u32) -> *mut c_char;
}

/// `out` \[b, h·w·c\] ← `scale` · `stored`\[`indices`\], each row an image of uint8 or float32 \[n, h·w·c\] that is turned, zoomed,
/// sheared, shifted and bent by amounts drawn uniformly, with bilinear interpolation. The bend is a field of displacements of cubic
/// B-splines over 4 × 4 cells, whose 7 × 7 control points are drawn. Then a patch of each, its sides drawn from 0 to the
/// rule's, becomes that of another row of the batch as warped (after CutMix, Yun et al. 2019). `key` is two int64 on the tensors'
/// device: what is drawn from, and the row of the whole batch that the first row here is (which patches do not know of: they are taken from the rows
/// that are here).
///
/// # Errors
/// Shapes that do not fit each other, an index outside the rows.
pub fn warp(stored: &Tensor, indices: &Tensor, scale: f64, key: &Tensor, rule: &Warp, out: &Tensor) -> Result<()> {
    let (_, width) = stored.size2()?;
    plain(out, &[indices.size1()?, width], Kind::Float)?;
    plain(indices, &indices.size(), Kind::Int64)?;
    plain(key, &[2], Kind::Int64)?;
    require((0..=rule.height).contains(&rule.patch_height) && (0..=rule.width).contains(&rule.patch_width), || {
        format!("patches of {} x {} pixels are larger than the images", rule.patch_height, rule.patch_width)
    })?;
    let pixels = rule.height.checked_mul(rule.width);
    let values = pixels.and_then(|pixels| pixels.checked_mul(rule.channels));
    require(rule.height > 0 && rule.width > 0 && rule.channels > 0 && values == Some(width), || {
        format!("rows of {width} values are no images of {} x {} x {}", rule.height, rule.width, rule.channels)
    })?;
    if !on_cpu(&[stored, indices, key, out]) {
        return generic::warp(stored, indices, scale, key, rule, out);
    }
    require(matches!(stored.kind(), Kind::Uint8 | Kind::Float) && stored.is_contiguous(), || {
        format!("rows of kind {:?} or not contiguous", stored.kind())
    })?;
    let mut inside = true;
    // SAFETY: contiguous CPU tensors of the kinds and shapes that the function takes, rows of height · width values; it
    // checks the indices itself, clamps the places it reads to the image and its border, takes patches from within `out`, and
    // writes `out` and `inside` alone; `rule` outlives the call.
    unsafe {
        let (stored, indices, key, out) = (stored.as_ptr(), indices.as_ptr(), key.as_ptr(), out.as_ptr());
        check(dec_augment_warp(stored, indices, scale as f32, key, rule, out, &mut inside))
    }?;
    require(inside, || "an index is outside the rows".to_owned())
}

/// `x` ← `x` + noise of mean 0 and standard `deviation`, in place. The noise is the sum of four uniform numbers, which is near
/// a Gaussian. `site` tells apart what one step draws under the same key.
///
/// # Errors
/// A tensor that is not float32 and contiguous.
pub fn noise(x: &Tensor, deviation: f64, key: &Tensor, site: u32) -> Result<()> {
    plain(x, &x.size(), Kind::Float)?;
    plain(key, &[2], Kind::Int64)?;
    let site = site.wrapping_mul(0x9e37_79b9); // far apart in the 32 bits
    if !on_cpu(&[x, key]) {
        return generic::noise(x, deviation, key, site);
    }
    // SAFETY: a contiguous float32 CPU tensor, which the function writes, and a key of two int64.
    unsafe { check(dec_augment_noise(x.as_ptr(), deviation as f32, key.as_ptr(), site)) }
}

/// The same in tensor operations.
mod generic {
    use super::{drawn, no_grad, set, Device, Kind, Result, Tensor, Warp};

    /// As in `augment.cpp`.
    const BENDS: u32 = 0x5851_f42d;
    const PATCHES: u32 = 0x2545_f491;
    const CELLS: i64 = 4;
    const POINTS: i64 = CELLS + 3;

    /// The weights of the control points at each of `side` pixels, \[side, POINTS\]: the cubic B-spline of the distance in cells,
    /// ((2 − d)₊³ − 4 (1 − d)₊³) / 6. Made on the device, so that a step can be recorded.
    fn splines(side: i64, device: Device) -> Result<Tensor> {
        let float = (Kind::Float, device);
        let places = Tensor::f_arange(side, float)?.f_mul_scalar(CELLS as f64 / (side - 1).max(1) as f64)?;
        let points = Tensor::f_arange(POINTS, float)?.f_sub_scalar(1.0)?;
        let d = places.f_view([side, 1])?.f_sub(&points)?.f_abs()?;
        let cube = |reach: f64| d.f_neg()?.f_add_scalar(reach)?.f_relu()?.f_pow_tensor_scalar(3.0);
        Ok(cube(2.0)?.f_sub(&cube(1.0)?.f_mul_scalar(4.0)?)?.f_div_scalar(6.0)?)
    }

    /// Uniform numbers in [-1, 1), so many for each of `rows`.
    fn symmetric(rows: i64, each: i64, key: &Tensor, site: u32) -> Result<Tensor> {
        let bits = drawn(rows * each, each, key, site)?.f_bitwise_right_shift_tensor_scalar(8)?;
        Ok(bits.f_to_kind(Kind::Float)?.f_mul_scalar(0.5f64.powi(23))?.f_sub_scalar(1.0)?)
    }

    /// Which pixels \[b, h, w\] come from another row of the batch, and from which \[b\].
    fn patches(b: i64, key: &Tensor, rule: &Warp) -> Result<(Tensor, Tensor)> {
        let whole = (Kind::Int64, key.device());
        let bits = drawn(b * 8, 0, key, PATCHES)?.f_view([b, 8, 1, 1])?; // a batch with patches is whole
        let below = |number: i64, count: i64| -> Result<Tensor> {
            let scaled = bits.f_narrow(1, number, 1)?.f_mul_scalar(count)?;
            Ok(scaled.f_squeeze_dim(1)?.f_bitwise_right_shift_tensor_scalar(32)?)
        };
        let other = below(0, b - 1)?.f_view([b])?.f_add(&Tensor::f_arange_start(1, b + 1, whole)?)?.f_remainder(b)?;
        let within = |side: i64, shape: [i64; 2], length: Tensor, middle: Tensor| -> Result<Tensor> {
            let start = middle.f_sub(&length.f_bitwise_right_shift_tensor_scalar(1)?)?;
            let places = Tensor::f_arange(side, whole)?.f_view(shape)?;
            Ok(places.f_ge_tensor(&start)?.f_logical_and(&places.f_lt_tensor(&start.f_add(&length)?)?)?)
        };
        let (height, width) = (rule.height, rule.width);
        let down = within(height, [height, 1], below(1, rule.patch_height + 1)?, below(3, height)?)?;
        let across = within(width, [1, width], below(2, rule.patch_width + 1)?, below(4, width)?)?;
        Ok((down.f_logical_and(&across)?, other))
    }

    pub(super) fn warp(
        stored: &Tensor,
        indices: &Tensor,
        scale: f64,
        key: &Tensor,
        rule: &Warp,
        out: &Tensor,
    ) -> Result<()> {
        no_grad(|| {
            let (b, height, width) = (indices.size1()?, rule.height, rule.width);
            let float = (Kind::Float, stored.device());
            let draws = symmetric(b, 8, key, 0)?.f_view([b, 8])?;
            let draw = |number: i64, most: f32| -> Result<Tensor> {
                Ok(draws.f_narrow(1, number, 1)?.f_mul_scalar(f64::from(most))?)
            };
            let angle = draw(0, rule.rotation)?;
            let zoom = draw(1, rule.zoom)?.f_add_scalar(1.0)?;
            let shear = draw(2, rule.shear)?;
            let (dy, dx) = (draw(3, rule.shift_y)?, draw(4, rule.shift_x)?);
            let (sine, cosine) = (angle.f_sin()?.f_div(&zoom)?, angle.f_cos()?.f_div(&zoom)?);
            let (cy, cx) = ((height - 1) as f64 / 2.0, (width - 1) as f64 / 2.0);
            let rows = Tensor::f_arange(height, float)?.f_sub_scalar(cy)?;
            let rows = rows.f_view([height, 1])?.f_expand([height, width], false)?.f_reshape([1, height * width])?;
            let columns = Tensor::f_arange(width, float)?.f_sub_scalar(cx)?;
            let columns =
                columns.f_view([1, width])?.f_expand([height, width], false)?.f_reshape([1, height * width])?;
            let y = cosine.f_mul(&rows)?.f_add(&sine.f_mul(&columns)?)?.f_add(&dy)?.f_add_scalar(cy)?;
            let from_rows = shear.f_mul(&cosine)?.f_sub(&sine)?.f_mul(&rows)?;
            let from_columns = shear.f_mul(&sine)?.f_add(&cosine)?.f_mul(&columns)?;
            let x = from_rows.f_add(&from_columns)?.f_add(&dx)?.f_add_scalar(cx)?;
            let (y, x) = if rule.elastic_y == 0.0 && rule.elastic_x == 0.0 {
                (y, x)
            } else {
                let points = symmetric(b, 2 * POINTS * POINTS, key, BENDS)?.f_view([b, POINTS, POINTS, 2])?;
                let (down, across) = (splines(height, stored.device())?, splines(width, stored.device())?.f_tr()?);
                let bend = |axis: i64, most: f32| -> Result<Tensor> {
                    let points = points.f_select(3, axis)?.f_mul_scalar(f64::from(most))?;
                    Ok(down.f_matmul(&points)?.f_matmul(&across)?.f_reshape([b, height * width])?)
                };
                (y.f_add(&bend(0, rule.elastic_y)?)?, x.f_add(&bend(1, rule.elastic_x)?)?)
            };

            let low = if rule.edge { 0.0 } else { -1.0 };
            let high = |side: i64| (if rule.edge { side - 1 } else { side }) as f64;
            let y = y.f_clamp(low, high(height))?.f_add_scalar(2.0)?;
            let x = x.f_clamp(low, high(width))?.f_add_scalar(2.0)?;
            let (top, left) = (y.f_floor()?, x.f_floor()?);
            let (fy, fx) = (y.f_sub(&top)?, x.f_sub(&left)?);
            let stride = width + 4;
            let place = top.f_mul_scalar(stride)?.f_add(&left)?.f_to_kind(Kind::Int64)?;
            let images = stored.f_index_select(0, indices)?.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?;
            let c = rule.channels;
            let planes = match rule.channels_first {
                true => images.f_view([b, c, height, width])?,
                false => images.f_view([b, height, width, c])?.f_permute([0, 3, 1, 2])?,
            };
            let bordered = planes.f_constant_pad_nd([2, 2, 2, 2])?.f_reshape([b, c, -1])?;
            let places = |offset: i64| -> Result<Tensor> {
                Ok(place.f_add_scalar(offset)?.f_unsqueeze(1)?.f_expand([b, c, height * width], false)?)
            };
            let at = |offset: i64| -> Result<Tensor> { Ok(bordered.f_gather(2, &places(offset)?, false)?) };
            let (fx, fy) = (fx.f_unsqueeze(1)?, fy.f_unsqueeze(1)?);
            let upper = at(0)?.f_lerp_tensor(&at(1)?, &fx)?;
            let lower = at(stride)?.f_lerp_tensor(&at(stride + 1)?, &fx)?;
            let mut warped = upper.f_lerp_tensor(&lower, &fy)?;
            if rule.patch_height > 0 && rule.patch_width > 0 && b > 1 {
                let (patched, other) = patches(b, key, rule)?;
                warped = warped.f_index_select(0, &other)?.f_where_self(&patched.f_view([b, 1, -1])?, &warped)?;
            }
            if !rule.channels_first {
                warped = warped.f_permute([0, 2, 1])?;
            }
            set(out, &warped.f_reshape([b, -1])?)
        })
    }

    pub(super) fn noise(x: &Tensor, deviation: f64, key: &Tensor, site: u32) -> Result<()> {
        no_grad(|| {
            let rows = x.size()[0];
            let each = 2 * x.numel() as i64 / rows.max(1);
            let bits = drawn(rows * each, each, key, site)?;
            let halves = bits.f_bitwise_and(0xffff)?.f_add(&bits.f_bitwise_right_shift_tensor_scalar(16)?)?;
            let sum = halves.f_view([-1, 2])?.f_sum_dim_intlist(1, false, None)?.f_to_kind(Kind::Float)?;
            let factor = deviation * 3f64.sqrt() / 65536.0;
            set(x, &x.f_add(&sum.f_sub_scalar(131_070.0)?.f_mul_scalar(factor)?.f_view(x.size().as_slice())?)?)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backend::threads;

    fn key(value: i64) -> Tensor {
        Tensor::from_slice(&[value, 0])
    }

    fn images(n: i64, values: i64) -> Tensor {
        tch::manual_seed(3);
        Tensor::randint(256, [n, values], (Kind::Uint8, Device::Cpu))
    }

    fn warped(stored: &Tensor, rule: &Warp, of: i64) -> Tensor {
        let n = stored.size()[0];
        let out = Tensor::empty(stored.size(), (Kind::Float, Device::Cpu));
        warp(stored, &Tensor::arange(n, (Kind::Int64, Device::Cpu)), 0.5, &key(of), rule, &out).unwrap();
        out
    }

    #[test]
    fn a_warp_that_does_nothing_is_a_gather() {
        let stored = images(5, 6 * 9);
        for edge in [false, true] {
            let out = warped(&stored, &Warp { edge, ..Warp::still(6, 9) }, 1);
            assert!(out.allclose(&(stored.to_kind(Kind::Float) * 0.5), 1e-5, 1e-4, false));
        }
    }

    #[test]
    fn both_paths_warp_alike() {
        for (height, width) in [(6, 9), (28, 28), (1, 40), (17, 1)] {
            let stored = images(40, height * width);
            for edge in [false, true] {
                let rule = Warp {
                    patch_height: height / 2,
                    patch_width: width,
                    rotation: 0.5,
                    zoom: 0.3,
                    shear: 0.2,
                    shift_y: 2.5,
                    shift_x: 1.5,
                    elastic_y: 3.0,
                    elastic_x: 2.0,
                    edge,
                    ..Warp::still(height, width)
                };
                let out = warped(&stored, &rule, 77);
                let other = Tensor::empty(stored.size(), (Kind::Float, Device::Cpu));
                let indices = Tensor::arange(40, (Kind::Int64, Device::Cpu));
                generic::warp(&stored, &indices, 0.5, &key(77), &rule, &other).unwrap();
                let difference = (&out - &other).abs().max().double_value(&[]);
                assert!(difference < 0.02, "{height} x {width}: {difference}"); // of 127; a place is rounded to 1e-5 pixels
                assert!((&out - stored.to_kind(Kind::Float) * 0.5).abs().max().double_value(&[]) > 1.0);
            }
        }
    }

    #[test]
    fn patches_are_rectangles_of_another_row() {
        // Every image is of one value, so that a pixel tells which row it came from.
        let n = 200;
        let values = Tensor::arange(n, (Kind::Uint8, Device::Cpu));
        let stored = values.view([n, 1]).repeat([1, 8 * 10]);
        let rule = Warp { patch_height: 4, patch_width: 6, ..Warp::still(8, 10) };
        let out = (warped(&stored, &rule, 6) * 2.0).round().view([n, 8, 10]);
        let foreign = out.ne_tensor(&values.view([n, 1, 1]));
        let (down, across) = (foreign.any_dim(2, false), foreign.any_dim(1, false));
        assert_eq!(foreign, down.unsqueeze(2).logical_and(&across.unsqueeze(1)), "rectangles");
        let heights = down.sum_dim_intlist(1, false, Kind::Int64);
        let widths = across.sum_dim_intlist(1, false, Kind::Int64);
        assert_eq!((heights.max().int64_value(&[]), widths.max().int64_value(&[])), (4, 6));
        let drawn: usize = (0..n).map(|i| usize::from(foreign.get(i).any().int64_value(&[]) != 0)).sum();
        assert!((120..190).contains(&drawn), "{drawn} of 200: some sides are 0");
        let mut sources = std::collections::BTreeSet::new();
        for i in 0..n {
            let row = out.get(i).masked_select(&foreign.get(i));
            let Some(source) = (row.numel() > 0).then(|| row.min().double_value(&[])) else { continue };
            assert_eq!(source, row.max().double_value(&[]), "of one row");
            sources.insert(source as i64);
        }
        assert!(sources.len() > 60, "{} rows are taken from", sources.len());
        // One row alone has no other to take from.
        let alone = warped(&stored.narrow(0, 7, 1), &rule, 6);
        assert!(alone.allclose(&(stored.narrow(0, 7, 1).to_kind(Kind::Float) * 0.5), 1e-5, 1e-4, false));
    }

    #[test]
    fn a_shift_moves_pixels_and_what_comes_in_is_empty_or_the_edge() {
        // One bright row; shifted far down or up, every image keeps at most that row and loses it where it leaves.
        let stored = Tensor::full([200, 8], 200, (Kind::Uint8, Device::Cpu));
        let rule = Warp { shift_x: 4.0, ..Warp::still(1, 8) };
        let empty = warped(&stored, &rule, 5);
        assert_eq!(empty.max().double_value(&[]), 100.0);
        assert_eq!(empty.min().double_value(&[]), 0.0);
        let kept = warped(&stored, &Warp { edge: true, ..rule }, 5);
        assert_eq!(kept.min().double_value(&[]), 100.0);
        // Drawn uniformly: about half of a row is lost at most, a quarter on average.
        let lost = 1.0 - empty.mean(Kind::Float).double_value(&[]) / 100.0;
        assert!((0.2..0.3).contains(&lost), "{lost}");
    }

    #[test]
    fn a_quarter_turn_is_a_quarter_turn() {
        // Rotations drawn from ±90°: the one drawn is recovered from a single bright pixel right of the middle.
        let mut image = vec![0u8; 81];
        image[4 * 9 + 7] = 200;
        let stored = Tensor::from_slice(&image).view([1, 81]).repeat([300, 1]);
        let out =
            warped(&stored, &Warp { rotation: std::f32::consts::FRAC_PI_2, ..Warp::still(9, 9) }, 9).view([300, 9, 9]);
        let places = Tensor::arange(9, (Kind::Float, Device::Cpu)) - 4.0;
        let mass = out.sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Float);
        let y = (&out * places.view([1, 9, 1])).sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Float) / &mass;
        let x = (&out * places.view([1, 1, 9])).sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Float) / &mass;
        let radius = (x.square() + y.square()).sqrt();
        assert!((&radius - 3.0).abs().max().double_value(&[]) < 0.3, "turned about the middle");
        assert!(x.min().double_value(&[]) < 0.5 && y.max().double_value(&[]) > 2.5 && y.min().double_value(&[]) < -2.5);
    }

    #[test]
    fn an_elastic_field_is_smooth_and_differs_from_place_to_place() {
        // A ramp along the row, so that a pixel tells where it was taken from.
        let ramp: Vec<u8> = (0..28 * 28).map(|i| (i % 28 * 8 + 8) as u8).collect();
        let stored = Tensor::from_slice(&ramp).view([1, 784]).repeat([200, 1]);
        let out = warped(&stored, &Warp { elastic_x: 4.0, ..Warp::still(28, 28) }, 21);
        let moved = ((out - stored.to_kind(Kind::Float) * 0.5) / 4.0).view([200, 28, 28]);
        let inner = moved.narrow(2, 6, 16); // away from where the ramp ends
        let deviation = inner.std(true).double_value(&[]);
        // Control points within ±4 have a deviation of 4/√3; their splines take the mean of several.
        assert!((0.7..1.5).contains(&deviation), "{deviation}");
        let mean = inner.mean_dim(0, false, Kind::Float).abs().max().double_value(&[]);
        assert!(mean < 0.4, "no direction is preferred: {mean}");
        let step = inner.narrow(1, 0, 27) - inner.narrow(1, 1, 27);
        assert!(step.abs().max().double_value(&[]) < 1.2, "from line to line");
        let spread = inner.std_dim([1i64, 2].as_slice(), true, false).mean(Kind::Float).double_value(&[]);
        assert!(spread > 0.5, "more than one shift of the whole image: {spread}");
    }

    #[test]
    fn noise_has_its_mean_and_deviation_and_is_the_same_on_both_paths() {
        let x = Tensor::zeros([300, 100], (Kind::Float, Device::Cpu));
        noise(&x, 0.3, &key(4), 1).unwrap();
        assert!(x.mean(Kind::Float).double_value(&[]).abs() < 0.01);
        assert!((x.std(true).double_value(&[]) - 0.3).abs() < 0.01);
        let other = x.zeros_like();
        generic::noise(&other, 0.3, &key(4), 1u32.wrapping_mul(0x9e37_79b9)).unwrap();
        assert!(x.allclose(&other, 1e-5, 1e-6, false));
    }

    #[test]
    fn keys_change_what_is_drawn_and_threads_do_not() {
        let _alone = threads::tests::alone();
        let stored = images(70, 28 * 28);
        let rule = Warp {
            rotation: 0.3,
            shift_x: 2.0,
            elastic_y: 3.0,
            patch_height: 9,
            patch_width: 9,
            ..Warp::still(28, 28)
        };
        let results: Vec<Tensor> = (1..=3)
            .map(|count| {
                threads::set(Some(count)).unwrap();
                let out = warped(&stored, &rule, 12);
                noise(&out, 0.1, &key(12), 3).unwrap();
                out
            })
            .collect();
        threads::set(None).unwrap();
        assert!(results[0] == results[1] && results[0] == results[2]);
        assert_ne!(warped(&stored, &rule, 13), warped(&stored, &rule, 12));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let stored = images(3, 12);
        let out = Tensor::empty([1, 12], (Kind::Float, Device::Cpu));
        let at = |index: i64| Tensor::from_slice(&[index]);
        assert!(warp(&stored, &at(0), 1.0, &key(0), &Warp::still(3, 5), &out).is_err());
        assert!(warp(&stored, &at(3), 1.0, &key(0), &Warp::still(3, 4), &out).is_err());
        assert!(warp(&stored, &at(-1), 1.0, &key(0), &Warp::still(3, 4), &out).is_err());
        assert!(warp(&stored, &at(2), 1.0, &key(0), &Warp::still(3, 4), &out).is_ok());
        for (patch_height, patch_width) in [(4, 4), (3, 5), (-1, 2)] {
            let rule = Warp { patch_height, patch_width, ..Warp::still(3, 4) };
            assert!(warp(&stored, &at(2), 1.0, &key(0), &rule, &out).is_err());
        }
    }
}
