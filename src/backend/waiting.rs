//! Threads that wait go to sleep soon.
//!
//! GNU's OpenMP has its threads spin for milliseconds while they wait for work, 300,000 turns, so that on a busy machine they keep others, and
//! each other, from working. Where there are more threads than processors it is a thousand turns. How many processors there are it
//! looks up once, as it is loaded, before `main`. So the program takes itself back to one processor before that ([`narrow`], from its
//! `.preinit_array`, which runs before any library), and has all of them again when `main` begins ([`widen`]). What OpenMP's variables say
//! about waiting (`OMP_WAIT_POLICY`, `GOMP_SPINCOUNT`) is left to do as it says.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, CStr};
use std::sync::OnceLock;

use nix::sched::{sched_getaffinity, sched_setaffinity, CpuSet};
use nix::unistd::Pid;

/// The processors that the program was started on, once it is on one of them.
static ALL: OnceLock<CpuSet> = OnceLock::new();
/// This thread.
const SELF: Pid = Pid::from_raw(0);

/// Has the program run [`narrow`] before its libraries. For a program's main file; [`widen`] has to be the first thing in `main`.
#[macro_export]
macro_rules! sleep_soon {
    () => {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        const _: () = {
            // SAFETY: the loader calls every function in this section once, with what `narrow` takes, before libraries and `main`.
            #[allow(unsafe_code)]
            #[used]
            #[link_section = ".preinit_array"]
            static FIRST: $crate::backend::waiting::First = $crate::backend::waiting::narrow;
        };
    };
}

/// What glibc calls before libraries: with the number of arguments, the arguments, and the environment, which ends with a null.
pub type First = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Takes the program back to one of its processors, unless the environment says how threads wait.
///
/// # Safety
/// `environment` is null or an array of C strings that ends with a null.
pub unsafe extern "C" fn narrow(_: c_int, _: *const *const c_char, environment: *const *const c_char) {
    // SAFETY: as the caller promises.
    if unsafe { says_how_to_wait(environment) } {
        return;
    }
    let Ok(all) = sched_getaffinity(SELF) else { return };
    let has = |cpu: &usize| all.is_set(*cpu).unwrap_or(false);
    let Some(first) = (0..CpuSet::count()).find(has) else { return };
    let mut one = CpuSet::new();
    if one.set(first).is_ok() && sched_setaffinity(SELF, &one).is_ok() {
        let _ = ALL.set(all);
    }
}

/// Gives the program all of its processors again.
pub fn widen() {
    if let Some(all) = ALL.get() {
        if let Err(problem) = sched_setaffinity(SELF, all) {
            tracing::warn!("this program stays on one processor: {problem}");
        }
    }
}

/// Whether a variable of OpenMP's says how long threads spin.
unsafe fn says_how_to_wait(mut environment: *const *const c_char) -> bool {
    if environment.is_null() {
        return true; // it cannot be told
    }
    // SAFETY: the array ends with a null, behind which nothing is read.
    while let Some(line) = unsafe { environment.read().as_ref() } {
        // SAFETY: each is a C string.
        let line = unsafe { CStr::from_ptr(line) }.to_bytes();
        if line.starts_with(b"OMP_WAIT_POLICY=") || line.starts_with(b"GOMP_SPINCOUNT=") {
            return true;
        }
        // SAFETY: this one was not the last.
        environment = unsafe { environment.add(1) };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_to_its_end() {
        let says = |lines: &[&CStr]| {
            let mut array: Vec<*const c_char> = lines.iter().map(|line| line.as_ptr()).collect();
            array.push(std::ptr::null());
            // SAFETY: C strings, and a null behind them.
            unsafe { says_how_to_wait(array.as_ptr()) }
        };
        assert!(!says(&[]) && !says(&[c"PATH=/bin", c"OMP_WAIT_POLIC=", c"X=OMP_WAIT_POLICY="]));
        assert!(says(&[c"PATH=/bin", c"OMP_WAIT_POLICY=active"]) && says(&[c"GOMP_SPINCOUNT=1", c"A=b"]));
    }
}
