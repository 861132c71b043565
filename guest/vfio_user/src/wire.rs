//! Heads of messages, and the fields behind them. Nothing is believed here but the layout.

use alloc::vec::Vec;

use crate::fault::Fault;
use crate::numbers::*;

/// The head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub id: u16,
    pub command: u16,
    /// Of the whole message, this head included.
    pub size: u32,
    pub flags: u32,
    pub error: u32,
}

/// Whether the descriptor of a region goes with this reply: it says what may be mapped.
pub fn brings_descriptor(reply: &[u8]) -> bool {
    let Some((head, payload)) = reply.split_first_chunk::<HEADER_LEN>() else { return false };
    let is_region_info = Header::parse(head).is_ok_and(|header| {
        header.is_reply() && header.command == DEVICE_GET_REGION_INFO && header.flags & FLAG_ERROR == 0
    });
    let flags = payload.get(4..8).and_then(|flags| flags.try_into().ok()).map_or(0, u32::from_le_bytes);
    is_region_info && flags & REGION_FLAG_CAPS != 0
}

/// What makes a stream unreadable; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A message that is shorter than its head.
    Size,
    /// Neither a command nor a reply.
    Type,
}

impl Header {
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        let mut reader = Reader(bytes);
        let header = Self {
            id: reader.u16(),
            command: reader.u16(),
            size: reader.u32(),
            flags: reader.u32(),
            error: reader.u32(),
        };
        if header.size < HEADER_LEN as u32 {
            return Err(WireError::Size);
        }
        if !matches!(header.flags & FLAG_TYPE_MASK, TYPE_COMMAND | TYPE_REPLY) {
            return Err(WireError::Type);
        }
        Ok(header)
    }

    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..2].copy_from_slice(&self.id.to_le_bytes());
        out[2..4].copy_from_slice(&self.command.to_le_bytes());
        out[4..8].copy_from_slice(&self.size.to_le_bytes());
        out[8..12].copy_from_slice(&self.flags.to_le_bytes());
        out[12..].copy_from_slice(&self.error.to_le_bytes());
        out
    }

    /// An answer, as if something had been asked.
    pub fn is_reply(&self) -> bool {
        self.flags & FLAG_TYPE_MASK == TYPE_REPLY
    }

    /// Somebody waits for an answer; a message that is posted gets none, whatever becomes of it.
    pub fn wants_reply(&self) -> bool {
        !self.is_reply() && self.flags & FLAG_NO_REPLY == 0
    }

    /// Head and payload.
    pub fn message_len(&self) -> usize {
        self.size as usize
    }

    /// A message that is not looked at as a whole: follow it with an empty payload, and throw away
    /// `session.state.discard` bytes of the stream after its head.
    pub fn is_oversize(&self) -> bool {
        self.message_len() > MESSAGE_MAX
    }

    /// The head of an answer to this message.
    fn reply(&self, payload_len: usize, error: Option<u32>) -> Self {
        Self {
            id: self.id,
            command: self.command,
            size: (HEADER_LEN + payload_len) as u32,
            flags: TYPE_REPLY | if error.is_some() { FLAG_ERROR } else { 0 },
            error: error.unwrap_or(0),
        }
    }
}

/// Appends the head of a successful answer whose payload has this length.
pub(crate) fn put_reply(out: &mut Vec<u8>, to: &Header, payload_len: usize) {
    out.extend(to.reply(payload_len, None).encode());
}

/// Appends the answer that a message failed: a head, and nothing else.
pub(crate) fn put_error(out: &mut Vec<u8>, to: &Header, errno: u32) {
    out.extend(to.reply(0, Some(errno)).encode());
}

/// Reads fields one after the other; what is not there is zero, so lengths are checked before.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Of a payload that has its fixed part, of `least` bytes.
    pub fn of(payload: &'a [u8], least: usize) -> Result<Self, Fault> {
        if payload.len() < least { Err(Fault::Malformed) } else { Ok(Self(payload)) }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let len = N.min(self.0.len());
        out[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        out
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}
