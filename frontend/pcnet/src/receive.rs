//! From a frame to the buffers of the receive ring.

use frame::{Body, Frame, HEADER_MAX, Refused};
use guest_memory::Memory;
use request::{Address, CHECKSUM_NONE, FrameFacts, Gso, Rewrite, Span, advance};

use crate::Pcnet;
use crate::registers::{csr, csr0, csr4, mode};
use crate::ring::{Done, Style, status};

/// Shortest frame without its check sequence (IEEE 802.3, 4.4.2).
pub const MIN_FRAME: usize = 60;
const FCS_BYTES: usize = 4;
const HEADER_BYTES: usize = 14;

/// MCNT has 12 bits.
const MCNT_MAX: u64 = 0x0fff;

/// Buffers that one frame may be spread over.
const BUFFERS_MAX: u32 = 64;

/// There is no way to tell this driver of work left undone.
pub fn is_finished(facts: &FrameFacts) -> bool {
    facts.gso == Gso::None && facts.checksum_start == CHECKSUM_NONE
}

/// What is known of a frame beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Why it is wanted, and what is wrong with it: bits of the last descriptor.
    pub status: u16,
    /// What follows the last byte of the frame, and of its pad.
    pub fcs: [u8; FCS_BYTES],
    /// The check sequence is among the frame's own bytes.
    pub has_fcs: bool,
}

impl Pcnet {
    pub(crate) fn receive(
        &mut self,
        memory: &Memory,
        frame: &Frame<'_>,
        rewrite: Rewrite,
    ) -> Result<u32, Refused> {
        if !self.running() || self.csr[csr::STATUS] & csr0::RXON == 0 {
            return Err(Refused::NoBuffer);
        }
        // In loopback only what we send ourselves is heard.
        if self.loops() || !self.link {
            return Err(Refused::Filtered);
        }
        if frame.header.len() > HEADER_MAX {
            return Err(Refused::Malformed);
        }
        let destination = frame.header.first_chunk::<6>().ok_or(Refused::Malformed)?;
        let Some(why) = self.wants(destination) else { return Err(Refused::Filtered) };
        if !is_finished(&frame.facts) {
            return Err(Refused::Offload);
        }
        // VMXNET's lengths are without the sequence.
        let arrival = Arrival { status: why, fcs: [0; FCS_BYTES], has_fcs: self.is_vmxnet() };
        if rewrite == Rewrite::Keep {
            return self.fill(memory, frame.header, frame.body, arrival);
        }
        let mut header = [0; HEADER_MAX + 4];
        let len = rewrite.apply(frame.header, &mut header).ok_or(Refused::Malformed)?;
        self.fill(memory, &header[..len], frame.body, arrival)
    }

    /// Copies a frame that is wanted into buffers, and notes what their descriptors will say.
    pub(crate) fn fill(
        &mut self,
        memory: &Memory,
        header: &[u8],
        body: Body<'_>,
        arrival: Arrival,
    ) -> Result<u32, Refused> {
        let frame = (header.len() as u64).saturating_add(body.len());
        if header.len() < HEADER_BYTES || frame > MCNT_MAX {
            let short = header.len() < HEADER_BYTES;
            return Err(if short { Refused::Malformed } else { Refused::BufferTooSmall });
        }
        // At most MCNT_MAX.
        let frame = frame as usize;
        let padded = frame.max(MIN_FRAME);
        let fcs = if arrival.has_fcs { 0 } else { FCS_BYTES };
        let count = self.stripped(header, frame).unwrap_or(padded + fcs);
        if count as u64 > MCNT_MAX {
            return Err(Refused::BufferTooSmall);
        }
        let used = self.gather_buffers(memory, count as u32)?;
        let mut spans = core::mem::take(&mut self.spans);
        let written = write(memory, &mut spans, header, body, count, padded, &arrival.fcs);
        self.spans = spans;
        if !written {
            return Err(Refused::BadMemory);
        }
        let long = self.style() != Style::Lance;
        for at in 0..used {
            let mut done = Done::default();
            if at == 0 {
                done.status |= status::STP;
            }
            if at + 1 == used {
                done.status |= status::ENP | arrival.status;
                done.detail = Some(count as u32);
            }
            if !long {
                // The reasons do not exist there.
                done.status &= 0xff00;
            }
            self.rx.push(done);
        }
        if self.rx.is_long() {
            self.received |= self.rx.give_back(memory);
        }
        Ok(frame as u32)
    }

