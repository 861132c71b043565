//! An uplink into the host's own network stack: a TAP, one queue a lane.
//!
//! ```text
//!   guest's ring --spans--> send: vnet header + frame --writev--> host's stack (bridge, routes, NIC)
//!   lane's buffer <--read-- vnet header + frame <---------------- host's stack
//! ```
//!
//! Offloads go both ways as they are: a frame may be 64 KiB long and its checksum undone. The kernel
//! makes the only copy on the way out. On the way in a frame lands in a buffer of the queue's own,
//! because its receiver is known only when its first bytes are.
//!
//! The interface lasts as long as one of its queues is open. The keeper has them while the worker is
//! away, so that addresses, routes and bridges that were put on it stay, and frames wait in it.

#![forbid(unsafe_code)]

mod header;
mod speed;

pub use speed::link_mbps;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use guest_memory::Memory;
use host::errno;
use host::tap::{self, HEADER_BYTES, Sent, Tap};
use request::{FrameFacts, Gso, Rewrite, Span};

/// The longest frame that the kernel gives: 64 KiB of segments, Ethernet header and two tags.
const FRAME_MAX_BYTES: usize = (64 << 10) + 14 + 8;
/// Destination, source and type.
const ETHERNET_BYTES: usize = 14;
/// What a tag adds to a frame.
const TAG_BYTES: usize = 4;

/// Why a frame went no further. Each is an operator's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// The interface is down.
    Down,
    /// The queue to the host's stack is full.
    Full,
    /// The host is out of memory.
    NoMemory,
    /// Shorter than an Ethernet header.
    Runt,
    /// In more pieces than the kernel takes.
    TooManyPieces,
    /// A span is not of the sender's memory.
    BadSpan,
    /// The kernel refuses what the header asks for.
    Refused,
    /// Received with a header that means nothing to us.
    BadHeader,
    /// Received, and longer than any frame may be.
    TooLong,
}

impl Drop {
    pub const ALL: [Drop; 9] = [
        Drop::Down,
        Drop::Full,
        Drop::NoMemory,
        Drop::Runt,
        Drop::TooManyPieces,
        Drop::BadSpan,
        Drop::Refused,
        Drop::BadHeader,
        Drop::TooLong,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Drop::Down => "uplink_down",
            Drop::Full => "uplink_full",
            Drop::NoMemory => "uplink_no_memory",
            Drop::Runt => "uplink_runt",
            Drop::TooManyPieces => "uplink_too_many_pieces",
            Drop::BadSpan => "uplink_bad_span",
            Drop::Refused => "uplink_refused",
            Drop::BadHeader => "uplink_bad_header",
            Drop::TooLong => "uplink_too_long",
        }
    }
}

/// What went through one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub received_frames: u64,
    pub received_bytes: u64,
    pub sent_frames: u64,
    pub sent_bytes: u64,
    dropped: [u64; Drop::ALL.len()],
}

impl Counters {
    pub fn dropped(&self, drop: Drop) -> u64 {
        self.dropped[drop as usize]
    }
}

/// One queue of an uplink.
#[derive(Debug)]
pub struct UplinkTap {
    tap: Tap,
    buffer: Box<[u8]>,
    /// Header and first bytes of the frame that is being sent.
    head: Vec<u8>,
    counters: Counters,
    /// The memory of frames that are in no guest's.
    nothing: Arc<Memory>,
}

/// Opens an uplink with one queue for each lane, and brings it up. Returns the interface's name too.
pub fn open(name: &str, queues: u16, mtu: u32) -> io::Result<(Vec<UplinkTap>, String)> {
    let (taps, name) = tap::open(name, queues)?;
    tap::bring_up(&name, mtu)?;
    Ok((taps.into_iter().map(UplinkTap::new).collect(), name))
}

impl UplinkTap {
    fn new(tap: Tap) -> Self {
        let buffer = vec![0; HEADER_BYTES + FRAME_MAX_BYTES + 1].into_boxed_slice();
        Self {
            tap,
            buffer,
            head: Vec::with_capacity(512),
            counters: Counters::default(),
            nothing: Memory::empty(),
        }
    }

    /// A queue that the keeper kept.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        Tap::adopt(fd).map(Self::new)
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn name(&self) -> io::Result<String> {
        self.tap.name()
    }

