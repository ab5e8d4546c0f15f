//! What the operating system says about this process, or about another one, read from `/proc`.
//!
//! contract: operations §6.10 (`process_*`), core §6.1 (`metadata`)

use std::{
    fmt::Display,
    fs,
    sync::{LazyLock, Mutex, PoisonError},
    time::Instant,
};

/// Kernel ticks per second in `/proc/self/stat`: a constant of Linux's interface on all architectures we run on.
const TICKS: f64 = 100.0;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One look at the process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time since the start, seconds.
    pub cpu_seconds: f64,
    /// Memory in RAM, bytes.
    pub resident: u64,
    /// Address space, bytes.
    pub mapped: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub open_files: u64,
    /// The limit of open files.
    pub max_files: u64,
}

impl Usage {
    /// Reads it now. What cannot be read is 0.
    pub fn now() -> Self {
        let mut usage = Self::of("self");
        // the directory that was being read was open, too
        usage.open_files = usage.open_files.saturating_sub(1);
        usage
    }

    /// The same of another process, by its number.
    pub fn of(process: impl Display) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
        let status = read("status");
        let kilobytes = |name| number_after(&status, name) * 1024;
        let limits = read("limits");
        let open_files = fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
        Self {
            cpu_seconds: cpu_seconds(&read("stat")),
            resident: kilobytes("VmRSS:"),
            mapped: kilobytes("VmSize:"),
            threads: number_after(&status, "Threads:"),
            open_files: u64::try_from(open_files).unwrap_or_default(),
            max_files: number_after(&limits, "Max open files"),
        }
    }
}

/// The first number behind a name.
fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

/// Fields 14 and 15 of `/proc/self/stat`: user and system ticks. The name in brackets may hold blanks.
fn cpu_seconds(stat: &str) -> f64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<f64>().ok())
        .sum();
    ticks / TICKS
}

/// Memory of the machine, bytes; what the process may use where a container sets a limit.
pub fn memory_limit() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = number_after(&machine, "MemTotal:") * 1024;
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    container.map_or(machine, |limit: u64| limit.min(machine))
}

/// Seconds since the process started (or first asked).
pub fn uptime() -> u64 {
    STARTED.elapsed().as_secs()
}

/// Remembers the start; called once early.
pub fn mark_start() {
    LazyLock::force(&STARTED);
}

/// CPU use since the last call, in percent of one core.
pub fn cpu_percent() -> f64 {
    static LAST: Mutex<Option<(Instant, f64)>> = Mutex::new(None);
    let (now, used) = (Instant::now(), Usage::now().cpu_seconds);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let (since, used_then) = last.replace((now, used)).unwrap_or((*STARTED, 0.0));
    let elapsed = now.duration_since(since).as_secs_f64().max(0.001);
    ((used - used_then).max(0.0) / elapsed * 1000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_files() {
        let usage = Usage::now();
        assert!(
            usage.resident > 1_000_000 && usage.mapped >= usage.resident,
            "{usage:?}"
        );
        assert!(
            usage.open_files >= 3 && usage.max_files > usage.open_files && usage.threads >= 1,
            "{usage:?}"
        );
        assert!(memory_limit() > usage.resident);
    }

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let stat = "1 (a ) b) S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 8 0 100 0 0";
        assert!((cpu_seconds(stat) - 3.0).abs() < f64::EPSILON);
    }
}
