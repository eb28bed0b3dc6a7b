//! Amounts of memory as libvirt writes them.

use placer_engine::{Bytes, Request};

use crate::definition::quoted;

/// Reads a number and its unit (KiB where there is none), rounded up to whole KiB.
///
/// `b`, `byte`, `bytes`; a letter of k, M, G, T, P, E alone or with `iB` is binary, with `B` decimal;
/// small or capital letters alike.
pub(super) fn parse(number: &str, unit: Option<&str>) -> Result<Bytes, String> {
    let scale = scale(unit.unwrap_or("KiB"))?;
    let digits = number.trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("expected a whole number, found {}", quoted(digits)));
    }
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
    match bytes {
        Some(bytes) if bytes <= Request::MAX_MEMORY.get() => {
            Ok(Bytes::new(bytes.div_ceil(1024) * 1024))
        }
        _ => Err(format!("expected at most 2^56 bytes, found {}", quoted(digits))),
    }
}

fn scale(unit: &str) -> Result<u64, String> {
    let lower = unit.to_ascii_lowercase();
    if matches!(lower.as_str(), "b" | "byte" | "bytes") {
        return Ok(1);
    }
    let mut rest = lower.chars();
    let power = rest.next().and_then(|letter| "kmgtpe".find(letter));
    let base: u64 = match rest.as_str() {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => 0,
    };
    match power.and_then(|power| u32::try_from(power).ok()) {
        Some(power) if base > 0 => Ok(base.pow(power + 1)),
        _ => Err(format!(
            "attribute unit: expected bytes, KiB, MiB, GiB, TiB, KB, MB, ...; found {}",
            quoted(unit)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kib(number: &str, unit: Option<&str>) -> Result<u64, String> {
        parse(number, unit).map(Bytes::whole_kib)
    }

    #[test]
    fn units_are_libvirts() {
        for (number, unit, wanted) in [
            ("524288", None, 524_288),
            (" 7\n", Some("KiB"), 7),
            ("1", Some("b"), 1),
            ("1025", Some("bytes"), 2),
            ("1", Some("KB"), 1),
            ("1025", Some("KB"), 1001),
            ("3", Some("k"), 3),
            ("1", Some("MB"), 977),
            ("1", Some("M"), 1024),
            ("2", Some("mib"), 2048),
            ("1", Some("G"), 1 << 20),
            ("1", Some("TiB"), 1 << 30),
            ("0", Some("EB"), 0),
        ] {
            assert_eq!(kib(number, unit), Ok(wanted), "{number} {unit:?}");
        }
    }

    #[test]
    fn others_are_refused() {
        for (number, unit) in [
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("0x10", None),
            ("1", Some("")),
            ("1", Some("KBit")),
            ("1", Some("X")),
            ("1", Some("E")),
            ("99999999999999999999", None),
        ] {
            assert!(kib(number, unit).is_err(), "{number} {unit:?}");
        }
    }
}
