//! Guests with a NIC each, on one network.

use std::collections::{BTreeMap, BTreeSet};

use bench::driver::queue::{Buffer, Queue};
use bench::driver::ram::{Area, Ram};
use request::Mac;

use crate::dice::Dice;
use crate::frame;
use crate::rude;

const SEND_DEPTH: u16 = 8;
const RECEIVE_DEPTH: u16 = 24;
const SEND_BYTES: usize = 24 << 10;
const RECEIVE_BYTES: usize = 2048;

/// virtio-net feature bits (virtio 1.2, 5.1.3) that the guests choose from.
pub const VERSION_1: u64 = 1 << 32;
const CSUM: u64 = 1 << 0;
const GUEST_CSUM: u64 = 1 << 1;
const GUEST_TSO4: u64 = 1 << 7;
const HOST_TSO4: u64 = 1 << 11;
const MRG_RXBUF: u64 = 1 << 15;

/// A NIC with every offload, and one with none but sending.
pub const RICH: u64 = VERSION_1 | CSUM | GUEST_CSUM | GUEST_TSO4 | HOST_TSO4 | MRG_RXBUF;
pub const POOR: u64 = VERSION_1 | CSUM | HOST_TSO4 | MRG_RXBUF;

/// The id of frames that are to go nowhere.
const RUDE: u32 = 0;

/// What becomes of frames, told from both ends.
#[derive(Default)]
pub struct Traffic {
    next_id: u32,
    sent: BTreeMap<u32, Sent>,
    /// Payload bytes by frame and receiver.
    received: BTreeMap<(u32, usize), BTreeMap<usize, usize>>,
    pub repeated: Vec<String>,
    pub wrong: Vec<String>,
    /// Parts that came again after a crash: a frame that was delivered and whose sender was not told.
    pub again_after_crash: u64,
    /// Frames to somebody else.
    pub overheard: u64,
    /// Frames that no driver may send.
    pub rude: u64,
}

struct Sent {
    payload: usize,
    receivers: Vec<usize>,
    /// A worker died while the frame was on its way.
    crashed: bool,
    ended: bool,
}

/// Sums over a finished scenario.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub frames: u64,
    pub copies: u64,
    pub complete: u64,
    /// Not or not wholly received: dropped under a name, lost with a worker, or neither.
    pub dropped: u64,
    pub lost_with_worker: u64,
    pub vanished: u64,
    pub unended: u64,
}

impl Traffic {
    /// The worker died: frames on their way may be lost, or come twice.
    pub fn crash(&mut self) {
        for sent in self.sent.values_mut().filter(|sent| !sent.ended) {
            sent.crashed = true;
        }
    }

    /// `dropped`: the frames of which a copy at least ended under a name.
    pub fn sums(&self, dropped: &BTreeSet<u32>) -> Sums {
        let mut sums = Sums::default();
        for (id, sent) in &self.sent {
            sums.frames += 1;
            sums.unended += u64::from(!sent.ended);
            for receiver in &sent.receivers {
                sums.copies += 1;
                let parts = self.received.get(&(*id, *receiver));
                let bytes: usize = parts.map_or(0, |parts| parts.values().sum());
                if bytes == sent.payload {
                    sums.complete += 1;
                } else if sent.crashed {
                    sums.lost_with_worker += 1;
                } else if dropped.contains(id) {
                    sums.dropped += 1;
                } else {
                    sums.vanished += 1;
                }
            }
        }
        sums
    }
}

pub struct NetGuest {
    pub mac: Mac,
    number: usize,
    features: u64,
    pub receive: Queue,
    pub transmit: Queue,
    send: Vec<Area>,
    receive_areas: Vec<Area>,
    sending: BTreeMap<u16, u32>,
    /// Buffers of a frame that has more to come.
    merging: (Vec<u8>, u16),
}

impl NetGuest {
    pub fn new(number: usize, features: u64, receive: Queue, transmit: Queue, ram: &mut Ram) -> Self {
        let mut areas = |count: u16, bytes: usize| -> Vec<Area> {
            (0..count).map(|_| ram.allocate(bytes, 64).expect("room for buffers")).collect()
        };
        let send = areas(SEND_DEPTH, SEND_BYTES);
        let receive_areas = areas(RECEIVE_DEPTH, RECEIVE_BYTES);
        let mut this = Self {
            mac: mac_of(number),
            number,
            features,
            receive,
            transmit,
            send,
            receive_areas,
            sending: BTreeMap::new(),
            merging: (Vec::new(), 0),
        };
        (0..RECEIVE_DEPTH).for_each(|token| this.post(token));
        this.receive.publish();
        this
    }

    fn post(&mut self, token: u16) {
        let address = self.receive_areas[usize::from(token)].address();
        assert!(self.receive.add(token, &[Buffer::writable(address, RECEIVE_BYTES as u32)]));
    }

    pub fn outstanding(&self) -> usize {
        self.sending.len()
    }

