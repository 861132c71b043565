//! From a frame to receive buffers (8254x SDM, 3.2; 82574 datasheet, 7.1).

use alloc::vec::Vec;

use frame::{Frame, Refused};
use guest_memory::Memory;
use request::{Address, CHECKSUM_NONE, Span, advance, total};

use crate::arrival::{Arrival, Front};
use crate::checksum::Sum;
use crate::filter::{self, LPE, Pass};
use crate::registers::{self as r, Registers};
use crate::ring::{DD, MARK, Ring};
use crate::split;

// Status (3.2.3.1; 82574: 7.1.5).
pub(crate) const EOP: u8 = 1 << 1;
const IXSM: u8 = 1 << 2;
const VP: u8 = 1 << 3;
const UDPCS: u8 = 1 << 4;
const TCPCS: u8 = 1 << 5;
const IPCS: u8 = 1 << 6;
const PIF: u8 = 1 << 7;

/// A frame has at least this many bytes on the wire, without FCS.
pub(crate) const MINIMUM: u64 = 60;
pub(crate) const FCS: u64 = 4;

/// Longest frames with their FCS, without and with long packet enable (13.4.22).
const LONGEST: u64 = 1_522;
const LONGEST_LPE: u64 = 16_384;

const SECRC: u32 = 1 << 26;
const BSEX: u32 = 1 << 25;

// RXCSUM (13.4.32).
const IPOFL: u32 = 1 << 8;
const TUOFL: u32 = 1 << 9;

/// RFCTL: descriptors are of the extended kind (82574).
const EXSTEN: u32 = 1 << 15;

/// What of the device's registers matters here, worked out when they are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    pub enabled: bool,
    /// Bytes of a buffer.
    pub buffer: u32,
    /// The FCS is stored and counted.
    pub fcs: bool,
    pub longest: u64,
    /// Tags are taken out (CTRL.VME).
    pub strip: bool,
    /// Every frame is wanted.
    pub open: bool,
    pub ip_checksum: bool,
    pub transport_checksum: bool,
    pub extended: bool,
    pub new: bool,
    /// Bytes of the buffers of a packet split descriptor, where these are in use.
    pub split: Option<[u32; 4]>,
    /// Free descriptors, as a shift of their number, at which RXDMT0 is raised.
    pub low: u32,
}

impl Settings {
    pub fn new(registers: &Registers, new: bool) -> Settings {
        let rctl = registers[r::RCTL];
        let size = rctl >> 16 & 3;
        let flexible = if new { rctl >> 27 & 0xf } else { 0 };
        let buffer = match (flexible, rctl & BSEX != 0, size) {
            (kilobytes @ 1.., _, _) => kilobytes << 10,
            // Reserved with BSEX, so the small one is taken.
            (0, true, 0) | (0, false, 0) => 2_048,
            (0, false, _) => 2_048 >> size,
            (0, true, _) => 32_768 >> size,
        };
        let extended = new && registers[r::RFCTL] & EXSTEN != 0;
        Settings {
            enabled: rctl & filter::EN != 0,
            buffer,
            fcs: rctl & SECRC == 0,
            longest: if rctl & LPE != 0 { LONGEST_LPE } else { LONGEST },
            strip: registers[r::CTRL] & 1 << 30 != 0,
            open: rctl & filter::UPE != 0 && rctl & filter::MPE != 0 && rctl & 1 << 18 == 0,
            ip_checksum: registers[r::RXCSUM] & IPOFL != 0,
            transport_checksum: registers[r::RXCSUM] & TUOFL != 0,
            extended,
            split: split::sizes(registers, extended),
            new,
            low: 1 + (rctl >> 8 & 3).min(2),
        }
    }
}

/// What `publish` found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    pub any: bool,
    /// Fewer buffers are left than the driver wants to be told of.
    pub low: bool,
}

#[derive(Debug)]
pub struct Receive {
    pub ring: Ring,
    /// First halves of extended descriptors that were not published: RSS type and hash.
    hashes: Vec<u64>,
    hint: u32,
    pub(crate) spans: Vec<Span>,
    /// Where in the hot window a packet split descriptor's former content is noted.
    pub(crate) note_at: usize,
    /// Frames were shown of which `publish` did not tell.
    pub(crate) shown: bool,
}

impl Receive {
    pub fn new(ring: Ring, note_at: usize) -> Receive {
        Receive { ring, hashes: Vec::new(), hint: 0, spans: Vec::new(), note_at, shown: false }
    }

    pub fn configure(&mut self, base: u64, bytes: u32, stride: u32) {
        self.ring.configure(base, bytes, stride);
        self.hashes.clear();
    }