    /// Whether frames with `Gso::UdpL4` can be sent; those that cannot count as `Refused`.
    pub fn segments_udp(&self) -> bool {
        self.tap.segments_udp()
    }

    /// Hands over the frames that are there, at most `budget`. Returns how many were taken from the
    /// interface: as many as the budget means that there may be more.
    pub fn receive(&mut self, budget: usize, each: &mut dyn FnMut(FrameFacts, &[u8])) -> io::Result<usize> {
        for taken in 0..budget {
            let len = match self.tap.receive(&mut self.buffer) {
                Ok(Some(len)) => len,
                Ok(None) => return Ok(taken),
                // EBADFD: the interface was deleted. What else may come is as lasting.
                Err(error) => return Err(error),
            };
            match self.look(len) {
                Ok(facts) => {
                    let frame = &self.buffer[HEADER_BYTES..len];
                    self.counters.received_frames += 1;
                    self.counters.received_bytes += frame.len() as u64;
                    each(facts, frame);
                }
                Err(drop) => self.counters.dropped[drop as usize] += 1,
            }
        }
        Ok(budget)
    }

    fn look(&self, len: usize) -> Result<FrameFacts, Drop> {
        if len < HEADER_BYTES + ETHERNET_BYTES {
            return Err(Drop::Runt);
        }
        if len >= self.buffer.len() {
            return Err(Drop::TooLong);
        }
        let (header, frame) = self.buffer[..len].split_at(HEADER_BYTES);
        header::decode(header, frame.len()).ok_or(Drop::BadHeader)
    }

    /// Sends a frame, or says why not. Never waits. `header` is the copy of its first bytes that the
    /// switch judged, and what goes out, whatever the guest does to its memory meanwhile; `rest`
    /// follows it.
    pub fn send(
        &mut self,
        facts: FrameFacts,
        header: &[u8],
        memory: &Memory,
        rest: &[Span],
        rewrite: Rewrite,
    ) -> Result<(), Drop> {
        let sent = self.try_send(facts, header, &[], memory, rest, rewrite);
        self.count(sent)
    }

    /// The same of a frame that is not in guest memory: it came by another uplink, or is a segment.
    pub fn send_bytes(
        &mut self,
        facts: FrameFacts,
        header: &[u8],
        rest: &[u8],
        rewrite: Rewrite,
    ) -> Result<(), Drop> {
        let nothing = Arc::clone(&self.nothing);
        let sent = self.try_send(facts, header, rest, &nothing, &[], rewrite);
        self.count(sent)
    }

    fn count(&mut self, sent: Result<u64, Drop>) -> Result<(), Drop> {
        match sent {
            Ok(bytes) => {
                self.counters.sent_frames += 1;
                self.counters.sent_bytes += bytes;
            }
            Err(drop) => self.counters.dropped[drop as usize] += 1,
        }
        sent.map(|_| ())
    }

    fn try_send(
        &mut self,
        facts: FrameFacts,
        header: &[u8],
        bytes: &[u8],
        memory: &Memory,
        spans: &[Span],
        rewrite: Rewrite,
    ) -> Result<u64, Drop> {
        if header.len() < ETHERNET_BYTES {
            return Err(Drop::Runt);
        }
        if facts.gso == Gso::UdpL4 && !self.tap.segments_udp() {
            return Err(Drop::Refused);
        }
        self.head.resize(HEADER_BYTES + header.len() + TAG_BYTES, 0);
        let (vnet, room) = self.head.split_at_mut(HEADER_BYTES);
        let first = rewrite.apply(header, room).ok_or(Drop::Runt)?;
        let total = first as u64 + bytes.len() as u64 + request::total(spans);
        header::encode(facts.after(rewrite), total, vnet);
        self.head.truncate(HEADER_BYTES + first);
        self.head.extend_from_slice(bytes);
        match self.tap.send(&self.head, memory, spans) {
            Sent::Whole => Ok(total),
            Sent::BadSpan => Err(Drop::BadSpan),
            Sent::TooManyPieces => Err(Drop::TooManyPieces),
            Sent::Refused(code) => Err(match code {
                errno::EIO | errno::ENODEV | errno::EBADFD => Drop::Down,
                errno::EAGAIN => Drop::Full,
                errno::ENOMEM | errno::ENOBUFS => Drop::NoMemory,
                errno::EFAULT => Drop::BadSpan,
                _ => Drop::Refused,
            }),
        }
    }
}

impl AsFd for UplinkTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}
