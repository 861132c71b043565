//! The worker dies at every store, and a successor goes on: the initiator sees one exact stream.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::prelude::rust_2024::*;
use std::println;

use guest_memory::crash;

use super::rig::*;
use crate::*;

/// What the initiator waits for.
enum Wait {
    Write { data: Vec<u8>, lba: usize },
    Read { lba: usize, got: Vec<u8>, len: usize, data_sn: u32 },
    Ping(Vec<u8>),
    Text,
    Nothing,
}

/// An initiator that keeps several commands under way and checks everything that it hears.
struct Initiator {
    waits: BTreeMap<u32, Wait>,
    next_itt: u32,
    max_cmd_sn: u32,
    /// What must be on the disk.
    disk: Vec<u8>,
    dice: u64,
    done: u32,
    first_burst: usize,
    immediate: bool,
    initial_r2t: bool,
    segment: usize,
    /// What we said that we take.
    their_segment: usize,
}

const REGION_BLOCKS: usize = 512;

impl Initiator {
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    /// Begins one more thing, if the window has room.
    fn begin(&mut self, rig: &mut Rig) {
        if (self.max_cmd_sn.wrapping_sub(rig.cmd_sn) as i32) < 0 {
            return;
        }
        let itt = self.next_itt;
        self.next_itt += 1;
        // Commands that overlap in time stay apart on the disk.
        let used: Vec<usize> = self
            .waits
            .values()
            .filter_map(|wait| match wait {
                Wait::Write { lba, .. } | Wait::Read { lba, .. } => Some(lba / REGION_BLOCKS),
                _ => None,
            })
            .collect();
        let region = (0..8).find(|region| !used.contains(region));
        match (self.roll(8), region) {
            (0..=2, Some(region)) => {
                let blocks = [1u16, 3, 8, 130, 200, 400][self.roll(6) as usize];
                let lba = region * REGION_BLOCKS + self.roll(64) as usize;
                rig.read(itt, lba as u32, blocks);
                let len = usize::from(blocks) * BLOCK;
                self.waits.insert(itt, Wait::Read { lba, got: Vec::new(), len, data_sn: 0 });
            }
            (3..=5, Some(region)) => {
                let blocks = [1usize, 2, 9, 130, 300][self.roll(5) as usize];
                let lba = region * REGION_BLOCKS + self.roll(64) as usize;
                let data = pattern(self.dice, blocks * BLOCK);
                self.write(rig, itt, lba, data);
            }
            (6, _) => {
                let len = self.roll(3000) as usize;
                let data = pattern(self.dice, len.min(self.their_segment));
                let header = Header::new(0x00).with_itt(itt).with_ttt(u32::MAX).with_cmd_sn(rig.cmd_sn);
                rig.cmd_sn += 1;
                rig.send_pdu(header, &data);
                self.waits.insert(itt, Wait::Ping(data));
            }
            (7, _) => {
                let header = Header::new(0x04).with_itt(itt).with_ttt(u32::MAX).with_cmd_sn(rig.cmd_sn);
                rig.cmd_sn += 1;
                rig.send_pdu(header, b"SendTargets=\0");
                self.waits.insert(itt, Wait::Text);
            }
            _ => {
                let header = rig.command_header(itt, &[0; 6], 0);
                rig.send_pdu(header, &[]);
                self.waits.insert(itt, Wait::Nothing);
            }
        }
    }

    fn write(&mut self, rig: &mut Rig, itt: u32, lba: usize, data: Vec<u8>) {
        let cdb = cdb10(0x2a, lba as u32, (data.len() / BLOCK) as u16);
        let mut header = rig.command_header(itt, &cdb, data.len() as u32);
        let unsolicited = data.len().min(self.first_burst);
        let immediate = if self.immediate { unsolicited.min(self.segment).min(4096) } else { 0 };
        let more = !self.initial_r2t && unsolicited > immediate;
        if more {
            header = header.with_flags(0x21);
        }
        rig.send_pdu(header, &data[..immediate]);
        if more {
            self.data_out(rig, itt, u32::MAX, &data[..unsolicited], immediate);
        }
        self.waits.insert(itt, Wait::Write { data, lba });
    }

    /// Sends `data` from `from` to its end in Data-Out PDUs.
    fn data_out(&mut self, rig: &mut Rig, itt: u32, ttt: u32, data: &[u8], mut from: usize) {
        let mut data_sn = 0;
        while from < data.len() {
            let len = (data.len() - from).min(self.segment);
            let last = from + len == data.len();
            let header = Header::new(0x05)
                .with_flags(if last { 0x80 } else { 0 })
                .with_itt(itt)
                .with_ttt(ttt)
                .with_data_sn(data_sn)
                .with_buffer_offset(from as u32);
            rig.send_pdu(header, &data[from..from + len]);
            from += len;
            data_sn += 1;
        }
    }

