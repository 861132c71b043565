//! From a transmit ring to frames that others can judge and deliver.

use crate::bits::{TX_GEN, TxDesc, error};
use crate::offload::{self, Request};
use crate::ring::{Commands, Completions, Position};
use crate::shared::TransmitSetup;
use crate::statistics::{self, Statistics};
use crate::tunnel::Train;
use frame::{Drop, FRAME_MAX, HEADER_MAX, Posted};
use guest_memory::Memory;
use request::{Address, FrameFacts, Rewrite, Span};

/// Descriptors of one frame. Linux says 16 for a frame that is not segmented and, since revision 7, 24
/// for others; before it was what 64 KiB in fragments of a page take.
const PIECES_MAX: usize = 64;

/// Bytes that are copied out of a frame which leaves nothing undone: all of a small one, and of others
/// what is judged.
const SMALL: u32 = 128;
const PEEK: usize = 64;

const ETHERNET_HEADER: u32 = 14;
const TAG: usize = 4;

/// What came of a look at the ring.
pub enum Outcome {
    Frame,
    Dropped(Drop),
    Empty,
    /// The queue is to stand still from now on.
    Stopped,
}

pub struct Transmit {
    pub setup: TransmitSetup,
    ring: Commands,
    done: Completions,
    /// Why it stands still; 0: it does not.
    pub error: u32,
    /// The place in the ring that the hot state has.
    published: Position,
    /// Completions that the driver can see and was not told of.
    shown: usize,
    hint: u32,
    /// What is cut here, and where the ring goes on behind it.
    train: Option<(Train, Ending)>,
    pub statistics: Statistics,
    pub stored: Statistics,
}

/// Where a frame ends in the ring.
#[derive(Clone, Copy)]
struct Ending {
    next: Position,
    completion: Option<u16>,
    tag: Option<u16>,
}

impl Transmit {
    pub fn new(setup: TransmitSetup) -> Transmit {
        Transmit {
            setup,
            ring: Commands::new(setup.ring, TX_GEN),
            done: Completions::new(setup.completions),
            error: 0,
            published: Position::START,
            shown: 0,
            hint: 0,
            train: None,
            statistics: Statistics::default(),
            stored: Statistics::default(),
        }
    }

