//! One message of numad's protocol, as it lies in a System V queue: text to value and back.
//!
//! The kernel keeps the type (the receiver's pid) apart. What follows it, in the byte order of the
//! machine:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | pid of the sender |
//! | 8 | 8 | one letter: the option it stands for |
//! | 16 | 8 | first argument, signed |
//! | 24 | 8 | second argument, signed |
//! | 32 | 1 to 96 | text with a NUL byte at its end: empty, or the nodes of an answer |

use std::fmt;

/// What a real numad receives at most. It asks for so many bytes and for ever fails to empty a queue
/// that holds a longer message.
pub(crate) const LONGEST: usize = 128;
/// The text that fits, without its NUL byte.
pub(crate) const LONGEST_TEXT: usize = LONGEST - TEXT - 1;
/// Where the text begins.
const TEXT: usize = 32;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The pid the sender says it has; from 1 to 2^31-1.
    pub(crate) sender: i32,
    /// The option, as in `numad -w`.
    pub(crate) letter: u8,
    /// Its value.
    pub(crate) first: i64,
    /// The second part of its value: MiB of `-w`, the longest interval of `-i`.
    pub(crate) second: i64,
    /// Printable ASCII, at most [`LONGEST_TEXT`] bytes.
    pub(crate) text: String,
}

/// Why bytes are no message of numad's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Too few bytes.
    Short(usize),
    /// More bytes than numad takes.
    Long,
    /// The text does not end where the message does.
    Unterminated,
    /// The text is not printable ASCII.
    Unprintable,
    /// No process has such a pid.
    Sender(i64),
    /// The command is no letter.
    Letter(i64),
}

impl Message {
    /// Returns a message without text.
    pub(crate) fn new(sender: i32, letter: u8, first: i64, second: i64) -> Self {
        Self { sender, letter, first, second, text: String::new() }
    }

    /// Returns the bytes that follow the type. A text that is too long is cut; callers
    /// [fit](super::fit::fit) it before.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let text = self.text.as_bytes();
        let text = &text[..text.len().min(LONGEST_TEXT)];
        let words = [i64::from(self.sender), i64::from(self.letter), self.first, self.second];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend_from_slice(text);
        bytes.push(0);
        bytes
    }

    /// Reads the bytes that follow the type.
    ///
    /// Errors: whatever numad itself would not have sent.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let short = || Malformed::Short(bytes.len());
        if bytes.len() > LONGEST {
            return Err(Malformed::Long);
        }
        let (head, text) = bytes.split_at_checked(TEXT).ok_or_else(short)?;
        let word = |at: usize| -> Result<i64, Malformed> {
            let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(i64::from_ne_bytes).ok_or_else(short)
        };
        let (last, text) = text.split_last().ok_or_else(short)?;
        if *last != 0 {
            return Err(Malformed::Unterminated);
        }
        if !text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(Malformed::Unprintable);
        }
        let (sender, letter) = (word(0)?, word(8)?);
        Ok(Self {
            sender: i32::try_from(sender)
                .ok()
                .filter(|&pid| pid > 0)
                .ok_or(Malformed::Sender(sender))?,
            letter: u8::try_from(letter)
                .ok()
                .filter(u8::is_ascii_alphabetic)
                .ok_or(Malformed::Letter(letter))?,
            first: word(16)?,
            second: word(24)?,
            text: text.iter().copied().map(char::from).collect(),
        })
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(bytes) => write!(f, "it has {bytes} bytes, and numad's at least 33"),
            Self::Long => write!(f, "it has more than {LONGEST} bytes, and no numad takes them"),
            Self::Unterminated => write!(f, "its text has no NUL byte at its end"),
            Self::Unprintable => write!(f, "its text is not printable"),
            Self::Sender(pid) => write!(f, "it names {pid} as its sender, which is not a pid"),
            Self::Letter(code) => write!(f, "its command is {code}, which is not a letter"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: [i64; 4], text: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend_from_slice(text);
        bytes
    }

    #[test]
    fn the_bytes_of_a_real_client() {
        // `numad -w 4:500` of pid 45, as it was received.
        let seen = words([45, 0x77, 400, 500], b"\0");
        assert_eq!(seen.len(), 33);
        let message = Message::new(45, b'w', 400, 500);
        assert_eq!(Message::decode(&seen), Ok(message.clone()));
        assert_eq!(message.encode(), seen);
    }

    #[test]
    fn the_longest_text_fits_and_no_longer_one() {
        let text = "1".repeat(LONGEST_TEXT);
        assert_eq!(text.len(), 95);
        let message = Message { text, ..Message::new(1, b'w', 0, 0) };
        let bytes = message.encode();
        assert_eq!(bytes.len(), LONGEST);
        assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        let longer = Message { text: "1".repeat(96), ..message.clone() };
        assert_eq!(longer.encode(), bytes);
    }

    #[test]
    fn what_numad_would_not_have_sent_is_refused() {
        let good = [45, 0x77, 400, 500];
        let rows: &[(Vec<u8>, Malformed)] = &[
            (vec![], Malformed::Short(0)),
            (vec![7; 31], Malformed::Short(31)),
            (words(good, b""), Malformed::Short(32)),
            (words(good, b"0-1"), Malformed::Unterminated),
            (words(good, &[b'1'; 96]), Malformed::Unterminated),
            (words(good, &[0; 97]), Malformed::Long),
            (vec![0; 8192], Malformed::Long),
            (words(good, b"0\0zz\0"), Malformed::Unprintable),
            (words(good, b"0\n\0"), Malformed::Unprintable),
            (words(good, b"\xff\0"), Malformed::Unprintable),
            (words([0, 0x77, 0, 0], b"\0"), Malformed::Sender(0)),
            (words([-1, 0x77, 0, 0], b"\0"), Malformed::Sender(-1)),
            (words([1 << 31, 0x77, 0, 0], b"\0"), Malformed::Sender(1 << 31)),
            (words([i64::MIN, 0x77, 0, 0], b"\0"), Malformed::Sender(i64::MIN)),
            (words([1, 0, 0, 0], b"\0"), Malformed::Letter(0)),
            (words([1, 0x177, 0, 0], b"\0"), Malformed::Letter(0x177)),
            (words([1, -1, 0, 0], b"\0"), Malformed::Letter(-1)),
        ];
        for (bytes, why) in rows {
            assert_eq!(Message::decode(bytes), Err(*why), "{}", bytes.escape_ascii());
        }
    }

    proptest::proptest! {
        /// Whatever is understood is what numad would have sent, to the byte; all else is refused.
        #[test]
        fn any_bytes_are_a_message_or_refused(
            head in proptest::collection::vec(proptest::num::i64::ANY, 4),
            small in proptest::array::uniform4(-2_i64..130),
            plain in proptest::bool::ANY,
            text in proptest::collection::vec(proptest::num::u8::ANY, 0..110),
            cut in 0_usize..160,
        ) {
            let head = if plain { small } else { [head[0], head[1], head[2], head[3]] };
            let mut bytes = words(head, &text);
            bytes.push(0);
            for bytes in [bytes.as_slice(), &bytes[..cut.min(bytes.len())]] {
                if let Ok(message) = Message::decode(bytes) {
                    proptest::prop_assert_eq!(message.encode(), bytes);
                    proptest::prop_assert!(bytes.len() <= LONGEST && message.sender > 0);
                }
            }
        }
    }
}
