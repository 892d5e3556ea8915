//! Durations for people: as a file would say them, as an age, and as a latency.
//!
//! Pure. A duration is read by `config::units`, which this round-trips with.

use std::time::Duration;

/// As a file would say it: `250ms`, `90s`, `5m`, in the largest unit that keeps it whole. Below a millisecond is left out.
pub fn exact(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fitting = units.iter().find(|(unit_ms, _)| ms != 0 && ms.is_multiple_of(*unit_ms));
    match fitting {
        Some((unit_ms, unit)) => format!("{}{unit}", ms / unit_ms),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

/// An age: `12m`, in its largest unit, below two of them in the smaller one.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A latency in microseconds: `143 us`, `0.3 ms`, with three digits at most.
pub fn latency(us: f64) -> String {
    match us {
        us if us >= 999_500.0 => format!("{:.1} s", us / 1e6),
        us if us >= 99_950.0 => format!("{:.0} ms", us / 1e3),
        us if us >= 1_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{us:.0} us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let written = [0, 250, 1_000, 90_000, 60_000, 3_600_000, 86_400_000, 32_767_000];
        let expected = ["0s", "250ms", "1s", "90s", "1m", "1h", "24h", "32767s"];
        assert_eq!(written.map(|ms| exact(Duration::from_millis(ms))), expected);
        assert_eq!([0, 119, 120, 7_200, 172_800].map(age), ["0s", "119s", "2m", "2h", "2d"]);
        let latencies = [0.0, 250.4, 1_000.0, 99_900.0, 99_960.0, 150_000.0, 999_600.0, 2_500_000.0];
        let expected = ["0 us", "250 us", "1.0 ms", "99.9 ms", "100 ms", "150 ms", "1.0 s", "2.5 s"];
        assert_eq!(latencies.map(latency), expected);
    }
}
