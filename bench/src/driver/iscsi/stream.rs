//! A session for load: many commands in flight, one thread, sends and receives in batches, nothing
//! allocated for a command.
//!
//! Headers gather in one buffer and go out by one `writev`, with the data where it lies. What is
//! received is looked at where it was received; data of reads is copied out only if it is to be
//! checked. Of the rules only those are checked that cost nothing: StatSN, offsets, lengths, digests.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use host::wait::{Interest, Wait};

use super::initiator::Initiator;
use super::login::Negotiated;
use super::pdu::{self, BHS_BYTES, FINAL, IMMEDIATE, NO_TAG, request, response, word};
use crate::driver::error::{Error, Result, doing};
use crate::driver::scsi::Sense;

/// What one call receives at most: large enough for a deep queue's answers, small enough for the
/// core's own cache.
const RECEIVE_BYTES: usize = 256 << 10;
/// Parts of one `writev`.
const PARTS_MAX: usize = 64;
/// Headers that were sent are cut off once there are so many bytes of them.
const HEADERS_MAX_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    None,
    In(u32),
    Out(u32),
}

/// The end of a slot's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    pub slot: u16,
    pub response: u8,
    pub status: u8,
    pub sense: Sense,
    /// The target moved as much as the command asked for, and said so.
    pub is_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Header { start: usize, len: usize },
    Data { slot: u16, start: usize, len: usize },
}

#[derive(Debug, Clone)]
struct Slot {
    tag: u32,
    is_busy: bool,
    transfer: Transfer,
    lun: [u8; 8],
    received: u32,
    data: Box<[u8]>,
}

/// What the bytes that come next are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Header,
    /// Data-In of a slot: where it goes, how much is left, padding behind it, the digest so far.
    Data {
        slot: u16,
        at: u32,
        left: u32,
        padding: u32,
        digest: u32,
        end: Option<Completion>,
    },
}

#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    /// From the first sleep on: a socket that an epoll looks at costs its sender a call for each wake.
    wait: Option<Wait>,
    rules: Negotiated,
    keeps_data: bool,
    slots: Vec<Slot>,
    generation: u32,
    cmd_sn: u32,
    max_cmd_sn: u32,
    stat_sn: u32,
    headers: Vec<u8>,
    parts: VecDeque<Part>,
    /// Bytes of the first part that are sent.
    sent: usize,
    received: Box<[u8]>,
    start: usize,
    end: usize,
    next: Next,
    /// System calls, and what the target asked or said by itself.
    pub sends: u64,
    pub receives: u64,
    pub sleeps: u64,
    pub pings: u64,
    pub events: u64,
}

impl Stream {
    /// Goes on with a session. `bytes_max`: the longest transfer; `keeps_data`: data-in can be looked
    /// at afterwards.
    pub fn new(session: Initiator, depth: u16, bytes_max: u32, keeps_data: bool) -> Result<Stream> {
        let (wire, rules, numbers) = session.into_parts();
        let (socket, early) = wire.into_stream();
        if !early.is_empty() {
            return Err(Error::Session("the target sent something that nobody waited for".into()));
        }
        socket.set_nonblocking(true).map_err(doing("making the socket non-blocking"))?;
        let slot = Slot {
            tag: 0,
            is_busy: false,
            transfer: Transfer::None,
            lun: [0; 8],
            received: 0,
            data: vec![0; bytes_max as usize].into(),
        };
        Ok(Stream {
            socket,
            wait: None,
            rules,
            keeps_data,
            slots: vec![slot; usize::from(depth)],
            generation: 0,
            cmd_sn: numbers.cmd_sn,
            max_cmd_sn: numbers.max_cmd_sn,
            stat_sn: numbers.stat_sn,
            headers: Vec::with_capacity(2 * HEADERS_MAX_BYTES),
            parts: VecDeque::with_capacity(4096),
            sent: 0,
            received: vec![0; RECEIVE_BYTES].into(),
            start: 0,
            end: 0,
            next: Next::Header,
            sends: 0,
            receives: 0,
            sleeps: 0,
            pings: 0,
            events: 0,
        })
    }

