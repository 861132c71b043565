//! Any register access and any memory: no panic, and work with an end.

mod driver;

use driver::*;
use frame::{Nic, Posted, Taken};
use guest_memory::Memory;
use pci::{Bars, Function, Lasting, Signals};
use proptest::prelude::*;
use standpipe_pcnet::{Chip, Pcnet};

/// A shared area of VMXNET.
const AREA: u32 = 0x3000;

#[derive(Clone, Debug)]
enum Act {
    Csr(u16, u16),
    Bcr(u16, u16),
    Write(u8, u64, Vec<u8>),
    Read(u8, u64, usize),
    Memory(u32, Vec<u8>),
    Deliver(Vec<u8>),
    Transmit,
    Publish,
    Expire(u64),
    Link(bool),
    MemoryAway(bool),
    Restart,
    Reset,
    /// Turns the adapter over, with a shared area of sorts.
    Vmxnet,
    Restore(Vec<u8>),
}

fn act() -> impl Strategy<Value = Act> {
    let frame = prop_oneof![
        (0usize..5000).prop_map(|len| {
            let mut bytes = vec![0x5a; len];
            if len >= 6 {
                bytes[..6].copy_from_slice(&MAC.0);
            }
            bytes
        }),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    prop_oneof![
        4 => (0u16..128, any::<u16>()).prop_map(|(number, value)| Act::Csr(number, value)),
        4 => (Just(0u16), prop_oneof![Just(1u16), Just(2), Just(3), Just(4), Just(0x42), any::<u16>()])
            .prop_map(|(number, value)| Act::Csr(number, value)),
        2 => (prop_oneof![Just(76u16), Just(78), Just(72), Just(24), Just(30), Just(2), Just(15)], any::<u16>())
            .prop_map(|(number, value)| Act::Csr(number, value)),
        2 => (0u16..64, any::<u16>()).prop_map(|(number, value)| Act::Bcr(number, value)),
        1 => (Just(20u16), 0u16..5).prop_map(|(number, value)| Act::Bcr(number, value)),
        1 => (0u8..3, 0u64..40, proptest::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(bar, at, bytes)| Act::Write(bar, at, bytes)),
        3 => (0u64..0x18, prop_oneof![Just(1u32), Just(2), Just(4), Just(0x40), Just(0x2934), Just(0x4392),
                Just(AREA), any::<u32>()])
            .prop_map(|(word, value)| Act::Write(0, 0x20 + word * 4, value.to_le_bytes().to_vec())),
        1 => (0u32..176, prop_oneof![0u32..600, any::<u32>()])
            .prop_map(|(at, value)| Act::Memory(AREA + at, value.to_le_bytes().to_vec())),
        1 => Just(Act::Vmxnet),
        2 => (0u8..3, 0u64..0x80, 0usize..9).prop_map(|(bar, at, len)| Act::Read(bar, at, len)),
        4 => (0u32..0x6000, proptest::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(at, bytes)| Act::Memory(at, bytes)),
        4 => (0u32..64, any::<bool>(), any::<[u8; 16]>()).prop_map(|(index, rx, bytes)| {
            Act::Memory(if rx { RX_AT } else { TX_AT } + index * 8, bytes.to_vec())
        }),
        3 => frame.prop_map(Act::Deliver),
        4 => Just(Act::Transmit),
        3 => Just(Act::Publish),
        1 => (0u64..200_000_000).prop_map(Act::Expire),
        1 => any::<bool>().prop_map(Act::Link),
        1 => any::<bool>().prop_map(Act::MemoryAway),
        1 => Just(Act::Restart),
        1 => Just(Act::Reset),
        1 => proptest::collection::vec(any::<u8>(), 0..700).prop_map(Act::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_act_harms(style in 0u16..4, chip in 0usize..3, acts in proptest::collection::vec(act(), 0..150)) {
        let driver = Driver::new(style, 3);
        let memory = &*driver.memory;
        let hot = hot();
        let chip = [Chip::Am79C970A, Chip::Flexible, Chip::Am79C973][chip];
        let mut nic = Pcnet::new(config(chip), hot.clone());
        driver.open(&mut nic, 0);
        let nothing = Memory::empty();
        let mut now_memory = memory;
        let mut now = NOW;
        let mut posted = Posted::default();
        for act in acts {
            match act {
                Act::Csr(number, value) => write_csr(&mut nic, now_memory, number, value),
                Act::Bcr(number, value) => write_bcr(&mut nic, now_memory, number, value),
                Act::Write(bar, at, bytes) => nic.write(now, now_memory, bar, at, &bytes),
                Act::Read(bar, at, len) => nic.read(now, bar, at, &mut vec![0; len]),
                Act::Memory(at, bytes) => driver.write(at, &bytes),
                Act::Deliver(bytes) => {
                    if let Ok(len) = deliver(&mut nic, now_memory, &bytes) {
                        prop_assert_eq!(len as usize, bytes.len());
                    }
                }
                Act::Transmit => {
                    for _ in 0..20 {
                        if nic.waiting() == 0 || nic.transmit(now_memory, 0, &mut posted) == Taken::Empty {
                            break;
                        }
                        prop_assert!(posted.header().len() <= 64);
                    }
                }
                Act::Publish => nic.publish(now, now_memory),
                Act::Expire(nanos) => {
                    now = now.after(std::time::Duration::from_nanos(nanos));
                    nic.expire(now, now_memory);
                }
                Act::Link(up) => nic.set_link(now, up, 1000),
                Act::MemoryAway(away) => {
                    now_memory = if away { &nothing } else { memory };
                    nic.memory_changed(now_memory);
                }
                Act::Restart => {
                    let state = nic.state();
                    prop_assert!(state.len() <= pci::STATE_MAX);
                    nic = Pcnet::new(config(chip), hot.clone());
                    nic.restore(&state);
                    nic.resume(now_memory);
                }
                Act::Reset => nic.reset(),
                Act::Vmxnet => {
                    for (at, value) in [(0, 0xbabe_864f_u32), (4, 8), (40, 4), (108, 176), (116, 400)] {
                        driver.write(AREA + at, &value.to_le_bytes());
                    }
                    for (at, value) in [(0x20, 0x4392), (0x24, AREA), (0x28, 0x1000), (0x30, 0x40)] {
                        outl(&mut nic, now_memory, at, value);
                    }
                }
                Act::Restore(bytes) => {
                    nic.restore(&bytes);
                    nic.resume(now_memory);
                }
            }
            nic.interrupts();
            nic.deadline();
            for number in 0..128 {
                // All of them can be read at any time.
                read_csr(&mut nic, now_memory, number);
            }
        }
    }

    /// State of the right length with anything in it.
    #[test]
    fn any_state_is_borne(mut bytes in proptest::collection::vec(any::<u8>(), 600), note in any::<[u64; 2]>()) {
        let driver = Driver::new(2, 3);
        let hot = hot();
        hot.store_u64(0, note[0]);
        hot.store_u64(8, note[1]);
        let mut nic = Pcnet::new(config(Chip::Am79C970A), hot);
        let good = nic.state();
        bytes.resize(good.len(), 0x5a);
        // The version.
        bytes[0] = good[0];
        nic.restore(&bytes);
        nic.resume(&driver.memory);
        drain(&mut nic, &driver.memory);
        let _ = deliver(&mut nic, &driver.memory, &frame_of(MAC, 0, 100));
        nic.publish(NOW, &driver.memory);
    }
}
