//! Registers as drivers and their self tests find them. Values are typed from the 8254x SDM and the
//! 82574 datasheet.

mod driver;

use driver::*;
use pci::{Bars, IrqMode, Lasting, Signals};
use standpipe_e1000::{Model, register_name};

const PATTERNS: [u32; 4] = [0x5a5a_5a5a, 0xa5a5_a5a5, 0, 0xffff_ffff];

fn pattern(bench: &mut Bench, offset: u64, mask: u32, write: u32) {
    let before = bench.read(offset);
    for pattern in PATTERNS {
        bench.write(offset, pattern & write);
        assert_eq!(bench.read(offset), pattern & write & mask, "{offset:#x} {pattern:#x}");
    }
    bench.write(offset, before);
}

fn set_and_check(bench: &mut Bench, offset: u64, mask: u32, write: u32) {
    let before = bench.read(offset);
    bench.write(offset, write & mask);
    assert_eq!(bench.read(offset) & mask, write & mask, "{offset:#x}");
    bench.write(offset, before);
}

#[test]
fn the_register_test_of_ethtool_passes() {
    for model in Model::ALL {
        let mut bench = Bench::new(model);
        let toggle = if model == Model::I82574l { 0x7fff_f3ff } else { 0xffff_f833 };
        let before = bench.read(0x8) & toggle;
        bench.write(0x8, toggle);
        assert_eq!(bench.read(0x8) & toggle, before);
        for (offset, mask, write) in [
            (0x28, 0xffff_ffff, 0xffff_ffff),
            (0x2c, 0xffff, 0xffff_ffff),
            (0x30, 0xffff, 0xffff_ffff),
            (0x38, 0xffff, 0xffff_ffff),
            (0x2820, 0xffff, 0xffff_ffff),
            (0x2804, 0xffff_ffff, 0xffff_ffff),
            (0x2808, 0xf_ff80, 0xf_ffff),
            (0x2810, 0xffff, 0xffff),
            (0x2818, 0xffff, 0xffff),
            (0x2168, 0xfff8, 0xfff8),
            (0x170, 0xffff, 0xffff_ffff),
            (0x410, 0x3fff_ffff, 0x3fff_ffff),
            (0x3804, 0xffff_ffff, 0xffff_ffff),
            (0x3808, 0xf_ff80, 0xf_ffff),
        ] {
            pattern(&mut bench, offset, mask, write);
        }
        set_and_check(&mut bench, RCTL, 0xffff_ffff, 0);
        set_and_check(&mut bench, RCTL, 0x06df_b3fe, 0x003f_fffb);
        set_and_check(&mut bench, TCTL, 0xffff_ffff, 0);
        set_and_check(&mut bench, RCTL, 0x06df_b3fe, 0xffff_ffff);
        pattern(&mut bench, RDBAL, 0xffff_fff0, 0xffff_ffff);
        pattern(&mut bench, 0x178, 0xc000_ffff, 0xffff);
        pattern(&mut bench, TDBAL, 0xffff_fff0, 0xffff_ffff);
        pattern(&mut bench, 0x3820, 0xffff, 0xffff_ffff);
        for entry in 0..16 {
            pattern(&mut bench, 0x5404 + 8 * entry, 0x8003_ffff, 0xffff_ffff);
        }
        for entry in 0..128 {
            pattern(&mut bench, 0x5200 + 4 * entry, 0xffff_ffff, 0xffff_ffff);
        }
    }
}

#[test]
fn values_after_power_on_are_the_data_sheets() {
    let mut bench = Bench::new(Model::I82540em);
    for (name, offset, value) in [
        ("VET", 0x38, 0x8100),
        ("ICR", 0xc0, 0),
        ("LEDCTL", 0xe00, 0x0706_8302),
        ("PBA", 0x1000, 0x0010_0030),
        ("TIPG", 0x410, 0x0060_200a),
        ("RCTL", 0x100, 0),
        ("TCTL", 0x400, 0),
        ("TSPMT", 0x3830, 0x0100_0400),
        // The address in the EEPROM, valid.
        ("RA", 0x5400, 0x1200_5452),
        ("RA", 0x5404, 0x8000_5634),
    ] {
        assert_eq!(register_name(Model::I82540em, offset), Some(name));
        assert_eq!(bench.read(offset), value, "{name}");
    }
    assert_eq!(register_name(Model::I82540em, 0x5818), None, "MRQC is the 82574's");
    assert_eq!(bench.read(0x5818), 0);
    let mut bench = Bench::new(Model::I82574l);
    assert_eq!(bench.read(0x1000), 0x0014_0014, "20 KiB each way");
    assert_eq!(bench.read(EECD) & 0x200, 0x200, "auto-read done");
    // GIO master: disabled on request.
    assert_eq!(bench.read(STATUS) & 1 << 19, 1 << 19);
    let ctrl = bench.read(CTRL);
    bench.write(CTRL, ctrl | 4);
    assert_eq!(bench.read(STATUS) & 1 << 19, 0);
}

