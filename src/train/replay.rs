//! A training step as a CUDA graph: recorded once for each batch size, then started as a whole ([`crate::backend::cuda`]).

use tch::Device;

use crate::backend::cuda::Graph;
use crate::error::Result;

/// Ordinary steps of a batch size before it is recorded, in which libraries set themselves up.
const WARM_UP: u32 = 3;

/// The graphs of one engine; off unless asked for, and on a CUDA device.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Where to record; `None` where every step is to be done in the ordinary way.
    device: Option<Device>,
    sizes: Vec<Size>,
}

#[derive(Debug)]
struct Size {
    rows: i64,
    steps: u32,
    graph: Option<Graph>,
}

impl Replay {
    pub(super) fn new(device: Device, wanted: bool) -> Self {
        Self { device: (wanted && device.is_cuda()).then_some(device), sizes: Vec::new() }
    }

    /// Does `work`, the step of a batch of `rows` rows, by its graph if there is one. What changes from step to step has to
    /// lie in tensors that were written before.
    pub(super) fn step(&mut self, rows: i64, work: impl Fn() -> Result<()>) -> Result<()> {
        let Some(device) = self.device else { return work() };
        let place = self.sizes.iter().position(|size| size.rows == rows).unwrap_or_else(|| {
            self.sizes.push(Size { rows, steps: 0, graph: None });
            self.sizes.len() - 1
        });
        let size = &mut self.sizes[place];
        if let Some(graph) = &size.graph {
            return graph.replay();
        }
        work()?;
        size.steps += 1;
        if size.steps == WARM_UP {
            // The step itself is done: what cannot be recorded goes on as it is.
            size.graph = Graph::capture(device, work).unwrap_or_else(|error| {
                tracing::warn!("no CUDA graphs: a step cannot be recorded: {error}");
                None
            });
            if size.graph.is_none() {
                self.device = None; // a warning has said why
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::cell::Cell;

    /// How often the work is done.
    fn done_in_ten_steps(replay: &mut Replay) -> u32 {
        let done = Cell::new(0);
        for _ in 0..10 {
            replay
                .step(4, || {
                    done.set(done.get() + 1);
                    Ok(())
                })
                .unwrap();
        }
        done.get()
    }

    #[test]
    fn without_graphs_every_step_is_done_once() {
        for (device, wanted, on) in [(Device::Cpu, true, false), (Device::Cuda(0), false, false)] {
            let mut replay = Replay::new(device, wanted);
            assert_eq!(replay.device.is_some(), on);
            assert_eq!(done_in_ten_steps(&mut replay), 10);
        }
    }

    #[test]
    fn where_nothing_can_be_recorded_the_steps_go_on() {
        // A replay that is on although its device records nothing: what a missing library comes to.
        let mut replay = Replay { device: Some(Device::Cpu), sizes: Vec::new() };
        assert_eq!(done_in_ten_steps(&mut replay), 10);
        assert!(replay.device.is_none());
    }
}
