//! The switch and the NICs' way through it, as a lane joins them.

use std::time::Duration;

use guest_memory::Memory;
use offload::{Plan, Sum, measure};
use request::{FrameFacts, Instant, Mac, Rewrite};
use switch::{PortConfig, PortId, Reason, Size, Switch, Verdict, Vid, Vlan};
use virtio_net::{Body, Config, Frame, Link, Nic, Outgoing, Refused};
use virtqueue::{Chain, Pop};

use crate::dice::Dice;
use crate::frame;
use crate::slot::Slot;
use crate::worker::{Device, Ends, Kind};

pub const RECEIVE: usize = 0;
pub const TRANSMIT: usize = 1;
pub const MTU: u16 = 1500;

pub struct Network {
    switch: Switch,
    /// The device behind each port, by the port's index.
    behind: Vec<usize>,
    ports: Vec<(usize, PortId)>,
    chain: Chain,
    outgoing: Outgoing,
    /// See `Sabotage::CorruptFrame`.
    corrupts: bool,
    frames: u64,
}

impl Network {
    pub fn new(corrupts: bool, dice: &mut Dice) -> Self {
        let config = switch::Config {
            entries_max: 64,
            ports_max: 16,
            ageing: Duration::from_secs(300),
            seed: dice.seed(),
        };
        Self {
            switch: Switch::new(config),
            behind: Vec::new(),
            ports: Vec::new(),
            chain: Chain::new(),
            outgoing: Outgoing::default(),
            corrupts,
            frames: 0,
        }
    }

    pub fn attach(&mut self, device: usize, mac: Mac, features: u64) -> Nic {
        let mut nic = Nic::new(Config {
            mac,
            mac_changeable: true,
            mtu: Some(MTU),
            pairs_max: 1,
            link: Link::Up,
            speed: u32::MAX,
        });
        nic.negotiate(features);
        let port = PortConfig {
            vlan: Vlan::Access(Vid::FIRST),
            mac: None,
            spoof_check: false,
            mtu: u32::from(MTU),
            storm: None,
            entries_max: 16,
        };
        let port = self.switch.add_port(port).expect("a free port");
        self.behind.resize(port.index() + 1, usize::MAX);
        self.behind[port.index()] = device;
        self.ports.push((device, port));
        nic
    }

    pub fn age(&mut self, now: Instant) {
        self.switch.age(now);
    }

