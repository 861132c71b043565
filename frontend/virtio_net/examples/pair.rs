//! What a frame costs on its way from one guest's ring over the switch to another's, in this
//! thread alone: `cargo run --release -p standpipe-virtio-net --example pair [ROUNDS [PAIRS]]`.
//!
//! With many pairs of guests, each turn serves another one, so that rings and buffers are out of
//! the caches.
//!
//! Prints nanoseconds a frame, the best of several rounds, for each stage added to the ones before
//! it. The drivers' own part is two index stores a burst: their rings stand filled.

use guest_memory::{Memory, Window};
use request::{Address, Instant, Mac, Span};
use standpipe_virtio_net::*;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use switch::{PortConfig, PortId, Size, Switch, Verdict, Vid, Vlan};
use virtqueue::{Chain, Order, Pop, Queue, Setup};

const RING: u16 = 256;
const BURST: usize = 32;
const BUFFER: u32 = 2048;

/// Frames of a round: less than a scheduler's slice, so that some rounds are not interrupted.
const FRAMES: usize = 8192;

/// A ring whose driver makes everything available again at once.
struct Ring {
    memory: Arc<Memory>,
    driver: Window,
    queue: Queue,
    avail: u16,
}

impl Ring {
    fn new(len: u32, writable: bool, frame: &[u8]) -> Ring {
        let memory = Memory::anonymous(1 << 20);
        let window = |at, len| memory.window(Address(at), len).unwrap();
        let (desc, driver, device) = (window(0, 4096), window(4096, 1024), window(8192, 4096));
        for index in 0..usize::from(RING) {
            let at = 65_536 + index * BUFFER as usize;
            desc.store_u64(16 * index, at as u64);
            desc.store_u32(16 * index + 8, len);
            desc.store_u16(16 * index + 12, u16::from(writable) << 1);
            driver.store_u16(4 + 2 * index, index as u16);
            memory.write(Span { offset: at as u64, len: frame.len() as u32, region: 0 }, frame).unwrap();
        }
        // No interrupts wanted.
        driver.store_u16(0, 1);
        let setup = Setup {
            size: RING,
            packed: false,
            event_idx: false,
            indirect: false,
            desc,
            driver: driver.clone(),
            device,
            log: None,
            inflight: None,
            order: Order::InOrder,
            base: 0,
            resume: false,
        };
        let queue = Queue::new(setup, &memory).unwrap();
        let mut ring = Ring { memory, driver, queue, avail: 0 };
        ring.refill(RING);
        ring
    }

    fn refill(&mut self, count: u16) {
        self.avail = self.avail.wrapping_add(count);
        self.driver.store_release_u16(2, self.avail);
    }
}

fn mac(last: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, last])
}

fn nic(last: u8) -> Nic {
    let mut nic = Nic::new(Config {
        mac: mac(last),
        mac_changeable: false,
        mtu: None,
        pairs_max: 1,
        link: Link::Up,
        speed: u32::MAX,
    });
    nic.negotiate(OFFERED);
    nic
}

struct Lane {
    from: Ring,
    to: Ring,
    sender: Nic,
    receiver: Nic,
    switch: Switch,
    ports: [PortId; 2],
    chains: Vec<Chain>,
    frames: Vec<Outgoing>,
}

impl Lane {
    fn new(len: usize) -> Lane {
        let mut frame = [mac(2).0, mac(1).0].concat();
        frame.extend([0x08, 0x00, 0x45]);
        frame.resize(len, 0x5a);
        let posted = [&[0; 12], &frame[..]].concat();
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
            from: Ring::new(posted.len() as u32, false, &posted),
            to: Ring::new(BUFFER, true, &[]),
            sender: nic(1),
            receiver: nic(2),
            switch,
            ports,
            chains: (0..BURST).map(|_| Chain::new()).collect(),
            frames: (0..BURST).map(|_| Outgoing::default()).collect(),
        }
    }

    /// One burst, as far as `stage`; gives the number of frames.
    fn turn(&mut self, now: Instant, stage: u32) -> usize {
        let mut count = 0;
        while count < BURST {
            if self.from.queue.pop(&self.from.memory, &mut self.chains[count]) != Pop::Chain {
                break;
            }
            count += 1;
        }
        if stage >= 2 {
            for (chain, frame) in self.chains.iter_mut().zip(&mut self.frames).take(count) {
                self.sender.next_frame(&self.from.memory, chain, frame).unwrap();
            }
        }
        let mut delivered = 0;
        for (chain, frame) in self.chains.iter().zip(&self.frames).take(count) {
            if stage >= 3 {
                let size = Size::whole(frame.len);
                let verdict = self.switch.forward(now, self.ports[0], frame.header(), size);
                let Verdict::To(port, rewrite) = verdict else { panic!("{verdict:?}") };
                if stage >= 4 {
                    let frame = frame.frame(&self.from.memory, chain);
                    let (queue, memory) = (&mut self.to.queue, &self.to.memory);
                    self.receiver.deliver(queue, memory, &frame, rewrite).unwrap();
                    delivered += 1;
                    self.switch.delivered(port, size);
                }
                black_box(rewrite);
            }
            self.from.queue.push(&self.from.memory, chain.head, 0);
        }
        self.from.queue.publish(&self.from.memory);
        self.from.refill(count as u16);
        if delivered > 0 {
            self.to.queue.publish(&self.to.memory);
            self.to.refill(delivered);
        }
        count
    }
}

fn main() {
    let argument =
        |at, default| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rounds, pairs) = (argument(1, 1000u32), argument(2, 1u32).max(1));
    for len in [60usize, 64, 128, 512, 1514] {
        let mut best = [f64::MAX; 4];
        let mut lanes: Vec<Lane> = (0..pairs).map(|_| Lane::new(len)).collect();
        let count = lanes.len();
        let mut next = 0;
        for round in 0..rounds * 4 {
            let stage = round % 4 + 1;
            let start = std::time::Instant::now();
            let mut frames = 0;
            while frames < FRAMES {
                // The clock is read once a turn, as a lane does.
                let now = Instant::from_nanos(start.elapsed().as_nanos() as u64 + 1);
                frames += lanes[next].turn(now, stage);
                next = (next + 1) % count;
            }
            let nanos = start.elapsed().as_nanos() as f64 / frames as f64;
            best[stage as usize - 1] = best[stage as usize - 1].min(nanos);
        }
        println!(
            "pairs={pairs} frame_bytes={len} ring_ns={:.1} with_header_ns={:.1} with_switch_ns={:.1} all_ns={:.1}",
            best[0], best[1], best[2], best[3]
        );
    }
}
