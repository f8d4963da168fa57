//! Child processes that do not outlive this one.

use std::process::Command;

/// Has the child that `command` starts get SIGTERM when the thread that starts it ends, however that comes about: SIGKILL too.
///
/// A `dec` that is told so saves what it has. Start the child from a thread that lives as long as the process, such as the
/// main one. Linux alone has this; elsewhere the child is left as it is.
pub fn end_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::{parent_id, CommandExt};
        let parent = std::process::id();
        let ask = move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
            // A parent that ended before the call sends no signal.
            if parent_id() == parent {
                Ok(())
            } else {
                Err(std::io::ErrorKind::NotFound.into())
            }
        };
        // SAFETY: the closure runs between fork and exec, where other threads' locks may be held for ever. It makes two system
        // calls, prctl and getppid, which take no locks, allocates nothing, and its errors are plain numbers.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(ask);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
