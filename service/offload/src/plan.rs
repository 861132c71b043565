use crate::headers::{Fault, HEADER_MAX, Headers, checksum_place};
use crate::sum::Sum;
use core::ops::Range;
use request::{CHECKSUM_NONE, FrameFacts, Gso};

/// Frames that one may become. TCP's smallest segment on Linux, 88 bytes, makes 745 of 64 KiB; a
/// guest that asks for one-byte segments would make 65,536 and 54 times the bytes.
pub const SEGMENTS_MAX: u32 = 1024;

const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// What becomes of a frame, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Frames that it stands for; 1 without segmentation.
    pub segments: u32,
    /// Bytes of the largest of them.
    pub largest: u32,
}

#[derive(Clone, Copy)]
enum Work {
    Nothing,
    /// Sum from `start`, store at `place`.
    Checksum {
        start: usize,
        place: usize,
    },
    Segment(Headers),
}

/// Checks the sender's claims. `header`: the frame's first bytes, as many as there are up to
/// `HEADER_MAX` (for a frame without segmentation the first 64 do, if its checksum lies there);
/// `total`: bytes of the whole frame.
#[inline]
pub fn measure(header: &[u8], facts: &FrameFacts, total: u32) -> Result<Measure, Fault> {
    if facts.gso == Gso::None {
        checksum_place(facts, header.len(), total)?;
        return Ok(Measure { segments: 1, largest: total });
    }
    let (_, headers, segment, count) = examine(header, facts, total)?;
    Ok(Measure { segments: count, largest: headers as u32 + segment })
}

/// The work to do, the length of the headers, the payload of a segment, and their number.
fn examine(header: &[u8], facts: &FrameFacts, total: u32) -> Result<(Work, usize, u32, u32), Fault> {
    let header = &header[..header.len().min(HEADER_MAX).min(total as usize)];
    let place = checksum_place(facts, header.len(), total)?;
    // The header is cut to the total.
    let all = total - header.len() as u32;
    let headers = match (facts.gso, place) {
        (Gso::None, None) => return Ok((Work::Nothing, header.len(), all, 1)),
        (Gso::None, Some(place)) => {
            let start = usize::from(facts.checksum_start);
            return Ok((Work::Checksum { start, place }, header.len(), all, 1));
        }
        (Gso::Udp, _) => return Err(Fault::Unsupported),
        (gso, _) => Headers::parse(header, gso)?,
    };
    let expected = headers.transport + if headers.tcp { 16 } else { 6 };
    if place != Some(expected) || usize::from(facts.checksum_start) != headers.transport {
        return Err(Fault::ChecksumMissing);
    }
    if facts.segment == 0 {
        return Err(Fault::SegmentZero);
    }
    let payload = total - headers.len as u32;
    let segment = u32::from(facts.segment).min(payload);
    // Headers alone are one frame.
    let count = if segment == 0 { 1 } else { payload.div_ceil(segment) };
    let packet = segment as usize + headers.len - headers.network;
    if count > SEGMENTS_MAX || packet > usize::from(u16::MAX) {
        return Err(Fault::SegmentCount);
    }
    Ok((Work::Segment(headers), headers.len, segment, count))
}

/// How a frame becomes what its receiver can take.
#[derive(Clone)]
pub struct Plan {
    header: [u8; HEADER_MAX],
    header_len: usize,
    /// Bytes behind the header.
    payload: u32,
    /// Payload bytes of each frame; all of it without segmentation.
    segment: u32,
    count: u32,
    work: Work,
}

/// One frame that goes out: its headers, and which bytes of the original follow them.
#[derive(Clone)]
pub struct Segment {
    header: [u8; HEADER_MAX],
    header_len: usize,
    payload: Range<u32>,
    /// Sum of what the checksum covers up to the payload.
    sum: Sum,
    /// Sum of the pseudo header, which goes into the field when the rest is left to the receiver.
    pseudo: u16,
    start: usize,
    place: Option<usize>,
}

impl Plan {
    /// Checks the claims, as [`measure`] does.
    pub fn new(header: &[u8], facts: &FrameFacts, total: u32) -> Result<Plan, Fault> {
        let (work, header_len, segment, count) = examine(header, facts, total)?;
        let mut copy = [0; HEADER_MAX];
        copy[..header_len].copy_from_slice(&header[..header_len]);
        let payload = total - header_len as u32;
        Ok(Plan { header: copy, header_len, payload, segment, count, work })
    }

    /// Frames that go out.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the largest of them.
    pub fn largest(&self) -> u32 {
        self.header_len as u32 + self.segment
    }

