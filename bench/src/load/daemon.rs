//! What the server's processes use, read from /proc.

use std::collections::BTreeMap;
use std::fs;

/// CPU time and memory of a set of processes, at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Each living thread's time on a CPU, in nanoseconds. `schedstat` counts it exactly, where
    /// `stat` rounds to ticks of 10 ms.
    threads: BTreeMap<u32, u64>,
    /// Resident memory of its own: heap, stacks, tables.
    pub anonymous_bytes: u64,
    /// Resident shared memory: guests' memory, ledgers, in-flight regions. A guest's page counts
    /// here once the server has touched it.
    pub shared_bytes: u64,
}

impl Usage {
    /// CPU time used since `before`. A thread that has ended meanwhile does not count: its last
    /// moments are lost with it, but not the work of the others.
    pub fn cpu_ns_since(&self, before: &Usage) -> u64 {
        let since = |(thread, ns): (&u32, &u64)| ns.saturating_sub(*before.threads.get(thread).unwrap_or(&0));
        self.threads.iter().map(since).sum()
    }
}

/// Sums over the processes; those that are gone count as nothing.
pub fn usage(pids: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for pid in pids {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let ns = text.split(' ').next().and_then(|ns| ns.parse().ok());
            let thread = task.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(thread), Some(ns)) = (thread, ns) {
                sum.threads.insert(thread, ns);
            }
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        sum.anonymous_bytes += field(&status, "RssAnon:");
        sum.shared_bytes += field(&status, "RssShmem:");
    }
    sum
}

/// A line of `status` such as `RssAnon:      1234 kB`, in bytes.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The machine's clock rate, to give CPU time in cycles; `None` where the kernel does not tell.
pub fn cycles_per_ns() -> Option<f64> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
    line.split(':').nth(1)?.trim().parse::<f64>().ok().map(|mhz| mhz / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cpu_time_grows_and_our_memory_is_seen() {
        let before = usage(&[std::process::id()]);
        let mut sum = 0u64;
        for round in 0..20_000_000u64 {
            sum = std::hint::black_box(sum ^ round);
        }
        std::hint::black_box(sum);
        let after = usage(&[std::process::id()]);
        assert!(after.cpu_ns_since(&before) > 0);
        assert!(after.anonymous_bytes > 0);
    }

    #[test]
    fn a_new_thread_counts_whole_and_an_ended_one_not_at_all() {
        let of =
            |threads: &[(u32, u64)]| Usage { threads: threads.iter().copied().collect(), ..Usage::default() };
        let (before, after) = (of(&[(1, 100), (2, 900)]), of(&[(1, 130), (3, 7)]));
        assert_eq!(after.cpu_ns_since(&before), 37);
        assert_eq!(of(&[(1, 90)]).cpu_ns_since(&before), 0);
    }

    #[test]
    fn a_status_line_is_in_kib() {
        assert_eq!(field("VmRSS:\t 9 kB\nRssAnon:\t   12 kB\n", "RssAnon:"), 12 * 1024);
        assert_eq!(field("", "RssAnon:"), 0);
    }
}
