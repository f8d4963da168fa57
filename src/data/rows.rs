//! Rows as tensors, and where ndarray meets tch.
//!
//! Rows are resident on the device, or streamed: read a batch at a time from where they lie. Either way they come in the type
//! they were read in (uint8 images stay uint8) and become scaled float32 a batch at a time; those that are centred, as images on
//! a background other than 0 are, come as float32. So a streamed batch has the bits of a resident one.
//!
//! Processes that train together divide resident rows: each holds its [`Rows::held`], and what says that it is for all processes is to be
//! called by all of them at the same time, since rows then go from one to another.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};
use rand::seq::SliceRandom;
use rand::Rng;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{no_grad, Device, Kind, TchError, Tensor};

use super::divided::Divided;
use super::{Features, RowSource, Scaling, Streamed};
use crate::backend::dense;
use crate::backend::ranks::Ranks;
use crate::error::Result;

/// How many values a block of a whole-data pass holds at its widest (2,000 units by 8,000 rows, say): 64 MiB of float32.
const BLOCK_VALUES: i64 = 1 << 24;
/// Values that are scaled at once on their way to the device.
const SCALED_VALUES: usize = 1 << 20;

/// Rows \[n, d\]; the float32 values that training sees are a factor times the stored ones.
#[derive(Debug)]
pub struct Rows {
    stored: Stored,
    scale: f64,
}

#[derive(Debug)]
enum Stored {
    Resident(Tensor),
    Streamed { rows: Streamed, scaling: Arc<Scaling>, device: Device },
    Divided(Divided),
}

impl Stored {
    fn share(&self) -> Self {
        match self {
            Self::Resident(tensor) => Self::Resident(tensor.shallow_clone()),
            Self::Streamed { rows, scaling, device } => {
                Self::Streamed { rows: rows.clone(), scaling: Arc::clone(scaling), device: *device }
            }
            Self::Divided(divided) => Self::Divided(divided.shallow_clone()),
        }
    }
}

impl Rows {
    /// Those of `features` that `order` names, scaled, on `device`.
    ///
    /// # Errors
    /// A libtorch failure, such as a device without room for them; rows that cannot be read.
    pub fn resident(features: &Features, order: &[usize], scaling: &Scaling, device: Device) -> Result<Self> {
        Self::divided(features, order, scaling, device, Ranks::ALONE)
    }

    /// The same, divided among `ranks`: of the rows that `order` names this process reads and holds its share.
    ///
    /// # Errors
    /// As for [`Rows::resident`].
    pub fn divided(
        features: &Features,
        order: &[usize],
        scaling: &Scaling,
        device: Device,
        ranks: Ranks,
    ) -> Result<Self> {
        let share = ranks.share(order.len() as i64);
        let own = &order[share.start as usize..share.end as usize];
        let (n, d) = (own.len(), features.n_features());
        let kind = if scaling.is_factor() && features.are_bytes() { Kind::Uint8 } else { Kind::Float };
        let stored = Tensor::f_empty([n as i64, d as i64], (kind, device))?;
        let size = (SCALED_VALUES / d.max(1)).max(1);
        for start in (0..n).step_by(size) {
            let chosen = &own[start..(start + size).min(n)];
            let mut part = stored.f_narrow(0, start as i64, chosen.len() as i64)?;
            part.f_copy_(&scaled(features, chosen.iter().copied(), scaling)?)?;
        }
        Ok(Self { scale: scaling.factor(), ..Self::of_own(stored, order.len() as i64, ranks) })
    }

    /// `n` rows that need no scaling, such as a layer's codes, of which `own` are this process's share: float32 \[share, d\].
    pub fn of_own(own: Tensor, n: i64, ranks: Ranks) -> Self {
        let stored = match ranks.size() {
            1 => Stored::Resident(own),
            _ => Stored::Divided(Divided { own, n, ranks }),
        };
        Self { stored, scale: 1.0 }
    }

    /// All of `rows`, to be read and scaled when they are needed, and brought to `device` then.
    pub fn streamed(rows: Streamed, scaling: Scaling, device: Device) -> Self {
        let scale = scaling.factor();
        Self { stored: Stored::Streamed { rows, scaling: Arc::new(scaling), device }, scale }
    }

