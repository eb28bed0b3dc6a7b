//! Frames and messages of a connection with a container runtime. Pure.
//!
//! Two streams share the connection: on one the runtime calls the plugin, on the other the plugin calls the
//! runtime. A frame is a stream's number, a length, and bytes of the stream. A message of ttrpc may lie in several
//! frames, and a frame may have several messages, or a part of one.

use std::fmt;

/// The longest frame that is sent, header included. The runtime reads through a buffer of 4,096 bytes, and drops the
/// connection when a frame has more.
pub const LONGEST_FRAME: usize = 4096;
/// The longest payload of a message, as ttrpc has it.
pub const LONGEST_PAYLOAD: usize = 4 << 20;

const FRAME_HEADER: usize = 8;
const MESSAGE_HEADER: usize = 10;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
/// Room that is made for a message before its bytes are there.
const FIRST_ROOM: usize = 16 << 10;

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The runtime calls, the plugin answers.
    Plugin,
    /// The plugin calls, the runtime answers.
    Runtime,
}

impl Channel {
    fn id(self) -> u32 {
        match self {
            Self::Plugin => 1,
            Self::Runtime => 2,
        }
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtrpcKind {
    Request,
    Response,
    /// Anything else that ttrpc may have: its number.
    Other(u8),
}

impl TtrpcKind {
    fn number(self) -> u8 {
        match self {
            Self::Request => REQUEST,
            Self::Response => RESPONSE,
            Self::Other(number) => number,
        }
    }
}

/// A message of ttrpc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TtrpcMessage {
    pub channel: Channel,
    /// The call that it belongs to.
    pub call: u32,
    pub kind: TtrpcKind,
    pub payload: Vec<u8>,
}

/// A message that is too long to be read or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected a message of at most {LONGEST_PAYLOAD} bytes, found one of {}", self.0)
    }
}

impl std::error::Error for TooLong {}

impl TtrpcMessage {
    /// Returns the message as it is sent, in frames.
    ///
    /// Errors: it is too long.
    pub fn to_frames(&self) -> Result<Vec<u8>, TooLong> {
        let too_long = TooLong(self.payload.len());
        let length = u32::try_from(self.payload.len()).map_err(|_| too_long)?;
        if self.payload.len() > LONGEST_PAYLOAD {
            return Err(too_long);
        }
        let mut message = Vec::with_capacity(MESSAGE_HEADER + self.payload.len());
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&self.call.to_be_bytes());
        message.extend_from_slice(&[self.kind.number(), 0]);
        message.extend_from_slice(&self.payload);
        let mut frames = Vec::with_capacity(message.len() + message.len() / 256 + FRAME_HEADER);
        for part in message.chunks(LONGEST_FRAME - FRAME_HEADER) {
            frames.extend_from_slice(&self.channel.id().to_be_bytes());
            // At most 4,088.
            frames.extend_from_slice(&u32::try_from(part.len()).unwrap_or_default().to_be_bytes());
            frames.extend_from_slice(part);
        }
        Ok(frames)
    }
}

/// Takes bytes as they arrive, and puts messages together.
#[derive(Debug, Default)]
pub struct Incoming {
    header: Vec<u8>,
    /// The frame that is being read: its stream, if it is one of ours, and what is missing of it.
    frame: Option<(Option<Channel>, usize)>,
    plugin: Vec<u8>,
    runtime: Vec<u8>,
}

impl Incoming {
    /// Takes bytes, and adds the messages that are complete with them. Frames of other streams are passed over, as the
    /// runtime does.
    ///
    /// Errors: a message is too long; the connection is of no more use.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        messages: &mut Vec<TtrpcMessage>,
    ) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            let Some((channel, left)) = &mut self.frame else {
                let (head, rest) =
                    bytes.split_at(bytes.len().min(FRAME_HEADER - self.header.len()));
                self.header.extend_from_slice(head);
                bytes = rest;
                self.frame = frame_of(&self.header);
                if self.frame.is_some() {
                    self.header.clear();
                }
                continue;
            };
            let (part, rest) = bytes.split_at(bytes.len().min(*left));
            *left -= part.len();
            bytes = rest;
            let (channel, ended) = (*channel, *left == 0);
            if ended {
                self.frame = None;
            }
            if let Some(channel) = channel {
                let stream = match channel {
                    Channel::Plugin => &mut self.plugin,
                    Channel::Runtime => &mut self.runtime,
                };
                put_together(channel, stream, part, messages)?;
            }
        }
        Ok(())
    }
}

