//! The flexible adapter as VMware's own VMXNET driver of open-vm-tools drives it, over the socket and
//! with the client of the crate `vfio_user`: a vlance is found and turned over, frames go to and fro
//! between two of them, and it is a vlance again when the driver leaves.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use host::event::Event;
use host::memfd;
use rustix::process::Signal;
use vfio_user_peer::Client;

use crate::daemon::Daemon;

const SITE: &str = "[network.lan]\nmtu = 1500\n\
    [vm.web1.nic0]\nmodel = \"flexible\"\nnetwork = \"lan\"\nmac = \"00:50:56:00:00:01\"\n\
    [vm.web2.nic0]\nmodel = \"flexible\"\nnetwork = \"lan\"\nmac = \"00:50:56:00:00:02\"\n";

const CONFIG: u32 = 7;
const COMMAND: u64 = 4;
/// I/O space, memory space, bus master.
const ENABLE: u16 = 7;

/// VFIO_IRQ_SET_DATA_EVENTFD and VFIO_IRQ_SET_ACTION_TRIGGER.
const TRIGGER: u32 = 1 << 2 | 1 << 5;
/// VFIO_IRQ_SET_DATA_NONE and VFIO_IRQ_SET_ACTION_UNMASK: a line is masked when it was told of.
const UNMASK: u32 = 1 << 0 | 1 << 4;

/// The driver's numbers: vmxnet_def.h, vmxnet2_def.h.
const MORPH: u64 = 0x20;
const PORTS: u64 = 0x24;
const LANCE_CHIP: u16 = 0x2934;
const VMXNET_CHIP: u16 = 0x4392;
const MAGIC: u32 = 0xbabe_864f;
const INIT_ADDR: u64 = PORTS;
const INIT_LENGTH: u64 = PORTS + 0x04;
const TX_ADDR: u64 = PORTS + 0x08;
const COMMAND_ADDR: u64 = PORTS + 0x0c;
const MAC_ADDR: u64 = PORTS + 0x10;
const LOW_VERSION: u64 = PORTS + 0x18;
const HIGH_VERSION: u64 = PORTS + 0x1c;
const STATUS: u64 = PORTS + 0x20;
const APROM: u64 = PORTS + 0x28;
const INTR_ACK: u32 = 0x0001;
const UPDATE_LADRF: u32 = 0x0002;
const UPDATE_IFF: u32 = 0x0004;
const CHECK_TX_DONE: u32 = 0x0100;
const GET_NUM_RX_BUFFERS: u32 = 0x0200;
const GET_NUM_TX_BUFFERS: u32 = 0x0400;
const GET_CAPABILITIES: u32 = 0x1000;
const GET_FEATURES: u32 = 0x2000;
const CAP_VMXNET_APROM: u32 = 1 << 8;
const OWNER_DRIVER: u16 = 0;
const OWNER_NIC: u16 = 2;
const CAN_KEEP: u16 = 1;

/// Vmxnet2_DriverData, and the entries of both rings.
mod area {
    pub const BYTES: u32 = 176;
    pub const RX_RING_LENGTH: u64 = 4;
    pub const RX_DRIVER_NEXT: u64 = 8;
    pub const RX_RING_LENGTH2: u64 = 12;
    pub const IFFLAGS: u64 = 24;
    pub const TX_RING_LENGTH: u64 = 40;
    pub const TX_DRIVER_CUR: u64 = 44;
    pub const TX_DRIVER_NEXT: u64 = 48;
    pub const LENGTH: u64 = 104;
    pub const RX_RING_OFFSET: u64 = 108;
    pub const RX_RING_OFFSET2: u64 = 112;
    pub const TX_RING_OFFSET: u64 = 116;
    pub const RX_ENTRY: u32 = 24;
    pub const TX_ENTRY: u32 = 64;
}

/// Where the guest's memory begins, and what the driver puts where in it.
const RAM_AT: u64 = 1 << 20;
const RAM_BYTES: u64 = 1 << 20;
const AREA: u64 = 0x1000;
const RX_BUFFERS: u64 = 0x1_0000;
const TX_BUFFERS: u64 = 0x8_0000;
const BUFFER: u32 = 1536;

/// One guest with the driver.
struct Guest {
    client: Client,
    ram: File,
    line: Event,
    rx_buffers: u32,
    tx_buffers: u32,
    pending: u32,
}

