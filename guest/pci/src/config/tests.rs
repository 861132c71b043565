//! Golden values are typed from PCI Local Bus 3.0 (chapter 6), PCI Bus Power Management 1.2 (3.2)
//! and PCI Express Base 2.1 (7.8), apart from the constants of this crate.

use proptest::prelude::*;

use super::*;

/// An 82540EM, and a mask register for MSI so that there is one to test.
const CONVENTIONAL: Layout = Layout {
    vendor: 0x8086,
    device: 0x100e,
    revision: 3,
    class: [2, 0, 0],
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    interrupt_pin: 1,
    min_grant: 0xff,
    max_latency: 0,
    bars: [
        Bar::Memory32 { bytes: 0x2_0000, prefetchable: false },
        Bar::Io { bytes: 64 },
        Bar::None,
        Bar::Memory32 { bytes: 0x1000, prefetchable: true },
        Bar::None,
        Bar::None,
    ],
    caps: &[
        (0xdc, Cap::PowerManagement { d1: false, d2: true, pme: 0b1_1001 }),
        (0xc0, Cap::Msi { vectors: 4, addr64: true, maskable: true }),
        (0xa0, Cap::MsiX { vectors: 5, table_bar: 3, table_offset: 0, pba_bar: 3, pba_offset: 0x800 }),
    ],
};

const EXPRESS: Layout = Layout {
    caps: &[
        (0x40, Cap::PowerManagement { d1: false, d2: false, pme: 0 }),
        (0x48, Cap::Pcie { integrated: false }),
        (0x84, Cap::Msi { vectors: 1, addr64: false, maskable: false }),
    ],
    ..CONVENTIONAL
};

#[test]
fn msix_can_be_left_out() {
    let shown = CONVENTIONAL.without_msix();
    assert_eq!(shown, Layout { caps: &CONVENTIONAL.caps[..2], ..CONVENTIONAL });
    assert_eq!((shown.msi_vectors(), shown.msix_vectors()), (4, 0));
    assert_eq!(EXPRESS.without_msix(), EXPRESS);
    let mut config = Config::new(&shown, 0);
    // Power management at DCh, MSI at C0h, and none after it.
    assert_eq!(
        (bytes(&config, 0x34), bytes(&config, 0xdc), bytes(&config, 0xc0)),
        ([0xdc], [1, 0xc0], [5, 0])
    );
    assert_eq!(bytes(&config, 0xa0), [0; 12]);
    config.write(0xa2, &[0, 0x80]);
    assert!(!config.msix_enabled());
    assert_eq!(config.irq_mode(), IrqMode::Intx);
}

fn bytes<const N: usize>(config: &Config, at: usize) -> [u8; N] {
    let mut out = [0xaa; N];
    config.read(at, &mut out);
    out
}

fn word(config: &Config, at: usize) -> u16 {
    u16::from_le_bytes(bytes(config, at))
}

fn long(config: &Config, at: usize) -> u32 {
    u32::from_le_bytes(bytes(config, at))
}

/// What a register reads as after ones were written to all of it.
fn sized(config: &mut Config, at: usize) -> u32 {
    config.write(at, &[0xff; 4]);
    long(config, at)
}

#[test]
fn the_header_of_a_conventional_function() {
    let config = Config::new(&CONVENTIONAL, 0);
    assert_eq!(config.len(), 256);
    assert_eq!(
        bytes::<64>(&config, 0),
        [
            0x86, 0x80, 0x0e, 0x10, 0, 0, 0x10, 0x02, 3, 0, 0, 2, 0, 0, 0, 0, // ids, class
            0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, // BARs 0 to 3
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf4, 0x1a, 0, 0x11, // subsystem
            0, 0, 0, 0, 0xdc, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, // first capability, interrupt
        ]
    );
}

#[test]
fn sizes_of_bars() {
    let mut config = Config::new(&CONVENTIONAL, 40_000);
    assert_eq!(sized(&mut config, 0x10), 0xfffe_0000);
    assert_eq!(sized(&mut config, 0x14), 0xffff_ffc1);
    assert_eq!(sized(&mut config, 0x18), 0);
    assert_eq!(sized(&mut config, 0x1c), 0xffff_f008);
    // 40,000 bytes want 64 KiB; bit 0 enables.
    assert_eq!(sized(&mut config, 0x30), 0xffff_0001);
    assert_eq!(sized(&mut Config::new(&CONVENTIONAL, 0), 0x30), 0);
    assert_eq!(sized(&mut Config::new(&CONVENTIONAL, 1), 0x30), 0xffff_f801);
    config.write(0x10, &0xfebe_1234u32.to_le_bytes());
    assert_eq!(config.bar_address(0), Some(0xfebe_0000));
    config.write(0x14, &0xc05fu32.to_le_bytes());
    assert_eq!((config.bar_address(1), long(&config, 0x14)), (Some(0xc040), 0xc041));
    assert_eq!((config.bar_address(2), config.bar_address(6)), (None, None));
}

