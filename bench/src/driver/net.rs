//! virtio-net (virtio 1.2, 5.1): pairs of receive and transmit queues, and the control queue.
//!
//! A transmit slot belongs to the caller from `take` to `send`, and to the device from then until
//! `reclaim` has seen it used. A receive buffer is given back to the device after the frame that
//! it carried has been delivered.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::message::{feature, protocol};
use super::queue::{Buffer, Queue, QueueShape};
use super::ram::{Area, Ram, RamOptions};
use super::session::{PROTOCOL_ALL, Session, Wishes};

pub const F_CSUM: u64 = 1 << 0;
pub const F_GUEST_CSUM: u64 = 1 << 1;
pub const F_MTU: u64 = 1 << 3;
pub const F_MAC: u64 = 1 << 5;
pub const F_GUEST_TSO4: u64 = 1 << 7;
pub const F_GUEST_TSO6: u64 = 1 << 8;
pub const F_HOST_TSO4: u64 = 1 << 11;
pub const F_HOST_TSO6: u64 = 1 << 12;
pub const F_MRG_RXBUF: u64 = 1 << 15;
pub const F_STATUS: u64 = 1 << 16;
pub const F_CTRL_VQ: u64 = 1 << 17;
pub const F_CTRL_RX: u64 = 1 << 18;
pub const F_CTRL_VLAN: u64 = 1 << 19;
pub const F_GUEST_ANNOUNCE: u64 = 1 << 21;
pub const F_MQ: u64 = 1 << 22;
pub const F_CTRL_MAC_ADDR: u64 = 1 << 23;
pub const F_GUEST_USO4: u64 = 1 << 54;
pub const F_GUEST_USO6: u64 = 1 << 55;
pub const F_HOST_USO: u64 = 1 << 56;

pub const OFFLOADS: u64 = F_CSUM
    | F_GUEST_CSUM
    | F_GUEST_TSO4
    | F_GUEST_TSO6
    | F_HOST_TSO4
    | F_HOST_TSO6
    | F_GUEST_USO4
    | F_GUEST_USO6
    | F_HOST_USO;

/// `virtio_net_hdr` with `num_buffers`, as every VERSION_1 device has it.
pub const HEADER_BYTES: usize = 12;
const NUM_BUFFERS_AT: usize = 10;

pub const HDR_F_NEEDS_CSUM: u8 = 1;
pub const HDR_F_DATA_VALID: u8 = 2;
pub const GSO_NONE: u8 = 0;
pub const GSO_TCPV4: u8 = 1;

/// The largest frame that segmentation offloads make: 64 KiB of IP and an Ethernet header.
pub const GSO_FRAME_BYTES_MAX: u32 = 65535 + 14;

/// `virtio_net_hdr` (5.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    pub flags: u8,
    pub gso_type: u8,
    pub hdr_len: u16,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
    pub num_buffers: u16,
}

impl Header {
    pub fn write(&self, area: &Area) {
        area.store_u8(0, self.flags);
        area.store_u8(1, self.gso_type);
        let rest = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset, self.num_buffers];
        for (at, value) in rest.into_iter().enumerate() {
            area.store_u16(2 + 2 * at, value);
        }
    }

    pub fn read(area: &Area) -> Header {
        Header {
            flags: area.load_u8(0),
            gso_type: area.load_u8(1),
            hdr_len: area.load_u16(2),
            gso_size: area.load_u16(4),
            csum_start: area.load_u16(6),
            csum_offset: area.load_u16(8),
            num_buffers: area.load_u16(NUM_BUFFERS_AT),
        }
    }
}

#[derive(Debug, Clone)]
pub struct NetOptions {
    pub pairs: u16,
    pub ring_size: u16,
    /// The largest frame sent, without the virtio-net header.
    pub frame_bytes_max: u32,
    pub receive_buffer_bytes: u32,
    /// Frames are given to the device in buffers of this size.
    pub segment_bytes: u32,
    pub mergeable: bool,
    pub offloads: bool,
    pub control: bool,
    pub packed: bool,
    pub indirect: bool,
    pub event_idx: bool,
    pub regions: usize,
    pub huge_pages: bool,
    pub populate: bool,
}

impl Default for NetOptions {
    /// What a Linux guest negotiates: split rings of 256, mergeable buffers.
    fn default() -> NetOptions {
        NetOptions {
            pairs: 1,
            ring_size: 256,
            frame_bytes_max: 1514,
            receive_buffer_bytes: 2048,
            segment_bytes: 32768,
            mergeable: true,
            offloads: false,
            control: false,
            packed: false,
            indirect: true,
            event_idx: true,
            regions: 1,
            huge_pages: false,
            populate: true,
        }
    }
}

