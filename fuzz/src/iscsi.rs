//! Any bytes from an initiator, in any phase of a connection, between turns of any length and
//! processes that die.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use guest_memory::Memory;
use iscsi_target::{
    Allow, Answer, CDB_MAX_BYTES, Collected, Connection, ConnectionId, Credentials, Directory, Event, Limits,
    Outcome, Portal, Positions, RECEIVE_PIECES_MAX, SEND_PIECES_MAX, Secret, Sessions, Tag, Target, Turn,
};
use md5::{Digest, Md5};
use request::{Instant, Span, total};

const INITIATOR: &str = "iqn.1993-08.org.debian:01:abc";
const TARGET: &str = "iqn.2026-11.org.example:t";
/// What one input may make the target say before it is cut off.
const OUTPUT_MAX_BYTES: usize = 1 << 20;
/// What the target's own random numbers are here, so that a proof can be right.
const RANDOM: u8 = 0x5a;
const SECOND_NANOS: u64 = 1_000_000_000;

pub fn iscsi_pdu(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(flags) = input.arbitrary::<u8>() else { return };
    let Ok(login) = keys_of_login(&mut input) else { return };
    let mut world = World::new(Directory { discovery: Vec::new(), ..directory(true) });
    if flags & 3 != 0 {
        world.say(&login_pdu(0x87, &login));
        world.turn(usize::MAX, usize::MAX);
    }
    while !input.is_empty() && world.step(&mut input).is_ok() {}
    world.finish();
}

/// Login and text negotiation: pairs of keys and values, right and wrong, in PDUs of any stage.
pub fn iscsi_login(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let is_open = input.arbitrary().unwrap_or(true);
    let mut world = World::new(directory(is_open));
    while !input.is_empty() {
        let mut text = Vec::new();
        let Ok(flags) = input.arbitrary::<u8>() else { break };
        let pairs = usize::from(input.arbitrary::<u8>().unwrap_or(0) % 12);
        for _ in 0..pairs {
            pair(&mut input, &world, &mut text);
        }
        let mut pdu = login_pdu(flags, &text);
        match input.arbitrary::<u8>().unwrap_or(0) {
            0 => pdu[0] = 0x04, // a text request
            1 => pdu[14..16].copy_from_slice(&[0, 1]),
            2 => pdu[8..14].copy_from_slice(&[0xff; 6]),
            3 => pdu[2] = 1,
            4 => {
                let at = usize::from(input.arbitrary::<u8>().unwrap_or(0)) % 48;
                pdu[at] = input.arbitrary().unwrap_or(0);
            }
            5 => world.crash(),
            _ => {}
        }
        world.say(&pdu);
        world.turn(usize::MAX, usize::MAX);
    }
    world.finish();
}

fn directory(is_open: bool) -> Directory {
    let secret = |user: &str, secret: &[u8]| Credentials { user: user.into(), secret: Secret::new(secret) };
    let allow = Allow {
        initiator: INITIATOR.into(),
        luns: Some(vec![0, 7]),
        chap: Some(secret("u", b"secretsecret")),
        mutual: Some(secret("t", b"othersecrets")),
    };
    Directory {
        portals: vec![
            Portal { address: "192.0.2.1:3260".into(), tag: 1 },
            Portal { address: "[::]:3261".into(), tag: 2 },
        ],
        targets: vec![Target {
            name: TARGET.into(),
            alias: Some("A".into()),
            portals: vec![1, 2],
            luns: vec![0, 1, 7, 300],
            allow: if is_open { Vec::new() } else { vec![allow.clone()] },
            open: is_open,
            sessions_max: 2,
            leaving: false,
        }],
        discovery: vec![allow],
    }
}

fn limits() -> Limits {
    Limits {
        commands: 4,
        immediate: 2,
        pool_bytes: 64 << 10,
        ring_bytes: 128 << 10,
        burst_bytes: 64 << 10,
        ..Limits::default()
    }
}