    /// All of `features`: streamed if they are, else resident.
    ///
    /// # Errors
    /// As for [`Rows::resident`].
    pub fn new(features: &Features, scaling: &Scaling, device: Device) -> Result<Self> {
        match features {
            Features::Streamed(rows) => Ok(Self::streamed(rows.clone(), scaling.clone(), device)),
            _ => Self::resident(features, &(0..features.n_rows()).collect::<Vec<_>>(), scaling, device),
        }
    }

    /// Rows that need no scaling, such as a layer's codes; another type than float32 is converted.
    pub fn from_tensor(rows: Tensor) -> Self {
        Self { stored: Stored::Resident(rows.to_kind(Kind::Float).contiguous()), scale: 1.0 }
    }

    /// The same rows, sharing their memory.
    pub fn shallow_clone(&self) -> Self {
        Self { stored: self.stored.share(), scale: self.scale }
    }

    /// The first `n` of them (all, where there are no more), sharing their memory. For all processes, and each then holds them.
    ///
    /// # Errors
    /// A libtorch failure; [`crate::Error::Processes`].
    pub fn first(&self, n: i64) -> Result<Self> {
        let n = n.min(self.n_rows());
        let stored = match &self.stored {
            Stored::Divided(divided) => Stored::Resident(divided.block(0, n)?),
            all if n == self.n_rows() => all.share(),
            Stored::Resident(tensor) => Stored::Resident(tensor.f_narrow(0, 0, n)?),
            Stored::Streamed { rows, scaling, device } => {
                let rows = rows.select(&(0..n as usize).collect::<Vec<_>>());
                Stored::Streamed { rows, scaling: Arc::clone(scaling), device: *device }
            }
        };
        Ok(Self { stored, scale: self.scale })
    }

    /// n.
    pub fn n_rows(&self) -> i64 {
        match &self.stored {
            Stored::Resident(tensor) => tensor.size()[0],
            Stored::Streamed { rows, .. } => rows.shape()[0] as i64,
            Stored::Divided(divided) => divided.n,
        }
    }

    /// d.
    pub fn n_features(&self) -> i64 {
        match &self.stored {
            Stored::Resident(tensor) => tensor.size()[1],
            Stored::Streamed { rows, .. } => rows.shape()[1] as i64,
            Stored::Divided(divided) => divided.own.size()[1],
        }
    }

    /// Where the rows are, or are brought to.
    pub fn device(&self) -> Device {
        match &self.stored {
            Stored::Resident(tensor) => tensor.device(),
            Stored::Streamed { device, .. } => *device,
            Stored::Divided(divided) => divided.own.device(),
        }
    }

    /// The processes that the rows are divided among; this one alone where they are not.
    pub fn ranks(&self) -> Ranks {
        match &self.stored {
            Stored::Divided(divided) => divided.ranks,
            _ => Ranks::ALONE,
        }
    }

    /// Which of them this process holds, or can read: all, unless they are divided.
    pub fn held(&self) -> Range<i64> {
        self.ranks().share(self.n_rows())
    }

    /// Whether a batch is read when it is needed.
    pub fn is_streamed(&self) -> bool {
        matches!(self.stored, Stored::Streamed { .. })
    }

    /// The rows at `indices` (int64, \[b\]) as scaled float32 \[b, d\]. For all processes, with the same indices.
    ///
    /// # Errors
    /// An index outside the rows; rows that cannot be read.
    pub fn batch(&self, indices: &Tensor) -> Result<Tensor> {
        let (stored, places) = self.at(indices)?;
        self.scaled(stored.f_index_select(0, &places)?)
    }

    /// The rows at `indices` (int64, \[b\]) as scaled float32 into `out` \[b, d\]. For all processes, with the same indices.
    ///
    /// # Errors
    /// An index outside the rows (on CUDA that ends the process), another shape; rows that cannot be read.
    pub fn gather(&self, indices: &Tensor, out: &Tensor) -> Result<()> {
        let (stored, places) = self.at(indices)?;
        dense::gather(&stored, &places, self.scale, out)
    }

