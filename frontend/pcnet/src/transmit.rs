//! From the transmit ring to a frame that others can judge and deliver.

use core::time::Duration;

use alloc::vec;
use alloc::vec::Vec;

use frame::{Body, Drop, FRAME_MAX, Posted, Taken};
use guest_memory::Memory;
use request::{FrameFacts, Instant, Span};

use crate::Pcnet;
use crate::crc;
use crate::receive::{Arrival, MIN_FRAME, locate};
use crate::registers::{csr, csr0, csr3, csr4, csr5, mode};
use crate::ring::{Done, status};

/// Bytes that are copied out of each frame: the addresses, the tag, and a short frame whole.
const PEEK: usize = 64;

pub const ETHERNET_HEADER: u32 = 14;
const FCS_BYTES: u32 = 4;

/// Longest frame with its check sequence that is no babble; a tag has four bytes more.
const LONGEST: u32 = 1518;

/// Descriptors of one frame.
const PARTS_MAX: u32 = 64;

/// Frames that are looped back, or given up, in one call.
const BATCH: usize = 16;

/// How long the descriptors of a frame may take to come one after another.
const STALL: Duration = Duration::from_millis(10);

/// CSR47 at zero: 65,536 clocks of 33 MHz.
const POLL_FIRST: u64 = 2_000_000;
const POLL_LAST: u64 = 128_000_000;

/// TMD2.
mod detail {
    pub const BUFF: u32 = 1 << 31;
    pub const UFLO: u32 = 1 << 30;
    pub const LCAR: u32 = 1 << 27;
}

/// What came of a look at the ring.
pub enum Step {
    Frame,
    Dropped,
    Empty,
}

impl Pcnet {
    fn transmitting(&self) -> bool {
        self.running() && self.csr[csr::STATUS] & csr0::TXON != 0
    }

    fn polls(&self) -> bool {
        self.csr[csr::FEATURES] & csr4::TXDPOLL == 0
    }

    pub(crate) fn transmit_waits(&self) -> bool {
        if !self.transmitting() {
            return false;
        }
        let ahead = self.stalled.map_or(0, |(ahead, _)| ahead);
        (self.demand || self.polls()) && self.tx.owned(ahead).is_some()
    }

    /// Whether the driver demands or waits to be polled is not known yet.
    pub(crate) fn begin_polling(&mut self, now: Instant) {
        if self.transmitting() && self.polls() {
            self.poll_wait = POLL_FIRST;
            self.poll = Some(now.after(Duration::from_nanos(POLL_FIRST)));
        }
    }

    /// A predecessor's driver may be one that waits to be polled.
    pub(crate) fn resume_polling(&mut self) {
        if self.transmitting() && self.polls() {
            self.poll_wait = POLL_FIRST;
            self.poll = Some(Instant::from_nanos(0));
        }
    }

    /// The clock is known: how long the rest of a frame may take.
    pub(crate) fn time_stall(&mut self, now: Instant) {
        if let Some((_, until @ None)) = &mut self.stalled {
            *until = Some(now.after(STALL));
        }
    }

    /// TDMD. A driver that demands once does so always: its ring needs no more polling.
    pub(crate) fn demanded(&mut self) {
        self.demand = true;
        self.poll = None;
    }

    pub(crate) fn expire_transmit(&mut self, now: Instant, memory: &Memory) {
        if let Some((ahead, Some(until))) = self.stalled
            && until <= now
        {
            self.stalled = None;
            if self.transmitting() && self.tx.owned(ahead).is_none() {
                self.underflow(memory);
            }
        }
        if self.poll.is_some_and(|poll| poll <= now) {
            // Whoever called asks `waiting` next. A ring that is found empty again and again is
            // looked at less and less often.
            let found = self.tx.owned(0).is_some();
            self.poll_wait = if found { POLL_FIRST } else { self.poll_wait.saturating_mul(2).min(POLL_LAST) };
            self.poll = if self.transmitting() && self.polls() {
                Some(now.after(Duration::from_nanos(self.poll_wait)))
            } else {
                None
            };
        }
    }

