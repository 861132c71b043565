//! The initiator against a target of a few lines that keeps the rules, or breaks one of them: what is
//! right must go through, and what is wrong must be seen.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::Duration;

use standpipe_bench::driver::error::{Error, Result};
use standpipe_bench::driver::iscsi::pdu::{FINAL, NO_TAG, Pdu, request, response};
use standpipe_bench::driver::iscsi::{
    Algorithm, Credentials, Data, Initiator, Options, Residual, Wire, text,
};
use standpipe_bench::load::disk::{DiskLoad, Pattern};
use standpipe_bench::load::iscsi::{Lun, run};

const BLOCK: usize = 512;
const BLOCKS: usize = 2048;
const BURST: usize = 16384;
const SEGMENT: usize = 8192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    StatSn,
    DataSn,
    Offset,
    ShortRead,
    UnknownTag,
    LongR2t,
    AnswersTooMuch,
    NoAnswerToKey,
    WrongByte,
    Digest,
}

struct Target {
    wire: Wire,
    fault: Fault,
    disk: Vec<u8>,
    stat_sn: u32,
    exp_cmd_sn: u32,
    writes: Vec<(u32, usize, usize, usize)>,
}

/// A target on a port of its own that serves one connection; its address and its thread.
fn target(fault: Fault) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let portal = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve(stream, fault);
    });
    (portal, thread)
}

fn serve(stream: TcpStream, fault: Fault) {
    let wire = Wire::over(stream, Duration::from_secs(20)).unwrap();
    let disk = vec![0; BLOCK * BLOCKS];
    let mut target = Target { wire, fault, disk, stat_sn: 7, exp_cmd_sn: 1, writes: Vec::new() };
    if target.login().is_ok() {
        // The end of the connection is the end of the test.
        while target.turn().is_ok() {}
    }
}

impl Target {
    fn send(&mut self, mut pdu: Pdu, takes_status: bool) -> Result<()> {
        pdu.set_word(24, self.stat_sn);
        pdu.set_word(28, self.exp_cmd_sn);
        pdu.set_word(32, self.exp_cmd_sn + 31);
        self.stat_sn += u32::from(takes_status);
        self.wire.send(&pdu)
    }

    fn login(&mut self) -> Result<()> {
        let mut digests = false;
        loop {
            let asked = self.wire.receive()?;
            assert_eq!(asked.opcode(), request::LOGIN);
            let mut answer = Pdu::new(response::LOGIN).with_flags(asked.flags());
            answer.set(8, &asked.bhs[8..16]);
            answer.set(14, &[0, 9]);
            answer.set_word(16, asked.itt());
            let mut pairs = Vec::new();
            for (key, value) in text::decode(&asked.data).unwrap() {
                let value = match key.as_str() {
                    "AuthMethod" | "CHAP_A" | "CHAP_N" => {
                        self.authenticate(&asked, &mut answer, &mut pairs);
                        continue;
                    }
                    "InitiatorName" | "TargetName" | "SessionType" | "CHAP_R" | "CHAP_I" | "CHAP_C" => {
                        continue;
                    }
                    "MaxOutstandingR2T" if self.fault == Fault::NoAnswerToKey => continue,
                    "MaxBurstLength" if self.fault == Fault::AnswersTooMuch => "16777215".into(),
                    "MaxRecvDataSegmentLength" => SEGMENT.to_string(),
                    "MaxBurstLength" => BURST.to_string(),
                    "FirstBurstLength" => SEGMENT.to_string(),
                    "DataDigest" => {
                        digests = value == "CRC32C";
                        value
                    }
                    _ => value,
                };
                pairs.push((key, value));
            }
            answer.data = text::encode(&pairs);
            self.send(answer, true)?;
            if asked.flags() & 0x83 == 0x83 {
                (self.wire.header_digest, self.wire.data_digest) = (digests, digests);
                return Ok(());
            }
        }
    }

