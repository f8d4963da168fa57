//! From distances to memberships.

use super::Neighbours;

/// Steps of the bisection for σ.
const STEPS: usize = 64;
/// How near the sum of a row's memberships comes to its target.
const TOLERANCE: f64 = 1e-5;
/// Smallest σ, as a fraction of the mean distance: keeps rows whose neighbours are all equally far from infinite slopes.
const SMALLEST: f64 = 1e-3;

/// Joined rows, both ways, in rows (CSR): the neighbours of row i are `tails[starts[i]..starts[i + 1]]`.
pub(super) struct Graph {
    pub(super) starts: Vec<usize>,
    pub(super) tails: Vec<u32>,
    pub(super) weights: Vec<f32>,
}

/// w + wᵀ − w·wᵀ of the rows' memberships.
pub(super) fn memberships(neighbours: &Neighbours<'_>) -> Graph {
    let n = neighbours.n;
    let lists = directed(neighbours);
    // The lists, transposed: for each row, who names it, in the order of their numbers.
    let mut starts = vec![0usize; n + 1];
    for &(tail, _) in lists.iter().flatten() {
        starts[tail as usize + 1] += 1;
    }
    for row in 0..n {
        starts[row + 1] += starts[row];
    }
    let mut incoming = vec![(0u32, 0f32); starts[n]];
    let mut filled = starts.clone();
    for (row, list) in lists.iter().enumerate() {
        for &(tail, weight) in list {
            incoming[filled[tail as usize]] = (row as u32, weight);
            filled[tail as usize] += 1;
        }
    }
    let mut graph = Graph { starts: vec![0], tails: Vec::new(), weights: Vec::new() };
    for (row, list) in lists.iter().enumerate() {
        union(list, &incoming[starts[row]..starts[row + 1]], &mut graph);
        graph.starts.push(graph.tails.len());
    }
    graph
}

/// Merges two lists that are sorted by row.
fn union(outgoing: &[(u32, f32)], incoming: &[(u32, f32)], graph: &mut Graph) {
    let (mut i, mut j) = (0, 0);
    while i < outgoing.len() || j < incoming.len() {
        let out = outgoing.get(i).copied().unwrap_or((u32::MAX, 0.0));
        let back = incoming.get(j).copied().unwrap_or((u32::MAX, 0.0));
        let tail = out.0.min(back.0);
        let forth = if out.0 == tail { out.1 } else { 0.0 };
        let back_weight = if back.0 == tail { back.1 } else { 0.0 };
        i += usize::from(out.0 == tail);
        j += usize::from(back.0 == tail);
        graph.tails.push(tail);
        graph.weights.push(forth + back_weight - forth * back_weight);
    }
}

/// Each row's neighbours with their memberships, sorted by neighbour, each once.
fn directed(neighbours: &Neighbours<'_>) -> Vec<Vec<(u32, f32)>> {
    let finite = neighbours.distances.iter().filter(|distance| distance.is_finite());
    let (sum, count) = finite.fold((0.0, 0usize), |(sum, count), &d| (sum + f64::from(d.max(0.0)), count + 1));
    let mean = sum / count.max(1) as f64;
    (0..neighbours.n).map(|row| row_memberships(neighbours, row, mean)).collect()
}

fn row_memberships(neighbours: &Neighbours<'_>, row: usize, mean: f64) -> Vec<(u32, f32)> {
    let here = row * neighbours.width..(row + 1) * neighbours.width;
    let mut list: Vec<(u32, f64)> = neighbours.indices[here.clone()]
        .iter()
        .zip(&neighbours.distances[here])
        .filter(|(&tail, distance)| tail as usize != row && distance.is_finite())
        .map(|(&tail, &distance)| (tail, f64::from(distance).max(0.0)))
        .collect();
    list.sort_by(|x, y| x.0.cmp(&y.0).then(x.1.total_cmp(&y.1)));
    list.dedup_by_key(|entry| entry.0);
    let rho = list.iter().map(|entry| entry.1).filter(|&d| d > 0.0).fold(f64::INFINITY, f64::min);
    let rho = if rho.is_finite() { rho } else { 0.0 };
    let own_mean = list.iter().map(|entry| entry.1).sum::<f64>() / (list.len() + 1) as f64;
    let floor = SMALLEST * if rho > 0.0 { own_mean } else { mean };
    let sigma = sigma(&list, rho).max(floor);
    let weight = |d: f64| if d <= rho || sigma == 0.0 { 1.0 } else { (-(d - rho) / sigma).exp() };
    list.iter().map(|&(tail, d)| (tail, weight(d) as f32)).collect()
}

/// σ by bisection: Σ exp(−max(0, d − ρ) / σ) = log₂(neighbours + 1).
fn sigma(list: &[(u32, f64)], rho: f64) -> f64 {
    let target = ((list.len() + 1) as f64).log2();
    let (mut low, mut high, mut middle) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..STEPS {
        let sum: f64 = list.iter().map(|&(_, d)| if d <= rho { 1.0 } else { (-(d - rho) / middle).exp() }).sum();
        if (sum - target).abs() < TOLERANCE {
            break;
        }
        if sum > target {
            high = middle;
            middle = 0.5 * (low + high);
        } else {
            low = middle;
            middle = if high.is_finite() { 0.5 * (low + high) } else { middle * 2.0 };
        }
    }
    middle
}
