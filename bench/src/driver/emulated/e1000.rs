//! 8254x and 82574 with one queue each way, as Linux's e1000 and e1000e drive them: legacy transmit
//! descriptors that each report back, receive buffers given back sixteen at a time, and a tail
//! register for each doorbell (8254x SDM 3.2, 3.4; 82574 datasheet 7.1.8).

use std::path::Path;
use std::time::{Duration, Instant};

use super::client::Client;
use super::slots::{self, frame_address};
use super::{Driver, NicOptions};
use crate::driver::error::{Error, Result};
use crate::driver::net::{HEADER_BYTES, Received};
use crate::driver::ram::Area;

const REGISTERS: u32 = 0;
const CTRL: u64 = 0x0000;
const STATUS: u64 = 0x0008;
const IMC: u64 = 0x00d8;
const RCTL: u64 = 0x0100;
const TCTL: u64 = 0x0400;
const RDBAL: u64 = 0x2800;
const RDLEN: u64 = 0x2808;
const RDH: u64 = 0x2810;
const RDT: u64 = 0x2818;
const TDBAL: u64 = 0x3800;
const TDLEN: u64 = 0x3808;
const TDH: u64 = 0x3810;
const TDT: u64 = 0x3818;
const RFCTL: u64 = 0x5008;
const RAL0: u64 = 0x5400;

const CTRL_SET_LINK_UP: u32 = 1 << 6;
const STATUS_LINK_UP: u32 = 1 << 1;
const RAH_VALID: u32 = 1 << 31;
const RFCTL_EXTENDED: u32 = 1 << 15;
const TCTL_ENABLE: u32 = 1 << 1;
const TCTL_PAD: u32 = 1 << 3;
const RCTL_ENABLE: u32 = 1 << 1;
const RCTL_UNICAST_PROMISCUOUS: u32 = 1 << 3;
const RCTL_MULTICAST_PROMISCUOUS: u32 = 1 << 4;
const RCTL_BROADCAST: u32 = 1 << 15;
const RCTL_STRIP_FCS: u32 = 1 << 26;
/// EOP, IFCS and RS in a legacy transmit descriptor's command.
const COMMAND: u64 = 0x0b << 24;
const DONE: u32 = 1 << 0;
const END_OF_PACKET: u32 = 1 << 1;

const DESCRIPTOR_BYTES: usize = 16;
/// Linux gives buffers back once it has gathered so many.
const RETURN_BATCH: u16 = 16;

/// Receive descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Legacy,
    Extended,
}

pub struct E1000 {
    client: Client,
    form: Form,
    size: u16,
    transmit: Area,
    transmit_areas: Vec<Area>,
    /// The next descriptor to use, and the next to take back.
    transmit_next: u16,
    transmit_done: u16,
    /// What the tail register was set to.
    transmit_tail: u16,
    doorbell_each: bool,
    receive: Area,
    receive_areas: Vec<Area>,
    receive_next: u16,
    /// Descriptors seen since buffers were given back.
    owed: u16,
}

