//! How many threads compute: one number for libtorch's pool and for whatever else divides work.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::thread;

use crate::error::{Error, Result};

/// More threads than this is a typing error, not a machine.
pub const MAX_THREADS: usize = 1024;

// OpenMP's own functions, from the library that libtorch's threads come from (build.rs links it).
extern "C" {
    fn omp_get_thread_limit() -> c_int;
    fn omp_get_max_active_levels() -> c_int;
    fn omp_set_dynamic(dynamic: c_int);
}

/// Sets the number of threads that libtorch's operations, and with them this library, use from now on; returns it.
///
/// `None` is as many as this process may use: `OMP_NUM_THREADS` where that is set (OpenMP's own variable, so that
/// launchers and batch systems that set it are obeyed), else the processors that its affinity mask and its cgroup's
/// quota leave it. libtorch's own default knows nothing of quotas.
///
/// OpenMP gives no more threads than `OMP_THREAD_LIMIT` allows, so no more are asked for. `OMP_DYNAMIC`, by which their
/// number would change with the machine's load, is turned off for the calling thread: the same number gives the same bits.
///
/// # Errors
///
/// [`Error::Config`] if the number is not from 1 to [`MAX_THREADS`].
///
/// ```
/// assert_eq!(dec::backend::threads::set(Some(1))?, 1);
/// assert_eq!(dec::backend::threads::count(), 1);
/// assert!(dec::backend::threads::set(Some(0)).is_err());
/// # Ok::<(), dec::Error>(())
/// ```
pub fn set(requested: Option<usize>) -> Result<usize> {
    let threads = requested.unwrap_or_else(by_default);
    check(threads)?;
    let wanted = threads;
    let threads = wanted.min(limit());
    if requested.is_some() && threads < wanted {
        tracing::warn!(
            "{threads} of the {wanted} threads asked for: OMP_THREAD_LIMIT or OMP_MAX_ACTIVE_LEVELS allows no more"
        );
    }
    if requested.is_some() && threads > available() {
        tracing::warn!("{threads} threads for {} processors get in each other's way", available());
    }
    // SAFETY: sets a variable of the calling thread, which OpenMP makes where there is none yet.
    unsafe { omp_set_dynamic(0) };
    // Setting what is set already is not free: libtorch makes a pool for its quantised operations too.
    if threads != count() {
        tch::set_num_threads(threads as i32); // at most MAX_THREADS
    }
    Ok(threads)
}

/// Whether this is a number of threads that [`set`] takes.
///
/// # Errors
///
/// [`Error::Config`] if it is not from 1 to [`MAX_THREADS`].
pub fn check(threads: usize) -> Result<()> {
    match threads {
        1..=MAX_THREADS => Ok(()),
        _ => Err(refusal(threads)),
    }
}

/// What is said about a number of threads that is none.
pub(crate) fn refusal(found: impl std::fmt::Display) -> Error {
    Error::Config(format!("threads = {found}: must be a number from 1 to {MAX_THREADS}, or \"auto\""))
}

/// The number of threads that libtorch's operations use: what [`set`] set, else libtorch's own default.
///
/// Code that divides work by hand takes as many.
pub fn count() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// The number of threads where nobody asks for one; see [`set`].
pub fn by_default() -> usize {
    default_of(std::env::var("OMP_NUM_THREADS").ok().as_deref())
}

/// The processors that this process may use, by its affinity mask and its cgroup's quota; 1 if that cannot be told.
pub fn available() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The threads that OpenMP gives a parallel loop at most.
fn limit() -> usize {
    // SAFETY: both read a variable of the calling thread, which OpenMP makes where there is none yet.
    let (threads, levels) = unsafe { (omp_get_thread_limit(), omp_get_max_active_levels()) };
    if levels < 1 {
        return 1; // no loop is parallel
    }
    usize::try_from(threads).unwrap_or(1).max(1)
}

/// The number for `None`, given the value of `OMP_NUM_THREADS`: its first number (more are for nested loops, of which
/// there are none here), cut to [`MAX_THREADS`].
fn default_of(omp_num_threads: Option<&str>) -> usize {
    let first = omp_num_threads.and_then(|list| list.split(',').next()?.trim().parse::<usize>().ok());
    first.filter(|&threads| threads > 0).unwrap_or_else(available).min(MAX_THREADS)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The number of threads is the process's: who changes it in a test, or needs it to stay, holds this meanwhile.
    pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
        static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
        LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[test]
    fn openmps_own_variable_is_obeyed_where_it_is_a_number() {
        assert_eq!(default_of(Some("3")), 3);
        assert_eq!(default_of(Some(" 5 ,2")), 5);
        assert_eq!(default_of(Some("100000")), MAX_THREADS);
        for nothing in [None, Some(""), Some("0"), Some("-2"), Some("all")] {
            assert_eq!(default_of(nothing), available(), "{nothing:?}");
        }
    }

    #[test]
    fn the_load_of_the_machine_does_not_change_the_number() {
        extern "C" {
            fn omp_get_dynamic() -> c_int;
        }
        let _alone = alone();
        let before = count();
        // SAFETY: both are about a variable of this thread.
        unsafe { omp_set_dynamic(1) };
        set(Some(before)).unwrap();
        assert_eq!(unsafe { omp_get_dynamic() }, 0);
    }

    #[test]
    fn numbers_that_are_no_number_of_threads_are_refused() {
        for wrong in [0, MAX_THREADS + 1, usize::MAX] {
            let error = set(Some(wrong)).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let message = error.to_string();
            assert!(message.contains(&format!("threads = {wrong}: ")) && message.contains("1 to 1024"), "{message}");
        }
    }
}
