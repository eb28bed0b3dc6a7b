//! The value of an option: properties as `key=value,...` or as JSON.

use std::borrow::Cow;

use placer_engine::parse::list::MAX_ID;
use placer_engine::{Bytes, Id, IdSet};
use serde_json::Value;

/// Properties in the order they are written. Of several with one key the last counts, unless a key makes a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties(Vec<(String, String)>);

impl Properties {
    /// Reads the value of an option that takes JSON too. `implied` is as for [`parse`](Self::parse).
    ///
    /// Errors: what begins like JSON and is none.
    pub(super) fn parse_or_json(text: &str, implied: &str) -> Result<Self, String> {
        if !text.starts_with('{') {
            return Ok(Self::parse(text, implied));
        }
        let mut properties = Self::default();
        let json: Value =
            serde_json::from_str(&in_double_quotes(text)).map_err(|e| format!("no JSON: {e}"))?;
        properties.flatten("", &json);
        Ok(properties)
    }

    /// Reads a value. `implied` is the key of a first property that has none.
    pub(super) fn parse(text: &str, implied: &str) -> Self {
        let mut properties = Self::default();
        let mut rest = text;
        let mut first = true;
        while !rest.is_empty() {
            let comma = rest.find(',').unwrap_or(rest.len());
            match rest.find('=').filter(|&equals| equals < comma) {
                Some(equals) => {
                    let (value, after) = value(&rest[equals + 1..]);
                    properties.push(&rest[..equals], &value);
                    rest = after;
                }
                None if first => {
                    let (value, after) = value(rest);
                    properties.push(implied, &value);
                    rest = after;
                }
                None => {
                    let word = &rest[..comma];
                    match word.strip_prefix("no") {
                        Some(key) if !key.is_empty() => properties.push(key, "off"),
                        _ => properties.push(word, "on"),
                    }
                    rest = rest.get(comma + 1..).unwrap_or_default();
                }
            }
            first = false;
        }
        properties
    }

    fn flatten(&mut self, key: &str, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    let dot = if key.is_empty() { "" } else { "." };
                    self.flatten(&format!("{key}{dot}{name}"), value);
                }
            }
            // A list that is empty is said all the same.
            Value::Array(items) if items.is_empty() => self.push(key, ""),
            Value::Array(items) => items.iter().for_each(|item| self.flatten(key, item)),
            Value::String(text) => self.push(key, text),
            Value::Bool(yes) => self.push(key, if *yes { "on" } else { "off" }),
            Value::Number(number) => self.push(key, &number.to_string()),
            Value::Null => {}
        }
    }

    pub(super) fn push(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), value.to_owned()));
    }

    /// Adds what a later option of the same name says.
    pub(super) fn merge(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns the value that counts.
    pub(super) fn last(&self, key: &str) -> Option<&str> {
        self.list(key).last()
    }

    /// Returns all values of a key that makes a list.
    pub(super) fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        self.all().filter(move |(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Returns whether a property is on.
    pub(super) fn is_on(&self, key: &str) -> bool {
        self.last(key).is_some_and(|value| matches!(value, "on" | "yes" | "true" | "y"))
    }
}

/// Returns a value up to its comma, doubled ones taken for one, and what follows.
fn value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let Some((before, after)) = rest.split_once(',') else {
            value.push_str(rest);
            return (value, "");
        };
        value.push_str(before);
        match after.strip_prefix(',') {
            Some(after) => {
                value.push(',');
                rest = after;
            }
            None => return (value, after),
        }
    }
}

/// Returns QEMU's JSON, whose strings may be in single quotes, as everybody else's.
fn in_double_quotes(text: &str) -> Cow<'_, str> {
    if !text.contains('\'') {
        return Cow::Borrowed(text);
    }
    let mut json = String::with_capacity(text.len());
    let mut inside = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (inside, c) {
            (None, '"' | '\'') => {
                inside = Some(c);
                json.push('"');
            }
            (Some(quote), _) if c == quote => {
                inside = None;
                json.push('"');
            }
            (Some('\''), '"') => json.push_str("\\\""),
            // JSON itself has no such escape.
            (Some(_), '\\') => match rest.next() {
                Some('\'') => json.push('\''),
                escaped => json.extend(['\\'].into_iter().chain(escaped)),
            },
            _ => json.push(c),
        }
    }
    Cow::Owned(json)
}

/// Reads a number: decimal, octal behind a `0`, hexadecimal behind `0x`.
pub(super) fn number(text: &str) -> Result<u32, String> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // A sign is no part of a number.
    let plain = digits.starts_with(|first: char| first.is_ascii_hexdigit());
    let read = u32::from_str_radix(digits, radix).ok().filter(|_| plain);
    read.ok_or_else(|| format!("expected a number, found {text:?}"))
}

/// Reads a number or a range of numbers, of CPUs or nodes.
pub(super) fn range<T: Id>(text: &str) -> Result<IdSet<T>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last || last > MAX_ID {
        return Err(format!("expected a range that ascends up to {MAX_ID}, found {text:?}"));
    }
    let mut ids = IdSet::new();
    ids.insert_range(T::from_number(first), T::from_number(last));
    Ok(ids)
}

/// Reads a size: a number, maybe with a fraction, and a suffix from B to E; `unit` bytes without one.
pub(super) fn size(text: &str, unit: u64) -> Result<Bytes, String> {
    let bad = || format!("expected a size such as 4G, found {text:?}");
    let text = text.strip_prefix('+').unwrap_or(text);
    if text.starts_with("0x") || text.starts_with("0X") {
        let bytes = u64::from_str_radix(&text[2..], 16).map_err(|_| bad())?;
        return bytes.checked_mul(unit).map(Bytes::new).ok_or_else(bad);
    }
    let suffix = text.chars().last().filter(char::is_ascii_alphabetic);
    let digits = &text[..text.len() - suffix.map_or(0, char::len_utf8)];
    let unit = match suffix {
        None => unit,
        Some(suffix) => {
            let power = "BKMGTPE".find(suffix.to_ascii_uppercase()).ok_or_else(bad)?;
            1_u64 << (10 * power)
        }
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > 18 {
        return Err(bad());
    }
    if !fraction.is_empty() && suffix.is_none() {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let mut bytes = u128::from(whole) * u128::from(unit);
    if !fraction.is_empty() {
        let part: u128 = fraction.parse().map_err(|_| bad())?;
        let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(18));
        bytes += part * u128::from(unit) / scale;
    }
    u64::try_from(bytes).map(Bytes::new).map_err(|_| bad())
}