#[test]
fn the_command_register_holds_what_the_function_can_do() {
    let mut config = Config::new(&CONVENTIONAL, 0);
    let change = config.write(0x04, &[0xff, 0xff]);
    // I/O, memory, master, invalidate, parity, SERR, interrupt disable.
    assert_eq!(word(&config, 0x04), 0x0557);
    assert_eq!(change, Change { command: true, interrupts: true, reset: false, any: true });
    assert!(config.bus_master() && config.memory_enabled() && config.io_enabled());
    assert_eq!((config.intx_disabled(), config.irq_mode()), (true, IrqMode::Off));
    let change = config.write(0x05, &[0]);
    assert_eq!(change, Change { command: false, interrupts: true, reset: false, any: true });
    assert_eq!(config.irq_mode(), IrqMode::Intx);
    assert_eq!(config.write(0x04, &[0x57]), Change::default());
    // Without BARs and pin there is nothing to enable.
    let bare = Layout { bars: [Bar::None; 6], interrupt_pin: 0, caps: &[], ..CONVENTIONAL };
    let mut config = Config::new(&bare, 0);
    config.write(0x04, &[0xff, 0xff]);
    assert_eq!((word(&config, 0x04), word(&config, 0x06)), (0x0154, 0x0200));
    assert_eq!(config.irq_mode(), IrqMode::Off);
}

#[test]
fn the_interrupt_pin_shows_in_the_status_register() {
    let mut config = Config::new(&CONVENTIONAL, 0);
    config.set_intx_status(true);
    assert_eq!(word(&config, 0x06), 0x0218);
    config.write(0x06, &[0xff, 0xff]);
    assert_eq!(word(&config, 0x06), 0x0218, "interrupt status is not cleared by writing to it");
    config.set_intx_status(false);
    assert_eq!(word(&config, 0x06), 0x0210);
}

#[test]
fn identity_is_read_only_and_scratch_is_not() {
    let mut config = Config::new(&CONVENTIONAL, 0);
    let before = bytes::<64>(&config, 0);
    for at in [0, 2, 8, 0x0e, 0x28, 0x2c, 0x34, 0x38, 0x3d] {
        config.write(at, &[0x55]);
    }
    assert_eq!(bytes::<64>(&config, 0), before);
    config.write(0x0c, &[0x10, 0xff]);
    config.write(0x3c, &[11]);
    assert_eq!((word(&config, 0x0c), bytes::<1>(&config, 0x3c)), (0xf810, [11]));
}

#[test]
fn capabilities_are_chained_in_the_order_of_the_table() {
    let mut config = Config::new(&CONVENTIONAL, 0);
    // PM: next C0h; version 3, D2, PME from D0, D3hot and D3cold.
    assert_eq!(bytes::<8>(&config, 0xdc), [0x01, 0xc0, 0x03, 0xcc, 0, 0, 0, 0]);
    // MSI: next A0h; four vectors, 64 bits, maskable.
    assert_eq!(bytes::<4>(&config, 0xc0), [0x05, 0xa0, 0x84, 0x01]);
    // MSI-X: last; table size 5, table in BAR 3 at 0, PBA in BAR 3 at 800h.
    assert_eq!(bytes::<12>(&config, 0xa0), [0x11, 0, 4, 0, 3, 0, 0, 0, 3, 8, 0, 0]);
    let mut seen = [0; 4];
    for (at, mask) in [(0xc2, 0xffff_u32), (0xc4, !0), (0xc8, !0), (0xcc, !0), (0xd0, !0), (0xd4, !0)] {
        config.write(at, &mask.to_le_bytes()[..if at == 0xc2 { 2 } else { 4 }]);
        seen[0] += 1;
    }
    // Enable and the number of messages are writable; an address is aligned to 4; data has 16 bits;
    // there are four mask bits, and pending bits are read-only.
    assert_eq!(bytes::<24>(&config, 0xc0)[2..4], [0xf5, 0x01]);
    assert_eq!(long(&config, 0xc4), 0xffff_fffc);
    assert_eq!(long(&config, 0xc8), 0xffff_ffff);
    assert_eq!(long(&config, 0xcc), 0x0000_ffff);
    assert_eq!(long(&config, 0xd0), 0x0000_000f);
    assert_eq!(long(&config, 0xd4), 0);
    config.set_msi_pending(5);
    assert_eq!(long(&config, 0xd4), 5);
}

