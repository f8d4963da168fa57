#![allow(clippy::unwrap_used)]

use super::*;

/// `groups` groups of `each` rows on a line, each row joined to `width` rows of its group; the groups are not joined.
fn groups(groups: usize, each: usize, width: usize) -> (Vec<u32>, Vec<f32>) {
    let mut random = Random::new(7);
    let (mut indices, mut distances) = (Vec::new(), Vec::new());
    for row in 0..groups * each {
        let first = row / each * each;
        for step in 0..width {
            indices.push((first + (row - first + 1 + step) % each) as u32);
            distances.push(0.5 + step as f32 * 0.1 + random.unit() * 0.05);
        }
    }
    (indices, distances)
}

#[test]
fn groups_stay_apart() {
    let (indices, distances) = groups(3, 40, 10);
    let neighbours = Neighbours::new(120, 10, &indices, &distances).unwrap();
    let map = layout(&neighbours, None, &UmapSettings::default()).unwrap();
    let centre = |group: usize| {
        let points = &map[group * 40..(group + 1) * 40];
        [0, 1].map(|axis| points.iter().map(|p| p[axis]).sum::<f32>() / 40.0)
    };
    let apart = |p: [f32; 2], q: [f32; 2]| ((p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2)).sqrt();
    for group in 0..3 {
        let radius = map[group * 40..(group + 1) * 40].iter().map(|&p| apart(p, centre(group))).fold(0.0, f32::max);
        let nearest = (0..3).filter(|&g| g != group).map(|g| apart(centre(g), centre(group))).fold(f32::MAX, f32::min);
        assert!(nearest > radius, "group {group}: radius {radius}, next group at {nearest}");
    }
}

#[test]
fn same_seed_same_bits() {
    let (indices, distances) = groups(2, 50, 8);
    let neighbours = Neighbours::new(100, 8, &indices, &distances).unwrap();
    let map = |seed| {
        let points = layout(&neighbours, None, &UmapSettings { seed, ..UmapSettings::default() }).unwrap();
        points.into_iter().flatten().map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(map(3), map(3));
    assert_ne!(map(3), map(4));
}

#[test]
fn odd_input_gives_finite_points() {
    // Equal rows, rows that name themselves, distances that are not numbers.
    let indices = [0, 1, 1, 2, 2, 0];
    let distances = [0.0, 0.0, 0.0, f32::NAN, f32::INFINITY, 0.0];
    let neighbours = Neighbours::new(3, 2, &indices, &distances).unwrap();
    let start = [f32::NAN; 6];
    for start in [None, Some(&start[..]), Some(&[1.0f32; 6][..])] {
        let map = layout(&neighbours, start, &UmapSettings::default()).unwrap();
        assert!(map.iter().flatten().all(|value| value.is_finite()), "{map:?}");
    }
    let none = Neighbours::new(0, 5, &[], &[]).unwrap();
    assert_eq!(layout(&none, None, &UmapSettings::default()).unwrap(), Vec::<[f32; 2]>::new());
    let alone = Neighbours::new(1, 0, &[], &[]).unwrap();
    assert_eq!(layout(&alone, None, &UmapSettings::default()).unwrap().len(), 1);
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(matches!(Neighbours::new(2, 2, &[0; 3], &[0.0; 4]), Err(UmapError::Shape { what: "indices", .. })));
    assert!(matches!(Neighbours::new(2, 2, &[0; 4], &[0.0; 3]), Err(UmapError::Shape { what: "distances", .. })));
    let stranger = Neighbours::new(2, 1, &[1, 2], &[0.0; 2]).unwrap_err();
    assert_eq!(stranger, UmapError::Neighbour { row: 1, neighbour: 2, n: 2 });
    let neighbours = Neighbours::new(2, 1, &[1, 0], &[1.0; 2]).unwrap();
    let settings = UmapSettings::default();
    assert!(matches!(layout(&neighbours, Some(&[0.0; 3]), &settings), Err(UmapError::Shape { what: "start", .. })));
    for wrong in [
        UmapSettings { spread: 0.0, ..settings.clone() },
        UmapSettings { min_dist: 2.0, ..settings.clone() },
        UmapSettings { epochs: Some(0), ..settings.clone() },
        UmapSettings { negatives: 8, ..settings.clone() },
    ] {
        assert!(matches!(layout(&neighbours, None, &wrong), Err(UmapError::Setting { .. })), "{wrong:?}");
    }
    assert_eq!(layout_while(&neighbours, None, &settings, |epoch, _| epoch < 3), Err(UmapError::Stopped));
}