    /// The buffer of a slot's transfers.
    pub fn data(&mut self, slot: u16) -> &mut [u8] {
        &mut self.slots[usize::from(slot)].data
    }

    /// Whether the target takes another command now.
    #[inline]
    pub fn has_window(&self) -> bool {
        self.max_cmd_sn.wrapping_sub(self.cmd_sn) as i32 >= 0
    }

    /// Makes a SIMPLE command ready to be sent by `flush`. The slot has none under way, and
    /// `has_window` said so.
    #[inline]
    pub fn submit(&mut self, slot: u16, lun: [u8; 8], cdb: &[u8; 16], transfer: Transfer) {
        self.generation = (self.generation + 1) & 0x7fff;
        let tag = self.generation << 16 | u32::from(slot);
        let (direction, expected) = match transfer {
            Transfer::None => (0, 0),
            Transfer::In(bytes) => (0x40, bytes),
            Transfer::Out(bytes) => (0x20, bytes),
        };
        let mut bhs = [0; BHS_BYTES];
        bhs[0] = request::SCSI_COMMAND;
        bhs[8..16].copy_from_slice(&lun);
        bhs[16..20].copy_from_slice(&tag.to_be_bytes());
        bhs[20..24].copy_from_slice(&expected.to_be_bytes());
        bhs[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        bhs[32..48].copy_from_slice(cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        let state = &mut self.slots[usize::from(slot)];
        assert!(!state.is_busy, "a slot has one command at a time");
        (state.tag, state.is_busy, state.transfer, state.lun, state.received) = (tag, true, transfer, lun, 0);
        let Transfer::Out(bytes) = transfer else {
            bhs[1] = FINAL | direction | 1;
            self.push(&mut bhs, slot, 0, 0);
            return;
        };
        let first_burst = bytes.min(self.rules.first_burst_length);
        let immediate =
            if self.rules.immediate_data { first_burst.min(self.rules.target_max_segment) } else { 0 };
        let unsolicited = if self.rules.initial_r2t { immediate } else { first_burst };
        bhs[1] = direction | 1 | if unsolicited > immediate { 0 } else { FINAL };
        self.push(&mut bhs, slot, 0, immediate as usize);
        self.push_data_out(slot, NO_TAG, immediate, unsolicited);
    }

    /// Data-Out PDUs for a part of the slot's buffer.
    fn push_data_out(&mut self, slot: u16, ttt: u32, from: u32, to: u32) {
        let (mut at, mut number) = (from, 0u32);
        while at < to {
            let end = to.min(at + self.rules.target_max_segment);
            let state = &self.slots[usize::from(slot)];
            let mut bhs = [0; BHS_BYTES];
            bhs[0] = request::DATA_OUT;
            bhs[1] = if end == to { FINAL } else { 0 };
            bhs[8..16].copy_from_slice(&state.lun);
            bhs[16..20].copy_from_slice(&state.tag.to_be_bytes());
            bhs[20..24].copy_from_slice(&ttt.to_be_bytes());
            bhs[36..40].copy_from_slice(&number.to_be_bytes());
            bhs[40..44].copy_from_slice(&at.to_be_bytes());
            self.push(&mut bhs, slot, at as usize, (end - at) as usize);
            (at, number) = (end, number + 1);
        }
    }

    /// Appends a PDU whose data is a part of the slot's buffer: a multiple of four bytes, as all our
    /// transfers are.
    #[inline]
    fn push(&mut self, bhs: &mut [u8; BHS_BYTES], slot: u16, at: usize, len: usize) {
        assert!(len.is_multiple_of(4), "transfers are whole blocks");
        bhs[5..8].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
        bhs[28..32].copy_from_slice(&self.stat_sn.to_be_bytes());
        let start = self.headers.len();
        self.headers.extend_from_slice(bhs);
        if self.rules.header_digest {
            self.headers.extend_from_slice(&pdu::digest(bhs));
        }
        self.push_header(start);
        if len > 0 {
            self.parts.push_back(Part::Data { slot, start: at, len });
            if self.rules.data_digest {
                let digest = pdu::digest(&self.slots[usize::from(slot)].data[at..at + len]);
                let start = self.headers.len();
                self.headers.extend_from_slice(&digest);
                self.push_header(start);
            }
        }
    }

    /// What was appended to the headers from `start` on is to be sent, with the part before it if
    /// that ends there.
    #[inline]
    fn push_header(&mut self, start: usize) {
        let len = self.headers.len() - start;
        match self.parts.back_mut() {
            Some(Part::Header { start: before, len: all }) if *before + *all == start => *all += len,
            _ => self.parts.push_back(Part::Header { start, len }),
        }
    }

    /// Sends as much as the socket takes. True: everything.
    pub fn flush(&mut self) -> Result<bool> {
        while !self.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            let mut count = 0;
            for part in self.parts.iter().take(PARTS_MAX) {
                let bytes = match *part {
                    Part::Header { start, len } => &self.headers[start..start + len],
                    Part::Data { slot, start, len } => {
                        &self.slots[usize::from(slot)].data[start..start + len]
                    }
                };
                slices[count] = IoSlice::new(if count == 0 { &bytes[self.sent..] } else { bytes });
                count += 1;
            }
            self.sends += 1;
            match (&self.socket).write_vectored(&slices[..count]) {
                Ok(bytes) => self.forget_sent(bytes),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => break,
                    ErrorKind::Interrupted => {}
                    _ => return Err(Error::Closed(error.to_string())),
                },
            }
        }
        if self.parts.is_empty() {
            self.headers.clear();
        } else if self.headers.len() > HEADERS_MAX_BYTES {
            self.cut_headers();
        }
        Ok(self.parts.is_empty())
    }

