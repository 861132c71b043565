//! From a frame to a receive queue's buffers and completions.

use alloc::vec::Vec;

use crate::bits::{HEAD_MIN, RX_GEN, RxDesc, TYPE_RX, TYPE_RX_LRO, error, rcd};
use crate::headers::{Headers, Network, network_checksum_correct};
use crate::ring::{Commands, Completions, Position};
use crate::rss::Type;
use crate::shared::ReceiveSetup;
use crate::statistics::{self, Statistics};
use frame::{Body, Refused};
use guest_memory::Memory;
use request::{Address, Span, advance};

/// Buffers that one frame may take: 64 KiB in buffers of 2 KiB are 33.
const PIECES_MAX: usize = 64;

/// A frame as the driver is to see it.
pub struct Arriving<'a> {
    /// Its first bytes, without a tag that is stripped.
    pub header: &'a [u8],
    pub body: Body<'a>,
    /// The tag that was stripped.
    pub tag: Option<u16>,
    pub headers: Headers,
    /// The checksum of the fourth layer is right, or need not be looked at. `None`: not known.
    pub checksum: Option<bool>,
    /// Payload of each of the frames that it was made of; 0: it is one.
    pub segment: u16,
    /// How many those are.
    pub segments: u64,
    /// The driver is told of `segments`.
    pub coalesced: bool,
    pub rss: Type,
    pub hash: u32,
    /// Buffers that it may take.
    pub pieces_max: usize,
}

impl Arriving<'_> {
    fn len(&self) -> u64 {
        self.body.len().saturating_add(self.header.len() as u64)
    }
}

/// Numbers that completions have for the rings of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    pub queue: u16,
    pub queues: u16,
}

pub struct Receive {
    pub setup: ReceiveSetup,
    numbers: Numbers,
    rings: [Commands; 2],
    done: Completions,
    pub error: u32,
    hint: u32,
    data_hint: u32,
    spans: Vec<Span>,
    /// Ring number, index and length of each buffer of a frame.
    pieces: Vec<(u8, u16, u32)>,
    /// Frames that are staged.
    pub staged: u32,
    pub statistics: Statistics,
    pub stored: Statistics,
}

impl Receive {
    pub fn new(setup: ReceiveSetup, numbers: Numbers) -> Receive {
        Receive {
            setup,
            numbers,
            rings: setup.rings.map(|place| Commands::new(place, RX_GEN)),
            done: Completions::new(setup.completions),
            error: 0,
            hint: 0,
            data_hint: 0,
            spans: Vec::with_capacity(PIECES_MAX),
            pieces: Vec::with_capacity(PIECES_MAX),
            staged: 0,
            statistics: Statistics::default(),
            stored: Statistics::default(),
        }
    }

    pub fn locate(&mut self, memory: &Memory) -> bool {
        (self.hint, self.data_hint) = (0, 0);
        let [first, second] = &mut self.rings;
        let rings = first.locate(memory) & second.locate(memory);
        self.done.locate(memory) && rings
    }

    pub fn is_dirty(&self) -> bool {
        !self.done.is_empty() || self.staged > 0
    }

    /// Might the next frame's completions not fit into the batch?
    pub fn is_full(&self) -> bool {
        self.done.is_full(PIECES_MAX) && !self.done.is_empty()
    }

    pub fn places(&self) -> [Position; 3] {
        [self.rings[0].at, self.rings[1].at, self.done.at]
    }

    /// Shows what is done; gives the number of frames.
    pub fn publish(&mut self, memory: &Memory) -> u32 {
        self.done.publish(memory);
        core::mem::take(&mut self.staged)
    }

    /// Shows the batch when there is no room for more; the frames are told of with the next `publish`.
    pub fn flush(&mut self, memory: &Memory) {
        self.done.publish(memory);
    }

    /// Goes on where a predecessor stopped. Buffers whose completion the driver did not see are filled
    /// again.
    pub fn recover(&mut self, memory: &Memory, places: [u16; 3]) {
        let mut at = [
            Position::decode(places[0], self.rings[0].size()),
            Position::decode(places[1], self.rings[1].size()),
        ];
        let sizes = [self.rings[0].size(), self.rings[1].size()];
        let queues = u64::from(self.numbers.queues);
        self.staged = 0;
        self.done.at = Position::decode(places[2], self.done.size());
        self.done.recover(memory, |entry| {
            let number = entry >> rcd::QUEUE_SHIFT & 0x3ff;
            let ring = usize::from((queues..2 * queues).contains(&number));
            at[ring] = at[ring].behind(entry as u16 & 0xfff, sizes[ring]);
        });
        [self.rings[0].at, self.rings[1].at] = at;
    }

