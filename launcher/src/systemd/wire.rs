//! D-Bus on the wire, as much of it as one call and one signal need. Pure.
//!
//! Source: the D-Bus specification, "Type System" and "Message Protocol". Everything is aligned to
//! its size, counted from the start of the message; a body starts at a multiple of 8.

/// The longest message that is taken. Answers that are waited for have some hundred bytes.
pub(super) const LONGEST: usize = 1 << 20;
/// The part of a header that tells how long the rest is.
pub(super) const PROLOGUE: usize = 16;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Return,
    Error,
    Signal,
    Other,
}

/// A method call.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// The signature of `body`.
    pub(super) signature: &'a str,
    pub(super) body: Vec<u8>,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// The number of the call that it answers.
    pub(super) reply_to: Option<u32>,
    pub(super) member: String,
    /// Who sent it, by the name that the bus gave him and nobody else.
    pub(super) sender: String,
    /// The name of an error.
    pub(super) error: String,
    signature: String,
    body: Vec<u8>,
    big_endian: bool,
}

/// Something else than D-Bus: what was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strange(pub(super) &'static str);

/// Writes values one after the other.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn number(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Also the path of an object. Nothing in here has a NUL byte.
    pub(super) fn text(&mut self, value: &str) {
        self.number(length(value.len()));
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    /// At most 255 bytes.
    pub(super) fn signature(&mut self, value: &str) {
        self.bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    /// Begins a structure.
    pub(super) fn structure(&mut self) {
        self.align(8);
    }

    /// An array of values that are aligned to so many bytes.
    pub(super) fn array(&mut self, align: usize, values: impl FnOnce(&mut Self)) {
        self.number(0);
        let at = self.bytes.len() - 4;
        self.align(align);
        let start = self.bytes.len();
        values(self);
        let bytes = length(self.bytes.len() - start).to_le_bytes();
        self.bytes[at..at + 4].copy_from_slice(&bytes);
    }

    pub(super) fn end(self) -> Vec<u8> {
        self.bytes
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Call<'_> {
    /// Returns the call as it is sent.
    pub(super) fn to_bytes(&self, serial: u32) -> Vec<u8> {
        let mut writer = Writer::default();
        // Little-endian, a call, no flags, version 1.
        [b'l', 1, 0, 1].into_iter().for_each(|byte| writer.byte(byte));
        writer.number(length(self.body.len()));
        writer.number(serial);
        writer.array(8, |writer| {
            let texts = [
                (1, "o", self.path),
                (2, "s", self.interface),
                (3, "s", self.member),
                (6, "s", self.destination),
            ];
            for (field, kind, text) in texts {
                writer.structure();
                writer.byte(field);
                writer.signature(kind);
                writer.text(text);
            }
            if !self.signature.is_empty() {
                writer.structure();
                writer.byte(8);
                writer.signature("g");
                writer.signature(self.signature);
            }
        });
        writer.align(8);
        writer.bytes.extend_from_slice(&self.body);
        writer.end()
    }
}

/// Reads values one after the other.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

const CUT: Strange = Strange("a whole message");

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Strange> {
        let end = self.at.checked_add(count).ok_or(CUT)?;
        let taken = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), Strange> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    fn byte(&mut self) -> Result<u8, Strange> {
        self.take(1)?.first().copied().ok_or(CUT)
    }

    fn number(&mut self) -> Result<u32, Strange> {
        self.align(4)?;
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| CUT)?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn string_of(&mut self, length: usize) -> Result<&'a str, Strange> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Strange("text"))?;
        if self.byte()? == 0 { Ok(text) } else { Err(Strange("a text with its end")) }
    }

    fn text(&mut self) -> Result<&'a str, Strange> {
        let length = usize::try_from(self.number()?).map_err(|_| CUT)?;
        self.string_of(length)
    }

    fn signature(&mut self) -> Result<&'a str, Strange> {
        let length = self.byte()?;
        self.string_of(length.into())
    }

    /// Passes a value that nobody asks about.
    fn skip(&mut self, kind: &str) -> Result<(), Strange> {
        match kind {
            "y" => self.byte().map(drop),
            "n" | "q" => self.align(2).and_then(|()| self.take(2)).map(drop),
            "b" | "i" | "u" | "h" => self.number().map(drop),
            "x" | "t" | "d" => self.align(8).and_then(|()| self.take(8)).map(drop),
            "s" | "o" => self.text().map(drop),
            "g" => self.signature().map(drop),
            _ => Err(Strange("a header of plain values")),
        }
    }
}

/// Returns how many bytes a message has of which the [`PROLOGUE`] is known.
pub(super) fn size(prologue: &[u8]) -> Result<usize, Strange> {
    let mut reader = begin(prologue)?;
    let body = reader.number()?;
    let _serial = reader.number()?;
    let fields = reader.number()?;
    let whole = u64::from(fields).next_multiple_of(8) + u64::from(body) + PROLOGUE as u64;
    let whole = usize::try_from(whole).ok().filter(|&whole| whole <= LONGEST);
    whole.ok_or(Strange("a message of at most 1 MiB"))
}

fn begin(bytes: &[u8]) -> Result<Reader<'_>, Strange> {
    let big_endian = match bytes.first() {
        Some(b'l') => false,
        Some(b'B') => true,
        _ => return Err(Strange("a message of D-Bus")),
    };
    if bytes.get(3) != Some(&1) {
        return Err(Strange("version 1 of D-Bus"));
    }
    Ok(Reader { bytes, at: 4, big_endian })
}

impl Message {
    /// Returns how many bytes of it are kept.
    pub(super) fn len(&self) -> usize {
        let texts = [&self.signature, &self.member, &self.error, &self.sender];
        self.body.len() + texts.map(String::len).iter().sum::<usize>()
    }

    /// Reads a whole message.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Strange> {
        let mut reader = begin(bytes)?;
        let big_endian = reader.big_endian;
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => Kind::Other,
        };
        let body = usize::try_from(reader.number()?).map_err(|_| CUT)?;
        let _serial = reader.number()?;
        let fields = usize::try_from(reader.number()?).map_err(|_| CUT)?;
        let end = reader.at.checked_add(fields).ok_or(CUT)?;
        let (mut member, mut sender, mut error, mut signature) = ("", "", "", "");
        let mut reply_to = None;
        while reader.at < end {
            reader.align(8)?;
            let field = reader.byte()?;
            match (field, reader.signature()?) {
                (3, "s") => member = reader.text()?,
                (4, "s") => error = reader.text()?,
                (7, "s") => sender = reader.text()?,
                (5, "u") => reply_to = Some(reader.number()?),
                (8, "g") => signature = reader.signature()?,
                (_, kind) => reader.skip(kind)?,
            }
        }
        reader.align(8)?;
        let body = reader.take(body)?.to_vec();
        Ok(Self {
            kind,
            reply_to,
            member: member.to_owned(),
            sender: sender.to_owned(),
            error: error.to_owned(),
            signature: signature.to_owned(),
            body,
            big_endian,
        })
    }

    /// Returns the texts that a body begins with, passing numbers between them.
    pub(super) fn texts(&self) -> Vec<&str> {
        let mut reader = Reader { bytes: &self.body, at: 0, big_endian: self.big_endian };
        let mut texts = Vec::new();
        for kind in self.signature.chars() {
            let read = match kind {
                's' | 'o' => reader.text().map(|text| texts.push(text)),
                'u' => reader.number().map(drop),
                _ => break,
            };
            if read.is_err() {
                break;
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests;
