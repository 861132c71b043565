//! Anything that a client may send over a vfio-user socket, and a configuration space behind it.

use std::collections::BTreeSet;

use pci::{Bar, Cap, Config, Layout};
use vfio_user::numbers::{MESSAGE_MAX, REPLY_MAX};
use vfio_user::{Area, Device, Effect, Header, Outcome, Session, State, Write};

const LAYOUT: Layout = Layout {
    vendor: 0x8086,
    device: 0x10d3,
    revision: 0,
    class: [2, 0, 0],
    subsystem_vendor: 0x8086,
    subsystem: 0,
    interrupt_pin: 1,
    min_grant: 0,
    max_latency: 0,
    bars: [
        Bar::Memory32 { bytes: 0x2_0000, prefetchable: false },
        Bar::Io { bytes: 32 },
        Bar::Memory32 { bytes: 0x4000, prefetchable: false },
        Bar::None,
        Bar::None,
        Bar::None,
    ],
    caps: &[
        (0xc8, Cap::PowerManagement { d1: true, d2: false, pme: 0x19 }),
        (0xd0, Cap::Msi { vectors: 4, addr64: false, maskable: true }),
        (0xa0, Cap::MsiX { vectors: 5, table_bar: 2, table_offset: 0, pba_bar: 2, pba_offset: 0x2000 }),
        (0xe8, Cap::Pcie { integrated: false }),
    ],
};
const ROM_BYTES: u32 = 0x1_0000;

/// The device, whose state is `config` and descriptors, as a lane would keep it.
struct Lane {
    device: Device,
    session: Session,
    config: Config,
    live: BTreeSet<u32>,
}

impl Lane {
    fn new(migration: bool) -> Self {
        let mut device = Device::new([0x2_0000, 32, 0x4000, 0, 0, 0], ROM_BYTES.into(), 4096, true, 4, 5);
        device.regions[2].areas.push(Area { offset: 0x3000, size: 0x1000 });
        device.migration = migration;
        Self {
            device,
            session: Session::new(),
            config: Config::new(&LAYOUT, ROM_BYTES),
            live: BTreeSet::new(),
        }
    }

    fn message(&mut self, header: &Header, payload: &[u8], fds: usize) {
        let oversize = header.is_oversize();
        assert_eq!(oversize, header.message_len() > MESSAGE_MAX);
        let payload = if oversize { &[][..] } else { payload };
        let _ = self.session.drain(header, payload);
        let before = self.session.state.clone();
        let device = self.device.clone();
        let mut reply = vec![0xee; 7];
        let outcome = self.session.follow(&device, header, payload, fds, &mut reply);
        self.check_reply(header, &outcome, &reply[7..]);
        assert!(outcome.changed || self.session.state == before, "a change that nobody would save");
        assert_eq!(self.session.state.discard, if oversize { header.size - 16 } else { 0 });
        self.session.discarded(self.session.state.discard as usize);
        self.keep(fds, &outcome);
        match outcome.effect {
            Effect::Read { region: 7, offset, into } => self.config.read(offset as usize, &mut reply[into]),
            Effect::Read { into, .. } | Effect::Saved { into, .. } | Effect::LogReport { into, .. } => {
                assert!(reply[into].iter().all(|&byte| byte == 0));
            }
            Effect::Write(write) => self.write(&write),
            Effect::Writes(writes) => writes.for_each(|write| self.write(&write)),
            Effect::Reset => self.config.reset(),
            Effect::Migrate { transition, incoming } => {
                if transition.saves() {
                    self.session.saved(self.config.encode().len());
                }
                if transition.loads() {
                    match Config::decode(&LAYOUT, ROM_BYTES, &incoming) {
                        Some(config) => self.config = config,
                        None => self.session.migration_failed(header, 7, &mut reply),
                    }
                }
            }
            _ => {}
        }
        self.succeed();
    }