impl NetOptions {
    fn features(&self) -> u64 {
        let mut features = F_MAC | F_MTU | F_STATUS;
        for (wanted, bits) in [
            (self.mergeable, F_MRG_RXBUF),
            (self.offloads, OFFLOADS),
            (self.control, F_CTRL_VQ | F_CTRL_RX | F_CTRL_VLAN | F_CTRL_MAC_ADDR | F_GUEST_ANNOUNCE),
            (self.pairs > 1, F_MQ | F_CTRL_VQ),
            (self.packed, feature::RING_PACKED),
            (self.indirect, feature::INDIRECT_DESC),
            (self.event_idx, feature::EVENT_IDX),
        ] {
            if wanted {
                features |= bits;
            }
        }
        features
    }

    fn chain_max(&self) -> u16 {
        (self.frame_bytes_max + HEADER_BYTES as u32).div_ceil(self.segment_bytes).max(1) as u16
    }

    fn transmit_bytes(&self) -> usize {
        (self.frame_bytes_max as usize + HEADER_BYTES).next_multiple_of(64)
    }

    fn ram_bytes(&self) -> usize {
        let ring = self.ring_size as usize * (32 + 16 * self.chain_max() as usize) + 4 * 4096;
        let buffers = (self.receive_buffer_bytes as usize).next_multiple_of(64) + self.transmit_bytes();
        let pair = 2 * ring + self.ring_size as usize * buffers;
        let stranded = self.regions * (ring + buffers);
        self.pairs as usize * pair + ring + stranded + (64 << 10)
    }
}

pub struct Net {
    pub session: Session,
    pub ram: Ram,
    pub pairs: Vec<Pair>,
    pub control: Option<Control>,
}

pub struct Pair {
    pub receive: Receiver,
    pub transmit: Transmitter,
}

impl Net {
    pub fn open(socket: &Path, options: &NetOptions) -> Result<Net> {
        Net::over(Session::connect(socket, Duration::from_secs(5))?, options)
    }

    pub fn over(mut session: Session, options: &NetOptions) -> Result<Net> {
        session.negotiate(Wishes { features: options.features(), protocol: PROTOCOL_ALL })?;
        let agreed = session.features();
        for (wanted, bit, name) in [
            (options.packed, feature::RING_PACKED, "packed ring"),
            (options.offloads, F_CSUM | F_HOST_TSO4 | F_GUEST_TSO4, "TSO"),
            (options.pairs > 1, F_MQ, "multi-queue"),
        ] {
            if wanted && agreed & bit != bit {
                return Err(Error::Unsupported(format!(
                    "the back end has no {name} ({:#x})",
                    session.offered()
                )));
            }
        }
        let queues = 2 * options.pairs as u32;
        // GET_QUEUE_NUM counts pairs for a network device in some back ends and queues in others
        // (QEMU takes it as the number of pairs), so the smaller reading is the one to trust.
        if options.pairs > 1 && session.has(protocol::MQ) && session.queues_max() < options.pairs as u64 {
            let (wanted, has) = (options.pairs, session.queues_max());
            return Err(Error::Unsupported(format!(
                "{wanted} queue pairs are needed, the back end has {has}"
            )));
        }
        let mut ram = Ram::new(RamOptions {
            bytes: options.ram_bytes(),
            regions: options.regions,
            huge_pages: options.huge_pages,
            populate: options.populate,
        })?;
        let mergeable = agreed & F_MRG_RXBUF != 0;
        let receive_shape = QueueShape { size: options.ring_size, chain_max: 1 };
        let transmit_shape = QueueShape { size: options.ring_size, chain_max: options.chain_max() };
        let mut pairs = Vec::new();
        for pair in 0..options.pairs as u32 {
            let receive = Queue::new(&mut ram, 2 * pair, receive_shape, agreed)?;
            let receive = Receiver::new(receive, &mut ram, options.receive_buffer_bytes, mergeable)?;
            let transmit = Queue::new(&mut ram, 2 * pair + 1, transmit_shape, agreed)?;
            let transmit = Transmitter::new(transmit, &mut ram, options)?;
            pairs.push(Pair { receive, transmit });
        }
        let control = if options.control && agreed & F_CTRL_VQ != 0 {
            let shape = QueueShape { size: 64, chain_max: 3 };
            Some(Control::new(Queue::new(&mut ram, queues, shape, agreed)?, &mut ram)?)
        } else {
            None
        };
        session.set_memory(&ram)?;
        session.set_up_inflight(queues as u16 + control.is_some() as u16, options.ring_size)?;
        for pair in &pairs {
            session.start(&pair.receive.ring)?;
            session.start(&pair.transmit.ring)?;
        }
        if let Some(control) = &control {
            session.start(&control.ring)?;
        }
        session.set_driver_ok()?;
        Ok(Net { session, ram, pairs, control })
    }

