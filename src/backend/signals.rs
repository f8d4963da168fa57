//! The signals that stop a run or ask it to save: blocked in every thread, and waited for by one that does nothing else.
//!
//! A handler would run on the stack of whichever thread the kernel picks. oneDNN's products use memory below the stack pointer,
//! where the kernel puts the handler's frame: one SIGINT could corrupt the heap. Threads inherit the mask of the thread that
//! starts them, so [`install`] comes before any other thread is there.
//!
//! | signal | before [`save_first`] | after it |
//! |---|---|---|
//! | SIGINT, SIGTERM, SIGHUP | ends the process at once | the first: [`requested`]; another: ends the process at once |
//! | SIGUSR1 | nothing | [`take_save_request`] |
//!
//! What ends by a signal has the exit code 128 + its number. A signal that is ignored when the process starts (`nohup`, a
//! background job of a shell) stays ignored.
//!
//! Two signals that come together are one request: `timeout` sends its signal to the process and to the process's group. A
//! SIGHUP never counts as another: a closed terminal sends one by way of the shell, and the kernel sends one when the shell ends.
//!
//! Elsewhere than on Unix signals do what the system has them do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGHUP: the terminal was closed.
    Hangup = 1,
    /// SIGINT: Ctrl-C.
    Interrupt = 2,
    /// SIGTERM: `kill`, a scheduler, a container's stop.
    Terminate = 15,
}

impl Stop {
    /// The process's exit code: 128 + the signal's number, as shells have it.
    pub fn exit_code(self) -> u8 {
        128 + self as u8
    }
}

/// Signals that come this soon after the first belong to it. Two Ctrl-C by hand are further apart.
#[cfg(unix)]
const SAME_REQUEST: Duration = Duration::from_millis(50);

/// Enough for a line on the terminal; the default of 2 MiB is for threads that compute.
#[cfg(unix)]
const STACK_BYTES: usize = 256 << 10;

static SAVE_FIRST: AtomicBool = AtomicBool::new(false);
static SAVE_REQUESTED: AtomicBool = AtomicBool::new(false);
static FIRST: OnceLock<(Stop, Instant)> = OnceLock::new();

/// The first signal that asked for an orderly end, if one has come since [`save_first`].
pub fn requested() -> Option<Stop> {
    FIRST.get().map(|first| first.0)
}

/// When that signal came.
pub fn requested_at() -> Option<Instant> {
    FIRST.get().map(|first| first.1)
}

/// From now on there is something to save: the first signal only sets [`requested`], and whoever works asks for it.
pub fn save_first() {
    SAVE_FIRST.store(true, Ordering::SeqCst);
}

/// Whether SIGUSR1 has come since [`save_first`] and the last call.
pub fn take_save_request() -> bool {
    // Asked once a step: reads first, so that the line of memory stays shared.
    SAVE_REQUESTED.load(Ordering::Relaxed) && SAVE_REQUESTED.swap(false, Ordering::SeqCst)
}

/// Takes over the signals. To be called once, while the process has one thread.
///
/// `notice` is called after the first signal that sets [`requested`], on a thread of its own: it may block, as a line for a
/// terminal does that nobody reads.
///
/// # Errors
/// That of the system if it has no thread left; signals are then as they were.
#[cfg(unix)]
pub fn install(notice: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1]
        .into_iter()
        .filter(|&signal| !is_ignored(signal))
        .collect();
    signals.thread_block()?;
    let waiter = std::thread::Builder::new().name("signals".to_owned()).stack_size(STACK_BYTES);
    waiter.spawn(move || wait_for(signals, notice)).map(drop).inspect_err(|_| {
        let _ = signals.thread_unblock();
    })
}

/// Signals stay what they are.
///
/// # Errors
/// None here.
#[cfg(not(unix))]
pub fn install(_: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    Ok(())
}

/// Whether the process ignores a signal.
#[cfg(unix)]
fn is_ignored(signal: nix::sys::signal::Signal) -> bool {
    use nix::libc;
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only fills `now`, which has the type that it wants. A `sigaction` is plain integers
    // and an optional function pointer, so that all zeros are a value too, should the call fail.
    #[allow(unsafe_code)]
    let (failed, now) = unsafe {
        let status = libc::sigaction(signal as libc::c_int, std::ptr::null(), now.as_mut_ptr());
        (status != 0, now.assume_init())
    };
    !failed && now.sa_sigaction == libc::SIG_IGN
}

/// Takes one signal after the other, for as long as the process runs. Nothing here may block but the waiting itself: the
/// second signal is the way out when all else is stuck.
#[cfg(unix)]
fn wait_for(signals: nix::sys::signal::SigSet, notice: impl FnOnce() + Send + 'static) {
    use nix::sys::signal::Signal;
    let mut notice = Some(notice);
    loop {
        let stop = match signals.wait() {
            Ok(Signal::SIGUSR1) => {
                SAVE_REQUESTED.store(SAVE_FIRST.load(Ordering::SeqCst), Ordering::SeqCst);
                continue;
            }
            Ok(Signal::SIGHUP) => Stop::Hangup,
            Ok(Signal::SIGTERM) => Stop::Terminate,
            Ok(_) => Stop::Interrupt,
            Err(_) => continue, // a valid set cannot fail
        };
        if !SAVE_FIRST.load(Ordering::SeqCst) {
            say_interrupted();
            super::exit(stop.exit_code());
        }
        match FIRST.get() {
            None => {
                let _ = FIRST.set((stop, Instant::now())); // no other thread sets it
                if let Some(notice) = notice.take() {
                    // Without a thread there is no line; the flag is what matters.
                    let _ = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(notice);
                }
            }
            Some((_, first)) if stop == Stop::Hangup || first.elapsed() < SAME_REQUEST => {}
            Some(_) => super::exit(stop.exit_code()),
        }
    }
}

/// Says why the process ends, if stderr takes a line at once: a full pipe and a terminal that is stopped do not.
#[cfg(unix)]
fn say_interrupted() {
    use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
    use std::os::fd::AsFd;
    let stderr = std::io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO).is_ok_and(|ready| ready == 1) {
        // Past Rust's lock of stderr, which a thread may hold that is stuck in a write.
        let _ = nix::unistd::write(&stderr, b"interrupted\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        let codes = [Stop::Hangup, Stop::Interrupt, Stop::Terminate].map(Stop::exit_code);
        assert_eq!(codes, [129, 130, 143]);
    }
}
