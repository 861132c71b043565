//! Registers against values typed from the data sheets, and the order in which drivers touch them.

mod driver;

use driver::*;
use frame::Nic;
use guest_memory::Memory;
use pci::{Bar, Bars, Lasting, Signals};
use standpipe_pcnet::{Chip, Pcnet};

fn new(chip: Chip) -> Pcnet {
    Pcnet::new(config(chip), hot())
}

#[test]
fn configuration_space() {
    let nic = new(Chip::Am79C970A);
    let layout = nic.layout();
    assert_eq!((layout.vendor, layout.device, layout.revision), (0x1022, 0x2000, 0x10));
    assert_eq!((layout.class, layout.interrupt_pin), ([2, 0, 0], 1));
    assert!(matches!(layout.bars[0], Bar::Io { bytes: 32 }));
    assert_eq!(layout.bars[1], Bar::Memory32 { bytes: 32, prefetchable: false });
    assert!(layout.caps.is_empty());
    assert_eq!(new(Chip::Am79C973).layout().caps.len(), 1);
}

#[test]
fn address_prom_and_its_checksum() {
    let mut nic = new(Chip::Am79C970A);
    // 52+54+00+12+34+56 = 142h; 11h; 57h twice: 201h.
    let wanted = [0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0x11, 0, 0, 0x01, 0x02, b'W', b'W'];
    for (at, byte) in wanted.iter().enumerate() {
        let mut one = [0];
        nic.read(NOW, 0, at as u64, &mut one);
        assert_eq!(one, [*byte]);
    }
    assert_eq!(inw(&mut nic, 0), 0x5452);
    assert_eq!(inl(&mut nic, 12), 0x5757_0201);
    let mut whole = [0; 16];
    nic.read(NOW, 1, 0, &mut whole);
    assert_eq!(whole, wanted);

    // Written only with APROMWE.
    let memory = Memory::empty();
    nic.write(NOW, &memory, 0, 0, &[1]);
    assert_eq!(inw(&mut nic, 0), 0x5452);
    write_bcr(&mut nic, &memory, 2, 0x0102);
    nic.write(NOW, &memory, 0, 0, &[2]);
    assert_eq!(inw(&mut nic, 0), 0x5402);
    // A reset of the chip takes the address from there.
    inw(&mut nic, 0x14);
    assert_eq!(read_csr(&mut nic, &memory, 12), 0x5402);
}

/// The data sheets' values, which QEMU's `pcnet_h_reset` and `pcnet_s_reset` hold as well but for
/// CSR72 to CSR78 (1 there; the data sheet: unaffected) and BCR19 (no PVALID).
#[test]
fn values_after_reset() {
    let mut nic = new(Chip::Am79C970A);
    let memory = Memory::empty();
    for (number, value) in [
        (0, 0x0004),
        (3, 0x0000),
        (4, 0x0115),
        (5, 0x0000),
        (6, 0x0000),
        (8, 0x0000),
        (11, 0x0000),
        (12, 0x5452),
        (13, 0x1200),
        (14, 0x5634),
        (15, 0x0000),
        (72, 0x0000),
        (76, 0x0000),
        (80, 0x1410),
        (88, 0x1003),
        (89, 0x0262),
        (94, 0x0000),
        (100, 0x0200),
        (112, 0x0000),
        (114, 0x0000),
        (122, 0x0000),
        (124, 0x0000),
    ] {
        assert_eq!(read_csr(&mut nic, &memory, number), value, "CSR{number}");
    }
    for (number, value) in [
        (0, 0x0005),
        (1, 0x0005),
        (2, 0x0002),
        (4, 0x80c0),
        (5, 0x0084),
        (6, 0x0088),
        (7, 0x0090),
        (9, 0x0000),
        (18, 0x9001),
        (19, 0xa002),
        (20, 0x0200),
        (22, 0xff06),
    ] {
        assert_eq!(read_bcr(&mut nic, &memory, number), value, "BCR{number}");
    }
    assert_eq!(inw(&mut new(Chip::Am79C973), 0x12), 0);
    let mut fast = new(Chip::Am79C973);
    assert_eq!(read_csr(&mut fast, &memory, 88), 0x5003);
}

