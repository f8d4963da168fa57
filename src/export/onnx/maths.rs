//! The model's mathematics in ONNX operators, in float32 throughout: many runtimes have no float64 on a GPU.

use super::graph::{Attribute, Graph};
use super::{Layer, OnnxModel, OnnxScaling, RowRule, Widths};

/// Adds what makes float32 rows \[n, d\] of the input; returns their name.
pub(super) fn take(graph: &mut Graph, model: &OnnxModel) -> &'static str {
    let mut rows = "rows";
    if let Some(selection) = model.selection {
        let columns: Vec<i64> = selection.columns.iter().map(|&column| column as i64).collect();
        let columns = graph.ints("input_selected", &[columns.len()], &columns);
        rows = graph.node("Gather", &[rows, columns], "selected_rows", &[Attribute::Int("axis", 1)]);
    }
    if let Some(offset) = model.offset {
        let offset = graph.doubles("input_offset", &[offset.len()], offset);
        // In float64: float32 would lose what tells such rows apart.
        let less = graph.node("Sub", &[rows, offset], "rows_less_offset", &[]);
        rows = graph.node("Cast", &[less], "features", &[Attribute::Int("to", 1)]);
    }
    rows
}

/// Adds the scaling of `rows` \[n, d\]; returns the name of the scaled rows.
pub(super) fn scale(graph: &mut Graph, scaling: &OnnxScaling, rows: &str) -> &'static str {
    let (mean, deviation, rule) = match *scaling {
        OnnxScaling::Factor(factor) => {
            let factor = graph.number("input_factor", factor as f32);
            return graph.node("Mul", &[rows, factor], "scaled_rows", &[]);
        }
        OnnxScaling::Centre { mean, deviation, rows } => (mean, deviation, rows),
    };
    let rows = match rule {
        RowRule::Plain => rows,
        RowRule::Unit => unit(graph, rows),
        RowRule::Counts(total) => compressed(graph, rows, total),
    };
    let mean = graph.floats("input_mean", &[mean.len()], mean);
    let deviation = graph.floats("input_deviation", &[deviation.len()], deviation);
    let centred = graph.node("Sub", &[rows, mean], "centred_rows", &[]);
    graph.node("Div", &[centred, deviation], "scaled_rows", &[])
}

/// Rows over their lengths; a row of zeros stays, with 1 for a length, in `row_lengths` \[n, 1\].
///
/// Each row is divided by its largest value first. Its squares then neither overflow nor vanish, and its length is at least 1,
/// unless all values are 0.
fn unit(graph: &mut Graph, rows: &str) -> &'static str {
    let along_row = [Attribute::Ints("axes", &[1]), Attribute::Int("keepdims", 1)];
    let (zero, one) = (graph.number("zero", 0.0), graph.number("one", 1.0));
    let magnitudes = graph.node("Abs", &[rows], "row_magnitudes", &[]);
    let largest = graph.node("ReduceMax", &[magnitudes], "row_largest", &along_row);
    let some = graph.node("Greater", &[largest, zero], "row_is_not_zero", &[]);
    let divisor = graph.node("Where", &[some, largest, one], "row_divisor", &[]);
    let divided = graph.node("Div", &[rows, divisor], "divided_rows", &[]);
    let length = graph.node("ReduceL2", &[divided], "divided_lengths", &along_row);
    let length = graph.node("Max", &[length, one], "divided_lengths_or_one", &[]);
    graph.node("Mul", &[divisor, length], "row_lengths", &[]);
    graph.node("Div", &[divided, length], "unit_rows", &[])
}

/// ln(1 + x) of counts whose rows are brought to `total`; what they are multiplied by to go back is `row_shares` \[n, 1\].
///
/// A graph cannot refuse rows: values below 0 become NaN, and with them all that comes of their rows.
fn compressed(graph: &mut Graph, rows: &str, total: f64) -> &'static str {
    let (zero, one, total) =
        (graph.number("zero", 0.0), graph.number("one", 1.0), graph.number("input_total", total as f32));
    let none = graph.number("not_a_number", f32::NAN);
    let below = graph.node("Less", &[rows, zero], "counts_below_zero", &[]);
    let counts = graph.node("Where", &[below, none, rows], "counts", &[]);
    let axis = graph.ints("axis_of_columns", &[1], &[1]);
    let sums = graph.node("ReduceSum", &[counts, axis], "row_sums", &[Attribute::Int("keepdims", 1)]);
    let sums = graph.node("Max", &[sums, one], "row_totals", &[]);
    graph.node("Div", &[sums, total], "row_shares", &[]);
    let factor = graph.node("Div", &[total, sums], "row_factors", &[]);
    let brought = graph.node("Mul", &[counts, factor], "counts_of_one_total", &[]);
    log1p(graph, brought, "log_counts")
}

