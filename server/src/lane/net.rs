//! Networks of a lane: a frame's way from a transmit queue, or from an uplink, to its receivers.

use std::os::fd::AsFd;
use std::sync::Arc;

use control::step::{NetworkSpec, Tagging, UplinkSpec};
use guest_memory::Memory;
use offload::{Plan, Sum, measure};
use request::{FrameFacts, Instant, Mac, Rewrite};
use switch::{PortConfig, PortId, Reason, Size, Storm, Switch, Verdict, Vid, Vlan, VlanSet};
use uplink_tap::UplinkTap;
use virtio_net::{Body, Frame, Outgoing, Refused};
use virtqueue::{Chain, Pop};

use super::device::Device;
use super::emulated::blamed_as;
use super::slot::Slot;
use super::{BURST_MAX, Lane};
use crate::blame;

/// Addresses that one network learns, and that one port of it may teach.
pub const ENTRIES_MAX: u32 = 16_384;
pub const PORT_ENTRIES_MAX: u32 = 4096;
pub const PORTS_MAX: u16 = 4096;
/// The speed that drivers are told where no uplink says one.
pub const LINK_MBPS: u32 = 10_000;

/// Where a port's frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Nobody,
    Slot(u32),
    /// An emulated NIC.
    Emulated(u32),
    Uplink(u32),
}

pub struct Network {
    pub spec: NetworkSpec,
    pub switch: Switch,
    /// By the port's index.
    pub targets: Vec<Target>,
    pub names: Vec<String>,
    /// What drivers are told of the link: the uplink's speed, as it was when somebody looked last.
    pub link_mbps: u32,
}

impl Network {
    pub fn set_target(&mut self, port: PortId, target: Target, name: &str) {
        let index = port.index();
        if self.targets.len() <= index {
            self.targets.resize(index + 1, Target::Nobody);
            self.names.resize(index + 1, String::new());
        }
        self.targets[index] = target;
        name.clone_into(&mut self.names[index]);
    }

    pub fn port_config(&self, tagging: &Tagging, mac: Option<Mac>) -> PortConfig {
        PortConfig {
            vlan: vlan(tagging),
            mac,
            spoof_check: false,
            mtu: self.spec.mtu,
            storm: self.spec.flood_limit_pps.map(|frames_per_second| Storm {
                frames_per_second,
                // A tenth of a second's worth at once: ARP and neighbour discovery come in bursts.
                burst: (frames_per_second / 10).max(1),
            }),
            entries_max: PORT_ENTRIES_MAX,
        }
    }
}

fn vlan(tagging: &Tagging) -> Vlan {
    match tagging {
        Tagging::Access(vid) => Vlan::Access(Vid::new(*vid).unwrap_or(Vid::FIRST)),
        Tagging::Trunk { vlans, native } => Vlan::Trunk {
            allowed: vlans.iter().filter_map(|vid| Vid::new(*vid)).collect::<VlanSet>(),
            native: native.and_then(Vid::new),
        },
    }
}

/// An uplink of a network of this lane.
pub struct Uplink {
    pub spec: UplinkSpec,
    /// One for each queue; `None` while the lane is receiving from it.
    pub taps: Vec<Option<UplinkTap>>,
    pub network: u32,
    pub port: PortId,
}

/// All networks of a lane, and room that frames pass through.
#[derive(Default)]
pub struct Networks {
    pub list: Vec<Option<Network>>,
    pub uplinks: Vec<Option<Uplink>>,
    chain: Chain,
    outgoing: Outgoing,
    /// A segment's bytes, when a receiver cannot take what the sender left undone.
    pub(super) segment: Vec<u8>,
}

impl Networks {
    pub fn find(&self, name: &str) -> Option<u32> {
        let same =
            |network: &Option<Network>| network.as_ref().is_some_and(|network| network.spec.name == name);
        self.list.iter().position(same).map(|index| index as u32)
    }

    pub fn get(&mut self, index: u32) -> Option<&mut Network> {
        self.list.get_mut(index as usize)?.as_mut()
    }

    pub fn age(&mut self, now: Instant) {
        for network in self.list.iter_mut().flatten() {
            network.switch.age(now);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.list.iter().flatten().filter_map(|network| network.switch.next_deadline()).min()
    }
}

/// A frame on its way through the lane, wherever its bytes are.
pub(super) struct Passing<'a> {
    pub frame: Frame<'a>,
    len: u32,
    size: Size,
}

