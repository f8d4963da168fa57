//! The curves of a run, from its events.

use serde_json::Value;

use super::page::{Curve, StageMark};

/// Clusters whose sizes are drawn one by one.
const MOST_SIZES: usize = 32;

/// The curves, where stages begin on them, and the share of rows that changed cluster in each round.
pub(super) fn curves(events: &[Value]) -> (Vec<Curve>, Vec<StageMark>, Vec<f32>) {
    let (mut curves, marks) = losses(events);
    let rounds: Vec<&Value> = events.iter().filter(|event| event["event"] == "round").collect();
    let x: Vec<f64> = rounds.iter().filter_map(|round| round["round"].as_f64()).collect();
    let of = |key: &str| -> Vec<f64> { rounds.iter().map(|round| round[key].as_f64().unwrap_or(f64::NAN)).collect() };
    let mut add = |chart: &str, name: &str, unit: &str, y: Vec<f64>| {
        if y.len() == x.len() && y.iter().any(|value| value.is_finite()) {
            let [chart, name, unit] = [chart, name, unit].map(str::to_owned);
            curves.push(Curve { chart, name, unit, x_name: "round".to_owned(), log: false, x: x.clone(), y });
        }
    };
    let changed = of("changed");
    add("Rows that changed cluster", "changed", "share", changed.clone());
    let sizes: Vec<Vec<f64>> = rounds.iter().map(|round| numbers(&round["sizes"])).collect();
    let k = sizes.first().map_or(0, Vec::len);
    if k <= MOST_SIZES {
        for cluster in 0..k {
            let y = sizes.iter().map(|sizes| sizes.get(cluster).copied().unwrap_or(f64::NAN)).collect();
            add("Cluster sizes", &format!("cluster {cluster}"), "rows", y);
        }
    } else {
        for (name, pick) in [("largest", f64::max as fn(f64, f64) -> f64), ("smallest", f64::min)] {
            add("Cluster sizes", name, "rows", sizes.iter().map(|s| s.iter().copied().fold(f64::NAN, pick)).collect());
        }
    }
    add("Smallest distance between centroids", "distance", "", of("centroid_distance"));
    add("Mean confidence", "confidence", "", of("confidence"));
    add("Accuracy", "ACC", "", of("acc"));
    let changed = changed.into_iter().filter(|value| value.is_finite()).map(|value| value as f32).collect();
    (curves, marks, changed)
}

/// The loss of every epoch, over all stages.
fn losses(events: &[Value]) -> (Vec<Curve>, Vec<StageMark>) {
    const CHART: &str = "Loss";
    let (mut curves, mut marks): (Vec<Curve>, Vec<StageMark>) = (Vec::new(), Vec::new());
    let (mut stage_before, mut network) = (None, 1);
    for (epoch, event) in
        events.iter().filter(|event| event["event"] == "epoch" || event["event"] == "network").enumerate()
    {
        if let Some(number) = event["network"].as_u64() {
            (network, stage_before) = (number, None);
            continue;
        }
        let (Some(stage), Some(loss)) = (event["stage"].as_str(), event["loss"].as_f64()) else { continue };
        let x = epoch as f64;
        let of_autoencoder = stage.starts_with("pretrain") || stage == "finetune";
        if stage_before != Some(stage) {
            let numbered = network > 1 && of_autoencoder;
            let name = if numbered { format!("{stage} {network}") } else { stage.to_owned() };
            marks.push(StageMark { name, x, chart: Some(CHART.to_owned()) });
            stage_before = Some(stage);
        }
        // What self-training lessens is no reconstruction.
        let name = if of_autoencoder { "reconstruction" } else { "self-training" };
        let place = curves.iter().position(|curve| curve.name == name).unwrap_or_else(|| {
            curves.push(Curve {
                chart: CHART.to_owned(),
                name: name.to_owned(),
                x_name: "epoch".to_owned(),
                log: true,
                ..Curve::default()
            });
            curves.len() - 1
        });
        curves[place].x.push(x);
        curves[place].y.push(loss);
    }
    (curves, marks)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn epochs_are_counted_over_all_stages_and_networks() {
        let epoch = |stage: &str, loss: f64| json!({ "event": "epoch", "stage": stage, "epoch": 1, "loss": loss });
        let events = [
            epoch("pretrain", 4.0),
            epoch("pretrain", 3.0),
            epoch("finetune", 2.0),
            json!({ "event": "network", "network": 2, "networks": 2 }),
            epoch("pretrain", 5.0),
            json!({ "event": "round", "round": 1, "changed": 0.25, "sizes": [3, 1], "centroid_distance": 2.0 }),
            epoch("cluster", 0.5),
            json!({ "event": "round", "round": 2, "changed": 0.0, "sizes": [2, 2], "centroid_distance": null }),
        ];
        let (curves, marks, changed) = curves(&events);
        assert_eq!(changed, [0.25, 0.0]);
        let of = |name: &str| curves.iter().find(|curve| curve.name == name).unwrap();
        assert_eq!(of("reconstruction").y, [4.0, 3.0, 2.0, 5.0]);
        assert_eq!(of("self-training").y, [0.5]);
        assert_eq!(of("cluster 1").y, [1.0, 2.0]);
        assert!(of("distance").y[1].is_nan() && curves.iter().all(|curve| curve.name != "ACC"));
        let names: Vec<&str> = marks.iter().map(|mark| mark.name.as_str()).collect();
        assert_eq!(names, ["pretrain", "finetune", "pretrain 2", "cluster"]);
        assert!(curves.iter().all(|curve| curve.x.windows(2).all(|pair| pair[0] < pair[1])));
    }
}
