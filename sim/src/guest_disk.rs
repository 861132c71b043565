//! A guest with a disk: a driver that asks for anything, and knows what it must get.

use std::collections::BTreeMap;

use bench::driver::queue::{Buffer, Queue};
use bench::driver::ram::{Area, Ram};

use crate::dice::Dice;
use crate::oracle::{BLOCK, BeforeFlush, Oracle, Version, fill};
use crate::rude;

/// Requests at a time.
const DEPTH: u16 = 12;
const BLOCKS_MAX: u64 = 8;
pub const DATA_AT: usize = 64;
pub const RESPONSE_AT: usize = DATA_AT + BLOCKS_MAX as usize * BLOCK;
const SLOT_BYTES: usize = RESPONSE_AT + 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Blk,
    Scsi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Read,
    Write {
        fua: bool,
    },
    Zeroes {
        discard: bool,
    },
    /// One block's data into all of them.
    Same,
    Flush,
    /// Something that no driver may ask for: it is refused, and does nothing.
    Rude,
}

struct Request {
    ask: Ask,
    at: u64,
    count: u64,
    /// What each block is to become.
    version: Version,
    before: Option<BeforeFlush>,
    /// A worker died while this was with it.
    crashed: bool,
}

pub struct DiskGuest {
    pub wire: Wire,
    pub queue: Queue,
    slots: Vec<Area>,
    requests: BTreeMap<u16, Request>,
    pub oracle: Oracle,
    busy: Vec<bool>,
    next_version: Version,
    pub sent: u64,
    /// Ends by name; their sum is `sent`, less what is under way.
    pub ends: BTreeMap<String, u64>,
    pub wrong: Vec<String>,
}