    /// Stored rows among which are those at `indices` (int64, \[b\]), and their places there; [`Rows::scale`] remains to be
    /// applied. For all processes, with the same indices.
    ///
    /// # Errors
    /// As for [`Rows::batch`].
    pub fn at(&self, indices: &Tensor) -> Result<(Tensor, Tensor)> {
        match &self.stored {
            Stored::Resident(tensor) => Ok((tensor.shallow_clone(), indices.shallow_clone())),
            Stored::Streamed { rows, scaling, device } => {
                let chosen: Vec<i64> = values_of(indices)?;
                let places = Tensor::f_arange(chosen.len() as i64, (Kind::Int64, *device))?;
                let chosen = chosen.into_iter().map(|row| row as usize).collect();
                Ok((Self::read(rows, chosen, scaling, *device)?, places))
            }
            Stored::Divided(divided) => divided.fetch_all(indices),
        }
    }

    /// Of the batch `indices` (int64, \[b\]) the part that is the share of `ranks`: rows among which they are, and their places there. For all
    /// processes, with the same batch.
    ///
    /// # Errors
    /// As for [`Rows::batch`]; [`crate::Error::Processes`].
    pub fn part(&self, indices: &Tensor, ranks: Ranks) -> Result<(Self, Tensor)> {
        if let Stored::Divided(divided) = &self.stored {
            let (stored, places) = divided.fetch_share(indices)?;
            return Ok((Self { stored: Stored::Resident(stored), scale: self.scale }, places));
        }
        Ok((self.shallow_clone(), ranks.part_of(indices)?))
    }

    /// Streamed rows, as they would be stored.
    fn read(rows: &Streamed, chosen: Vec<usize>, scaling: &Scaling, device: Device) -> Result<Tensor> {
        Ok(scaled(&Features::Streamed(rows.clone()), chosen.into_iter(), scaling)?.f_to_device(device)?)
    }

    /// What the stored rows are to be multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The rows from `start` on, which this process holds, as scaled float32 into `out` \[b, d\].
    ///
    /// # Errors
    /// Fewer rows than `out` has, another width; rows that cannot be read.
    pub fn copy_held(&self, start: i64, out: &Tensor) -> Result<()> {
        let rows = self.held_block(start, out.size()[0])?;
        let mut out = out.shallow_clone();
        out.f_copy_(&rows)?;
        if self.scale != 1.0 {
            let _ = out.f_mul_scalar_(self.scale)?;
        }
        Ok(())
    }

    /// Applies `f` to all rows in order, without a graph, and joins what it returns; in blocks that bound the memory, given
    /// that `f` needs `width` values a row. For all processes.
    ///
    /// # Errors
    /// What `f` fails with; rows that cannot be read.
    pub fn map_blocks(&self, width: i64, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        no_grad(|| {
            let n = self.n_rows();
            let size = (BLOCK_VALUES / self.n_features().max(width)).max(1);
            let mut parts = Vec::new();
            for start in (0..n).step_by(size as usize) {
                parts.push(f(&self.block(start, size.min(n - start))?)?);
            }
            Ok(Tensor::f_cat(&parts, 0)?)
        })
    }

    /// All rows as scaled float32 \[n, d\], on the rows' device. For all processes.
    ///
    /// # Errors
    /// A libtorch failure, such as a device without room for them; rows that cannot be read.
    pub fn to_tensor(&self) -> Result<Tensor> {
        self.block(0, self.n_rows())
    }

    /// The rows from `start` on as scaled float32 \[length, d\]. For all processes.
    ///
    /// # Errors
    /// Fewer rows than that; rows that cannot be read.
    pub fn block(&self, start: i64, length: i64) -> Result<Tensor> {
        self.scaled(self.stored_block(start, length)?)
    }

    /// The rows from `start` on as they are stored, \[length, d\]; [`Rows::scale`] remains to be applied. For all processes.
    ///
    /// # Errors
    /// As for [`Rows::block`].
    pub fn stored_block(&self, start: i64, length: i64) -> Result<Tensor> {
        match &self.stored {
            Stored::Resident(tensor) => Ok(tensor.f_narrow(0, start, length)?),
            Stored::Streamed { rows, scaling, device } => {
                Self::read(rows, (start as usize..(start + length) as usize).collect(), scaling, *device)
            }
            Stored::Divided(divided) => divided.block(start, length),
        }
    }