/// Linux's pcnet32: word I/O first, then double words; its test of the chip's version.
#[test]
fn linux_finds_the_chip_both_ways() {
    let mut nic = new(Chip::Am79C970A);
    let memory = Memory::empty();
    inw(&mut nic, 0x14);
    assert_eq!(read_csr(&mut nic, &memory, 0), 4);
    outw(&mut nic, &memory, 0x12, 88);
    assert_eq!(inw(&mut nic, 0x12), 88);
    let version = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
    let seen = version(read_csr(&mut nic, &memory, 88), read_csr(&mut nic, &memory, 89));
    assert_eq!((seen & 0xfff, seen >> 12 & 0xffff), (0x003, 0x2621));

    // A double word written to RDP switches; word I/O then finds nothing.
    outl(&mut nic, &memory, 0x10, 0);
    assert_eq!(read_csr(&mut nic, &memory, 0), 0xffff);
    assert_eq!(inl(&mut nic, 0x18), 0);
    outl(&mut nic, &memory, 0x14, 0);
    assert_eq!(inl(&mut nic, 0x10), 4);
    outl(&mut nic, &memory, 0x14, 88);
    assert_eq!(inl(&mut nic, 0x14), 88);
    assert_eq!(inl(&mut nic, 0x10), 0x0262_1003);
    outl(&mut nic, &memory, 0x14, 18);
    assert_eq!(inl(&mut nic, 0x1c), 0x9081);
    // S_RESET leaves the mode of access alone, power on does not.
    inl(&mut nic, 0x18);
    assert_eq!(inl(&mut nic, 0x1c), 0x0005);
    nic.reset();
    assert_eq!(read_csr(&mut nic, &memory, 0), 4);
}

#[test]
fn software_styles() {
    let mut nic = new(Chip::Am79C970A);
    let memory = Memory::empty();
    for (written, read) in
        [(0, 0x0200), (1, 0x0101), (2, 0x0302), (3, 0x0303), (4, 0x0200), (0x0402, 0x0702), (0xff, 0x0200)]
    {
        write_bcr(&mut nic, &memory, 20, written);
        assert_eq!(read_bcr(&mut nic, &memory, 20), read, "{written:x}");
        assert_eq!(read_csr(&mut nic, &memory, 58), read);
    }
    write_csr(&mut nic, &memory, 58, 3);
    assert_eq!(read_bcr(&mut nic, &memory, 20), 0x0303);
    // Not while it runs.
    write_csr(&mut nic, &memory, 0, 2);
    write_bcr(&mut nic, &memory, 20, 0);
    assert_eq!(read_bcr(&mut nic, &memory, 20), 0x0303);
}

