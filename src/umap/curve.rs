//! The two numbers of the map's curve.

/// Fits a and b such that 1 / (1 + a·d^2b) is near 1 for d < `min_dist` and near exp(−(d − `min_dist`) / `spread`) beyond:
/// least squares over 300 distances from 0 to 3 · `spread`, by Levenberg and Marquardt's method.
///
/// ```
/// let (a, b) = dec::umap::fit_curve(0.1, 1.0);
/// assert!((a - 1.577).abs() < 0.002 && (b - 0.895).abs() < 0.001);
/// ```
pub fn fit_curve(min_dist: f64, spread: f64) -> (f64, f64) {
    let points: Vec<(f64, f64)> = (0..300)
        .map(|i| {
            let d = 3.0 * spread * f64::from(i) / 299.0;
            (d, if d < min_dist { 1.0 } else { (-(d - min_dist) / spread).exp() })
        })
        .collect();
    let (mut a, mut b) = (1.0, 1.0);
    let mut damping = 1e-3;
    let mut error = squared_error(&points, a, b);
    for _ in 0..200 {
        let (da, db) = step(&points, a, b, damping);
        let (next_a, next_b) = (f64::max(a + da, 1e-9), f64::max(b + db, 1e-3));
        let next_error = squared_error(&points, next_a, next_b);
        if next_error < error {
            (a, b, error) = (next_a, next_b, next_error);
            damping *= 0.3;
        } else {
            damping *= 5.0;
        }
        if damping > 1e12 {
            break;
        }
    }
    (a, b)
}

fn squared_error(points: &[(f64, f64)], a: f64, b: f64) -> f64 {
    points.iter().map(|&(d, wanted)| (1.0 / (1.0 + a * d.powf(2.0 * b)) - wanted).powi(2)).sum()
}

/// The damped Gauss-Newton step.
fn step(points: &[(f64, f64)], a: f64, b: f64, damping: f64) -> (f64, f64) {
    let (mut aa, mut ab, mut bb, mut ra, mut rb) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for &(d, wanted) in points.iter().filter(|point| point.0 > 0.0) {
        let power = d.powf(2.0 * b);
        let value = 1.0 / (1.0 + a * power);
        let by_a = -power * value * value;
        let by_b = -2.0 * a * power * d.ln() * value * value;
        let residual = wanted - value;
        aa += by_a * by_a;
        ab += by_a * by_b;
        bb += by_b * by_b;
        ra += by_a * residual;
        rb += by_b * residual;
    }
    let (aa, bb) = (aa * (1.0 + damping) + 1e-12, bb * (1.0 + damping) + 1e-12);
    let determinant = aa * bb - ab * ab;
    ((ra * bb - rb * ab) / determinant, (rb * aa - ra * ab) / determinant)
}
