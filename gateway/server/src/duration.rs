//! Spans of time as people write them: `90d`, `12h`, `30m`, `45s`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// Reads a whole number with its unit: `d`, `h`, `m` or `s`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let seconds = UNITS.iter().find_map(|(unit, seconds)| {
        let digits = text.strip_suffix(unit)?;
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(*seconds)
    });
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "a span of time is a whole number and a unit, such as 90d, 12h, 30m or 45s".to_owned())
}

/// Writes a span in the largest unit that divides it: `90d`.
pub fn show(span: Duration) -> String {
    let seconds = span.as_secs();
    let (unit, size) =
        UNITS.iter().find(|(_, size)| seconds >= *size && seconds.is_multiple_of(*size)).unwrap_or(&("s", 1));
    format!("{}{unit}", seconds.checked_div(*size).unwrap_or(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_shown_again() {
        for (text, seconds) in [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("45s", 45), ("0s", 0)] {
            let span = parse(text).unwrap();
            assert_eq!(span, Duration::from_secs(seconds), "{text}");
            assert_eq!(show(span), text);
        }
        assert_eq!(show(Duration::from_secs(90)), "90s");
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in ["", "d", "90", "-1d", "+1d", "1.5h", "1 d", "1w", "1d12h", "18446744073709551615d", "１d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
