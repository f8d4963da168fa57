//! The processes that train together, started by `mpirun` or `srun`: data-parallel training over MPI.
//!
//! Each process, a *rank*, holds an equal part of the rows, and takes an equal part of every batch, whose rows come from whoever holds them; what
//! the parts give is summed once a step. Passes over all rows (codes, neighbours) and restarts of k-means are divided too, and what they give
//! is gathered. All else is computed by each, with the same bits. The first rank writes.
//!
//! Without the cargo feature `mpi`, and in a program that was not started so, there is one rank, and nothing here does anything.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// This process among those that train together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    rank: usize,
    size: usize,
}

static WORLD: OnceLock<Ranks> = OnceLock::new();
static STOPPED_TOGETHER: AtomicBool = AtomicBool::new(false);
/// Whether this process has given up waiting for the others. What they exchange may be half done, and it calls them no more.
static APART: AtomicBool = AtomicBool::new(false);

/// How long a process that was told to stop waits for the others.
const SOON: Duration = Duration::from_millis(300);
/// The same where more hangs on their coming.
const LATE: Duration = Duration::from_secs(20);

fn apart() -> bool {
    APART.load(Ordering::Relaxed)
}

/// Variables by which launchers tell how many processes they have started, with those that have the process's number, its number on its machine,
/// and one that is there with no other launcher: of Open MPI, of MPICH and its kin, of Slurm's `srun --mpi=pmix`, of PyTorch's `torchrun`.
const LAUNCHERS: [[&str; 4]; 4] = [
    ["OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK"],
    ["PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "PMI_RANK"],
    ["SLURM_STEP_NUM_TASKS", "PMIX_RANK", "SLURM_LOCALID", "PMIX_RANK"],
    ["WORLD_SIZE", "RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"], // the first two are set by hand too, for other programs
];

/// What a launcher says of the processes that it has started, in the words of `variable`: how many they are, which this is, and which on its
/// machine. One that says nothing of machines has all on one.
fn said_by(variable: impl Fn(&str) -> Option<String>) -> Option<[usize; 3]> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let launched = |[.., sign]: &&[&str; 4]| variable(sign).is_some();
    let found = LAUNCHERS.iter().filter(launched).find_map(|[size, rank, local, _]| {
        let rank = number(rank)?;
        Some([number(size)?, rank, number(local).unwrap_or(rank)])
    });
    found.filter(|&[size, rank, _]| rank < size)
}

/// How many processes a launcher has started, and which this is, by the environment; 1 and 0 without a launcher.
pub fn launched() -> (usize, usize) {
    let [size, rank, _] = said();
    (size, rank)
}

/// Which this is, from 0, of the processes that a launcher has started on this machine.
pub(super) fn launched_here() -> usize {
    let [.., local] = said();
    local
}

/// [`said_by`] of the environment; what one process by itself is where no launcher says anything.
fn said() -> [usize; 3] {
    said_by(|name| std::env::var(name).ok()).unwrap_or([1, 0, 0])
}

/// Joins the processes that a launcher has started with this one, if it has; once, from the main thread.
///
/// # Errors
/// [`Error::Config`] where there are several and this program cannot train with others, or MPI fails.
pub fn join() -> Result<Ranks> {
    if let Some(&world) = WORLD.get() {
        return Ok(world);
    }
    let (size, _) = launched();
    let world = if size > 1 { mpi::join(size)? } else { Ranks::ALONE };
    Ok(*WORLD.get_or_init(|| world))
}

/// The processes that were joined; this one alone until then.
pub fn world() -> Ranks {
    WORLD.get().copied().unwrap_or(Ranks::ALONE)
}

/// Whether all processes have agreed to stop.
pub fn stopped_together() -> bool {
    STOPPED_TOGETHER.load(Ordering::Relaxed)
}

/// Takes leave of the other processes, for which it waits. To be called when the work is done, or all [`stopped_together`].
pub fn leave() {
    if world().size > 1 {
        mpi::leave();
    }
}

impl Ranks {
    /// One process.
    pub const ALONE: Self = Self { rank: 0, size: 1 };

    /// One of so many, for tests that put their parts together themselves.
    #[cfg(test)]
    pub(crate) fn of(rank: usize, size: usize) -> Self {
        Self { rank, size }
    }

    /// How many there are.
    pub fn size(self) -> usize {
        self.size
    }

    /// Which this is, from 0.
    pub fn rank(self) -> usize {
        self.rank
    }

    /// Whether this is the one that writes.
    pub fn is_first(self) -> bool {
        self.rank == 0
    }