/// The text of a login that succeeds on an open target, with parameters of any kind.
fn keys_of_login(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let flags = input.arbitrary::<u16>()?;
    let bit = |at: u16| flags >> at & 1 == 1;
    let yes = |at: u16| if bit(at) { "Yes" } else { "No" };
    let digest = |at: u16| if bit(at) { "CRC32C" } else { "None" };
    let size = |at: u16| ["512", "4096", "65536", "16777215"][usize::from(flags >> at & 3)];
    let text = format!(
        "InitiatorName={INITIATOR}\0TargetName={TARGET}\0HeaderDigest={}\0DataDigest={}\0InitialR2T={}\0\
         ImmediateData={}\0MaxBurstLength={}\0FirstBurstLength={}\0MaxRecvDataSegmentLength={}\0\
         MaxOutstandingR2T={}\0",
        digest(0),
        digest(1),
        yes(2),
        yes(3),
        size(4),
        ["512", "512", "4096", "512"][usize::from(flags >> 4 & 3)],
        size(6),
        1 + (flags >> 8 & 3),
    );
    Ok(text.into_bytes())
}

fn login_pdu(flags: u8, text: &[u8]) -> Vec<u8> {
    let mut pdu = vec![0; 48];
    (pdu[0], pdu[1]) = (0x43, flags);
    pdu[5..8].copy_from_slice(&(text.len() as u32).to_be_bytes()[1..]);
    pdu[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, 1]);
    pdu[19] = 1;
    pdu[27] = 1;
    pdu.extend_from_slice(text);
    pdu.resize(pdu.len().next_multiple_of(4), 0);
    pdu
}

const KEYS: [&str; 27] = [
    "InitiatorName",
    "InitiatorAlias",
    "TargetName",
    "TargetAddress",
    "SessionType",
    "AuthMethod",
    "CHAP_A",
    "CHAP_I",
    "CHAP_C",
    "CHAP_N",
    "CHAP_R",
    "HeaderDigest",
    "DataDigest",
    "MaxConnections",
    "SendTargets",
    "InitialR2T",
    "ImmediateData",
    "MaxRecvDataSegmentLength",
    "MaxBurstLength",
    "FirstBurstLength",
    "DefaultTime2Wait",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "ErrorRecoveryLevel",
    "iSCSIProtocolLevel",
    "OFMarker",
    "X-org.example",
];

const VALUES: [&str; 24] = [
    INITIATOR,
    TARGET,
    "Normal",
    "Discovery",
    "None",
    "CHAP",
    "CHAP,None",
    "5",
    "8,7,6,5",
    "u",
    "CRC32C",
    "CRC32C,None",
    "Yes",
    "No",
    "512",
    "16777215",
    "0",
    "0x10",
    "All",
    "",
    "0x0102030405060708",
    "0bAAECAwQF",
    "Irrelevant",
    "NotUnderstood",
];

/// One pair, or something like it.
fn pair(input: &mut Unstructured<'_>, world: &World, text: &mut Vec<u8>) {
    let byte = |input: &mut Unstructured<'_>| input.arbitrary::<u8>().unwrap_or(0);
    let kind = byte(input);
    if kind == 0xff {
        let len = usize::from(byte(input));
        text.extend_from_slice(input.bytes(len.min(input.len())).unwrap_or(&[]));
        return;
    }
    if kind == 0xfe {
        // The proof that the last challenge asks for.
        text.extend_from_slice(b"CHAP_N=u\0CHAP_R=0x");
        for digit in world.proof() {
            text.extend_from_slice(format!("{digit:02x}").as_bytes());
        }
        text.push(0);
        return;
    }
    text.extend_from_slice(KEYS[usize::from(kind) % KEYS.len()].as_bytes());
    text.push(b'=');
    match byte(input) {
        0xff => text.resize(text.len() + usize::from(byte(input)) * 40, b'x'),
        0xfe => {
            let len = usize::from(byte(input)) % 32;
            text.extend_from_slice(input.bytes(len.min(input.len())).unwrap_or(&[]));
        }
        value => text.extend_from_slice(VALUES[usize::from(value) % VALUES.len()].as_bytes()),
    }
    text.push(0);
}

