//! Threads that wait go to sleep soon where somebody else wants the processors.
//!
//! GNU's OpenMP has its threads spin for milliseconds while they wait for work, 300,000 turns. On an idle machine that is the fastest way; beside
//! another program it keeps that, and its own threads, from working. Where there are more OpenMP threads than processors it is a thousand turns, which is
//! looked up each time that a thread waits. So a thread of the program's looks every so often how often its threads were made to give way
//! (involuntary context switches), and while that is often, it keeps a team of idle threads: then there are more threads than processors.
//!
//! What OpenMP's own variables say about waiting (`OMP_WAIT_POLICY`, `GOMP_SPINCOUNT`) is left to do as it says.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::mpsc::{channel, Sender};
use std::sync::Once;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::threads;

/// How often is looked, and how much of the rate is that of the last look.
const PERIOD: Duration = Duration::from_millis(100);
const NEWEST: f64 = 0.4;
/// Threads that spin and gave way so often in a second are not alone: beside one busy program on two processors it was 180 times, on an
/// idle machine 40.
const CROWDED: f64 = 100.0;
/// Threads that sleep soon, and give way whenever one of them is woken, are alone below this: it was 9,000 times and 100.
const ALONE: f64 = 400.0;
/// How long threads have to be alone before they spin again.
const CALM: Duration = Duration::from_secs(2);
/// The stack of a thread that does next to nothing.
const STACK_BYTES: usize = 128 * 1024;

extern "C" {
    fn dec_waiting_team(threads: c_int);
}

/// Has the threads of OpenMP's loops sleep soon from now on while other programs want the processors, unless the environment says how they
/// wait. For programs, once it is known how many threads there are.
pub fn adapt() {
    static STARTED: Once = Once::new();
    let said = |name| std::env::var_os(name).is_some();
    if threads::count() < 2 || said("OMP_WAIT_POLICY") || said("GOMP_SPINCOUNT") {
        return;
    }
    STARTED.call_once(|| {
        if let Err(problem) = thread::Builder::new().name("waiting".to_owned()).stack_size(STACK_BYTES).spawn(watch) {
            tracing::debug!("threads that wait spin, whoever else is there: {problem}");
        }
    });
}

/// Looks every so often, for as long as the process runs.
fn watch() {
    let mut crowd: Option<Crowd> = None;
    let (mut gave_way, mut looked, mut last_crowded) = (given_way(), Instant::now(), Instant::now());
    let mut rate = 0.0;
    loop {
        thread::sleep(PERIOD);
        let (now, at) = (given_way(), Instant::now());
        let newest = (now - gave_way) as f64 / (at - looked).as_secs_f64();
        rate = NEWEST * newest + (1.0 - NEWEST) * rate;
        (gave_way, looked) = (now, at);
        if rate > ALONE {
            last_crowded = at;
        }
        if rate > CROWDED && crowd.is_none() {
            tracing::debug!("{rate:.0} times a second a thread had to give way: threads that wait sleep soon");
            (crowd, last_crowded) = (Crowd::gather(), at);
        } else if at - last_crowded > CALM && crowd.is_some() {
            tracing::debug!("nobody else wants the processors: threads that wait spin");
            crowd = None;
        }
    }
}

/// How often this process's threads had to give way to others.
fn given_way() -> i64 {
    use nix::sys::resource::{getrusage, UsageWho};
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |used| used.involuntary_context_switches())
}

/// More threads of OpenMP's than processors, all but one of them asleep, for as long as this lives.
struct Crowd {
    /// Dropped first: that ends the thread whose team it is.
    leave: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    fn gather() -> Option<Self> {
        let (leave, left) = channel::<()>();
        let size = threads::available() + 1;
        let work = move || {
            // SAFETY: takes a plain number, and touches nothing but OpenMP's state of this thread.
            unsafe { dec_waiting_team(size as c_int) };
            let _ = left.recv(); // until the other end is gone
        };
        let thread = thread::Builder::new().name("crowd".to_owned()).stack_size(STACK_BYTES).spawn(work).ok()?;
        Some(Self { leave: Some(leave), thread: Some(thread) })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.leave = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::debug!("the idle team has ended with a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_comes_and_goes() {
        let crowd = Crowd::gather();
        assert!(crowd.is_some());
        let deadline = Instant::now() + Duration::from_secs(30);
        let names = || -> Vec<String> {
            let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
        };
        let size = || names().iter().filter(|name| name.trim() == "crowd").count();
        while size() <= threads::available() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(size() > threads::available(), "{:?}", names());
        drop(crowd);
        while size() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(size(), 0, "{:?}", names());
    }

    #[test]
    fn giving_way_is_counted() {
        let (before, deadline) = (given_way(), Instant::now() + Duration::from_secs(30));
        // More that compute than processors: some of them have to.
        thread::scope(|scope| {
            for _ in 0..=threads::available() {
                scope.spawn(|| while given_way() == before && Instant::now() < deadline {});
            }
        });
        assert!(given_way() > before);
    }
}