fn frame_of(header: &[u8]) -> Option<(Option<Channel>, usize)> {
    let (id, length) = header.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length.first_chunk::<4>()?)).ok()?;
    let channel = match u32::from_be_bytes(*id) {
        1 => Some(Channel::Plugin),
        2 => Some(Channel::Runtime),
        _ => None,
    };
    Some((channel, length))
}

/// Adds bytes to what there is of a stream, and takes the messages out that are complete.
fn put_together(
    channel: Channel,
    stream: &mut Vec<u8>,
    mut part: &[u8],
    messages: &mut Vec<TtrpcMessage>,
) -> Result<(), TooLong> {
    while !part.is_empty() {
        let needed = match lengths(stream) {
            Some((whole, _)) => whole,
            None => MESSAGE_HEADER,
        };
        let (head, rest) = part.split_at(part.len().min(needed - stream.len()));
        stream.extend_from_slice(head);
        part = rest;
        let Some((whole, payload)) = lengths(stream) else { continue };
        if payload > LONGEST_PAYLOAD {
            return Err(TooLong(payload));
        }
        if stream.len() < whole {
            stream.reserve(FIRST_ROOM.min(whole - stream.len()));
            continue;
        }
        let [_, _, _, _, a, b, c, d, kind, _, ..] = **stream else { continue };
        messages.push(TtrpcMessage {
            channel,
            call: u32::from_be_bytes([a, b, c, d]),
            kind: match kind {
                REQUEST => TtrpcKind::Request,
                RESPONSE => TtrpcKind::Response,
                other => TtrpcKind::Other(other),
            },
            payload: stream.split_off(MESSAGE_HEADER),
        });
        *stream = Vec::new();
    }
    Ok(())
}