    /// Which of `count` rows are this process's: as many as the others', but for one.
    pub fn share(self, count: i64) -> Range<i64> {
        self.share_of(self.rank, count)
    }

    /// The rows of `tensor` that are this process's [`Ranks::share`], in the same memory.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn part_of(self, tensor: &Tensor) -> Result<Tensor> {
        let share = self.share(tensor.size()[0]);
        Ok(tensor.f_narrow(0, share.start, share.end - share.start)?)
    }

    /// The first of the rows that processes have found something in, one row a process or none; `None` where nobody has.
    ///
    /// # Errors
    /// As for [`Ranks::fold`].
    pub fn first(self, row: Option<i64>) -> Result<Option<i64>> {
        let mut first = [row.map_or(f64::INFINITY, |row| row as f64)];
        self.fold(&mut first, f64::min)?;
        Ok(first[0].is_finite().then_some(first[0] as i64))
    }

    /// Which of `count` rows are those of `process`.
    pub fn share_of(self, process: usize, count: i64) -> Range<i64> {
        let at = |rank: usize| count * rank as i64 / self.size as i64;
        at(process)..at(process + 1)
    }

    /// The process whose [`Ranks::share`] of `count` rows has `row`, one of them.
    pub fn owner(self, row: i64, count: i64) -> usize {
        ((self.size as i64 * (row + 1) - 1) / count) as usize
    }

    /// `tensor` (contiguous float32 or float64) ← its sum over all processes.
    ///
    /// # Errors
    /// [`Error::Processes`] where another process is gone or MPI fails; another kind of tensor. It is never [`Error::Interrupted`]: half a
    /// sum is nothing to go on from.
    pub fn sum(self, tensor: &Tensor) -> Result<()> {
        half_done(self.sum_up(tensor))
    }

    fn sum_up(self, tensor: &Tensor) -> Result<()> {
        if self.size == 1 {
            return Ok(());
        }
        if tensor.kind() == Kind::Double {
            let mut values = Vec::try_from(tensor.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
            self.fold(&mut values, |a, b| a + b)?;
            return Ok(tensor.shallow_clone().f_copy_(&Tensor::f_from_slice(&values)?.f_view_as(tensor)?)?);
        }
        by_way_of_the_host(tensor, mpi::sum)
    }

    /// Completes `tensor` (contiguous), of whose rows each process has filled its [`Ranks::share`].
    ///
    /// # Errors
    /// [`Error::Interrupted`] where this process was told to stop and others do not come; [`Error::Processes`] where one is gone or MPI
    /// fails.
    pub fn gather(self, tensor: &Tensor) -> Result<()> {
        if self.size == 1 {
            return Ok(());
        }
        by_way_of_the_host(tensor, mpi::gather)
    }

    /// Each of `values` (few, as many in all processes) ← `f` of those of all processes, in their order.
    ///
    /// # Errors
    /// As for [`Ranks::sum`].
    pub fn fold(self, values: &mut [f64], f: impl Fn(f64, f64) -> f64) -> Result<()> {
        if self.size == 1 {
            return Ok(());
        }
        let all = half_done(self.join(values, (self.size * values.len()) as i64))?;
        for (place, value) in values.iter_mut().enumerate() {
            let of_each = all[place..].iter().step_by(all.len() / self.size).copied();
            *value = of_each.reduce(&f).unwrap_or(*value);
        }
        Ok(())
    }

    /// `count` values one after the other, of which `own` are this process's [`Ranks::share`].
    ///
    /// # Errors
    /// As for [`Ranks::gather`].
    pub fn join<T: tch::kind::Element + Clone>(self, own: &[T], count: i64) -> Result<Vec<T>>
    where
        Vec<T>: TryFrom<Tensor, Error = tch::TchError>,
    {
        if self.size == 1 {
            return Ok(own.to_vec());
        }
        let all = Tensor::f_zeros([count], (T::KIND, Device::Cpu))?;
        self.part_of(&all)?.f_copy_(&Tensor::f_from_slice(own)?)?;
        self.gather(&all)?;
        Ok(Vec::try_from(all)?)
    }

    /// Gives each process its rows of `out`, of which `sent` are for each, in the order of the processes, and takes `received` from each into
    /// `into`. Both are contiguous, on the CPU, and have rows of the same size.
    ///
    /// # Errors
    /// As for [`Ranks::sum`].
    pub fn exchange(self, out: &Tensor, sent: &[i64], into: &Tensor, received: &[i64]) -> Result<()> {
        if self.size == 1 {
            return Ok(into.shallow_clone().f_copy_(out)?);
        }
        half_done(mpi::exchange(out, sent, into, received))
    }

    /// Where all processes come to between two pieces of work. All that goes from one to another begins so, and a process that was told to stop
    /// goes through here once more before it leaves: the others, wherever they wait, then know. Of `value` only whether all have the same
    /// matters.
    ///
    /// # Errors
    /// [`Error::Processes`] where another process is gone or MPI fails.
    pub fn meet(self, save: bool, stop: bool, value: u64) -> Result<Meeting> {
        if self.size == 1 {
            return Ok(Meeting { save, stop, same: true });
        }
        const STOPPED: Meeting = Meeting { save: false, stop: true, same: true };
        if stopped_together() || apart() {
            return Ok(STOPPED);
        }
        let value = (value >> 1) as i64; // it has a negative then
        let mut most = [i64::from(save), i64::from(stop), value, -value];
        // The first saves alone if need be. Another's end would end the job, and so it waits for a piece of work of the others.
        match mpi::max(&mut most, if self.is_first() { SOON } else { LATE }) {
            Ok(()) => {}
            Err(Error::Interrupted) => return Ok(STOPPED),
            Err(problem) => return Err(problem),
        }
        let [save, stop, highest, lowest] = most;
        STOPPED_TOGETHER.store(stop != 0, Ordering::Relaxed);
        Ok(Meeting { save: save != 0, stop: stop != 0, same: highest == -lowest })
    }

    /// Waits until all processes have come here.
    ///
    /// # Errors
    /// As for [`Ranks::meet`]; [`Error::Interrupted`] where one was told to stop.
    pub fn wait(self) -> Result<()> {
        match self.meet(false, false, 0)?.stop {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// Refuses to go on where processes hold different `tensors`, after the piece of work called `what`.
    ///
    /// # Errors
    /// [`Error::Processes`] then, or where another process is gone.
    pub fn check_same(self, tensors: impl IntoIterator<Item = Tensor>, what: &str) -> Result<()> {
        if self.size == 1 {
            return Ok(());
        }
        let mut hash = 0u64;
        for tensor in tensors {
            let sum = f64::try_from(tensor.f_to_kind(Kind::Double)?.f_sum(Kind::Double)?)?;
            hash = crate::data::hash(hash ^ sum.to_bits());
        }
        let Meeting { stop, same, .. } = self.meet(false, false, hash)?;
        if same || stop {
            return Ok(()); // the next meeting ends the work
        }
        Err(Error::Processes(format!(
            "the {} processes have come to different values in {what}: run them on processors of one kind, with the same number \
             of threads and the same libtorch",
            self.size
        )))
    }
}

/// An interruption within what is nothing to go on from when it is half done is an error.
///
/// # Errors
/// Those of `done`; [`Error::Processes`] for [`Error::Interrupted`].
pub fn half_done<T>(done: Result<T>) -> Result<T> {
    match done {
        Err(Error::Interrupted) => {
            Err(mpi::others("do not answer: one has ended, or was told to stop apart from the others"))
        }
        done => done,
    }
}

/// Has `exchange` work on a tensor's values where MPI reaches them.
fn by_way_of_the_host(tensor: &Tensor, exchange: impl FnOnce(&Tensor) -> Result<()>) -> Result<()> {
    if tensor.device() == Device::Cpu {
        return exchange(tensor);
    }
    let staged = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    exchange(&staged)?;
    Ok(tensor.shallow_clone().f_copy_(&staged)?)
}

/// What processes tell each other where they [`Ranks::meet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meeting {
    /// Whether one wants a checkpoint.
    pub save: bool,
    /// Whether one was told to stop.
    pub stop: bool,
    /// Whether all have the same value.
    pub same: bool,
}

#[cfg(feature = "mpi")]
mod mpi {
    use std::cell::Cell;
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use super::{apart, Device, Error, Kind, Ranks, Result, Tensor, APART, LATE};
    use crate::backend::signals;

    type GiveUp = extern "C" fn() -> c_int;

    extern "C" {
        fn dec_mpi_join(rank: *mut c_int, size: *mut c_int) -> c_int;
        fn dec_mpi_sum(values: *mut f32, count: i64, give_up: GiveUp) -> c_int;
        fn dec_mpi_gather(values: *mut c_void, count: i64, bytes: i64, give_up: GiveUp) -> c_int;
        fn dec_mpi_exchange(
            out: *const c_void,
            sent: *const i64,
            into: *mut c_void,
            received: *const i64,
            bytes: i64,
            give_up: GiveUp,
        ) -> c_int;
        fn dec_mpi_max(values: *mut i64, count: i64, give_up: GiveUp) -> c_int;
        fn dec_mpi_leave() -> c_int;
    }

    pub(super) fn join(launched: usize) -> Result<Ranks> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: the function writes two plain numbers, and is called once: the caller keeps what it returns.
        let status = unsafe { dec_mpi_join(&mut rank, &mut size) };
        match (status, usize::try_from(rank), usize::try_from(size)) {
            (0, Ok(rank), Ok(size)) if size == launched && rank < size => Ok(Ranks { rank, size }),
            (0, ..) => Err(Error::Config(format!(
                "{launched} processes were started together, and MPI knows of {size}: start them by the mpirun of the MPI that dec \
                 was built with, or by srun --mpi=pmix"
            ))),
            _ => Err(Error::Config("MPI cannot be set up in this process".to_owned())),
        }
    }

    pub(super) fn leave() {
        // SAFETY: no other call of MPI is at work: all are made from the main thread, which is here.
        if unsafe { dec_mpi_leave() } != 0 {
            tracing::debug!("MPI was not left in good order");
        }
    }

    pub(super) fn sum(tensor: &Tensor) -> Result<()> {
        if tensor.kind() != Kind::Float || !tensor.is_contiguous() {
            return Err(Error::Fault(format!("a sum of {:?} over processes, or of values apart", tensor.kind())));
        }
        // SAFETY: a contiguous CPU tensor of so many float32 values, which nobody else uses meanwhile and which is kept (`kept`).
        kept(&[tensor], || unsafe { dec_mpi_sum(tensor.data_ptr().cast(), tensor.numel() as i64, give_up) })
    }

    pub(super) fn gather(tensor: &Tensor) -> Result<()> {
        let Some(&rows) = tensor.size().first().filter(|_| tensor.is_contiguous()) else {
            return Err(Error::Fault("parts of a tensor without rows, or whose rows lie apart".to_owned()));
        };
        let bytes = tensor.numel() as i64 / rows.max(1) * tensor.kind().elt_size_in_bytes() as i64;
        // SAFETY: a contiguous CPU tensor of so many rows of so many bytes, which nobody else uses meanwhile and which is kept.
        kept(&[tensor], || unsafe { dec_mpi_gather(tensor.data_ptr(), rows, bytes, give_up) })
    }

    pub(super) fn exchange(out: &Tensor, sent: &[i64], into: &Tensor, received: &[i64]) -> Result<()> {
        let rows = |tensor: &Tensor| tensor.size().first().copied();
        let row_bytes =
            |tensor: &Tensor| tensor.size().iter().skip(1).product::<i64>() * tensor.kind().elt_size_in_bytes() as i64;
        let size = super::world().size;
        let fit = |tensor: &Tensor, counts: &[i64]| {
            tensor.device() == Device::Cpu
                && tensor.is_contiguous()
                && counts.len() == size
                && counts.iter().all(|&count| count >= 0)
                && rows(tensor) == Some(counts.iter().sum())
        };
        let rank = super::world().rank;
        if !fit(out, sent) || !fit(into, received) || sent[rank] != received[rank] || row_bytes(out) != row_bytes(into)
        {
            return Err(Error::Fault("rows for other processes that do not fit what is said of them".to_owned()));
        }
        // SAFETY: `sent` and `received` have a number of at least 0 for each process, and the same for this one; the tensors are contiguous, on
        // the CPU, and have as many rows as these numbers say, of so many bytes; nobody else uses them meanwhile, and both are kept.
        kept(&[out, into], || unsafe {
            let (from, to, bytes) = (out.data_ptr(), into.data_ptr(), row_bytes(out));
            dec_mpi_exchange(from, sent.as_ptr(), to, received.as_ptr(), bytes, give_up)
        })
    }

    pub(super) fn max(values: &mut [i64; 4], patience: Duration) -> Result<()> {
        // SAFETY: four int64 values that are ours alone; the function exchanges a copy of them, which it keeps.
        exchanged(patience, || unsafe { dec_mpi_max(values.as_mut_ptr(), 4, give_up) })
    }

    /// [`exchanged`], after which `tensors` stay in memory where that was not done: MPI may still be at work there.
    fn kept(tensors: &[&Tensor], exchange: impl FnOnce() -> c_int) -> Result<()> {
        let done = exchanged(LATE, exchange);
        if done.is_err() {
            tensors.iter().for_each(|tensor| std::mem::forget(tensor.shallow_clone()));
        }
        done
    }

    /// [`Error::Interrupted`] where this process was told to stop and the others did not come within `patience`.
    fn exchanged(patience: Duration, exchange: impl FnOnce() -> c_int) -> Result<()> {
        if apart() {
            return Err(Error::Interrupted);
        }
        WAITING.set(Some((Instant::now(), patience)));
        match exchange() {
            0 => Ok(()),
            status => {
                APART.store(true, Ordering::Relaxed);
                Err(if status == 2 { Error::Interrupted } else { others("cannot be reached by MPI") })
            }
        }
    }

    pub(super) fn others(how: &str) -> Error {
        Error::Processes(format!(
            "the other processes {how}; `dec resume` with the run's directory, under mpirun again or without, goes on from the last \
             checkpoint"
        ))
    }

    thread_local! {
        /// Since when this thread waits for the others, and how long it does once it was told to stop.
        static WAITING: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
    }

    extern "C" fn give_up() -> c_int {
        let (Some(told), Some((since, patience))) = (signals::requested_at(), WAITING.get()) else { return 0 };
        c_int::from(told.max(since).elapsed() > patience)
    }
}

