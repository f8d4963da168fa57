//! The velocities of SGD with momentum, in one flat tensor.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Float32 values of a cache line: each parameter's velocities begin at a multiple of it.
const LINE: i64 = 16;

/// v of several parameters: one flat tensor, and views of it in the parameters' shapes.
#[derive(Debug)]
pub(super) struct Velocity {
    flat: Tensor,
    views: Vec<Tensor>,
}

impl Velocity {
    /// Zeros for `parameters`.
    pub(super) fn new(parameters: &[&Tensor]) -> Result<Self> {
        let room = |parameter: &&Tensor| (parameter.numel() as i64 + LINE - 1) / LINE * LINE;
        let device = parameters.first().map_or(Device::Cpu, |parameter| parameter.device());
        let flat = Tensor::f_zeros([parameters.iter().map(room).sum::<i64>()], (Kind::Float, device))?;
        let mut place = 0;
        let view = |parameter: &&Tensor| {
            let piece = flat.f_narrow(0, place, parameter.numel() as i64)?;
            place += room(parameter);
            Ok(piece.f_view(parameter.size().as_slice())?)
        };
        let views = parameters.iter().map(view).collect::<Result<_>>()?;
        Ok(Self { flat, views })
    }

    /// Everything, flat.
    pub(super) fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// That of the parameter at `index`, in its shape.
    pub(super) fn of(&self, index: usize) -> &Tensor {
        &self.views[index]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn views_share_the_flat_memory_and_nothing_else() {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let (weight, bias) = (zeros(&[3, 7]), zeros(&[3]));
        let velocity = Velocity::new(&[&weight, &bias]).unwrap();
        assert_eq!((velocity.of(0).size(), velocity.of(1).size()), (vec![3, 7], vec![3]));
        for (index, value) in [1.0, 2.0].into_iter().enumerate() {
            let _ = velocity.of(index).shallow_clone().fill_(value);
        }
        let flat: Vec<f32> = Vec::try_from(velocity.flat()).unwrap();
        let expected = [vec![1.0; 21], vec![0.0; 11], vec![2.0; 3], vec![0.0; 13]].concat();
        assert_eq!(flat, expected);
    }
}
