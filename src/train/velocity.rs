//! The velocities of SGD with momentum, in one flat tensor.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Float32 values of a cache line: how far an aligned parameter can be from the end of the one before.
const LINE: i64 = 16;

/// v of several parameters: one flat tensor, seen in the parameters' shapes, and in the few pieces that an update works on.
#[derive(Debug)]
pub(super) struct Velocity {
    flat: Tensor,
    views: Vec<Tensor>,
    pieces: Vec<(Tensor, Tensor)>,
}

/// Parameters that follow each other in one block of memory.
struct Run<'a> {
    first: &'a Tensor,
    /// Values from the beginning of the first parameter to the end of the last.
    length: i64,
    /// Where the run begins among the velocities.
    place: i64,
}

impl Run<'_> {
    /// The first `length` values of the run's memory; an error where its block does not have so many.
    fn values(&self, length: i64) -> Result<Tensor> {
        Ok(self.first.f_detach()?.f_as_strided([length], [1], None)?)
    }

    /// The run's length with `parameter` added; `None` where that lies elsewhere.
    fn length_with(&self, parameter: &Tensor) -> Option<i64> {
        let bytes = (parameter.data_ptr() as usize).checked_sub(self.first.data_ptr() as usize)?;
        let start = i64::try_from(bytes / size_of::<f32>()).ok()?;
        let length = start + parameter.numel() as i64;
        let near = (self.length..self.length + LINE).contains(&start);
        (near && self.values(length).is_ok()).then_some(length)
    }
}

impl Velocity {
    /// Zeros for `parameters`, float32 and contiguous.
    pub(super) fn new(parameters: &[&Tensor]) -> Result<Self> {
        let mut runs: Vec<Run> = Vec::new();
        let mut places = Vec::new();
        let mut used = 0;
        for &parameter in parameters {
            let size = parameter.numel() as i64;
            match runs.last_mut().and_then(|run| Some((run.length_with(parameter)?, run))) {
                Some((length, run)) => run.length = length,
                None => runs.push(Run { first: parameter, length: size, place: (used + LINE - 1) / LINE * LINE }),
            }
            used = runs.last().map_or(0, |run| run.place + run.length);
            places.push(used - size);
        }
        let device = parameters.first().map_or(Device::Cpu, |parameter| parameter.device());
        let flat = Tensor::f_zeros([used], (Kind::Float, device))?;
        let view = |(parameter, place): (&&Tensor, i64)| -> Result<Tensor> {
            Ok(flat.f_narrow(0, place, parameter.numel() as i64)?.f_view(parameter.size().as_slice())?)
        };
        let views = parameters.iter().zip(places).map(view).collect::<Result<_>>()?;
        let piece = |run: &Run| Ok((run.values(run.length)?, flat.f_narrow(0, run.place, run.length)?));
        let pieces = runs.iter().map(piece).collect::<Result<_>>()?;
        Ok(Self { flat, views, pieces })
    }

    /// Everything, flat.
    pub(super) fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// That of the parameter at `index`, in its shape.
    pub(super) fn of(&self, index: usize) -> &Tensor {
        &self.views[index]
    }

    /// Flat pieces of the parameters' memory, with the velocities of each.
    pub(super) fn pieces(&self) -> &[(Tensor, Tensor)] {
        &self.pieces
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn neighbours_share_a_piece_and_strangers_do_not() {
        let block = Tensor::arange(64, (Kind::Float, Device::Cpu));
        let weight = block.narrow(0, 0, 6).view([2, 3]);
        let bias = block.narrow(0, 16, 2);
        let far = block.narrow(0, 48, 5);
        let stranger = Tensor::zeros([4], (Kind::Float, Device::Cpu));
        let velocity = Velocity::new(&[&weight, &bias, &far, &stranger]).unwrap();
        let lengths: Vec<_> = velocity.pieces().iter().map(|(w, v)| (w.size1().unwrap(), v.size1().unwrap())).collect();
        assert_eq!(lengths, [(18, 18), (5, 5), (4, 4)]);
        assert_eq!(velocity.pieces()[0].0, block.narrow(0, 0, 18));
        for (index, parameter) in [&weight, &bias, &far, &stranger].into_iter().enumerate() {
            assert_eq!(velocity.of(index).size(), parameter.size());
            let _ = velocity.of(index).shallow_clone().fill_(index as f64 + 1.0);
        }
        // The views and the pieces are the same memory, at the same places as the parameters.
        let first = &velocity.pieces()[0].1;
        assert_eq!((first.double_value(&[5]), first.double_value(&[6]), first.double_value(&[16])), (1.0, 0.0, 2.0));
        assert_eq!(velocity.pieces()[2].1, Tensor::full([4], 4.0, (Kind::Float, Device::Cpu)));
        assert_eq!(velocity.flat().double_value(&[18]), 0.0);
    }
}