    fn hear(&mut self, rig: &mut Rig) {
        while let Some((header, data)) = rig.hear() {
            let numbered = !matches!((header.opcode(), header.flags() & 1), (0x25, 0) | (0x31, _));
            if numbered {
                assert_eq!(header.stat_sn(), rig.exp_stat_sn, "no PDU is lost or comes twice: {header:?}");
                rig.exp_stat_sn += 1;
            }
            assert!(
                header.max_cmd_sn().wrapping_sub(self.max_cmd_sn) as i32 >= 0,
                "the window never shrinks"
            );
            self.max_cmd_sn = header.max_cmd_sn();
            let itt = header.itt();
            let mut wait = self.waits.remove(&itt).expect("an answer to something that waits");
            match (header.opcode(), &mut wait) {
                (0x31, Wait::Write { data, .. }) => {
                    let (from, len) = (header.buffer_offset() as usize, header.residual() as usize);
                    let data = data[..from + len].to_vec();
                    self.data_out(rig, itt, header.ttt(), &data, from);
                    self.waits.insert(itt, wait);
                }
                (0x21, Wait::Write { data, lba }) => {
                    assert_eq!(header.0[3], 0, "GOOD");
                    self.disk[*lba * BLOCK..*lba * BLOCK + data.len()].copy_from_slice(data);
                    self.done += 1;
                }
                (0x25, Wait::Read { lba, got, len, data_sn }) => {
                    assert_eq!(header.buffer_offset() as usize, got.len());
                    assert_eq!(header.data_sn(), *data_sn);
                    *data_sn += 1;
                    got.extend_from_slice(&data);
                    if header.flags() & 1 != 0 {
                        assert_eq!(got.len(), *len);
                        let wanted = &self.disk[*lba * BLOCK..*lba * BLOCK + *len];
                        let differs = got.iter().zip(wanted).position(|(a, b)| a != b);
                        assert_eq!(differs, None, "what was written: READ {itt} of {len} bytes at {lba}");
                        self.done += 1;
                    } else {
                        self.waits.insert(itt, wait);
                    }
                }
                (0x20, Wait::Ping(sent)) => {
                    assert_eq!(data, *sent);
                    self.done += 1;
                }
                (0x24, Wait::Text) => {
                    assert!(String::from_utf8(data.clone()).unwrap().contains(TARGET), "{header:?} {data:?}");
                    self.done += 1;
                }
                (0x21, Wait::Nothing) => self.done += 1,
                (code, _) => std::panic!("{code:02x} is no answer to that: {header:?}"),
            }
        }
    }
}

/// Runs a session with deaths every so many stores. Returns how many there were.
fn session(seed: u64, keys: &[(&str, &str)], stores: u64) -> u32 {
    let mut rig = Rig::new();
    let answers = rig.log_in(keys);
    let is = |key: &str, what: &str| value(&answers, key) == Some(what);
    let mut initiator = Initiator {
        waits: BTreeMap::new(),
        next_itt: 1,
        max_cmd_sn: 8,
        disk: rig.disk.clone(),
        dice: seed,
        done: 0,
        first_burst: value(&answers, "FirstBurstLength").map_or(65_536, |text| text.parse().unwrap()),
        immediate: !is("ImmediateData", "No"),
        initial_r2t: !is("InitialR2T", "No"),
        segment: 65_536,
        their_segment: keys
            .iter()
            .find(|(key, _)| *key == "MaxRecvDataSegmentLength")
            .map_or(8192, |(_, text)| text.parse().unwrap()),
    };
    let mut deaths = 0;
    let mut quiet = 0;
    let mut turns = 0;
    while initiator.done < 40 {
        turns += 1;
        assert!(turns < 200_000, "seed {seed}: it does not get on");
        if initiator.waits.len() < 6 && quiet == 0 {
            initiator.begin(&mut rig);
        }
        rig.recv_max = [1, 48, 100, 5000, 70_000, usize::MAX, usize::MAX][initiator.roll(7) as usize];
        rig.send_max = [13, 48, 3000, 100_000, usize::MAX][initiator.roll(5) as usize];
        rig.slow = initiator.roll(2) == 0;
        // A turn that is longer than this one's life would never be done; every fourth lives.
        let left = initiator.roll(stores);
        crash::after((initiator.roll(4) != 0).then_some(left));
        let lived = catch_unwind(AssertUnwindSafe(|| {
            rig.turn();
            if initiator.roll(2) == 0 {
                rig.execute_all();
            }
        }));
        crash::after(None);
        if let Err(why) = lived {
            if why.downcast_ref::<crash::Crashed>().is_none() {
                std::panic::resume_unwind(why);
            }
            deaths += 1;
            // A successor may die as well, while it finds its way.
            loop {
                crash::after(Some(initiator.roll(40)));
                let lived = catch_unwind(AssertUnwindSafe(|| rig.resume()));
                crash::after(None);
                match lived {
                    Ok(()) => break,
                    Err(why) if why.downcast_ref::<crash::Crashed>().is_some() => {}
                    Err(why) => std::panic::resume_unwind(why),
                }
            }
        }
        initiator.hear(&mut rig);
        quiet = if initiator.waits.is_empty() { 0 } else { initiator.roll(2) };
    }
    assert!(rig.events.iter().all(|event| !matches!(event, Event::Ended(_))), "{:?}", rig.events.last());
    deaths
}

