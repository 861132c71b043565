//! What a hostile initiator makes of PDUs that were right: a function of the seed.

use crate::driver::iscsi::pdu::{self, BHS_BYTES, FINAL, IMMEDIATE, NO_TAG, Pdu, request};
use crate::driver::iscsi::text;
use crate::load::random::Random;

const INTERESTING: [u8; 12] = [0, 1, 2, 3, 4, 0x10, 0x3f, 0x40, 0x7f, 0x80, 0xfe, 0xff];
const WORDS: [u32; 10] = [0, 1, 2, 511, 512, 0x0001_0000, 0x00ff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/// Values that a key may have, right and wrong.
const VALUES: [&str; 22] = [
    "",
    "0",
    "1",
    "-1",
    "4294967295",
    "4294967296",
    "16777215",
    "16777216",
    "511",
    "0x200",
    "0b",
    "0x",
    "0xzz",
    "Yes",
    "No",
    "yes",
    "Reject",
    "Irrelevant",
    "NotUnderstood",
    "None,None,CRC32C",
    ",",
    "\u{fffd}\t=",
];

const KEYS: [&str; 26] = [
    "InitiatorName",
    "InitiatorAlias",
    "TargetName",
    "TargetAlias",
    "TargetAddress",
    "TargetPortalGroupTag",
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
    "MaxOutstandingR2T",
    "ErrorRecoveryLevel",
    "X-org.example.key",
    "OFMarker",
];

/// What hostile commands may not do, so that a healthy session's faults are the target's.
#[derive(Debug, Clone, Copy)]
pub struct Leash {
    pub lun: u16,
    pub healthy_lun: u16,
    /// The first block that the healthy session does not use, where both share a unit.
    pub first_block: u32,
}

/// Commands that change nothing for others on a shared unit: TEST UNIT READY, REQUEST SENSE, INQUIRY,
/// MODE SENSE(6) and (10), READ CAPACITY(10), READ(6), (10), (12) and (16), VERIFY(10), PRE-FETCH(10),
/// LOG SENSE, PERSISTENT RESERVE IN, RECEIVE COPY RESULTS, REPORT LUNS.
const HARMLESS: [u8; 16] =
    [0x00, 0x03, 0x12, 0x1a, 0x5a, 0x25, 0x08, 0x28, 0xa8, 0x88, 0x2f, 0x34, 0x4d, 0x5e, 0x84, 0xa0];

impl Leash {
    fn shares_unit(&self) -> bool {
        self.lun == self.healthy_lun
    }

    /// Keeps a PDU away from what belongs to the healthy session by right: its unit, and the resets
    /// that a target offers to everybody who may log in.
    pub fn hold(&self, bhs: &mut [u8]) {
        let opcode = bhs[0] & 0x3f;
        if opcode != request::SCSI_COMMAND && opcode != request::TASK_MANAGEMENT {
            return;
        }
        let number = u16::from_be_bytes([bhs[8], bhs[9]]) & 0x3fff;
        if number == self.healthy_lun {
            bhs[8..16].copy_from_slice(&pdu::lun_field(self.lun));
        }
        if opcode == request::TASK_MANAGEMENT {
            let function = bhs[1] & 0x7f;
            let is_kept = match function {
                6 | 7 => false,
                // Of others' tasks as well; LOGICAL UNIT RESET.
                3..=5 => !self.shares_unit(),
                _ => true,
            };
            bhs[1] = if is_kept { bhs[1] } else { FINAL | 2 };
        } else if self.shares_unit() {
            if bhs[32] == 0x2a {
                let block = pdu::word(bhs, 34) | self.first_block.next_power_of_two();
                bhs[34..38].copy_from_slice(&block.to_be_bytes());
            } else if !HARMLESS.contains(&bhs[32]) {
                bhs[32] = HARMLESS[usize::from(bhs[32]) % HARMLESS.len()];
            }
        }
    }
}

#[derive(Debug)]
pub struct Mutator {
    pub random: Random,
}

impl Mutator {
    pub fn below(&mut self, end: usize) -> usize {
        self.random.below(end as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn word(&mut self) -> u32 {
        if self.one_in(3) { self.random.word() as u32 } else { WORDS[self.below(WORDS.len())] }
    }

    pub fn noise(&mut self, len_max: usize) -> Vec<u8> {
        let len = 1 + self.below(len_max);
        (0..len).map(|_| self.random.word() as u8).collect()
    }

    /// A few changes anywhere, the length included.
    pub fn bytes(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = INTERESTING[self.below(INTERESTING.len())],
                2 => {
                    let more = self.noise(16);
                    bytes.splice(at..at, more);
                }
                3 => {
                    let end = (at + 1 + self.below(16)).min(bytes.len());
                    bytes.drain(at.min(end)..end);
                }
                4 => {
                    let end = (at + self.below(64)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                _ if self.one_in(4) => bytes.truncate(at),
                _ => {}
            }
        }
    }

    /// A field of a header gets another value. The data's length is more often left alone, for a wrong
    /// one is the end of the stream.
    pub fn header(&mut self, bhs: &mut [u8]) {
        const FIELDS: [(usize, usize); 18] = [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 1),
            (4, 1),
            (5, 3),
            (8, 2),
            (10, 4),
            (14, 2),
            (16, 4),
            (20, 4),
            (24, 4),
            (28, 4),
            (32, 4),
            (36, 4),
            (40, 4),
            (44, 4),
            (32, 1),
        ];
        for _ in 0..1 + self.below(2) {
            let (at, len) = FIELDS[self.below(FIELDS.len())];
            if (4..8).contains(&at) && !self.one_in(3) {
                continue;
            }
            match len {
                1 => bhs[at] = INTERESTING[self.below(INTERESTING.len())],
                _ => {
                    // The low bytes of the word, so that short fields are as interesting.
                    let word = self.word().to_be_bytes();
                    bhs[at..at + len].copy_from_slice(&word[4 - len..]);
                }
            }
        }
    }

    /// Keys of a login or text request, some of them changed, left out, doubled or made up.
    pub fn pairs(&mut self, pairs: &mut Vec<(String, String)>) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(pairs.len() + 1);
            let value = match self.below(8) {
                0 => "x".repeat(1 + self.below(9000)),
                1 => text::hexadecimal(&self.noise(1200)),
                _ => VALUES[self.below(VALUES.len())].to_owned(),
            };
            let key = if self.one_in(8) {
                "k".repeat(1 + self.below(300))
            } else {
                KEYS[self.below(KEYS.len())].to_owned()
            };
            match self.below(4) {
                0 if at < pairs.len() => pairs[at].1 = value,
                1 if at < pairs.len() => {
                    pairs.remove(at);
                }
                2 if at < pairs.len() => {
                    let pair = pairs[at].clone();
                    pairs.insert(at, pair);
                }
                _ => pairs.insert(at, (key, value)),
            }
        }
    }

    /// A request of the full feature phase as a driver would send it, with CDBs of all kinds.
    pub fn request(&mut self, leash: &Leash, cmd_sn: u32, exp_stat_sn: u32) -> Pdu {
        let tag = self.below(32) as u32;
        let immediate = if self.one_in(4) { IMMEDIATE } else { 0 };
        let mut pdu = match self.below(12) {
            0 => {
                let mut pdu = Pdu::new(request::NOP_OUT | immediate).with_word(20, NO_TAG);
                pdu.data = self.noise(300);
                pdu
            }
            1 => Pdu::new(request::TASK_MANAGEMENT | IMMEDIATE)
                .with_flags(1 + self.below(14) as u8)
                .with_word(20, self.below(32) as u32),
            2 => {
                let mut pairs = vec![("SendTargets".to_owned(), "".to_owned())];
                if self.one_in(2) {
                    self.pairs(&mut pairs);
                }
                Pdu::new(request::TEXT | immediate).with_word(20, NO_TAG).with_data(&text::encode(&pairs))
            }
            3 => {
                let mut pdu = Pdu::new(request::DATA_OUT);
                pdu.set_word(20, self.word());
                pdu.set_word(36, self.below(4) as u32);
                pdu.set_word(40, self.below(64) as u32 * 512);
                pdu.data = self.noise(4096);
                pdu
            }
            4 if self.one_in(6) => Pdu::new(request::LOGOUT | IMMEDIATE).with_flags(self.below(4) as u8),
            4 => Pdu::new(request::SNACK).with_flags(self.below(4) as u8).with_word(20, self.word()),
            5 if self.one_in(4) => Pdu::new(request::LOGIN | IMMEDIATE).with_flags(0x87),
            _ => self.command(immediate),
        };
        pdu.bhs[1] |= FINAL;
        pdu.set(8, &pdu::lun_field(leash.lun));
        pdu.set_word(16, tag);
        pdu.set_word(24, cmd_sn);
        pdu.set_word(28, exp_stat_sn);
        if pdu.opcode() == request::DATA_OUT {
            pdu.set_word(24, 0);
        }
        pdu
    }

    fn command(&mut self, immediate: u8) -> Pdu {
        let mut pdu = Pdu::new(request::SCSI_COMMAND | immediate);
        let bytes = 512 * self.below(300) as u32;
        pdu.set_word(20, if self.one_in(8) { self.word() } else { bytes });
        let attribute = self.below(6) as u8;
        let blocks = (bytes / 512) as u16;
        match self.below(4) {
            0 => {
                pdu.bhs[1] = 0x40 | attribute;
                pdu.set(32, &[0x28, 0, 0, 0, 0, self.below(256) as u8, 0]);
                pdu.set(39, &blocks.to_be_bytes());
            }
            1 => {
                pdu.bhs[1] = 0x20 | attribute;
                pdu.set(32, &[0x2a, 0, 0, 0, 0x80, self.below(256) as u8, 0]);
                pdu.set(39, &blocks.to_be_bytes());
                let len = self.below(bytes as usize + 1).min(8192);
                pdu.data = vec![0xd7; len];
            }
            2 => {
                pdu.bhs[1] = 0x40 | attribute;
                pdu.set(32, &[0x12, 0, 0, 1, 0, 0]);
            }
            _ => {
                // Any operation code, with a parameter list where it takes one.
                pdu.bhs[1] = [0x40, 0x20, 0x60, 0][self.below(4)] | attribute;
                pdu.set(32, &[self.random.word() as u8, self.below(32) as u8]);
                for at in 34..BHS_BYTES {
                    if self.one_in(3) {
                        pdu.bhs[at] = INTERESTING[self.below(INTERESTING.len())];
                    }
                }
                if self.one_in(3) {
                    pdu.data = self.noise(600);
                }
                if self.one_in(4) {
                    let rest = self.noise(64);
                    pdu.ahs = pdu::extended_cdb(&rest);
                }
            }
        }
        pdu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leash_holds_whatever_the_seed() {
        for (lun, healthy_lun) in [(1, 0), (0, 0), (7, 300)] {
            let leash = Leash { lun, healthy_lun, first_block: 5000 };
            let mut mutator = Mutator { random: Random::new(3) };
            for _ in 0..20_000 {
                let mut pdu = mutator.request(&leash, 1, 1);
                mutator.header(&mut pdu.bhs);
                leash.hold(&mut pdu.bhs);
                let number = pdu.half(8) & 0x3fff;
                match pdu.opcode() {
                    0x02 => assert!(![6, 7].contains(&(pdu.flags() & 0x7f))),
                    0x01 if lun != healthy_lun => assert_ne!(number, healthy_lun),
                    0x01 if pdu.byte(32) == 0x2a => assert!(pdu.word(34) >= 5000),
                    0x01 => assert!(![0x04, 0x41, 0x42, 0x5f, 0x1b].contains(&pdu.byte(32))),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes() {
        let make = |seed| {
            let mut mutator = Mutator { random: Random::new(seed) };
            let mut bytes = vec![7; 100];
            for _ in 0..50 {
                mutator.bytes(&mut bytes);
            }
            bytes
        };
        assert_eq!(make(5), make(5));
        assert_ne!(make(5), make(6));
    }
}