    /// CHAP with the user `u`, the secret `secret`, and the target's own secret `other`.
    fn authenticate(&mut self, asked: &Pdu, answer: &mut Pdu, pairs: &mut Vec<(String, String)>) {
        let asked = text::decode(&asked.data).unwrap();
        let mut say = |key: &str, value: &str| pairs.push((key.into(), value.into()));
        if let Some(method) = text::find(&asked, "AuthMethod") {
            say("TargetPortalGroupTag", "1");
            say("AuthMethod", method);
        } else if text::find(&asked, "CHAP_A").is_some() {
            say("CHAP_A", "7");
            say("CHAP_I", "65");
            say("CHAP_C", "0x0102030405");
        } else {
            let proof = Algorithm::Sha256.response(65, b"secret", &[1, 2, 3, 4, 5]);
            if text::binary(text::find(&asked, "CHAP_R").unwrap()) != Some(proof) {
                (answer.bhs[36], answer.bhs[37]) = (2, 1);
            }
            if let Some(challenge) = text::find(&asked, "CHAP_C") {
                let identifier = text::find(&asked, "CHAP_I").unwrap().parse().unwrap();
                let proof =
                    Algorithm::Sha256.response(identifier, b"other", &text::binary(challenge).unwrap());
                say("CHAP_N", "t");
                say("CHAP_R", &text::hexadecimal(&proof));
            }
        }
    }

    fn turn(&mut self) -> Result<()> {
        let pdu = self.wire.receive()?;
        match pdu.opcode() {
            request::SCSI_COMMAND => self.command(&pdu),
            request::DATA_OUT => {
                let (tag, at) = (pdu.itt(), pdu.word(40) as usize);
                let place = self.writes.iter().position(|write| write.0 == tag).expect("a write of ours");
                self.write(place, at, &pdu.data);
                if pdu.flags() & FINAL != 0 { self.go_on(place) } else { Ok(()) }
            }
            request::NOP_OUT => {
                let mut answer = Pdu::new(response::NOP_IN).with_flags(FINAL).with_data(&pdu.data);
                answer.set_word(16, pdu.itt());
                answer.set_word(20, NO_TAG);
                self.send(answer, true)
            }
            other => panic!("opcode {other:02x}h"),
        }
    }

    fn command(&mut self, pdu: &Pdu) -> Result<()> {
        assert_eq!(pdu.word(24), self.exp_cmd_sn, "commands come in order");
        self.exp_cmd_sn += 1;
        let (expected, cdb) = (pdu.word(20) as usize, &pdu.bhs[32..48]);
        let start = BLOCK * u32::from_be_bytes(cdb[2..6].try_into().unwrap()) as usize;
        let bytes = BLOCK * usize::from(u16::from_be_bytes(cdb[7..9].try_into().unwrap()));
        match cdb[0] {
            0x28 => {
                let data = self.disk[start..start + bytes].to_vec();
                self.read(pdu.itt(), &data)
            }
            0x2a => {
                self.writes.push((pdu.itt(), start, 0, expected));
                let place = self.writes.len() - 1;
                self.write(place, 0, &pdu.data);
                if pdu.flags() & FINAL != 0 { self.go_on(place) } else { Ok(()) }
            }
            0x9e => {
                let mut data = [0; 32];
                data[..8].copy_from_slice(&(BLOCKS as u64 - 1).to_be_bytes());
                data[8..12].copy_from_slice(&(BLOCK as u32).to_be_bytes());
                self.read(pdu.itt(), &data)
            }
            0x00 | 0x35 => self.respond(pdu.itt(), 0, &[], 0),
            _ => {
                // INVALID COMMAND OPERATION CODE, fixed format, with its length before it.
                let mut sense = [0; 20];
                (sense[1], sense[2], sense[4], sense[9], sense[14]) = (18, 0x70, 5, 10, 0x20);
                self.respond(pdu.itt(), 2, &sense, expected as u32)
            }
        }
    }

    fn write(&mut self, place: usize, at: usize, data: &[u8]) {
        let (_, start, have, _) = &mut self.writes[place];
        assert_eq!(*have, at, "data-out comes in order");
        *have += data.len();
        self.disk[*start + at..*start + at + data.len()].copy_from_slice(data);
        if self.fault == Fault::WrongByte && self.exp_cmd_sn > 20 && !data.is_empty() {
            self.disk[*start + at] ^= 0x10;
        }
    }