impl Passing<'_> {
    /// Copies a range of the frame out.
    fn copy(&self, from: u32, to: u32, into: &mut Vec<u8>) -> bool {
        let at = into.len();
        let want = (to - from) as usize;
        into.resize(at + want, 0);
        let header = self.frame.header;
        let (from, to) = (from as usize, to as usize);
        let of_header = header.get(from..to.min(header.len())).unwrap_or(&[]);
        into[at..at + of_header.len()].copy_from_slice(of_header);
        let rest = &mut into[at + of_header.len()..];
        let skip = (from + of_header.len()).saturating_sub(header.len());
        match self.frame.body {
            Body::Bytes(bytes) => match bytes.get(skip..skip + rest.len()) {
                Some(bytes) => rest.copy_from_slice(bytes),
                None => return false,
            },
            Body::Guest(memory, spans) => {
                let (mut skip, mut done) = (skip as u64, 0);
                for span in spans {
                    if skip >= u64::from(span.len) {
                        skip -= u64::from(span.len);
                        continue;
                    }
                    let Some((_, span)) = span.split_at(skip as u32) else { return false };
                    skip = 0;
                    done += memory.gather(&[span], &mut rest[done..]);
                    if done == rest.len() {
                        break;
                    }
                }
                return done == rest.len();
            }
        }
        true
    }

    /// Does what the sender left undone and the receiver cannot do, then delivers the pieces.
    pub fn finish_and_deliver(
        &self,
        buffer: &mut Vec<u8>,
        mut deliver: impl FnMut(&Frame<'_>) -> Result<u32, Refused>,
    ) -> Result<(), Reason> {
        let plan =
            Plan::new(self.frame.header, &self.frame.facts, self.len).map_err(|_| Reason::Malformed)?;
        let mut any = false;
        for index in 0..plan.count() {
            let mut segment = plan.segment(index);
            let payload = segment.payload();
            buffer.clear();
            if !self.copy(payload.start, payload.end, buffer) {
                return Err(Reason::BadMemory);
            }
            if segment.wants_sum() {
                let mut sum = Sum::new();
                sum.add(buffer);
                segment.complete(sum);
            }
            let frame =
                Frame { header: segment.header(), body: Body::Bytes(buffer), facts: FrameFacts::default() };
            match deliver(&frame) {
                Ok(_) => any = true,
                // The rest is lost as it would be on a wire; what came is of use.
                Err(refused) => return if any { Ok(()) } else { Err(reason_of(refused)) },
            }
        }
        Ok(())
    }
}

pub(super) fn reason_of(refused: Refused) -> Reason {
    match refused {
        Refused::NoBuffer | Refused::BufferTooSmall => Reason::NoBuffer,
        Refused::Filtered => Reason::Filtered,
        Refused::BadMemory => Reason::BadMemory,
        Refused::Broken => Reason::Disabled,
        Refused::Offload | Refused::Malformed => Reason::Malformed,
    }
}

