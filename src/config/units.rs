//! How values with units are written: durations `250ms`, `2s`, `5m`, `1h`, `7d`; sizes `64KiB`; rates `500/s`; whole numbers.
//!
//! Pure. Must stay true: one value has one way to be read; nothing is rounded or repaired.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// `30`.
    #[error("has no unit; write `{0}s` for seconds (units: ms, s, m, h, d)")]
    NoUnit(u64),
    /// `1.5s`.
    #[error("is not a whole number of its unit; write it in a smaller one (1500ms, not 1.5s)")]
    Fraction,
    /// `1w`, `2min`, `1h30m`.
    #[error("is not a number and one unit: ms, s, m, h or d")]
    Form,
    /// More than 64 bits of milliseconds.
    #[error("is too long")]
    TooLong,
}

/// Why a text is not a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a whole number written in digits")]
pub struct NumberError;

/// Reads `250ms`, `2s`, `5m`, `1h` or `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::Form);
    }
    if unit.starts_with('.') {
        return Err(DurationError::Fraction);
    }
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    let unit_ms = match unit {
        "" => return Err(DurationError::NoUnit(number)),
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(DurationError::Form),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or(DurationError::TooLong)
}

/// Why a text is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// `65536`.
    #[error("has no unit; write `{0}B` for bytes (units: B, KiB, MiB, GiB)")]
    NoUnit(u64),
    /// `64KB`: nobody knows whether that is 64,000.
    #[error("has a unit of 1,000; sizes are in units of 1,024: KiB, MiB, GiB")]
    Decimal,
    /// `1.5MiB`, `64k`.
    #[error("is not a whole number and one unit: B, KiB, MiB or GiB")]
    Form,
    /// More than 64 bits of bytes.
    #[error("is too large")]
    TooLarge,
}

/// Reads `64KiB`, `4MiB`.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::Form);
    }
    let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
    let shift = match unit {
        "" => return Err(SizeError::NoUnit(number)),
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "kB" | "KB" | "MB" | "GB" => return Err(SizeError::Decimal),
        _ => return Err(SizeError::Form),
    };
    number.checked_mul(1 << shift).ok_or(SizeError::TooLarge)
}

/// The size as a file would say it, in the largest unit that keeps it whole.
pub fn show_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fitting = units.iter().find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    fitting.map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Why a text is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// `500`.
    #[error("has no time; write `{0}/s` for so many a second (times: s, m)")]
    NoTime(u64),
    /// `5/h`, `1.5/s`.
    #[error("is not a whole number, a slash and one of s, m")]
    Form,
}

/// Reads `500/s` or `600/m`: how many, and in which time.
pub fn parse_rate(text: &str) -> Result<(u64, Duration), RateError> {
    let (count, time) = match text.split_once('/') {
        Some((count, time)) => (parse_whole(count), Some(time)),
        None => (parse_whole(text), None),
    };
    let count = count.map_err(|_| RateError::Form)?;
    match time {
        None => Err(RateError::NoTime(count)),
        Some("s") => Ok((count, Duration::from_secs(1))),
        Some("m") => Ok((count, Duration::from_secs(60))),
        Some(_) => Err(RateError::Form),
    }
}

/// Reads digits and nothing else: no sign, no `0x`, no leading zero (which some YAML tools read as octal).
pub fn parse_whole(text: &str) -> Result<u64, NumberError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain {
        return Err(NumberError);
    }
    text.parse().map_err(|_| NumberError)
}

/// The number as a file would say it, long ones in groups a reader can count: 1,000,000.
pub fn show_whole(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.len() > 6 {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::durations::exact;

    #[test]
    fn durations_are_read_as_written() {
        let cases = [
            ("250ms", Ok(250)),
            ("2s", Ok(2_000)),
            ("5m", Ok(300_000)),
            ("1h", Ok(3_600_000)),
            ("0s", Ok(0)),
            ("30", Err(DurationError::NoUnit(30))),
            ("1.5s", Err(DurationError::Fraction)),
            ("1d", Ok(86_400_000)),
            ("1w", Err(DurationError::Form)),
            ("1h30m", Err(DurationError::Form)),
            ("5 m", Err(DurationError::Form)),
            ("5M", Err(DurationError::Form)),
            ("-1s", Err(DurationError::Form)),
            ("", Err(DurationError::Form)),
            ("s", Err(DurationError::Form)),
            ("99999999999999999999h", Err(DurationError::TooLong)),
            ("18446744073709551615h", Err(DurationError::TooLong)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes_and_rates_are_read_as_written() {
        let cases = [
            ("0B", Ok(0)),
            ("64KiB", Ok(65_536)),
            ("4MiB", Ok(4 << 20)),
            ("1GiB", Ok(1 << 30)),
            ("4096", Err(SizeError::NoUnit(4_096))),
            ("64KB", Err(SizeError::Decimal)),
            ("64k", Err(SizeError::Form)),
            ("1.5MiB", Err(SizeError::Form)),
            ("MiB", Err(SizeError::Form)),
            ("", Err(SizeError::Form)),
            ("99999999999999999999B", Err(SizeError::TooLarge)),
            ("99999999999999GiB", Err(SizeError::TooLarge)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), expected, "{text}");
        }
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let cases = [
            ("500/s", Ok((500, second))),
            ("600/m", Ok((600, minute))),
            ("0/s", Ok((0, second))),
            ("500", Err(RateError::NoTime(500))),
            ("5/h", Err(RateError::Form)),
            ("5 /s", Err(RateError::Form)),
            ("1.5/s", Err(RateError::Form)),
            ("/s", Err(RateError::Form)),
            ("5/", Err(RateError::Form)),
            ("", Err(RateError::Form)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_rate(text), expected, "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_digits_alone() {
        assert_eq!(parse_whole("0"), Ok(0));
        assert_eq!(parse_whole("256"), Ok(256));
        for text in ["", "+1", "-1", "01", "0x10", "1_000", "1.0", "1e3", "99999999999999999999", "١"] {
            assert_eq!(parse_whole(text), Err(NumberError), "{text}");
        }
        assert_eq!(show_whole(65535), "65535");
        assert_eq!(show_whole(1_234_567), "1,234,567");
    }

    proptest! {
        #[test]
        fn durations_round_trip(ms in 0..u64::MAX / 2) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&exact(duration)), Ok(duration));
        }

        #[test]
        fn sizes_round_trip(bytes in 0..u64::MAX) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = parse_rate(&text);
            let _ = parse_whole(&text);
        }
    }
}