impl DiskGuest {
    pub fn new(wire: Wire, queue: Queue, ram: &mut Ram, oracle: Oracle, next_version: Version) -> Self {
        let slots =
            (0..DEPTH).map(|_| ram.allocate(SLOT_BYTES, 64).expect("room for the requests")).collect();
        let busy = vec![false; oracle.len() as usize];
        Self {
            wire,
            queue,
            slots,
            requests: BTreeMap::new(),
            oracle,
            busy,
            next_version,
            sent: 0,
            ends: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    /// The power is gone: what the disk still owes, and what a later guest has to start with.
    pub fn die(self) -> (Oracle, Version, BTreeMap<String, u64>, u64) {
        let Self { mut oracle, requests, next_version, mut ends, sent, .. } = self;
        for request in requests.values() {
            if let Some(version) = request.becomes() {
                (request.at..request.at + request.count).for_each(|at| oracle.may_have_written(at, version));
            }
            *ends.entry("lost with the power".to_owned()).or_default() += 1;
        }
        oracle.power_was_cut();
        (oracle, next_version, ends, sent)
    }

    /// The worker died: what it had may have been done, whatever its successor answers.
    pub fn crash(&mut self) {
        self.requests.values_mut().for_each(|request| request.crashed = true);
    }

    pub fn outstanding(&self) -> usize {
        self.requests.len()
    }

    /// Asks for a few things.
    pub fn ask(&mut self, dice: &mut Dice) {
        for _ in 0..dice.below(4) {
            let Some(token) = (0..DEPTH).find(|token| !self.requests.contains_key(token)) else { break };
            if dice.one_in(12) {
                self.be_rude(token, dice);
                continue;
            }
            let ask = match dice.below(16) {
                0..6 => Ask::Read,
                6 => Ask::Flush,
                7 => Ask::Zeroes { discard: dice.one_in(2) },
                8 if self.wire == Wire::Scsi => Ask::Same,
                9 | 10 if self.wire == Wire::Scsi => Ask::Write { fua: true },
                _ => Ask::Write { fua: false },
            };
            self.start(token, ask, dice);
        }
        self.queue.publish();
    }

    /// Reads everything once, for the last look.
    pub fn read_all(&mut self) {
        let mut dice = Dice::new(0);
        for at in (0..self.oracle.len()).step_by(BLOCKS_MAX as usize) {
            let Some(token) = (0..DEPTH).find(|token| !self.requests.contains_key(token)) else { break };
            if self.busy[at as usize] {
                continue;
            }
            let count = BLOCKS_MAX.min(self.oracle.len() - at);
            self.submit(
                token,
                Request { ask: Ask::Read, at, count, version: 0, before: None, crashed: false },
                &mut dice,
            );
        }
        self.queue.publish();
    }

    fn start(&mut self, token: u16, ask: Ask, dice: &mut Dice) {
        let count = if ask == Ask::Flush { 0 } else { 1 + dice.below(BLOCKS_MAX) };
        let at = dice.below(self.oracle.len() - count + 1);
        // Overlapping requests in flight have no order; a guest that cares waits, as this one does.
        if (at..at + count).any(|at| self.busy[at as usize]) {
            return;
        }
        self.next_version += 1;
        let before = (ask == Ask::Flush).then(|| self.oracle.flush_begins());
        self.submit(
            token,
            Request { ask, at, count, version: self.next_version, before, crashed: false },
            dice,
        );
    }

    /// A request with a fault. Its answer, where there is room for one, must not be good.
    fn be_rude(&mut self, token: u16, dice: &mut Dice) {
        let area = self.slots[usize::from(token)].clone();
        area.write_bytes(0, &[0; RESPONSE_AT]);
        area.write_bytes(RESPONSE_AT, &[0xee; 128]);
        let chain = match self.wire {
            Wire::Blk => rude::blk(&area, self.oracle.len(), dice),
            Wire::Scsi => rude::scsi(&area, self.oracle.len(), dice),
        };
        if self.queue.has_room(chain.len()) {
            assert!(self.queue.add(token, &chain), "room was checked");
            self.sent += 1;
            self.requests.insert(
                token,
                Request { ask: Ask::Rude, at: 0, count: 0, version: 0, before: None, crashed: false },
            );
        }
    }

    fn submit(&mut self, token: u16, request: Request, dice: &mut Dice) {
        let area = self.slots[usize::from(token)].clone();
        let mut chain: Vec<Buffer> = Vec::new();
        let address = |at: usize| area.address() + at as u64;
        // A response that nobody writes is found out.
        area.write_bytes(RESPONSE_AT, &[0xee; 128]);
        let data = request.data(self.wire, &area);
        let header = match self.wire {
            Wire::Blk => request.blk_header(),
            Wire::Scsi => request.scsi_header(token),
        };
        area.write_bytes(0, &header);
        chain.push(Buffer::readable(address(0), header.len() as u32));
        let pieces = |chain: &mut Vec<Buffer>, len: u32, write: bool, dice: &mut Dice| {
            let mut from = 0;
            while from < len {
                let piece =
                    if dice.one_in(2) { len - from } else { 1 + dice.below(u64::from(len - from)) as u32 };
                let at = address(DATA_AT + from as usize);
                chain.push(if write { Buffer::writable(at, piece) } else { Buffer::readable(at, piece) });
                from += piece;
            }
        };
        match (self.wire, data) {
            (Wire::Blk, Data::Out(len)) => {
                pieces(&mut chain, len, false, dice);
                chain.push(Buffer::writable(address(RESPONSE_AT), 1));
            }
            (Wire::Blk, Data::In(len)) => {
                pieces(&mut chain, len, true, dice);
                chain.push(Buffer::writable(address(RESPONSE_AT), 1));
            }
            (Wire::Scsi, Data::Out(len)) => {
                pieces(&mut chain, len, false, dice);
                chain.push(Buffer::writable(address(RESPONSE_AT), 108));
            }
            (Wire::Scsi, Data::In(len)) => {
                chain.push(Buffer::writable(address(RESPONSE_AT), 108));
                pieces(&mut chain, len, true, dice);
            }
        }
        if !self.queue.has_room(chain.len()) {
            return;
        }
        assert!(self.queue.add(token, &chain), "room was checked");
        for at in request.at..request.at + request.count {
            self.busy[at as usize] = true;
        }
        self.sent += 1;
        self.requests.insert(token, request);
    }

    /// Takes what has ended and holds it against the oracle.
    pub fn take(&mut self) {
        loop {
            match self.queue.pop() {
                Ok(Some(used)) => self.ended(used.token, used.written),
                Ok(None) => return,
                Err(violation) => {
                    self.wrong.push(format!("ring: {violation}"));
                    return;
                }
            }
        }
    }

    fn ended(&mut self, token: u16, written: u32) {
        let Some(request) = self.requests.remove(&token) else {
            self.wrong.push(format!("request {token} ended twice"));
            return;
        };
        let area = &self.slots[usize::from(token)];
        let blocks = request.at..request.at + request.count;
        for at in blocks.clone() {
            self.busy[at as usize] = false;
        }
        let (end, data_len) = match self.wire {
            Wire::Blk => (blk_end(area.load_u8(RESPONSE_AT)), written.saturating_sub(1)),
            Wire::Scsi => (scsi_end(area), written.saturating_sub(108)),
        };
        if request.ask == Ask::Rude {
            let name = if end == "good" { "well answered" } else { "refused" };
            if end == "good" {
                self.wrong.push("a request that no driver may make ended well".to_owned());
            }
            *self.ends.entry(name.to_owned()).or_default() += 1;
            return;
        }
        if end.starts_with("status") || end.starts_with("response") {
            self.wrong.push(format!("an answer that nobody asked for: {end}"));
        }
        *self.ends.entry(end.clone()).or_default() += 1;
        let good = end == "good";
        if good && request.ask == Ask::Read && u64::from(data_len) != request.count * BLOCK as u64 {
            self.wrong.push(format!("a read of {} blocks gave {data_len} bytes", request.count));
        }
        match request.ask {
            Ask::Read if good => {
                for (index, at) in blocks.enumerate() {
                    let mut bytes = [0; BLOCK];
                    area.read_bytes(DATA_AT + index * BLOCK, &mut bytes);
                    if !self.oracle.read(at, &bytes) {
                        let expected = self.oracle.expected(at);
                        let found = crate::oracle::version_of(at, &bytes);
                        self.wrong.push(format!("block {at}: {found:?}, not one of {expected:?}"));
                    }
                }
            }
            Ask::Read | Ask::Rude => {}
            Ask::Flush => {
                if let Some(before) = request.before.as_ref()
                    && good
                {
                    self.oracle.flushed(before);
                }
            }
            // A unit attention comes before the command: nothing was done of it, unless a worker did
            // it and died, and its successor had to tell the attention again.
            _ if end == "unit attention" && !request.crashed => {}
            Ask::Write { .. } | Ask::Zeroes { .. } | Ask::Same => {
                let version = request.becomes().unwrap_or_default();
                for at in blocks {
                    if good {
                        self.oracle.wrote(at, version, request.ask == Ask::Write { fua: true });
                    } else {
                        self.oracle.may_have_written(at, version);
                    }
                }
            }
        }
    }
}

enum Data {
    Out(u32),
    In(u32),
}

impl Request {
    /// What its blocks become, if it writes.
    fn becomes(&self) -> Option<Version> {
        match self.ask {
            Ask::Write { .. } => Some(self.version),
            // A block of zeroes is the only one that is right at several places.
            Ask::Zeroes { .. } | Ask::Same => Some(0),
            Ask::Read | Ask::Flush | Ask::Rude => None,
        }
    }

    /// Puts the data into its place; how much there is, and whose.
    fn data(&self, wire: Wire, area: &Area) -> Data {
        let bytes = self.count as usize * BLOCK;
        match self.ask {
            Ask::Read => {
                area.write_bytes(DATA_AT, &vec![0xdd; bytes]);
                Data::In(bytes as u32)
            }
            Ask::Write { .. } => {
                let mut block = [0; BLOCK];
                for index in 0..self.count {
                    fill(self.at + index, self.version, &mut block);
                    area.write_bytes(DATA_AT + index as usize * BLOCK, &block);
                }
                Data::Out(bytes as u32)
            }
            Ask::Same => {
                area.write_bytes(DATA_AT, &[0; BLOCK]);
                Data::Out(BLOCK as u32)
            }
            Ask::Flush | Ask::Rude => Data::Out(0),
            Ask::Zeroes { .. } if wire == Wire::Blk => {
                let mut segment = [0; 16];
                segment[..8].copy_from_slice(&self.at.to_le_bytes());
                segment[8..12].copy_from_slice(&(self.count as u32).to_le_bytes());
                area.write_bytes(DATA_AT, &segment);
                Data::Out(16)
            }
            // UNMAP's parameter list, SBC-3 5.30.2: two lengths, then one descriptor.
            Ask::Zeroes { .. } => {
                let mut list = [0; 24];
                list[..2].copy_from_slice(&22u16.to_be_bytes());
                list[2..4].copy_from_slice(&16u16.to_be_bytes());
                list[8..16].copy_from_slice(&self.at.to_be_bytes());
                list[16..20].copy_from_slice(&(self.count as u32).to_be_bytes());
                area.write_bytes(DATA_AT, &list);
                Data::Out(24)
            }
        }
    }

    fn blk_header(&self) -> Vec<u8> {
        let kind: u32 = match self.ask {
            Ask::Read => 0,
            Ask::Write { .. } | Ask::Same => 1,
            Ask::Flush | Ask::Rude => 4,
            Ask::Zeroes { discard: true } => 11,
            Ask::Zeroes { discard: false } => 13,
        };
        let sector = if matches!(self.ask, Ask::Zeroes { .. } | Ask::Flush) { 0 } else { self.at };
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        header
    }

    fn scsi_header(&self, token: u16) -> Vec<u8> {
        let mut header = vec![1, 0, 0x40, 0, 0, 0, 0, 0];
        header.extend(u64::from(token).to_le_bytes());
        header.extend([0, 0, 0]);
        let mut cdb = [0u8; 32];
        let long = self.at % 2 == 1;
        let place = |cdb: &mut [u8; 32], opcode: u8| {
            cdb[0] = opcode;
            cdb[2..10].copy_from_slice(&self.at.to_be_bytes());
            cdb[10..14].copy_from_slice(&(self.count as u32).to_be_bytes());
        };
        let place_10 = |cdb: &mut [u8; 32], opcode: u8| {
            cdb[0] = opcode;
            cdb[2..6].copy_from_slice(&(self.at as u32).to_be_bytes());
            cdb[7..9].copy_from_slice(&(self.count as u16).to_be_bytes());
        };
        match self.ask {
            Ask::Read if long => place(&mut cdb, 0x88),
            Ask::Read => place_10(&mut cdb, 0x28),
            Ask::Write { fua } => {
                if long {
                    place(&mut cdb, 0x8a)
                } else {
                    place_10(&mut cdb, 0x2a)
                }
                cdb[1] = if fua { 8 } else { 0 };
            }
            Ask::Same => place(&mut cdb, 0x93),
            Ask::Zeroes { .. } => {
                cdb[0] = 0x42;
                cdb[7..9].copy_from_slice(&24u16.to_be_bytes());
            }
            Ask::Flush | Ask::Rude => cdb[0] = 0x35,
        }
        header.extend(cdb);
        header
    }
}

fn blk_end(status: u8) -> String {
    match status {
        0 => "good".to_owned(),
        1 => "io error".to_owned(),
        2 => "unsupported".to_owned(),
        other => format!("status {other}"),
    }
}

fn scsi_end(area: &Area) -> String {
    let (status, response) = (area.load_u8(RESPONSE_AT + 10), area.load_u8(RESPONSE_AT + 11));
    match (response, status) {
        (0, 0) => "good".to_owned(),
        (0, 2) => match area.load_u8(RESPONSE_AT + 12 + 2) & 0xf {
            6 => "unit attention".to_owned(),
            key => format!("sense key {key:x}"),
        },
        (0, status) => format!("status {status:02x}"),
        (response, _) => format!("response {response}"),
    }
}