    /// The same of rows that this process holds.
    ///
    /// # Errors
    /// As for [`Rows::block`]; rows that it does not hold.
    pub fn held_block(&self, start: i64, length: i64) -> Result<Tensor> {
        match &self.stored {
            Stored::Divided(divided) => Ok(divided.own.f_narrow(0, start - self.held().start, length)?),
            _ => self.stored_block(start, length),
        }
    }

    /// A value for each row, of which `own` are those of the rows that this process holds. For all processes.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`]; [`crate::Error::Processes`].
    pub fn of_all<T: tch::kind::Element + Clone>(&self, own: &[T]) -> Result<Vec<T>>
    where
        Vec<T>: TryFrom<Tensor, Error = TchError>,
    {
        self.ranks().join(own, self.n_rows())
    }

    fn scaled(&self, rows: Tensor) -> Result<Tensor> {
        let rows = rows.f_to_kind(Kind::Float)?;
        Ok(if self.scale == 1.0 { rows } else { rows.f_mul_scalar(self.scale)? })
    }
}

/// Rows by their numbers as training stores them, \[b, d\] on the CPU: bytes where they are such and a factor is all that there is
/// to do, else float32.
fn scaled(features: &Features, chosen: impl ExactSizeIterator<Item = usize>, scaling: &Scaling) -> Result<Tensor> {
    let (n, d) = (chosen.len(), features.n_features());
    let shape = [n as i64, d as i64];
    if scaling.is_factor() && features.are_bytes() {
        let mut values = vec![0u8; n * d];
        features.read_u8(chosen, &mut values)?;
        return Ok(Tensor::f_from_slice(&values)?.f_view(shape)?);
    }
    let mut values = vec![0f32; n * d];
    features.read_f32(chosen, &mut values)?;
    values.chunks_exact_mut(d.max(1)).for_each(|row| scaling.apply(row));
    Ok(Tensor::f_from_slice(&values)?.f_view(shape)?)
}

/// An endless stream of batches of row indices: every epoch another permutation of all rows, its last batch smaller where
/// the batch size does not divide n.
///
/// The permutation of an epoch follows from the seed and the epoch's number alone, so that a stream can begin anywhere.
#[derive(Debug)]
pub struct Batches {
    seed: u64,
    epoch: u64,
    next: i64,
    order: Vec<i64>,
    on_device: Tensor,
    batch_size: i64,
}

impl Batches {
    /// Batches over `n_rows` rows, shuffled from `seed`.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn new(n_rows: i64, batch_size: usize, device: Device, seed: u64) -> Result<Self> {
        let order: Vec<i64> = (0..n_rows).collect();
        let on_device = Tensor::f_from_slice(&order)?.f_to_device(device)?;
        let batch_size = i64::try_from(batch_size).unwrap_or(i64::MAX).min(n_rows).max(1);
        let mut batches = Self { seed, epoch: 0, next: 0, order, on_device, batch_size };
        batches.shuffle()?;
        Ok(batches)
    }

    /// Batches in an epoch.
    pub fn per_epoch(&self) -> u64 {
        (self.order.len() as i64 + self.batch_size - 1).div_euclid(self.batch_size) as u64
    }

    /// Rows in every batch but an epoch's last.
    pub fn batch_size(&self) -> i64 {
        self.batch_size
    }

    /// Goes to where the stream stands after `steps` batches.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn seek(&mut self, steps: u64) -> Result<()> {
        self.epoch = steps / self.per_epoch();
        self.next = (steps % self.per_epoch()) as i64 * self.batch_size;
        self.shuffle()
    }

    /// The row indices of the next batch: int64 \[b\] on the device.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn next_batch(&mut self) -> Result<Tensor> {
        let n = self.order.len() as i64;
        if self.next >= n {
            self.epoch += 1;
            self.next = 0;
            self.shuffle()?;
        }
        let size = self.batch_size.min(n - self.next);
        let batch = self.on_device.f_narrow(0, self.next, size)?;
        self.next += size;
        Ok(batch)
    }

    fn shuffle(&mut self) -> Result<()> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(hash(self.seed ^ hash(self.epoch + 1)));
        for (place, row) in self.order.iter_mut().zip(0..) {
            *place = row;
        }
        self.order.shuffle(&mut rng);
        self.on_device = Tensor::f_from_slice(&self.order)?.f_to_device(self.on_device.device())?;
        Ok(())
    }
}

