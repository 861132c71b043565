//! A target in memory: two streams as a kernel keeps them, a unit with a disk, and an initiator
//! that speaks in bytes.

use std::collections::VecDeque;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;
use std::{format, panic, vec};

use guest_memory::Memory;
use request::{Instant, Span};

use crate::*;

pub const INITIATOR: &str = "iqn.1993-08.org.debian:01:abc";
pub const TARGET: &str = "iqn.2026-11.org.example:backup";
pub const BLOCK: usize = 512;

pub fn directory() -> Directory {
    Directory {
        portals: vec![
            Portal { address: "192.0.2.1:3260".into(), tag: 1 },
            Portal { address: "0.0.0.0:3261".into(), tag: 2 },
        ],
        targets: vec![Target {
            name: TARGET.into(),
            alias: Some("Backup".into()),
            portals: vec![1, 2],
            luns: vec![0, 1, 7],
            allow: Vec::new(),
            open: true,
            sessions_max: 4,
            leaving: false,
        }],
        discovery: Vec::new(),
    }
}

pub fn limits() -> Limits {
    Limits { commands: 8, immediate: 2, pool_bytes: 256 << 10, ring_bytes: 128 << 10, ..Limits::default() }
}

/// What the unit remembers of a command under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Waits for so many bytes of data.
    Write(u32),
}