    /// The next buffer for the beginning of a frame. Those for what follows are passed over, for good:
    /// a ring of nothing else is looked through once.
    #[inline]
    fn head(&mut self) -> Option<(Position, Address, RxDesc)> {
        let ring = &mut self.rings[0];
        for _ in 0..ring.size() {
            let (address, control) = ring.entry(ring.at)?;
            let descriptor = RxDesc(control);
            if !descriptor.is_body() {
                return Some((ring.at, address, descriptor));
            }
            ring.at = ring.at.next(ring.size());
        }
        None
    }

    /// Copies a frame into buffers and stages their completions. A frame that is refused uses none.
    #[inline]
    pub fn deliver(&mut self, memory: &Memory, arriving: &Arriving<'_>) -> Result<u32, Refused> {
        if self.error != 0 {
            return Err(Refused::Broken);
        }
        let len = arriving.len();
        let Some((at, address, descriptor)) = self.head() else {
            self.statistics.add(statistics::RX_OUT_OF_BUFFERS, 1);
            return Err(Refused::NoBuffer);
        };
        if descriptor.kind() || descriptor.len() < HEAD_MIN {
            self.error = if descriptor.kind() { error::DESCRIPTOR_TYPE } else { error::SMALL_BUFFER };
            return Err(Refused::Broken);
        }
        let size = self.rings[0].size();
        let next = at.next(size);
        if len <= u64::from(self.setup.data_bytes) {
            let slot = u64::from(at.index) * u64::from(self.setup.data_bytes);
            // Small: as the completion says, it lies in the data ring, and the buffer is given back.
            let span = memory
                .locate(Address(self.setup.data.wrapping_add(slot)), len as u32, &mut self.data_hint)
                .ok_or(Refused::BadMemory)?;
            write(memory, span, arriving)?;
            self.rings[0].at = next;
            let number = self.numbers.queue + 2 * self.numbers.queues;
            self.stage_one(arriving, number, at.index, len as u32);
        } else if len <= u64::from(descriptor.len()) {
            match memory.locate(address, len as u32, &mut self.hint) {
                Some(span) => write(memory, span, arriving)?,
                None => {
                    self.spans.clear();
                    locate_pieces(memory, address, len as u32, &mut self.hint, &mut self.spans)?;
                    write_pieces(memory, &mut self.spans, arriving)?;
                }
            }
            self.rings[0].at = next;
            self.stage_one(arriving, self.numbers.queue, at.index, len as u32);
        } else {
            self.spread(memory, arriving, len, (at, address, descriptor))?;
        }
        self.count(arriving, len);
        self.staged += 1;
        Ok(len as u32)
    }

    fn count(&mut self, arriving: &Arriving<'_>, len: u64) {
        if arriving.segment != 0 {
            self.statistics.add(statistics::LARGE_PACKETS, 1);
            self.statistics.add(statistics::LARGE_BYTES, len);
        }
        self.statistics.frame(arriving.header, arriving.segments.max(1), len);
    }

    /// A frame over several buffers.
    fn spread(
        &mut self,
        memory: &Memory,
        arriving: &Arriving<'_>,
        len: u64,
        (at, address, head): (Position, Address, RxDesc),
    ) -> Result<(), Refused> {
        let sizes = [self.rings[0].size(), self.rings[1].size()];
        let mut ends = [at.next(sizes[0]), self.rings[1].at];
        self.spans.clear();
        self.pieces.clear();
        self.pieces.push((0, at.index, head.len()));
        locate_pieces(memory, address, head.len(), &mut self.hint, &mut self.spans)?;
        let mut left = len - u64::from(head.len());
        while left > 0 {
            if self.pieces.len() >= arriving.pieces_max.min(PIECES_MAX)
                || self.done.is_full(self.pieces.len() + 1)
            {
                return Err(Refused::BufferTooSmall);
            }
            let body = |ring: usize| {
                let entry = self.rings[ring].entry(ends[ring]);
                entry.filter(|(_, control)| RxDesc(*control).is_body())
            };
            // The first ring has buffers for what follows if a frame of the MTU takes several.
            let (ring, (address, control)) = match (body(0), body(1)) {
                (Some(entry), _) => (0, entry),
                (None, Some(entry)) => (1, entry),
                (None, None) if sizes[1] == 0 && self.rings[0].is_ready(ends[0]) => {
                    return Err(Refused::BufferTooSmall);
                }
                (None, None) => {
                    self.statistics.add(statistics::RX_OUT_OF_BUFFERS, 1);
                    return Err(Refused::NoBuffer);
                }
            };
            let now = left.min(u64::from(RxDesc(control).len())) as u32;
            locate_pieces(memory, address, now, &mut self.hint, &mut self.spans)?;
            self.pieces.push((ring as u8, ends[ring].index, now));
            ends[ring] = ends[ring].next(sizes[ring]);
            left -= u64::from(now);
        }
        write_pieces(memory, &mut self.spans, arriving)?;
        [self.rings[0].at, self.rings[1].at] = ends;

        let last = self.pieces.len() - 1;
        let (first_numbers, control) = describe(arriving);
        for (index, (ring, descriptor, count)) in self.pieces.iter().enumerate() {
            let number = self.numbers.queue + u16::from(*ring) * self.numbers.queues;
            let mut entry =
                [u64::from(*descriptor) | u64::from(number) << rcd::QUEUE_SHIFT, control | u64::from(*count)];
            entry[0] |= first_numbers & rcd::NOT_CALCULATED;
            if index == 0 {
                entry[0] |= rcd::SOP | first_numbers;
                mark_coalesced(arriving, &mut entry);
            }
            if index == last {
                entry[0] |= rcd::EOP;
            }
            self.done.stage(entry);
        }
        Ok(())
    }

