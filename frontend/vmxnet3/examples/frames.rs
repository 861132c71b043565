//! What a frame costs on its way from one guest's ring over the switch to another's, in this thread
//! alone: `cargo run --release -p standpipe-vmxnet3 --example frames [ROUNDS]`. The counterpart of
//! `pair` in `frontend/virtio_net`. (Tests want crash points in `guest-memory`, and cargo builds an
//! example with the features of tests: each store to a ring looks for one here.)
//!
//! Prints nanoseconds a frame, the best of many rounds, for each stage added to the ones before it.
//! The drivers' part is not in it: they fill their rings while the clock stands.

use frame::{Nic, Posted, Taken};
use guest_memory::{Memory, Window};
use pci::{Bars, IrqMode, Signals};
use request::{Address, Instant, Mac, Span};
use standpipe_vmxnet3::{Config, HOT_BYTES, Vmxnet3};
use std::sync::Arc;
use std::time::Duration;
use switch::{PortConfig, PortId, Size, Switch, Verdict, Vid, Vlan};

const RING: usize = 256;
const BURST: usize = 32;
const BUFFER: usize = 2048;

const SHARED: usize = 0x1000;
const QUEUES: usize = 0x2000;
const TX: usize = 0x1_0000;
const TX_DONE: usize = 0x1_4000;
const RX: usize = 0x2_0000;
const RX_DONE: usize = 0x2_4000;
const RX_DATA: usize = 0x3_0000;
const BUFFERS: usize = 0x10_0000;

fn mac(last: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, last])
}

/// A guest whose driver posts whole rings.
struct Guest {
    memory: Arc<Memory>,
    window: Window,
    nic: Vmxnet3,
    generation: bool,
}

impl Guest {
    fn new(last: u8, frame: &[u8], data_bytes: u16) -> Guest {
        let memory = Memory::anonymous(4 << 20);
        let window = memory.window(Address(0), 4 << 20).unwrap();
        let config = Config { mac: mac(last), ..Config::default() };
        let mut nic = Vmxnet3::new(config, Window::anonymous(HOT_BYTES));
        nic.set_irq_mode(IrqMode::MsiX);
        window.store_u32(SHARED, 3_133_079_265);
        // RXCSUM, RXVLAN and LRO.
        window.store_u64(SHARED + 24, 13);
        window.store_u64(SHARED + 40, QUEUES as u64);
        window.store_u32(SHARED + 52, 512);
        window.store_u32(SHARED + 56, 1500);
        window.store_u16(SHARED + 62, 0x0101);
        for (queue, ring, done) in [(QUEUES, TX, TX_DONE), (QUEUES + 256, RX, RX_DONE)] {
            window.store_u64(queue + 16, ring as u64);
            window.store_u64(queue + 32, done as u64);
            window.store_u32(queue + 56, RING as u32);
            window.store_u32(queue + 64, RING as u32);
        }
        window.store_u64(QUEUES + 256 + 48, RX_DATA as u64);
        window.store_u16(QUEUES + 256 + 74, data_bytes);
        for index in 0..RING {
            let at = BUFFERS + index * BUFFER;
            window.store_u64(TX + 16 * index, at as u64);
            window.store_u32(TX + 16 * index + 12, 1 << 12 | 1 << 13);
            window.store_u64(RX + 16 * index, (at + RING * BUFFER) as u64);
            memory.write(Span { offset: at as u64, len: frame.len() as u32, region: 0 }, frame).unwrap();
        }
        let mut guest = Guest { memory, window, nic, generation: false };
        guest.write(0x00, 1 << 6);
        guest.write(0x10, SHARED as u32);
        guest.write(0x20, 0xcafe_0000);
        guest.window.store_u32(SHARED + 120, 0x05);
        guest.write(0x20, 0xcafe_0003);
        guest
    }

    fn write(&mut self, register: u64, value: u32) {
        self.nic.write(Instant::default(), &self.memory, 1, register, &value.to_le_bytes());
    }

    fn refill(&mut self, len: usize) {
        self.generation = !self.generation;
        let generation = u32::from(self.generation);
        for index in 0..RING {
            self.window.store_u32(TX + 16 * index + 8, len as u32 | generation << 14);
            self.window.store_u32(RX + 16 * index + 8, BUFFER as u32 | generation << 31);
        }
    }
}

struct Lane {
    from: Guest,
    to: Guest,
    switch: Switch,
    ports: [PortId; 2],
    frames: Vec<Posted>,
}

impl Lane {
    fn new(len: usize, data_bytes: u16) -> Lane {
        let mut frame = [mac(2).0, mac(1).0].concat();
        frame.extend([0x08, 0x00, 0x45]);
        frame.resize(len, 0x5a);
        let mut switch = Switch::new(switch::Config {
            entries_max: 4096,
            ports_max: 256,
            ageing: Duration::from_secs(300),
            seed: 7,
        });
        let ports = [1, 2].map(|last| {
            let config = PortConfig {
                vlan: Vlan::Access(Vid::FIRST),
                mac: Some(mac(last)),
                spoof_check: true,
                mtu: 9000,
                storm: None,
                entries_max: 16,
            };
            switch.add_port(config).unwrap()
        });
        Lane {
            from: Guest::new(1, &frame, data_bytes),
            to: Guest::new(2, &[], data_bytes),
            switch,
            ports,
            frames: (0..BURST).map(|_| Posted::default()).collect(),
        }
    }

    fn turn(&mut self, now: Instant, stage: u32) -> usize {
        let mut count = 0;
        while count < BURST
            && self.from.nic.transmit(&self.from.memory, 0, &mut self.frames[count]) == Taken::Frame
        {
            count += 1;
        }
        for posted in &self.frames[..count] {
            if stage >= 2 {
                let size = Size::whole(posted.len);
                let verdict = self.switch.forward(now, self.ports[0], posted.header(), size);
                let Verdict::To(port, rewrite) = verdict else { panic!("{verdict:?}") };
                if stage >= 3 {
                    let frame = posted.frame(&self.from.memory);
                    self.to.nic.deliver(&self.to.memory, &frame, rewrite).unwrap();
                    self.switch.delivered(port, size);
                }
            }
        }
        self.from.nic.publish(now, &self.from.memory);
        if stage >= 3 {
            self.to.nic.publish(now, &self.to.memory);
        }
        count
    }
}

fn main() {
    let rounds: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20_000);
    for (len, data_bytes) in [(60usize, 0u16), (64, 0), (64, 128), (128, 0), (512, 0), (1514, 0)] {
        let mut best = [f64::MAX; 3];
        for stage in 1..=3 {
            let mut lane = Lane::new(len, data_bytes);
            for _ in 0..rounds {
                lane.from.refill(len);
                lane.to.refill(len);
                let start = std::time::Instant::now();
                let mut frames = 0;
                while frames < RING {
                    let now = Instant::from_nanos(start.elapsed().as_nanos() as u64 + 1);
                    frames += lane.turn(now, stage);
                }
                let nanos = start.elapsed().as_nanos() as f64 / frames as f64;
                best[stage as usize - 1] = best[stage as usize - 1].min(nanos);
                if stage < 3 {
                    // Nothing was delivered: the ring is as it was.
                    lane.to.generation = !lane.to.generation;
                }
            }
        }
        println!(
            "frame_bytes={len} data_ring={data_bytes} taken_ns={:.1} with_switch_ns={:.1} all_ns={:.1}",
            best[0], best[1], best[2]
        );
    }
}