#[test]
fn packet_memory_is_shared_out() {
    let mut bench = Bench::new(Model::I82540em);
    bench.write(0x1000, 0x28);
    assert_eq!(bench.read(0x1000), 0x0018_0028);
    bench.write(0x1000, 0xffff_ffff);
    assert_eq!(bench.read(0x1000), 0x40);
}

#[test]
fn the_places_of_the_82542_are_the_same_registers() {
    let mut bench = Bench::new(Model::I82540em);
    bench.write(0x110, 0x1234_5670);
    assert_eq!(bench.read(0x2800), 0x1234_5670);
    bench.write(0x438, 5);
    assert_eq!(bench.read(0x3818), 5);
    bench.write(0x27c, 7);
    assert_eq!(bench.read(0x527c), 7);
}

/// A word by Microwire, as Linux's e1000 bangs it.
fn microwire(bench: &mut Bench, bits: u32, count: u32) {
    for nth in (0..count).rev() {
        let eecd = bench.read(EECD) & !0x5 | (bits >> nth & 1) << 2;
        bench.write(EECD, eecd);
        bench.write(EECD, eecd | 1);
        bench.write(EECD, eecd);
    }
}

fn microwire_in(bench: &mut Bench) -> u16 {
    let mut value = 0;
    for _ in 0..16 {
        let eecd = bench.read(EECD) & !0x5;
        bench.write(EECD, eecd | 1);
        value = value << 1 | (bench.read(EECD) >> 3 & 1) as u16;
        bench.write(EECD, eecd);
    }
    value
}

fn standby(bench: &mut Bench) {
    let eecd = bench.read(EECD) & !0x7;
    for pins in [0, 1, 2, 2 | 1, 2] {
        bench.write(EECD, eecd | pins);
    }
}

fn read_word(bench: &mut Bench, address: u32) -> u16 {
    microwire(bench, 0b110, 3);
    microwire(bench, address, 6);
    let word = microwire_in(bench);
    standby(bench);
    word
}

#[test]
fn the_eeprom_is_read_and_written_bit_by_bit() {
    let mut bench = Bench::new(Model::I82540em);
    let eecd = bench.read(EECD);
    assert_eq!(eecd & 0x300, 0x100, "present, 64 words");
    bench.write(EECD, eecd | 0x40);
    assert_eq!(bench.read(EECD) & 0x80, 0x80, "granted");
    standby(&mut bench);
    let words: Vec<u16> = (0..64).map(|address| read_word(&mut bench, address)).collect();
    assert_eq!(words[..3], [0x5452, 0x1200, 0x5634]);
    assert_eq!(words[0xd], 0x100e);
    assert_eq!(words.iter().fold(0u16, |sum, word| sum.wrapping_add(*word)), 0xbaba);
    // EWEN, WRITE, the wait for "ready", EWDS.
    microwire(&mut bench, 0b10011, 5);
    microwire(&mut bench, 0, 4);
    standby(&mut bench);
    microwire(&mut bench, 0b101, 3);
    microwire(&mut bench, 0x21, 6);
    microwire(&mut bench, 0xcafe, 16);
    standby(&mut bench);
    assert_eq!(bench.read(EECD) & 8, 8, "ready");
    microwire(&mut bench, 0b10000, 5);
    microwire(&mut bench, 0, 4);
    standby(&mut bench);
    assert_eq!(read_word(&mut bench, 0x21), 0xcafe);
    // Now it is protected again.
    microwire(&mut bench, 0b101, 3);
    microwire(&mut bench, 0x21, 6);
    microwire(&mut bench, 0xdead, 16);
    standby(&mut bench);
    assert_eq!(read_word(&mut bench, 0x21), 0xcafe);
    // By register, and after a successor took over in the middle of a command.
    bench.write(0x14, 0x21 << 8 | 1);
    assert_eq!(bench.read(0x14), 0xcafe_2110);
    microwire(&mut bench, 0b110, 3);
    microwire(&mut bench, 0x2, 3);
    let state = bench.nic.state();
    bench.successor(&state);
    microwire(&mut bench, 0x0, 3);
    assert_eq!(microwire_in(&mut bench), 0xffff, "word 10h of an 82540EM is not used");
    standby(&mut bench);
    assert_eq!(read_word(&mut bench, 0x21), 0xcafe);
}

