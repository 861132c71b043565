//! A frame on its way to the driver: filters, offloads, tags, queues.

use core::sync::atomic::{Ordering, fence};
use core::time::Duration;

use crate::bits::feature;
use crate::device::Vmxnet3;
use crate::headers::{self, Headers};
use crate::receive::Arriving;
use crate::transmit::Outcome;
use frame::{Body, FRAME_MAX, Frame, HEADER_MAX, Nic, Posted, Refused, Taken};
use guest_memory::Memory;
use request::{CHECKSUM_NONE, Gso, Instant, Mac, Rewrite};

/// Bytes that the headers of an IPv6 frame with two tags and TCP's ports lie in.
const VIEW: usize = 128;

/// What a frame is longer by than the MTU: addresses, type and two tags.
const FRAMING: u64 = 22;

/// MTUs that a device of revision 6 knows.
const MTU_MIN: u32 = 60;
const MTU_MAX: u32 = 9190;

/// Far longer than a store takes to be seen.
const SECOND_LOOK: Duration = Duration::from_micros(50);

/// A header whose tag was changed.
pub struct Scratch {
    header: [u8; HEADER_MAX + 8],
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch { header: [0; HEADER_MAX + 8] }
    }
}

fn tag_of(header: &[u8]) -> Option<u16> {
    match header.get(12..16) {
        Some([0x81, 0x00, high, low]) => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// Headers may reach into the body where only the least of a frame was copied out.
fn headers_of(header: &[u8], body: &Body<'_>) -> Headers {
    if header.len() >= 64 || body.is_empty() {
        return headers::of_frame(header);
    }
    let mut view = [0; VIEW];
    view[..header.len()].copy_from_slice(header);
    let room = &mut view[header.len()..];
    let more = match body {
        Body::Guest(memory, spans) => memory.gather(spans, room),
        Body::Bytes(bytes) => {
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            count
        }
    };
    headers::of_frame(&view[..header.len() + more])
}

impl Vmxnet3 {
    fn has(&self, features: u64) -> bool {
        self.control.features & features == features
    }

    /// A TCP checksum that its sender left undone may go to a driver that coalesces: it is the frame's
    /// end. One that forwards or bridges has coalescing off, and would send the frame on as it is. Of
    /// a UDP checksum that is right, Linux's tunnels conclude the sum of what is within
    /// (skb_checksum_try_convert): it has to be there.
    fn accepts(&self, frame: &Frame<'_>, found: &Headers) -> bool {
        let facts = &frame.facts;
        if facts.checksum_start == CHECKSUM_NONE && facts.gso == Gso::None {
            return true;
        }
        // Completions speak of the outermost headers.
        let outermost = found.is_tcp()
            && facts.checksum_offset == 16
            && usize::from(facts.checksum_start) == found.transport_at;
        outermost
            && self.has(feature::RXCSUM | feature::LRO)
            && match facts.gso {
                Gso::None => true,
                Gso::TcpV4 | Gso::TcpV6 => facts.segment != 0,
                Gso::Udp | Gso::UdpL4 => false,
            }
    }

    fn try_deliver(
        &mut self,
        memory: &Memory,
        frame: &Frame<'_>,
        rewrite: Rewrite,
        scratch: &mut Scratch,
    ) -> Result<u32, Refused> {
        if self.receive.is_empty() {
            return Err(Refused::NoBuffer);
        }
        if frame.header.len() > HEADER_MAX || frame.header.len() < 14 {
            return Err(Refused::Malformed);
        }
        let mut facts = frame.facts;
        // Where the header is in `scratch`, if it was changed.
        let mut changed = None;
        if rewrite != Rewrite::Keep {
            if !matches!(rewrite, Rewrite::Insert(_)) && tag_of(frame.header).is_none() {
                return Err(Refused::Malformed);
            }
            let len = rewrite.apply(frame.header, &mut scratch.header[4..]).ok_or(Refused::Malformed)?;
            changed = Some(4..4 + len);
            facts = facts.after(rewrite);
        }
        let header = changed.clone().map_or(frame.header, |range| &scratch.header[range]);
        let destination = header.first_chunk::<6>().map(|mac| Mac(*mac)).ok_or(Refused::Malformed)?;
        let mut tag = tag_of(header);
        if !self.control.filter.wants(self.control.mac, destination, tag) {
            return Err(Refused::Filtered);
        }
        if tag.is_some() && self.has(feature::RXVLAN) {
            let len = header.len();
            if changed.is_none() {
                scratch.header[4..4 + len].copy_from_slice(frame.header);
            }
            // The addresses move up to what is behind the tag.
            scratch.header.copy_within(4..16, 8);
            changed = Some(8..4 + len);
            facts = facts.after(Rewrite::Strip);
        } else {
            tag = None;
        }
        let header = changed.map_or(frame.header, |range| &scratch.header[range]);
        let found = headers_of(header, &frame.body);
        let seen = Frame { header, body: frame.body, facts };
        if !self.accepts(&seen, &found) {
            return Err(Refused::Offload);
        }
        let len = seen.len();
        let (pieces_max, mtu) = match &self.control.setup {
            Some(setup) => (setup.rx_pieces, setup.mtu),
            None => return Err(Refused::NoBuffer),
        };
        let large = facts.gso != Gso::None;
        if len > u64::from(FRAME_MAX) {
            return Err(Refused::BufferTooSmall);
        }
        if !large && (MTU_MIN..=MTU_MAX).contains(&mtu) && len > u64::from(mtu) + FRAMING {
            return Err(Refused::BufferTooSmall);
        }
        let queues = self.receive.len();
        let (queue, rss, hash) = self.control.rss.steer(header, &found, queues);
        let segment = if large { facts.segment } else { 0 };
        let checksum = (self.has(feature::RXCSUM)
            && (facts.checksum_start != CHECKSUM_NONE || facts.checksum_valid))
            .then_some(true);
        let arriving = Arriving {
            header,
            body: frame.body,
            tag,
            headers: found,
            checksum,
            segment,
            segments: segments(header, &found, len, segment),
            coalesced: large && self.control.revision >= 2,
            rss,
            hash,
            pieces_max: if large && pieces_max != 0 { pieces_max.into() } else { usize::MAX },
        };
        let target = self.receive.get_mut(queue).ok_or(Refused::NoBuffer)?;
        if target.is_full() {
            // The next `publish` tells of them.
            target.flush(memory);
            self.hot.set_receive(queue, target.places());
        }
        let done = target.deliver(memory, &arriving);
        if done == Err(Refused::Broken) && target.error != 0 {
            let error = target.error;
            let told = self.control.errors.get(self.transmit.len() + queue).copied().unwrap_or(0);
            if told == 0 {
                self.stopped(false, queue, error);
            }
        }
        done
    }
}

/// How many frames a large one was or would have been.
fn segments(header: &[u8], found: &Headers, len: u64, segment: u16) -> u64 {
    if segment == 0 {
        return 1;
    }
    let words = header.get(found.transport_at + 12).map_or(5, |byte| byte >> 4);
    let headers = found.transport_at as u64 + u64::from(words) * 4;
    len.saturating_sub(headers).div_ceil(u64::from(segment)).max(1)
}

impl Nic for Vmxnet3 {
    fn waiting(&self) -> u32 {
        self.transmit
            .iter()
            .enumerate()
            .fold(0, |bits, (index, queue)| bits | u32::from(queue.is_waiting()) << index)
    }

    fn transmit(&mut self, memory: &Memory, queue: u16, posted: &mut Posted) -> Taken {
        let index = usize::from(queue);
        let revision = self.control.revision;
        let Some(ring) = self.transmit.get_mut(index) else { return Taken::Empty };
        if ring.is_full() {
            ring.flush(memory);
            self.hot.set_transmit(index, ring.places());
        }
        match ring.take(memory, posted, revision) {
            Outcome::Frame => {
                let counters = &mut self.counters;
                counters.transmitted_frames = counters.transmitted_frames.wrapping_add(1);
                counters.transmitted_bytes = counters.transmitted_bytes.wrapping_add(u64::from(posted.len));
                Taken::Frame
            }
            Outcome::Dropped(drop) => {
                let count = &mut self.counters.drops[drop as usize];
                *count = count.wrapping_add(1);
                Taken::Dropped
            }
            Outcome::Empty => Taken::Empty,
            Outcome::Stopped => {
                let error = ring.error;
                self.stopped(true, index, error);
                Taken::Empty
            }
        }
    }

    fn can_take(&self, frame: &Frame<'_>) -> bool {
        let facts = &frame.facts;
        if facts.checksum_start == CHECKSUM_NONE && facts.gso == Gso::None {
            return true;
        }
        self.accepts(frame, &headers_of(frame.header, &frame.body))
    }

    fn deliver(&mut self, memory: &Memory, frame: &Frame<'_>, rewrite: Rewrite) -> Result<u32, Refused> {
        // Always there but during this call.
        let Some(mut scratch) = self.scratch.take() else { return Err(Refused::Broken) };
        let done = self.try_deliver(memory, frame, rewrite, &mut scratch);
        self.scratch = Some(scratch);
        match done {
            Ok(bytes) => {
                let counters = &mut self.counters;
                counters.received_frames = counters.received_frames.wrapping_add(1);
                counters.received_bytes = counters.received_bytes.wrapping_add(u64::from(bytes));
            }
            Err(refused) => {
                let count = &mut self.counters.refused[refused as usize];
                *count = count.wrapping_add(1);
            }
        }
        done
    }

    fn publish(&mut self, now: Instant, memory: &Memory) {
        self.publish_all(now, memory);
    }

    /// The threshold of deferred frames is what switches doorbells. A driver has no barrier between a
    /// descriptor's generation bit and its look at the threshold, so that its store may be on its way
    /// while we look: hence a second look a little later.
    fn set_doorbells(&mut self, now: Instant, memory: &Memory, wanted: bool) {
        if self.doorbells == wanted || self.transmit.is_empty() {
            return;
        }
        self.doorbells = wanted;
        self.store_thresholds(memory);
        fence(Ordering::SeqCst);
        self.look_again = wanted.then(|| now.after(SECOND_LOOK));
    }

    fn set_link(&mut self, _now: Instant, up: bool, mbps: u32) {
        if (self.control.link_up, self.control.link_mbps) == (up, mbps) {
            return;
        }
        (self.control.link_up, self.control.link_mbps) = (up, mbps);
        self.dirty = true;
        self.raise_event(crate::bits::event::LINK);
    }
}
