//! The tree of the clusters as SVG.

use serde::Serialize;

use super::charts::coordinate;
use super::input::Merge;
use super::text;

/// Leaves that are drawn at most.
const LEAVES: usize = 60;
const WIDTH: f64 = 540.0;
/// Room for the labels at most.
const LABELS: f64 = 230.0;
const LINE: f64 = 18.0;

/// The tree that is ready to be drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Tree {
    height: f64,
    width: f64,
    /// The joins' lines.
    path: String,
    leaves: Vec<Leaf>,
    /// Distances below the tree: place and label.
    ticks: Vec<(String, String)>,
    left_out: String,
    description: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Leaf {
    x: String,
    y: String,
    label: String,
    /// Colour of a leaf that is one cluster.
    colour: Option<u8>,
}

/// A subtree: where its line starts, and the clusters in it.
struct Node {
    y: f64,
    height: f64,
    first: usize,
    count: usize,
}

/// Draws the merges of `names.len()` clusters; none where they do not make a tree.
pub(super) fn tree(merges: &[Merge], names: &[String], colours: &[(u8, u8)]) -> Option<Tree> {
    let k = names.len();
    let fits = |(place, merge): (usize, &Merge)| {
        let limit = (k + place) as u32;
        merge.a < limit && merge.b < limit && merge.a != merge.b && merge.height.is_finite() && merge.height >= 0.0
    };
    let mut parents = vec![0u8; 2 * k];
    merges.iter().flat_map(|m| [m.a, m.b]).for_each(|x| parents.get_mut(x as usize).into_iter().for_each(|p| *p += 1));
    if k < 2 || merges.len() != k - 1 || !merges.iter().enumerate().all(fits) || parents.iter().any(|&count| count > 1)
    {
        return None;
    }
    // Joins before this one are shown as one leaf.
    let hidden = k.saturating_sub(LEAVES);
    let leaves = leaves_of(merges, k, hidden);
    let highest = merges.iter().map(|merge| f64::from(merge.height)).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let label = |first: usize, count: usize| match count {
        1 => names[first].clone(),
        _ => format!("{} clusters ({}, …)", text::count(count as u64), names[first]),
    };
    let longest = leaves.iter().map(|&(_, first, count)| label(first, count).chars().count()).max().unwrap_or(0);
    let right = WIDTH - (longest as f64 * 6.6 + 24.0).min(LABELS);
    let across = |height: f64| 16.0 + (1.0 - height / highest) * (right - 16.0);
    let mut nodes: Vec<Option<Node>> = (0..2 * k - 1).map(|_| None).collect();
    let mut drawn = Vec::new();
    for (place, &(node, first, count)) in leaves.iter().enumerate() {
        let y = 12.0 + place as f64 * LINE;
        nodes[node] = Some(Node { y, height: 0.0, first, count });
        drawn.push(Leaf {
            x: coordinate(right),
            y: coordinate(y),
            label: label(first, count),
            colour: (count == 1).then(|| colours.get(first).map(|mark| mark.0)).flatten(),
        });
    }
    let path = lines(merges, k, hidden, &mut nodes, across);
    let bottom = 12.0 + leaves.len() as f64 * LINE;
    let ticks =
        [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| (coordinate(across(share * highest)), text::short(share * highest)));
    Some(Tree {
        height: bottom + 22.0,
        width: WIDTH,
        path,
        leaves: drawn,
        ticks: ticks.to_vec(),
        left_out: match hidden {
            0 => String::new(),
            _ => format!("The upper part of the tree: {LEAVES} groups of {} clusters.", text::count(k as u64)),
        },
        description: describe(merges, names),
    })
}

/// The lines of the joins that are not hidden.
fn lines(merges: &[Merge], k: usize, hidden: usize, nodes: &mut [Option<Node>], across: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    for (place, merge) in merges.iter().enumerate().skip(hidden) {
        let (Some(a), Some(b)) = (nodes[merge.a as usize].take(), nodes[merge.b as usize].take()) else { continue };
        let x = across(f64::from(merge.height));
        let from = |node: &Node| (coordinate(across(node.height)), coordinate(node.y));
        let ((ax, ay), (bx, by), x_text) = (from(&a), from(&b), coordinate(x));
        path.push_str(&format!("M{ax} {ay}H{x_text}V{by}H{bx}"));
        let first = a.first.min(b.first);
        nodes[k + place] =
            Some(Node { y: (a.y + b.y) / 2.0, height: f64::from(merge.height), first, count: a.count + b.count });
    }
    path
}

/// Nodes below the cut, from top to bottom: node, lowest cluster, clusters.
fn leaves_of(merges: &[Merge], k: usize, hidden: usize) -> Vec<(usize, usize, usize)> {
    let mut lowest: Vec<(usize, usize)> = (0..k).map(|cluster| (cluster, 1)).collect();
    for merge in merges {
        let ((a, n), (b, m)) = (lowest[merge.a as usize], lowest[merge.b as usize]);
        lowest.push((a.min(b), n + m));
    }
    let mut open = vec![2 * k - 2];
    let mut leaves = Vec::new();
    while let Some(node) = open.pop() {
        if node < k + hidden {
            leaves.push((node, lowest[node].0, lowest[node].1));
        } else {
            let Merge { a, b, .. } = merges[node - k];
            open.extend([b as usize, a as usize]);
        }
    }
    leaves
}

fn describe(merges: &[Merge], names: &[String]) -> String {
    let k = names.len();
    let pairs = merges.iter().filter(|merge| (merge.a as usize) < k && (merge.b as usize) < k).take(3);
    let nearest: Vec<String> =
        pairs.map(|merge| format!("{} and {}", names[merge.a as usize], names[merge.b as usize])).collect();
    format!("Tree that joins near clusters first. Nearest pairs: {}.", nearest.join("; "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chain(k: u32) -> Vec<Merge> {
        let merge =
            |i: u32| Merge { a: if i == 0 { 0 } else { k + i - 1 }, b: i + 1, height: 1.0 + i as f32, size: i + 2 };
        (0..k - 1).map(merge).collect()
    }

    fn names(k: usize) -> Vec<String> {
        (0..k).map(|cluster| format!("Cluster {cluster}")).collect()
    }

    #[test]
    fn every_cluster_is_a_leaf() {
        let tree = tree(&chain(5), &names(5), &[(0, 0); 5]).unwrap();
        assert_eq!(tree.leaves.len(), 5);
        assert_eq!(tree.path.matches('M').count(), 4);
        assert!(tree.description.contains("Cluster 0 and Cluster 1"));
    }

    #[test]
    fn a_large_tree_is_cut() {
        let tree = tree(&chain(1000), &names(1000), &[(0, 0); 1000]).unwrap();
        assert_eq!((tree.leaves.len(), tree.path.matches('M').count()), (LEAVES, LEAVES - 1));
        assert!(tree.leaves[0].label.starts_with("941 clusters"));
    }

    #[test]
    fn what_is_no_tree_is_not_drawn() {
        let mut cycle = chain(4);
        cycle[1].a = 6;
        assert!(tree(&cycle, &names(4), &[]).is_none());
        let mut twice = chain(4);
        twice[2].b = 1;
        assert!(tree(&twice, &names(4), &[]).is_none());
        assert!(tree(&chain(4), &names(5), &[]).is_none());
        assert!(tree(&[], &names(1), &[]).is_none());
    }
}
