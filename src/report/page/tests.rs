#![allow(clippy::unwrap_used)]

use base64::prelude::{Engine, BASE64_STANDARD};

use super::*;

fn points(n: usize, k: usize) -> Points {
    Points {
        cluster: (0..n).map(|i| (i % k) as u32).collect(),
        confidence: vec![0.8; n],
        second: (0..n).map(|i| ((i + 1) % k) as u32).collect(),
        layouts: vec![Layout {
            name: "UMAP".into(),
            xy: (0..n).map(|i| [(i * i % 997) as f32, (i * 7 % 991) as f32]).collect(),
        }],
        ..Points::default()
    }
}

fn report(n: usize, k: usize) -> Report {
    let mut report = Report { points: Some(points(n, k)), ..Report::default() };
    report.clusters =
        (0..k).map(|_| Cluster { size: (n / k) as u64, typical: vec![0, 1], ..Cluster::default() }).collect();
    report.run.n_rows = n as u64;
    report
}

/// Noise, which cannot be compressed.
fn noise(bytes: usize) -> Vec<u8> {
    let mut random = crate::umap::Random::new(1);
    (0..bytes).map(|_| random.next() as u8).collect()
}

#[test]
fn same_report_same_page() {
    let report = report(500, 7);
    assert_eq!(render(&report).unwrap(), render(&report).unwrap());
}

#[test]
fn the_script_is_the_one_that_the_policy_allows() {
    let page = render(&report(10, 2)).unwrap().html;
    let script = page.rsplit("<script>").next().unwrap().split("</script>").next().unwrap();
    let hash = BASE64_STANDARD.encode(Sha256::digest(script.as_bytes()));
    assert!(page.contains(&format!("script-src 'sha256-{hash}'")));
    assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    for source in [HEAD, TEMPLATE, MACROS, STYLE, SCRIPT] {
        let left = source.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !left.contains("http:")
                && !left.contains("https:")
                && !left.contains("@import")
                && !left.contains("innerHTML")
        );
    }
}

#[test]
fn text_is_shown_as_text_everywhere() {
    const EVIL: &str = "</script></style><script>evil()</script>\u{202e}\u{1b}[1m&";
    let evil = || EVIL.to_owned();
    let mut report = report(4, 2);
    let run = &mut report.run;
    (run.data, run.recipe, run.recipe_toml, run.device) = (evil(), evil(), evil(), evil());
    (run.ended, run.fingerprint, run.warnings) = (Some(evil()), Some(evil()), vec![evil()]);
    run.versions = vec![(evil(), evil())];
    run.stages = vec![Stage { name: evil(), seconds: f64::NAN, steps: 1 }];
    run.status = Status::Collapsed { message: evil() };
    (report.facts.guard, report.facts.next) = (vec![evil()], vec![evil()]);
    report.scores = Scores {
        columns: vec![evil()],
        rows: vec![ScoreRow { method: evil(), values: vec![Some(1.0)], plain: false, result: true }],
    };
    report.clusters[0].name = Some(evil());
    report.clusters[0].columns =
        vec![Distinguishing { name: evil(), effect: f32::NAN, share: 0.5, share_rest: f32::NAN }];
    report.contingency = Some(Contingency { classes: vec![evil()], counts: vec![1, 2], matched: vec![Some(0), None] });
    report.dendrogram = vec![Merge { a: 0, b: 1, height: 1.0, size: 2 }];
    report.curves = vec![Curve {
        chart: evil(),
        name: evil(),
        unit: evil(),
        x_name: evil(),
        log: true,
        x: vec![1.0, 2.0],
        y: vec![1.0, 2.0],
    }];
    report.stage_marks = vec![StageMark { name: evil(), x: 1.0, chart: None }];
    report.health = vec![Finding { label: evil(), text: evil(), attention: true }];
    report.runs = Some(Runs {
        names: vec![evil(), evil()],
        columns: vec![evil()],
        values: vec![None, None],
        ari: vec![f64::NAN; 4],
        clusters: vec![evil()],
        found: vec![Some((evil(), 0.5))],
    });
    let points = report.points.as_mut().unwrap();
    (points.ids, points.class, points.class_names) = (vec![evil(); 4], vec![0; 4], vec![evil()]);
    points.layouts[0].name = evil();
    points.columns = vec![Column { name: evil(), values: vec![1.0; 4] }];
    let page = render(&report).unwrap().html;
    assert!(!page.contains("evil()</script>") && !page.contains("<script>evil"));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'));
    assert_eq!(page.matches("<script").count(), 3);
    assert_eq!(page.matches("</style>").count(), 1);
}