#[cfg(not(feature = "mpi"))]
mod mpi {
    use super::{Duration, Error, Ranks, Result, Tensor};

    pub(super) fn join(launched: usize) -> Result<Ranks> {
        Err(Error::Config(format!(
            "{launched} processes were started together, and this dec is built to train in one: build it with \
             `cargo build --release --features mpi` (Debian: apt install libopenmpi-dev openmpi-bin), or start it without a launcher"
        )))
    }

    pub(super) fn leave() {}

    pub(super) fn sum(_: &Tensor) -> Result<()> {
        Ok(())
    }

    pub(super) fn gather(_: &Tensor) -> Result<()> {
        Ok(())
    }

    pub(super) fn exchange(_: &Tensor, _: &[i64], _: &Tensor, _: &[i64]) -> Result<()> {
        Ok(())
    }

    pub(super) fn max(_: &mut [i64; 4], _: Duration) -> Result<()> {
        Ok(())
    }

    pub(super) fn others(how: &str) -> Error {
        Error::Processes(format!("the other processes {how}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_batch_is_divided_without_rest() {
        for (size, count) in [(1, 256), (2, 7), (3, 256), (4, 4), (5, 3)] {
            let shares: Vec<_> = (0..size).map(|rank| Ranks { rank, size }.share(count)).collect();
            assert_eq!((shares[0].start, shares[size - 1].end), (0, count));
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start), "{shares:?}");
            let lengths: Vec<i64> = shares.iter().map(|share| share.end - share.start).collect();
            assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1, "{shares:?}");
        }
    }

    #[test]
    fn launchers_are_understood() {
        let said = |variables: &[(&str, &str)]| {
            said_by(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        let mpirun = [
            ("OMPI_COMM_WORLD_SIZE", "8"),
            ("OMPI_COMM_WORLD_RANK", "5"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("WORLD_SIZE", "3"),
        ];
        assert_eq!(said(&mpirun), Some([8, 5, 1]));
        assert_eq!(said(&[("PMI_SIZE", "4"), ("PMI_RANK", "3")]), Some([4, 3, 3]));
        let srun = [("SLURM_STEP_NUM_TASKS", "2"), ("PMIX_RANK", "1"), ("SLURM_LOCALID", "0")];
        assert_eq!(said(&srun), Some([2, 1, 0]));
        assert_eq!(said(&[("WORLD_SIZE", "4"), ("RANK", "1"), ("LOCAL_RANK", "1")]), None, "set by hand");
        assert_eq!(said(&[("PMI_SIZE", "2"), ("PMI_RANK", "2")]), None, "no such process");
    }

    #[test]
    fn one_process_agrees_with_itself() {
        let alone = world();
        assert_eq!((alone.size(), alone.rank(), alone.is_first()), (1, 0, true));
        let tensor = Tensor::from_slice(&[1.0f32, 2.0]);
        alone.sum(&tensor).unwrap();
        assert_eq!(Vec::<f32>::try_from(&tensor).unwrap(), [1.0, 2.0]);
        assert_eq!(alone.meet(true, false, 3).unwrap(), Meeting { save: true, stop: false, same: true });
        assert!(alone.wait().is_ok() && alone.check_same([tensor], "a test").is_ok() && !stopped_together());
    }
}
