#![allow(clippy::unwrap_used)]
use super::*;
use crate::protobuf::decode::{all, fields, text, Value};

const VERSION: &str = "0.1.0";

/// Weights of layers between `widths`, and their biases.
fn values(widths: &[usize]) -> Vec<(Vec<f32>, Vec<f32>)> {
    widths.windows(2).map(|pair| (vec![0.5; pair[0] * pair[1]], vec![0.25; pair[1]])).collect()
}

fn layers(values: &[(Vec<f32>, Vec<f32>)]) -> Vec<Layer<'_>> {
    values.iter().map(|(weight, bias)| Layer { weight, bias }).collect()
}

/// Calls `test` with a model of 6 features, 2 latent values and 3 clusters.
fn with_model(test: impl FnOnce(OnnxModel)) {
    let (encoder, decoder) = (values(&[6, 5, 2]), values(&[2, 5, 6]));
    test(OnnxModel {
        encoder: &layers(&encoder),
        decoder: &layers(&decoder),
        centroids: &[0.0; 6],
        alpha: 1.0,
        groups: None,
        scaling: &OnnxScaling::Factor(0.02),
        selection: None,
        offset: None,
        columns: None,
        version: VERSION,
    });
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let refused = |model: OnnxModel, part: &str| {
        let error = to_onnx(&model).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    with_model(|good| {
        assert_eq!(check(&good), Ok(Widths { input: 6, features: 6, latent: 2, clusters: 3 }));
        let (narrow, wide, gap) = (values(&[2, 5, 7]), values(&[6, 5]), values(&[4, 2]));
        refused(OnnxModel { encoder: &[], ..good }, "no layers");
        refused(OnnxModel { decoder: &layers(&narrow), ..good }, "from 2 to 7");
        let gapped = [layers(&wide), layers(&gap)].concat();
        refused(OnnxModel { encoder: &gapped, ..good }, "takes 4 values, the layer before gives 5");
        refused(OnnxModel { encoder: &[Layer { weight: &[0.0; 5], bias: &[0.0; 2] }], ..good }, "5 weights");
        refused(OnnxModel { encoder: &[Layer { weight: &[], bias: &[] }], ..good }, "0 weights");
        refused(OnnxModel { centroids: &[0.0; 5], ..good }, "not [k, 2]");
        refused(OnnxModel { centroids: &[], ..good }, "not [k, 2]");
        let (four, two) = (Groups::new(&[0, 1, 1, 0]), Groups::new(&[0, 1, 0]));
        refused(OnnxModel { groups: Some(&four), ..good }, "groups of 4 centroids for 3");
        assert_eq!(check(&OnnxModel { groups: Some(&two), ..good }).unwrap().clusters, 2);
        for alpha in [0.0, -1.0, f64::NAN, 1e-50] {
            refused(OnnxModel { alpha, ..good }, "alpha");
        }
        refused(OnnxModel { scaling: &OnnxScaling::Factor(0.0), ..good }, "scale is 0");
        let centre = |mean, deviation, rows| OnnxScaling::Centre { mean, deviation, rows };
        refused(OnnxModel { scaling: &centre(&[0.0; 5], &[1.0; 6], RowRule::Plain), ..good }, "5 means");
        refused(OnnxModel { scaling: &centre(&[0.0; 6], &[0.0; 6], RowRule::Plain), ..good }, "deviations above 0");
        refused(OnnxModel { scaling: &centre(&[0.0; 6], &[1.0; 6], RowRule::Counts(-1.0)), ..good }, "total is -1");
        let selection = Some(OnnxSelection { of: 6, columns: &[0, 1, 2, 3, 4, 6] });
        refused(OnnxModel { selection, ..good }, "6 selected columns of 6");
        refused(OnnxModel { offset: Some(&[0.0; 5]), ..good }, "5 offsets");
        refused(OnnxModel { offset: Some(&[f64::INFINITY; 6]), ..good }, "not all numbers");
        refused(OnnxModel { columns: Some(&[String::new()]), ..good }, "1 names");
    });
}

#[test]
fn the_size_is_limited_and_known_before() {
    assert_eq!(check_size(MOST_BYTES), Ok(()));
    assert!(check_size(MOST_BYTES + 1).unwrap_err().contains("2.1 GB"));
    with_model(|model| {
        let names: Vec<String> = (0..6).map(|i| format!("\u{1}{i}")).collect();
        let model = OnnxModel { columns: Some(&names), ..model };
        let bytes = to_onnx(&model).unwrap().len() as u64;
        assert!(payload_bytes(&model) < bytes && bytes < payload_bytes(&model) + FRAME_BYTES);
    });
}

#[test]
fn the_file_says_what_it_is() {
    with_model(|model| {
        let names: Vec<String> = "abcdefghi".chars().map(String::from).collect();
        let selection = Some(OnnxSelection { of: 9, columns: &[0, 2, 4, 5, 7, 8] });
        let model = OnnxModel { selection, columns: Some(&names), ..model };
        let bytes = to_onnx(&model).unwrap();
        assert_eq!(bytes, to_onnx(&model).unwrap());
        assert_eq!(fields(&bytes)[0], (1, Value::Varint(7)));
        assert_eq!([text(&bytes, 2), text(&bytes, 3)], ["dec", VERSION]);
        let metadata: Vec<(String, String)> =
            all(&bytes, 14).iter().map(|entry| (text(entry, 1), text(entry, 2))).collect();
        let entry = |name: &str| metadata.iter().find(|(found, _)| found == name).unwrap().1.clone();
        assert_eq!(entry("columns"), r#"["a","c","e","f","h","i"]"#);
        assert_eq!(["n_features", "n_latent", "n_clusters", "input_width"].map(entry), ["6", "2", "3", "9"]);
        let graph = all(&bytes, 7).remove(0);
        let outputs: Vec<String> = all(&graph, 12).iter().map(|output| text(output, 1)).collect();
        assert_eq!(outputs, ["soft_assignment", "embedding", "reconstruction", "cluster"]);
        let weight = all(&graph, 5).into_iter().find(|tensor| text(tensor, 8) == "encoder_0_weight").unwrap();
        assert_eq!(fields(&weight)[..2], [(1, Value::Varint(5)), (1, Value::Varint(6))]);
        assert_eq!(all(&weight, 9).remove(0), [0.5f32.to_le_bytes(); 30].concat());
    });
}

#[test]
fn each_node_comes_after_what_it_takes() {
    with_model(|model| {
        let rows = RowRule::Counts(10.0);
        let scaling = OnnxScaling::Centre { mean: &[0.0; 6], deviation: &[1.0; 6], rows };
        let groups = Groups::new(&[0, 1, 0]);
        let model = OnnxModel { scaling: &scaling, offset: Some(&[1.0; 6]), groups: Some(&groups), ..model };
        let graph = all(&to_onnx(&model).unwrap(), 7).remove(0);
        let mut known: Vec<String> = all(&graph, 5).iter().map(|tensor| text(tensor, 8)).collect();
        known.push("rows".to_owned());
        for node in all(&graph, 1) {
            let inputs = all(&node, 1).into_iter().map(|name| String::from_utf8(name).unwrap());
            inputs.for_each(|input| assert!(known.contains(&input), "{input}"));
            let output = text(&node, 2);
            assert!(!known.contains(&output), "{output} twice");
            known.push(output);
        }
        all(&graph, 12).iter().for_each(|output| assert!(known.contains(&text(output, 1))));
    });
}
