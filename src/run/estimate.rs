//! The memory that a run will take, from its recipe and the shape of its rows, before anything is made.
//!
//! A run is at its largest in one of a few moments: while the rows are brought into order, in k-means, in pretraining, while
//! the start's graph or its eigenvectors are found, or in self-training. What lies in memory then is listed part by part: n
//! rows of d features, m latent values, k clusters, P parameters. Measured peaks lie between the estimate and two thirds of it
//! (see the tests); a run is refused only for what it cannot do without.

use crate::backend::memory::human;
use crate::config::{
    lengths, Config, Count, KMeansEngine, ObjectiveKind, OptimiserKind, PretrainMethod, Scale, StartMethod,
};
use crate::error::{Error, Result};
use crate::stage::kmeans::SEEN_VALUES;

/// Bytes of a float32 value, and of a 64-bit number.
const FLOAT: u64 = 4;
const LONG: u64 = 8;
/// What the program and libtorch take without any rows.
const PROGRAM: u64 = 170 << 20;
/// What k-means keeps of restarts that run together, at most, unless one alone needs more ([`crate::kmeans`]).
const KMEANS_STATE: u64 = 512 << 20;
/// Float32 values of a block of rows on its way through the network ([`crate::model::stack`]); there are two blocks.
const PASS_VALUES: u64 = 1 << 22;
/// Rows up to which several networks vote on a spectral start by default, and how many do.
const FEW_ROWS: usize = 5_000;
const NETWORKS_OF_FEW: u64 = 3;
/// Clusters of the finest clustering that votes on a spectral start, for each of the k.
const FINEST: u64 = 5;
/// Matrices up to this size are decomposed as dense ones ([`crate::start`]).
const DENSE: u64 = 400;

/// A part of what a run keeps in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// Its bytes, most likely.
    pub bytes: u64,
    /// Its bytes at the least: without copies that come and go.
    pub least: u64,
    /// Settings that make it smaller.
    pub remedy: &'static str,
}

/// A moment of a run, and all that lies in memory then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// What the run does.
    pub name: &'static str,
    /// What it keeps meanwhile.
    pub parts: Vec<Part>,
}

/// The memory that a run will take; see [`estimate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The rows as they were read, which are in memory until training begins.
    read: u64,
    moments: Vec<Moment>,
}

/// What a run of `config` on the CPU will keep in memory, for `n_rows` rows of `n_features` values that were read as
/// `element_bytes` bytes each (1 for uint8, 4 for what became float32; 0 for rows that are read a batch at a time).
///
/// `auto` is taken for what it comes to; where that depends on the rows' values, for the smaller of the two.
///
/// ```
/// use dec::{config::{Config, Widths}, run::estimate};
/// let mut config = Config::default();
/// let digits = estimate(&config, 70_000, 784, 1);
/// assert!(digits.check(Some(2_000_000_000)).is_ok());
/// config.model.hidden = Widths::Given(vec![1_000_000]);
/// let refusal = estimate(&config, 70_000, 784, 1).check(Some(2_000_000_000)).unwrap_err();
/// assert_eq!(refusal.exit_code(), 6);
/// assert!(refusal.to_string().contains("model.hidden"));
/// ```
pub fn estimate(config: &Config, n_rows: usize, n_features: usize, element_bytes: usize) -> Estimate {
    let sizes = Sizes::new(config, n_rows, n_features, element_bytes as u64);
    Estimate {
        read: product(&[n_rows as u64, n_features as u64, element_bytes as u64]),
        moments: vec![
            sizes.ordering(),
            sizes.kmeans(),
            sizes.pretraining(),
            sizes.graph(),
            sizes.eigenvectors(),
            sizes.self_training(),
        ],
    }
}

impl Estimate {
    /// The most bytes that the process will have resident at any one time.
    pub fn peak(&self) -> u64 {
        let moments = self.moments.iter().enumerate().map(|(place, moment)| {
            let read = if place == 0 { self.read } else { 0 };
            sum(moment.parts.iter().map(|part| part.bytes)).saturating_add(read)
        });
        moments.max().unwrap_or(0).saturating_add(PROGRAM)
    }

