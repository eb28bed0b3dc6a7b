//! Reads a stream of guests: strict, in bounded memory; errors name line and column.

use std::fmt;
use std::io::{self, BufRead};

use super::guest::{Guest, SECOND, Stream};

/// The first line, which says what the columns are.
const HEADER: &str = "arrival,departure,cpus,mib";
/// No line of four numbers is longer.
const LONGEST: usize = 256;
/// 24 bytes each.
const MOST: usize = 10_000_000;
/// A thousand years.
const LAST_SECOND: u64 = 31_557_600_000;

/// Why a text is no stream of guests.
#[derive(Debug)]
pub enum CsvError {
    Read(io::Error),
    /// Line and column from 1, what was wanted, what was found.
    Text {
        line: usize,
        column: usize,
        wanted: String,
        found: String,
    },
}

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_) => write!(f, "cannot be read"),
            Self::Text { line, column, wanted, found } => {
                write!(f, "{line}:{column}: expected {wanted}, found {found}")
            }
        }
    }
}

impl std::error::Error for CsvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Text { .. } => None,
        }
    }
}

/// Reads guests, in any order of arrival.
///
/// Errors: what is not a header and then lines of four numbers; a guest that departs before it
/// arrives; more than ten million guests; no guest.
pub fn read(mut text: impl BufRead) -> Result<Stream, CsvError> {
    let mut guests = Vec::new();
    let mut line = Vec::with_capacity(LONGEST);
    for number in 1.. {
        line.clear();
        let mut limited = io::Read::take(&mut text, LONGEST as u64 + 1);
        if limited.read_until(b'\n', &mut line).map_err(CsvError::Read)? == 0 {
            break;
        }
        let here = Line { number, text: &line };
        if line.len() > LONGEST {
            return Err(here.error(0, format!("a line of at most {LONGEST} bytes"), None));
        }
        let body = line.strip_suffix(b"\n").unwrap_or(&line);
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        let here = Line { number, text: body };
        if number == 1 {
            if body != HEADER.as_bytes() {
                return Err(here.error(0, format!("the header {HEADER}"), None));
            }
            continue;
        }
        if guests.len() == MOST {
            return Err(here.error(0, format!("at most {MOST} guests"), None));
        }
        guests.push(here.guest()?);
    }
    if guests.is_empty() {
        let wanted = format!("the header {HEADER}, and a line for each guest");
        let found = if line.is_empty() { "the end" } else { "no guest" }.to_owned();
        return Err(CsvError::Text { line: 1, column: 1, wanted, found });
    }
    Ok(Stream::new(guests))
}

/// One line of a text, from 1.
struct Line<'a> {
    number: usize,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn error(&self, at: usize, wanted: String, found: Option<&[u8]>) -> CsvError {
        let found = found.unwrap_or(self.text);
        let shown = &found[..found.len().min(40)];
        let more = if found.len() > shown.len() { "..." } else { "" };
        let found = if found.is_empty() {
            "nothing".to_owned()
        } else {
            format!("{:?}{more}", String::from_utf8_lossy(shown))
        };
        CsvError::Text { line: self.number, column: at + 1, wanted, found }
    }

    fn guest(&self) -> Result<Guest, CsvError> {
        let mut fields = Fields { line: self, next: 0, done: false };
        let seconds = "a time in seconds, with at most six decimals";
        let (arrival, departure, cpus, mib) = (
            fields.take(seconds)?,
            fields.take(seconds)?,
            fields.take("CPUs")?,
            fields.take("MiB")?,
        );
        if !fields.done {
            let rest = &self.text[fields.next..];
            return Err(self.error(fields.next, "four columns".to_owned(), Some(rest)));
        }
        let last = LAST_SECOND * SECOND;
        let time = |field: &Field<'a>| {
            let wanted = || format!("{seconds}, at most {LAST_SECOND}");
            self.number(field, 6)
                .filter(|&time| time <= last)
                .ok_or_else(|| self.no(field, wanted()))
        };
        let from = time(&arrival)?;
        let to = time(&departure)?;
        if to <= from {
            let wanted = "a departure after the arrival".to_owned();
            return Err(self.no(&departure, wanted));
        }
        let amount = |field: &Field<'a>, decimals, most, wanted: &str| {
            let read = self.number(field, decimals).filter(|amount| (1..=most).contains(amount));
            let read = read.and_then(|amount| u32::try_from(amount).ok());
            read.ok_or_else(|| self.no(field, wanted.to_owned()))
        };
        let wanted = "CPUs from 0.01 to 1000000, with at most two decimals";
        let cpus = amount(&cpus, 2, 100_000_000, wanted)?;
        let mib = amount(&mib, 0, 1 << 31, "whole MiB from 1 to 2147483648")?;
        Ok(Guest { arrival: from, departure: to, cpus, mib })
    }

    fn no(&self, field: &Field<'_>, wanted: String) -> CsvError {
        self.error(field.at, wanted, Some(field.text))
    }

    /// Returns a decimal number times ten to so many decimals; `None` where it has more of them or
    /// is none.
    fn number(&self, field: &Field<'_>, decimals: u32) -> Option<u64> {
        let mut parts = field.text.splitn(2, |&byte| byte == b'.');
        let (whole, rest) = (parts.next()?, parts.next());
        let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let places = rest.map_or(0, <[u8]>::len);
        let good = digits(whole) && rest.is_none_or(|rest| decimals > 0 && digits(rest));
        if !good || places > decimals as usize {
            return None;
        }
        let mut value = 0u64;
        for digit in whole.iter().chain(rest.unwrap_or_default()) {
            value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        }
        value.checked_mul(10u64.pow(decimals - u32::try_from(places).ok()?))
    }
}