    /// Takes the queues back from the device.
    pub fn stop(&mut self) -> Result<()> {
        let pairs = self.pairs.iter().flat_map(|pair| [pair.receive.ring.index, pair.transmit.ring.index]);
        let control = self.control.iter().map(|control| control.ring.index);
        for index in pairs.chain(control).collect::<Vec<_>>() {
            self.session.stop(index)?;
        }
        Ok(())
    }
}

pub struct Transmitter {
    pub ring: Queue,
    areas: Vec<Area>,
    free: Vec<u16>,
    segment_bytes: u32,
    chain: Vec<Buffer>,
}

impl Transmitter {
    fn new(ring: Queue, ram: &mut Ram, options: &NetOptions) -> Result<Transmitter> {
        let mut areas = Vec::new();
        for _ in 0..ring.size {
            areas.push(ram.allocate(options.transmit_bytes(), 64)?);
        }
        let free = (0..ring.size).rev().collect();
        let chain = Vec::with_capacity(options.chain_max() as usize);
        Ok(Transmitter { ring, areas, free, segment_bytes: options.segment_bytes, chain })
    }

    /// Every slot's memory, to lay a template into before anything is sent.
    pub fn areas(&self) -> &[Area] {
        &self.areas
    }

    /// A slot that is the caller's until it is sent.
    #[inline]
    pub fn take(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// A slot's memory: the virtio-net header, then the frame.
    #[inline]
    pub fn area(&self, slot: u16) -> &Area {
        &self.areas[slot as usize]
    }

    /// Makes a slot's frame of `bytes` available. False, and the slot is free again, when the ring
    /// has no room: a chain of several buffers may not fit although a slot was free.
    #[inline]
    pub fn send(&mut self, slot: u16, bytes: u32) -> bool {
        let total = bytes + HEADER_BYTES as u32;
        let base = self.areas[slot as usize].address();
        let sent = if total <= self.segment_bytes {
            self.ring.add(slot, &[Buffer::readable(base, total)])
        } else {
            self.chain.clear();
            let mut at = 0;
            while at < total {
                let length = (total - at).min(self.segment_bytes);
                self.chain.push(Buffer::readable(base + at as u64, length));
                at += length;
            }
            self.ring.add(slot, &self.chain)
        };
        if !sent {
            self.free.push(slot);
        }
        sent
    }

    /// Takes back what the device has sent; returns how many.
    #[inline]
    pub fn reclaim(&mut self) -> Result<u64> {
        let mut count = 0;
        while let Some(used) = self.ring.pop()? {
            self.free.push(used.token);
            count += 1;
        }
        Ok(count)
    }
}

/// A frame as it was received: the pieces of it in guest memory. The first piece starts with the
/// virtio-net header.
pub struct Received<'a> {
    areas: &'a [Area],
    pieces: &'a [(u16, u32)],
    /// Without the virtio-net header.
    pub bytes: u32,
}

impl<'a> Received<'a> {
    /// A frame of other devices than virtio-net: a virtio-net header's room comes first all the same.
    pub(super) fn new(areas: &'a [Area], pieces: &'a [(u16, u32)], bytes: u32) -> Received<'a> {
        Received { areas, pieces, bytes }
    }
}

impl Received<'_> {
    pub fn header(&self) -> Header {
        Header::read(self.first())
    }

    /// The first buffer: header, then the frame's head.
    #[inline]
    pub fn first(&self) -> &Area {
        &self.areas[self.pieces[0].0 as usize]
    }

    /// The whole frame, copied out.
    pub fn copy_into(&self, frame: &mut Vec<u8>) {
        frame.clear();
        for (at, (token, length)) in self.pieces.iter().enumerate() {
            let skip = if at == 0 { HEADER_BYTES } else { 0 };
            let start = frame.len();
            frame.resize(start + (*length as usize).saturating_sub(skip), 0);
            self.areas[*token as usize].read_bytes(skip, &mut frame[start..]);
        }
    }
}