/// A connection with all that is around it, as a lane would have it.
struct World {
    connection: Connection,
    memory: Arc<Memory>,
    directory: Directory,
    sessions: Sessions,
    now: u64,
    inbound: Vec<u8>,
    taken: usize,
    outbound: Vec<u8>,
    parser: Parser,
    /// Commands and functions that were handed out and not answered.
    delivered: Vec<Tag>,
    collecting: Vec<Tag>,
    cmd_sn: u32,
    is_ended: bool,
}

impl World {
    fn new(directory: Directory) -> World {
        let memory = Memory::anonymous(limits().memory_bytes());
        let now = SECOND_NANOS;
        let connection = Connection::create(
            Arc::clone(&memory),
            &limits(),
            ConnectionId(7),
            "198.51.100.9:3261",
            1,
            Instant::from_nanos(now),
        );
        World {
            connection: connection.expect("limits that are right"),
            memory,
            directory,
            sessions: Sessions::new(4),
            now,
            inbound: Vec::new(),
            taken: 0,
            outbound: Vec::new(),
            parser: Parser::default(),
            delivered: Vec::new(),
            collecting: Vec::new(),
            cmd_sn: 1,
            is_ended: false,
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
    }

    /// CHAP_R for the challenge that was said last, by MD5.
    fn proof(&self) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.outbound);
        let value =
            |key: &str| text.rsplit(key).next().and_then(|rest| rest.split('\0').next()).unwrap_or("");
        let identifier: u8 = value("CHAP_I=").parse().unwrap_or(0);
        let digits = value("CHAP_C=0x").as_bytes();
        let digit = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
        let challenge: Vec<u8> =
            digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        Md5::digest([&[identifier], &b"secretsecret"[..], &challenge].concat()).to_vec()
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=23)? {
            0 => {
                let count = usize::from(input.arbitrary::<u8>()?);
                let bytes = input.bytes(count.min(input.len()))?.to_vec();
                self.say(&bytes);
            }
            1..10 => {
                let pdu = self.pdu(input)?;
                self.say(&pdu);
            }
            10 => self.crash(),
            11 => self.now += u64::from(input.arbitrary::<u8>()?) * SECOND_NANOS,
            12 if input.ratio(1, 8)? => self.connection.hung_up(),
            13 => self.connection.ask_logout(Instant::from_nanos(self.now), 3),
            14 => {
                let _ = self
                    .connection
                    .async_scsi(input.arbitrary()?, &[0x70, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2a, 9]);
            }
            15 if input.ratio(1, 8)? => self.connection.displaced(),
            16..20 => self.answer(input)?,
            20 => {
                let (receive, send) = (input.arbitrary::<u16>()?, input.arbitrary::<u16>()?);
                self.turn(receive.into(), send.into());
            }
            _ => self.turn(usize::MAX, usize::MAX),
        }
        Ok(())
    }

    /// A PDU of the full feature phase with the lengths and digests that it should have, mostly.
    fn pdu(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let mut bhs = [0u8; 48];
        let kind = input.arbitrary::<u8>()?;
        let opcode =
            [0x01, 0x01, 0x01, 0x05, 0x05, 0x02, 0x00, 0x04, 0x06, 0x10, 0x03][usize::from(kind) % 11];
        let is_immediate = kind >= 0xc0 || (opcode == 0x02 && kind < 0x80);
        bhs[0] = opcode | if is_immediate { 0x40 } else { 0 };
        bhs[1] = input.arbitrary::<u8>()? | if kind % 3 == 0 { 0 } else { 0x80 };
        bhs[9] = input.int_in_range(0..=7)?;
        bhs[19] = input.int_in_range(0..=5)?;
        let mut len = usize::from(*input.choose(&[0u16, 0, 4, 100, 512, 513, 4096, 9000])?);
        bhs[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        match opcode {
            0x01 => {
                let expected = *input.choose(&[0u32, 512, 4096, 65536, 100_000, 0xffff_ffff])?;
                bhs[20..24].copy_from_slice(&expected.to_be_bytes());
                bhs[32] = *input.choose(&[0x28u8, 0x2a, 0x00, 0x12, 0x8a, 0x7f])?;
            }
            0x05 => {
                // What an R2T asked for, or a part of it, or something else.
                if let Some(asked) =
                    self.parser.r2ts.get(usize::from(kind >> 4) % self.parser.r2ts.len().max(1))
                {
                    bhs[16..24].copy_from_slice(&asked[16..24]);
                    bhs[40..44].copy_from_slice(&asked[40..44]);
                    len = u32::from_be_bytes([asked[44], asked[45], asked[46], asked[47]]) as usize;
                    len = len.min(usize::from(*input.choose(&[512u16, 4096, 0xfffc])?));
                } else {
                    bhs[20..24].fill(0xff);
                }
            }
            0x00 | 0x04 => bhs[20..24].fill(0xff),
            0x02 => {
                bhs[1] = 0x80 | bhs[1] & 0x0f;
                bhs[23] = bhs[2] & 3;
            }
            _ => len = len.min(512),
        }
        if opcode != 0x05 && !is_immediate {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        // A field of any value; seldom, because most of them end the connection.
        if input.ratio(1, 4)? {
            let at = usize::from(input.arbitrary::<u8>()?) % 48;
            bhs[at] = input.arbitrary()?;
        }
        let mut ahs = Vec::new();
        if input.ratio(1, 12)? {
            ahs = input.bytes(usize::min(16, input.len()))?.to_vec();
            ahs.resize(16, 0);
            bhs[4] = 4;
        }
        bhs[5..8].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
        let mut bytes = [&bhs[..], &ahs].concat();
        let (header_digest, data_digest) = self.parser.digests;
        let wrong = u8::from(input.ratio(1, 32)?);
        if header_digest {
            bytes.extend(digest(&bytes, wrong));
        }
        if len > 0 {
            let start = bytes.len();
            bytes.resize(start + len, 0xd7);
            bytes.resize(start + len.next_multiple_of(4), 0);
            if data_digest {
                bytes.extend(digest(&bytes[start..], wrong));
            }
        }
        Ok(bytes)
    }

    /// Receives, works, commits and sends, with so many bytes at most.
    fn turn(&mut self, receive_max: usize, send_max: usize) {
        for _ in 0..64 {
            let before = (self.taken, self.outbound.len());
            self.receive(receive_max);
            self.work();
            self.connection.commit();
            self.send(send_max);
            if before == (self.taken, self.outbound.len()) && !self.connection.is_blocked() {
                break;
            }
        }
    }

    fn receive(&mut self, most: usize) {
        let mut spans = [Span::default(); RECEIVE_PIECES_MAX];
        let count = self.connection.receive_into(&mut spans);
        let mut done = 0;
        for span in &spans[..count] {
            let len = (self.inbound.len() - self.taken).min(span.len as usize).min(most - done);
            let bytes = &self.inbound[self.taken..self.taken + len];
            self.memory.write(Span { len: len as u32, ..*span }, bytes).expect("a span of the memory");
            self.taken += len;
            done += len;
            if len < span.len as usize {
                break;
            }
        }
        self.connection.received(done as u32);
    }

    fn work(&mut self) {
        loop {
            let mut fill = |bytes: &mut [u8]| bytes.fill(RANDOM);
            let mut turn = Turn {
                now: Instant::from_nanos(self.now),
                directory: &self.directory,
                sessions: &mut self.sessions,
                random: &mut fill,
                steps: u32::MAX,
            };
            let Some(event) = self.connection.next(&mut turn) else { return };
            match event {
                Event::Command(tag) => {
                    assert!(!self.delivered.contains(&tag), "a task is handed out once");
                    let command = self.connection.command(tag).expect("a command that was named");
                    assert!(command.cdb().len() >= 16 && command.cdb().len() <= CDB_MAX_BYTES);
                    self.delivered.push(tag);
                }
                Event::DataOut(tag) => {
                    assert!(self.collecting.contains(&tag), "data that nobody asked for is told");
                    self.collecting.retain(|other| *other != tag);
                }
                Event::Manage(tag) => {
                    let management = self.connection.management(tag).expect("a function that was named");
                    if let Some(task) = management.task {
                        assert!(self.delivered.contains(&task), "a task that is not here is to be aborted");
                        self.drop_task(task);
                    }
                    self.connection.answer(tag, Answer::Complete);
                }
                Event::Ended(_) => {
                    self.is_ended = true;
                    for tag in self.connection.tasks().collect::<Vec<_>>() {
                        self.drop_task(tag);
                    }
                }
                Event::Displace(other) => self.sessions.remove(other),
                Event::Target | Event::Established => {
                    let claim = self.connection.claim().expect("a login that named its target");
                    assert!(claim.initiator.len() <= 223 && claim.target.len() <= 223);
                }
            }
        }
    }

    fn drop_task(&mut self, tag: Tag) {
        self.delivered.retain(|other| *other != tag);
        self.collecting.retain(|other| *other != tag);
        self.connection.drop_task(tag);
    }

    fn send(&mut self, most: usize) {
        let mut spans = [Span::default(); SEND_PIECES_MAX];
        while self.outbound.len() < OUTPUT_MAX_BYTES {
            let count = self.connection.transmit(&mut spans);
            let mut done = 0;
            for span in &spans[..count] {
                let len = (span.len as usize).min(most - done);
                let start = self.outbound.len();
                self.outbound.resize(start + len, 0);
                let part = Span { len: len as u32, ..*span };
                self.memory.read(part, &mut self.outbound[start..]).expect("a span of the memory");
                done += len;
                if len < span.len as usize {
                    break;
                }
            }
            if done == 0 {
                break;
            }
            self.connection.sent(done as u32);
            if most != usize::MAX {
                break;
            }
        }
        self.parser.read(&self.outbound);
    }

    /// A command that was handed out goes on: it asks for data, or it ends in any way.
    fn answer(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        if self.delivered.is_empty() {
            return Ok(());
        }
        let tag = *input.choose(&self.delivered)?;
        let Some(command) = self.connection.command(tag) else {
            self.delivered.retain(|other| *other != tag);
            return Ok(());
        };
        let buffer = self.connection.buffer(tag);
        let room = total(&buffer);
        assert!(room <= u64::from(limits().slot_bytes + limits().pool_bytes));
        if input.ratio(1, 3)? && !self.collecting.contains(&tag) {
            let bytes = *input.choose(&[512u32, 4096, 70_000, u32::MAX])?;
            match self.connection.collect(tag, bytes) {
                Collected::Ready => {
                    let wanted = u64::from(bytes).min(command.data_out).min(room);
                    assert!(
                        u64::from(self.connection.collected(tag)) >= wanted,
                        "ready is what was asked for"
                    );
                }
                Collected::Later => self.collecting.push(tag),
                Collected::Never => {}
            }
            return Ok(());
        }
        let data: Vec<u8> = vec![0xe5; input.int_in_range(0..=2000)?];
        self.memory.scatter(&buffer, &data);
        let status = *input.choose(&[0u8, 0, 2, 0x18])?;
        let sense: &[u8] =
            if status == 2 { &[0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0] } else { &[] };
        let data_in = *input.choose(&[0u32, data.len() as u32, u32::MAX])?;
        let moves = *input.choose(&[0u64, data.len() as u64, 4096, u64::MAX])?;
        if input.ratio(1, 12)? {
            self.drop_task(tag);
        } else {
            self.delivered.retain(|other| *other != tag);
            self.collecting.retain(|other| *other != tag);
            self.connection.respond(tag, &Outcome { status, sense, data_in, moves });
        }
        Ok(())
    }

    /// The process dies, and another goes on with the memory and the kernel's two numbers.
    fn crash(&mut self) {
        let positions = Positions { received: self.taken as u64, sent: self.outbound.len() as u64 };
        let now = Instant::from_nanos(self.now);
        let connection = Connection::resume(Arc::clone(&self.memory), ConnectionId(7), positions, now);
        self.connection = connection.expect("memory of a connection");
        self.sessions = Sessions::new(4);
        if self.connection.is_established() {
            self.sessions.insert(self.connection.claim().expect("a session has a name"));
        }
        self.delivered.clear();
        self.collecting.clear();
    }

    /// The peer goes, all tasks end, and the connection must be over.
    fn finish(&mut self) {
        self.turn(usize::MAX, usize::MAX);
        self.connection.hung_up();
        self.work();
        self.connection.commit();
        assert!(self.is_ended, "a peer that is gone ends the connection");
        assert!(self.delivered.is_empty() && self.connection.is_over(), "nothing is left of it");
    }
}

fn digest(bytes: &[u8], wrong: u8) -> [u8; 4] {
    let mut digest = crc32c::crc32c(bytes).to_le_bytes();
    digest[0] ^= wrong;
    digest
}

/// Reads what the target says, and holds it to the rules that a stream has.
#[derive(Default)]
struct Parser {
    at: usize,
    /// What is in use, since the login is done.
    digests: (bool, bool),
    agreed: (bool, bool),
    stat_sn: Option<u32>,
    r2ts: Vec<[u8; 48]>,
}

impl Parser {
    fn read(&mut self, bytes: &[u8]) {
        while let Some(bhs) = bytes[self.at..].first_chunk::<48>() {
            let len = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
            let data = 48 + 4 * usize::from(self.digests.0);
            let tail = data + len.next_multiple_of(4);
            let end = tail + 4 * usize::from(self.digests.1 && len > 0);
            let Some(pdu) = bytes[self.at..].get(..end) else { return };
            assert_eq!(bhs[4], 0, "a target sends no additional headers");
            if self.digests.0 {
                assert_eq!(pdu[48..52], digest(bhs, 0), "a header digest");
            }
            if end > tail {
                assert_eq!(pdu[tail..], digest(&pdu[data..tail], 0), "a data digest");
            }
            self.take(bhs, &pdu[data..data + len]);
            self.at += end;
        }
    }

    fn take(&mut self, bhs: &[u8; 48], data: &[u8]) {
        let word = |at: usize| u32::from_be_bytes([bhs[at], bhs[at + 1], bhs[at + 2], bhs[at + 3]]);
        let has_status = match bhs[0] {
            0x20 => word(16) != 0xffff_ffff,
            0x21 | 0x22 | 0x23 | 0x24 | 0x26 | 0x32 | 0x3f => true,
            0x25 => bhs[1] & 1 != 0,
            0x31 => {
                self.r2ts.insert(0, *bhs);
                self.r2ts.truncate(4);
                false
            }
            other => panic!("opcode {other:02x}h is none of a target's"),
        };
        if has_status {
            let expected = self.stat_sn.unwrap_or(word(24));
            assert_eq!(word(24), expected, "StatSN of opcode {:02x}h", bhs[0]);
            self.stat_sn = Some(expected.wrapping_add(1));
        }
        if bhs[0] == 0x23 && bhs[36] == 0 {
            let agreed = |key: &[u8]| data.windows(key.len()).any(|part| part == key);
            self.agreed.0 |= agreed(b"HeaderDigest=CRC32C\0");
            self.agreed.1 |= agreed(b"DataDigest=CRC32C\0");
            if bhs[1] & 0x83 == 0x83 {
                self.digests = self.agreed;
            }
        }
    }
}

pub fn pdu_inputs() -> Vec<Vec<u8>> {
    [pdu_seeds(), crate::kept(include_bytes!("../kept/iscsi_pdu"))].concat()
}

fn pdu_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for keys in [0u8, 3, 4, 8, 12, 15] {
        for sizes in [0u8, 2] {
            for kind in 0..11u8 {
                let mut seed = vec![1, keys | 0xc0, sizes];
                for _ in 0..4 {
                    // A PDU; a turn; an answer; a turn.
                    seed.extend([2, kind, 0xa1, 0, 1, 4, 2, 1, 1, 1, 1, 22]);
                    seed.extend([17, 0, 2, 1, 22, 17, 0, 1, 0, 20, 0, 1, 2, 1, 22]);
                }
                seed.extend([10, 22, 17, 0, 1, 0, 20, 0, 1, 2, 1, 22]);
                seeds.push(seed);
            }
        }
    }
    seeds
}