    fn check_reply(&self, header: &Header, outcome: &Outcome<'_>, reply: &[u8]) {
        if !header.wants_reply() {
            assert!(reply.is_empty(), "nobody waits for this");
            return;
        }
        let answer =
            Header::parse(reply.first_chunk().expect("a reply has a head")).expect("of the protocol");
        assert_eq!(
            (answer.id, answer.command, answer.message_len()),
            (header.id, header.command, reply.len())
        );
        assert!(answer.is_reply() && reply.len() <= REPLY_MAX);
        assert!((answer.error != 0) == (answer.flags & 0x20 != 0));
        assert!(answer.error == 0 || reply.len() == 16 && outcome.fault.is_some());
    }

    fn write(&mut self, write: &Write<'_>) {
        let end = write.offset + write.data.len() as u64;
        let region = &self.device.regions[write.region as usize];
        assert!(region.writable && end <= region.size);
        if write.region == 7 {
            let before = self.config.clone();
            let change = self.config.write(write.offset as usize, write.data);
            assert_eq!(change.any, self.config != before);
            assert!(change.command || self.config.bus_master() == before.bus_master());
            assert!(change.interrupts || self.config.irq_mode() == before.irq_mode());
            let mut identity = [0; 4];
            self.config.read(0, &mut identity);
            assert_eq!(identity, [0x86, 0x80, 0xd3, 0x10]);
        }
    }

    fn keep(&mut self, fds: usize, outcome: &Outcome<'_>) {
        assert!(outcome.kept.len() <= fds, "only descriptors that came are kept");
        for &generation in &outcome.kept {
            assert!(generation != 0 && self.live.insert(generation), "a generation comes once");
        }
        for generation in &outcome.dropped {
            assert!(self.live.remove(generation), "only what was there is dropped");
        }
        let named: Vec<u32> = self.session.state.generations().collect();
        assert_eq!(named.len(), self.live.len(), "each descriptor has one place");
        assert!(named.iter().all(|generation| self.live.contains(generation)));
    }

    /// Another worker goes on from what this one left.
    fn succeed(&mut self) {
        let bytes = self.session.state.encode();
        assert!(bytes.len() <= State::ENCODED_MAX);
        let state = State::decode(&bytes).expect("a state that was encoded just now");
        assert_eq!(state, self.session.state);
        self.session = Session::resume(state);
        let config = Config::decode(&LAYOUT, ROM_BYTES, &self.config.encode());
        assert_eq!(config.as_ref(), Some(&self.config));
        let _ = (self.session.intx(true), self.session.signal(2, u32::MAX));
    }
}

/// One message of the input: command, flags, descriptors and the number of words that follow, one
/// byte each.
fn take<'a>(data: &mut &'a [u8]) -> Option<(u8, u8, u8, &'a [u8])> {
    let (&[command, flags, fds, words], rest) = data.split_first_chunk()?;
    let (payload, rest) = rest.split_at((usize::from(words) * 4).min(rest.len()));
    *data = rest;
    Some((command, flags, fds, payload))
}

pub fn vfio_user(data: &[u8]) {
    // Whatever lies in a ledger is read without a panic as well.
    let _ = State::decode(data);
    let _ = Config::decode(&LAYOUT, ROM_BYTES, data);
    let _ = pci::check_rom(data, &LAYOUT);
    let Some((&first, mut rest)) = data.split_first() else { return };
    let mut lane = Lane::new(first & 1 != 0);
    let mut id = 0;
    while let Some((command, flags, fds, payload)) = take(&mut rest) {
        // Bit 7: the head tells of a length that is too much to be looked at.
        let excess = if flags & 0x80 == 0 { 0 } else { u32::from(fds) << 20 };
        let header = Header {
            id,
            command: command.into(),
            size: 16 + payload.len() as u32 + excess,
            flags: u32::from(flags & 0x71),
            error: flags.into(),
        };
        assert_eq!(Header::parse(&header.encode()), Ok(header));
        lane.message(&header, payload, usize::from(fds % 17));
        id = id.wrapping_add(1);
    }
    let left: BTreeSet<u32> = lane.session.disconnected().into_iter().collect();
    assert_eq!(left, lane.live);
}

