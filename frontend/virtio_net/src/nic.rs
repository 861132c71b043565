use crate::config::{CONFIG_BYTES, Config};
use crate::control::{self, Effect};
use crate::features::{Features, bit};
use crate::filter;
use crate::header::can_take;
use crate::receive::Scratch;
use crate::transmit::Outgoing;
use crate::v1::State;
use frame::{Drop, Frame, Refused};
use guest_memory::Memory;
use request::{Gso, Rewrite};
use virtqueue::{Chain, Queue};

/// What happened at the NIC, seen from the guest: it transmits what others receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub transmitted_frames: u64,
    pub transmitted_bytes: u64,
    pub received_frames: u64,
    pub received_bytes: u64,
    /// Buffers that those took.
    pub received_buffers: u64,
    pub drops: [u64; Drop::COUNT],
    pub refused: [u64; Refused::COUNT],
    pub commands: u64,
    pub commands_refused: u64,
}

/// One NIC: what its driver negotiated and set, and the room that its frames pass through.
pub struct Nic {
    config: Config,
    features: Features,
    state: State,
    counters: Counters,
    scratch: Scratch,
}

impl Nic {
    /// As it is after a reset, before its driver comes.
    pub fn new(config: Config) -> Nic {
        let features = Features(0);
        let state = State::reset(config.mac, features);
        Nic { config, features, state, counters: Counters::default(), scratch: Scratch::new() }
    }

    /// The driver accepted these features. Everything begins anew if they differ from before: a
    /// client repeats SET_FEATURES to switch the dirty log on, while the driver goes on.
    pub fn negotiate(&mut self, features: u64) {
        let accepted = Features(features & self.config.offered()).consistent();
        if accepted != self.features {
            self.features = accepted;
            self.state = State::reset(self.config.mac, accepted);
        }
    }

    /// Goes on where a predecessor stopped.
    pub fn resume(&mut self, features: u64, state: State) {
        self.negotiate(features);
        let pairs = state.pairs.clamp(1, self.config.pairs_max.max(1));
        self.state = State { pairs, ..state };
    }