/// The finaliser of SplitMix64 (Steele et al. 2014): every bit of the result depends on every bit of `x`. Applied before a
/// generator is seeded, since neighbouring seeds would give overlapping states.
pub(crate) fn hash(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A permutation of `0..n` from `seed`.
pub fn permutation(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
    order
}

/// `at_most` of the numbers `0..n`, ascending, by `seed`: one at random from each of so many stretches of equal length. All of
/// them where there are no more.
///
/// Of ordered rows each part has its share to within a row, as every n-th row would tell it; and unlike those, a sample is not
/// blind where rows take turns.
pub fn sample(n: usize, at_most: usize, seed: u64) -> Vec<usize> {
    if n <= at_most {
        return (0..n).collect();
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..at_most).map(|stretch| rng.gen_range(stretch * n / at_most..(stretch + 1) * n / at_most)).collect()
}

/// Row numbers as libtorch takes them: int64 on the CPU.
pub(crate) fn index_of(rows: &[usize]) -> Result<Tensor> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    Ok(Tensor::f_from_slice(&rows)?)
}

/// An array \[n, d\] as a tensor of its own on the CPU.
///
/// # Errors
/// A libtorch failure.
pub fn tensor_of<T: tch::kind::Element + Clone>(array: ArrayView2<T>) -> Result<Tensor> {
    let shape = [array.nrows() as i64, array.ncols() as i64];
    let contiguous = array.as_standard_layout();
    let tensor = match contiguous.as_slice() {
        Some(slice) => Tensor::f_from_slice(slice)?,
        None => Tensor::f_from_slice(&contiguous.iter().cloned().collect::<Vec<_>>())?,
    };
    Ok(tensor.f_view(shape)?)
}

/// A tensor \[n, d\] of any device and kind as a float32 array.
///
/// # Errors
/// A libtorch failure, or a tensor that is not two-dimensional.
pub fn array_of(tensor: &Tensor) -> Result<Array2<f32>> {
    let (n, d) = tensor.size2()?;
    let values = values_of::<f32>(&tensor.f_to_kind(Kind::Float)?)?;
    Ok(Array2::from_shape_vec((n as usize, d as usize), values)
        .map_err(|e| TchError::Shape(format!("a {n} by {d} tensor did not fill its array: {e}")))?)
}

