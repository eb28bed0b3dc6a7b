//! Durations as people write them: `100ms`, `2s`, `1m`, `1h`, `1d`, `0`.

use std::time::Duration;

/// Reads a whole number with the unit `ms`, `s`, `m` (or `min`), `h` or `d`; zero needs none.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let wanted = || format!("expected a number with ms, s, m, h or d, as in 100ms, found {text:?}");
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        _ => return Err(wanted()),
    };
    number.checked_mul(scale).map(Duration::from_millis).ok_or_else(wanted)
}

/// Reads how long something is held: at most a day, and more than nothing.
pub(crate) fn parse_hold(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    let time = parse(text)?;
    if time.is_zero() || time > LONGEST {
        return Err(format!("expected more than 0 and at most 1d, found {text:?}"));
    }
    Ok(time)
}

/// Reads the same, or zero for no hold.
pub(crate) fn parse_hold_or_zero(text: &str) -> Result<Duration, String> {
    if parse(text)?.is_zero() { Ok(Duration::ZERO) } else { parse_hold(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_or_a_day_can_be_held_and_no_more() {
        for text in ["1h", "24h", "1d", "1440m", "1440min"] {
            assert!(parse_hold(text).is_ok(), "{text}");
        }
        for text in ["25h", "2d", "0h", "0"] {
            assert!(parse_hold(text).is_err(), "{text}");
        }
    }

    #[test]
    fn units_are_asked_for() {
        for (text, ms) in [
            ("0", 0),
            ("100ms", 100),
            ("2s", 2000),
            ("1m", 60_000),
            ("0s", 0),
            ("1min", 60_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "2",
            "s",
            "-1s",
            "1.5s",
            "2 s",
            "99999999999999999999s",
            "2w",
            "1 h",
            "1H",
            "213503982335d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