    /// What lies in memory at each moment, besides the program.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// Refuses a run that cannot be done with `available` bytes, as [`crate::backend::available_bytes`] has them once the rows
    /// are read. Where nothing is known, nothing is refused.
    ///
    /// # Errors
    /// [`Error::Memory`] with the largest parts, and what makes them smaller.
    pub fn check(&self, available: Option<u64>) -> Result<()> {
        let Some(available) = available else { return Ok(()) };
        let refused = self.moments.iter().enumerate().find_map(|(place, moment)| {
            // From the second moment on, what was read has been given back.
            let there = if place == 0 { available } else { available.saturating_add(self.read) };
            let needed = sum(moment.parts.iter().map(|part| part.least));
            (needed > there).then_some((moment, needed, there))
        });
        let Some((moment, needed, there)) = refused else { return Ok(()) };
        let mut parts: Vec<&Part> = moment.parts.iter().collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.least));
        parts.retain(|part| part.least.saturating_mul(10) >= needed);
        let largest = parts.iter().map(|part| format!("{} for {}", human(part.least), part.name)).collect::<Vec<_>>();
        let mut remedies: Vec<&str> = Vec::new();
        for remedy in parts.iter().flat_map(|part| part.remedy.split(", ")) {
            if !remedies.contains(&remedy) {
                remedies.push(remedy);
            }
        }
        Err(Error::Memory(format!(
            "{} would take {} of memory, and {} are available: {}; what helps: {}, or more memory",
            moment.name,
            human(needed),
            human(there),
            largest.join(", "),
            remedies.join(", ")
        )))
    }
}

/// The numbers that everything follows from.
struct Sizes<'a> {
    config: &'a Config,
    /// Rows that are clustered.
    n: u64,
    d: u64,
    m: u64,
    k: u64,
    /// Bytes a value as read, and as training keeps it.
    read: u64,
    stored: u64,
    /// Widths from the rows to the latent.
    widths: Vec<u64>,
}

impl<'a> Sizes<'a> {
    fn new(config: &'a Config, n_rows: usize, n_features: usize, read: u64) -> Self {
        let (d, m) = (n_features as u64, config.model.n_latent as u64);
        let n = config.data.rows_of(n_rows);
        let widths = lengths::widths(&config.model, n_features, false, i64::try_from(n).unwrap_or(i64::MAX));
        let stored = match config.data.scale {
            _ if read == 0 => 0,
            Scale::Centre | Scale::Standardise | Scale::Counts | Scale::Unit => FLOAT,
            Scale::Auto | Scale::Factor(_) => read,
        };
        Self {
            config,
            n: n as u64,
            d,
            m,
            k: config.n_clusters as u64,
            read,
            stored,
            widths: widths.into_iter().map(i64::unsigned_abs).collect(),
        }
    }

    /// The rows are shuffled, scaled, and become a tensor; the network is there already.
    fn ordering(&self) -> Moment {
        let values = product(&[self.n, self.d]);
        let copies = product(&[values, self.stored]);
        let rows = Part {
            name: "the rows, shuffled and scaled",
            bytes: copies.saturating_add(product(&[self.n, LONG])),
            least: product(&[values, self.stored]),
            remedy: "data.limit",
        };
        Moment { name: "bringing the rows into order", parts: vec![rows, self.weights(1)] }
    }

    /// k-means on the rows, and on the latent rows.
    fn kmeans(&self) -> Moment {
        let state = |width: u64| {
            let each = product(&[24, self.n]).saturating_add(product(&[40, self.k, width]));
            let all = product(&[each, self.config.kmeans.n_init as u64]);
            (all.min(KMEANS_STATE.max(each)), each)
        };
        let copy = match self.config.kmeans.engine {
            KMeansEngine::Linfa => product(&[self.n, self.d, FLOAT]),
            KMeansEngine::Tensor => 0,
        };
        let (bytes, least) = state(self.d.max(self.m));
        // Rows that are read a batch at a time are resident as far as the search sees them.
        let read =
            if self.stored == 0 { product(&[self.n, self.d]).min(SEEN_VALUES.unsigned_abs()) * FLOAT } else { 0 };
        let copy = copy.saturating_add(read);
        let search = Part {
            name: "the search for centroids",
            bytes: bytes.saturating_add(copy).saturating_add(product(&[self.n, 3 * LONG])),
            least: least.saturating_add(copy),
            remedy: "data.limit, n_clusters",
        };
        Moment { name: "k-means", parts: vec![self.rows(), self.weights(1), search] }
    }