/// The values of a tensor of kind `T`, in row-major order.
///
/// # Errors
/// A tensor of another kind.
pub fn values_of<T>(tensor: &Tensor) -> Result<Vec<T>>
where
    Vec<T>: TryFrom<Tensor, Error = TchError>,
{
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?.f_view(-1)?;
    Ok(Vec::try_from(flat)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;

    #[test]
    fn a_sample_has_no_row_twice_and_follows_from_the_seed() {
        assert_eq!(sample(5, 5, 1), [0, 1, 2, 3, 4]);
        let drawn = |seed| sample(1_003, 100, seed);
        assert!(drawn(1).is_sorted_by(|a, b| a < b) && drawn(1).len() == 100);
        assert!(drawn(1).iter().all(|&row| row < 1_003));
        assert!(drawn(1) == drawn(1) && drawn(1) != drawn(2));
        assert!(sample(7, 6, 3).is_sorted_by(|a, b| a < b));
        assert!(sample(7, 0, 3).is_empty());
    }

    #[test]
    fn a_sample_has_its_share_of_ordered_rows_and_of_rows_that_take_turns() {
        let drawn = sample(10_000, 1_000, 0);
        assert!(drawn.iter().filter(|&&row| row < 3_333).count().abs_diff(333) <= 1);
        let odd = drawn.iter().filter(|&&row| row % 2 == 1).count();
        assert!(odd.abs_diff(500) < 80, "{odd} of 1,000"); // five standard deviations
    }

    #[test]
    fn an_epoch_visits_every_row_once_and_keeps_the_small_last_batch() {
        let mut batches = Batches::new(10, 4, Device::Cpu, 7).unwrap();
        assert_eq!(batches.per_epoch(), 3);
        let mut orders = Vec::new();
        for _ in 0..2 {
            let parts: Vec<Vec<i64>> = (0..3).map(|_| values_of(&batches.next_batch().unwrap()).unwrap()).collect();
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
            let order = parts.concat();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
            orders.push(order);
        }
        assert_ne!(orders[0], orders[1], "the second epoch is shuffled anew");
    }

    #[test]
    fn a_stream_begins_anywhere() {
        let batches = || Batches::new(10, 4, Device::Cpu, 7).unwrap();
        let next = |batches: &mut Batches| values_of::<i64>(&batches.next_batch().unwrap()).unwrap();
        let mut whole = batches();
        let expected: Vec<_> = (0..9).map(|_| next(&mut whole)).collect();
        for start in 0..9 {
            let mut later = batches();
            later.seek(start as u64).unwrap();
            assert!((start..9).all(|step| next(&mut later) == expected[step]), "from step {start}");
        }
    }

    #[test]
    fn bytes_become_scaled_floats_a_batch_at_a_time() {
        let features = Features::U8(array![[0, 50], [100, 255]]);
        let rows = Rows::new(&features, &Scaling::Factor(0.02), Device::Cpu).unwrap();
        let batch = rows.batch(&Tensor::from_slice(&[1i64])).unwrap();
        assert_eq!(values_of::<f32>(&batch).unwrap(), [2.0, 5.1]);
        assert_eq!(array_of(&rows.to_tensor().unwrap()).unwrap(), array![[0.0, 1.0], [2.0, 5.1]]);
    }

    #[test]
    fn each_process_holds_its_share_of_the_rows() {
        let features = Features::U8(Array2::from_shape_fn((7, 2), |(i, j)| (10 * i + j) as u8));
        let order = [6, 0, 3, 1, 5];
        let whole = Rows::resident(&features, &order, &Scaling::Factor(0.5), Device::Cpu).unwrap();
        let parts: Vec<_> = (0..3)
            .map(|rank| {
                let ranks = Ranks::of(rank, 3);
                let rows = Rows::divided(&features, &order, &Scaling::Factor(0.5), Device::Cpu, ranks).unwrap();
                assert_eq!((rows.n_rows(), rows.n_features(), rows.ranks(), rows.scale()), (5, 2, ranks, 0.5));
                let held = rows.held();
                assert!(rows.held_block(held.start, held.end - held.start + 1).is_err(), "no more than its own");
                let own = Tensor::empty([held.end - held.start, 2], (Kind::Float, Device::Cpu));
                rows.copy_held(held.start, &own).unwrap();
                own
            })
            .collect();
        assert_eq!(Tensor::cat(&parts, 0), whole.to_tensor().unwrap());
        let (rows, places) = whole.part(&Tensor::from_slice(&[4i64, 2, 0]), Ranks::of(2, 3)).unwrap();
        assert_eq!(rows.batch(&places).unwrap(), whole.batch(&Tensor::from_slice(&[0i64])).unwrap());
    }

    #[test]
    fn blocks_join_in_order() {
        let n = 20_000;
        let features = Features::F32(Array2::from_shape_fn((n, 1), |(i, _)| i as f32));
        let rows = Rows::new(&features, &Scaling::Factor(1.0), Device::Cpu).unwrap();
        let mut blocks = 0;
        let doubled = rows
            .map_blocks(2000, |x| {
                blocks += 1;
                Ok(x * 2.0)
            })
            .unwrap();
        assert!(blocks > 1);
        assert_eq!(values_of::<f32>(&doubled).unwrap(), (0..n).map(|i| 2.0 * i as f32).collect::<Vec<_>>());
    }
}
