//! Short options read the way GNU `getopt` reads them, over bytes, because arguments need not be
//! UTF-8.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// One thing found on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// An option that takes no value.
    Flag(u8),
    /// An option and its value, attached (`-w4`) or the next argument (`-w 4`), whatever that is.
    Value(u8, &'a [u8]),
    /// A letter that is no option; the second `-` of a long option such as `--help` is one.
    Unknown(u8),
    /// An option whose value is missing because the command line ends here.
    MissingValue(u8),
}

/// An iterator over the options of a command line, in the order in which they stand.
///
/// Operands are passed over, so options may follow them, until an argument `--`; `first_operand`
/// tells the first.
#[derive(Debug)]
pub(crate) struct Getopt<'a> {
    letters: &'a [u8],
    args: std::slice::Iter<'a, OsString>,
    /// The rest of a cluster: `v` and `w4` of `-dvw4` are still to come after `d`.
    cluster: &'a [u8],
    first_operand: Option<&'a [u8]>,
    options_first: bool,
}

impl<'a> Getopt<'a> {
    /// Starts reading `args` (without the program name) for the options `letters`.
    ///
    /// `letters` is in getopt's form: `"dw:"` is a flag `-d` and a `-w` that takes a value. With
    /// `options_first` the first operand ends the options, as glibc has it when the environment has
    /// `POSIXLY_CORRECT`, even empty.
    pub(crate) fn new(letters: &'a str, args: &'a [OsString], options_first: bool) -> Self {
        let letters = letters.as_bytes();
        Self { letters, args: args.iter(), cluster: b"", first_operand: None, options_first }
    }

    /// Returns the first argument that is neither an option nor the value of one; complete once the
    /// options are.
    pub(crate) fn first_operand(&self) -> Option<&'a [u8]> {
        self.first_operand
    }

    /// Moves on to the next argument that holds options and returns its letters; none: the options
    /// are over.
    fn next_cluster(&mut self) -> Option<&'a [u8]> {
        loop {
            let arg = self.args.next()?.as_bytes();
            match arg.strip_prefix(b"-") {
                Some(b"-") => {
                    self.end_options();
                    return None;
                }
                // A lone `-` is an operand: by convention it names standard input.
                Some(cluster) if !cluster.is_empty() => return Some(cluster),
                _ => {
                    self.first_operand.get_or_insert(arg);
                    if self.options_first {
                        self.end_options();
                    }
                }
            }
        }
    }

    /// Takes all that is left as operands.
    fn end_options(&mut self) {
        let next = self.args.next().map(|arg| arg.as_bytes());
        self.first_operand = self.first_operand.or(next);
        self.args = [].iter();
    }

    /// Tells whether the option `letter` takes a value; none: there is no such option.
    fn takes_value(&self, letter: u8) -> Option<bool> {
        let at = self.letters.iter().position(|&known| known == letter && known != b':')?;
        Some(self.letters.get(at + 1) == Some(&b':'))
    }
}

impl<'a> Iterator for Getopt<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.cluster.is_empty() {
            self.cluster = self.next_cluster()?;
        }
        let (&letter, rest) = self.cluster.split_first()?;
        self.cluster = rest;
        Some(match self.takes_value(letter) {
            None => Item::Unknown(letter),
            Some(false) => Item::Flag(letter),
            Some(true) => {
                let attached = Some(std::mem::take(&mut self.cluster)).filter(|v| !v.is_empty());
                let value = attached.or_else(|| self.args.next().map(|arg| arg.as_bytes()));
                value.map_or(Item::MissingValue(letter), |value| Item::Value(letter, value))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Item::{Flag, MissingValue, Unknown, Value};
    use super::*;
    use std::ffi::OsStr;

    type Row = (&'static [&'static [u8]], &'static [Item<'static>], Option<&'static [u8]>);

    fn check(rows: &[Row], options_first: bool) {
        for (args, items, operand) in rows {
            let args: Vec<OsString> = args.iter().map(|a| OsStr::from_bytes(a).into()).collect();
            let mut options = Getopt::new("dvw:", &args, options_first);
            let found: Vec<_> = options.by_ref().collect();
            assert_eq!((&*found, options.first_operand()), (*items, *operand), "{args:?}");
        }
    }

    #[test]
    fn options_and_operands_mix() {
        check(
            &[
                (&[], &[], None),
                (&[b"-d", b"-w", b"4"], &[Flag(b'd'), Value(b'w', b"4")], None),
                (&[b"-dvw4:5"], &[Flag(b'd'), Flag(b'v'), Value(b'w', b"4:5")], None),
                (&[b"-dw", b"4", b"-v"], &[Flag(b'd'), Value(b'w', b"4"), Flag(b'v')], None),
                // A value is taken whatever it looks like.
                (&[b"-w", b"-d"], &[Value(b'w', b"-d")], None),
                (&[b"-w", b"--", b"-d"], &[Value(b'w', b"--"), Flag(b'd')], None),
                (&[b"-w", b"", b"-d"], &[Value(b'w', b""), Flag(b'd')], None),
                (&[b"-w-"], &[Value(b'w', b"-")], None),
                (&[b"-w\xff"], &[Value(b'w', b"\xff")], None),
                (&[b"-w"], &[MissingValue(b'w')], None),
                (&[b"a", b"-dw"], &[Flag(b'd'), MissingValue(b'w')], Some(b"a")),
                (&[b"-z", b"-\xff"], &[Unknown(b'z'), Unknown(b'\xff')], None),
                (&[b"-:"], &[Unknown(b':')], None),
                (&[b"-d-"], &[Flag(b'd'), Unknown(b'-')], None),
                (&[b"---"], &[Unknown(b'-'), Unknown(b'-')], None),
                (&[b"--d"], &[Unknown(b'-'), Flag(b'd')], None),
                (&[b"a", b"-d", b"b"], &[Flag(b'd')], Some(b"a")),
                (&[b"-", b"-d"], &[Flag(b'd')], Some(b"-")),
                (&[b"", b"-d"], &[Flag(b'd')], Some(b"")),
                (&[b"--"], &[], None),
                (&[b"--", b"--"], &[], Some(b"--")),
                (&[b"--", b"-d", b"a"], &[], Some(b"-d")),
                (&[b"a", b"--", b"b", b"-d"], &[], Some(b"a")),
            ],
            false,
        );
    }

    #[test]
    fn the_first_operand_ends_the_options_where_posix_rules() {
        check(
            &[
                (&[b"-d", b"a", b"-v"], &[Flag(b'd')], Some(b"a")),
                (&[b"-", b"-v"], &[], Some(b"-")),
                (&[b"-w", b"a", b"-v"], &[Value(b'w', b"a"), Flag(b'v')], None),
                (&[b"-d", b"--", b"-v"], &[Flag(b'd')], Some(b"-v")),
            ],
            true,
        );
    }
}
