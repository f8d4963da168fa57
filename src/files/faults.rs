//! Faults that tests inject where files are written: a kill, or a disk that is full for a while. In release builds there are
//! none.
//!
//! `DEC_TEST_FAULT=kill:N` kills the process (SIGKILL) at its N-th operation on a file; `full:N:M` makes operations N to M − 1
//! fail as on a full disk, `full:N` all from N on.

use std::io;

/// One operation on a file: part of a write, a sync, a rename. Fails, or does not return, where a test asked for that.
pub(crate) fn point() -> io::Result<()> {
    #[cfg(debug_assertions)]
    injected::point()?;
    Ok(())
}

#[cfg(debug_assertions)]
mod injected {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::OnceLock;

    static OPERATIONS: AtomicU64 = AtomicU64::new(0);
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();

    #[derive(Debug, Clone, Copy)]
    enum Fault {
        Kill(u64),
        Full(u64, u64),
    }

    fn parse(text: &str) -> Option<Fault> {
        let mut words = text.split(':');
        let kind = words.next()?;
        let from = words.next()?.parse().ok()?;
        let until = words.next().map_or(Some(u64::MAX), |word| word.parse().ok())?;
        match kind {
            "kill" => Some(Fault::Kill(from)),
            "full" => Some(Fault::Full(from, until)),
            _ => None,
        }
    }

    pub(crate) fn point() -> io::Result<()> {
        let fault = FAULT.get_or_init(|| parse(&std::env::var("DEC_TEST_FAULT").ok()?));
        let Some(fault) = fault else { return Ok(()) };
        let operation = OPERATIONS.fetch_add(1, Ordering::Relaxed);
        match *fault {
            Fault::Kill(at) if operation == at => crate::backend::kill_self(),
            Fault::Full(from, until) if (from..until).contains(&operation) => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "No space left on device (a test's)"))
            }
            _ => Ok(()),
        }
    }
}