    fn forget_sent(&mut self, bytes: usize) {
        self.sent += bytes;
        while let Some(Part::Header { len, .. } | Part::Data { len, .. }) = self.parts.front() {
            if self.sent < *len {
                break;
            }
            self.sent -= len;
            self.parts.pop_front();
        }
    }

    /// Throws headers away that were sent, where something is always on its way.
    fn cut_headers(&mut self) {
        let first = self.parts.iter().find_map(|part| match part {
            Part::Header { start, .. } => Some(*start),
            Part::Data { .. } => None,
        });
        let cut = first.unwrap_or(self.headers.len());
        self.headers.drain(..cut);
        for part in &mut self.parts {
            if let Part::Header { start, .. } = part {
                *start -= cut;
            }
        }
    }

    /// Sleeps until there is something to receive, or room to send if something waits for it.
    pub fn sleep(&mut self, timeout: Duration) -> Result<()> {
        let interest = Interest { read: true, write: !self.parts.is_empty(), edge: false };
        let wait = match &mut self.wait {
            Some(wait) => {
                wait.modify(self.socket.as_fd(), 0, interest).map_err(doing("waiting for the socket"))?;
                wait
            }
            none => {
                let wait = Wait::new(1).map_err(doing("making an epoll"))?;
                wait.add(self.socket.as_fd(), 0, interest).map_err(doing("waiting for the socket"))?;
                none.insert(wait)
            }
        };
        self.sleeps += 1;
        wait.wait(Some(timeout.as_nanos() as u64)).map_err(doing("sleeping on epoll")).map(|_| ())
    }

    /// Receives once and appends the ends that came. False: there was nothing to receive.
    pub fn receive(&mut self, ends: &mut Vec<Completion>) -> Result<bool> {
        if self.start > 0 {
            self.received.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.receives += 1;
        match (&self.socket).read(&mut self.received[self.end..]) {
            Ok(0) => return Err(Error::Closed("the target closed the connection".into())),
            Ok(bytes) => self.end += bytes,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => return Ok(false),
                _ => return Err(Error::Closed(error.to_string())),
            },
        }
        while self.step(ends)? {}
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        Ok(true)
    }