impl Guest {
    fn open(daemon: &Daemon, slot: &str) -> Guest {
        let path = daemon.socket(slot);
        let mut client = daemon.eventually("the slot is offered", || Client::new(&path).ok());
        let ram = File::from(memfd::create_unsealed("guest", RAM_BYTES).unwrap());
        client.dma_map(0, RAM_AT, RAM_BYTES, ram.as_raw_fd()).unwrap();
        let line = Event::new().unwrap();
        let trigger = line.try_clone().unwrap().into_fd();
        client.set_irqs(0, TRIGGER, 0, 1, &[trigger.as_fd().as_raw_fd()]).unwrap();
        Guest { client, ram, line, rx_buffers: 0, tx_buffers: 0, pending: 0 }
    }

    fn inw(&mut self, port: u64) -> u16 {
        let mut bytes = [0; 2];
        self.client.region_read(0, port, &mut bytes).unwrap();
        u16::from_le_bytes(bytes)
    }

    fn inl(&mut self, port: u64) -> u32 {
        let mut bytes = [0; 4];
        self.client.region_read(0, port, &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    }

    fn outw(&mut self, port: u64, value: u16) {
        self.client.region_write(0, port, &value.to_le_bytes()).unwrap();
    }

    fn outl(&mut self, port: u64, value: u32) {
        self.client.region_write(0, port, &value.to_le_bytes()).unwrap();
    }

    fn ask(&mut self, command: u32) -> u32 {
        self.outl(COMMAND_ADDR, command);
        self.inl(COMMAND_ADDR)
    }

    fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.ram.read_exact_at(&mut bytes, AREA + at).unwrap();
        u32::from_le_bytes(bytes)
    }

    fn set_word(&self, at: u64, value: u32) {
        self.ram.write_all_at(&value.to_le_bytes(), AREA + at).unwrap();
    }

    fn half(&self, at: u64) -> u16 {
        let mut bytes = [0; 2];
        self.ram.read_exact_at(&mut bytes, AREA + at).unwrap();
        u16::from_le_bytes(bytes)
    }

    fn set_half(&self, at: u64, value: u16) {
        self.ram.write_all_at(&value.to_le_bytes(), AREA + at).unwrap();
    }

    fn rx_entry(&self, index: u32) -> u64 {
        u64::from(self.word(area::RX_RING_OFFSET) + index * area::RX_ENTRY)
    }

    fn tx_entry(&self, index: u32) -> u64 {
        u64::from(self.word(area::TX_RING_OFFSET) + index * area::TX_ENTRY)
    }

    /// vmxnet_morph_device.
    fn morph(&mut self) {
        assert_eq!(self.inw(MORPH), LANCE_CHIP);
        self.outw(MORPH, VMXNET_CHIP);
        assert_eq!(self.inw(MORPH), VMXNET_CHIP);
    }

    fn unmorph(&mut self) {
        assert_eq!(self.inw(MORPH), VMXNET_CHIP);
        self.outw(MORPH, LANCE_CHIP);
        assert_eq!(self.inw(MORPH), LANCE_CHIP);
    }

    /// vmxnet_probe_device: gives the address that the adapter has.
    fn probe(&mut self) -> [u8; 6] {
        let mut word = [0; 4];
        self.client.region_read(CONFIG, 0, &mut word).unwrap();
        assert_eq!(u32::from_le_bytes(word), 0x2000_1022);
        // The I/O space has to be large enough for both.
        self.client.region_write(CONFIG, 0x10, &[0xff; 4]).unwrap();
        self.client.region_read(CONFIG, 0x10, &mut word).unwrap();
        assert!(!(u32::from_le_bytes(word) & !3) + 1 >= 0x20 + 4 + 0x40);
        self.client.region_write(CONFIG, COMMAND, &ENABLE.to_le_bytes()).unwrap();

        self.morph();
        assert_eq!(self.inl(LOW_VERSION) & 0xffff_0000, MAGIC & 0xffff_0000);
        assert!(self.inl(LOW_VERSION) <= MAGIC && MAGIC <= self.inl(HIGH_VERSION));
        let features = self.ask(GET_FEATURES);
        let capabilities = self.ask(GET_CAPABILITIES);
        assert_eq!((features, capabilities & CAP_VMXNET_APROM), (0, CAP_VMXNET_APROM));
        self.rx_buffers = self.ask(GET_NUM_RX_BUFFERS);
        self.tx_buffers = self.ask(GET_NUM_TX_BUFFERS);
        assert!((1..=128).contains(&self.rx_buffers) && (1..=128).contains(&self.tx_buffers));
        let mut mac = [0; 6];
        for (byte, at) in mac.iter_mut().zip(0..) {
            let mut one = [0];
            self.client.region_read(0, APROM + at, &mut one).unwrap();
            *byte = one[0];
            self.client.region_write(0, MAC_ADDR + at, &one).unwrap();
        }
        // The timer that looks at the link.
        assert_eq!(self.inl(STATUS) & 1, 1);
        mac
    }

