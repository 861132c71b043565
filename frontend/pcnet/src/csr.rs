//! Control and status registers: reset, initialization, start, stop, causes of interrupts.

use guest_memory::Memory;
use request::{Address, Instant};

use crate::Pcnet;
use crate::registers::{CSR_RESET, Write, bcr, csr, csr_write, csr0, csr3, csr4, csr5, mode};
use crate::ring::{Ring, Style};
use crate::vmxnet::Vmxnet;

/// A double word in two registers, low half first.
fn pair(registers: &[u16; csr::COUNT], number: usize) -> u32 {
    u32::from(registers[number + 1]) << 16 | u32::from(registers[number])
}

/// The length of a ring, as CSR76 and CSR78 have it.
fn ring_length(value: u16) -> u32 {
    u32::from(value.wrapping_neg())
}

impl Pcnet {
    pub(crate) fn stopped(&self) -> bool {
        self.csr[csr::STATUS] & csr0::STOP != 0
    }

    pub(crate) fn suspended(&self) -> bool {
        self.csr[csr::EXTENDED] & csr5::SPND != 0
    }

    pub(crate) fn mode(&self, bit: u16) -> bool {
        self.csr[csr::MODE] & bit != 0
    }

    pub(crate) fn style(&self) -> Style {
        if self.vmxnet.morphed { Style::Vmxnet } else { Style::of(self.bcr[bcr::SWS]) }
    }

    /// A 24-bit address of 16-bit structures, with the upper byte that CSR2 lends it.
    pub(crate) fn physical(&self, address: u32) -> u32 {
        if self.style() == Style::Lance {
            address & 0x00ff_ffff | u32::from(self.csr[csr::IADR_HIGH] & 0xff00) << 16
        } else {
            address
        }
    }

    /// H_RESET.
    pub(crate) fn hardware_reset(&mut self) {
        self.csr.fill(0);
        self.vmxnet = Vmxnet::default();
        self.reset_bcrs();
        self.phy.reset();
        self.aprom = crate::eeprom::aprom(self.config.mac);
        self.eeprom.drive(false, false, false);
        self.software_reset();
    }

    /// S_RESET: what a read of the reset port does.
    pub(crate) fn software_reset(&mut self) {
        for (number, value) in CSR_RESET {
            self.csr[*number] = *value;
        }
        self.csr[csr::CHIP_LOW] = self.config.csr88();
        self.csr[csr::CHIP_HIGH] = 0x0262;
        for (word, pair) in self.csr[csr::PADR..].iter_mut().zip(self.aprom[..6].chunks_exact(2)) {
            *word = u16::from_le_bytes([pair[0], pair[1]]);
        }
        self.csr[csr::MODE] = 0;
        self.rap = 0;
        self.rx.forget();
        self.tx.forget();
        self.rest();
        self.dirty = true;
    }

    /// STOP.
    fn stop(&mut self) {
        self.csr[csr::STATUS] = csr0::STOP;
        self.csr[csr::FEATURES] &= !(csr4::CAUSES | csr4::UINTCMD);
        self.csr[csr::EXTENDED] &= !(csr5::SPND | csr5::CAUSES);
        self.csr[csr::MFC] = 0;
        self.rx.abandon();
        self.tx.abandon();
        self.rest();
        self.dirty = true;
    }

    /// Nothing is under way.
    pub(crate) fn rest(&mut self) {
        self.recheck = None;
        self.demand = false;
        self.poll = None;
        self.stalled = None;
        self.sent = false;
        self.received = false;
        self.settle = false;
    }