impl E1000 {
    pub fn open(socket: &Path, options: &NicOptions, form: Form) -> Result<E1000> {
        let size = options.ring_size;
        if !size.is_multiple_of(8) || !(8..=4096).contains(&size) {
            return Err(Error::Unsupported("these rings have 8 to 4096 descriptors, in eights".into()));
        }
        let ring_bytes = size as usize * DESCRIPTOR_BYTES;
        let mut ram = slots::ram(options, 2 * ring_bytes + 8192)?;
        let (transmit, receive) = (ram.allocate(ring_bytes, 4096)?, ram.allocate(ring_bytes, 4096)?);
        let transmit_areas = slots::transmit(&mut ram, options)?;
        let receive_areas = slots::receive(&mut ram, options)?;
        let mut client = Client::open(socket, &ram, Duration::from_secs(5))?;
        client.reset()?;
        let mut set = |register: u64, value: u32| client.write_u32(REGISTERS, register, value);
        set(IMC, u32::MAX)?;
        let [a, b, c, d, e, f] = options.mac;
        set(RAL0, u32::from_le_bytes([a, b, c, d]))?;
        set(RAL0 + 4, u32::from_le_bytes([e, f, 0, 0]) | RAH_VALID)?;
        if form == Form::Extended {
            set(RFCTL, RFCTL_EXTENDED)?;
        }
        for (base, length, head, tail, ring) in
            [(TDBAL, TDLEN, TDH, TDT, &transmit), (RDBAL, RDLEN, RDH, RDT, &receive)]
        {
            set(base, ring.address() as u32)?;
            set(base + 4, (ring.address() >> 32) as u32)?;
            set(length, ring_bytes as u32)?;
            set(head, 0)?;
            set(tail, 0)?;
        }
        let all = if options.promiscuous { RCTL_UNICAST_PROMISCUOUS | RCTL_MULTICAST_PROMISCUOUS } else { 0 };
        set(TCTL, TCTL_ENABLE | TCTL_PAD)?;
        set(RCTL, RCTL_ENABLE | RCTL_BROADCAST | RCTL_STRIP_FCS | all)?;
        let control = client.read_u32(REGISTERS, CTRL)?;
        client.write_u32(REGISTERS, CTRL, control | CTRL_SET_LINK_UP)?;
        let mut nic = E1000 {
            client,
            form,
            size,
            transmit,
            transmit_areas,
            transmit_next: 0,
            transmit_done: 0,
            transmit_tail: 0,
            doorbell_each: options.doorbell_each,
            receive,
            receive_areas,
            receive_next: 0,
            owed: 0,
        };
        for at in 0..size - 1 {
            nic.post(at);
        }
        nic.client.write_u32(REGISTERS, RDT, u32::from(size - 1))?;
        let start = Instant::now();
        while nic.client.read_u32(REGISTERS, STATUS)? & STATUS_LINK_UP == 0 {
            if start.elapsed() > Duration::from_secs(10) {
                return Err(Error::Stalled("the link does not come up".into()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(nic)
    }

    fn post(&self, index: u16) {
        let at = index as usize * DESCRIPTOR_BYTES;
        self.receive.store_u64(at, frame_address(&self.receive_areas[index as usize]));
        self.receive.store_u64(at + 8, 0);
    }

    /// Buffers go back up to the one before the next that is looked at.
    fn give_back(&mut self) -> Result<()> {
        let tail = (self.receive_next + self.size - 1) % self.size;
        for _ in 0..self.owed {
            self.post((tail + self.size - self.owed) % self.size);
            self.owed -= 1;
        }
        self.client.write_u32(REGISTERS, RDT, u32::from(tail))
    }

    /// Status and length of a receive descriptor.
    #[inline]
    fn received(&self, index: u16) -> (u32, u32) {
        let at = index as usize * DESCRIPTOR_BYTES;
        match self.form {
            Form::Legacy => {
                let word = self.receive.load_acquire_u32(at + 12);
                (word & 0xff, u32::from(self.receive.load_u16(at + 8)))
            }
            Form::Extended => {
                let status = self.receive.load_acquire_u32(at + 8);
                (status, u32::from(self.receive.load_u16(at + 12)))
            }
        }
    }
}

impl Driver for E1000 {
    fn areas(&self) -> &[Area] {
        &self.transmit_areas
    }

    #[inline]
    fn take(&mut self) -> Option<u16> {
        let after = (self.transmit_next + 1) % self.size;
        (after != self.transmit_done).then_some(self.transmit_next)
    }

    #[inline]
    fn send(&mut self, slot: u16, bytes: u32) -> Result<bool> {
        let at = slot as usize * DESCRIPTOR_BYTES;
        self.transmit.store_u64(at, frame_address(&self.transmit_areas[slot as usize]));
        self.transmit.store_release_u64(at + 8, u64::from(bytes) | COMMAND);
        self.transmit_next = (slot + 1) % self.size;
        if self.doorbell_each {
            self.flush()?;
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<()> {
        if self.transmit_tail == self.transmit_next {
            return Ok(());
        }
        self.transmit_tail = self.transmit_next;
        self.client.write_u32(REGISTERS, TDT, u32::from(self.transmit_next))
    }

    #[inline]
    fn reclaim(&mut self) -> Result<u64> {
        let mut count = 0;
        while self.transmit_done != self.transmit_tail {
            let at = self.transmit_done as usize * DESCRIPTOR_BYTES;
            if self.transmit.load_acquire_u32(at + 12) & DONE == 0 {
                break;
            }
            self.transmit_done = (self.transmit_done + 1) % self.size;
            count += 1;
        }
        Ok(count)
    }

    fn receive(&mut self, limit: u32, deliver: &mut dyn FnMut(Received<'_>)) -> Result<u32> {
        let mut frames = 0;
        while frames < limit {
            let index = self.receive_next;
            let (status, bytes) = self.received(index);
            if status & DONE == 0 {
                break;
            }
            if status & END_OF_PACKET == 0 || bytes as usize > slots::RECEIVE_BYTES {
                return Err(Error::Device(format!("a received frame of {bytes} bytes, status {status:#x}")));
            }
            let piece = [(index, bytes + HEADER_BYTES as u32)];
            deliver(Received::new(&self.receive_areas, &piece, bytes));
            self.receive_next = (index + 1) % self.size;
            frames += 1;
            self.owed += 1;
            if self.owed == RETURN_BATCH {
                self.give_back()?;
            }
        }
        if self.owed > 0 {
            self.give_back()?;
        }
        Ok(frames)
    }

    fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    fn messages(&self) -> u64 {
        self.client.messages
    }
}
