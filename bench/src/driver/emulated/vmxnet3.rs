//! VMXNET3 with one queue each way, as Linux's driver has it: a frame's first 128 bytes go by the
//! transmit data ring, frames of up to 128 bytes come by the receive data ring, and doorbells are
//! rung when the device asks for them in the queue's descriptor. Names are of Linux's and FreeBSD's
//! headers.

use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use super::client::Client;
use super::slots::{self, frame_address};
use super::{Driver, NicOptions};
use crate::driver::error::{Error, Result};
use crate::driver::net::{HEADER_BYTES, Received};
use crate::driver::ram::{Area, Ram};

const DOORBELLS: u32 = 0;
const IMR: u64 = 0x000;
const TXPROD: u64 = 0x600;
const RXPROD: u64 = 0x800;
const REGISTERS: u32 = 1;
const VRRS: u64 = 0x00;
const UVRS: u64 = 0x08;
const DSAL: u64 = 0x10;
const DSAH: u64 = 0x18;
const CMD: u64 = 0x20;
const MACL: u64 = 0x28;
const MACH: u64 = 0x30;

const ACTIVATE_DEV: u32 = 0xcafe_0000;
const UPDATE_RX_MODE: u32 = 0xcafe_0003;
const REVISION: u32 = 4;
const MAGIC: u32 = 3_133_079_265;
const RX_MODE_UNICAST: u32 = 0x01;
const RX_MODE_BROADCAST: u32 = 0x04;
const RX_MODE_PROMISCUOUS: u32 = 0x10;
const FEATURE_RXCSUM: u64 = 1;
const VECTORS: u64 = 3;

const SHARED_BYTES: usize = 720;
const QUEUE_BYTES: usize = 256;
const DESCRIPTOR_BYTES: usize = 16;
/// The second receive ring, for what does not fit into a buffer of the first; nothing does here.
const BODY_RING: u16 = 32;
/// Entries of the data rings.
const DATA_BYTES: usize = 128;

/// Transmit: bits of a descriptor's third and fourth word.
const TX_GEN: u32 = 1 << 14;
const TX_EOP: u32 = 1 << 12;
const TX_CQ: u32 = 1 << 13;
/// Receive descriptors and all completions.
const GEN: u32 = 1 << 31;
const RCD_EOP: u32 = 1 << 14;
const RCD_SOP: u32 = 1 << 15;

pub struct Vmxnet3 {
    client: Client,
    size: u16,
    /// The queues' descriptors: transmit, then receive.
    queues: Area,
    doorbell_each: bool,
    transmit: Ring,
    transmit_data: Area,
    transmit_completions: Ring,
    transmit_areas: Vec<Area>,
    free: Vec<u16>,
    /// Of each descriptor that ends a frame, its slot and how many it took.
    sent: Vec<Option<(u16, u16)>>,
    /// Descriptors that the driver may use.
    room: u16,
    deferred: u32,
    receive: Ring,
    receive_data: Area,
    receive_completions: Ring,
    receive_areas: Vec<Area>,
    scratch: [u8; DATA_BYTES],
}

/// A ring with a generation bit.
struct Ring {
    area: Area,
    size: u16,
    next: u16,
    generation: bool,
}

impl Ring {
    fn new(ram: &mut Ram, size: u16) -> Result<Ring> {
        let area = ram.allocate(size as usize * DESCRIPTOR_BYTES, 512)?;
        Ok(Ring { area, size, next: 0, generation: true })
    }

    #[inline]
    fn at(&self) -> usize {
        self.next as usize * DESCRIPTOR_BYTES
    }

    #[inline]
    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.size {
            self.next = 0;
            self.generation = !self.generation;
        }
    }

    /// Whether the device has completed the next entry.
    #[inline]
    fn is_done(&self) -> bool {
        (self.area.load_acquire_u32(self.at() + 12) & GEN != 0) == self.generation
    }
}