    pub fn set_head(&mut self, head: u16) {
        self.ring.set_head(head);
        self.hashes.clear();
    }

    pub fn reset(&mut self) {
        self.ring.reset();
        self.hashes.clear();
        self.shown = false;
    }

    /// Copies a frame into posted buffers and stages it; gives its bytes.
    pub fn deliver(
        &mut self,
        memory: &Memory,
        settings: &Settings,
        arrival: Arrival<'_>,
    ) -> Result<u32, Refused> {
        if let Some(sizes) = settings.split {
            return self.deliver_split(memory, settings, arrival, sizes);
        }
        let Arrival { frame, front, hash } = arrival;
        let body = frame.body.len();
        let len = body.saturating_add(front.bytes.len() as u64);
        let tag = if front.tag.is_some() { 4 } else { 0 };
        // On the wire with its tag and its FCS; shorter ones are padded.
        let padded = len.max(MINIMUM - tag);
        if padded + tag + FCS > settings.longest {
            return Err(Refused::BufferTooSmall);
        }
        let stored = padded + if settings.fcs { FCS } else { 0 };
        let buffers = stored.div_ceil(u64::from(settings.buffer));
        if u64::from(self.ring.available()) < buffers {
            return Err(Refused::NoBuffer);
        }
        if !self.ring.look(memory) {
            return Err(Refused::Broken);
        }
        self.spans.clear();
        let (mut at, mut left) = (self.ring.next, stored);
        for _ in 0..buffers {
            let want = left.min(u64::from(settings.buffer)) as u32;
            self.add_buffer(memory, self.ring.load(at)[0], want)?;
            left -= u64::from(want);
            at = self.ring.following(at);
        }
        self.fill(memory, frame, &front, body, stored - len).ok_or(Refused::BadMemory)?;

        let status = status(settings, frame, &front);
        let mut left = stored;
        for nth in 0..buffers {
            let want = left.min(u64::from(settings.buffer));
            left -= want;
            let last = nth + 1 == buffers;
            let status = if last { status } else { IXSM };
            let special = if last { front.tag.unwrap_or(0) } else { 0 };
            self.stage(memory, settings, want as u16, status | DD, special, hash);
        }
        Ok(len as u32)
    }

    pub(crate) fn add_buffer(&mut self, memory: &Memory, address: u64, len: u32) -> Result<(), Refused> {
        // A null address is no buffer.
        if address == 0 {
            return Err(Refused::BadMemory);
        }
        if let Some(span) = memory.locate(Address(address), len, &mut self.hint) {
            self.spans.push(span);
            return Ok(());
        }
        let (mut address, mut left) = (address, len);
        while left > 0 {
            let part = memory.contiguous(Address(address)).min(u64::from(left)) as u32;
            let span = memory.locate(Address(address), part, &mut self.hint);
            self.spans.push(span.filter(|span| span.len > 0).ok_or(Refused::BadMemory)?);
            address = address.wrapping_add(u64::from(part));
            left -= part;
        }
        Ok(())
    }

    /// The one copy, and what is behind the frame.
    #[inline]
    pub(crate) fn fill(
        &mut self,
        memory: &Memory,
        frame: &Frame<'_>,
        front: &Front<'_>,
        body: u64,
        behind: u64,
    ) -> Option<()> {
        let zeroes = &[0; (MINIMUM + FCS) as usize][..behind as usize];
        if let [span] = self.spans[..] {
            let (now, rest) = span.split_at(front.bytes.len() as u32)?;
            let (middle, end) = rest.split_at(body as u32)?;
            memory.write(now, front.bytes)?;
            if body > 0 && frame.body.copy(memory, &[middle]) != body {
                return None;
            }
            return if zeroes.is_empty() { Some(()) } else { memory.write(end, zeroes) };
        }
        if total(&self.spans) < front.bytes.len() as u64 + body + behind
            || memory.scatter(&self.spans, front.bytes) != front.bytes.len()
        {
            return None;
        }
        let rest = advance(&mut self.spans, front.bytes.len() as u64)?;
        if frame.body.copy(memory, rest) != body {
            return None;
        }
        let rest = advance(rest, body)?;
        (memory.scatter(rest, zeroes) == zeroes.len()).then_some(())
    }