    /// The device is reset: no driver is there.
    pub fn reset(&mut self) {
        self.features = Features(0);
        self.state = State::reset(self.config.mac, self.features);
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Link, MTU and the like change while the driver runs. `true`: what it reads has changed, and
    /// it is to be told by a configuration interrupt.
    pub fn change(&mut self, config: Config) -> bool {
        let before = self.config_space();
        // An address that the driver did not set itself is the new one.
        if self.state.mac == self.config.mac {
            self.state.mac = config.mac;
        }
        self.config = config;
        before != self.config_space()
    }

    pub fn config_space(&self) -> [u8; CONFIG_BYTES] {
        self.config.space(&self.state)
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Does the driver have VIRTIO_NET_F_GUEST_ANNOUNCE, so that `announce` is of use?
    pub fn can_announce(&self) -> bool {
        self.features.has(bit::GUEST_ANNOUNCE)
    }

    /// Asks the driver to tell the network where it is. A configuration interrupt has to follow.
    pub fn announce(&mut self) {
        self.state.announce = self.can_announce();
    }

    /// Ring pairs in use, by the control queue or by `set_pairs`.
    pub fn pairs(&self) -> u16 {
        self.state.pairs
    }

    /// Ring pairs in use, as the client's SET_VRING_ENABLE says where the control queue is not
    /// ours.
    pub fn set_pairs(&mut self, pairs: u16) {
        self.state.pairs = pairs.clamp(1, self.config.pairs_max.max(1));
    }

    /// The virtqueue of the control queue: behind all the pairs that the device has (5.1.2), if the
    /// driver knows of more than one. `None` where it is not ours: QEMU, which keeps it to itself,
    /// leaves out CTRL_VQ and has the receive queue of the second pair at number 2.
    pub fn control_queue(&self) -> Option<u16> {
        if !self.features.has(bit::CTRL_VQ) {
            return None;
        }
        Some(if self.features.has(bit::MQ) { self.config.pairs_max.saturating_mul(2) } else { 2 })
    }

    /// Reads a chain of a transmit queue. Whatever comes of it, the chain is to be given back with
    /// a length of 0 once the frame was delivered or dropped.
    #[inline]
    pub fn next_frame(
        &mut self,
        memory: &Memory,
        chain: &mut Chain,
        outgoing: &mut Outgoing,
    ) -> Result<(), Drop> {
        match outgoing.take(memory, chain, self.features) {
            Ok(()) => {
                self.counters.transmitted_frames = self.counters.transmitted_frames.wrapping_add(1);
                self.counters.transmitted_bytes =
                    self.counters.transmitted_bytes.wrapping_add(u64::from(outgoing.len));
                Ok(())
            }
            Err(drop) => {
                self.counters.drops[drop as usize] = self.counters.drops[drop as usize].wrapping_add(1);
                Err(drop)
            }
        }
    }

    /// Can the driver take the frame with what its sender left undone? If not, `deliver` refuses
    /// it.
    #[inline]
    pub fn can_take(&self, frame: &Frame<'_>) -> bool {
        let v6 = frame.facts.gso == Gso::UdpL4 && is_v6(frame.header);
        can_take(self.features, &frame.facts, v6)
    }

    /// Puts a frame into a receive queue's buffers and stages them; gives the frame's bytes. The
    /// caller publishes, once for many.
    #[inline]
    pub fn deliver(
        &mut self,
        queue: &mut Queue,
        memory: &Memory,
        frame: &Frame<'_>,
        rewrite: Rewrite,
    ) -> Result<u32, Refused> {
        let done = self.try_deliver(queue, memory, frame, rewrite);
        match done {
            Ok((bytes, buffers)) => {
                let counters = &mut self.counters;
                counters.received_frames = counters.received_frames.wrapping_add(1);
                counters.received_bytes = counters.received_bytes.wrapping_add(u64::from(bytes));
                counters.received_buffers = counters.received_buffers.wrapping_add(u64::from(buffers));
                Ok(bytes)
            }
            Err(refused) => {
                let count = &mut self.counters.refused[refused as usize];
                *count = count.wrapping_add(1);
                Err(refused)
            }
        }
    }

    #[inline]
    fn try_deliver(
        &mut self,
        queue: &mut Queue,
        memory: &Memory,
        frame: &Frame<'_>,
        rewrite: Rewrite,
    ) -> Result<(u32, u32), Refused> {
        if !self.state.promiscuous && !self.wants(frame.header, rewrite) {
            return Err(Refused::Filtered);
        }
        if !self.can_take(frame) {
            return Err(Refused::Offload);
        }
        self.scratch.deliver(self.features, queue, memory, frame, rewrite)
    }

    #[cold]
    fn wants(&self, header: &[u8], rewrite: Rewrite) -> bool {
        // The tag that the guest would see decides.
        let mut seen = [0; 22];
        let header = &header[..header.len().min(18)];
        rewrite.apply(header, &mut seen).is_some_and(|len| filter::wants(&self.state, &seen[..len]))
    }

    /// Carries out a chain of the control queue; gives the bytes written and what was changed. The
    /// caller keeps `state` in the ledger before it publishes.
    pub fn control(&mut self, memory: &Memory, chain: &mut Chain) -> (u32, Effect) {
        let (written, done, effect) = control::execute(memory, chain, &mut self.state, &self.config);
        let count = if done { &mut self.counters.commands } else { &mut self.counters.commands_refused };
        *count = count.wrapping_add(1);
        (written, effect)
    }
}

/// IPv6, behind at most two tags.
fn is_v6(header: &[u8]) -> bool {
    let mut at = 12;
    for _ in 0..2 {
        if matches!(header.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00])) {
            at += 4;
        }
    }
    header.get(at..at + 2) == Some(&[0x86, 0xdd])
}