    /// vmxnet_init_ring, vmxnet_open and vmxnet_set_multicast_list.
    fn up(&mut self) {
        let rx_offset = area::BYTES;
        let dummy = rx_offset + self.rx_buffers * area::RX_ENTRY;
        let tx_offset = dummy + area::RX_ENTRY;
        let bytes = tx_offset + self.tx_buffers * area::TX_ENTRY;
        self.ram.write_all_at(&vec![0; bytes as usize], AREA).unwrap();
        for (at, value) in [
            (0, MAGIC),
            (area::LENGTH, bytes),
            (area::RX_RING_LENGTH, self.rx_buffers),
            (area::RX_RING_OFFSET, rx_offset),
            (area::RX_RING_LENGTH2, 1),
            (area::RX_RING_OFFSET2, dummy),
            (area::TX_RING_LENGTH, self.tx_buffers),
            (area::TX_RING_OFFSET, tx_offset),
        ] {
            self.set_word(at, value);
        }
        for index in 0..self.rx_buffers {
            self.post(index);
        }
        self.pending = 0;
        self.outl(INIT_ADDR, (RAM_AT + AREA) as u32);
        self.outl(INIT_LENGTH, bytes);
        assert_eq!(self.inl(INIT_LENGTH), bytes);
        // All bits but promiscuous, broadcast and multicast; then broadcast, and no groups.
        self.set_word(area::IFFLAGS, !7 | 2);
        self.outl(COMMAND_ADDR, UPDATE_LADRF);
        self.outl(COMMAND_ADDR, UPDATE_IFF);
    }

    fn post(&self, index: u32) {
        let entry = self.rx_entry(index);
        let buffer = RAM_AT + RX_BUFFERS + u64::from(index * BUFFER);
        self.ram.write_all_at(&buffer.to_le_bytes(), AREA + entry).unwrap();
        self.set_word(entry + 8, BUFFER);
        self.set_word(entry + 12, 0);
        self.set_half(entry + 16, OWNER_NIC);
    }

    /// vmxnet_tx, without the features for more than one piece.
    fn send(&mut self, frame: &[u8]) {
        assert!(self.pending < self.tx_buffers, "the ring is full");
        let next = self.word(area::TX_DRIVER_NEXT);
        let entry = self.tx_entry(next);
        assert_eq!(self.half(entry + 2), OWNER_DRIVER);
        let buffer = TX_BUFFERS + u64::from(next * BUFFER);
        self.ram.write_all_at(frame, buffer).unwrap();
        self.set_half(entry + 14, 1);
        self.set_word(entry + 16, (RAM_AT + buffer) as u32);
        self.set_word(entry + 20, (frame.len() as u32) << 16);
        self.set_half(entry, CAN_KEEP);
        self.set_half(entry + 2, OWNER_NIC);
        self.set_word(area::TX_DRIVER_NEXT, (next + 1) % self.tx_buffers);
        self.pending += 1;
        assert_eq!(self.inl(TX_ADDR), 0);
    }

    /// check_tx_queue.
    fn reap(&mut self) {
        while self.pending > 0 {
            let current = self.word(area::TX_DRIVER_CUR);
            if self.half(self.tx_entry(current) + 2) != OWNER_DRIVER {
                break;
            }
            self.pending -= 1;
            self.set_word(area::TX_DRIVER_CUR, (current + 1) % self.tx_buffers);
        }
    }

    /// vmxnet_interrupt: acknowledges, and gives the frames that are there.
    fn interrupt(&mut self) -> Vec<Vec<u8>> {
        self.outl(COMMAND_ADDR, INTR_ACK);
        let mut frames = Vec::new();
        loop {
            let next = self.word(area::RX_DRIVER_NEXT);
            let entry = self.rx_entry(next);
            if self.half(entry + 16) != OWNER_DRIVER {
                break;
            }
            let mut frame = vec![0; self.word(entry + 12) as usize];
            self.ram.read_exact_at(&mut frame, RX_BUFFERS + u64::from(next * BUFFER)).unwrap();
            frames.push(frame);
            self.post(next);
            self.set_word(area::RX_DRIVER_NEXT, (next + 1) % self.rx_buffers);
        }
        self.reap();
        self.client.set_irqs(0, UNMASK, 0, 1, &[]).unwrap();
        frames
    }

    /// Frames that come with the next interrupts.
    fn receive(&mut self, daemon: &Daemon) -> Vec<Vec<u8>> {
        daemon.eventually("an interrupt brings a frame", || {
            let rung = self.line.clear();
            rung.then(|| self.interrupt()).filter(|frames| !frames.is_empty())
        })
    }