    /// Frames of one NIC's transmit queue.
    pub fn transmit(
        &mut self,
        index: usize,
        slots: &[Slot],
        devices: &mut [Device],
        now: Instant,
        burst: usize,
        ends: &mut Ends,
    ) {
        let Some(&(_, port)) = self.ports.iter().find(|(device, _)| *device == index) else { return };
        let memory = &slots[index].memory;
        let (before, rest) = devices.split_at_mut(index);
        let Some((sender, after)) = rest.split_first_mut() else { return };
        let Device { queues, kind: Kind::Net(nic) } = sender else { return };
        let queue = &mut queues[TRANSMIT];
        for _ in 0..burst {
            match queue.pop(memory, &mut self.chain) {
                Pop::Chain => {}
                // A broken queue is counted when it is published.
                Pop::Empty | Pop::Broken(_) => break,
            }
            let head = self.chain.head;
            match nic.next_frame(memory, &mut self.chain, &mut self.outgoing) {
                Err(drop) => ends.count("net drop", drop.name()),
                Ok(()) => {
                    let (chain, outgoing) = (std::mem::take(&mut self.chain), self.outgoing.clone());
                    let frame = outgoing.frame(memory, &chain);
                    match measure(frame.header, &frame.facts, outgoing.len) {
                        Err(_) => ends.count("net drop", "malformed"),
                        Ok(measure) => {
                            self.frames += 1;
                            if self.corrupts && self.frames.is_multiple_of(16) {
                                corrupt(memory, &frame);
                            }
                            let size = Size {
                                bytes: outgoing.len,
                                segments: measure.segments,
                                largest: measure.largest,
                            };
                            let passing = Passing { frame, len: outgoing.len, size };
                            self.forward(port, &passing, slots, before, after, now, ends);
                        }
                    }
                    self.chain = chain;
                }
            }
            queue.push(memory, head, 0);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a lane that a frame meets")]
    fn forward(
        &mut self,
        port: PortId,
        passing: &Passing<'_>,
        slots: &[Slot],
        before: &mut [Device],
        after: &mut [Device],
        now: Instant,
        ends: &mut Ends,
    ) {
        match self.switch.forward(now, port, passing.frame.header, passing.size) {
            Verdict::Drop(reason) => {
                ends.count("net entry", reason.name());
                ends.dropped.extend(frame::id_of(passing.frame.header));
            }
            Verdict::To(to, rewrite) => {
                ends.count("net switched", "unicast");
                self.deliver(to, rewrite, passing, slots, before, after, ends);
            }
            Verdict::Flood(mut flood) => {
                ends.count("net switched", "flooded");
                while let Some((to, rewrite)) = self.switch.next_target(&mut flood) {
                    self.deliver(to, rewrite, passing, slots, before, after, ends);
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a lane that a frame meets")]
    fn deliver(
        &mut self,
        to: PortId,
        rewrite: Rewrite,
        passing: &Passing<'_>,
        slots: &[Slot],
        before: &mut [Device],
        after: &mut [Device],
        ends: &mut Ends,
    ) {
        let index = self.behind[to.index()];
        // The sender stands between the two lists.
        let device =
            if index < before.len() { &mut before[index] } else { &mut after[index - before.len() - 1] };
        let memory = &slots[index].memory;
        match hand_over(device, memory, passing, rewrite) {
            Ok(()) => {
                self.switch.delivered(to, passing.size);
                ends.count("net exit", "delivered");
            }
            Err(reason) => {
                self.switch.not_delivered(to, reason);
                ends.count("net exit", reason.name());
                ends.dropped.extend(frame::id_of(passing.frame.header));
            }
        }
    }
}

/// Turns over a bit of the last byte of a frame, where it still lies in the sender's memory.
fn corrupt(memory: &Memory, frame: &Frame<'_>) {
    if let Body::Guest(_, spans) = frame.body
        && let Some(last) = spans.last()
        && let Some((_, byte)) = last.split_at(last.len - 1)
    {
        let mut bits = [0];
        let _ = memory.read(byte, &mut bits);
        let _ = memory.write(byte, &[bits[0] ^ 0x10]);
    }
}

struct Passing<'a> {
    frame: Frame<'a>,
    len: u32,
    size: Size,
}

impl Passing<'_> {
    /// A range of the frame's bytes.
    fn bytes(&self, from: u32, to: u32) -> Option<Vec<u8>> {
        let mut all = self.frame.header.to_vec();
        match self.frame.body {
            Body::Bytes(bytes) => all.extend_from_slice(bytes),
            Body::Guest(memory, spans) => {
                let mut rest = vec![0; request::total(spans) as usize];
                if memory.gather(spans, &mut rest) < rest.len() {
                    return None;
                }
                all.extend_from_slice(&rest);
            }
        }
        all.get(from as usize..to as usize).map(<[u8]>::to_vec)
    }
}

fn hand_over(
    device: &mut Device,
    memory: &Memory,
    passing: &Passing<'_>,
    rewrite: Rewrite,
) -> Result<(), Reason> {
    let Device { queues, kind: Kind::Net(nic) } = device else { return Err(Reason::Disabled) };
    let queue = &mut queues[RECEIVE];
    match nic.deliver(queue, memory, &passing.frame, rewrite) {
        Ok(_) => return Ok(()),
        Err(Refused::Offload) => {}
        Err(refused) => return Err(reason_of(refused)),
    }
    let plan =
        Plan::new(passing.frame.header, &passing.frame.facts, passing.len).map_err(|_| Reason::Malformed)?;
    for index in 0..plan.count() {
        let mut segment = plan.segment(index);
        let payload = segment.payload();
        let bytes = passing.bytes(payload.start, payload.end).ok_or(Reason::BadMemory)?;
        if segment.wants_sum() {
            let mut sum = Sum::new();
            sum.add(&bytes);
            segment.complete(sum);
        }
        let frame =
            Frame { header: segment.header(), body: Body::Bytes(&bytes), facts: FrameFacts::default() };
        nic.deliver(queue, memory, &frame, rewrite).map_err(reason_of)?;
    }
    Ok(())
}

fn reason_of(refused: Refused) -> Reason {
    match refused {
        Refused::NoBuffer | Refused::BufferTooSmall => Reason::NoBuffer,
        Refused::Filtered => Reason::Filtered,
        Refused::BadMemory => Reason::BadMemory,
        Refused::Broken => Reason::Disabled,
        Refused::Offload | Refused::Malformed => Reason::Malformed,
    }
}