    /// Asks for what is missing of a write, or answers it.
    fn go_on(&mut self, place: usize) -> Result<()> {
        let (tag, _, have, expected) = self.writes[place];
        if have == expected {
            self.writes.remove(place);
            return self.respond(tag, 0, &[], 0);
        }
        let excess = if self.fault == Fault::LongR2t { BURST } else { 0 };
        let mut r2t = Pdu::new(response::R2T).with_flags(FINAL);
        r2t.set_word(16, tag);
        r2t.set_word(20, 0x0001_0000 | tag);
        // One R2T for each write here: the tests write one burst beyond the first at most.
        r2t.set_word(40, have as u32);
        r2t.set_word(44, ((expected - have).min(BURST) + excess) as u32);
        self.send(r2t, false)
    }

    /// All of it in Data-In PDUs, the status in the last.
    fn read(&mut self, tag: u32, data: &[u8]) -> Result<()> {
        let (mut at, mut number) = (0, 0);
        while at < data.len() {
            let end = data.len().min(at + SEGMENT);
            let is_last = end == data.len();
            let ends_burst = end.is_multiple_of(BURST) || is_last;
            let mut pdu = Pdu::new(response::DATA_IN).with_data(&data[at..end]);
            pdu.bhs[1] = if ends_burst { FINAL } else { 0 } | u8::from(is_last);
            pdu.set_word(16, tag);
            pdu.set_word(20, NO_TAG);
            pdu.set_word(36, number + u32::from(self.fault == Fault::DataSn && is_last));
            pdu.set_word(40, (at + if self.fault == Fault::Offset && is_last { 4 } else { 0 }) as u32);
            if self.fault == Fault::ShortRead && is_last {
                pdu.data.truncate(data.len() - at - 4);
            }
            if self.fault == Fault::UnknownTag && is_last {
                pdu.set_word(16, tag ^ 0x0100_0000);
            }
            if self.fault == Fault::StatSn && is_last {
                self.stat_sn += 1;
            }
            if self.fault == Fault::Digest {
                let mut bytes = pdu.encode(self.wire.header_digest, self.wire.data_digest);
                *bytes.last_mut().unwrap() ^= 1;
                return self.wire.send_bytes(&bytes);
            }
            self.send(pdu, is_last)?;
            (at, number) = (end, number + 1);
        }
        Ok(())
    }

    fn respond(&mut self, tag: u32, status: u8, sense: &[u8], missing: u32) -> Result<()> {
        let mut pdu = Pdu::new(response::SCSI_RESPONSE).with_flags(FINAL).with_data(sense);
        pdu.bhs[1] |= if missing > 0 { 0x02 } else { 0 };
        pdu.bhs[3] = status;
        pdu.set_word(16, tag);
        pdu.set_word(44, missing);
        self.send(pdu, true)
    }
}

fn options(portal: &str) -> Options {
    Options { timeout: Duration::from_secs(20), ..Options::new(portal, "iqn.2026-11.org.example:t") }
}

fn with_digests(portal: &str) -> Options {
    Options { header_digest: "CRC32C".into(), data_digest: "CRC32C".into(), ..options(portal) }
}

const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 8, 0, 0, 40, 0];

#[test]
fn what_was_written_is_read_by_all_ways_of_data() {
    for way in 0..6 {
        let (portal, thread) = target(Fault::None);
        let mut options = if way % 2 == 0 { options(&portal) } else { with_digests(&portal) };
        (options.initial_r2t, options.immediate_data) = (way < 2, way < 4);
        let mut session = Initiator::login(&options).unwrap();
        let agreed = session.negotiated();
        assert_eq!((agreed.max_burst_length, agreed.first_burst_length), (16384, 8192));
        assert_eq!((agreed.tsih, agreed.target_max_segment), (9, 8192));
        let data: Vec<u8> = (0..20480u32).map(|at| (at ^ at >> 8) as u8).collect();
        let mut write = READ;
        write[0] = 0x2a;
        assert!(session.command(0, &write, Data::Out(data.clone())).unwrap().is_good());
        let answer = session.command(0, &READ, Data::In(data.len())).unwrap();
        assert!(answer.is_good() && answer.data == data && answer.residual == Residual::None);
        assert_eq!(session.ping(b"abc").unwrap(), b"abc");
        let answer = session.command(0, &[0xc0; 6], Data::In(100)).unwrap();
        let sense = answer.decoded_sense();
        assert_eq!((answer.status, sense.key, sense.asc, sense.ascq), (2, 5, 0x20, 0));
        assert_eq!(answer.residual, Residual::Underflow(100));
        drop(session);
        thread.join().unwrap();
    }
}

