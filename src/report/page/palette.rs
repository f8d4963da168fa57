//! Which cluster gets which colour and shape.
//!
//! Twenty colours, in an order in which the first m are about as far apart as m colours can be: each maximises the smallest
//! distance (OKLab) to those before it, seen with usual colour vision and with simulated protanopia, deuteranopia and
//! tritanopia (Machado, Oliveira & Fernandes 2009), among colours that stand out at 2 : 1 or more from both the light and the
//! dark page. Beyond twenty clusters, shapes tell apart what shares a colour.

use super::input::Cluster;

/// The colours.
pub(super) const COLOURS: [&str; 20] = [
    "#2b81b3", "#b8c136", "#961c0c", "#0fc9fa", "#cf5a2c", "#11489a", "#1fb899", "#b23b62", "#8a88f5", "#495bc1",
    "#fd93d0", "#e87b60", "#8a226a", "#bf518f", "#8dca8b", "#e17dcd", "#a53f8b", "#d3686f", "#398a22", "#836eda",
];
/// Shapes: disc, square, diamond, triangle, ring.
pub(super) const SHAPES: usize = 5;

/// The colour on the dark page: mixed with white until it stands out at 2.5 : 1.
pub(super) fn on_dark(colour: &str) -> String {
    const LEAST: f64 = 0.096;
    let byte = |at: usize| colour.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let mut channels = [byte(1), byte(3), byte(5)].map(|value| f64::from(value) / 255.0);
    let linear = |value: f64| if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) };
    let luminance = |c: [f64; 3]| 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
    while luminance(channels) < LEAST {
        channels = channels.map(|value| value + 0.02 * (1.0 - value));
    }
    let [r, g, b] = channels.map(|value| (value * 255.0).round() as u8);
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Colour and shape of each cluster. Up to twenty clusters have their own colours; beyond, clusters that are near each other
/// get different ones.
pub(super) fn assign(clusters: &[Cluster]) -> Vec<(u8, u8)> {
    let k = clusters.len();
    if k <= COLOURS.len() {
        return (0..k).map(|cluster| (cluster as u8, 0)).collect();
    }
    let mut used = [0usize; COLOURS.len()];
    let mut marks: Vec<Option<(u8, u8)>> = vec![None; k];
    for cluster in 0..k {
        let near = clusters[cluster].nearest.iter().take(8);
        let taken: Vec<u8> = near.filter_map(|&(other, _)| *marks.get(other as usize)?).map(|mark| mark.0).collect();
        let cost =
            |colour: usize| (taken.iter().filter(|&&near| near as usize == colour).count(), used[colour], colour);
        let colour = (0..COLOURS.len()).min_by_key(|&colour| cost(colour)).unwrap_or(0);
        marks[cluster] = Some((colour as u8, (used[colour] % SHAPES) as u8));
        used[colour] += 1;
    }
    marks.into_iter().map(|mark| mark.unwrap_or((0, 0))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dark_colours_are_lifted_on_the_dark_page() {
        assert_eq!(on_dark("#0fc9fa"), "#0fc9fa");
        assert_ne!(on_dark("#11489a"), "#11489a");
    }

    #[test]
    fn near_clusters_differ() {
        let k = 1000;
        let around = |cluster: usize| [cluster + k - 1, cluster + 1].map(|other| ((other % k) as u32, 1.0)).to_vec();
        let clusters: Vec<Cluster> =
            (0..k).map(|cluster| Cluster { nearest: around(cluster), ..Cluster::default() }).collect();
        let marks = assign(&clusters);
        assert!(marks.windows(2).all(|pair| pair[0].0 != pair[1].0));
        let shared = |colour| marks.iter().filter(|mark| mark.0 == colour).count();
        assert!((0..20).all(|colour| (49..=51).contains(&shared(colour))));
        assert_eq!(assign(&clusters[..3]), [(0, 0), (1, 0), (2, 0)]);
    }
}