    /// Takes the next PDU, or a piece of its data. False: more has to come.
    #[inline]
    fn step(&mut self, ends: &mut Vec<Completion>) -> Result<bool> {
        let available = self.end - self.start;
        if let Next::Data { slot, at, left, padding, digest, end } = self.next {
            let taken = (left as usize).min(available);
            let bytes = &self.received[self.start..self.start + taken];
            let digest = if self.rules.data_digest { crc32c::crc32c_append(digest, bytes) } else { 0 };
            if self.keeps_data {
                let at = at as usize;
                self.slots[usize::from(slot)].data[at..at + taken].copy_from_slice(bytes);
            }
            self.start += taken;
            let (at, left) = (at + taken as u32, left - taken as u32);
            self.next = Next::Data { slot, at, left, padding, digest, end };
            let tail = padding as usize + 4 * usize::from(self.rules.data_digest);
            if left > 0 || available - taken < tail {
                return Ok(false);
            }
            let tail = &self.received[self.start..self.start + tail];
            if self.rules.data_digest {
                let (padding, sent) = tail.split_at(padding as usize);
                if crc32c::crc32c_append(digest, padding).to_le_bytes() != sent {
                    return Err(Error::Session("a data digest is wrong".into()));
                }
            }
            self.start += tail.len();
            self.next = Next::Header;
            ends.extend(end);
            return Ok(true);
        }
        let head = BHS_BYTES + 4 * usize::from(self.rules.header_digest);
        if available < head {
            return Ok(false);
        }
        let bytes = &self.received[self.start..self.end];
        let bhs: [u8; BHS_BYTES] = *bytes.first_chunk().expect("there are as many");
        if self.rules.header_digest && pdu::digest(&bhs) != bytes[BHS_BYTES..head] {
            return Err(Error::Session("a header digest is wrong".into()));
        }
        if bhs[4] != 0 {
            return Err(Error::Session("additional headers from a target".into()));
        }
        let len = pdu::data_len(&bhs);
        if bhs[0] == response::DATA_IN {
            self.start += head;
            return self.data_in(&bhs, len).map(|()| true);
        }
        let data_end = head + len;
        let digests = 4 * usize::from(self.rules.data_digest && len > 0);
        let whole = head + pdu::padded(len) + digests;
        if whole > RECEIVE_BYTES {
            return Err(Error::Session(format!("{len} bytes of data with opcode {:02x}h", bhs[0])));
        }
        if available < whole {
            return Ok(false);
        }
        if digests > 0 && pdu::digest(&bytes[head..whole - digests]) != bytes[whole - digests..whole] {
            return Err(Error::Session("a data digest is wrong".into()));
        }
        let (data_start, data_end) = (self.start + head, self.start + data_end);
        self.start += whole;
        self.other(&bhs, data_start..data_end, ends)?;
        Ok(true)
    }