#[test]
fn sessions_live_through_deaths_at_any_store() {
    let scripts: [&[(&str, &str)]; 4] = [
        &[("MaxRecvDataSegmentLength", "65536")],
        &[
            ("HeaderDigest", "CRC32C"),
            ("DataDigest", "CRC32C"),
            ("InitialR2T", "No"),
            ("MaxBurstLength", "16384"),
            ("FirstBurstLength", "16384"),
            ("MaxOutstandingR2T", "4"),
            ("MaxRecvDataSegmentLength", "1024"),
        ],
        &[("ImmediateData", "No"), ("InitialR2T", "Yes"), ("MaxBurstLength", "262144")],
        &[("ImmediateData", "Yes"), ("InitialR2T", "No"), ("MaxRecvDataSegmentLength", "262144")],
    ];
    let mut deaths = 0;
    for seed in 0..60u64 {
        let keys = scripts[seed as usize % scripts.len()];
        deaths += session(seed + 1, keys, [40, 200, 1000][seed as usize % 3]);
    }
    println!("{deaths} deaths");
    assert!(deaths > 500, "{deaths}: the test does not test");
}

/// A login with CHAP, dead at each store of it in turn.
#[test]
fn a_login_goes_on_where_it_was() {
    for nth in 0.. {
        let mut directory = directory();
        directory.targets[0].allow = vec![Allow {
            initiator: INITIATOR.into(),
            luns: None,
            chap: Some(Credentials { user: "u".into(), secret: Secret::new(b"a secret of ours") }),
            mutual: None,
        }];
        let mut rig = Rig::with(limits(), directory);
        let mut died = false;
        let mut run = |rig: &mut Rig| {
            if !died {
                crash::after(Some(nth));
            }
            let lived = catch_unwind(AssertUnwindSafe(|| rig.run()));
            crash::after(None);
            if lived.is_err() {
                died = true;
                rig.resume();
                rig.run();
            }
        };
        // Each request is sent when the one before is answered; the store is counted in each.
        let names = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET), ("AuthMethod", "CHAP")]);
        rig.send_pdu(Rig::login_header(0x00), &names);
        run(&mut rig);
        assert_eq!(value(&pairs_of(&rig.hear().unwrap().1), "AuthMethod"), Some("CHAP"));
        rig.send_pdu(Rig::login_header(0x00), &text_of(&[("CHAP_A", "7")]));
        run(&mut rig);
        let challenge = pairs_of(&rig.hear().unwrap().1);
        let identifier = value(&challenge, "CHAP_I").unwrap().parse().unwrap();
        let bytes = crate::text::binary(value(&challenge, "CHAP_C").unwrap(), 1024).unwrap();
        let response = crate::chap::Algorithm::Sha256.response(identifier, b"a secret of ours", &bytes);
        let response = crate::text::to_hexadecimal(&response);
        rig.send_pdu(Rig::login_header(0x81), &text_of(&[("CHAP_N", "u"), ("CHAP_R", &response)]));
        run(&mut rig);
        assert_eq!(rig.hear().unwrap().0.0[36], 0);
        rig.send_pdu(Rig::login_header(0x87), &text_of(&[("HeaderDigest", "CRC32C")]));
        run(&mut rig);
        let (last, _) = rig.hear().unwrap();
        assert_eq!((last.flags(), last.0[36], last.tsih()), (0x87, 0, 1));
        assert_eq!(rig.hear(), None);
        if !died {
            assert!(nth > 50, "{nth} stores are too few for a login");
            return;
        }
    }
}