    /// Sends a few frames to others, or to everybody.
    pub fn ask(&mut self, traffic: &mut Traffic, guests: usize, dice: &mut Dice) {
        for _ in 0..dice.below(3) {
            let Some(token) = (0..SEND_DEPTH).find(|token| !self.sending.contains_key(token)) else { break };
            let others: Vec<usize> = (0..guests).filter(|other| *other != self.number).collect();
            let everybody = dice.one_in(5);
            let receivers = if everybody { others } else { vec![others[dice.index(others.len())]] };
            let to = if everybody { Mac::BROADCAST } else { mac_of(receivers[0]) };
            if dice.one_in(10) {
                self.be_rude(token, traffic, mac_of(receivers[0]), dice);
                continue;
            }
            traffic.next_id += 1;
            let id = traffic.next_id;
            let (bytes, payload) = match dice.below(4) {
                0 => {
                    let payload = 1 + dice.below(1400) as usize;
                    (frame::tcp(id, to, self.mac, payload, 0), payload)
                }
                1 => {
                    let payload = 1500 + dice.below(18_000) as usize;
                    (frame::tcp(id, to, self.mac, payload, 1000 + dice.below(460) as u16), payload)
                }
                _ => {
                    let payload = 38 + dice.below(1400) as usize;
                    (frame::plain(id, to, self.mac, payload), payload)
                }
            };
            let area = &self.send[usize::from(token)];
            area.write_bytes(0, &bytes);
            let border = 1 + dice.below(bytes.len() as u64 - 1) as u32;
            let chain = [
                Buffer::readable(area.address(), border),
                Buffer::readable(area.address() + u64::from(border), bytes.len() as u32 - border),
            ];
            if !self.transmit.add(token, &chain) {
                break;
            }
            self.sending.insert(token, id);
            traffic.sent.insert(id, Sent { payload, receivers, crashed: false, ended: false });
        }
        self.transmit.publish();
    }

    fn be_rude(&mut self, token: u16, traffic: &mut Traffic, to: Mac, dice: &mut Dice) {
        let (bytes, times) = rude::frame(to, self.mac, dice);
        let area = &self.send[usize::from(token)];
        area.write_bytes(0, &bytes);
        let chain = vec![Buffer::readable(area.address(), bytes.len() as u32); times];
        if self.transmit.add(token, &chain) {
            self.sending.insert(token, RUDE);
            traffic.rude += 1;
        }
    }

    /// Takes what was sent and what came.
    pub fn take(&mut self, traffic: &mut Traffic) {
        loop {
            match self.transmit.pop() {
                Ok(Some(used)) => {
                    let id = self.sending.remove(&used.token);
                    if id == Some(RUDE) {
                        continue;
                    }
                    match id.and_then(|id| traffic.sent.get_mut(&id)) {
                        Some(sent) => sent.ended = true,
                        None => {
                            traffic.wrong.push(format!("transmit {} ended twice", used.token));
                            return;
                        }
                    }
                }
                Ok(None) => break,
                Err(violation) => return traffic.wrong.push(format!("transmit ring: {violation}")),
            }
        }
        loop {
            match self.receive.pop() {
                Ok(Some(used)) => {
                    self.received(used.token, used.written, traffic);
                    self.post(used.token);
                }
                Ok(None) => break,
                Err(violation) => return traffic.wrong.push(format!("receive ring: {violation}")),
            }
        }
        self.receive.publish();
    }

    fn received(&mut self, token: u16, written: u32, traffic: &mut Traffic) {
        let mut bytes = vec![0; written as usize];
        self.receive_areas[usize::from(token)].read_bytes(0, &mut bytes);
        if self.merging.1 == 0 {
            if bytes.len() < frame::HEADER {
                traffic.wrong.push("a received frame without header".to_owned());
                return;
            }
            self.merging = (bytes, 0);
            self.merging.1 = u16::from_le_bytes([self.merging.0[10], self.merging.0[11]]);
            if self.merging.1 == 0 {
                traffic.wrong.push("num_buffers is 0".to_owned());
                return;
            }
        } else {
            self.merging.0.extend(bytes);
        }
        self.merging.1 -= 1;
        if self.merging.1 > 0 {
            return;
        }
        let bytes = std::mem::take(&mut self.merging.0);
        let to = bytes.get(frame::HEADER..frame::HEADER + 6).unwrap_or(&[0; 6]);
        if to[0] & 1 == 0 && to != self.mac.0 {
            // The switch has not learned yet where this one belongs: everybody hears it.
            traffic.overheard += 1;
            return;
        }
        let (checksums, segments) = (self.features & GUEST_CSUM != 0, self.features & GUEST_TSO4 != 0);
        match frame::check(&bytes, self.mac, checksums, segments) {
            Err(what) => traffic.wrong.push(format!("guest {}: {what}", self.number)),
            Ok(part) => {
                let crashed = traffic.sent.get(&part.id).is_some_and(|sent| sent.crashed);
                if !traffic.sent.get(&part.id).is_some_and(|sent| sent.receivers.contains(&self.number)) {
                    traffic.wrong.push(format!("frame {} was not for guest {}", part.id, self.number));
                    return;
                }
                let parts = traffic.received.entry((part.id, self.number)).or_default();
                if parts.insert(part.offset, part.len).is_some() {
                    if crashed {
                        traffic.again_after_crash += 1;
                    } else {
                        traffic.repeated.push(format!("frame {} came twice", part.id));
                    }
                }
            }
        }
    }
}

pub fn mac_of(number: usize) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, number as u8 + 1])
}