    /// vmxnet_close.
    fn down(&mut self, daemon: &Daemon) {
        daemon.eventually("all that was sent is back", || {
            self.outl(COMMAND_ADDR, CHECK_TX_DONE);
            self.reap();
            (self.pending == 0).then_some(())
        });
        self.outl(INIT_ADDR, 0);
    }
}

/// A frame with a number, and bytes that follow from it.
fn frame_of(to: [u8; 6], from: [u8; 6], number: u32, len: usize) -> Vec<u8> {
    let mut bytes = [&to[..], &from[..], &[0x88, 0xb5], &number.to_le_bytes()].concat();
    bytes.extend((bytes.len()..len).map(|at| (at as u32).wrapping_mul(7).wrapping_add(number) as u8));
    bytes
}

fn number_of(frame: &[u8]) -> u32 {
    u32::from_le_bytes(frame[14..18].try_into().unwrap())
}

#[test]
fn vmware_s_driver_turns_it_over_and_talks() {
    let daemon = Daemon::start(SITE);
    let [mut one, mut other] = ["web1.nic0", "web2.nic0"].map(|slot| Guest::open(&daemon, slot));
    assert_eq!(daemon.status()["slots"]["web1.nic0"]["model"], "flexible");
    let (one_mac, other_mac) = (one.probe(), other.probe());
    assert_eq!((one_mac, other_mac), ([0, 0x50, 0x56, 0, 0, 1], [0, 0x50, 0x56, 0, 0, 2]));
    // Twice up and down: the second time as after ifdown, and after the driver's reload.
    for round in 0..2 {
        one.up();
        other.up();
        assert_eq!(one.inl(STATUS), 3);
        // Round the rings, which have no more than 128.
        for number in 0..150 {
            let len = 60 + (number as usize * 97) % 1455;
            let there = frame_of(other_mac, one_mac, number, len);
            one.send(&there);
            assert_eq!(other.receive(&daemon), [there], "frame {number} of round {round}");
            let back = frame_of(one_mac, other_mac, !number, len);
            other.send(&back);
            assert_eq!(one.receive(&daemon), [back], "frame {number} of round {round}");
        }
        // Broadcasts are heard; groups and others' frames are not.
        for (to, number) in [([1, 0, 0x5e, 0, 0, 1], 1), ([0, 0x50, 0x56, 0, 0, 9], 2), ([0xff; 6], 3)] {
            one.send(&frame_of(to, one_mac, number, 60));
        }
        let heard: Vec<u32> = other.receive(&daemon).iter().map(|frame| number_of(frame)).collect();
        assert_eq!(heard, [3]);
        one.down(&daemon);
        other.down(&daemon);
        assert_eq!(one.inl(STATUS), 1);
        // The driver leaves, and a driver of the vlance finds its chip (CSR88, CSR89) as after power on.
        one.unmorph();
        one.outw(0x12, 88);
        assert_eq!(one.inw(0x10), 0x1003);
        one.morph();
    }
    assert_eq!(daemon.status()["worker"]["restarts"], 0);
}

/// The worker is killed while the drivers talk: a frame may be lost then, none comes damaged, and
/// rings and interrupts go on.
#[test]
fn it_stays_vmxnet_when_the_worker_is_killed() {
    const KILLS: u32 = 5;
    let daemon = Daemon::start(SITE);
    let [mut one, mut other] = ["web1.nic0", "web2.nic0"].map(|slot| Guest::open(&daemon, slot));
    let (one_mac, other_mac) = (one.probe(), other.probe());
    one.up();
    other.up();
    let mut number = 0;
    for _ in 0..KILLS {
        for _ in 0..20 {
            one.send(&frame_of(other_mac, one_mac, number, 600));
            number += 1;
        }
        daemon.replace_worker(Signal::KILL);
        assert_eq!(one.inw(MORPH), VMXNET_CHIP);
        let last = number;
        number += 1;
        // Sent after the kill, it has to come; what comes before it has to be whole.
        one.send(&frame_of(other_mac, one_mac, last, 600));
        daemon.eventually("the frame sent last comes", || {
            let rung = other.line.clear();
            let frames = if rung { other.interrupt() } else { Vec::new() };
            for frame in &frames {
                assert_eq!(*frame, frame_of(other_mac, one_mac, number_of(frame), 600));
            }
            frames.iter().any(|frame| number_of(frame) == last).then_some(())
        });
        one.interrupt();
    }
    one.down(&daemon);
    other.down(&daemon);
    assert!(daemon.status()["worker"]["restarts"].as_u64().unwrap() >= u64::from(KILLS));
}