#[test]
fn msi_gives_what_was_asked_for_at_most() {
    let mut config = Config::new(&CONVENTIONAL, 0);
    assert_eq!((config.irq_mode(), config.msi_enabled_vectors()), (IrqMode::Intx, 0));
    // Eight messages enabled of four.
    assert!(config.write(0xc2, &[0x31]).interrupts);
    assert_eq!((config.irq_mode(), config.msi_enabled_vectors()), (IrqMode::Msi, 4));
    config.write(0xc2, &[0x11]);
    assert_eq!(config.msi_enabled_vectors(), 2);
    assert!(config.write(0xd0, &[2]).interrupts);
    assert_eq!(config.msi_masked(), 2);
    config.write(0xa3, &[0x80]);
    assert_eq!((config.irq_mode(), config.msix_masked()), (IrqMode::MsiX, false));
    assert!(config.write(0xa3, &[0xc0]).interrupts);
    assert!(config.msix_enabled() && config.msix_masked());
    assert_eq!(word(&config, 0xa2), 0xc004);
}

#[test]
fn the_forms_of_msi() {
    let of = |addr64, maskable| {
        let caps: &'static [(u8, Cap)] = match (addr64, maskable) {
            (false, false) => &[(0x50, Cap::Msi { vectors: 1, addr64: false, maskable: false })],
            (false, true) => &[(0x50, Cap::Msi { vectors: 32, addr64: false, maskable: true })],
            (true, false) => &[(0x50, Cap::Msi { vectors: 1, addr64: true, maskable: false })],
            (true, true) => &[(0x50, Cap::Msi { vectors: 32, addr64: true, maskable: true })],
        };
        let mut config = Config::new(&Layout { caps, ..CONVENTIONAL }, 0);
        config.write(0x54, &[0xff; 28]);
        (word(&config, 0x52), [0x58, 0x5c, 0x60, 0x64].map(|at| long(&config, at)))
    };
    // 6.8.1: data at 8 or 12, mask bits four bytes later, pending bits behind them.
    assert_eq!(of(false, false), (0x0000, [0xffff, 0, 0, 0]));
    assert_eq!(of(true, false), (0x0080, [!0, 0xffff, 0, 0]));
    assert_eq!(of(false, true), (0x010a, [0xffff, !0, 0, 0]));
    assert_eq!(of(true, true), (0x018a, [!0, 0xffff, !0, 0]));
}

#[test]
fn power_states() {
    let mut config = Config::new(&CONVENTIONAL, 0);
    config.write(0x04, &[7, 0]);
    config.write(0x10, &[0, 0, 0xbe, 0xfe]);
    config.write(0xc2, &[1]);
    // D1 is not there: the write is discarded, but for the enable bit beside the state.
    config.write(0xe0, &[1, 1]);
    assert_eq!((config.power_state(), word(&config, 0xe0)), (PowerState::D0, 0x0100));
    let change = config.write(0xe0, &[3, 1]);
    assert_eq!(change, Change { command: true, interrupts: true, reset: false, any: true });
    assert_eq!((config.power_state(), config.irq_mode()), (PowerState::D3, IrqMode::Off));
    assert!(!config.bus_master() && !config.memory_enabled() && !config.io_enabled());
    assert!(config.set_pme_status(), "PME is enabled");
    assert_eq!(word(&config, 0xe0), 0x8103);
    let change = config.write(0xe0, &[0]);
    assert!(change.reset);
    assert_eq!((word(&config, 0x04), long(&config, 0x10), word(&config, 0xc2)), (0, 0, 0x0184));
    assert_eq!(word(&config, 0xe0), 0x8100, "PME outlasts the reset");
    config.write(0xe0, &[0, 0x80]);
    assert_eq!(word(&config, 0xe0), 0, "cleared by writing one");
    assert!(!config.set_pme_status(), "PME is not enabled");
    // From D2 nothing is lost.
    config.write(0x04, &[7, 0]);
    config.write(0xe0, &[2]);
    assert!(!config.bus_master());
    assert!(!config.write(0xe0, &[0]).reset);
    assert!(config.bus_master());
}

#[test]
fn an_express_function() {
    let mut config = Config::new(&EXPRESS, 0);
    assert_eq!(config.len(), 4096);
    assert_eq!(word(&config, 0x06), 0x0010);
    // Version 2 (there is room for it), legacy endpoint; next 84h.
    assert_eq!(bytes::<4>(&config, 0x48), [0x10, 0x84, 0x12, 0]);
    assert_eq!((long(&config, 0x4c), word(&config, 0x50)), (0x8000, 0x2810));
    assert_eq!((long(&config, 0x54), word(&config, 0x5a)), (0x11, 0x11));
    // No PME: neither its enable nor its status can be set.
    config.write(0x44, &[0, 0xff]);
    assert_eq!(word(&config, 0x44), 0);
    assert!(!config.set_pme_status());
    assert_eq!(bytes::<4>(&config, 0x100), [0; 4]);
    assert_eq!(bytes::<4>(&config, 4095), [0; 4]);
    assert_eq!(config.write(0x100, &[1; 8]), Change::default());
    assert_eq!(config.write(usize::MAX, &[1; 8]), Change::default());
    assert_eq!(bytes::<4>(&config, usize::MAX), [0; 4]);
}