    fn pretraining(&self) -> Moment {
        let pretrain = &self.config.pretrain;
        let batch = self.n.min(pretrain.batch_size as u64);
        let mut parts = vec![self.rows(), self.weights(self.networks())];
        match pretrain.method {
            PretrainMethod::EndToEnd => {
                parts.push(self.optimiser(self.parameters(), pretrain.optimiser));
                parts.push(self.batch(batch, &self.mirrored(), "pretrain.batch_size, model.hidden"));
            }
            PretrainMethod::Layerwise => {
                let widest_pair = self.widths.windows(2).max_by_key(|pair| product(pair)).unwrap_or(&[1, 1]);
                parts.push(self.optimiser(product(&[2, product(widest_pair)]), pretrain.optimiser));
                let pair = [widest_pair[0], widest_pair[1], widest_pair[0]];
                parts.push(self.batch(batch, &pair, "pretrain.batch_size, model.hidden"));
                // A layer's input and its code, but for the rows themselves and the latent.
                let hidden = &self.widths[1..self.widths.len() - 1];
                let two = hidden.windows(2).map(sum_of).max().or(hidden.first().copied()).unwrap_or(0);
                let bytes = product(&[self.n, two, FLOAT]);
                let remedy = "pretrain.method=end_to_end, data.limit, model.hidden";
                parts.push(Part { name: "the codes of a layer", bytes, least: bytes, remedy });
            }
        }
        Moment { name: "pretraining", parts }
    }

    /// The graph of nearest neighbours; that of the rows themselves may be added to that of the latent rows.
    fn graph(&self) -> Moment {
        let mut parts = vec![self.rows(), self.weights(self.networks()), self.latent(2)];
        if self.config.start.method == StartMethod::Spectral && self.k > 1 {
            let neighbours = self.neighbours();
            // Numbers and distances of the neighbours, as found, sorted and as a list; then lists of edges, and one list of all.
            let making = product(&[self.seen(), 24 + 82 * neighbours]);
            parts.push(Part {
                name: "the graph of neighbours",
                bytes: making.saturating_add(self.graphs()),
                least: product(&[self.seen(), 28 * neighbours]),
                remedy: "start.method=kmeans, start.n_neighbours, start.max_rows",
            });
        }
        Moment { name: "the graph of the start", parts }
    }

    fn eigenvectors(&self) -> Moment {
        let mut parts = vec![self.rows(), self.weights(self.networks()), self.latent(2)];
        let remedy = "start.method=kmeans, n_clusters, start.max_rows";
        let seen = self.seen();
        match self.config.start.method {
            StartMethod::Spectral if self.k > 1 => {
                let wanted = self.vectors();
                // Blocks of vectors: more of them while they are made orthogonal and rotated.
                let (values, few, most) = if seen <= DENSE || wanted.saturating_mul(2) >= seen {
                    (product(&[seen, seen]), 3, 4)
                } else {
                    let width = (wanted + (wanted / 4).max(8)).next_multiple_of(16).min(seen);
                    (product(&[seen, width]), 4, 7)
                };
                parts.push(Part {
                    name: "eigenvectors",
                    bytes: product(&[values, most, FLOAT]),
                    least: product(&[values, few, FLOAT]),
                    remedy: "start.method=kmeans, start.n_vectors, n_clusters, start.max_rows",
                });
                let (graphs, votes) = (self.graphs(), product(&[seen, 20, LONG, self.networks()]));
                let (bytes, least) = (graphs.saturating_add(votes), product(&[seen, 8 * self.neighbours()]));
                parts.push(Part { name: "the graph and the clusterings", bytes, least, remedy });
            }
            StartMethod::Gmm => {
                let bytes = product(&[self.n, self.m + 3 * self.k, 8]);
                parts.push(Part { name: "the mixture", bytes, least: 0, remedy });
            }
            StartMethod::Spectral | StartMethod::KMeans => {}
        }
        Moment { name: "the first assignment", parts }
    }

    fn self_training(&self) -> Moment {
        let cluster = &self.config.cluster;
        let (widths, trained) = match cluster.objective {
            ObjectiveKind::Idec => (self.mirrored(), self.parameters()),
            ObjectiveKind::Dec | ObjectiveKind::Aspc => (self.widths.clone(), self.parameters() / 2),
        };
        let trained = trained.saturating_add(product(&[self.k, self.m]));
        let table = product(&[self.n, self.k, FLOAT]);
        let tables = Part {
            name: "p and the soft assignments",
            bytes: product(&[table, 3]).saturating_add(product(&[self.n, 4 * LONG])),
            least: product(&[table, 2]),
            remedy: "n_clusters, data.limit",
        };
        let batch = self.n.min(cluster.batch_size as u64);
        let parts = vec![
            self.rows(),
            self.weights(2), // and as they were at the start
            self.optimiser(trained, cluster.optimiser),
            self.batch(batch, &widths, "cluster.batch_size, model.hidden"),
            self.latent(2),
            tables,
        ];
        Moment { name: "self-training", parts }
    }

