//! Am79C970A as Linux's pcnet32 drives it: word I/O in I/O space, software style 2 (32-bit
//! structures), a transmit demand for each doorbell, and none for receive buffers, which the chip
//! looks for by itself.

use std::path::Path;
use std::time::{Duration, Instant};

use super::client::Client;
use super::slots::{self, frame_address};
use super::{Driver, NicOptions};
use crate::driver::error::{Error, Result};
use crate::driver::net::{HEADER_BYTES, Received};
use crate::driver::ram::Area;

/// Registers in I/O space.
const IO: u32 = 0;
const RDP: u64 = 0x10;
const RAP: u64 = 0x12;
const RESET: u64 = 0x14;
const BDP: u64 = 0x16;

const CSR0_INIT: u16 = 1 << 0;
const CSR0_STRT: u16 = 1 << 1;
const CSR0_TDMD: u16 = 1 << 3;
const CSR0_IDON: u16 = 1 << 8;
/// What is shown in CSR0 and taken away by writing ones.
const CSR0_CAUSES: u16 = 0x7f00;
const CSR4_AUTO_PAD: u16 = 0x0915;
const BCR_SOFTWARE_STYLE: u16 = 20;
const MODE_PROMISCUOUS: u16 = 1 << 15;

const OWN: u16 = 1 << 15;
const ERR: u16 = 1 << 14;
const STP: u16 = 1 << 9;
const ENP: u16 = 1 << 8;

const DESCRIPTOR_BYTES: usize = 16;
const STATUS_AT: usize = 6;
const FCS_BYTES: u32 = 4;

pub struct Pcnet {
    client: Client,
    size: u16,
    transmit: Area,
    transmit_areas: Vec<Area>,
    transmit_next: u16,
    transmit_done: u16,
    demanded: u16,
    doorbell_each: bool,
    receive: Area,
    receive_areas: Vec<Area>,
    receive_next: u16,
}

impl Pcnet {
    pub fn open(socket: &Path, options: &NicOptions) -> Result<Pcnet> {
        let size = options.ring_size;
        if !size.is_power_of_two() || size > 512 {
            return Err(Error::Unsupported("these rings have a power of two up to 512 descriptors".into()));
        }
        let ring_bytes = size as usize * DESCRIPTOR_BYTES;
        let mut ram = slots::ram(options, 2 * ring_bytes + 3 * 4096)?;
        let block = ram.allocate(64, 64)?;
        let (transmit, receive) = (ram.allocate(ring_bytes, 4096)?, ram.allocate(ring_bytes, 4096)?);
        let transmit_areas = slots::transmit(&mut ram, options)?;
        let receive_areas = slots::receive(&mut ram, options)?;
        // The initialization block of the 32-bit styles: mode, lengths, address, hash, rings.
        let lengths = (size.trailing_zeros() as u8) << 4;
        block.store_u16(0, if options.promiscuous { MODE_PROMISCUOUS } else { 0 });
        block.write_bytes(2, &[lengths, lengths]);
        block.write_bytes(4, &options.mac);
        block.store_u32(20, receive.address() as u32);
        block.store_u32(24, transmit.address() as u32);
        let client = Client::open(socket, &ram, Duration::from_secs(5))?;
        let mut nic = Pcnet {
            client,
            size,
            transmit,
            transmit_areas,
            transmit_next: 0,
            transmit_done: 0,
            demanded: 0,
            doorbell_each: options.doorbell_each,
            receive,
            receive_areas,
            receive_next: 0,
        };
        for index in 0..size {
            nic.post(index);
        }
        nic.client.reset()?;
        nic.client.read_u16(IO, RESET)?;
        nic.client.write_u16(IO, RAP, BCR_SOFTWARE_STYLE)?;
        nic.client.write_u16(IO, BDP, 2)?;
        nic.write_csr(4, CSR4_AUTO_PAD)?;
        nic.write_csr(1, block.address() as u16)?;
        nic.write_csr(2, (block.address() >> 16) as u16)?;
        nic.write_csr(0, CSR0_INIT)?;
        let start = Instant::now();
        while nic.client.read_u16(IO, RDP)? & CSR0_IDON == 0 {
            if start.elapsed() > Duration::from_secs(5) {
                return Err(Error::Stalled("the adapter does not initialize".into()));
            }
        }
        // Without IENA: no interrupts.
        nic.write_csr(0, CSR0_STRT | CSR0_CAUSES)?;
        Ok(nic)
    }

    /// The address port is not remembered, as Linux does not.
    fn write_csr(&mut self, number: u16, value: u16) -> Result<()> {
        self.client.write_u16(IO, RAP, number)?;
        self.client.write_u16(IO, RDP, value)
    }

    fn post(&self, index: u16) {
        let at = index as usize * DESCRIPTOR_BYTES;
        self.receive.store_u32(at, frame_address(&self.receive_areas[index as usize]) as u32);
        self.receive.store_u16(at + 4, (slots::RECEIVE_BYTES as u16).wrapping_neg());
        self.receive.store_u32(at + 8, 0);
        self.receive.store_release_u16(at + STATUS_AT, OWN);
    }
}

impl Driver for Pcnet {
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
        self.transmit.store_u32(at, frame_address(&self.transmit_areas[slot as usize]) as u32);
        self.transmit.store_u16(at + 4, (bytes as u16).wrapping_neg());
        self.transmit.store_u32(at + 8, 0);
        self.transmit.store_release_u16(at + STATUS_AT, OWN | STP | ENP);
        self.transmit_next = (slot + 1) % self.size;
        if self.doorbell_each {
            self.flush()?;
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<()> {
        if self.demanded == self.transmit_next {
            return Ok(());
        }
        self.demanded = self.transmit_next;
        self.write_csr(0, CSR0_TDMD)
    }

    #[inline]
    fn reclaim(&mut self) -> Result<u64> {
        let mut count = 0;
        while self.transmit_done != self.demanded {
            let at = self.transmit_done as usize * DESCRIPTOR_BYTES;
            let status = self.transmit.load_acquire_u16(at + STATUS_AT);
            if status & OWN != 0 {
                break;
            }
            if status & ERR != 0 {
                return Err(Error::Device(format!("a frame was not sent: status {status:#x}")));
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
            let at = index as usize * DESCRIPTOR_BYTES;
            let status = self.receive.load_acquire_u16(at + STATUS_AT);
            if status & OWN != 0 {
                break;
            }
            let bytes = (self.receive.load_u32(at + 8) & 0xfff).saturating_sub(FCS_BYTES);
            if status & (ERR | STP | ENP) != STP | ENP || bytes as usize > slots::RECEIVE_BYTES {
                return Err(Error::Device(format!("a received frame of {bytes} bytes, status {status:#x}")));
            }
            let piece = [(index, bytes + HEADER_BYTES as u32)];
            deliver(Received::new(&self.receive_areas, &piece, bytes));
            self.post(index);
            self.receive_next = (index + 1) % self.size;
            frames += 1;
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