    pub(crate) fn next_frame(&mut self, memory: &Memory, posted: &mut Posted) -> Taken {
        for _ in 0..BATCH {
            match self.take(memory, posted) {
                Step::Empty => {
                    if self.settle {
                        self.give_back(memory);
                    }
                    return Taken::Empty;
                }
                Step::Dropped => {
                    self.settle = true;
                    return Taken::Dropped;
                }
                Step::Frame if self.loops() => {
                    self.settle = true;
                    self.loop_back(memory, posted);
                }
                Step::Frame => {
                    let counters = &mut self.counters;
                    counters.transmitted_frames = counters.transmitted_frames.wrapping_add(1);
                    counters.transmitted_bytes =
                        counters.transmitted_bytes.wrapping_add(u64::from(posted.len));
                    return Taken::Frame;
                }
            }
        }
        self.give_back(memory);
        Taken::Empty
    }

    fn take(&mut self, memory: &Memory, posted: &mut Posted) -> Step {
        posted.header_len = 0;
        posted.rest.clear();
        posted.len = 0;
        posted.facts = FrameFacts::default();
        if !self.transmitting() {
            return Step::Empty;
        }
        if self.tx.is_long() {
            self.tx.give_back(memory);
        }
        let Some(first) = self.tx.owned(0) else {
            // Without memory (bus mastering is off) the demand stands.
            self.demand &= !self.tx.is_there();
            self.stalled = None;
            return Step::Empty;
        };
        if self.is_vmxnet() {
            return self.take_vmxnet(memory, posted, first);
        }
        if first & status::STP == 0 {
            // The end of a frame that was given up, or was sent before its sender's end was noted.
            self.counters.stray_descriptors = self.counters.stray_descriptors.wrapping_add(1);
            self.finish(1, first, 0, 0);
            return self.drop_frame(Drop::BadHeader);
        }
        let mut parts = 0;
        let mut len = 0;
        let mut bad_memory = false;
        let last = loop {
            let Some(now) = self.tx.owned(parts) else {
                // The rest is to come. `publish` says how long it may take.
                if self.stalled.is_none_or(|(ahead, _)| ahead != parts) {
                    self.stalled = Some((parts, None));
                }
                return Step::Empty;
            };
            if parts > 0 && now & status::STP != 0 {
                // Another frame begins where this one should go on.
                self.finish(parts, first, status::ERR, detail::BUFF);
                return self.drop_frame(Drop::BadHeader);
            }
            let (address, count) = self.tx.buffer(self.tx.index(parts));
            len += count;
            parts += 1;
            if len > FRAME_MAX || parts > PARTS_MAX {
                self.finish(parts, first, status::ERR, detail::BUFF);
                return self.drop_frame(Drop::TooLong);
            }
            let address = self.physical(address);
            bad_memory |= !locate(memory, address, count, &mut self.hint, &mut posted.rest);
            if now & status::ENP != 0 {
                break now;
            }
        };
        self.stalled = None;
        if bad_memory {
            self.memory_error();
            self.finish(parts, last, 0, 0);
            return self.drop_frame(Drop::BadMemory);
        }
        if !self.link && !(self.loops() && (self.mode(mode::INTL) || !self.mode(mode::LOOP))) {
            self.counters.lost_carrier = self.counters.lost_carrier.wrapping_add(1);
            self.csr[csr::STATUS] |= csr0::CERR;
            self.finish(parts, last, status::ERR, detail::LCAR);
            self.settle = true;
            return Step::Dropped;
        }
        // The driver sends the check sequence itself if nobody is to append one.
        let own_fcs = self.mode(mode::DXMTFCS) && first & status::ADD_FCS == 0;
        let kept = if own_fcs && !self.loops() { len.saturating_sub(FCS_BYTES) } else { len };
        if kept < ETHERNET_HEADER {
            self.finish(parts, last, 0, 0);
            return self.drop_frame(Drop::Runt);
        }
        posted.len = kept;
        let read = self.peek(memory, posted);
        if !read {
            self.memory_error();
            self.finish(parts, last, 0, 0);
            return self.drop_frame(Drop::BadMemory);
        }
        let tagged = posted.raw.get(12..14) == Some(&[0x81, 0x00]);
        if kept + FCS_BYTES > LONGEST + if tagged { 4 } else { 0 } {
            self.csr[csr::STATUS] |= csr0::BABL;
        }
        self.csr[csr::FEATURES] |= csr4::TXSTRT;
        self.finish(parts, last, 0, 0);
        // TDMD is over with the last frame.
        self.demand &= self.tx.owned(0).is_some();
        Step::Frame
    }

