//! CPU time of another process, from Linux.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The CPU time that all threads of the process have used, to the nanosecond. Threads that have
/// ended are not in it; Envoy ends none while it serves.
///
/// # Errors
/// When there is no such process, or no Linux that accounts for threads (`/proc/…/schedstat`).
pub(crate) fn used_by(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    sum(Path::new(&tasks)).with_context(|| format!("the CPU time of process {pid} cannot be read"))
}

fn sum(tasks: &Path) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(tasks)? {
        let task = task?.path();
        match fs::read_to_string(task.join("schedstat")) {
            Ok(line) => sum += on_cpu(&line).with_context(|| format!("`{}` is no schedstat", line.trim_end()))?,
            // A thread that has ended since the folder was read, before its file was opened or after.
            Err(_) if !task.exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sum)
}

/// The first of the three numbers: nanoseconds on a CPU.
fn on_cpu(schedstat: &str) -> Option<Duration> {
    let first = schedstat.split_ascii_whitespace().next()?;
    first.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_counts() {
        assert_eq!(on_cpu("1500 20 3\n"), Some(Duration::from_nanos(1500)));
        assert_eq!(on_cpu(""), None);
        assert_eq!(on_cpu("x 1 2"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_of_this_process_shows() {
        let own = std::process::id();
        let before = used_by(own).expect("CPU time");
        // Until it shows: however slow the machine, each turn uses some.
        let mut turns = 0_u64;
        while used_by(own).expect("CPU time") <= before {
            turns += 1;
        }
        assert!(turns < u64::MAX);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = used_by(u32::MAX).expect_err("no such process");
        assert!(error.to_string().contains("4294967295"), "{error}");
    }
}
