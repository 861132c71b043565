//! A guest that does whatever it likes: no panic, no overflow, a bounded amount of work for each call.

mod driver;

use driver::{Guest, QUEUES, SHARED, Send, Shape, v4};
use frame::{Frame, HEADER_MAX, Nic, Taken};
use guest_memory::Memory;
use pci::{Bars, Function, IrqMode, Lasting, STATE_MAX, Signals};
use proptest::prelude::*;
use request::{FrameFacts, Gso, Rewrite};

#[derive(Clone, Debug)]
enum Step {
    Register {
        bar: u8,
        offset: u64,
        bytes: Vec<u8>,
    },
    Read {
        bar: u8,
        offset: u64,
        len: usize,
    },
    Command(u32),
    /// Bytes in the shared area, the queues' descriptors, a ring, or anywhere.
    Scribble {
        place: u8,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// A transmit descriptor with sensible bits.
    Describe {
        index: u64,
        address: u64,
        word: u32,
        flags: u32,
    },
    Transmit(u16),
    Deliver {
        protocol: u8,
        len: usize,
        facts: u8,
        rewrite: u8,
        header: usize,
    },
    Publish,
    Pass(u64),
    Mode(u8),
    Link(bool, u32),
    Doorbells(bool),
    Unmap(bool),
    Die,
    Reset,
    Reopen,
}

fn command() -> impl Strategy<Value = u32> {
    prop_oneof![
        (0u32..0x16).prop_map(|number| 0xcafe_0000 + number),
        (0u32..0x18).prop_map(|number| 0xf00d_0000 + number),
        any::<u32>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..16);
    prop_oneof![
        1 => (0u8..4, prop_oneof![0u64..0x100, 0x5f0u64..0xd00, any::<u64>()], bytes())
            .prop_map(|(bar, offset, bytes)| Step::Register { bar, offset, bytes }),
        1 => (0u8..4, prop_oneof![0u64..0x100, any::<u64>()], 0usize..20)
            .prop_map(|(bar, offset, len)| Step::Read { bar, offset, len }),
        3 => command().prop_map(Step::Command),
        3 => (0u8..5, 0u64..0x400, bytes())
            .prop_map(|(place, offset, bytes)| Step::Scribble { place, offset, bytes }),
        3 => (0u64..64, prop_oneof![0x80_0000u64..0x80_1000, any::<u64>()], any::<u32>(), any::<u32>())
            .prop_map(|(index, address, word, flags)| Step::Describe { index, address, word, flags }),
        3 => (0u16..10).prop_map(Step::Transmit),
        4 => (prop_oneof![Just(6u8), Just(17), any::<u8>()], prop_oneof![0usize..200, 0usize..65_000],
              any::<u8>(), any::<u8>(), 0usize..300)
            .prop_map(|(protocol, len, facts, rewrite, header)| Step::Deliver { protocol, len, facts, rewrite, header }),
        3 => Just(Step::Publish),
        1 => (0u64..1_000_000).prop_map(Step::Pass),
        1 => (0u8..4).prop_map(Step::Mode),
        1 => (any::<bool>(), any::<u32>()).prop_map(|(up, mbps)| Step::Link(up, mbps)),
        1 => any::<bool>().prop_map(Step::Doorbells),
        1 => any::<bool>().prop_map(Step::Unmap),
        1 => Just(Step::Die),
        1 => Just(Step::Reset),
        2 => Just(Step::Reopen),
    ]
}

fn take(guest: &mut Guest, memory: &Memory, queue: u16) {
    // As many as a lane takes at once.
    for _ in 0..256 {
        match guest.nic.transmit(memory, queue, &mut guest.posted) {
            Taken::Empty => return,
            Taken::Dropped => {}
            Taken::Frame => {
                let posted = &guest.posted;
                assert!(posted.header_len <= HEADER_MAX + 4 && posted.header_len >= 14);
                let rest: u64 = posted.rest.iter().map(|span| u64::from(span.len)).sum();
                assert_eq!(posted.header_len as u64 + rest, u64::from(posted.len));
                let mut bytes = [0; 64];
                memory.gather(&posted.rest, &mut bytes);
            }
        }
    }
}

fn run(steps: Vec<Step>, revision: u8) {
    let shape = Shape { revision, tx_queues: 2, rx_queues: 2, ..Shape::default() };
    let mut guest = Guest::open(shape);
    let mut memory = guest.memory.clone();
    for step in steps {
        let now = guest.now;
        match step {
            Step::Register { bar, offset, bytes } => guest.nic.write(now, &memory, bar, offset, &bytes),
            Step::Read { bar, offset, len } => {
                let mut into = vec![0x55; len];
                guest.nic.read(now, bar, offset, &mut into);
            }
            Step::Command(command) => guest.nic.write(now, &memory, 1, 0x20, &command.to_le_bytes()),
            Step::Scribble { place, offset, bytes } => {
                let base = match place {
                    0 => SHARED,
                    1 => QUEUES,
                    2 => guest.tx[0].ring.base,
                    3 => guest.rx[0].rings[0].base,
                    _ => guest.rx[0].done.base,
                };
                guest.put(base + offset, &bytes);
            }
            Step::Describe { index, address, word, flags } => {
                let at = guest.tx[0].ring.base + index * 16;
                guest.put_u64(at, address);
                guest.put_u32(at + 12, flags);
                guest.put_u32(at + 8, word & !(1 << 16));
            }
            Step::Transmit(queue) => take(&mut guest, &memory, queue),
            Step::Deliver { protocol, len, facts, rewrite, header } => {
                let bytes = v4(protocol, len, facts);
                let (header, body) = bytes.split_at(header.min(bytes.len()));
                let facts = FrameFacts {
                    checksum_start: if facts & 1 != 0 { 34 } else { u16::MAX },
                    checksum_offset: if protocol == 17 { 6 } else { 16 },
                    checksum_valid: facts & 2 != 0,
                    gso: [Gso::None, Gso::TcpV4, Gso::TcpV6, Gso::UdpL4][usize::from(facts >> 2 & 3)],
                    segment: u16::from(facts >> 4) * 100,
                    ..FrameFacts::default()
                };
                let rewrite = match rewrite % 4 {
                    0 => Rewrite::Insert(rewrite.into()),
                    1 => Rewrite::Strip,
                    2 => Rewrite::Replace(rewrite.into()),
                    _ => Rewrite::Keep,
                };
                let frame = Frame { header, body: frame::Body::Bytes(body), facts };
                guest.nic.can_take(&frame);
                if let Ok(len) = guest.nic.deliver(&memory, &frame, rewrite) {
                    assert!(len as usize <= bytes.len() + 4);
                }
            }
            Step::Publish => guest.nic.publish(now, &memory),
            Step::Pass(nanos) => {
                guest.pass(nanos);
                guest.nic.interrupts();
            }
            Step::Mode(mode) => guest
                .nic
                .set_irq_mode([IrqMode::Off, IrqMode::Intx, IrqMode::Msi, IrqMode::MsiX][usize::from(mode)]),
            Step::Link(up, mbps) => guest.nic.set_link(now, up, mbps),
            Step::Doorbells(wanted) => guest.nic.set_doorbells(now, &memory, wanted),
            Step::Unmap(gone) => {
                memory = if gone { Memory::empty() } else { guest.memory.clone() };
                guest.nic.memory_changed(&memory);
            }
            Step::Die => {
                let state = guest.nic.state();
                assert!(state.len() <= STATE_MAX);
                guest.die(&state);
                assert_eq!(guest.nic.state(), state);
                guest.nic.memory_changed(&memory);
            }
            Step::Reset => guest.nic.reset(),
            Step::Reopen => {
                guest.setup();
                guest.command(0xcafe_0000);
                guest.rx_mode_unchecked(0x1f);
            }
        }
        guest.nic.waiting();
        guest.nic.take_dirty();
        guest.nic.counters();
    }
    // A driver that begins anew finds a device that works.
    guest.nic.memory_changed(&guest.memory.clone());
    guest.nic.set_irq_mode(IrqMode::MsiX);
    guest.nic.reset();
    guest.negotiate();
    guest.setup();
    assert_eq!(guest.command(0xcafe_0000), 0);
    guest.rx_mode(0x05);
    let bytes = v4(17, 100, 1);
    guest.deliver(&bytes).unwrap();
    guest.send(1, Send { bytes: &bytes, ..Send::default() });
    assert_eq!(guest.take_all(1).len(), 1);
    guest.publish();
    assert_eq!((guest.receive(0).len(), guest.reap(1)), (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_steps(steps in prop::collection::vec(step(), 1..60), revision in 1u8..=9) {
        run(steps, revision);
    }

    #[test]
    fn any_shared_area(bytes in prop::collection::vec(any::<u8>(), 720), queues in prop::collection::vec(any::<u8>(), 512)) {
        let mut guest = Guest::open(Shape::default());
        guest.put(SHARED + 8, &bytes[8..]);
        guest.put(QUEUES, &queues);
        // So that something of it is looked at.
        guest.put_u64(SHARED + 40, QUEUES);
        guest.put_u32(SHARED + 52, 512);
        guest.put(SHARED + 62, &[1, 1]);
        guest.command(0xcafe_0000);
        let memory = guest.memory.clone();
        take(&mut guest, &memory, 0);
        let _ = guest.deliver(&v4(6, 300, 1));
        guest.publish();
    }

    #[test]
    fn any_state(bytes in prop::collection::vec(any::<u8>(), 0..1200), cut in any::<prop::sample::Index>(), value: u8) {
        let mut guest = Guest::open(Shape::default());
        guest.die(&bytes);
        let mut state = Guest::open(Shape::default()).nic.state();
        let place = cut.index(state.len());
        state[place] = value;
        guest.die(&state);
        let memory = guest.memory.clone();
        take(&mut guest, &memory, 0);
        let _ = guest.deliver(&v4(6, 300, 1));
        guest.publish();
        guest.pass(1_000_000);
    }
}
