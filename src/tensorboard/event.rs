//! Events as protocol buffers: TensorFlow's `event.proto` and `summary.proto`.

use crate::protobuf::Message;

/// Bins of a histogram, as TensorBoard makes of what it gets by itself.
const BINS: usize = 30;

/// The event that a file begins with.
pub(super) fn version(wall_time: f64) -> Message {
    Message::new().double(1, wall_time).string(3, "brain.Event:2")
}

/// An event with one value.
pub(super) fn summary(step: u64, wall_time: f64, value: &Message) -> Message {
    let step = i64::try_from(step).unwrap_or(i64::MAX);
    Message::new().double(1, wall_time).int(2, step).message(5, &Message::new().message(1, value))
}

pub(super) fn scalar(tag: &str, value: f32) -> Message {
    Message::new().string(1, tag).float(2, value)
}

pub(super) fn image(tag: &str, [width, height]: [u32; 2], channels: u8, png: &[u8]) -> Message {
    let image = Message::new().int(1, height.into()).int(2, width.into()).int(3, channels.into()).bytes(4, png);
    Message::new().string(1, tag).message(4, &image)
}

/// `None` without a finite value.
pub(super) fn histogram(tag: &str, values: &[f32]) -> Option<Message> {
    let finite = || values.iter().map(|&value| f64::from(value)).filter(|value| value.is_finite());
    let (min, max) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), v| (min.min(v), max.max(v)));
    if min > max {
        return None;
    }
    // All values the same: one bin.
    let bins = if min < max { BINS } else { 1 };
    let width = (max - min) / bins as f64;
    let limits: Vec<f64> = (1..=bins).map(|bin| if bin == bins { max } else { min + width * bin as f64 }).collect();
    let mut counts = vec![0.0; bins];
    let (mut number, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in finite() {
        let bin = if width > 0.0 { ((value - min) / width) as usize } else { 0 };
        counts[bin.min(bins - 1)] += 1.0;
        number += 1.0;
        sum += value;
        squares += value * value;
    }
    let histogram = [min, max, number, sum, squares].into_iter().zip(1..);
    let histogram = histogram.fold(Message::new(), |message, (value, field)| message.double(field, value));
    let histogram = histogram.numbers(6, &limits, f64::to_le_bytes).numbers(7, &counts, f64::to_le_bytes);
    Some(Message::new().string(1, tag).message(5, &histogram))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protobuf::decode::all;

    fn counts(values: &[f32]) -> Vec<f64> {
        let message = histogram("t", values).unwrap().into_bytes();
        let histogram = all(&message, 5).remove(0);
        let (limits, counts) = (all(&histogram, 6).remove(0), all(&histogram, 7).remove(0));
        assert_eq!(limits.len(), counts.len());
        counts.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    #[test]
    fn every_finite_value_is_in_a_bin() {
        let values: Vec<f32> = (0..300).map(|i| i as f32 - 150.0).collect();
        assert_eq!(counts(&values), [10.0; 30]);
        assert_eq!(counts(&[3.0; 5]), [5.0]);
        assert_eq!(counts(&[f32::NAN, 1.0, f32::INFINITY, 2.0]).iter().sum::<f64>(), 2.0);
        assert_eq!(counts(&[f32::MIN, f32::MAX]).iter().sum::<f64>(), 2.0);
        assert_eq!(counts(&[0.0, f32::from_bits(1)]).iter().sum::<f64>(), 2.0);
        assert!(histogram("t", &[]).is_none() && histogram("t", &[f32::NAN]).is_none());
    }
}