impl Lane {
    /// Frames of one transmit queue, a burst at most.
    pub(super) fn transmit(&mut self, index: u32, ring: u32) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let memory = Arc::clone(&slot.memory);
        let Device::Net(device) = &slot.device else { return };
        let (network, port) = (device.network, device.port);
        // The ring is ours for the burst: a frame's receivers are other slots of the same table.
        let Some(mut queue) = slot.rings[ring as usize].queue.take() else { return };
        let mut chain = std::mem::take(&mut self.networks.chain);
        let mut outgoing = std::mem::take(&mut self.networks.outgoing);
        let mut broken = None;
        let mut taken = 0;
        while taken < BURST_MAX {
            match queue.pop(&memory, &mut chain) {
                Pop::Chain => {}
                Pop::Empty => break,
                Pop::Broken(fault) => {
                    broken = Some(fault);
                    break;
                }
            }
            taken += 1;
            if self.take_frame(index, &memory, &mut chain, &mut outgoing) {
                self.forward(network, port, outgoing.frame(&memory, &chain), outgoing.len);
            }
            queue.push(&memory, chain.head, 0);
        }
        self.networks.chain = chain;
        self.networks.outgoing = outgoing;
        if let Some(Some(slot)) = self.slots.get_mut(index as usize) {
            slot.rings[ring as usize].queue = Some(queue);
            if let Some(fault) = broken {
                slot.ring_broke(ring, fault);
            }
            if taken > 0 {
                Lane::stage(&mut self.staged, slot, ring);
            }
        }
    }

    fn take_frame(
        &mut self,
        index: u32,
        memory: &Memory,
        chain: &mut Chain,
        outgoing: &mut Outgoing,
    ) -> bool {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return false };
        let Device::Net(device) = &mut slot.device else { return false };
        device.nic.next_frame(memory, chain, outgoing).is_ok()
    }

    /// A frame of `len` bytes that a guest sent by one of its ports.
    pub(super) fn forward(&mut self, network: u32, port: PortId, frame: Frame<'_>, len: u32) {
        match measure(frame.header, &frame.facts, len) {
            Ok(measure) => {
                let size = Size { bytes: len, segments: measure.segments, largest: measure.largest };
                self.switch_frame(network, port, &Passing { frame, len, size });
            }
            Err(_) => {
                let target = self.networks.get(network).and_then(|network| network.targets.get(port.index()));
                match target.copied() {
                    Some(Target::Slot(slot)) => {
                        if let Some(Some(slot)) = self.slots.get_mut(slot as usize)
                            && let Device::Net(device) = &mut slot.device
                        {
                            device.malformed += 1;
                        }
                    }
                    Some(Target::Emulated(slot)) => self.emulated.count_malformed(slot),
                    _ => {}
                }
            }
        }
    }

    fn switch_frame(&mut self, index: u32, port: PortId, passing: &Passing<'_>) {
        let now = self.now;
        let Some(network) = self.networks.get(index) else { return };
        match network.switch.forward(now, port, passing.frame.header, passing.size) {
            Verdict::To(to, rewrite) => self.deliver(index, to, passing, rewrite),
            Verdict::Flood(mut flood) => {
                while let Some((to, rewrite)) =
                    self.networks.get(index).and_then(|network| network.switch.next_target(&mut flood))
                {
                    self.deliver(index, to, passing, rewrite);
                }
            }
            Verdict::Drop(_) => {}
        }
    }

    fn deliver(&mut self, index: u32, to: PortId, passing: &Passing<'_>, rewrite: Rewrite) {
        let Some(network) = self.networks.get(index) else { return };
        let target = network.targets.get(to.index()).copied().unwrap_or(Target::Nobody);
        // What goes wrong in the receiver's device is not the sender's doing.
        let result = match target {
            Target::Slot(slot) => {
                let sender = blame::turn_to(slot);
                let result = self.deliver_to_slot(slot, passing, rewrite);
                blame::turn_to(sender);
                result
            }
            Target::Emulated(slot) => {
                let sender = blame::turn_to(blamed_as(slot));
                let result = self.deliver_to_emulated(slot, passing, rewrite);
                blame::turn_to(sender);
                result
            }
            Target::Uplink(uplink) => self.deliver_to_uplink(uplink, passing, rewrite),
            Target::Nobody => Err(Reason::Disabled),
        };
        let Some(network) = self.networks.get(index) else { return };
        match result {
            Ok(()) => network.switch.delivered(to, passing.size),
            Err(reason) => network.switch.not_delivered(to, reason),
        }
    }

    fn deliver_to_slot(&mut self, index: u32, passing: &Passing<'_>, rewrite: Rewrite) -> Result<(), Reason> {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return Err(Reason::Disabled) };
        let slot: &mut Slot = slot;
        let Device::Net(device) = &mut slot.device else { return Err(Reason::Disabled) };
        let pairs = u32::from(device.nic.pairs().max(1));
        let pair = if pairs == 1 { 0 } else { virtio_net::steer(passing.frame.header) % pairs };
        let ring = 2 * pair;
        let served = &mut slot.rings[ring as usize];
        if !served.is_served() {
            return Err(Reason::Disabled);
        }
        let Some(queue) = &mut served.queue else { return Err(Reason::Disabled) };
        let delivered = device.nic.deliver(queue, &slot.memory, &passing.frame, rewrite);
        let delivered = match delivered {
            Ok(_) => Ok(()),
            Err(Refused::Offload) => {
                let mut buffer = std::mem::take(&mut self.networks.segment);
                let done = passing.finish_and_deliver(&mut buffer, |frame| {
                    device.nic.deliver(queue, &slot.memory, frame, rewrite)
                });
                self.networks.segment = buffer;
                done
            }
            Err(refused) => Err(reason_of(refused)),
        };
        if delivered.is_ok() {
            Lane::stage(&mut self.staged, slot, ring);
        } else if let Some(fault) = slot.rings[ring as usize].queue.as_ref().and_then(|queue| queue.fault())
            && !slot.rings[ring as usize].broken
        {
            slot.ring_broke(ring, fault);
        }
        delivered
    }

    fn deliver_to_uplink(
        &mut self,
        index: u32,
        passing: &Passing<'_>,
        rewrite: Rewrite,
    ) -> Result<(), Reason> {
        let Some(Some(uplink)) = self.networks.uplinks.get_mut(index as usize) else {
            return Err(Reason::Disabled);
        };
        let queues = uplink.taps.len();
        let flow = if queues == 1 { 0 } else { virtio_net::steer(passing.frame.header) as usize % queues };
        let Some(Some(tap)) = uplink.taps.get_mut(flow) else { return Err(Reason::Disabled) };
        let (facts, header) = (passing.frame.facts, passing.frame.header);
        let sent = match passing.frame.body {
            Body::Guest(memory, spans) => tap.send(facts, header, memory, spans, rewrite),
            Body::Bytes(bytes) => tap.send_bytes(facts, header, bytes, rewrite),
        };
        sent.map_err(|_| Reason::Uplink)
    }

    /// Frames that came in by an uplink.
    pub(super) fn on_uplink(&mut self, index: u32, queue: u32) {
        let Some(Some(uplink)) = self.networks.uplinks.get_mut(index as usize) else { return };
        let (network, port) = (uplink.network, uplink.port);
        blame::serving(None);
        // The queue is ours for the burst: a frame's receivers are found through the same table.
        let Some(mut tap) = uplink.taps.get_mut(queue as usize).and_then(Option::take) else { return };
        let received = tap.receive(BURST_MAX, &mut |facts, frame| {
            let (header, rest) = frame.split_at(frame.len().min(virtio_net::HEADER_MAX));
            let len = frame.len() as u32;
            if let Ok(measure) = measure(header, &facts, len) {
                let size = Size { bytes: len, segments: measure.segments, largest: measure.largest };
                let frame = Frame { header, body: Body::Bytes(rest), facts };
                self.switch_frame(network, port, &Passing { frame, len, size });
            }
        });
        if let Err(error) = received {
            tracing::error!(%error, "an uplink is gone");
            let _ = self.wait.delete(tap.as_fd());
        }
        if let Some(Some(uplink)) = self.networks.uplinks.get_mut(index as usize)
            && let Some(place) = uplink.taps.get_mut(queue as usize)
        {
            *place = Some(tap);
        }
    }

    /// The guest arrived by live migration and cannot say so itself.
    pub(super) fn announce(&mut self, index: u32, mac: [u8; 6]) {
        let Some(Some(slot)) = self.slots.get(index as usize) else { return };
        let Device::Net(device) = &slot.device else { return };
        let (network, port) = (device.network, device.port);
        self.announce_from(network, port, Mac(mac));
    }

    pub(super) fn announce_from(&mut self, network: u32, port: PortId, mac: Mac) {
        let bytes = frame::rarp(mac);
        let frame = Frame { header: &bytes, body: Body::Bytes(&[]), facts: FrameFacts::default() };
        let len = bytes.len() as u32;
        self.switch_frame(network, port, &Passing { frame, len, size: Size::whole(len) });
    }

    /// Commands of the control queue, where a client passes it to us.
    pub(super) fn nic_control(&mut self, index: u32, ring: u32) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let slot: &mut Slot = slot;
        let Device::Net(device) = &mut slot.device else { return };
        let Some(queue) = &mut slot.rings[ring as usize].queue else { return };
        let mut chain = std::mem::take(&mut self.networks.chain);
        loop {
            match queue.pop(&slot.memory, &mut chain) {
                Pop::Chain => {}
                Pop::Empty => break,
                Pop::Broken(fault) => {
                    slot.ring_broke(ring, fault);
                    break;
                }
            }
            let (written, _) = device.nic.control(&slot.memory, &mut chain);
            // In the ledger before the driver is told that it holds.
            slot.link.ledger.model.save(&device.nic.state().encode());
            queue.push(&slot.memory, chain.head, written);
        }
        self.networks.chain = chain;
        Lane::stage(&mut self.staged, slot, ring);
    }
}
