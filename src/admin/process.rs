//! Process metrics, `process_*`: what the kernel says of this process, as every dashboard knows it.

use super::openmetrics::OpenMetrics;
use crate::sys::rlimits::{self, Usage};

/// Adds the families; those the kernel does not tell are left out.
pub(super) fn add(out: &mut OpenMetrics) {
    let Usage { cpu_seconds, resident_bytes, open_files, open_files_max, started_s } = rlimits::usage();
    if let Some(seconds) = cpu_seconds {
        out.counter("process_cpu_seconds", "CPU time, user and system.");
        out.sample("process_cpu_seconds_total", &[], seconds);
    }
    if let Some(bytes) = resident_bytes {
        out.gauge("process_resident_memory_bytes", "Memory in RAM.");
        out.sample("process_resident_memory_bytes", &[], bytes);
    }
    if let Some(files) = open_files {
        out.gauge("process_open_fds", "Open file descriptors.");
        out.sample("process_open_fds", &[], files);
    }
    if let Some(files) = open_files_max {
        out.gauge("process_max_fds", "How many may be open.");
        out.sample("process_max_fds", &[], files);
    }
    if let Some(seconds) = started_s {
        out.gauge("process_start_time_seconds", "When the process started, since 1970.");
        out.sample("process_start_time_seconds", &[], seconds);
    }
}