impl Vmxnet3 {
    pub fn open(socket: &Path, options: &NicOptions) -> Result<Vmxnet3> {
        let size = options.ring_size;
        if !size.is_multiple_of(32) || !(32..=4096).contains(&size) {
            return Err(Error::Unsupported("these rings have 32 to 4096 descriptors, in 32s".into()));
        }
        let rings = 4 * size as usize * DESCRIPTOR_BYTES + 2 * size as usize * DATA_BYTES;
        let mut ram = slots::ram(options, rings + 8 * 4096)?;
        let (shared, queues) = (ram.allocate(SHARED_BYTES, 4096)?, ram.allocate(2 * QUEUE_BYTES, 4096)?);
        let (transmit, transmit_completions) = (Ring::new(&mut ram, size)?, Ring::new(&mut ram, size)?);
        let (receive, body) = (Ring::new(&mut ram, size)?, Ring::new(&mut ram, BODY_RING)?);
        let receive_completions = Ring::new(&mut ram, size + BODY_RING)?;
        let transmit_data = ram.allocate(size as usize * DATA_BYTES, 512)?;
        let receive_data = ram.allocate(size as usize * DATA_BYTES, 512)?;
        let transmit_areas = slots::transmit(&mut ram, options)?;
        let receive_areas = slots::receive(&mut ram, options)?;
        // Vmxnet3_DriverShared: magic, features, queues, MTU, counts, interrupts, receive filter.
        shared.store_u32(0, MAGIC);
        shared.store_u32(4, SHARED_BYTES as u32);
        shared.store_u64(24, FEATURE_RXCSUM);
        shared.store_u64(40, queues.address());
        shared.store_u32(52, 2 * QUEUE_BYTES as u32);
        shared.store_u32(56, 1500);
        shared.write_bytes(62, &[1, 1]);
        // autoMask, numIntrs, eventIntrIdx.
        shared.write_bytes(80, &[1, VECTORS as u8, VECTORS as u8 - 1]);
        let everything = if options.promiscuous { RX_MODE_PROMISCUOUS } else { 0 };
        shared.store_u32(120, RX_MODE_UNICAST | RX_MODE_BROADCAST | everything);
        let places = [
            (0, &transmit.area, &transmit_data, &transmit_completions, 32, [size, size, size]),
            (
                QUEUE_BYTES,
                &receive.area,
                &body.area,
                &receive_completions,
                32,
                [size, BODY_RING, size + BODY_RING],
            ),
        ];
        for (at, ring, second, completions, completions_at, sizes) in places {
            queues.store_u64(at + 16, ring.address());
            queues.store_u64(at + 24, second.address());
            queues.store_u64(at + completions_at, completions.area.address());
            for (index, size) in sizes.into_iter().enumerate() {
                queues.store_u32(at + 56 + 4 * index, u32::from(size));
            }
            queues.store_u8(at + 72, (at / QUEUE_BYTES) as u8);
            queues.store_u16(at + 74, DATA_BYTES as u16);
        }
        queues.store_u64(QUEUE_BYTES + 48, receive_data.address());
        let mut client = Client::open(socket, &ram, Duration::from_secs(5))?;
        client.reset()?;
        client.write_u32(REGISTERS, VRRS, 1 << (REVISION - 1))?;
        client.write_u32(REGISTERS, UVRS, 1)?;
        let [a, b, c, d, e, f] = options.mac;
        client.write_u32(REGISTERS, MACL, u32::from_le_bytes([a, b, c, d]))?;
        client.write_u32(REGISTERS, MACH, u32::from_le_bytes([e, f, 0, 0]))?;
        let mut nic = Vmxnet3 {
            client,
            size,
            queues,
            doorbell_each: options.doorbell_each,
            transmit,
            transmit_data,
            transmit_completions,
            free: (0..size).rev().collect(),
            sent: vec![None; size as usize],
            room: size - 1,
            deferred: 0,
            transmit_areas,
            receive,
            receive_data,
            receive_completions,
            receive_areas,
            scratch: [0; DATA_BYTES],
        };
        for index in 0..size {
            let at = index as usize * DESCRIPTOR_BYTES;
            nic.receive.area.store_u64(at, frame_address(&nic.receive_areas[index as usize]));
        }
        // One stays behind, or a full ring would look like an empty one.
        (1..size).for_each(|_| nic.post());
        nic.client.write_u32(REGISTERS, DSAL, shared.address() as u32)?;
        nic.client.write_u32(REGISTERS, DSAH, (shared.address() >> 32) as u32)?;
        for command in [ACTIVATE_DEV, UPDATE_RX_MODE] {
            nic.client.write_u32(REGISTERS, CMD, command)?;
            let answer = nic.client.read_u32(REGISTERS, CMD)?;
            if answer != 0 {
                return Err(Error::Device(format!("command {command:#x} was answered with {answer}")));
            }
        }
        for vector in 0..VECTORS {
            nic.client.write_u32(DOORBELLS, IMR + 8 * vector, 1)?;
        }
        nic.client.write_u32(DOORBELLS, RXPROD, u32::from(size - 1))?;
        Ok(nic)
    }

    /// Gives the next receive descriptor to the device; its address stands there already.
    #[inline]
    fn post(&mut self) {
        let word = slots::RECEIVE_BYTES as u32 | if self.receive.generation { GEN } else { 0 };
        self.receive.area.store_release_u32(self.receive.at() + 8, word);
        self.receive.advance();
    }