    /// Number `index` of `count`.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn segment(&self, index: u32) -> Segment {
        assert!(index < self.count, "segment {index} of {}", self.count);
        let from = index * self.segment;
        let to = (from + self.segment).min(self.payload);
        let behind = self.header_len as u32;
        let mut segment = Segment {
            header: self.header,
            header_len: self.header_len,
            payload: behind + from..behind + to,
            sum: Sum::new(),
            pseudo: 0,
            start: 0,
            place: None,
        };
        match self.work {
            Work::Nothing => {}
            Work::Checksum { start, place } => {
                segment.start = start;
                segment.place = Some(place);
                // The field holds the sum of the pseudo header already, and is summed with the rest.
                segment.pseudo = u16::from_be_bytes([self.header[place], self.header[place + 1]]);
                segment.sum.add(&self.header[start..self.header_len]);
            }
            Work::Segment(headers) => segment.patch(headers, index, from, to - from, index + 1 == self.count),
        }
        segment
    }
}

impl Segment {
    fn patch(&mut self, headers: Headers, index: u32, from: u32, payload: u32, last: bool) {
        let Headers { network, transport, len, v6, tcp } = headers;
        let store = |header: &mut [u8; HEADER_MAX], at: usize, value: u16| {
            header[at..at + 2].copy_from_slice(&value.to_be_bytes());
        };
        let header = &mut self.header;
        // `Plan::new` checked that the packet fits 16 bits.
        let transport_len = (len - transport) as u32 + payload;
        if v6 {
            store(header, network + 4, (len - network - 40) as u16 + payload as u16);
        } else {
            store(header, network + 2, (len - network) as u16 + payload as u16);
            let identification = u16::from_be_bytes([header[network + 4], header[network + 5]]);
            store(header, network + 4, identification.wrapping_add(index as u16));
            store(header, network + 10, 0);
            let mut sum = Sum::new();
            sum.add(&header[network..transport]);
            store(header, network + 10, sum.checksum());
        }
        let place = if tcp {
            let at = transport + 4;
            let sequence = u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            header[at..at + 4].copy_from_slice(&sequence.wrapping_add(from).to_be_bytes());
            if !last {
                header[transport + 13] &= !(TCP_FIN | TCP_PSH);
            }
            // RFC 3168 section 6.1.2: the sender sets CWR on the first new data packet only.
            if index > 0 {
                header[transport + 13] &= !TCP_CWR;
            }
            transport + 16
        } else {
            store(header, transport + 4, transport_len as u16);
            transport + 6
        };
        let mut pseudo = Sum::new();
        // RFC 9293 section 3.1, RFC 768 and RFC 8200 section 8.1: addresses, length, protocol.
        let addresses = if v6 { network + 8..network + 40 } else { network + 12..network + 20 };
        pseudo.add(&header[addresses]);
        let protocol = if tcp { 6 } else { 17 };
        pseudo.add(&transport_len.to_be_bytes());
        pseudo.add(&[0, protocol]);
        store(header, place, 0);
        self.sum = pseudo;
        self.sum.add(&header[transport..len]);
        self.pseudo = pseudo.folded();
        self.start = transport;
        self.place = Some(place);
    }

    pub fn header(&self) -> &[u8] {
        &self.header[..self.header_len]
    }

    /// Bytes of the original frame that follow the header.
    pub fn payload(&self) -> Range<u32> {
        self.payload.clone()
    }

    /// Must the payload be summed?
    pub fn wants_sum(&self) -> bool {
        self.place.is_some()
    }

    /// Stores the checksum; `payload` is the sum of the bytes that follow the header.
    pub fn complete(&mut self, payload: Sum) {
        if let Some(place) = self.place {
            let mut sum = self.sum;
            sum.append(payload);
            // For UDP zero would mean that there is none (RFC 768); for others both are zero.
            let checksum = match sum.checksum() {
                0 => 0xffff,
                other => other,
            };
            self.header[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
        }
    }

    /// Leaves the checksum to a receiver that can do it, and says so.
    pub fn leave(&mut self) -> FrameFacts {
        let Some(place) = self.place else { return FrameFacts::default() };
        self.header[place..place + 2].copy_from_slice(&self.pseudo.to_be_bytes());
        // Both lie within HEADER_MAX.
        let (start, offset) = (self.start as u16, (place - self.start) as u16);
        debug_assert_ne!(start, CHECKSUM_NONE);
        FrameFacts { checksum_start: start, checksum_offset: offset, ..FrameFacts::default() }
    }
}