/// Returns the length of the message that a stream begins with, and that of its payload, once its header is there.
fn lengths(stream: &[u8]) -> Option<(usize, usize)> {
    let header = stream.first_chunk::<MESSAGE_HEADER>()?;
    let payload = usize::try_from(u32::from_be_bytes(*header.first_chunk::<4>()?)).ok()?;
    Some((payload.saturating_add(MESSAGE_HEADER), payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(bytes: &[u8], step: usize) -> Result<Vec<TtrpcMessage>, TooLong> {
        let (mut incoming, mut messages) = (Incoming::default(), Vec::new());
        for part in bytes.chunks(step.max(1)) {
            incoming.take(part, &mut messages)?;
        }
        Ok(messages)
    }

    fn frame(id: u32, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("short");
        [&id.to_be_bytes()[..], &length.to_be_bytes(), bytes].concat()
    }

    #[test]
    fn a_long_message_goes_in_frames_that_the_runtime_reads() {
        for length in [0, 1, 4077, 4078, 4079, 20_000, LONGEST_PAYLOAD] {
            let payload = vec![7; length];
            let message = TtrpcMessage {
                channel: Channel::Runtime,
                call: 3,
                kind: TtrpcKind::Request,
                payload,
            };
            let frames = message.to_frames().expect("not too long");
            let mut rest = &frames[..];
            while let Some((header, more)) = rest.split_first_chunk::<8>() {
                let part = u32::from_be_bytes(*header.last_chunk::<4>().expect("four"));
                let part = usize::try_from(part).expect("a length");
                assert!((1..=LONGEST_FRAME - 8).contains(&part), "{part}");
                rest = &more[part..];
            }
            assert_eq!(taken(&frames, 65_536), Ok(vec![message]));
        }
        let payload = vec![0; LONGEST_PAYLOAD + 1];
        let message =
            TtrpcMessage { channel: Channel::Plugin, call: 1, kind: TtrpcKind::Response, payload };
        assert_eq!(message.to_frames(), Err(TooLong(LONGEST_PAYLOAD + 1)));
    }

    /// What is announced is not believed: no room is made for it.
    #[test]
    fn a_message_that_is_too_long_ends_the_connection_before_it_is_there() {
        let header = |length: u32| [&length.to_be_bytes()[..], &[0, 0, 0, 1, 1, 0]].concat();
        let most = u32::try_from(LONGEST_PAYLOAD).expect("a length");
        let mut incoming = Incoming::default();
        let mut none = Vec::new();
        assert_eq!(incoming.take(&frame(1, &header(most)), &mut none), Ok(()));
        assert!(incoming.plugin.capacity() <= 2 * FIRST_ROOM && none.is_empty());
        assert_eq!(taken(&frame(2, &header(most + 1)), 3), Err(TooLong(LONGEST_PAYLOAD + 1)));
        assert_eq!(taken(&frame(1, &header(u32::MAX)), 100), Err(TooLong(u32::MAX as usize)));
    }

    #[test]
    fn frames_of_other_streams_are_passed_over() {
        let message = TtrpcMessage {
            channel: Channel::Plugin,
            call: 5,
            kind: TtrpcKind::Other(3),
            payload: b"x".to_vec(),
        };
        let frames = message.to_frames().expect("short");
        let bytes = [frame(0, &[9; 100]), frames, frame(7, &[])].concat();
        assert_eq!(taken(&bytes, 11), Ok(vec![message]));
    }

    fn any_message() -> impl Strategy<Value = TtrpcMessage> {
        let payload = prop::collection::vec(any::<u8>(), 0..9000);
        (any::<bool>(), any::<u32>(), any::<u8>(), payload).prop_map(
            |(plugin, call, kind, payload)| {
                let channel = if plugin { Channel::Plugin } else { Channel::Runtime };
                let kind = match kind {
                    REQUEST => TtrpcKind::Request,
                    RESPONSE => TtrpcKind::Response,
                    other => TtrpcKind::Other(other),
                };
                TtrpcMessage { channel, call, kind, payload }
            },
        )
    }

    proptest! {
        /// Frames of any size, in pieces of any size: what was sent arrives, of each stream in its order.
        #[test]
        fn messages_arrive_however_they_are_cut(
            messages in prop::collection::vec(any_message(), 0..6),
            cuts in prop::collection::vec(1usize..5000, 1..20),
            step in 1usize..3000,
        ) {
            let mut bytes = Vec::new();
            let mut cuts = cuts.iter().cycle();
            // A run of one stream's messages is one sequence of bytes, cut anywhere.
            for run in messages.chunk_by(|a, b| a.channel == b.channel) {
                let mut stream = Vec::new();
                for message in run {
                    let mut rest = &message.to_frames().expect("short")[..];
                    while let Some((_, more)) = rest.split_first_chunk::<4>() {
                        let (length, more) = more.split_first_chunk::<4>().expect("a length");
                        let (part, more) = more.split_at(u32::from_be_bytes(*length) as usize);
                        stream.extend_from_slice(part);
                        rest = more;
                    }
                }
                let mut rest = &stream[..];
                while !rest.is_empty() {
                    let (part, more) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
                    bytes.extend(frame(run[0].channel.id(), part));
                    rest = more;
                }
            }
            prop_assert_eq!(taken(&bytes, step), Ok(messages));
        }

        /// Whatever arrives, no more is kept than one message of each stream.
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..4000), step in 1usize..100) {
            let (mut incoming, mut messages) = (Incoming::default(), Vec::new());
            for part in bytes.chunks(step) {
                if incoming.take(part, &mut messages).is_err() {
                    break;
                }
            }
            let kept = incoming.header.len() + incoming.plugin.len() + incoming.runtime.len();
            prop_assert!(kept <= bytes.len());
        }

        #[test]
        fn short_frames_of_our_streams_are_taken_or_refused(
            frames in prop::collection::vec((0u32..4, prop::collection::vec(0u8..3, 0..40)), 0..60),
            step in 1usize..100,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(id, bytes)| frame(*id, bytes)).collect();
            let _ = taken(&bytes, step);
        }
    }
}
