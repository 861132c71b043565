//! VMXNET behind a vlance: what VMware's flexible adapter becomes when its driver asks.
//!
//! No specification is public; the names and places are those of OpenBSD's and FreeBSD's vic(4) and
//! of the vmxnet driver that open-vm-tools had (`QUIRKS.md`). Most of it is the same machine with
//! other registers and rings: the PCnet's own registers hold its state, so that filters, causes of
//! interrupts and the way through a restart are shared.

use core::time::Duration;

use frame::{Drop, FRAME_MAX, Posted};
use guest_memory::Memory;
use request::{Address, Instant};

use crate::Pcnet;
use crate::receive::locate;
use crate::registers::{csr, csr0, mode};
use crate::ring::Style;
use crate::transmit::{ETHERNET_HEADER, Step};

/// Where the morph port lies, and VMXNET's registers behind it.
pub const MORPH: u64 = 0x20;
const REGISTERS: u64 = 0x24;
const REGISTERS_END: u64 = REGISTERS + 0x40;

/// Lower half of the morph port.
const AS_LANCE: u16 = 0x2934;
const AS_VMXNET: u16 = 0x4392;

/// Version of the protocol, and first word of the shared area.
const MAGIC: u32 = 0xbabe_864f;

mod register {
    pub const DATA_ADDRESS: u64 = 0x00;
    pub const DATA_LENGTH: u64 = 0x04;
    pub const TRANSMIT: u64 = 0x08;
    pub const COMMAND: u64 = 0x0c;
    pub const MAC: u64 = 0x10;
    pub const VERSION_LOW: u64 = 0x18;
    pub const VERSION_HIGH: u64 = 0x1c;
    pub const STATUS: u64 = 0x20;
    pub const PROM: u64 = 0x28;
}

mod command {
    pub const INTR_ACK: u32 = 0x0001;
    pub const UPDATE_LADRF: u32 = 0x0002;
    pub const UPDATE_IFF: u32 = 0x0004;
    pub const INTR_DISABLE: u32 = 0x0020;
    pub const INTR_ENABLE: u32 = 0x0040;
    pub const GET_NUM_RX_BUFFERS: u32 = 0x0200;
    pub const GET_NUM_TX_BUFFERS: u32 = 0x0400;
    pub const GET_CAPABILITIES: u32 = 0x1000;
    pub const GET_FEATURES: u32 = 0x2000;
}

/// Scatter and gather, and the MAC as burnt in.
const CAPABILITIES: u32 = 1 << 0 | 1 << 8;

/// What drivers take at most.
const BUFFERS: u32 = 128;

/// Places in the shared area.
mod shared {
    pub const BYTES: u32 = 176;
    pub const MAGIC: usize = 0;
    pub const RX_LENGTH: usize = 4;
    pub const RX_NEXT: u32 = 8;
    pub const IFF: usize = 24;
    pub const LADRF: usize = 28;
    pub const TX_LENGTH: usize = 40;
    pub const TX_CURRENT: u32 = 44;
    pub const RX_SAVED: usize = 92;
    pub const TX_SAVED: usize = 100;
    pub const RX_OFFSET: usize = 108;
    pub const TX_OFFSET: usize = 116;
}

mod iff {
    pub const PROMISC: u32 = 1;
    pub const BROADCAST: u32 = 2;
    pub const MULTICAST: u32 = 4;
}

/// Longest ring; drivers ask for 128 at most, for 512 with features that are not offered.
const RING_MAX: u32 = 512;

/// Pieces of a transmit descriptor.
const PIECES_MAX: u16 = 6;

/// A driver that acknowledges behind its look at the rings has missed what came between: it is told
/// again after this time, if it did not find it by then.
const RECHECK: Duration = Duration::from_millis(1);

/// What the PCnet's registers have no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vmxnet {
    /// It is VMXNET now.
    pub morphed: bool,
    /// Upper half of the morph port.
    pub upper: u16,
    pub address: u32,
    pub length: u32,
    /// What a read of the command register gives.
    pub answer: u32,
}