    /// INIT: reads the initialization block.
    fn initialize(&mut self, memory: &Memory) {
        self.csr[csr::STATUS] &= !csr0::STOP;
        self.csr[csr::STATUS] |= csr0::INIT;
        self.dirty = true;
        let long = self.style() != Style::Lance;
        let len = if long { 28 } else { 24 };
        let from = Address(u64::from(pair(&self.csr, csr::IADR_LOW)));
        let mut block = [0; 28];
        let read = memory
            .locate(from, len as u32, &mut self.hint)
            .and_then(|span| memory.read(span, &mut block[..len]));
        if read.is_none() {
            self.memory_error();
            return;
        }
        let word = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let double = |at: usize| u32::from(word(at + 2)) << 16 | u32::from(word(at));
        self.csr[csr::MODE] = word(0);
        // RLEN and TLEN are exponents; the filter and the rings lie two words further on where there
        // is a reserved word behind the address.
        let (address, filter, receive, transmit, rlen, tlen);
        if long {
            (address, filter) = (4, 12);
            (receive, transmit) = (double(20), double(24));
            (rlen, tlen) = (block[2] >> 4, block[3] >> 4);
        } else {
            (address, filter) = (2, 8);
            (receive, transmit) = (double(16) & 0x00ff_ffff, double(20) & 0x00ff_ffff);
            (rlen, tlen) = (block[19] >> 5, block[23] >> 5);
        }
        for at in 0..3 {
            self.csr[csr::PADR + at] = word(address + 2 * at);
        }
        for at in 0..4 {
            self.csr[csr::LADRF + at] = word(filter + 2 * at);
        }
        let length = |exponent: u8| (1u16 << exponent.min(9)).wrapping_neg();
        self.csr[csr::RCVRL] = length(rlen);
        self.csr[csr::XMTRL] = length(tlen);
        self.csr[csr::TABLE_LENGTHS] = u16::from(tlen) << 12 | u16::from(rlen) << 8;
        for (number, base) in [(csr::BADR, receive), (csr::BADX, transmit)] {
            let base = self.physical(base);
            self.csr[number] = base as u16;
            self.csr[number + 1] = (base >> 16) as u16;
        }
        self.rx.seek(0);
        self.tx.seek(0);
        self.locate_rings(memory);
        self.csr[csr::STATUS] |= csr0::IDON;
    }

    pub(crate) fn locate_rings(&mut self, memory: &Memory) {
        let style = self.style();
        let base = pair(&self.csr, csr::BADR);
        self.rx.locate(memory, style, base, ring_length(self.csr[csr::RCVRL]));
        let base = pair(&self.csr, csr::BADX);
        self.tx.locate(memory, style, base, ring_length(self.csr[csr::XMTRL]));
    }

    /// STRT.
    fn start(&mut self, now: Instant, memory: &Memory) {
        let mut status = self.csr[csr::STATUS] & !csr0::STOP | csr0::STRT;
        if !self.mode(mode::DTX) {
            status |= csr0::TXON;
        }
        if !self.mode(mode::DRX) {
            status |= csr0::RXON;
        }
        self.csr[csr::STATUS] = status;
        self.dirty = true;
        self.locate_rings(memory);
        if status & csr0::TXON != 0 && !self.tx.is_there() || status & csr0::RXON != 0 && !self.rx.is_there()
        {
            self.memory_error();
        }
        self.begin_polling(now);
    }

    /// MERR: what the driver told us to read or write is not memory.
    pub(crate) fn memory_error(&mut self) {
        self.csr[csr::STATUS] |= csr0::MERR;
        self.counters.memory_errors = self.counters.memory_errors.wrapping_add(1);
    }

    /// INTR: some cause is there and not masked.
    fn interrupting(&self) -> bool {
        let [status, masks] = [self.csr[csr::STATUS], self.csr[csr::MASKS]];
        let features = self.csr[csr::FEATURES];
        let extended = self.csr[csr::EXTENDED];
        status & csr0::MASKABLE & !masks != 0
            || features >> 1 & !features & csr4::MASKS != 0
            || features & csr4::UINT != 0
            || extended >> 1 & extended & csr5::ENABLES != 0
    }

    /// INTA is pulled.
    pub(crate) fn asserted(&self) -> bool {
        self.csr[csr::STATUS] & csr0::IENA != 0 && self.interrupting()
    }

    pub(crate) fn read_csr(&mut self, number: usize) -> u16 {
        let [rx, tx] = [&self.rx, &self.tx];
        let half = |value: u32, upper: bool| if upper { (value >> 16) as u16 } else { value as u16 };
        let descriptor = |ring: &Ring, ahead| {
            if ring.is_there() { ring.address_of(ring.index(ahead)) } else { 0 }
        };
        let buffer = |ring: &Ring, ahead| self.physical(ring.buffer(ring.index(ahead)).0);
        let upper = number & 1 == 1;
        match number {
            csr::STATUS => {
                let mut value = self.csr[csr::STATUS] & !(csr0::TDMD | csr0::INTR | csr0::ERR);
                if self.demand {
                    value |= csr0::TDMD;
                }
                if self.interrupting() {
                    value |= csr0::INTR;
                }
                if value & csr0::ERRORS != 0 {
                    value |= csr0::ERR;
                }
                value
            }
            16 => self.csr[csr::IADR_LOW],
            17 => self.csr[csr::IADR_HIGH],
            csr::SWS => self.bcr[bcr::SWS],
            // What the descriptors say that come next: buffer, descriptor, count, status.
            18 | 19 => half(buffer(rx, 0), upper),
            20 | 21 => half(buffer(tx, 0), upper),
            22 | 23 => half(buffer(rx, 1), upper),
            26 | 27 => half(descriptor(rx, 1), upper),
            28 | 29 => half(descriptor(rx, 0), upper),
            32 | 33 => half(descriptor(tx, 1), upper),
            34 | 35 => half(descriptor(tx, 0), upper),
            36 | 37 => half(descriptor(rx, 2), upper),
            38 | 39 => half(descriptor(tx, 2), upper),
            40 => rx.byte_count(rx.index(0)) & 0x0fff,
            41 => rx.status(rx.index(0)),
            42 => tx.byte_count(tx.index(0)) & 0x0fff,
            43 => tx.status(tx.index(0)),
            44 => rx.byte_count(rx.index(1)) & 0x0fff,
            45 => rx.status(rx.index(1)),
            64 | 65 => half(buffer(tx, 1), !upper),
            66 => tx.byte_count(tx.index(1)) & 0x0fff,
            67 => tx.status(tx.index(1)),
            csr::RCVRC => rx.index(0).wrapping_sub(rx.count()) as u16,
            csr::XMTRC => tx.index(0).wrapping_sub(tx.count()) as u16,
            _ => self.csr.get(number).copied().unwrap_or(0),
        }
    }

