//! Reports of real runs of the binary and of made-up ones, opened and used in a real browser.
//!
//! The browser needs Chromium (named by `CHROMIUM`, else /usr/bin/chromium), Node.js, and what `npm ci` puts into
//! tests/browser; without them that part says that it is skipped.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "report_pages/made_up.rs"]
mod made_up;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Text that tries to get out of where it is shown.
const HOSTILE: [&str; 14] = [
    "<script>document.title='owned'</script>",
    "</script><img src=x onerror=\"document.title='owned'\">",
    "\u{1b}[31mred\u{1b}[0m\u{7}",
    "abc\u{202e}gpj.exe",
    "=HYPERLINK(\"http://example.com\",\"x\")",
    "@SUM(1+1)",
    "-2+3+cmd|' /C calc'!A0",
    "\"><svg onload=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "a,b;\"c\" d",
    "\u{feff}\u{200b}zero width",
    "</style><style>body{display:none}</style>",
    "<!-- comment",
    "日本語 naïve 🐟",
];

/// Trains for a second or two and gives the run's report.
fn trained(dir: &Path, name: &str, args: &[&str]) -> String {
    let run = dir.join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_dec"));
    command.args(args).arg("--out").arg(&run).args(["--force", "--device", "cpu", "--quiet"]).current_dir(dir);
    let small =
        ["model.hidden=[64]", "pretrain.epochs=20", "kmeans.n_init=2", "start.networks=1", "start.over_clustering=[]"];
    small.iter().chain(&["cluster.handover_epochs=2", "cluster.max_rounds=4"]).for_each(|set| {
        command.args(["--set", set]);
    });
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(run.join("report.html")).unwrap()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A table whose columns, ids and labels are hostile.
fn hostile_table(path: &Path) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
    let mut text = String::from("id");
    (0..6).for_each(|column| text += &format!(",{}", quoted(HOSTILE[column * 2])));
    text += ",label\n";
    for row in 0..600 {
        let _ = write!(text, "{}", quoted(&format!("{} {row}", HOSTILE[row % HOSTILE.len()])));
        for column in 0..6 {
            let centre = if row % 4 == column { 5.0 } else { 0.0 };
            let _ = write!(text, ",{}", centre + random.gen::<f32>());
        }
        let _ = writeln!(text, ",{}", quoted(HOSTILE[row % 4]));
    }
    fs::write(path, text).unwrap();
}

/// Counts of genes in cells of four kinds, with names.
fn counts_table(path: &Path) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
    let names = ["CD3D", "CD8A", "NKG7", "GNLY", "MS4A1", "CD79A", "LYZ", "CD14"];
    let mut text = String::from("cell");
    (0..80).for_each(|gene| {
        text += &names.get(gene).map_or_else(|| format!(",RPL{gene}"), |name| format!(",{name}"));
    });
    text.push('\n');
    for cell in 0..700 {
        let _ = write!(text, "AAACCTG{cell:05}-1");
        for gene in 0..80 {
            let marker = gene < 8 && gene / 2 == cell % 4;
            let rate: f32 = if marker { 9.0 } else { 0.7 };
            // Poisson, by its product.
            let (limit, mut product, mut count) = ((-rate).exp(), random.gen::<f32>(), 0);
            while product > limit {
                product *= random.gen::<f32>();
                count += 1;
            }
            let _ = write!(text, ",{count}");
        }
        text.push('\n');
    }
    fs::write(path, text).unwrap();
}

/// Writes all pages; where they are.
fn pages() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report_pages");
    fs::create_dir_all(&dir).unwrap();
    hostile_table(&dir.join("hostile.csv"));
    counts_table(&dir.join("counts.csv"));
    let write = |name: &str, html: &str| {
        assert!(html.len() < 5_000_000, "{name}: {} bytes", html.len());
        fs::write(dir.join(format!("{name}.html")), html).unwrap();
    };
    write("digits", &trained(&dir, "digits-run", &["--set", "data.limit=1797"]));
    let hostile = ["hostile.csv", "--format", "csv", "--id-column", "id", "--label-column", "label", "--clusters", "4"];
    write("hostile", &trained(&dir, "hostile-run", &hostile));
    write("counts", &trained(&dir, "counts-run", &["counts.csv", "--id-column", "cell", "--clusters", "4"]));
    for (name, n, k, pictures) in
        [("ten-thousand", 10_000, 10, true), ("large", 100_000, 12, false), ("many", 20_000, 1_000, false)]
    {
        write(name, &dec::report::page::render(&made_up::blobs(n, k, pictures)).unwrap().html);
    }
    dir
}

#[test]
fn reports_are_used_in_a_browser() {
    let dir = pages();
    let counts = fs::read_to_string(dir.join("counts.html")).unwrap();
    assert!(["CD3D", "NKG7", "MS4A1", "LYZ"].iter().all(|gene| counts.contains(gene)), "the marker genes are told");

    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    if !Path::new(&browser).exists() || !scripts.join("node_modules/playwright-core").is_dir() {
        eprintln!("skipped in the browser: Chromium or tests/browser/node_modules (npm ci) is not there");
        return;
    }
    let mut command = Command::new("node");
    command.arg("report.mjs").arg(&dir).arg(dir.join("shots")).env("CHROMIUM", browser).current_dir(scripts);
    let output = command.output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    assert!(output.status.success());
}