/// One connection, its streams, and all that is around it.
pub struct Rig {
    pub connection: Option<Connection>,
    pub memory: Arc<Memory>,
    pub directory: Directory,
    pub sessions: Sessions,
    pub now: u64,
    /// All bytes that the initiator ever sent, and how many the target took.
    pub inbound: Vec<u8>,
    pub taken: usize,
    /// All bytes that the target ever sent, and how many the initiator has looked at.
    pub outbound: Vec<u8>,
    pub read: usize,
    pub events: Vec<Event>,
    /// The unit's disk. LUN 0.
    pub disk: Vec<u8>,
    /// Commands that the unit has and has not begun to end, if `slow`.
    pub pending: VecDeque<Tag>,
    steps: Vec<(Tag, Step)>,
    /// The unit answers only when told to.
    pub slow: bool,
    /// How often a command was begun, by its id.
    pub begun: Vec<(u64, bool)>,
    /// The most bytes of one recv and of one send.
    pub recv_max: usize,
    pub send_max: usize,
    pub managed: Vec<Management>,
    random: u64,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
    pub digests: (bool, bool),
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(limits(), directory())
    }

    pub fn with(limits: Limits, directory: Directory) -> Rig {
        let memory = Memory::anonymous(limits.memory_bytes());
        let connection = Connection::create(
            Arc::clone(&memory),
            &limits,
            ConnectionId(7),
            "198.51.100.9:3261",
            1,
            Instant::from_nanos(1),
        )
        .unwrap();
        Rig {
            connection: Some(connection),
            memory,
            directory,
            sessions: Sessions::new(16),
            now: 1,
            inbound: Vec::new(),
            taken: 0,
            outbound: Vec::new(),
            read: 0,
            events: Vec::new(),
            disk: vec![0; 4096 * BLOCK],
            pending: VecDeque::new(),
            steps: Vec::new(),
            slow: false,
            begun: Vec::new(),
            recv_max: usize::MAX,
            send_max: usize::MAX,
            managed: Vec::new(),
            random: 0,
            cmd_sn: 1,
            exp_stat_sn: 0,
            digests: (false, false),
        }
    }

    pub fn conn(&mut self) -> &mut Connection {
        self.connection.as_mut().unwrap()
    }

    /// What a fresh process does.
    pub fn resume(&mut self) {
        self.steps.clear();
        self.pending.clear();
        let positions = Positions { received: self.taken as u64, sent: self.outbound.len() as u64 };
        let connection = Connection::resume(
            Arc::clone(&self.memory),
            ConnectionId(7),
            positions,
            Instant::from_nanos(self.now),
        )
        .unwrap();
        self.sessions = Sessions::new(16);
        if connection.is_established() {
            self.sessions.insert(connection.claim().unwrap());
        }
        self.connection = Some(connection);
    }

    /// One turn, as a lane does it. `false`: nothing moved.
    pub fn turn(&mut self) -> bool {
        let mut moved = self.receive();
        moved |= self.work();
        self.finish_pending();
        moved |= self.conn().commit();
        moved |= self.send();
        moved
    }

    pub fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.turn() && !self.conn().is_blocked() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn receive(&mut self) -> bool {
        let mut spans = [Span::default(); RECEIVE_PIECES_MAX];
        let count = self.connection.as_ref().unwrap().receive_into(&mut spans);
        let mut done = 0;
        for span in &spans[..count] {
            let left = self.inbound.len() - self.taken;
            let len = left.min(span.len as usize).min(self.recv_max - done);
            let bytes = &self.inbound[self.taken..self.taken + len];
            self.memory.write(Span { len: len as u32, ..*span }, bytes).unwrap();
            self.taken += len;
            done += len;
            if len < span.len as usize {
                break;
            }
        }
        self.conn().received(done as u32);
        done > 0
    }

    fn send(&mut self) -> bool {
        let mut moved = false;
        loop {
            let mut spans = [Span::default(); 8];
            let count = self.connection.as_ref().unwrap().transmit(&mut spans);
            let mut done = 0;
            for span in &spans[..count] {
                let len = (span.len as usize).min(self.send_max - done);
                let mut bytes = vec![0; len];
                self.memory.read(Span { len: len as u32, ..*span }, &mut bytes).unwrap();
                self.outbound.extend_from_slice(&bytes);
                done += len;
                if len < span.len as usize {
                    break;
                }
            }
            if done == 0 {
                return moved;
            }
            moved = true;
            self.conn().sent(done as u32);
            if self.send_max != usize::MAX {
                return moved;
            }
        }
    }

    pub fn next(&mut self) -> Option<Event> {
        self.next_within(&mut u32::MAX.clone())
    }

    /// Follows so many PDUs at most; how many are left.
    pub fn next_within(&mut self, steps: &mut u32) -> Option<Event> {
        let mut random = self.random;
        let mut fill = |bytes: &mut [u8]| {
            for byte in bytes {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (random >> 56) as u8;
            }
        };
        let mut turn = Turn {
            now: Instant::from_nanos(self.now),
            directory: &self.directory,
            sessions: &mut self.sessions,
            random: &mut fill,
            steps: *steps,
        };
        let event = self.connection.as_mut().unwrap().next(&mut turn);
        *steps = turn.steps;
        self.random = random;
        event
    }

    fn work(&mut self) -> bool {
        let mut moved = false;
        while let Some(event) = self.next() {
            moved = true;
            self.events.push(event);
            match event {
                Event::Command(tag) => {
                    let command = self.conn().command(tag).unwrap();
                    self.begun.push((command.id, command.resumed));
                    self.pending.push_back(tag);
                    if !self.slow {
                        self.finish_pending();
                    }
                }
                Event::DataOut(tag) => {
                    if let Some(at) = self.steps.iter().position(|(of, _)| *of == tag) {
                        let (_, Step::Write(bytes)) = self.steps.remove(at);
                        match self.conn().collect(tag, bytes) {
                            Collected::Ready => self.write(tag, bytes),
                            Collected::Later => panic!("it was said to be there"),
                            Collected::Never => self.respond(tag, 0, &[], 0, 0),
                        }
                    }
                }
                Event::Manage(tag) => {
                    let management = self.conn().management(tag).unwrap();
                    self.managed.push(management);
                    let tasks: Vec<Tag> = match management.function {
                        Function::AbortTask => management.task.into_iter().collect(),
                        Function::QueryTask => Vec::new(),
                        _ => self.conn().tasks().filter(|other| *other != tag).collect(),
                    };
                    for task in tasks {
                        self.drop_task(task);
                    }
                    let answer = match management.function {
                        Function::QueryTask => Answer::Succeeded,
                        _ => Answer::Complete,
                    };
                    self.conn().answer(tag, answer);
                }
                Event::Ended(_) => {
                    let tasks: Vec<Tag> = self.conn().tasks().collect();
                    for task in tasks {
                        self.drop_task(task);
                    }
                }
                // It waits; the test ends the other one.
                Event::Displace(_) => return false,
                Event::Target | Event::Established => {}
            }
        }
        moved
    }

    fn drop_task(&mut self, tag: Tag) {
        self.pending.retain(|other| *other != tag);
        self.steps.retain(|(other, _)| *other != tag);
        self.conn().drop_task(tag);
    }

    /// Executes what the unit has.
    fn finish_pending(&mut self) {
        if !self.slow {
            self.execute_all();
        }
    }

    pub fn execute_all(&mut self) {
        while let Some(tag) = self.pending.pop_front() {
            self.execute(tag);
        }
    }

    /// READ(10), WRITE(10), TEST UNIT READY; everything else is an invalid operation code.
    pub fn execute(&mut self, tag: Tag) {
        let Some(command) = self.conn().command(tag) else { return };
        let cdb = command.cdb().to_vec();
        let lba = u32::from_be_bytes([cdb[2], cdb[3], cdb[4], cdb[5]]) as usize;
        let bytes = usize::from(u16::from_be_bytes([cdb[7], cdb[8]])) * BLOCK;
        match cdb[0] {
            0x00 => self.respond(tag, 0, &[], 0, 0),
            0x28 => {
                let data = self.disk[lba * BLOCK..lba * BLOCK + bytes].to_vec();
                let spans = self.conn().buffer(tag);
                let fits = self.memory.scatter(&spans, &data);
                self.respond(tag, 0, &[], fits as u32, bytes as u64);
            }
            0x2a => match self.conn().collect(tag, bytes as u32) {
                Collected::Ready => self.write(tag, bytes as u32),
                Collected::Later => self.steps.push((tag, Step::Write(bytes as u32))),
                Collected::Never => self.respond(tag, 0, &[], 0, 0),
            },
            _ => {
                let sense = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0];
                self.respond(tag, 2, &sense, 0, 0);
            }
        }
    }

    fn write(&mut self, tag: Tag, bytes: u32) {
        let Some(command) = self.conn().command(tag) else { return };
        let cdb = command.cdb().to_vec();
        let lba = u32::from_be_bytes([cdb[2], cdb[3], cdb[4], cdb[5]]) as usize;
        let have = self.conn().collected(tag).min(bytes) as usize;
        let mut data = vec![0; have];
        let spans = self.conn().buffer(tag);
        self.memory.gather(&spans, &mut data);
        self.disk[lba * BLOCK..lba * BLOCK + have].copy_from_slice(&data);
        self.respond(tag, 0, &[], 0, u64::from(bytes));
    }

    fn respond(&mut self, tag: Tag, status: u8, sense: &[u8], data_in: u32, moves: u64) {
        self.conn().respond(tag, &Outcome { status, sense, data_in, moves });
    }

    // The initiator.

    pub fn say(&mut self, pdu: &[u8]) {
        self.inbound.extend_from_slice(pdu);
    }

    /// A PDU as bytes, with the digests that were agreed on.
    pub fn pdu(&self, header: Header, data: &[u8]) -> Vec<u8> {
        let header = header.with_data_bytes(data.len() as u32);
        let mut bytes = header.0.to_vec();
        if self.digests.0 {
            bytes.extend_from_slice(&crc32c::crc32c(&header.0).to_le_bytes());
        }
        if data.is_empty() {
            return bytes;
        }
        let begin = bytes.len();
        bytes.extend_from_slice(data);
        while !(bytes.len() - begin).is_multiple_of(4) {
            bytes.push(0);
        }
        if self.digests.1 {
            let crc = crc32c::crc32c(&bytes[begin..]);
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    pub fn send_pdu(&mut self, header: Header, data: &[u8]) {
        let pdu = self.pdu(header, data);
        self.say(&pdu);
    }

    /// The next PDU that the target sent.
    pub fn hear(&mut self) -> Option<(Header, Vec<u8>)> {
        let rest = &self.outbound[self.read..];
        let header = Header(rest.get(..48)?.try_into().unwrap());
        let mut at = 48;
        if self.digests.0 {
            let crc = u32::from_le_bytes(rest.get(48..52)?.try_into().unwrap());
            assert_eq!(crc, crc32c::crc32c(&header.0), "header digest of {header:?}");
            at += 4;
        }
        let len = header.data_bytes() as usize;
        let data = rest.get(at..at + len)?.to_vec();
        let padded = len.next_multiple_of(4);
        let whole = rest.get(at..at + padded)?;
        let mut end = at + padded;
        if self.digests.1 && len > 0 {
            let crc = u32::from_le_bytes(rest.get(end..end + 4)?.try_into().unwrap());
            assert_eq!(crc, crc32c::crc32c(whole), "data digest of {header:?}");
            end += 4;
        }
        self.read += end;
        Some((header, data))
    }

    /// Runs, and takes one PDU.
    pub fn answer(&mut self) -> (Header, Vec<u8>) {
        self.run();
        self.hear().expect("an answer")
    }

    /// Runs, and expects silence.
    pub fn silence(&mut self) {
        self.run();
        assert_eq!(self.hear(), None);
    }

    pub fn fault(&self, fault: Fault) -> u64 {
        self.connection.as_ref().unwrap().faults()[fault as usize]
    }

    pub fn login_header(flags: u8) -> Header {
        Header::new(0x43)
            .with_flags(flags)
            .with_bytes(8, &[0x00, 0x02, 0x3d, 0, 0, 1])
            .with_itt(0x10)
            .with_cmd_sn(1)
    }

    /// Logs in without authentication, with these keys.
    pub fn log_in(&mut self, keys: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET)]);
        text.extend_from_slice(&text_of(keys));
        // T, CSG=1, NSG=3.
        self.send_pdu(Rig::login_header(0x87), &text);
        let (header, data) = self.answer();
        assert_eq!((header.0[0], header.0[1], header.0[36], header.0[37]), (0x23, 0x87, 0, 0));
        self.exp_stat_sn = header.stat_sn().wrapping_add(1);
        let answers = pairs_of(&data);
        let agreed = |name: &str| answers.iter().any(|(key, value)| key == name && value == "CRC32C");
        self.digests = (agreed("HeaderDigest"), agreed("DataDigest"));
        answers
    }

    /// A SCSI command's header. READ or WRITE by the CDB's operation code.
    pub fn command_header(&mut self, itt: u32, cdb: &[u8], expected: u32) -> Header {
        let flags = match cdb[0] {
            0x28 => 0xc1,
            0x2a => 0xa1,
            _ => 0x81,
        };
        let header = Header::new(0x01)
            .with_flags(flags)
            .with_itt(itt)
            .with_expected_length(expected)
            .with_cmd_sn(self.cmd_sn)
            .with_exp_stat_sn(self.exp_stat_sn)
            .with_bytes(32, cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        header
    }

    pub fn read(&mut self, itt: u32, lba: u32, blocks: u16) {
        let header = self.command_header(itt, &cdb10(0x28, lba, blocks), u32::from(blocks) * BLOCK as u32);
        self.send_pdu(header, &[]);
    }
}

pub fn cdb10(code: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = code;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

pub fn text_of(pairs: &[(&str, &str)]) -> Vec<u8> {
    pairs.iter().flat_map(|(key, value)| format!("{key}={value}\0").into_bytes()).collect()
}

pub fn pairs_of(text: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(text).unwrap();
    text.split('\0')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.to_string(), value.to_string())
        })
        .collect()
}

pub fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// Bytes that differ from place to place.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}