#[test]
fn an_express_capability_without_room_is_of_version_1() {
    const CAPS: &[(u8, Cap)] = &[
        (0xe0, Cap::Pcie { integrated: false }),
        (0xd0, Cap::Msi { vectors: 1, addr64: true, maskable: false }),
    ];
    let config = Config::new(&Layout { caps: CAPS, ..CONVENTIONAL }, 0);
    assert_eq!(bytes::<4>(&config, 0xe0), [0x10, 0xd0, 0x11, 0]);
    const INTEGRATED: &[(u8, Cap)] = &[(0xe0, Cap::Pcie { integrated: true })];
    let config = Config::new(&Layout { caps: INTEGRATED, ..CONVENTIONAL }, 0);
    assert_eq!(bytes::<4>(&config, 0xe0), [0x10, 0, 0x91, 0]);
    assert_eq!(long(&config, 0xec), 0, "no link");
}

#[test]
#[should_panic(expected = "has no room for its 24 bytes")]
fn capabilities_do_not_overlap() {
    const CAPS: &[(u8, Cap)] = &[
        (0x50, Cap::Msi { vectors: 1, addr64: true, maskable: true }),
        (0x60, Cap::PowerManagement { d1: false, d2: false, pme: 0 }),
    ];
    // The later one stands in the room of the earlier one.
    const SWAPPED: &[(u8, Cap)] = &[CAPS[1], CAPS[0]];
    Config::new(&Layout { caps: SWAPPED, ..CONVENTIONAL }, 0);
}

#[test]
fn a_space_survives_its_encoding() {
    let mut config = Config::new(&CONVENTIONAL, 2048);
    config.write(0x04, &[7, 4]);
    config.write(0x10, &[0, 0, 0xbe, 0xfe]);
    config.write(0xc2, &[0x21]);
    config.write(0xe0, &[2, 1]);
    config.set_intx_status(true);
    config.set_msi_pending(9);
    config.set_pme_status();
    let bytes = config.encode();
    assert_eq!((bytes.len(), bytes[0]), (257, 1));
    assert_eq!(Config::decode(&CONVENTIONAL, 2048, &bytes), Some(config));
    assert_eq!(Config::decode(&CONVENTIONAL, 2048, &bytes[..256]), None);
    assert_eq!(Config::decode(&CONVENTIONAL, 2048, &[]), None);
    let mut later = bytes.clone();
    later[0] = 2;
    assert_eq!(Config::decode(&CONVENTIONAL, 2048, &later), None);
    // What is read-only does not come from the bytes.
    let other = Config::decode(&CONVENTIONAL, 2048, &[&[1][..], &[0xff; 256]].concat()).unwrap();
    assert_eq!((word(&other, 0), word(&other, 2)), (0x8086, 0x100e));
    assert_eq!(word(&other, 0xc0), 0xa005);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_written_only_writable_bits_change(
        writes in prop::collection::vec((0usize..5000, prop::collection::vec(any::<u8>(), 0..16)), 0..40),
        express in any::<bool>(),
    ) {
        let layout = if express { &EXPRESS } else { &CONVENTIONAL };
        let fresh = Config::new(layout, 0x8000);
        let mut config = fresh.clone();
        for (at, data) in writes {
            let before = config.clone();
            let change = config.write(at, &data);
            prop_assert_eq!(change.any, config != before);
            for at in 0..256 {
                let mask = !config.writable[at];
                prop_assert_eq!(config.bytes[at] & mask, fresh.bytes[at] & mask);
            }
            let again = Config::decode(layout, 0x8000, &config.encode());
            prop_assert_eq!(again.as_ref(), Some(&config));
        }
        config.reset();
        prop_assert_eq!(config, fresh);
    }

    #[test]
    fn whatever_is_decoded_answers(garbage in prop::collection::vec(any::<u8>(), 256)) {
        let bytes = [&[1][..], &garbage].concat();
        let mut config = Config::decode(&CONVENTIONAL, 0, &bytes).unwrap();
        config.write(0, &[0; 256]);
        let _ = (config.irq_mode(), config.msi_enabled_vectors(), config.power_state());
    }
}