impl Pcnet {
    /// Reads what lies behind the vlance's registers.
    pub(crate) fn read_morph(&mut self, offset: u64, into: &mut [u8]) {
        if offset == MORPH && into.len() <= 4 {
            let lower = if self.vmxnet.morphed { AS_VMXNET } else { AS_LANCE };
            let value = u32::from(self.vmxnet.upper) << 16 | u32::from(lower);
            into.copy_from_slice(&value.to_le_bytes()[..into.len()]);
            return;
        }
        if !self.vmxnet.morphed || !(REGISTERS..REGISTERS_END).contains(&offset) {
            return;
        }
        let at = offset - REGISTERS;
        let mac = self.own_address();
        for (start, bytes) in [(register::MAC, mac), (register::PROM, self.config.mac.0)] {
            if (start..start + 6).contains(&at) {
                into.fill(0);
                for (byte, from) in into.iter_mut().zip(&bytes[(at - start) as usize..]) {
                    *byte = *from;
                }
                return;
            }
        }
        if into.len() != 4 {
            return;
        }
        let value = match at {
            register::DATA_ADDRESS => self.vmxnet.address,
            register::DATA_LENGTH => self.vmxnet.length,
            register::TRANSMIT => {
                self.demand = self.running();
                0
            }
            register::COMMAND => self.vmxnet.answer,
            register::VERSION_LOW | register::VERSION_HIGH => MAGIC,
            register::STATUS => u32::from(self.link) | u32::from(self.running()) << 1,
            _ => 0,
        };
        into.copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn write_morph(&mut self, now: Instant, memory: &Memory, offset: u64, bytes: &[u8]) {
        if offset == MORPH {
            self.turn(bytes);
            return;
        }
        let value = <[u8; 4]>::try_from(bytes).ok().map(u32::from_le_bytes);
        if !self.vmxnet.morphed || !(REGISTERS..REGISTERS_END).contains(&offset) {
            return;
        }
        let at = offset - REGISTERS;
        if (register::MAC..register::MAC + 6).contains(&at) {
            let mut mac = self.own_address();
            for (byte, from) in mac[(at - register::MAC) as usize..].iter_mut().zip(bytes) {
                *byte = *from;
            }
            for (word, pair) in self.csr[csr::PADR..].iter_mut().zip(mac.chunks_exact(2)) {
                *word = u16::from_le_bytes([pair[0], pair[1]]);
            }
            self.dirty = true;
            return;
        }
        let Some(value) = value else { return };
        match at {
            register::DATA_ADDRESS => {
                self.vmxnet.address = value;
                self.vmxnet.length = 0;
                self.halt_vmxnet();
            }
            register::DATA_LENGTH => {
                self.vmxnet.length = value;
                self.halt_vmxnet();
                if self.start_vmxnet(memory).is_none() {
                    // Drivers read it back to see whether it was taken.
                    self.vmxnet.length = 0;
                    self.counters.memory_errors = self.counters.memory_errors.wrapping_add(1);
                }
            }
            register::COMMAND => self.command(now, memory, value),
            _ => {}
        }
    }

    /// The morph port is written: VMware's own drivers write its lower half alone, others all of it.
    fn turn(&mut self, bytes: &[u8]) {
        let (lower, upper) = match *bytes {
            [a, b] => (u16::from_le_bytes([a, b]), None),
            [a, b, c, d] => (u16::from_le_bytes([a, b]), Some(u16::from_le_bytes([c, d]))),
            _ => return,
        };
        let morphed = match lower {
            AS_VMXNET => true,
            AS_LANCE => false,
            _ => return,
        };
        let upper = upper.unwrap_or(self.vmxnet.upper);
        if morphed != self.vmxnet.morphed {
            self.software_reset();
            self.vmxnet = Vmxnet { morphed, ..Vmxnet::default() };
        }
        self.vmxnet.upper = upper;
        self.dirty = true;
    }

    fn own_address(&self) -> [u8; 6] {
        let [a, b, c] = [0, 1, 2].map(|at| self.csr[csr::PADR + at].to_le_bytes());
        [a[0], a[1], b[0], b[1], c[0], c[1]]
    }

    fn halt_vmxnet(&mut self) {
        self.csr[csr::STATUS] = csr0::STOP;
        self.rx.forget();
        self.tx.forget();
        self.rest();
        self.dirty = true;
    }

    /// Reads the shared area, and begins. `None`: the area is not one.
    fn start_vmxnet(&mut self, memory: &Memory) -> Option<()> {
        let base = self.vmxnet.address;
        let mut area = [0; shared::BYTES as usize];
        let span = memory.locate(Address(u64::from(base)), shared::BYTES, &mut self.hint)?;
        memory.read(span, &mut area)?;
        let word = |at: usize| u32::from_le_bytes([area[at], area[at + 1], area[at + 2], area[at + 3]]);
        if base == 0 || word(shared::MAGIC) != MAGIC {
            return None;
        }
        let rings = [
            (csr::BADR, csr::RCVRL, shared::RX_LENGTH, shared::RX_OFFSET),
            (csr::BADX, csr::XMTRL, shared::TX_LENGTH, shared::TX_OFFSET),
        ];
        for (place, length, count, offset) in rings {
            let count = word(count);
            let at = base.checked_add(word(offset))?;
            if count == 0 || count > RING_MAX {
                return None;
            }
            self.csr[place] = at as u16;
            self.csr[place + 1] = (at >> 16) as u16;
            self.csr[length] = (count as u16).wrapping_neg();
        }
        // Only RINT and TINT interrupt. Nobody but the driver's own address is heard before its
        // flags are read.
        self.csr[csr::MASKS] = csr0::MASKABLE & !(csr0::RINT | csr0::TINT);
        self.csr[csr::MODE] = mode::DRCVBC;
        self.csr[csr::LADRF..csr::LADRF + 4].fill(0);
        // Where a saved machine stood; drivers begin at zero.
        self.rx.seek(word(shared::RX_SAVED));
        self.tx.seek(word(shared::TX_SAVED));
        self.locate_rings(memory);
        if !self.rx.is_there() || !self.tx.is_there() {
            self.rx.forget();
            self.tx.forget();
            return None;
        }
        // With interrupts: VMware's own driver for Linux never asks for them.
        self.csr[csr::STATUS] = csr0::INIT | csr0::STRT | csr0::RXON | csr0::TXON | csr0::IENA;
        Some(())
    }

    fn command(&mut self, now: Instant, memory: &Memory, value: u32) {
        let enable = self.csr[csr::STATUS] & csr0::IENA != 0;
        let answer = match value {
            command::INTR_ACK => {
                // A successor sets RINT and TINT anyway: of those nothing has to be kept.
                let cleared = self.csr[csr::STATUS] & csr0::CAUSES;
                self.dirty |= cleared & !(csr0::RINT | csr0::TINT) != 0;
                self.csr[csr::STATUS] &= !cleared;
                if self.is_behind(memory) {
                    self.recheck = Some(now.after(RECHECK));
                }
                return;
            }
            command::INTR_DISABLE => {
                self.csr[csr::STATUS] &= !csr0::IENA;
                self.dirty |= enable;
                return;
            }
            command::INTR_ENABLE => {
                if self.running() {
                    self.csr[csr::STATUS] |= csr0::IENA;
                    self.dirty |= !enable;
                }
                return;
            }
            command::UPDATE_LADRF | command::UPDATE_IFF => {
                self.update_filter(memory);
                return;
            }
            command::GET_NUM_RX_BUFFERS | command::GET_NUM_TX_BUFFERS => BUFFERS,
            command::GET_CAPABILITIES => CAPABILITIES,
            command::GET_FEATURES => 0,
            _ => 0,
        };
        self.dirty |= self.vmxnet.answer != answer;
        self.vmxnet.answer = answer;
    }

    /// A word of the shared area.
    fn shared_word(&self, memory: &Memory, at: u32) -> Option<u32> {
        let address = self.vmxnet.address.checked_add(at)?;
        let span = memory.locate(Address(u64::from(address)), 4, &mut 0)?;
        let mut bytes = [0; 4];
        memory.read(span, &mut bytes)?;
        Some(u32::from_le_bytes(bytes))
    }

    fn update_filter(&mut self, memory: &Memory) {
        if !self.running() {
            return;
        }
        let Some(flags) = self.shared_word(memory, shared::IFF as u32) else { return };
        let multicast = flags & iff::MULTICAST != 0;
        for half in 0..2 {
            let at = shared::LADRF as u32 + 4 * half as u32;
            let filter = self.shared_word(memory, at).filter(|_| multicast).unwrap_or(0);
            self.csr[csr::LADRF + 2 * half] = filter as u16;
            self.csr[csr::LADRF + 2 * half + 1] = (filter >> 16) as u16;
        }
        let mut now = 0;
        if flags & iff::PROMISC != 0 {
            now |= mode::PROM;
        }
        if flags & iff::BROADCAST == 0 {
            now |= mode::DRCVBC;
        }
        self.csr[csr::MODE] = now;
        self.dirty = true;
    }

    /// The driver has not seen all that is done.
    fn is_behind(&self, memory: &Memory) -> bool {
        let behind = |at, index| self.shared_word(memory, at).is_some_and(|seen| seen != index);
        self.running()
            && (behind(shared::RX_NEXT, self.rx.position()) || behind(shared::TX_CURRENT, self.tx.position()))
    }

    pub(crate) fn expire_recheck(&mut self, now: Instant, memory: &Memory) {
        if self.recheck.is_some_and(|recheck| recheck <= now) {
            self.recheck = None;
            if self.is_behind(memory) {
                self.csr[csr::STATUS] |= csr0::RINT | csr0::TINT;
            }
        }
    }

    /// The next transmit descriptor, which has all pieces of a frame.
    pub(crate) fn take_vmxnet(&mut self, memory: &Memory, posted: &mut Posted, now: u16) -> Step {
        let index = self.tx.index(0);
        let mut len = 0u32;
        let mut bad_memory = false;
        for piece in 0..self.tx.pieces(index).min(PIECES_MAX) {
            let (address, count) = self.tx.piece(index, piece);
            // At most six of 16 bits each.
            len += count;
            bad_memory |= !locate(memory, address, count, &mut self.hint, &mut posted.rest);
        }
        posted.len = len;
        let refused = if len < ETHERNET_HEADER {
            Some(Drop::Runt)
        } else if len > FRAME_MAX {
            Some(Drop::TooLong)
        } else if bad_memory || !self.peek(memory, posted) {
            Some(Drop::BadMemory)
        } else {
            None
        };
        self.finish(1, now, 0, 0);
        self.demand &= self.tx.owned(0).is_some();
        if let Some(drop) = refused {
            return self.drop_frame(drop);
        }
        if !self.link {
            self.counters.lost_carrier = self.counters.lost_carrier.wrapping_add(1);
            self.settle = true;
            return Step::Dropped;
        }
        Step::Frame
    }

    pub(crate) fn is_vmxnet(&self) -> bool {
        self.style() == Style::Vmxnet
    }
}