    fn rows(&self) -> Part {
        let bytes = product(&[self.n, self.d, self.stored]);
        Part { name: "the rows", bytes, least: bytes, remedy: "data.limit" }
    }

    /// P: weights and biases of encoder and decoder.
    fn parameters(&self) -> u64 {
        let layers = self.mirrored();
        let of_layer = |pair: &[u64]| product(pair).saturating_add(pair[1]);
        sum(layers.windows(2).map(of_layer))
    }

    /// The widths from the rows to the latent and back.
    fn mirrored(&self) -> Vec<u64> {
        self.widths.iter().chain(self.widths.iter().rev().skip(1)).copied().collect()
    }

    fn weights(&self, networks: u64) -> Part {
        let bytes = product(&[self.parameters(), networks, FLOAT]);
        Part { name: "the weights", bytes, least: bytes, remedy: "model.hidden, model.n_latent" }
    }

    /// Gradient or velocity and Adam's two moments; and weights and moments as they were a while ago, for training that has to
    /// go back.
    fn optimiser(&self, trained: u64, kind: OptimiserKind) -> Part {
        let values = match kind {
            OptimiserKind::Sgd => 3,
            OptimiserKind::Adam | OptimiserKind::AdamW => 6,
        };
        let bytes = product(&[trained, values, FLOAT]);
        Part { name: "the optimiser", bytes, least: bytes, remedy: "model.hidden, model.n_latent" }
    }

    /// What a batch of `rows` comes to in layers of these widths, the rows first, with the gradients.
    fn batch(&self, rows: u64, widths: &[u64], remedy: &'static str) -> Part {
        let widest = widths.iter().copied().max().unwrap_or(1);
        let least = product(&[rows, sum_of(widths).saturating_add(widest.saturating_mul(2)), FLOAT]);
        // Lists of what is not zero, and the blocks of whole-data passes.
        let lists = product(&[rows, widest, FLOAT]).saturating_add(product(&[
            2,
            PASS_VALUES.max(widest).min(product(&[self.n, widest])),
            FLOAT,
        ]));
        Part { name: "a batch's activations", bytes: least.saturating_add(lists), least, remedy }
    }

    /// The latent rows, `copies` times at most.
    fn latent(&self, copies: u64) -> Part {
        let least = product(&[self.n, self.m, FLOAT]);
        let bytes = product(&[least, copies]);
        Part { name: "the latent rows", bytes, least, remedy: "model.n_latent, data.limit" }
    }

    /// What is kept of the graphs of neighbours: number and weight of the edges, both ways, as found and normalised. Of rows of
    /// bytes, which are images mostly, there is one graph.
    fn graphs(&self) -> u64 {
        let graphs = if self.read == 1 { 1 } else { 3 }; // the third is the sum of two
        product(&[self.seen(), (graphs + 1) * 13 * self.neighbours() + 16])
    }

    /// Rows that a spectral start sees.
    fn seen(&self) -> u64 {
        self.n.min(self.config.start.max_rows as u64)
    }

    fn neighbours(&self) -> u64 {
        self.config.start.n_neighbours.clamp(1, self.seen().max(2) - 1)
    }

    /// Eigenvectors that are asked for.
    fn vectors(&self) -> u64 {
        let finest = self.k.saturating_mul(FINEST).min(self.seen() / 10).max(self.k.saturating_mul(2));
        self.config.start.n_vectors.given().unwrap_or(finest).min(self.seen())
    }

    /// Networks that vote on the start.
    fn networks(&self) -> u64 {
        let start = &self.config.start;
        match start.networks {
            Count::Given(networks) => networks,
            Count::Auto if start.method == StartMethod::Spectral && self.n <= FEW_ROWS as u64 && self.k > 1 => {
                NETWORKS_OF_FEW
            }
            Count::Auto => 1,
        }
    }
}

fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, &factor| product.saturating_mul(factor))
}

fn sum(terms: impl Iterator<Item = u64>) -> u64 {
    terms.fold(0, u64::saturating_add)
}