#[test]
fn a_broken_rule_ends_the_session() {
    for fault in
        [Fault::StatSn, Fault::DataSn, Fault::Offset, Fault::ShortRead, Fault::UnknownTag, Fault::Digest]
    {
        let (portal, thread) = target(fault);
        let mut session = Initiator::login(&with_digests(&portal)).unwrap();
        let outcome = session.command(0, &READ, Data::In(20480));
        assert!(matches!(outcome, Err(Error::Session(_))), "{fault:?}: {outcome:?}");
        drop(session);
        thread.join().unwrap();
    }
    let (portal, thread) = target(Fault::LongR2t);
    let mut session = Initiator::login(&options(&portal)).unwrap();
    let mut write = READ;
    write[0] = 0x2a;
    let outcome = session.command(0, &write, Data::Out(vec![0; 20480]));
    assert!(matches!(outcome, Err(Error::Session(_))), "{outcome:?}");
    drop(session);
    thread.join().unwrap();
    for fault in [Fault::AnswersTooMuch, Fault::NoAnswerToKey] {
        let (portal, thread) = target(fault);
        let outcome = Initiator::login(&options(&portal)).map(|_| ());
        assert!(matches!(outcome, Err(Error::Session(_))), "{fault:?}: {outcome:?}");
        thread.join().unwrap();
    }
}

#[test]
fn chap_proves_both_sides() {
    let with = |portal: &str, secret: &str, other: &str| {
        let mut options = options(portal);
        options.chap = Some(Credentials { user: "u".into(), secret: secret.into() });
        options.mutual = Some(Credentials { user: "t".into(), secret: other.into() });
        options.chap_algorithms = vec![Algorithm::Sha256, Algorithm::Md5];
        options
    };
    let (portal, thread) = target(Fault::None);
    let session = Initiator::login(&with(&portal, "secret", "other")).unwrap();
    assert!(session.negotiated().target_authenticated);
    assert_eq!(session.negotiated().chap_algorithm, Some(Algorithm::Sha256));
    drop(session);
    thread.join().unwrap();
    let (portal, thread) = target(Fault::None);
    let outcome = Initiator::login(&with(&portal, "wrong", "other")).map(|_| ());
    assert!(matches!(outcome, Err(Error::Refused { class: 2, detail: 1 })), "{outcome:?}");
    thread.join().unwrap();
    let (portal, thread) = target(Fault::None);
    let outcome = Initiator::login(&with(&portal, "secret", "wrong")).map(|_| ());
    assert!(matches!(outcome, Err(Error::Session(_))), "{outcome:?}");
    thread.join().unwrap();
}

#[test]
fn a_load_verifies_what_it_wrote() {
    for (fault, block_bytes, is_digested) in
        [(Fault::None, 4096, false), (Fault::None, 12288, true), (Fault::WrongByte, 4096, false)]
    {
        let (portal, thread) = target(fault);
        let options = if is_digested { with_digests(&portal) } else { options(&portal) };
        let mut session = Initiator::login(&options).unwrap();
        let lun = Lun::find(&mut session, 0).unwrap();
        assert_eq!((lun.blocks, lun.block_bytes, lun.compare_blocks), (2048, 512, 0));
        let load = DiskLoad {
            pattern: Pattern::Verify,
            block_bytes,
            depth: 8,
            seconds: 0.3,
            poll: is_digested,
            span_bytes: 0,
            seed: 3,
            stall: Duration::from_secs(20),
        };
        let figures = run(session, &lun, &load, &AtomicU64::new(0), &AtomicBool::new(false)).unwrap();
        assert!(figures.lost.is_none() && figures.disk.errors == 0, "{:?}", figures.disk.first_error);
        assert!(figures.disk.blocks_checked > 50);
        assert_eq!(figures.disk.wrong_bytes > 0, fault == Fault::WrongByte);
        assert_eq!(figures.is_faultless(), fault == Fault::None);
        thread.join().unwrap();
    }
}
