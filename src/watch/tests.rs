#![allow(clippy::unwrap_used)]
use super::*;

/// The log of a real run (OpenML's segment, three networks) as far as the 25th epoch of self-training.
const LOG: &str = include_str!("events.jsonl");

fn state_of(log: &str) -> WatchState {
    let mut state = WatchState::new("segment", Some(2310));
    state.feed(log.as_bytes());
    state
}

/// Without colours.
fn plain(state: &WatchState) -> String {
    screen(state, 80, 24, false)
}

#[test]
fn a_log_fills_the_screen() {
    let state = state_of(LOG);
    let text = plain(&state);
    assert_eq!(text.lines().count(), 24, "{text}");
    for part in [
        "segment",
        "network 3 of 3 · 2,310 rows · running",
        "✓ kmeans_raw",
        "✓ 1 pretrain",
        "▸ cluster",
        "loss of cluster",
        "7 clusters of 0 to 546 rows",
        "round 5 · changed 0.00 % · confidence 81.40 %",
        "start: silhouette 0.300 · autoencoder_kmeans: silhouette 0.394",
        "! clusters shrink in round 1",
        "cluster: epoch 25 · 65,",
        "rows/s",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn every_screen_keeps_to_its_size() {
    let state = state_of(LOG);
    for (width, height) in [(80, 24), (200, 60), (81, 25), (40, 10), (20, 5), (1, 1), (0, 0), (80, 8), (u16::MAX, 30)] {
        for state in [&state, &WatchState::default()] {
            let text = screen(state, width, height, false);
            assert!(text.lines().count() <= usize::from(height), "{width} × {height}\n{text}");
            let widest = text.lines().map(text::columns).max().unwrap_or(0);
            assert!(widest <= usize::from(width), "{width} × {height}\n{text}");
            let coloured = screen(state, width, height, true);
            let stripped: Vec<String> = coloured.lines().map(text::clean).collect();
            assert_eq!(stripped, text.lines().map(text::clean).collect::<Vec<_>>());
        }
    }
}

#[test]
fn any_break_in_the_stream_gives_the_same() {
    let whole = state_of(LOG);
    for size in [1, 7, 64, 1000] {
        let mut state = WatchState::new("segment", Some(2310));
        LOG.as_bytes().chunks(size).for_each(|chunk| state.feed(chunk));
        assert_eq!(state, whole);
    }
    let mut half = state_of(&LOG[..LOG.len() - 20]);
    half.feed(&LOG.as_bytes()[LOG.len() - 20..]);
    assert_eq!(half, whole);
    half.feed(b"{\"event\":\"net");
    assert_eq!(half.forget_half(), 13);
    assert_eq!(half, whole);
}

#[test]
fn what_is_unknown_is_passed_over() {
    let mut state = state_of(LOG);
    let before = state.clone();
    for line in ["", "{", "null", "[1]", "{\"event\":\"epo", "{\"event\":\"later\",\"x\":1}", "{\"event\":3}", "é\u{0}"]
    {
        assert!(!state.absorb(line), "{line}");
    }
    assert_eq!(state, before);
    // Known events with values of other types: no harm.
    for event in ["epoch", "restart", "round", "stage", "network", "result", "warning", "rolled_back", "resumed"] {
        for value in ["null", "-1", "1e300", "\"x\"", "[[]]", "{}"] {
            let fields =
                ["stage", "epoch", "loss", "seconds", "sizes", "network", "networks", "result", "text", "round"];
            let fields: String = fields.iter().map(|name| format!(",\"{name}\":{value}")).collect();
            state.absorb(&format!("{{\"event\":\"{event}\"{fields}}}"));
            plain(&state);
        }
    }
}

#[test]
fn names_cannot_reach_the_terminal() {
    let mut state = WatchState::new("\u{1b}]0;owned\u{7}title", None);
    state.absorb(r#"{"event":"epoch","stage":"\u001b[2Jpre\ntrain","epoch":1,"loss":1.0,"seconds":1.0}"#);
    state.absorb(r#"{"event":"warning","stage":"x","text":"a\u001b[31mb\u009b1mc\u202ed"}"#);
    state.set_status("\u{1b}[5mdone");
    let text = plain(&state);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(text.contains("title") && text.contains("pre train") && text.contains("! abcd") && text.contains("done"));
}

#[test]
fn time_left_follows_plan_or_the_network_before() {
    let mut state = WatchState::new("", Some(1000));
    let epoch = |epoch: u64| {
        format!(
            r#"{{"event":"epoch","stage":"pretrain","epoch":{epoch},"loss":0.5,"learning_rate":0.001,"seconds":{epoch}}}"#
        )
    };
    (1..=10).for_each(|number| assert!(state.absorb(&epoch(number))));
    assert_eq!(state.left_of(&state.stages[0]), None);
    state.expect("pretrain", 40);
    assert_eq!(state.left_of(&state.stages[0]), Some(30.0));
    assert!(plain(&state).contains("pretrain: epoch 10 of 40 · 30.0 s left · 1,000 rows/s · loss 0.5000"));
    let mut state = WatchState { planned: Vec::new(), ..state };
    state.absorb(r#"{"event":"stage","stage":"pretrain","steps":10,"seconds":10}"#);
    state.absorb(r#"{"event":"network","network":2,"networks":3}"#);
    (1..=4).for_each(|number| assert!(state.absorb(&epoch(number))));
    assert_eq!(state.left_of(&state.stages[1]), Some(6.0));
    assert!(plain(&state).contains("✓ 1 pretrain"));
}

#[test]
fn epochs_that_come_again_replace_the_first_try() {
    let mut state = WatchState::new("", None);
    for (epoch, loss) in [(1, "3.0"), (2, "2.0"), (3, "null"), (2, "1.5"), (3, "1.0")] {
        state.absorb(&format!(r#"{{"event":"epoch","stage":"pretrain","epoch":{epoch},"loss":{loss},"seconds":1}}"#));
    }
    assert_eq!(state.stages[0].curve, [3.0, 1.5, 1.0]);
}