    pub fn locate(&mut self, memory: &Memory) -> bool {
        self.hint = 0;
        // Its spans are of another memory; it begins anew.
        self.train = None;
        let ring = self.ring.locate(memory);
        self.done.locate(memory) && ring
    }

    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.error == 0 && self.ring.is_ready(self.ring.at)
    }

    /// Has `publish` something to do?
    #[inline]
    pub fn is_dirty(&self) -> bool {
        !self.done.is_empty() || self.ring.at != self.published || self.shown > 0
    }

    /// Is there no room to note that another frame is done?
    #[inline]
    pub fn is_full(&self) -> bool {
        self.done.is_full(1)
    }

    pub fn places(&self) -> [Position; 2] {
        [self.ring.at, self.done.at]
    }

    /// Shows what is done; gives how many completions there are.
    pub fn publish(&mut self, memory: &Memory) -> usize {
        self.flush(memory);
        core::mem::take(&mut self.shown)
    }

    /// Shows the batch when there is no room for more; the frames are told of with the next `publish`.
    pub fn flush(&mut self, memory: &Memory) {
        self.published = self.ring.at;
        self.shown += self.done.publish(memory);
    }

    /// Goes on where a predecessor stopped.
    pub fn recover(&mut self, memory: &Memory, places: [u16; 2]) {
        let size = self.ring.size();
        let mut at = Position::decode(places[0], size);
        self.done.at = Position::decode(places[1], self.done.size());
        self.done.recover(memory, |entry| at = at.behind(entry as u16 & 0xfff, size));
        self.ring.at = at;
        // Stored again with the next completion, or found again by the next successor.
        self.published = at;
    }

    /// Takes the next frame off the ring.
    #[inline]
    pub fn take(&mut self, memory: &Memory, posted: &mut Posted, revision: u8) -> Outcome {
        if self.error != 0 {
            return Outcome::Empty;
        }
        if self.train.is_some() {
            return self.next_of_train(posted);
        }
        let Some((address, control)) = self.ring.entry(self.ring.at) else { return Outcome::Empty };
        let first = TxDesc(control);
        let request = Request::new(first, revision);
        posted.rest.clear();
        posted.header_len = 0;
        posted.facts = FrameFacts::default();
        let wanted = if request != Request::None {
            // A tag that is put in is part of what others get as the header.
            request.wanted().min(HEADER_MAX - if first.tag().is_some() { TAG } else { 0 })
        } else if first.len() <= SMALL {
            SMALL as usize
        } else {
            PEEK
        };

        let (mut at, mut address, mut piece) = (self.ring.at, address, first);
        let mut len = 0u32;
        let mut readable = true;
        let mut count = 0;
        loop {
            if piece.kind() {
                return self.stop(error::DESCRIPTOR_TYPE);
            }
            // PIECES_MAX of 16 KiB.
            len += piece.len();
            readable = readable && self.gather(memory, posted, address, piece.len(), wanted);
            if piece.end_of_packet() {
                break;
            }
            count += 1;
            if count == PIECES_MAX {
                return self.stop(error::BIG_PACKET);
            }
            at = at.next(self.ring.size());
            // A driver makes the first descriptor valid last.
            let Some((next, control)) = self.ring.entry(at) else { return self.stop(error::NO_EOP) };
            (address, piece) = (next, TxDesc(control));
        }
        posted.len = len;
        let ending = Ending {
            next: at.next(self.ring.size()),
            completion: piece.completion_wanted().then_some(at.index),
            tag: first.tag(),
        };
        let done = match request {
            Request::InnerSegmentation { segment, outer_checksum, .. } => {
                match self.begin_train(posted, readable, segment, outer_checksum) {
                    Ok(train) => {
                        self.train = Some((train, ending));
                        return self.next_of_train(posted);
                    }
                    Err(drop) => Err(drop),
                }
            }
            _ => self.finish(posted, request, readable, ending.tag),
        };
        self.end(ending);
        match done {
            Ok(()) => Outcome::Frame,
            Err(drop) => self.dropped(drop),
        }
    }

    /// The descriptors of a frame are used.
    #[inline]
    fn end(&mut self, ending: Ending) {
        self.ring.at = ending.next;
        if let Some(index) = ending.completion {
            self.done.stage([u64::from(index), 0]);
        }
    }

    fn dropped(&mut self, drop: Drop) -> Outcome {
        self.statistics.add(statistics::TX_ERRORS, 1);
        Outcome::Dropped(drop)
    }

    fn begin_train(
        &mut self,
        posted: &mut Posted,
        readable: bool,
        segment: u16,
        outer_checksum: bool,
    ) -> Result<Train, Drop> {
        check(posted, readable)?;
        let train = Train::new(posted, segment, outer_checksum).ok_or(Drop::BadHeader)?;
        let packets = u64::from(train.remaining());
        self.statistics.add(statistics::LARGE_PACKETS, packets);
        self.statistics.add(statistics::LARGE_BYTES, u64::from(posted.len));
        self.statistics.frame(posted.header(), packets, u64::from(posted.len));
        Ok(train)
    }

    /// Its descriptors are used when the last of it is taken.
    #[cold]
    fn next_of_train(&mut self, posted: &mut Posted) -> Outcome {
        let Some((train, ending)) = &mut self.train else { return Outcome::Empty };
        let ending = *ending;
        let last = train.next(posted);
        if last.is_some()
            && let Some(tci) = ending.tag
        {
            insert_tag(posted, tci);
        }
        if last == Some(false) {
            return Outcome::Frame;
        }
        self.train = None;
        self.end(ending);
        if last.is_some() { Outcome::Frame } else { self.dropped(Drop::BadHeader) }
    }

    fn stop(&mut self, reason: u32) -> Outcome {
        self.error = reason;
        Outcome::Stopped
    }

    /// Adds a piece: to the header's copy as long as that wants more, the rest in place.
    #[inline]
    fn gather(
        &mut self,
        memory: &Memory,
        posted: &mut Posted,
        address: Address,
        len: u32,
        wanted: usize,
    ) -> bool {
        if let Some(span) = memory.locate(address, len, &mut self.hint) {
            return add(memory, posted, span, wanted);
        }
        // It straddles two regions, or is not memory.
        let (mut address, mut left) = (address.0, len);
        while left > 0 {
            let now = memory.contiguous(Address(address)).min(u64::from(left)) as u32;
            if now == 0 {
                return false;
            }
            let Some(span) = memory.locate(Address(address), now, &mut self.hint) else { return false };
            if !add(memory, posted, span, wanted) {
                return false;
            }
            address = address.wrapping_add(u64::from(now));
            left -= now;
        }
        true
    }

    /// Judges the frame, and does what it asks for in its header.
    #[inline]
    fn finish(
        &mut self,
        posted: &mut Posted,
        request: Request,
        readable: bool,
        tag: Option<u16>,
    ) -> Result<(), Drop> {
        check(posted, readable)?;
        let mut packets = 1;
        if request != Request::None {
            posted.facts = offload::prepare(request, &mut posted.raw[..posted.header_len], posted.len)
                .ok_or(Drop::BadHeader)?;
            if posted.facts.segment != 0 {
                let payload = u64::from(posted.len.saturating_sub(posted.facts.header.into()));
                packets = payload.div_ceil(u64::from(posted.facts.segment)).max(1);
                self.statistics.add(statistics::LARGE_PACKETS, packets);
                self.statistics.add(statistics::LARGE_BYTES, u64::from(posted.len));
            }
        }
        self.statistics.frame(&posted.raw[..posted.header_len], packets, u64::from(posted.len));
        if let Some(tci) = tag {
            insert_tag(posted, tci);
        }
        Ok(())
    }
}