#[test]
fn initialization_blocks_of_both_sizes() {
    for (style, lengths) in [(0, 0x5500), (2, 0x5500), (3, 0x5500)] {
        let driver = Driver::new(style, 5);
        let memory = &*driver.memory;
        let mut nic = new(Chip::Am79C970A);
        write_bcr(&mut nic, memory, 20, style);
        driver.write_init_block(0x8083);
        // The filter: eight bytes behind the address, with two reserved between in 32 bits.
        let filter = if style == 0 { 8 } else { 12 };
        driver.write(INIT_AT + filter, &[1, 2, 3, 4, 5, 6, 7, 8]);
        write_csr(&mut nic, memory, 16, INIT_AT as u16);
        write_csr(&mut nic, memory, 17, 0);
        write_csr(&mut nic, memory, 0, 0x0041);
        assert!(nic.interrupts().level);
        assert_eq!(read_csr(&mut nic, memory, 0), 0x01c1, "IDON INTR IENA INIT");
        for (number, value) in [
            (6, lengths),
            (8, 0x0201),
            (9, 0x0403),
            (10, 0x0605),
            (11, 0x0807),
            (12, 0x5452),
            (13, 0x1200),
            (14, 0x5634),
            (15, 0x8083),
            (24, RX_AT as u16),
            (25, 0),
            (30, TX_AT as u16),
            // Two's complement of 32.
            (72, 0xffe0),
            (74, 0xffe0),
            (76, 0xffe0),
            (78, 0xffe0),
            (28, RX_AT as u16),
            (34, TX_AT as u16),
            (18, RX_BUFFERS as u16),
            (19, (RX_BUFFERS >> 16) as u16),
            (40, 0x0800),
        ] {
            assert_eq!(read_csr(&mut nic, memory, number), value, "CSR{number} of style {style}");
        }
        // DRX and DTX: neither is on.
        write_csr(&mut nic, memory, 0, 0x0102);
        assert_eq!(read_csr(&mut nic, memory, 0), 0x0003);
        write_csr(&mut nic, memory, 0, 0x0004);
        assert_eq!(read_csr(&mut nic, memory, 0), 0x0004);
    }
}

#[test]
fn sixteen_bit_structures_borrow_the_upper_byte() {
    // IADR[31:24] with SSIZE32 = 0 (CSR2).
    let mut nic = new(Chip::Am79C970A);
    let driver = Driver::new(0, 2);
    let memory = &*driver.memory;
    driver.write_init_block(0);
    write_csr(&mut nic, memory, 1, INIT_AT as u16);
    write_csr(&mut nic, memory, 2, 0x0000);
    write_csr(&mut nic, memory, 0, 1);
    write_csr(&mut nic, memory, 0, 4);
    write_csr(&mut nic, memory, 2, 0x1200);
    write_csr(&mut nic, memory, 0, 1);
    // There is no memory: MERR, and no IDON.
    assert_eq!(read_csr(&mut nic, memory, 0), 0x8881);
}

#[test]
fn a_driver_may_do_without_the_block() {
    let mut driver = Driver::new(3, 2);
    let mut nic = new(Chip::Am79C970A);
    let memory = std::sync::Arc::clone(&driver.memory);
    write_bcr(&mut nic, &memory, 20, 3);
    for (number, value) in [(15, 0), (24, RX_AT as u16), (25, 0), (30, TX_AT as u16), (31, 0)] {
        write_csr(&mut nic, &memory, number, value);
    }
    write_csr(&mut nic, &memory, 76, 0xfffc);
    write_csr(&mut nic, &memory, 78, 0xfffc);
    write_csr(&mut nic, &memory, 0, 2);
    assert_eq!(read_csr(&mut nic, &memory, 0), 0x0032);
    driver.send(MAC, 100);
    assert_eq!(drain(&mut nic, &memory).len(), 1);
    deliver(&mut nic, &memory, &frame_of(MAC, 1, 64)).unwrap();
    nic.publish(NOW, &memory);
    assert_eq!((driver.consume(), driver.reap().len()), (1, 1));
    // The counters tell how far the rings are; they may be set while it is suspended.
    assert_eq!(read_csr(&mut nic, &memory, 72), 0xfffd);
    write_csr(&mut nic, &memory, 72, 0xfffe);
    assert_eq!(read_csr(&mut nic, &memory, 72), 0xfffd);
    write_csr(&mut nic, &memory, 5, 1);
    assert_eq!(read_csr(&mut nic, &memory, 5), 1);
    write_csr(&mut nic, &memory, 72, 0xfffe);
    assert_eq!(read_csr(&mut nic, &memory, 72), 0xfffe);
}