#[test]
fn the_82574_reads_and_writes_words_by_register() {
    let mut bench = Bench::new(Model::I82574l);
    let mut sum = 0u16;
    for address in 0..64 {
        bench.write(0x14, address << 2 | 1);
        let value = bench.read(0x14);
        assert_eq!(value & 2, 2, "done");
        sum = sum.wrapping_add((value >> 16) as u16);
    }
    assert_eq!(sum, 0xbaba);
    bench.write(0x102c, 0xbeef_0000 | 0x30 << 2 | 1);
    assert_eq!(bench.read(0x102c) & 2, 2);
    bench.write(0x14, 0x30 << 2 | 1);
    assert_eq!(bench.read(0x14) >> 16, 0xbeef);
}

#[test]
fn the_link_comes_by_negotiation_and_goes_with_the_cable() {
    let mut bench = Bench::new(Model::I82540em);
    assert_eq!((bench.phy_read(2), bench.phy_read(3) & 0xfff0), (0x0141, 0x0c20), "M88E1011");
    assert_eq!(bench.read(STATUS) & 2, 0, "no link without SLU");
    let ctrl = bench.read(CTRL);
    bench.write(IMS, 4);
    bench.write(CTRL, ctrl | 1 << 6);
    assert_eq!(bench.read(STATUS) & 0xc3, 0x83, "up, full duplex, 1000 Mb/s");
    assert_eq!(bench.read(ICR), 4, "LSC");
    // Restart of negotiation.
    bench.phy_write(0, 0x1200);
    assert_eq!(bench.read(STATUS) & 2, 0);
    assert_eq!(bench.phy_read(1) & 0x24, 0);
    assert_eq!(bench.read(ICR), 4);
    let state = bench.nic.state();
    bench.successor(&state);
    bench.pass(100_000_000);
    assert_eq!(bench.read(STATUS) & 2, 2);
    assert_eq!(bench.phy_read(1) & 0x24, 0x24);
    assert_eq!(bench.phy_read(17) >> 10, 0b10_1011, "1000 Mb/s, full, resolved, link");
    assert_eq!(bench.read(ICR) & 4, 4);
    // Only 100 Mb/s is advertised.
    bench.phy_write(9, 0);
    bench.phy_write(0, 0x1200);
    bench.pass(100_000_000);
    assert_eq!(bench.read(STATUS) & 0xc3, 0x43);
    let now = bench.now;
    frame::Nic::set_link(&mut bench.nic, now, false, 0);
    assert_eq!(bench.read(STATUS) & 2, 0);
    assert!(bench.nic.interrupts().level);
    frame::Nic::set_link(&mut bench.nic, now, true, 10_000);
    bench.pass(100_000_000);
    assert_eq!(bench.read(STATUS) & 2, 2);
    // No PHY at another address.
    bench.write(MDIC, 2 << 26 | 2 << 21);
    assert_eq!(bench.read(MDIC) >> 30, 1);
}

#[test]
fn the_interrupt_test_of_ethtool_passes() {
    let mut bench = Bench::new(Model::I82540em);
    bench.nic.set_irq_mode(IrqMode::Intx);
    bench.write(IMC, 0xffff_ffff);
    for bit in 0..10 {
        let mask = 1 << bit;
        bench.write(IMC, mask);
        bench.write(ICS, mask);
        assert!(!bench.nic.interrupts().level);
        assert_eq!(bench.read(ICR), mask);
        bench.write(IMS, mask);
        bench.write(ICS, mask);
        assert!(bench.nic.interrupts().level);
        assert_eq!(bench.read(ICR), mask, "and it is cleared by the read");
        assert!(!bench.nic.interrupts().level);
        assert_eq!(bench.read(ICR), 0);
        bench.write(IMC, !mask & 0x7fff);
        bench.write(ICS, !mask & 0x7fff);
        assert!(!bench.nic.interrupts().level);
        bench.read(ICR);
        bench.write(IMC, 0xffff_ffff);
    }
}

