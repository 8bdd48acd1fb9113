//! What a process has used so far, from `/proc` (proc(5)).

use std::{fs, time::Duration};

/// The kernel's clock ticks a second, fixed for user space.
const TICKS: u64 = 100;

/// The resources that a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// User and system time.
    pub cpu: Duration,
    /// The most memory that it ever had resident, in bytes.
    pub peak_memory: u64,
}

/// The use of the process with this id and of its children; nothing if it is gone.
pub fn used(process: u32) -> Used {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let ticks: u64 = stat
        .rsplit_once(')')
        .map(|(_, fields)| {
            fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
        })
        .unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: u64 = peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    let own = Used { cpu: Duration::from_millis(ticks * 1000 / TICKS), peak_memory: kilobytes * 1024 };
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .map(used)
        .fold(own, |sum, child| Used { cpu: sum.cpu + child.cpu, peak_memory: sum.peak_memory + child.peak_memory })
}

/// The use of this process.
pub fn own() -> Used {
    used(std::process::id())
}