#[test]
fn masks_and_enables() {
    let mut nic = new(Chip::Am79C970A);
    let memory = Memory::empty();
    // User interrupt: CSR4, UINTCMD sets UINT, which a one clears.
    write_csr(&mut nic, &memory, 0, 0x0042);
    write_csr(&mut nic, &memory, 0, 0x4840);
    assert!(!nic.interrupts().level);
    write_csr(&mut nic, &memory, 4, 0x0195);
    assert_eq!(read_csr(&mut nic, &memory, 4), 0x0155);
    assert!(nic.interrupts().level);
    write_csr(&mut nic, &memory, 0, 0x0000);
    assert!(!nic.interrupts().level, "IENA");
    write_csr(&mut nic, &memory, 0, 0x0040);
    assert!(nic.interrupts().level);
    write_csr(&mut nic, &memory, 4, 0x0155);
    assert!(!nic.interrupts().level);
    // STOP takes IENA along.
    write_csr(&mut nic, &memory, 0, 0x0044);
    assert_eq!(read_csr(&mut nic, &memory, 0), 0x0004);
    write_csr(&mut nic, &memory, 3, 0xffff);
    assert_eq!(read_csr(&mut nic, &memory, 3), 0x5f7c);
}

#[test]
fn the_link_shows_in_its_led_and_in_the_phy() {
    let mut nic = new(Chip::Am79C973);
    let memory = Memory::empty();
    let mii = |nic: &mut Pcnet, register: u16| {
        write_bcr(nic, &memory, 33, 0x1e << 5 | register);
        read_bcr(nic, &memory, 34)
    };
    // Linux looks at BCR4 of a 970A: C0h is "no link".
    assert_eq!(read_bcr(&mut nic, &memory, 4), 0x80c0);
    assert_eq!(mii(&mut nic, 1), 0x786d);
    assert_eq!((mii(&mut nic, 2), mii(&mut nic, 3)), (0x0022, 0x561b));
    assert_eq!(mii(&mut nic, 5), 0x41e1);
    nic.take_dirty();
    nic.set_link(NOW, false, 0);
    assert!(nic.take_dirty());
    assert_eq!(read_bcr(&mut nic, &memory, 4), 0x00c0);
    assert_eq!(mii(&mut nic, 1), 0x7849);
    assert_eq!(mii(&mut nic, 5), 0);
    nic.set_link(NOW, true, 10_000);
    // Link status latches low until it is read (802.3, 22.2.4.2.13).
    assert_eq!(mii(&mut nic, 1) & 4, 0);
    assert_eq!(mii(&mut nic, 1) & 4, 4);
    // Nobody lives at other addresses.
    write_bcr(&mut nic, &memory, 33, 3 << 5 | 1);
    assert_eq!(read_bcr(&mut nic, &memory, 34), 0xffff);
    // By hand: DANAS, then 100 Mb/s half duplex.
    write_bcr(&mut nic, &memory, 32, 0x0080);
    write_bcr(&mut nic, &memory, 32, 0x0008);
    assert_eq!(mii(&mut nic, 0), 0x2000);
    write_bcr(&mut nic, &memory, 33, 0x1e << 5);
    write_bcr(&mut nic, &memory, 34, 0x8000);
    assert_eq!(mii(&mut nic, 0), 0x3100);
}

/// BCR19: EEN 10h, ECS 4, ESK 2, EDI 1: READ (110b) of word 0.
#[test]
fn the_eeprom_is_read_bit_by_bit() {
    let mut nic = new(Chip::Am79C970A);
    let memory = Memory::empty();
    let clock = |nic: &mut Pcnet, bit: u16| {
        write_bcr(nic, &memory, 19, 0x14 | bit);
        write_bcr(nic, &memory, 19, 0x16 | bit);
        read_bcr(nic, &memory, 19) & 1
    };
    for (word, wanted) in [(0u16, 0x5452), (7, 0x5757)] {
        for bit in [1, 1, 0] {
            clock(&mut nic, bit);
        }
        let mut out = 1;
        for bit in (0..6).rev() {
            out = clock(&mut nic, word >> bit & 1);
        }
        assert_eq!(out, 0, "the dummy bit");
        let value = (0..16).fold(0, |value, _| value << 1 | clock(&mut nic, 0));
        assert_eq!(value, wanted);
        write_bcr(&mut nic, &memory, 19, 0x10);
    }
    // PREAD loads the address PROM again.
    write_bcr(&mut nic, &memory, 2, 0x0102);
    outw(&mut nic, &memory, 0, 0);
    write_bcr(&mut nic, &memory, 19, 0x4002);
    assert_eq!(inw(&mut nic, 0), 0x5452);
    assert_eq!(read_bcr(&mut nic, &memory, 19), 0xa002);
}

