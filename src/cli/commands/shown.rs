//! Numbers and tables as people read them.

use serde_json::Value;

/// The list under a key.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The text under a key, or nothing.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// The whole number under a key, or 0.
pub(crate) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// `12m`: a length of time in its largest unit, below two of them in the smaller one.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `3.4 GB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut size = count as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or("B");
    for next in units {
        if size < 1_000.0 {
            break;
        }
        size /= 1_000.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1_000, 1_550_000, 7_000_000_000_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "1.6 MB", "7000.0 TB"]
        );
        assert_eq!([0, 119, 120, 7_200, 172_800].map(span), ["0s", "119s", "2m", "2h", "2d"]);
    }
}
