//! How much memory the process has used.

/// The most memory that this process has had resident at any one time, in bytes.
///
/// Read from `VmHWM` in `/proc/self/status`; `None` where there is no such file (not Linux). Memory of a GPU does not
/// count.
pub fn peak_memory_bytes() -> Option<u64> {
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The `VmHWM` of a `/proc/<pid>/status`, in bytes; the kernel writes it in KiB ("kB").
fn high_water_mark(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_the_high_water_mark_only() {
        let status = "Name:\tdec\nVmPeak:\t  999999 kB\nVmHWM:\t   12345 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(high_water_mark(status), Some(12_345 * 1024));
        assert_eq!(high_water_mark("Name:\tdec\n"), None);
        assert_eq!(high_water_mark("VmHWM:\tmany kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn grows_with_what_is_used() {
        let before = peak_memory_bytes().unwrap();
        let block = vec![1u8; 64 << 20];
        let after = peak_memory_bytes().unwrap();
        assert!(block.iter().step_by(4096).all(|&byte| byte == 1));
        // The process has other pages resident besides the block, so the peak is above the block's size at least.
        assert!(after >= before && after > 64 << 20, "before {before}, after {after}");
    }
}