#[test]
fn control_state_is_taken_up() {
    let driver = Driver::new(2, 3);
    let mut nic = new(Chip::Am79C973);
    driver.open(&mut nic, 0x8000);
    let memory = &*driver.memory;
    write_csr(&mut nic, memory, 3, 0x0500);
    write_bcr(&mut nic, memory, 9, 1);
    write_bcr(&mut nic, memory, 33, 0x1e << 5 | 4);
    write_bcr(&mut nic, memory, 34, 0x0021);
    nic.set_link(NOW, false, 0);
    outw(&mut nic, memory, 0x12, 15);
    let state = nic.state();
    assert!(state.len() <= pci::STATE_MAX);
    let mut next = new(Chip::Am79C973);
    next.restore(&state);
    assert_eq!(next.state(), state);
    assert_eq!(inw(&mut next, 0x10), 0x8000);
    assert!(!next.take_dirty());
    // Another address, configured while no worker was there, is shown after the next power on.
    let other = standpipe_pcnet::Config { mac: request::Mac([2; 6]), chip: Chip::Am79C973 };
    let mut next = Pcnet::new(other, hot());
    next.restore(&state);
    assert_eq!(inw(&mut next, 0), 0x5452);
    next.reset();
    assert_eq!(inw(&mut next, 0), 0x0202);
    // What is not of this version leaves it as after power on.
    for bytes in [&state[1..], &state[..state.len() - 1], &[][..]] {
        let mut next = new(Chip::Am79C973);
        driver.open(&mut next, 0);
        next.restore(bytes);
        assert_eq!(next.state(), new(Chip::Am79C973).state());
    }
}

/// A PHY that was reset forgot that the link was lost; it is told of a link that is down again.
#[test]
fn a_lost_link_is_kept() {
    let mut nic = new(Chip::Am79C973);
    nic.set_link(NOW, false, 0);
    nic.reset();
    nic.take_dirty();
    let before = nic.state();
    nic.set_link(NOW, false, 0);
    assert_ne!(nic.state(), before);
    assert!(nic.take_dirty(), "a change that nobody would save");
}

/// What a busy driver does at each frame and each interrupt leaves nothing to be kept.
#[test]
fn the_hot_path_keeps_no_state() {
    let mut driver = Driver::new(2, 3);
    let mut nic = new(Chip::Am79C970A);
    driver.open(&mut nic, 0);
    let memory = std::sync::Arc::clone(&driver.memory);
    write_csr(&mut nic, &memory, 0, 0x0140);
    nic.take_dirty();
    driver.send(MAC, 100);
    outw(&mut nic, &memory, 0x10, 0x0048);
    assert_eq!(drain(&mut nic, &memory).len(), 1);
    deliver(&mut nic, &memory, &frame_of(MAC, 1, 64)).unwrap();
    nic.publish(NOW, &memory);
    let csr0 = inw(&mut nic, 0x10);
    assert_eq!(csr0, 0x06f3);
    outw(&mut nic, &memory, 0x10, csr0 & !0x004f | 0x0040);
    assert_eq!(inw(&mut nic, 0x10), 0x0073);
    assert!(!nic.take_dirty());
    write_csr(&mut nic, &memory, 3, 0x5f00);
    assert!(nic.take_dirty());
}
