//! Recipes, and their overrides.
#![no_main]

use dec::config::{members, random_members, Axis, Recipe};
use dec_fuzz::{accepted, bounded, file};
use libfuzzer_sys::fuzz_target;

/// Members of a sweep that are made; dec makes 10,000.
const MOST_MEMBERS: usize = 20;

fuzz_target!(|data: &[u8]| {
    let path = file("recipe.toml", data);
    let source = path.to_str().expect("a path");
    bounded(0, || {
        if let Some(recipe) = accepted(&path, Recipe::load(source)) {
            let text = recipe.config.to_toml().expect("TOML");
            std::fs::write(&path, &text).expect("a file");
            let again = Recipe::load(source).expect("what was written is read");
            assert!(format!("{:?}", again.config) == format!("{:?}", recipe.config), "{text}");
            let size = |axis: &Axis| match axis {
                Axis::Values(values) => values.len(),
                Axis::Range(_) => 1,
            };
            let count = recipe.config.sweep.values().fold(1, |count: usize, axis| count.saturating_mul(size(axis)));
            if count <= MOST_MEMBERS {
                let _ = members(&recipe.config);
                let _ = random_members(&recipe.config, 3);
            }
        }
        let lines: Vec<String> = String::from_utf8_lossy(data).lines().take(3).map(str::to_owned).collect();
        let mut recipe = Recipe::load("default").expect("the default");
        let _ = recipe.set(&lines);
    });
});
