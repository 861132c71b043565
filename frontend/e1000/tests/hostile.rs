//! Guests that do anything at all.

mod driver;

use driver::*;
use frame::{Nic, Taken};
use pci::{Bars, Function, IrqMode, Lasting, Signals};
use proptest::prelude::*;
use request::{FrameFacts, Gso};
use standpipe_e1000::Model;

#[derive(Clone, Debug)]
enum Act {
    Write(u64, u32),
    Read(u64, usize),
    Io(u64, u32),
    Fill(u64, Vec<u8>),
    Transmit,
    Deliver(usize, bool),
    Pass(u64),
    Mode(u8),
    Succeed,
    Reset,
}

/// Registers that matter, more often than others.
fn offset() -> impl Strategy<Value = u64> {
    let known = [
        0x0, 0x10, 0x14, 0x18, 0x20, 0x38, 0xc0, 0xc4, 0xc8, 0xd0, 0xd8, 0xdc, 0xe0, 0xe4, 0xe8, 0x100,
        0x400, 0x2800, 0x2804, 0x2808, 0x2810, 0x2818, 0x2820, 0x282c, 0x2900, 0x2908, 0x2910, 0x2918,
        0x3800, 0x3804, 0x3808, 0x3810, 0x3818, 0x3820, 0x3908, 0x3918, 0x5000, 0x5008, 0x2170, 0x5818,
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()), 1 => 0..0x2_0000u64, 1 => any::<u64>()]
}

fn value() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), 0..0x3000u32, Just(0xffff_ffff), (0..32u32).prop_map(|bit| 1 << bit)]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (offset(), value()).prop_map(|(at, value)| Act::Write(at, value)),
        2 => (offset(), 0..12usize).prop_map(|(at, len)| Act::Read(at, len)),
        1 => (0..70u64, value()).prop_map(|(at, value)| Act::Io(at, value)),
        3 => (0x1000..0x3000u64, prop::collection::vec(any::<u8>(), 1..256))
            .prop_map(|(at, bytes)| Act::Fill(at, bytes)),
        3 => Just(Act::Transmit),
        3 => (0..4_000usize, any::<bool>()).prop_map(|(len, undone)| Act::Deliver(len, undone)),
        1 => (0..100_000_000u64).prop_map(Act::Pass),
        1 => (0..4u8).prop_map(Act::Mode),
        1 => Just(Act::Succeed),
        1 => Just(Act::Reset),
    ]
}

fn run(model: Model, acts: Vec<Act>, opened: bool) {
    let mut bench = Bench::new(model);
    if opened {
        bench.open();
    }
    let memory = bench.memory.clone();
    for act in acts {
        match act {
            Act::Write(at, value) => bench.write(at, value),
            Act::Read(at, len) => {
                let now = bench.now;
                bench.nic.read(now, 0, at, &mut vec![0; len]);
                bench.nic.read(now, (at % 7) as u8, at, &mut vec![0; len]);
            }
            Act::Io(at, value) => {
                let (now, mut word) = (bench.now, [0; 4]);
                bench.nic.write(now, &memory, 2, at, &value.to_le_bytes());
                bench.nic.read(now, 2, at, &mut word);
            }
            Act::Fill(at, bytes) => bench.put(at, &bytes),
            Act::Transmit => {
                for queue in 0..3 {
                    // Each call takes descriptors of a ring that does not grow meanwhile.
                    let mut calls = 0;
                    while bench.nic.transmit(&memory, queue, &mut bench.posted) != Taken::Empty {
                        let posted = &bench.posted;
                        assert!(posted.header().len() <= frame::HEADER_MAX);
                        assert!(posted.len <= frame::FRAME_MAX + 4);
                        calls += 1;
                        assert!(calls <= 65_536, "bounded");
                    }
                }
                bench.publish();
            }
            Act::Deliver(len, undone) => {
                let facts = if undone {
                    FrameFacts { checksum_start: len as u16 / 2, checksum_offset: 6, ..FrameFacts::default() }
                } else if len % 7 == 0 {
                    FrameFacts { gso: Gso::TcpV4, segment: 100, ..FrameFacts::default() }
                } else {
                    FrameFacts { checksum_valid: true, ..FrameFacts::default() }
                };
                let mut bytes = numbered(1, 18);
                bytes.resize(len, 0x45);
                if len > 30 {
                    bytes[12..14].copy_from_slice(if len % 2 == 0 { &[8, 0] } else { &[0x86, 0xdd] });
                }
                let _ = bench.deliver_with(&bytes, facts);
                if len % 3 == 0 {
                    bench.publish();
                }
            }
            Act::Pass(nanos) => bench.pass(nanos),
            Act::Mode(mode) => {
                let modes = [IrqMode::Off, IrqMode::Intx, IrqMode::Msi, IrqMode::MsiX];
                bench.nic.set_irq_mode(modes[usize::from(mode)]);
            }
            Act::Succeed => {
                let state = bench.nic.state();
                assert!(state.len() <= pci::STATE_MAX);
                bench.successor(&state);
                assert_eq!(bench.nic.state(), state);
            }
            Act::Reset => bench.nic.reset(),
        }
        let _ = bench.nic.interrupts();
        let _ = bench.nic.waiting();
    }
    let _ = bench.nic.counters();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_guest_does_is_fatal(
        model in 0..3usize,
        opened: bool,
        acts in prop::collection::vec(act(), 1..60),
    ) {
        run(Model::ALL[model], acts, opened);
    }

    #[test]
    fn no_state_is_fatal(
        model in 0..3usize,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        honest in 0..300usize,
    ) {
        let mut bench = Bench::new(Model::ALL[model]);
        let mut state = bench.nic.state();
        state.truncate(honest);
        state.extend_from_slice(&bytes);
        bench.successor(&state);
        bench.write(EECD, 2);
        bench.write(EECD, 3);
        let _ = bench.sent();
        let _ = bench.deliver(&numbered(1, 100));
        bench.publish();
    }
}

/// A ring of 65,536 descriptors without an end, and one of nothing but contexts.
#[test]
fn endless_frames_are_bounded() {
    for word in [0u64, 0x20 << 24, 0x20_1000 << 8 | 1 << 20] {
        let mut bench = Bench::new(Model::I82540em);
        bench.open();
        // The ring is all of the memory, so each descriptor is what is written here.
        for at in (0..1u64 << 20).step_by(16) {
            bench.put(at, &[(1u64 << 12).to_le_bytes(), (word | 100).to_le_bytes()].concat());
        }
        bench.write(TDBAL, 0);
        bench.write(TDLEN, 0xf_ff80);
        bench.write(TDT, 0xfff0);
        let mut dropped = 0;
        while bench.nic.waiting() != 0 {
            match bench.nic.transmit(&bench.memory, 0, &mut bench.posted) {
                Taken::Dropped => dropped += 1,
                Taken::Empty => break,
                Taken::Frame => panic!("no end, no frame"),
            }
            assert!(dropped < 1_000);
        }
        bench.publish();
        assert!(bench.read(TDH) >= 0xff00, "{word:#x}: {:#x}", bench.read(TDH));
    }
}