    /// Copies the first bytes out, and cuts them off the list, and pads what is short.
    pub(crate) fn peek(&self, memory: &Memory, posted: &mut Posted) -> bool {
        let count = (posted.len as usize).min(PEEK);
        if memory.gather(&posted.rest, &mut posted.raw[..count]) != count {
            return false;
        }
        posted.header_len = count;
        keep(&mut posted.rest, count as u32, posted.len);
        if count < MIN_FRAME && self.csr[csr::FEATURES] & csr4::APAD_XMT != 0 && !self.loops() {
            posted.raw[count..MIN_FRAME].fill(0);
            posted.header_len = MIN_FRAME;
            posted.len = MIN_FRAME as u32;
        }
        true
    }

    /// The descriptors of a frame are done. `last` is what the driver asked for in the last of them.
    pub(crate) fn finish(&mut self, parts: u32, last: u16, error: u16, detail: u32) {
        // TINT comes for failures in any case; else for the frames that ask for it (LTINTEN, which
        // overrides TOKINTD), for none (TOKINTD), or for all.
        let extended = self.csr[csr::EXTENDED];
        let wanted = if extended & csr5::LTINTEN != 0 {
            last & status::LTINT != 0
        } else {
            extended & csr5::TOKINTD == 0
        };
        self.sent |= error != 0 || wanted;
        for part in 0..parts {
            let now = self.tx.status(self.tx.index(0));
            let mut done = Done { status: now & !(status::OWN | status::ERR | status::SENT), detail: None };
            if part + 1 == parts && error != 0 {
                done.status |= error;
                done.detail = Some(detail);
            }
            self.tx.push(done);
        }
    }

    pub(crate) fn drop_frame(&mut self, drop: Drop) -> Step {
        self.dropped(drop);
        self.stalled = None;
        self.settle = true;
        Step::Dropped
    }

    /// The ring ends in the middle of a frame: UFLO, and the transmitter goes off unless DXSUFLO.
    fn underflow(&mut self, memory: &Memory) {
        let mut parts = 0;
        while parts < PARTS_MAX && self.tx.owned(parts).is_some() {
            parts += 1;
        }
        if parts == 0 {
            return;
        }
        self.counters.underflows = self.counters.underflows.wrapping_add(1);
        self.finish(parts, 0, status::ERR, detail::BUFF | detail::UFLO);
        if self.csr[csr::MASKS] & csr3::DXSUFLO == 0 {
            self.csr[csr::STATUS] &= !csr0::TXON;
            self.dirty = true;
        }
        self.give_back(memory);
    }

    /// Puts a frame of ours into our own receive ring.
    fn loop_back(&mut self, memory: &Memory, posted: &Posted) {
        self.counters.looped_frames = self.counters.looped_frames.wrapping_add(1);
        if self.csr[csr::STATUS] & csr0::RXON == 0 {
            return;
        }
        // A test's path: the check sequence needs all the bytes.
        let mut bytes = vec![0; posted.len as usize];
        let (header, rest) = bytes.split_at_mut(posted.header_len.min(posted.len as usize));
        header.copy_from_slice(&posted.raw[..header.len()]);
        if memory.gather(&posted.rest, rest) != rest.len() {
            return;
        }
        let Some(destination) = bytes.first_chunk::<6>() else { return };
        let Some(mut why) = self.wants(destination) else { return };
        // With DXMTFCS the driver's last four bytes are the sequence, and may be wrong on purpose.
        let has_fcs = self.mode(mode::DXMTFCS) && bytes.len() >= MIN_FRAME + FCS_BYTES as usize;
        let mut sequence = [0; 4];
        if has_fcs {
            let (data, own) = bytes.split_at(bytes.len() - FCS_BYTES as usize);
            if crc::fcs(data) != own {
                why |= status::CRC | status::ERR;
            }
        } else {
            bytes.resize(bytes.len().max(MIN_FRAME), 0);
            sequence = crc::fcs(&bytes);
        }
        let arrival = Arrival { status: why, fcs: sequence, has_fcs };
        let (header, body) = bytes.split_at(bytes.len().min(PEEK));
        // A ring without room has set MISS.
        let _ = self.fill(memory, header, Body::Bytes(body), arrival);
    }
}

/// Makes a list the bytes `from` to `to` of what it was.
fn keep(spans: &mut Vec<Span>, from: u32, to: u32) {
    let (mut skip, mut left) = (from, to.saturating_sub(from));
    spans.retain_mut(|span| {
        let cut = skip.min(span.len);
        skip -= cut;
        span.offset += u64::from(cut);
        span.len = (span.len - cut).min(left);
        left -= span.len;
        span.len > 0
    });
}
