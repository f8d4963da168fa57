//! Progress to Python, Ctrl-C from it.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use dec::control::{Event, Observer};
use pyo3::prelude::*;

/// Time between two looks at Python's signals: each takes the interpreter's lock.
const SIGNALS: Duration = Duration::from_millis(200);
/// Time between two reports of progress within a stage.
const PROGRESS: Duration = Duration::from_millis(100);

/// Calls `progress(stage, done, total)`, and stops where Python has a signal or `progress` raises.
pub struct Watcher {
    progress: Option<Py<PyAny>>,
    stage: String,
    total: u64,
    told: Instant,
    looked: Cell<Instant>,
    stopped_by: RefCell<Option<PyErr>>,
}

impl Watcher {
    pub fn new(progress: Option<Py<PyAny>>) -> Self {
        let now = Instant::now();
        let (looked, stopped_by) = (Cell::new(now), RefCell::new(None));
        Self { progress, stage: String::new(), total: 0, told: now, looked, stopped_by }
    }

    /// Why it asked to stop.
    pub fn stopped_by(self) -> Option<PyErr> {
        self.stopped_by.into_inner()
    }

    fn tell(&mut self, done: u64) {
        self.told = Instant::now();
        let Some(progress) = &self.progress else { return };
        if let Err(raised) = Python::attach(|py| progress.call1(py, (&self.stage, done, self.total))) {
            *self.stopped_by.borrow_mut() = Some(raised);
        }
    }
}

impl Observer for Watcher {
    fn on_event(&mut self, event: &Event) {
        match event {
            Event::StageStarted { stage, steps } => {
                (self.stage, self.total) = (stage.to_string(), *steps);
                self.tell(0);
            }
            Event::Step { done } if self.told.elapsed() >= PROGRESS => self.tell(*done),
            Event::StageFinished { time, .. } => {
                self.total = time.steps;
                self.tell(time.steps);
            }
            _ => {}
        }
    }

    fn should_stop(&self) -> bool {
        if self.stopped_by.borrow().is_some() {
            return true;
        }
        if self.looked.get().elapsed() < SIGNALS {
            return false;
        }
        self.looked.set(Instant::now());
        let signal = Python::attach(|py| py.check_signals());
        *self.stopped_by.borrow_mut() = signal.err();
        self.stopped_by.borrow().is_some()
    }
}