pub fn inputs() -> Vec<Vec<u8>> {
    [seeds(), crate::kept(include_bytes!("../kept/vfio_user"))].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let message = |command: u8, flags: u8, fds: u8, words: &[u32]| {
        let mut bytes = vec![command, flags, fds, words.len() as u8];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    };
    let mut text = b"{\"capabilities\": {\"max_msg_fds\": 16, \"migration\": {\"pgsize\": 4096}}}".to_vec();
    text.resize(71, b' ');
    text.push(0);
    let greeting = [&[1, 0, 0, 19, 0, 0, 0, 0][..], &text].concat();
    let parts = [
        message(2, 0, 1, &[32, 3, 0, 0, 0, 0, 0xc_0000, 0]),
        message(2, 0, 0, &[32, 1, 0, 0, 0xc_0000, 0, 0x2_0000, 0]),
        message(4, 0, 0, &[16, 0, 0, 0]),
        message(5, 0, 0, &[80, 0, 2, 0, 0, 0, 0, 0]),
        message(6, 0, 0, &[16, 0, 1, 0]),
        message(7, 0, 0, &[16, 0, 2, 0]),
        message(8, 0, 1, &[20, 0x24, 0, 0, 1]),
        message(8, 0, 5, &[20, 0x24, 2, 0, 5]),
        message(8, 0, 0, &[20, 0x22, 2, 0, 4, 0x0100_0001]),
        message(8, 0, 0, &[20, 0x11, 0, 0, 1]),
        message(8, 0, 1, &[20, 0x14, 0, 0, 1]),
        message(8, 0, 0, &[20, 0x0a, 2, 0, 4, 0x0101]),
        message(9, 0, 0, &[4, 0, 7, 4]),
        message(9, 0, 0, &[0, 0, 6, 0x1_0000]),
        message(10, 0, 0, &[4, 0, 7, 4, 0x0407]),
        message(10, 0, 0, &[0xcc, 0, 7, 4, 3]),
        message(10, 0, 0, &[0xcc, 0, 7, 4, 0]),
        message(10, 0x10, 0, &[0x10, 0, 7, 4, !0]),
        message(15, 0x10, 0, &[2, 0, 0x3818, 0, 0, 4, 5, 0, 0xa0, 0, 7, 4, 0x8000_0000, 0]),
        message(13, 0, 0, &[]),
        message(16, 0, 0, &[16, 1 << 16 | 1]),
        message(16, 0, 0, &[64, 1 << 17 | 6, 4096, 0, 1, 0, 0, 0, 0x10_0000, 0]),
        message(16, 0, 0, &[64, 1 << 16 | 8, 0, 0, 0x10_0000, 0, 4096, 0]),
        message(16, 0, 0, &[8, 1 << 17 | 7]),
        message(16, 0, 0, &[16, 1 << 17 | 2, 3, 0]),
        message(17, 0, 0, &[1024, 1000]),
        message(16, 0, 0, &[16, 1 << 17 | 2, 4, 0]),
        message(18, 0, 0, &[12, 4, 1]),
        message(16, 0, 0, &[16, 1 << 17 | 2, 2, 0]),
        message(11, 1, 0, &[0, 0, 4, 0, 9]),
        message(10, 0x80, 1, &[]),
        message(3, 0, 0, &[24, 0, 0, 0, 0xc_0000, 0]),
        message(3, 0, 0, &[24, 2, 0, 0, 0, 0]),
    ];
    let mut seeds = vec![[&[1][..], &greeting, &parts.concat()].concat()];
    seeds.extend(parts.iter().map(|part| [&[1][..], &greeting, part].concat()));
    seeds.extend([State::default().encode(), Config::new(&LAYOUT, ROM_BYTES).encode()]);
    seeds
}