#[test]
fn pictures_give_way_before_points() {
    let mut report = report(4_000, 4);
    let pixels = noise(4_000 * 28 * 28);
    report.points.as_mut().unwrap().thumbnails =
        Some(Thumbnails { height: 28, width: 28, channels: 1, places: vec![], pixels });
    let full = render(&report).unwrap();
    assert!(full.html.len() <= LIMIT && full.left_out.is_empty(), "{} bytes, {:?}", full.html.len(), full.left_out);
    let small = render_within(&report, 1_500_000).unwrap();
    assert!(small.html.len() <= 1_500_000 && small.html.len() > 1_000_000, "{} bytes", small.html.len());
    assert_eq!(small.left_out.len(), 1);
    assert!(small.left_out[0].ends_with("of 4,000 pictures of rows") && small.html.contains(&small.left_out[0]));
}

#[test]
fn points_give_way_at_last() {
    let mut report = report(150_000, 4);
    report.points.as_mut().unwrap().ids = (0..150_000).map(|i| format!("row {i}")).collect();
    let page = render_within(&report, 400_000).unwrap();
    assert!(page.html.len() <= 400_000, "{} bytes", page.html.len());
    assert!(page.left_out.iter().any(|note| note.ends_with("of 150,000 points of the map")), "{:?}", page.left_out);
    assert!(matches!(render_within(&report, 1_000), Err(PageError::TooLarge { .. })));
}

#[test]
fn more_than_the_most_points_are_thinned_evenly() {
    let page = render(&report(250_000, 2)).unwrap();
    assert_eq!(page.left_out, ["50,000 of 250,000 points of the map"]);
}

#[test]
fn a_thousand_clusters_have_fifty_cards_and_a_table() {
    let mut report = report(5_000, 1_000);
    report.clusters.iter_mut().enumerate().for_each(|(number, cluster)| cluster.size = number as u64);
    let page = render(&report).unwrap().html;
    assert_eq!(page.matches("<article").count(), 50);
    assert!(page.contains("id=\"cluster-999\"") && !page.contains("id=\"cluster-949\""));
    assert!(page.contains("The 50 largest clusters; the other 950 are in the table below."));
}

#[test]
fn a_report_of_nothing_is_a_page() {
    let page = render(&Report::default()).unwrap();
    assert!(page.html.contains("0 clusters in 0 rows") && page.html.len() < 100_000);
    let mut report = report(1, 1);
    report.points.as_mut().unwrap().layouts[0].xy = vec![[f32::NAN, f32::INFINITY]];
    render(&report).unwrap();
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let refused = |change: fn(&mut Report)| {
        let mut report = report(6, 2);
        change(&mut report);
        render(&report).unwrap_err().to_string()
    };
    fn at(report: &mut Report) -> Points {
        report.points.take().unwrap_or_default()
    }
    assert!(refused(|r| r.clusters.truncate(1)).contains("points.cluster"));
    assert_eq!(
        refused(|r| r.points = Some(Points { ids: vec![String::new()], ..at(r) })),
        "report: points.ids: 1 values, where there should be 6"
    );
    assert!(refused(|r| r.points = Some(Points { rows: vec![3, 2, 4, 5, 6, 7], ..at(r) })).contains("must rise"));
    assert!(refused(|r| r.points = Some(Points { class: vec![1; 6], ..at(r) })).contains("points.class"));
    assert!(refused(|r| r.contingency = Some(Contingency { classes: vec!["a".into()], ..Contingency::default() }))
        .contains("counts"));
    assert!(refused(|r| r.clusters[0].nearest = vec![(2, 1.0)]).contains("nearest"));
    let thumbnails =
        |places: Vec<u32>, bytes| Some(Thumbnails { height: 2, width: 2, channels: 1, places, pixels: vec![0; bytes] });
    let mut report = report(6, 2);
    for (places, bytes) in [(vec![], 23), (vec![0, 6], 8), (vec![1, 1], 8)] {
        report.points.as_mut().unwrap().thumbnails = thumbnails(places, bytes);
        assert!(render(&report).is_err());
    }
}