#[test]
fn causes_and_masks_survive_without_control_state() {
    let mut bench = Bench::new(Model::I82540em);
    let state = bench.nic.state();
    bench.nic.take_dirty();
    bench.write(IMS, 0x9d);
    bench.write(ICS, 4);
    bench.read(ICR);
    bench.write(ICS, 0x10);
    bench.write(TDT, 3);
    assert!(!bench.nic.take_dirty(), "doorbells and handlers cost no copy");
    bench.successor(&state);
    assert_eq!(bench.read(IMS), 0x9d);
    assert_eq!(bench.read(ICR), 0x91, "kept, and those of a successor");
    assert_eq!(bench.read(TDT), 3);
}

#[test]
fn interrupts_keep_their_distance() {
    let mut bench = Bench::new(Model::I82540em);
    bench.nic.set_irq_mode(IrqMode::Intx);
    bench.write(0xc4, 488);
    bench.write(IMS, 4);
    bench.write(ICS, 4);
    assert!(bench.nic.interrupts().level);
    bench.read(ICR);
    bench.write(ICS, 4);
    assert!(!bench.nic.interrupts().level, "too early");
    // 488 times 256 ns.
    assert_eq!(bench.nic.deadline().unwrap().nanos() - bench.now.nanos(), 124_928);
    bench.pass(124_928);
    assert!(bench.nic.interrupts().level);
}

#[test]
fn msi_tells_each_cause_once() {
    let mut bench = Bench::new(Model::I82574l);
    bench.nic.set_irq_mode(IrqMode::Msi);
    bench.write(IMS, 0x85);
    bench.write(ICS, 1);
    assert_eq!(bench.nic.interrupts().vectors, 1);
    assert_eq!(bench.nic.interrupts().vectors, 0);
    bench.write(ICS, 4);
    assert_eq!(bench.nic.interrupts().vectors, 1);
    assert_eq!(bench.read(ICR), 0x8100_0005, "asserted, other, and the two");
}

#[test]
fn an_io_window_reaches_all_registers() {
    let mut bench = Bench::new(Model::I82540em);
    bench.write(0x5200, 7);
    let now = bench.now;
    let memory = bench.memory.clone();
    bench.nic.write(now, &memory, 2, 0, &0x5200u32.to_le_bytes());
    let mut word = [0; 4];
    bench.nic.read(now, 2, 4, &mut word);
    assert_eq!(u32::from_le_bytes(word), 7);
    // The reset that Linux's driver gives through it.
    bench.nic.write(now, &memory, 2, 0, &0u32.to_le_bytes());
    bench.nic.write(now, &memory, 2, 4, &(1u32 << 26).to_le_bytes());
    assert_eq!(bench.read(0x5200), 0);
    assert_eq!(bench.read(CTRL) & 1 << 26, 0);
}

#[test]
fn state_is_taken_up_and_nonsense_is_not() {
    for model in Model::ALL {
        let mut bench = Bench::new(model);
        bench.open();
        for offset in (0..0x1_0000).step_by(4) {
            // All that is kept as written.
            if !matches!(offset, CTRL | TCTL | RCTL) {
                bench.write(offset, 0x1357_9bdf ^ offset as u32);
            }
        }
        let state = bench.nic.state();
        assert!(state.len() <= pci::STATE_MAX, "{}", state.len());
        let values = |bench: &mut Bench| -> Vec<u32> {
            (0x5000..0x6000).step_by(4).map(|offset| bench.read(offset)).collect()
        };
        bench.successor(&state);
        assert_eq!(bench.nic.state(), state);
        let seen = values(&mut bench);
        assert!(seen.iter().filter(|value| **value != 0).count() > 250);
        bench.successor(&state);
        assert_eq!(values(&mut bench), seen);
        for cut in [0, 3, 4, 40, state.len() / 2] {
            bench.successor(&state[..cut]);
        }
        bench.successor(&[0xff; 64]);
        assert_eq!(bench.read(RCTL), 0, "as after power on");
    }
}