    #[inline]
    fn take_numbers(&mut self, bhs: &[u8; BHS_BYTES], has_status: bool) -> Result<()> {
        if has_status {
            if word(bhs, 24) != self.stat_sn {
                let (came, expected) = (word(bhs, 24), self.stat_sn);
                return Err(Error::Session(format!("StatSN {came:x}h instead of {expected:x}h")));
            }
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        let max_cmd_sn = word(bhs, 32);
        if max_cmd_sn.wrapping_sub(self.max_cmd_sn) as i32 > 0 {
            self.max_cmd_sn = max_cmd_sn;
        }
        Ok(())
    }

    /// The slot whose command this PDU is of.
    #[inline]
    fn slot_of(&self, bhs: &[u8; BHS_BYTES]) -> Result<u16> {
        let tag = word(bhs, 16);
        let slot = tag as u16;
        match self.slots.get(usize::from(slot)) {
            Some(state) if state.is_busy && state.tag == tag => Ok(slot),
            _ => Err(Error::Session(format!("opcode {:02x}h for tag {tag:x}h, which has no task", bhs[0]))),
        }
    }

    #[inline]
    fn data_in(&mut self, bhs: &[u8; BHS_BYTES], len: usize) -> Result<()> {
        let has_status = bhs[1] & 0x01 != 0;
        self.take_numbers(bhs, has_status)?;
        let slot = self.slot_of(bhs)?;
        let state = &mut self.slots[usize::from(slot)];
        let at = word(bhs, 40);
        let expected = if let Transfer::In(bytes) = state.transfer { bytes } else { 0 };
        if at != state.received || len as u32 > expected - at {
            return Err(Error::Session(format!("{len} bytes of data-in at {at} of {expected}")));
        }
        state.received += len as u32;
        let end = has_status.then(|| {
            state.is_busy = false;
            Completion {
                slot,
                response: 0,
                status: bhs[3],
                sense: Sense::default(),
                is_whole: state.received == expected && bhs[1] & 0x06 == 0,
            }
        });
        let padding = (pdu::padded(len) - len) as u32;
        self.next = if len > 0 {
            Next::Data { slot, at, left: len as u32, padding, digest: 0, end }
        } else {
            return Err(Error::Session("Data-In without data".into()));
        };
        Ok(())
    }

    /// Every PDU but Data-In; `data` lies in the receive buffer.
    fn other(
        &mut self,
        bhs: &[u8; BHS_BYTES],
        data: std::ops::Range<usize>,
        ends: &mut Vec<Completion>,
    ) -> Result<()> {
        match bhs[0] {
            response::SCSI_RESPONSE => {
                self.take_numbers(bhs, true)?;
                let slot = self.slot_of(bhs)?;
                let state = &mut self.slots[usize::from(slot)];
                state.is_busy = false;
                let is_moved = match state.transfer {
                    Transfer::In(bytes) => state.received == bytes,
                    _ => true,
                };
                ends.push(Completion {
                    slot,
                    response: bhs[2],
                    status: bhs[3],
                    sense: Sense::decode(self.received[data].get(2..).unwrap_or(&[])),
                    is_whole: is_moved && bhs[1] & 0x06 == 0,
                });
            }
            response::R2T => {
                self.take_numbers(bhs, false)?;
                let slot = self.slot_of(bhs)?;
                let (at, len) = (word(bhs, 40), word(bhs, 44));
                let offered = match self.slots[usize::from(slot)].transfer {
                    Transfer::Out(bytes) => bytes,
                    _ => 0,
                };
                let end = at.checked_add(len).filter(|end| *end <= offered && len > 0);
                let Some(end) = end.filter(|_| at.is_multiple_of(4) && len.is_multiple_of(4)) else {
                    return Err(Error::Session(format!("R2T for {len} bytes at {at} of {offered}")));
                };
                self.push_data_out(slot, word(bhs, 20), at, end);
            }
            response::NOP_IN => {
                self.take_numbers(bhs, word(bhs, 16) != NO_TAG)?;
                self.pings += 1;
                if word(bhs, 20) != NO_TAG {
                    let mut pong = [0; BHS_BYTES];
                    pong[0] = request::NOP_OUT | IMMEDIATE;
                    pong[1] = FINAL;
                    pong[8..16].copy_from_slice(&bhs[8..16]);
                    pong[16..20].copy_from_slice(&NO_TAG.to_be_bytes());
                    pong[20..24].copy_from_slice(&bhs[20..24]);
                    pong[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
                    self.push(&mut pong, 0, 0, 0);
                }
            }
            response::ASYNC => {
                self.take_numbers(bhs, true)?;
                self.events += 1;
                // 1 to 3: a logout is asked for, or connection or session go (RFC 7143 11.9.1).
                if (1..=3).contains(&bhs[36]) {
                    return Err(Error::Closed(format!("the target sent asynchronous event {}", bhs[36])));
                }
            }
            response::REJECT => {
                return Err(Error::Session(format!("a PDU was rejected for reason {:02x}h", bhs[2])));
            }
            other => return Err(Error::Session(format!("opcode {other:02x}h in the middle of a load"))),
        }
        Ok(())
    }
}