    #[inline]
    fn stage_one(&mut self, arriving: &Arriving<'_>, number: u16, descriptor: u16, len: u32) {
        let (first, control) = describe(arriving);
        let mut entry = [
            u64::from(descriptor) | rcd::SOP | rcd::EOP | u64::from(number) << rcd::QUEUE_SHIFT | first,
            control | u64::from(len),
        ];
        mark_coalesced(arriving, &mut entry);
        self.done.stage(entry);
    }
}

/// Hash and its kind; and what all completions of a frame say in their second number.
#[inline]
fn describe(arriving: &Arriving<'_>) -> (u64, u64) {
    let mut first = (arriving.rss as u64) << rcd::RSS_SHIFT | u64::from(arriving.hash) << 32;
    let mut control = TYPE_RX | rcd::FCS_CORRECT;
    if let Some(tci) = arriving.tag {
        control |= rcd::TAG_STRIPPED | u64::from(tci) << rcd::TCI_SHIFT;
    }
    let headers = &arriving.headers;
    control |= match headers.network {
        Network::V4 => rcd::V4,
        Network::V6 => rcd::V6,
        Network::Other => 0,
    };
    if headers.fragment {
        control |= rcd::FRAGMENT;
    }
    if headers.is_tcp() {
        control |= rcd::TCP;
    } else if headers.is_udp() {
        control |= rcd::UDP;
    }
    match arriving.checksum {
        Some(correct) if headers.is_tcp() || headers.is_udp() => {
            if correct {
                control |= rcd::L4_CORRECT;
            }
            if headers.network == Network::V4 && network_checksum_correct(arriving.header, headers) {
                control |= rcd::IP_CORRECT;
            }
        }
        _ => first |= rcd::NOT_CALCULATED,
    }
    (first, control)
}

/// A completion of the other type has numbers of segments where the hash was.
#[inline]
fn mark_coalesced(arriving: &Arriving<'_>, entry: &mut [u64; 2]) {
    if !arriving.coalesced || arriving.segment == 0 {
        return;
    }
    entry[0] = entry[0] & 0xffff_ffff & !(0xf << rcd::RSS_SHIFT) | arriving.segments.min(255) << 32;
    entry[1] = entry[1] & !(0x7f << 56) | TYPE_RX_LRO | u64::from(arriving.segment) << rcd::MSS_SHIFT;
}

/// Into a buffer in one piece.
#[inline]
fn write(memory: &Memory, span: Span, arriving: &Arriving<'_>) -> Result<(), Refused> {
    let body_len = arriving.body.len();
    // `deliver` found the span to be as long as the frame.
    let (front, rest) = span.split_at(arriving.header.len() as u32).ok_or(Refused::BadMemory)?;
    let written = memory.write(front, arriving.header).is_some()
        && (body_len == 0 || arriving.body.copy(memory, &[rest]) == body_len);
    if written { Ok(()) } else { Err(Refused::BadMemory) }
}

fn write_pieces(memory: &Memory, spans: &mut [Span], arriving: &Arriving<'_>) -> Result<(), Refused> {
    let len = arriving.header.len();
    let written = memory.scatter(spans, arriving.header) == len
        && advance(spans, len as u64)
            .is_some_and(|rest| arriving.body.copy(memory, rest) == arriving.body.len());
    if written { Ok(()) } else { Err(Refused::BadMemory) }
}

/// Finds a buffer, which may straddle regions.
fn locate_pieces(
    memory: &Memory,
    address: Address,
    len: u32,
    hint: &mut u32,
    spans: &mut Vec<Span>,
) -> Result<(), Refused> {
    let (mut at, mut left) = (address.0, len);
    while left > 0 {
        let now = match memory.locate(Address(at), left, hint) {
            Some(span) => {
                spans.push(span);
                return Ok(());
            }
            None => memory.contiguous(Address(at)).min(u64::from(left)) as u32,
        };
        let span = memory.locate(Address(at), now, hint).filter(|_| now > 0).ok_or(Refused::BadMemory)?;
        spans.push(span);
        at = at.wrapping_add(u64::from(now));
        left -= now;
    }
    Ok(())
}