#[inline]
fn check(posted: &Posted, readable: bool) -> Result<(), Drop> {
    if !readable {
        return Err(Drop::BadMemory);
    }
    if posted.len < ETHERNET_HEADER {
        return Err(Drop::Runt);
    }
    if posted.len > FRAME_MAX {
        return Err(Drop::TooLong);
    }
    Ok(())
}

#[inline]
fn add(memory: &Memory, posted: &mut Posted, span: Span, wanted: usize) -> bool {
    let missing = wanted.saturating_sub(posted.header_len).min(span.len as usize);
    if missing == 0 {
        posted.rest.push(span);
        return true;
    }
    // No more than the span's length.
    let Some((now, later)) = span.split_at(missing as u32) else { return false };
    let Some(room) = posted.raw.get_mut(posted.header_len..posted.header_len + missing) else {
        return false;
    };
    if memory.read(now, room).is_none() {
        return false;
    }
    posted.header_len += missing;
    if later.len > 0 {
        posted.rest.push(later);
    }
    true
}

/// Puts a tag in behind the addresses; there is room for it.
fn insert_tag(posted: &mut Posted, tci: u16) {
    let len = posted.header_len;
    if len < ETHERNET_HEADER as usize || len + TAG > HEADER_MAX {
        return;
    }
    posted.raw.copy_within(12..len, 16);
    posted.raw[12..14].copy_from_slice(&[0x81, 0x00]);
    posted.raw[14..16].copy_from_slice(&tci.to_be_bytes());
    posted.header_len += TAG;
    posted.len += TAG as u32;
    posted.facts = posted.facts.after(Rewrite::Insert(tci));
}