    /// Writes a descriptor without showing it: the mark in its status, the status to be in the byte
    /// behind it.
    #[inline]
    fn stage(&mut self, memory: &Memory, settings: &Settings, len: u16, status: u8, special: u16, hash: u64) {
        let at = self.ring.next;
        let place = self.ring.place(at);
        let hidden = u64::from(MARK) | u64::from(status) << 8;
        let second = if settings.extended {
            // Status and errors, length, tag.
            hidden | u64::from(len) << 32 | u64::from(special) << 48
        } else {
            // Length, packet checksum, status, errors, special.
            u64::from(len) | hidden << 32 | u64::from(special) << 48
        };
        if settings.extended {
            self.hashes.push(hash);
        }
        if let Some(window) = self.ring.memory() {
            window.store_u64(place + 8, second);
        }
        self.ring.mark_dirty(memory, at);
        self.ring.next = self.ring.following(at);
    }

    /// Gives a staged descriptor its status, if it was staged and not shown.
    #[inline]
    fn show(ring: &Ring, settings: &Settings, index: u16, hash: Option<u64>) {
        let Some(window) = ring.memory() else { return };
        let place = ring.place(index);
        let at = place + if settings.extended { 8 } else { 12 };
        let hidden = window.load_u16(at);
        if hidden as u8 != MARK {
            return;
        }
        if settings.extended {
            window.store_u64(place, hash.unwrap_or(0));
        }
        window.store_release_u16(at, hidden >> 8);
    }

    /// Shows the driver what was staged, as `ring` says.
    pub fn publish(&mut self, memory: &Memory, settings: &Settings) -> Published {
        let head = self.ring.head();
        if self.ring.next == head {
            return Published { any: core::mem::take(&mut self.shown), low: false };
        }
        // What cannot be shown now is kept for later.
        if !self.ring.look(memory) {
            return Published::default();
        }
        let threshold = self.ring.count >> settings.low;
        let before = self.ring.free_from(head);
        self.ring.begin(false);
        let mut at = head;
        let mut nth = 0;
        while at != self.ring.next {
            Self::show(&self.ring, settings, at, self.hashes.get(nth).copied());
            at = self.ring.following(at);
            nth += 1;
        }
        self.ring.finish(false);
        self.hashes.clear();
        Published { any: true, low: before > threshold && self.ring.available() <= threshold }
    }

    /// Finishes what a predecessor was showing.
    pub fn resume(&mut self, memory: &Memory, settings: &Settings) {
        self.hashes.clear();
        self.shown = false;
        if settings.split.is_some() {
            return self.resume_split(memory);
        }
        if let Some(indexes) = self.ring.interrupted() {
            if self.ring.look(memory) {
                for index in indexes {
                    Self::show(&self.ring, settings, index, None);
                    self.ring.mark_dirty(memory, index);
                }
            }
            self.ring.finish(false);
        }
    }
}

/// What the last descriptor of a frame says of it.
pub(crate) fn status(settings: &Settings, frame: &Frame<'_>, front: &Front<'_>) -> u8 {
    let mut status = EOP;
    if front.tag.is_some() {
        status |= VP;
    }
    if front.pass == Pass::Inexact {
        status |= PIF;
    }
    status | checksum_status(settings, frame, front.bytes)
}

/// Which checksums are said to be good. Those that nobody looked at are left to the driver.
fn checksum_status(settings: &Settings, frame: &Frame<'_>, first: &[u8]) -> u8 {
    if !settings.ip_checksum && !settings.transport_checksum {
        return IXSM;
    }
    let known = frame.facts.checksum_valid || frame.facts.checksum_start != CHECKSUM_NONE;
    let mut at = 12;
    while matches!(first.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) && at < 20 {
        at += 4;
    }
    let header = first.get(at + 2..).unwrap_or(&[]);
    let (protocol, ip) = match first.get(at..at + 2) {
        Some([0x08, 0x00]) => {
            let Some(len) = header.first().map(|first| usize::from(first & 0xf) * 4) else { return IXSM };
            let mut sum = Sum::default();
            match header.get(..len) {
                Some(header) if len >= 20 => sum.add(header),
                _ => return IXSM,
            }
            if sum.finished() != 0 {
                return IXSM;
            }
            // A fragment's transport checksum is not looked at.
            let whole = header[6] & 0x3f == 0 && header[7] == 0;
            (whole.then_some(header[9]), settings.ip_checksum)
        }
        Some([0x86, 0xdd]) => (header.get(6).copied(), false),
        _ => return IXSM,
    };
    let transport = settings.transport_checksum && known && matches!(protocol, Some(6 | 17));
    if !ip && !transport {
        return IXSM;
    }
    let mut status = 0;
    if ip {
        status |= IPCS;
    }
    if transport {
        status |= TCPCS;
        if settings.new && protocol == Some(17) {
            status |= UDPCS;
        }
    }
    status
}