/// A field and where it begins, from 0.
struct Field<'a> {
    at: usize,
    text: &'a [u8],
}

struct Fields<'l, 'a> {
    line: &'l Line<'a>,
    next: usize,
    done: bool,
}

impl<'a> Fields<'_, 'a> {
    fn take(&mut self, wanted: &str) -> Result<Field<'a>, CsvError> {
        let text = self.line.text;
        if self.done {
            let wanted = format!("{wanted}, in four columns");
            return Err(self.line.error(text.len(), wanted, Some(b"")));
        }
        let at = self.next;
        let length = text[at..].iter().position(|&byte| byte == b',');
        self.done = length.is_none();
        let end = length.map_or(text.len(), |length| at + length);
        self.next = end + 1;
        Ok(Field { at, text: &text[at..end] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &str) -> Result<Stream, String> {
        read(lines.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn good_lines_are_guests_in_the_order_of_their_arrival() {
        let stream = told("arrival,departure,cpus,mib\r\n10,11,1,1\n0.5,3600,2.25,4096\n");
        let guest = |arrival, departure, cpus, mib| Guest { arrival, departure, cpus, mib };
        let wanted =
            [guest(500_000, 3_600_000_000, 225, 4096), guest(10_000_000, 11_000_000, 100, 1)];
        assert_eq!(stream.map(|stream| stream.guests().to_vec()), Ok(wanted.to_vec()));
    }

    #[test]
    fn damage_is_told_by_line_and_column() {
        let time = "a time in seconds, with at most six decimals, at most 31557600000";
        let cpus = "CPUs from 0.01 to 1000000, with at most two decimals";
        let mib = "whole MiB from 1 to 2147483648";
        for (line, wanted) in [
            ("", "2:1: expected a time in seconds, with at most six decimals, in four columns, found nothing".to_owned()),
            ("1,2,3", "2:6: expected MiB, in four columns, found nothing".to_owned()),
            ("1,2,3,4,", "2:9: expected four columns, found nothing".to_owned()),
            ("1,2,3,4,5", "2:9: expected four columns, found \"5\"".to_owned()),
            ("x,2,3,4", format!("2:1: expected {time}, found \"x\"")),
            ("1, 2,3,4", format!("2:3: expected {time}, found \" 2\"")),
            ("1,2.1234567,3,4", format!("2:3: expected {time}, found \"2.1234567\"")),
            ("1,99999999999,3,4", format!("2:3: expected {time}, found \"99999999999\"")),
            ("-1,2,3,4", format!("2:1: expected {time}, found \"-1\"")),
            ("2,1,3,4", "2:3: expected a departure after the arrival, found \"1\"".to_owned()),
            ("1,1,3,4", "2:3: expected a departure after the arrival, found \"1\"".to_owned()),
            ("1,2,0,4", format!("2:5: expected {cpus}, found \"0\"")),
            ("1,2,.5,4", format!("2:5: expected {cpus}, found \".5\"")),
            ("1,2,5.,4", format!("2:5: expected {cpus}, found \"5.\"")),
            ("1,2,1.234,4", format!("2:5: expected {cpus}, found \"1.234\"")),
            ("1,2,99999999999999999999,4", format!("2:5: expected {cpus}, found \"99999999999999999999\"")),
            ("1,2,3,4.5", format!("2:7: expected {mib}, found \"4.5\"")),
            ("1,2,3,0", format!("2:7: expected {mib}, found \"0\"")),
            ("1,2,3,", format!("2:7: expected {mib}, found nothing")),
            ("1,2,3,\u{7}", format!("2:7: expected {mib}, found \"\\u{{7}}\"")),
        ] {
            let found = told(&format!("{HEADER}\n{line}\n")).expect_err(line);
            assert_eq!(found, wanted, "{line}");
        }
    }

    #[test]
    fn headers_ends_and_long_lines_are_told_too() {
        let header = format!("the header {HEADER}");
        for (text, wanted) in [
            ("", format!("1:1: expected {header}, and a line for each guest, found the end")),
            (
                "arrival,departure,cpus,mib\n",
                format!("1:1: expected {header}, and a line for each guest, found the end"),
            ),
            ("1,2,3,4\n", format!("1:1: expected {header}, found \"1,2,3,4\"")),
            (
                "\u{feff}arrival,departure,cpus,mib\n",
                format!("1:1: expected {header}, found \"\\u{{feff}}arrival,departure,cpus,mib\""),
            ),
        ] {
            assert_eq!(told(text), Err(wanted), "{text}");
        }
        let long = format!("{HEADER}\n{}", "9".repeat(10_000_000));
        let wanted =
            format!("2:1: expected a line of at most 256 bytes, found {:?}...", "9".repeat(40));
        assert_eq!(told(&long), Err(wanted));
    }
}
