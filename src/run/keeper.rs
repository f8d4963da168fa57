//! Who keeps a run's state.

use crate::state::Run;

/// When a run's state is offered to be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After a piece of a stage.
    Piece,
    /// After a stage.
    StageEnd,
    /// Somebody asked for it.
    Wanted,
    /// The run stops here.
    Stopped,
}

/// Keeps a run's state where it outlives the process.
pub trait Keeper {
    /// Called whenever the state is whole. Failing to save is no reason to stop: it is reported here and tried again.
    fn keep(&mut self, run: &Run, moment: Moment);
}

/// Keeps nothing.
impl Keeper for () {
    fn keep(&mut self, _: &Run, _: Moment) {}
}