    /// Automatic strip receive: the bytes that are left of a frame whose length field says that it
    /// was padded.
    fn stripped(&self, header: &[u8], frame: usize) -> Option<usize> {
        if self.csr[csr::FEATURES] & csr4::ASTRP_RCV == 0 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([header[12], header[13]]));
        let count = HEADER_BYTES + length;
        (length < MIN_FRAME - HEADER_BYTES && count <= frame).then_some(count)
    }

    /// Makes `spans` the first `needed` bytes of the posted buffers; gives the number of descriptors.
    fn gather_buffers(&mut self, memory: &Memory, needed: u32) -> Result<u32, Refused> {
        self.spans.clear();
        let mut left = needed;
        let mut used = 0;
        let most = if self.is_vmxnet() { 1 } else { BUFFERS_MAX };
        while left > 0 {
            if used == most {
                return Err(Refused::BufferTooSmall);
            }
            if self.rx.owned(used).is_none() {
                // All of the ring would not do.
                if used > 0 && used == self.rx.count() {
                    return Err(Refused::BufferTooSmall);
                }
                self.missed();
                return Err(Refused::NoBuffer);
            }
            let (address, len) = self.rx.buffer(self.rx.index(used));
            let part = len.min(left);
            let address = self.physical(address);
            if !locate(memory, address, part, &mut self.hint, &mut self.spans) {
                self.memory_error();
                return Err(Refused::BadMemory);
            }
            left -= part;
            used += 1;
        }
        Ok(used)
    }

    /// MISS, and the count of missed frames, which tells when it overflows.
    fn missed(&mut self) {
        self.csr[csr::STATUS] |= csr0::MISS;
        // Drivers show the count as one of frames lost: a successor has to go on with it.
        self.dirty = true;
        self.csr[csr::MFC] = self.csr[csr::MFC].wrapping_add(1);
        if self.csr[csr::MFC] == 0 {
            self.csr[csr::FEATURES] |= csr4::MFCO;
        }
    }

    /// What is sent comes back.
    pub(crate) fn loops(&self) -> bool {
        self.mode(mode::LOOP) || self.phy.loops()
    }
}

/// Adds a buffer to a list; it may straddle regions of memory.
#[inline]
pub fn locate(
    memory: &Memory,
    address: u32,
    len: u32,
    hint: &mut u32,
    spans: &mut alloc::vec::Vec<Span>,
) -> bool {
    let mut at = u64::from(address);
    if let Some(span) = memory.locate(Address(at), len, hint) {
        spans.push(span);
        return true;
    }
    let mut left = len;
    while left > 0 {
        let part = memory.contiguous(Address(at)).min(u64::from(left)) as u32;
        let Some(span) = memory.locate(Address(at), part, hint).filter(|_| part > 0) else { return false };
        spans.push(span);
        at = at.saturating_add(u64::from(part));
        left -= part;
    }
    true
}

/// Writes header, body, pad and check sequence, as far as the spans go.
fn write(
    memory: &Memory,
    spans: &mut [Span],
    header: &[u8],
    body: Body<'_>,
    count: usize,
    padded: usize,
    fcs: &[u8; FCS_BYTES],
) -> bool {
    let first = header.len().min(count);
    if memory.scatter(spans, &header[..first]) != first {
        return false;
    }
    let Some(spans) = advance(spans, first as u64) else { return false };
    let second = body.len().min((count - first) as u64);
    if second > 0 && body.copy(memory, spans) != second {
        return false;
    }
    let Some(spans) = advance(spans, second) else { return false };
    let frame = first + second as usize;
    let mut tail = [0; MIN_FRAME + FCS_BYTES];
    let pad = padded.saturating_sub(frame).min(MIN_FRAME);
    tail[pad..pad + FCS_BYTES].copy_from_slice(fcs);
    let third = count - frame;
    third <= pad + FCS_BYTES && memory.scatter(spans, &tail[..third]) == third
}