pub fn login_inputs() -> Vec<Vec<u8>> {
    [login_seeds(), crate::kept(include_bytes!("../kept/iscsi_login"))].concat()
}

fn login_seeds() -> Vec<Vec<u8>> {
    let key = |name: &str| KEYS.iter().position(|known| *known == name).expect("a known key") as u8;
    let value = |name: &str| VALUES.iter().position(|known| *known == name).expect("a known value") as u8;
    let pairs = |list: &[(&str, &str)]| -> Vec<u8> {
        list.iter().flat_map(|(name, of)| [key(name), value(of)]).collect()
    };
    let names = [("InitiatorName", INITIATOR), ("TargetName", TARGET)];
    let mut seeds = Vec::new();
    for (name, of) in [
        ("HeaderDigest", "CRC32C,None"),
        ("MaxBurstLength", "512"),
        ("InitialR2T", "No"),
        ("ImmediateData", "No"),
        ("ErrorRecoveryLevel", "0"),
        ("X-org.example", "Yes"),
        ("SessionType", "Discovery"),
    ] {
        // Open: straight into the full feature phase, then SendTargets.
        let mut seed = vec![1, 0x87, 3];
        seed.extend(pairs(&names));
        seed.extend(pairs(&[(name, of)]));
        seed.extend([9, 0x80, 1]);
        seed.extend(pairs(&[("SendTargets", "All")]));
        seed.extend([0, 0x80, 1]);
        seeds.push(seed);
        // CHAP: names, algorithm, proof, parameters; one-way and mutual.
        for mutual in [false, true] {
            let mut seed = vec![0, 0x00, 3];
            seed.extend(pairs(&names));
            seed.extend(pairs(&[("AuthMethod", "CHAP")]));
            seed.extend([9, 0x00, 1]);
            seed.extend(pairs(&[("CHAP_A", "5")]));
            seed.extend([9, 0x81, if mutual { 3 } else { 1 }, 0xfe]);
            if mutual {
                seed.extend(pairs(&[("CHAP_I", "0"), ("CHAP_C", "0x0102030405060708")]));
            }
            seed.extend([9, 0x87, 1]);
            seed.extend(pairs(&[(name, of)]));
            seed.push(9);
            seeds.push(seed);
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_reach_deep() {
        let (mut commands, mut asked, mut digests, mut said) = (0, 0, 0, 0);
        for seed in pdu_seeds() {
            let mut input = Unstructured::new(&seed[1..]);
            let login = keys_of_login(&mut input).unwrap();
            let mut world = World::new(Directory { discovery: Vec::new(), ..directory(true) });
            world.say(&login_pdu(0x87, &login));
            world.turn(usize::MAX, usize::MAX);
            assert!(world.connection.is_established());
            while !input.is_empty() && world.step(&mut input).is_ok() {
                commands += world.delivered.len();
            }
            asked += world.parser.r2ts.len();
            digests += usize::from(world.parser.digests == (true, true));
            said += world.outbound.len();
        }
        assert!(
            commands > 100 && asked > 20 && digests > 20 && said > 30_000,
            "{commands} {asked} {digests} {said}"
        );
    }

    #[test]
    fn the_logins_of_the_seeds_get_in() {
        let mut established = 0;
        for seed in login_seeds() {
            let mut input = Unstructured::new(&seed);
            let mut world = World::new(directory(input.arbitrary().unwrap()));
            while !input.is_empty() {
                let mut text = Vec::new();
                let flags = input.arbitrary::<u8>().unwrap();
                for _ in 0..usize::from(input.arbitrary::<u8>().unwrap() % 12) {
                    pair(&mut input, &world, &mut text);
                }
                let _ = input.arbitrary::<u8>();
                world.say(&login_pdu(flags, &text));
                world.turn(usize::MAX, usize::MAX);
            }
            established += usize::from(world.connection.is_established());
        }
        assert!(established >= 15, "{established}");
    }
}