pub struct Receiver {
    pub ring: Queue,
    areas: Vec<Area>,
    buffer_bytes: u32,
    mergeable: bool,
    pieces: Vec<(u16, u32)>,
    /// Buffers that the frame being put together still lacks.
    missing: u16,
}

impl Receiver {
    fn new(mut ring: Queue, ram: &mut Ram, buffer_bytes: u32, mergeable: bool) -> Result<Receiver> {
        let mut areas = Vec::new();
        for token in 0..ring.size {
            let area = ram.allocate(buffer_bytes as usize, 64)?;
            ring.add(token, &[Buffer::writable(area.address(), buffer_bytes)]);
            areas.push(area);
        }
        ring.publish();
        let pieces = Vec::with_capacity(ring.size as usize);
        Ok(Receiver { ring, areas, buffer_bytes, mergeable, pieces, missing: 0 })
    }

    /// Delivers up to `limit` frames and gives their buffers back. Returns how many there were.
    #[inline]
    pub fn receive(&mut self, limit: u32, mut deliver: impl FnMut(Received<'_>)) -> Result<u32> {
        let mut frames = 0;
        while frames < limit {
            let Some(used) = self.ring.pop()? else { break };
            if self.missing == 0 {
                if used.written < HEADER_BYTES as u32 {
                    let written = used.written;
                    return Err(Error::Protocol(format!(
                        "a received buffer of {written} bytes has no header"
                    )));
                }
                let buffers = self.areas[used.token as usize].load_u16(NUM_BUFFERS_AT);
                // Without mergeable buffers num_buffers is 1 (5.1.6.4.1).
                if buffers == 0 || (!self.mergeable && buffers != 1) || buffers > self.ring.size {
                    return Err(Error::Protocol(format!("a received frame claims {buffers} buffers")));
                }
                self.missing = buffers;
            }
            self.pieces.push((used.token, used.written));
            self.missing -= 1;
            if self.missing == 0 {
                let total: u32 = self.pieces.iter().map(|(_, length)| *length).sum();
                let bytes = total - HEADER_BYTES as u32;
                deliver(Received { areas: &self.areas, pieces: &self.pieces, bytes });
                for (token, _) in self.pieces.drain(..) {
                    let address = self.areas[token as usize].address();
                    self.ring.add(token, &[Buffer::writable(address, self.buffer_bytes)]);
                }
                frames += 1;
            }
        }
        if frames > 0 {
            self.ring.publish();
        }
        Ok(frames)
    }
}

/// The control queue (5.1.6.5).
pub struct Control {
    pub ring: Queue,
    area: Area,
}

/// Room for a command's data: a MAC table of 64 entries twice over.
const CONTROL_DATA_BYTES: usize = 1024;
const CONTROL_ACK_AT: usize = 64;
const CONTROL_DATA_AT: usize = 128;

impl Control {
    fn new(ring: Queue, ram: &mut Ram) -> Result<Control> {
        Ok(Control { ring, area: ram.allocate(CONTROL_DATA_AT + CONTROL_DATA_BYTES, 128)? })
    }

    /// Sends a command and waits; true when the device acknowledged it with VIRTIO_NET_OK.
    pub fn command(&mut self, class: u8, command: u8, data: &[u8], patience: Duration) -> Result<bool> {
        if data.len() > CONTROL_DATA_BYTES {
            return Err(Error::Unsupported(format!("control data of {} bytes", data.len())));
        }
        self.area.write_bytes(0, &[class, command]);
        self.area.store_u8(CONTROL_ACK_AT, 0xff);
        self.area.write_bytes(CONTROL_DATA_AT, data);
        let base = self.area.address();
        let head = Buffer::readable(base, 2);
        let body = Buffer::readable(base + CONTROL_DATA_AT as u64, data.len() as u32);
        let ack = Buffer::writable(base + CONTROL_ACK_AT as u64, 1);
        let with_data = [head, body, ack];
        let without = [head, ack];
        if !self.ring.add(0, if data.is_empty() { &without[..] } else { &with_data[..] }) {
            return Err(Error::Unsupported("the control queue has no room".into()));
        }
        self.ring.publish();
        let start = Instant::now();
        while self.ring.pop()?.is_none() {
            if start.elapsed() > patience {
                return Err(Error::Stalled(format!(
                    "control command {class}.{command} did not end in {patience:?}"
                )));
            }
            self.ring.wait(Duration::from_millis(50))?;
        }
        Ok(self.area.load_u8(CONTROL_ACK_AT) == 0)
    }
}
