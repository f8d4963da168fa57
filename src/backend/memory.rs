//! How much memory the process has used, and how much more it may use.

use std::path::Path;

/// The most memory that this process has had resident at any one time, in bytes.
///
/// Read from `VmHWM` in `/proc/self/status`; `None` where there is no such file (not Linux). Memory of a GPU does not
/// count.
pub fn peak_memory_bytes() -> Option<u64> {
    kib_of(&read("/proc/self/status")?, "VmHWM")
}

/// How many more bytes this process can use; `None` where that cannot be told (not Linux).
///
/// The least of what the machine has (free memory and swap, and what it keeps only until others need it), what the cgroups
/// that the process is in leave it, and what `ulimit -v` and `ulimit -d` do. Others may take it in the meantime.
pub fn available_bytes() -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|meminfo| of_machine(&meminfo));
    let cgroups = read("/proc/self/cgroup").and_then(|cgroups| of_cgroups(&cgroups, Path::new("/sys/fs/cgroup")));
    let limits = match (read("/proc/self/limits"), read("/proc/self/status")) {
        (Some(limits), Some(status)) => of_limits(&limits, &status),
        _ => None,
    };
    [machine, cgroups, limits].into_iter().flatten().min()
}

/// "3.4 GB", for messages; powers of 1,000.
pub fn human(bytes: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let bytes_f = bytes as f64;
    match units.into_iter().find(|(_, unit)| bytes_f >= *unit) {
        Some((name, unit)) if bytes_f < 10.0 * unit => format!("{:.1} {name}", bytes_f / unit),
        Some((name, unit)) => format!("{:.0} {name}", bytes_f / unit),
        None => format!("{bytes} bytes"),
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The value of `key` in a text of the kernel's, "key:  1234 kB" a line, in bytes; its kB are KiB.
fn kib_of(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What a `/proc/meminfo` says can be used without others being harmed, swap included.
fn of_machine(meminfo: &str) -> Option<u64> {
    let swap = kib_of(meminfo, "SwapFree").unwrap_or(0);
    Some(kib_of(meminfo, "MemAvailable")?.saturating_add(swap))
}

/// What the cgroups in a `/proc/self/cgroup` leave, whose files are under `root`: those of version 2 in the paths of the
/// line "0::", those of version 1 in those of the line "…:memory:". The limit of a group above counts too.
fn of_cgroups(cgroups: &str, root: &Path) -> Option<u64> {
    let mut least = None;
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (tops, files): (&[&str], _) = if number == "0" && controllers.is_empty() {
            (&["", "unified"], VERSION_2)
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (&["memory"], VERSION_1)
        } else {
            continue;
        };
        for top in tops.iter().map(|top| root.join(top)) {
            // In a container the path may be that of the host, where only the top is to be seen.
            for group in Path::new(path.trim_start_matches('/')).ancestors() {
                let dir = top.join(group);
                let text = |name: &str| read(dir.join(name));
                let (Some(limit), Some(used)) = (text(files.limit), text(files.usage)) else { continue };
                let left = of_cgroup(&limit, &used, &text("memory.stat").unwrap_or_default(), files.cached);
                least = [least, left].into_iter().flatten().min();
            }
        }
    }
    least
}

/// The names of a cgroup's files.
#[derive(Clone, Copy)]
struct CgroupFiles {
    limit: &'static str,
    usage: &'static str,
    /// Keys in `memory.stat` of what is given back when the limit is reached: the cache of files.
    cached: [&'static str; 2],
}

const VERSION_2: CgroupFiles =
    CgroupFiles { limit: "memory.max", usage: "memory.current", cached: ["inactive_file", "active_file"] };
const VERSION_1: CgroupFiles = CgroupFiles {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
};

/// What one cgroup leaves, from the texts of its files; `None` without a limit.
fn of_cgroup(limit: &str, usage: &str, stat: &str, cached: [&str; 2]) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?; // "max" is none
    let usage: u64 = usage.trim().parse().ok()?;
    let of = |key: &str| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok()).unwrap_or(0);
    let held = usage.saturating_sub(cached.iter().map(|key| of(key)).sum());
    Some(limit.saturating_sub(held))
}

/// What the soft limits in a `/proc/self/limits` leave of address space and data, given a `/proc/self/status`; `None`
/// without a limit.
fn of_limits(limits: &str, status: &str) -> Option<u64> {
    let left = |name: &str, key: &str| {
        let soft = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
        let limit: u64 = soft.parse().ok()?; // "unlimited" is none
        Some(limit.saturating_sub(kib_of(status, key)?))
    };
    [left("Max address space", "VmSize"), left("Max data size", "VmData")].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_read_and_no_other() {
        let status = "Name:\tdec\nVmPeak:\t  999999 kB\nVmHWM:\t   12345 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(kib_of(status, "VmHWM"), Some(12_345 * 1024));
        assert_eq!(kib_of(status, "Vm"), None);
        assert_eq!(kib_of("Name:\tdec\n", "VmHWM"), None);
        assert_eq!(kib_of("VmHWM:\tmany kB\n", "VmHWM"), None);
    }

    #[test]
    fn the_machine_has_what_is_available_and_free_swap() {
        let meminfo =
            "MemTotal:       24638848 kB\nMemFree:          300000 kB\nMemAvailable:    1000 kB\nSwapFree: 24 kB\n";
        assert_eq!(of_machine(meminfo), Some(1024 * 1024));
        assert_eq!(of_machine("MemAvailable: 5 kB\n"), Some(5 * 1024));
        assert_eq!(of_machine("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn a_cgroup_leaves_its_limit_less_what_it_cannot_give_back() {
        let stat = "anon 700\nfile 290\ninactive_file 200\nactive_file 50\ntotal_inactive_file 1\n";
        assert_eq!(of_cgroup("2000\n", "1000\n", stat, VERSION_2.cached), Some(1250));
        assert_eq!(of_cgroup("500\n", "1000\n", stat, VERSION_2.cached), Some(0));
        assert_eq!(of_cgroup("max\n", "1000\n", stat, VERSION_2.cached), None);
        assert_eq!(of_cgroup("2000\n", "1000\n", stat, VERSION_1.cached), Some(1001));
        assert_eq!(of_cgroup("2000\n", "", stat, VERSION_2.cached), None);
    }

    #[test]
    fn the_narrowest_cgroup_above_the_process_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = |path: &str, files: CgroupFiles, limit: &str, usage: &str| {
            let dir = root.path().join(path);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(files.limit), limit).unwrap();
            std::fs::write(dir.join(files.usage), usage).unwrap();
        };
        group("job/step", VERSION_2, "9000\n", "1000\n");
        group("job", VERSION_2, "5000\n", "3000\n");
        group("memory", VERSION_1, "7000\n", "500\n");
        let of = |cgroups: &str| of_cgroups(cgroups, root.path());
        assert_eq!(of("0::/job/step\n"), Some(2000));
        assert_eq!(of("0::/job\n"), Some(2000));
        assert_eq!(of("0::/\n"), None, "the root has no files");
        assert_eq!(
            of("3:cpu,cpuacct:/x\n5:memory:/docker/0a1b\n"),
            Some(6500),
            "of the host's path only the top is here"
        );
        assert_eq!(of("4:memory:/x\n0::/job/step\n"), Some(2000));
        assert_eq!(of("nonsense\n"), None);
    }

    #[test]
    fn limits_of_the_shell_leave_what_is_not_mapped_yet() {
        let status = "VmSize:\t 1000 kB\nVmData:\t 100 kB\n";
        let limits = |space: &str, data: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max data size             {data}            unlimited            bytes     \n\
                 Max address space         {space}            unlimited            bytes     \n"
            )
        };
        assert_eq!(of_limits(&limits("2048000", "unlimited"), status), Some(1_024_000));
        assert_eq!(of_limits(&limits("2048000", "122400"), status), Some(20_000));
        assert_eq!(of_limits(&limits("1000", "unlimited"), status), Some(0));
        assert_eq!(of_limits(&limits("unlimited", "unlimited"), status), None);
        assert_eq!(of_limits("", status), None);
    }

    #[test]
    fn sizes_have_two_digits() {
        let sizes = [0, 999, 1_000, 999_949, 12_345_678, 2_150_000_000, 10_700_000_000, u64::MAX];
        let expected = ["0 bytes", "999 bytes", "1.0 kB", "1000 kB", "12 MB", "2.1 GB", "11 GB", "18446744074 GB"];
        assert_eq!(sizes.map(human), expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn there_is_some_and_what_is_used_shows() {
        let before = peak_memory_bytes().unwrap();
        let block = vec![1u8; 64 << 20];
        let after = peak_memory_bytes().unwrap();
        assert!(block.iter().step_by(4096).all(|&byte| byte == 1));
        // The process has other pages resident besides the block, so the peak is above the block's size at least.
        assert!(after >= before && after > 64 << 20, "before {before}, after {after}");
        assert!(available_bytes().unwrap() > 0);
    }
}