    /// A transmit descriptor that the device does not see before the generation bit of the first.
    #[inline]
    fn put(&mut self, address: u64, bytes: usize, flags: u32, first: bool) {
        let at = self.transmit.at();
        let generation = self.transmit.generation != first;
        self.transmit.area.store_u64(at, address);
        self.transmit.area.store_u32(at + 12, flags);
        self.transmit.area.store_u32(at + 8, bytes as u32 | if generation { TX_GEN } else { 0 });
        self.transmit.advance();
    }
}

impl Driver for Vmxnet3 {
    fn areas(&self) -> &[Area] {
        &self.transmit_areas
    }

    #[inline]
    fn take(&mut self) -> Option<u16> {
        if self.room < 2 { None } else { self.free.pop() }
    }

    #[inline]
    fn send(&mut self, slot: u16, bytes: u32) -> Result<bool> {
        let bytes = bytes as usize;
        let copied = bytes.min(DATA_BYTES);
        let count = 1 + u16::from(bytes > copied);
        if count > self.room {
            self.free.push(slot);
            return Ok(false);
        }
        let area = &self.transmit_areas[slot as usize];
        let rest = frame_address(area) + copied as u64;
        area.read_bytes(HEADER_BYTES, &mut self.scratch[..copied]);
        let first = self.transmit.next as usize;
        self.transmit_data.write_bytes(first * DATA_BYTES, &self.scratch[..copied]);
        let data = self.transmit_data.address() + (first * DATA_BYTES) as u64;
        let end = TX_EOP | TX_CQ;
        self.put(data, copied, if count == 1 { end } else { 0 }, true);
        if count == 2 {
            self.put(rest, bytes - copied, end, false);
        }
        let last = (self.transmit.next + self.size - 1) % self.size;
        self.sent[last as usize] = Some((slot, count));
        self.room -= count;
        let at = first * DESCRIPTOR_BYTES + 8;
        let word = self.transmit.area.load_u32(at);
        self.transmit.area.store_release_u32(at, word ^ TX_GEN);
        self.deferred += 1;
        if self.doorbell_each {
            self.flush()?;
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<()> {
        if self.deferred == 0 {
            return Ok(());
        }
        // The frames before the question whether the device looks by itself.
        fence(Ordering::SeqCst);
        if self.deferred >= self.queues.load_u32(4) {
            self.deferred = 0;
            self.client.write_u32(DOORBELLS, TXPROD, u32::from(self.transmit.next))?;
        }
        Ok(())
    }

    #[inline]
    fn reclaim(&mut self) -> Result<u64> {
        let mut count = 0;
        while self.transmit_completions.is_done() {
            let end = self.transmit_completions.area.load_u32(self.transmit_completions.at()) & 0xfff;
            let sent = self.sent.get_mut(end as usize).and_then(Option::take);
            let Some((slot, descriptors)) = sent else {
                return Err(Error::Device(format!("descriptor {end} was completed and ends no frame")));
            };
            self.free.push(slot);
            self.room += descriptors;
            self.transmit_completions.advance();
            count += 1;
        }
        Ok(count)
    }

    fn receive(&mut self, limit: u32, deliver: &mut dyn FnMut(Received<'_>)) -> Result<u32> {
        let mut frames = 0;
        while frames < limit && self.receive_completions.is_done() {
            let at = self.receive_completions.at();
            let words =
                [self.receive_completions.area.load_u32(at), self.receive_completions.area.load_u32(at + 8)];
            let (index, queue, bytes) = (words[0] & 0xfff, words[0] >> 16 & 0x3ff, words[1] & 0x3fff);
            let whole = words[0] & (RCD_EOP | RCD_SOP) == RCD_EOP | RCD_SOP;
            // Ring 0's queue, and behind ring 1's the data ring's.
            let room = match queue {
                0 => slots::RECEIVE_BYTES,
                2 => DATA_BYTES,
                _ => 0,
            };
            let Some(area) =
                self.receive_areas.get(index as usize).filter(|_| whole && bytes as usize <= room)
            else {
                return Err(Error::Device(format!("a completion of {words:x?}")));
            };
            if queue == 2 {
                // Linux copies it into a buffer, too.
                let into = &mut self.scratch[..bytes as usize];
                self.receive_data.read_bytes(index as usize * DATA_BYTES, into);
                area.write_bytes(HEADER_BYTES, into);
            }
            let piece = [(index as u16, bytes + HEADER_BYTES as u32)];
            deliver(Received::new(&self.receive_areas, &piece, bytes));
            self.receive_completions.advance();
            self.post();
            frames += 1;
        }
        // updateRxProd
        if frames > 0 && self.queues.load_u8(QUEUE_BYTES) != 0 {
            self.client.write_u32(DOORBELLS, RXPROD, u32::from(self.receive.next))?;
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
