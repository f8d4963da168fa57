//! The end of the process, without taking libtorch apart first.

/// Ends the process at once with `code`.
///
/// libtorch's static destructors take its thousands of operators out of their tables one by one, about a tenth of a second
/// for nothing: the kernel takes the memory back either way. Nothing of the caller's runs after this either, so buffered
/// output must have been written and values with a `Drop` that matters dropped.
pub fn exit(code: u8) -> ! {
    #[cfg(unix)]
    {
        extern "C" {
            fn _exit(status: std::ffi::c_int) -> !;
        }
        // SAFETY: POSIX's _exit takes any status, touches no memory of ours and does not return.
        #[allow(unsafe_code)]
        unsafe {
            _exit(code.into())
        }
    }
    #[cfg(not(unix))]
    std::process::exit(code.into())
}

/// Ends the process as `kill -9` does: nothing of ours runs any more. For tests of what is on disk then.
pub fn kill_self() -> ! {
    #[cfg(unix)]
    {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
    std::process::abort()
}
