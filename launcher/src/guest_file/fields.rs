//! The values of a guest file: each is read from a scalar of TOML and checked at once, so that
//! errors carry its place.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use placer_engine::{Bytes, CpuShare, Id, IdSet, Request};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::definition::{parse_list, quoted};
use crate::guest::{MOST_CPUS, Pages};

/// A scalar of TOML that is read as a value of placer's.
pub(super) trait Scalar: Sized {
    /// What is wanted, behind "expected".
    const WANTED: &'static str;
    /// Reads a text.
    fn from_text(text: &str) -> Result<Self, String>;
    /// Reads a number, written as TOML has it.
    fn from_number(number: &str) -> Result<Self, String> {
        Err(format!("expected {}, found the number {number}", Self::WANTED))
    }
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WANTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::from_number(&number.to_string()).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::from_number(&number.to_string()).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        // The shortest text that reads back: 2.5 is "2.5" again.
        T::from_number(&number.to_string()).map_err(E::custom)
    }
}

/// Deserializes a type from a scalar.
macro_rules! scalar {
    ($($({$param:ident: $bound:path})? $type:ty),+ $(,)?) => {$(
        impl<'de $(, $param: $bound)?> Deserialize<'de> for $type
        where
            $type: Scalar,
        {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ScalarVisitor(PhantomData))
            }
        }
    )+};
}

scalar!(Cpus, Memory, PageSize, Parts, Argument, Line, Token, {T: FromStr} Word<T>, {T: Id} List<T>);

fn unexpected(wanted: &str, text: &str) -> String {
    format!("expected {wanted}, found {}", quoted(text))
}

/// CPUs: `4`, `2.5`.
#[derive(Clone, Copy)]
pub(super) struct Cpus(pub(super) CpuShare);

impl Scalar for Cpus {
    const WANTED: &'static str = "CPUs, at least 0.01 and at most 65536, with up to two decimals";

    fn from_text(text: &str) -> Result<Self, String> {
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match text.parse::<Request>() {
            Ok(request)
                if plain
                    && (1..=u64::from(MOST_CPUS) * 100).contains(&request.cpus.hundredths()) =>
            {
                Ok(Self(request.cpus))
            }
            _ => Err(unexpected(Self::WANTED, text)),
        }
    }

    fn from_number(number: &str) -> Result<Self, String> {
        Self::from_text(number)
    }
}

/// Memory as in a request: a bare number of MiB, or with K, M, G, T.
#[derive(Clone, Copy)]
pub(super) struct Memory(pub(super) Bytes);

impl Scalar for Memory {
    const WANTED: &'static str =
        "memory as in 500 (MiB), \"8G\": a whole number above 0 with K, M, G or T";

    fn from_text(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit {
            "K" => 10,
            "M" | "" => 20,
            "G" => 30,
            "T" => 40,
            _ => {
                let meant = unit.chars().next().map(|c| c.to_ascii_uppercase());
                let meant = meant.filter(|c| "KMGT".contains(*c));
                let odd = matches!(
                    &unit.to_ascii_lowercase()[meant.map_or(0, char::len_utf8)..],
                    "" | "b" | "ib"
                );
                let hint = match meant {
                    Some(letter) if odd && digits > 0 => format!("; write \"{number}{letter}\""),
                    _ => String::new(),
                };
                return Err(unexpected(Self::WANTED, text) + &hint);
            }
        };
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
        match bytes {
            Some(bytes) if (1..=Request::MAX_MEMORY.get()).contains(&bytes) => {
                Ok(Self(Bytes::new(bytes)))
            }
            _ => Err(unexpected(Self::WANTED, text)),
        }
    }

    fn from_number(number: &str) -> Result<Self, String> {
        Self::from_text(number)
    }
}

/// A size of huge pages: `2M`, `1G`, or `default`.
pub(super) struct PageSize(pub(super) Pages);

impl Scalar for PageSize {
    const WANTED: &'static str = "a size of huge pages as in \"2M\", \"1G\", or \"default\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self(Pages::HugeDefault));
        }
        let shift = match text.chars().last() {
            Some('K') => 10,
            Some('M') => 20,
            Some('G') => 30,
            _ => return Err(unexpected(Self::WANTED, text)),
        };
        match text[..text.len() - 1].parse::<u64>() {
            // A power of two below 1024, without a sign or zeros before it.
            Ok(n)
                if n.is_power_of_two()
                    && n < 1024
                    && text.starts_with(|c| ('1'..='9').contains(&c)) =>
            {
                Ok(Self(Pages::Huge(Bytes::new(n << shift))))
            }
            _ => Err(unexpected(Self::WANTED, text)),
        }
    }
}

/// Into how many parts something is divided.
#[derive(Clone, Copy)]
pub(super) struct Parts(pub(super) u32);

impl Scalar for Parts {
    const WANTED: &'static str = "a number from 1 to 128";

    fn from_text(text: &str) -> Result<Self, String> {
        Err(unexpected(Self::WANTED, text))
    }

    fn from_number(number: &str) -> Result<Self, String> {
        let read = number.parse().ok().filter(|parts| (1..=128).contains(parts));
        read.map(Self).ok_or_else(|| format!("expected {}, found {number}", Self::WANTED))
    }
}

/// An argument of a program: anything but a NUL byte, which ends arguments.
pub(super) struct Argument(pub(super) String);

impl Scalar for Argument {
    const WANTED: &'static str = "text without NUL bytes";

    fn from_text(text: &str) -> Result<Self, String> {
        match text.contains('\0') {
            true => Err(unexpected(Self::WANTED, text)),
            false => Ok(Self(text.to_owned())),
        }
    }
}

/// Text on one line: a path, a value in another program's configuration.
pub(super) struct Line(pub(super) String);

impl Scalar for Line {
    const WANTED: &'static str = "text that is not empty and has no control characters";

    fn from_text(text: &str) -> Result<Self, String> {
        match text.is_empty() || text.contains(char::is_control) {
            true => Err(unexpected(Self::WANTED, text)),
            false => Ok(Self(text.to_owned())),
        }
    }
}

/// A word that goes into an option of another program as it is.
pub(super) struct Token(pub(super) String);

impl Scalar for Token {
    const WANTED: &'static str = "a word of letters, digits, '.', '-' and '_'";

    fn from_text(text: &str) -> Result<Self, String> {
        match crate::definition::is_token(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(unexpected(Self::WANTED, text)),
        }
    }
}

/// One of the words that an enum has.
#[derive(Default)]
pub(super) struct Word<T>(pub(super) T);

impl<T: FromStr<Err: Display>> Scalar for Word<T> {
    const WANTED: &'static str = "a word";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: T::Err| error.to_string())
    }
}

/// CPUs or nodes.
pub(super) struct List<T>(pub(super) IdSet<T>);

impl<T: Id> Scalar for List<T> {
    const WANTED: &'static str = "a list as in \"0-3,8\", \"1-4,^3\"";

    fn from_text(text: &str) -> Result<Self, String> {
        parse_list(text).map(Self)
    }
}