    pub(crate) fn write_csr(&mut self, now: Instant, memory: &Memory, number: usize, value: u16) {
        match number {
            csr::STATUS => self.write_status(now, memory, value),
            csr::MASKS => self.store_csr(number, value & csr3::WRITABLE),
            csr::FEATURES => {
                let kept = self.csr[number] & csr4::CAUSES & !value;
                let mut new = kept | value & !(csr4::CAUSES | csr4::UINTCMD);
                if value & csr4::UINTCMD != 0 {
                    new |= csr4::UINT;
                }
                self.store_csr(number, new);
            }
            csr::EXTENDED => {
                let kept = self.csr[number] & csr5::CAUSES & !value;
                self.store_csr(number, kept | value & csr5::WRITABLE);
            }
            csr::MODE => {
                if self.stopped() || self.suspended() {
                    self.store_csr(number, value);
                }
            }
            16 => self.write_csr(now, memory, csr::IADR_LOW, value),
            17 => self.write_csr(now, memory, csr::IADR_HIGH, value),
            csr::SWS => self.write_bcr(bcr::SWS, value),
            _ => match csr_write(number) {
                Write::Ignored => {}
                Write::Always(bits) => self.store_csr(number, value & bits),
                Write::Halted if self.stopped() || self.suspended() => {
                    self.store_csr(number, value);
                    self.place_ring(memory, number, value);
                }
                Write::Halted => {}
            },
        }
    }

    fn store_csr(&mut self, number: usize, value: u16) {
        self.dirty |= self.csr[number] != value;
        self.csr[number] = value;
    }

    /// A driver that initializes without a block tells where the rings are, which then begin at
    /// their first descriptor; or it says where one stands.
    fn place_ring(&mut self, memory: &Memory, number: usize, value: u16) {
        let stand = |length: u16| {
            let length = ring_length(length);
            let rest = ring_length(value);
            if rest == 0 || rest > length { 0 } else { length - rest }
        };
        match number {
            24 | 25 | csr::RCVRL => self.rx.seek(0),
            30 | 31 | csr::XMTRL => self.tx.seek(0),
            csr::RCVRC => self.rx.seek(stand(self.csr[csr::RCVRL])),
            csr::XMTRC => self.tx.seek(stand(self.csr[csr::XMTRL])),
            _ => return,
        }
        self.locate_rings(memory);
    }

    fn write_status(&mut self, now: Instant, memory: &Memory, value: u16) {
        let old = self.csr[csr::STATUS];
        let cleared = old & value & csr0::CAUSES;
        // A successor sets RINT and TINT anyway: for these alone nothing has to be kept.
        self.dirty |= cleared & !(csr0::RINT | csr0::TINT) != 0;
        self.csr[csr::STATUS] &= !cleared;
        if value & csr0::STOP != 0 {
            if !self.stopped() {
                self.stop();
            }
            return;
        }
        if value & csr0::INIT != 0 && old & csr0::INIT == 0 {
            self.initialize(memory);
        }
        if value & csr0::STRT != 0 && old & csr0::STRT == 0 {
            self.start(now, memory);
        }
        let status = self.csr[csr::STATUS];
        let enabled = if self.stopped() { 0 } else { value & csr0::IENA };
        self.dirty |= status & csr0::IENA != enabled;
        self.csr[csr::STATUS] = status & !csr0::IENA | enabled;
        if value & csr0::TDMD != 0 && status & csr0::TXON != 0 {
            self.demanded();
        }
    }
}
