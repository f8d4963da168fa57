//! Stochastic gradient descent on the map.

use super::graph::Graph;
use super::{Random, UmapSettings};

/// Forces that are computed at once: those of random rows, and the tail's.
pub(super) const LANES: usize = 8;
/// The tail's lane.
pub(super) const TAIL: usize = LANES - 1;
/// Keeps the push of a very near row finite; the tail's force is finite as it is, but for equal points.
const NEAR: [f32; LANES] = [0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 1e-30];
/// Longest step along an axis, before the learning rate.
const CLIP: f32 = 4.0;

/// The points and the meetings that are due.
pub(super) struct Descent {
    points: Vec<[f32; 2]>,
    /// Head and tail of each pair that meets at least once.
    pairs: Vec<(u32, u32)>,
    /// Epochs between two meetings.
    period: Vec<f32>,
    /// Epoch of the next meeting.
    due: Vec<f32>,
    epochs: usize,
    a: f32,
    b: f32,
    /// Each lane's force at distance d is (push + pull·d^2b) / ((near + d²)(1 + a·d^2b)) times the way: the derivative of the
    /// cross-entropy. Random rows push by 2b, the tail pulls by 2ab.
    push: [f32; LANES],
    pull: [f32; LANES],
    negatives: usize,
    random: Random,
}

impl Descent {
    pub(super) fn new(
        points: Vec<[f32; 2]>,
        graph: &Graph,
        epochs: usize,
        (a, b): (f32, f32),
        settings: &UmapSettings,
    ) -> Self {
        let largest = graph.weights.iter().copied().fold(0.0, f32::max);
        let least = largest / epochs as f32;
        let (mut pairs, mut period) = (Vec::new(), Vec::new());
        for head in 0..points.len() {
            for place in graph.starts[head]..graph.starts[head + 1] {
                let weight = graph.weights[place];
                if weight >= least && weight > 0.0 {
                    pairs.push((head as u32, graph.tails[place]));
                    period.push(largest / weight);
                }
            }
        }
        let due = period.clone();
        let random = Random::new(settings.seed);
        let (mut push, mut pull) = ([2.0 * b; LANES], [0.0; LANES]);
        (push[TAIL], pull[TAIL]) = (0.0, -2.0 * a * b);
        Self { points, pairs, period, due, epochs, a, b, push, pull, negatives: settings.negatives, random }
    }

    pub(super) fn into_points(self) -> Vec<[f32; 2]> {
        self.points
    }

    /// Each pair that is due meets once; the rate falls evenly from 1 to 0.
    pub(super) fn epoch(&mut self, epoch: usize) {
        let rate = 1.0 - epoch as f32 / self.epochs as f32;
        let now = epoch as f32;
        for place in 0..self.pairs.len() {
            if self.due[place] <= now {
                self.due[place] += self.period[place];
                let (head, tail) = self.pairs[place];
                self.meet(head as usize, tail as usize, rate);
            }
        }
    }

    /// Head and tail attract each other, and a few random rows push the head away. All forces are taken from where the head
    /// was before, so that their powers are computed together: the last lane is the tail's.
    fn meet(&mut self, head: usize, tail: usize, rate: f32) {
        let p = self.points[head];
        let n = self.points.len() as u64;
        let (mut dx, mut dy) = ([0f32; LANES], [0f32; LANES]);
        let mut bits = 0;
        for lane in 0..self.negatives {
            // One 64-bit number serves two lanes.
            bits = if lane % 2 == 0 { self.random.next() } else { bits >> 32 };
            let other = (((bits & 0xFFFF_FFFF) * n) >> 32) as usize;
            // A row does not push itself: its distance is 0, and so is the push.
            dx[lane] = p[0] - self.points[other][0];
            dy[lane] = p[1] - self.points[other][1];
        }
        let q = self.points[tail];
        (dx[TAIL], dy[TAIL]) = (p[0] - q[0], p[1] - q[1]);
        let (mut step_x, mut step_y) = ([0f32; LANES], [0f32; LANES]);
        // One loop without branches, so that the compiler computes several lanes at once.
        for lane in 0..LANES {
            let squared = dx[lane] * dx[lane] + dy[lane] * dy[lane];
            let power = power(squared, self.b);
            let strength = self.push[lane] + self.pull[lane] * power;
            let slope = strength / ((NEAR[lane] + squared) * (self.a * power + 1.0));
            step_x[lane] = clip(slope * dx[lane]);
            step_y[lane] = clip(slope * dy[lane]);
        }
        self.points[head] = [p[0] + sum(step_x) * rate, p[1] + sum(step_y) * rate];
        self.points[tail] = [q[0] - step_x[TAIL] * rate, q[1] - step_y[TAIL] * rate];
    }
}

/// In pairs: the additions do not wait for each other.
#[inline]
fn sum(x: [f32; LANES]) -> f32 {
    ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]))
}

#[inline]
fn clip(value: f32) -> f32 {
    value.clamp(-CLIP, CLIP)
}

/// `base`^`exponent` for `base` ≥ 0 and an exponent around 1, by polynomials of log₂ and 2^x: the same bits on every machine,
/// and no branches, so that the compiler computes several at once.
#[inline]
fn power(base: f32, exponent: f32) -> f32 {
    exp2(exponent * log2(base))
}

/// log₂ of a positive number; −127 or so for 0.
#[inline]
fn log2(x: f32) -> f32 {
    let bits = x.to_bits();
    let whole = (bits >> 23) as i32 - 127;
    let m = f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000) - 1.0;
    // log₂(1 + m) / m on [0, 1]: least squares over Chebyshev nodes.
    let (m2, c) = (m * m, LOG2);
    let p = (c[0] + c[1] * m) + m2 * (c[2] + c[3] * m) + m2 * m2 * (c[4] + c[5] * m + m2 * c[6]);
    whole as f32 + m * p
}

/// 2^x for x from −126 to 126.
#[inline]
fn exp2(x: f32) -> f32 {
    // At this size, neighbouring floats differ by 1: adding it rounds, and leaves the whole part in the lowest bits. (A cast
    // would have to look for NaN, which keeps the compiler from computing several at once.)
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-126.0, 126.0);
    let rounded = x + ROUND;
    let f = x - (rounded - ROUND);
    let whole = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    // 2^f on [−0.5, 0.5]: least squares over Chebyshev nodes.
    let (f2, c) = (f * f, EXP2);
    let p = (c[0] + c[1] * f) + f2 * (c[2] + c[3] * f) + f2 * f2 * (c[4] + c[5] * f);
    f32::from_bits(((whole + 127) << 23) as u32) * p
}

const LOG2: [f32; 7] = [1.4426932, -0.72116274, 0.47770593, -0.33924776, 0.21558854, -0.09606625, 0.020490346];
#[allow(clippy::approx_constant)] // one of the fitted numbers is near ln 2
const EXP2: [f32; 6] = [1.0000001, 0.6931472, 0.24022107, 0.05550327, 0.009676037, 0.0013400433];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn powers_are_near_the_exact_ones() {
        for base in [1e-12_f32, 1e-6, 0.01, 0.3, 0.999, 1.0, 1.5, 2.0, 17.3, 400.0, 1e6] {
            for exponent in [0.5_f32, 0.895, 1.0, 1.4] {
                let (found, exact) = (f64::from(power(base, exponent)), f64::from(base).powf(f64::from(exponent)));
                assert!((found / exact - 1.0).abs() < 1e-4, "{base}^{exponent}: {found}, exactly {exact}");
            }
        }
        assert!(power(0.0, 0.895) < 1e-30);
    }
}
