//! Who keeps a run's state.

use crate::control::Control;
use crate::error::Result;
use crate::state::{Run, State};

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

/// A part of a run that other runs may have in common with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Pretraining and fine-tuning of the network with this number, from 0.
    Autoencoder(usize),
    /// All stages before self-training.
    Start,
}

/// Keeps a run's state where it outlives the process.
pub trait Keeper {
    /// Called whenever the state is whole. Failing to save is no reason to stop: it is reported here and tried again.
    fn keep(&mut self, run: &Run, moment: Moment);

    /// Called where a part begins, or where a resumed run is within one: what another run has made of it, if one has. Of
    /// [`Part::Start`] that is the whole state behind the part; of [`Part::Autoencoder`] the network with its stage times and
    /// rollbacks. `events` is what the run has told with it.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] while it waits for a run that is at work on the part.
    fn take(&mut self, _run: &Run, _part: Part, _control: &Control) -> Result<Option<State>> {
        Ok(None)
    }

    /// Called behind a part: others may have it.
    fn share(&mut self, _run: &Run, _part: Part) {}
}

/// Keeps nothing.
impl Keeper for () {
    fn keep(&mut self, _: &Run, _: Moment) {}
}