/// Adds what brings `rows` \[n, d\] from the decoder back to raw units, as `output`.
pub(super) fn unscale(graph: &mut Graph, model: &OnnxModel, rows: &str, output: &str) {
    let last = if model.offset.is_some() { "unscaled_rows" } else { output };
    match *model.scaling {
        OnnxScaling::Factor(_) => {
            graph.node("Div", &[rows, "input_factor"], last, &[]);
        }
        OnnxScaling::Centre { rows: rule, .. } => {
            let wide = graph.node("Mul", &[rows, "input_deviation"], "rows_times_deviation", &[]);
            let plain = if rule == RowRule::Plain { last } else { "rows_plus_mean" };
            graph.node("Add", &[wide, "input_mean"], plain, &[]);
            match rule {
                RowRule::Plain => {}
                RowRule::Unit => {
                    graph.node("Mul", &[plain, "row_lengths"], last, &[]);
                }
                RowRule::Counts(_) => {
                    let counts = expm1(graph, plain);
                    graph.node("Mul", &[counts, "row_shares"], last, &[]);
                }
            }
        }
    }
    if model.offset.is_some() {
        let exact = graph.node("Cast", &[last], "unscaled_float64", &[Attribute::Int("to", 11)]);
        graph.node("Add", &[exact, "input_offset"], output, &[]);
    }
}

/// Adds fully connected layers with ReLU between; the last gives `output`.
pub(super) fn stack(graph: &mut Graph, name: &str, layers: &[Layer], input: &str, output: &str) {
    let mut rows = input.to_owned();
    for (index, layer) in layers.iter().enumerate() {
        let weight = format!("{name}_{index}_weight");
        let bias = format!("{name}_{index}_bias");
        graph.floats(&weight, &[layer.outputs(), layer.inputs()], layer.weight);
        graph.floats(&bias, &[layer.outputs()], layer.bias);
        let is_last = index + 1 == layers.len();
        let linear = if is_last { output.to_owned() } else { format!("{name}_{index}") };
        graph.node("Gemm", &[&rows, &weight, &bias], &linear, &[Attribute::Int("transB", 1)]);
        if !is_last {
            rows = format!("{name}_{index}_relu");
            graph.node("Relu", &[&linear], &rows, &[]);
        }
    }
}

/// Adds q of the latent rows `embedding` as `output`: softmax of -(α + 1) / 2 · ln(1 + d² / α), summed over the centroids of each
/// cluster where clusters were joined.
///
/// d² are sums of squared differences: |z|² - 2 z·μ + |μ|² would cancel.
pub(super) fn assign(graph: &mut Graph, model: &OnnxModel, widths: Widths, embedding: &str, output: &str) {
    let n_centroids = model.centroids.len() / widths.latent;
    let centroids = graph.floats("centroids", &[n_centroids, widths.latent], model.centroids);
    let alpha = graph.number("alpha", model.alpha as f32);
    let exponent = graph.number("exponent", (-(model.alpha + 1.0) / 2.0) as f32);
    let axis = graph.ints("axis_of_centroids", &[1], &[1]);
    let each = graph.node("Unsqueeze", &[embedding, axis], "embedding_for_each_centroid", &[]);
    let apart = graph.node("Sub", &[each, centroids], "differences", &[]);
    let over_last = [Attribute::Ints("axes", &[2]), Attribute::Int("keepdims", 0)];
    let squared = graph.node("ReduceSumSquare", &[apart], "squared_distances", &over_last);
    let over = graph.node("Div", &[squared, alpha], "distances_over_alpha", &[]);
    let log = log1p(graph, over, "log_kernel");
    let scores = graph.node("Mul", &[log, exponent], "scores", &[]);
    let by_row = [Attribute::Int("axis", 1)];
    match model.groups {
        None => {
            graph.node("Softmax", &[scores], output, &by_row);
        }
        Some(groups) => {
            let each = graph.node("Softmax", &[scores], "centroid_assignment", &by_row);
            let groups = graph.floats("groups", &[n_centroids, widths.clusters], &groups.values());
            graph.node("MatMul", &[each, groups], output, &[]);
        }
    }
}

/// ln(1 + x) as `output`.
///
/// ONNX has no Log1p. u = 1 + x rounds off e = x - (u - 1), which is most of a small x. ln(u + e) = ln(u) + e / u up to
/// (e / u)², which is below float32's precision, so adding e / u makes up for that: the result is as accurate as ln itself, and
/// x where u is 1. A runtime that simplifies (1 + x) - 1 to x gets e = 0 and the plain ln(1 + x): no worse than without.
fn log1p<'o>(graph: &mut Graph, x: &str, output: &'o str) -> &'o str {
    let one = graph.number("one", 1.0);
    let name = |part: &str| format!("{output}_{part}");
    let (sum, kept, lost) = (name("plus_one"), name("kept"), name("lost"));
    let (correction, log) = (name("correction"), name("rounded"));
    graph.node("Add", &[x, one], &sum, &[]);
    graph.node("Sub", &[&sum, one], &kept, &[]);
    graph.node("Sub", &[x, &kept], &lost, &[]);
    graph.node("Div", &[&lost, &sum], &correction, &[]);
    graph.node("Log", &[&sum], &log, &[]);
    graph.node("Add", &[&log, &correction], output, &[])
}

/// exp(x) - 1 as tanh(x / 2) · (exp(x) + 1), which does not cancel.
fn expm1(graph: &mut Graph, x: &str) -> &'static str {
    let (half, one) = (graph.number("half", 0.5), graph.number("one", 1.0));
    let halved = graph.node("Mul", &[x, half], "log_counts_halved", &[]);
    let tanh = graph.node("Tanh", &[halved], "log_counts_tanh", &[]);
    let exp = graph.node("Exp", &[x], "log_counts_exp", &[]);
    let sum = graph.node("Add", &[exp, one], "log_counts_exp_plus_one", &[]);
    graph.node("Mul", &[tanh, sum], "counts_back", &[])
}