fn sum_of(terms: &[u64]) -> u64 {
    sum(terms.iter().copied())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Widths;

    const GB: u64 = 1_000_000_000;

    /// Peaks of whole runs, summary.json's `peak_memory_bytes`.
    #[test]
    fn measured_peaks_are_near_the_estimate() {
        let default = Config::default();
        for (config, n, d, bytes, measured) in [(&default, 62_500, 64, 4, 0.39), (&default, 250_000, 64, 4, 0.592)] {
            let ratio = estimate(config, n, d, bytes).peak() as f64 / (measured * GB as f64);
            assert!((0.85..1.5).contains(&ratio), "{n} x {d}: {ratio}");
        }
    }

    fn refusal(config: &Config, n: usize, d: usize, available: u64) -> String {
        let error = estimate(config, n, d, 4).check(Some(available)).unwrap_err();
        assert_eq!(error.exit_code(), 6);
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    }

    #[test]
    fn what_fits_goes_on_and_nothing_known_refuses_nothing() {
        let mut config = Config::default();
        assert!(estimate(&config, 600, 16, 4).check(Some(GB / 5)).is_ok());
        assert!(estimate(&config, 250_000, 64, 4).check(Some(GB)).is_ok());
        config.model.hidden = Widths::Given(vec![usize::MAX, usize::MAX]);
        assert!(estimate(&config, usize::MAX, usize::MAX, 4).check(None).is_ok());
        assert_eq!(estimate(&config, usize::MAX, usize::MAX, 4).peak(), u64::MAX, "nothing overflows");
    }

    #[test]
    fn a_refusal_names_what_is_large_and_what_helps() {
        let has = |text: &str, parts: &[&str]| {
            parts.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in {text:?}"));
        };
        let plain = Config::default();
        let mut wide = plain.clone();
        wide.model.hidden = Widths::Given(vec![1_000_000]);
        let text = refusal(&wide, 10_000, 784, 2 * GB);
        has(&text, &["2.0 GB are available", "6.4 GB for the weights", "model.hidden", "model.n_latent"]);
        assert!(!text.contains("data.limit"), "fewer rows do not help: {text}");
        let mut latent = plain.clone();
        latent.model.n_latent = 1 << 20;
        has(&refusal(&latent, 10_000, 784, 10 * GB), &["the weights", "model.n_latent"]);
        latent.model.hidden = Widths::Given(vec![10]);
        has(&refusal(&latent, 10_000, 784, 10 * GB), &["42 GB for the latent rows", "model.n_latent", "data.limit"]);
        let mut large_batch = plain.clone();
        large_batch.pretrain.batch_size = 1 << 20;
        let text = refusal(&large_batch, 1 << 20, 8, 10 * GB);
        has(&text, &["pretraining would take", "for a batch's activations", "pretrain.batch_size"]);
        let mut all_seen = plain.clone();
        all_seen.start.max_rows = 10_000_000;
        has(&refusal(&all_seen, 10_000_000, 10, 5 * GB), &["eigenvectors", "start.method=kmeans", "start.max_rows"]);
        has(&refusal(&plain, 1_000_000, 5_000, 15 * GB), &["20 GB for the rows, shuffled and scaled", "data.limit"]);
        let mut layers = plain.clone();
        layers.pretrain.method = PretrainMethod::Layerwise;
        layers.start.method = StartMethod::KMeans;
        has(&refusal(&layers, 2_000_000, 10, 10 * GB), &["the codes of a layer", "pretrain.method=end_to_end"]);
        let mut clusters = plain;
        clusters.n_clusters = 50_000;
        clusters.start.method = StartMethod::KMeans;
        has(&refusal(&clusters, 100_000, 10, 10 * GB), &["40 GB for p and the soft assignments", "n_clusters"]);
    }

    #[test]
    fn rows_that_are_left_out_do_not_count() {
        let mut config = Config::default();
        let all = estimate(&config, 1_000_000, 1_000, 1);
        config.data.limit = Some(1_000);
        let few = estimate(&config, 1_000_000, 1_000, 1);
        assert!(all.check(Some(GB)).is_err() && few.check(Some(GB)).is_ok());
        assert!(few.peak() > GB, "what was read is in memory all the same");
    }

    #[test]
    fn centred_rows_are_float32() {
        let mut config = Config::default();
        let rows = |config: &Config| estimate(config, 1_000, 100, 1).moments()[2].parts[0].bytes;
        assert_eq!(rows(&config), 100_000);
        config.data.scale = Scale::Centre;
        assert_eq!(rows(&config), 400_000);
    }
}
