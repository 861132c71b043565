//! From transmit descriptors to a frame (8254x SDM, 3.3 to 3.5; 82574 datasheet, 7.2).

use alloc::vec::Vec;

use frame::{Drop, FRAME_MAX, HEADER_MAX, Posted};
use guest_memory::{Memory, Window};
use request::{Address, CHECKSUM_NONE, FrameFacts, Gso, Rewrite, Span};

use crate::checksum::Sum;
use crate::ring::{DD, MARK, Ring};

/// Descriptors that one frame may take. Linux needs 60 for 64 KiB in pieces of a page at most.
const DESCRIPTORS_MAX: u32 = 256;

/// Bytes that are copied out of any frame, as the paravirtual NIC does.
const PEEK: u32 = 64;

// Commands, in bits 31:24 of the third word (3.3.3.1, 3.3.6, 3.3.7).
const EOP: u8 = 1 << 0;
const IFCS: u8 = 1 << 1;
/// Legacy: insert checksum. Data and context: segmentation.
const IC: u8 = 1 << 2;
const RS: u8 = 1 << 3;
const DEXT: u8 = 1 << 5;
const VLE: u8 = 1 << 6;
const IDE: u8 = 1 << 7;

// Options of a data descriptor.
const IXSM: u8 = 1 << 0;
const TXSM: u8 = 1 << 1;

// Commands of a context descriptor that share bits with the others.
const CONTEXT_TCP: u8 = 1 << 0;
const CONTEXT_IP4: u8 = 1 << 1;

/// Where the contexts lie in the hot window: two places of two contexts, by turns.
const CONTEXT_BYTES: usize = 16;
pub const CONTEXTS_BYTES: usize = 4 * CONTEXT_BYTES;

/// A context descriptor, as it came (3.3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Context([u64; 2]);

impl Context {
    fn byte(self, at: usize) -> u16 {
        (self.0[at / 8] >> (at % 8 * 8)) as u8 as u16
    }

    fn word(self, at: usize) -> u16 {
        (self.0[at / 8] >> (at % 8 * 8)) as u16
    }

    fn command(self) -> u8 {
        self.byte(11) as u8
    }
}

/// What a transmit queue did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Frame,
    Dropped(Drop),
    Empty,
    /// The ring is not in the guest's memory.
    NoRing,
}

/// What of the device's registers matters here.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// CTRL.VME: the device inserts tags where descriptors say so.
    pub vlan: bool,
    /// VET.
    pub tag_type: u16,
}

/// What `publish` found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    /// Descriptors were done.
    pub any: bool,
    /// One of them is to be reported at once.
    pub report: bool,
    /// One of them is to be reported, by the delay timer.
    pub report_later: bool,
    /// None is left.
    pub empty: bool,
}

#[derive(Debug)]
pub struct Transmit {
    pub ring: Ring,
    hot: Window,
    contexts_at: usize,
    /// For checksums, and for segmentation.
    contexts: [Context; 2],
    contexts_changed: bool,
    /// Indexes of descriptors that ask for a report, taken and not published.
    reports: Vec<u16>,
    report_now: bool,
    /// The descriptors up to the tail are not a whole frame, or the ring is not in memory: there is
    /// nothing to come back for until that changes.
    stuck: bool,
    /// The rest of a frame that is too long is to be passed over.
    skipping: bool,
    hint: u32,
}

/// What one look along the descriptors gathers.
#[derive(Default)]
struct Walk {
    bytes: u64,
    wanted: u32,
    started: bool,
    extended: bool,
    options: u8,
    segments: bool,
    /// Legacy: checksum start and place.
    legacy: Option<(u16, u16)>,
    tag: Option<u16>,
    bad_memory: bool,
}

impl Transmit {
    pub fn new(hot: Window, ring_at: usize, contexts_at: usize) -> Transmit {
        Transmit {
            ring: Ring::new(hot.clone(), ring_at),
            hot,
            contexts_at,
            contexts: [Context::default(); 2],
            contexts_changed: false,
            reports: Vec::new(),
            report_now: false,
            stuck: false,
            skipping: false,
            hint: 0,
        }
    }

    pub fn reset(&mut self) {
        self.ring.reset();
        self.contexts = [Context::default(); 2];
        self.forget();
    }

    /// What was taken and not published is as if it had not been.
    pub fn forget(&mut self) {
        self.reports.clear();
        self.report_now = false;
        self.stuck = false;
        self.skipping = false;
    }

    pub fn configure(&mut self, base: u64, bytes: u32) {
        self.ring.configure(base, bytes, 16);
        self.forget();
    }

    pub fn set_head(&mut self, head: u16) {
        self.ring.set_head(head);
        self.forget();
    }

    pub fn set_tail(&mut self, tail: u16) {
        self.ring.set_tail(tail);
        self.stuck = false;
    }

    pub fn memory_changed(&mut self) {
        self.ring.forget_window();
        self.stuck = false;
    }

    #[inline]
    pub fn waiting(&self) -> bool {
        !self.stuck && self.ring.available() > 0
    }

    /// Takes the next frame.
    pub fn take(&mut self, memory: &Memory, settings: Settings, posted: &mut Posted) -> Step {
        posted.rest.clear();
        posted.header_len = 0;
        posted.facts = FrameFacts::default();
        let mut left = self.ring.available();
        if left == 0 {
            return Step::Empty;
        }
        if !self.ring.look(memory) {
            self.stuck = true;
            return Step::NoRing;
        }
        let reports = self.reports.len();
        let mut at = self.ring.next;
        let mut walk = Walk::default();
        let mut descriptors = 0;
        while left > 0 {
            let descriptor = self.ring.load(at);
            let index = at;
            at = self.ring.following(at);
            left -= 1;
            let lower = descriptor[1] as u32;
            let command = (lower >> 24) as u8;
            let extended = command & DEXT != 0;
            if command & RS != 0 {
                self.reports.push(index);
                self.report_now |= command & IDE == 0;
            }
            if extended && lower >> 20 & 0xf == 0 {
                let which = usize::from(command & IC != 0);
                if self.contexts[which].0 != descriptor {
                    self.contexts[which] = Context(descriptor);
                    self.contexts_changed = true;
                }
                if !walk.started {
                    self.ring.next = at;
                }
                continue;
            }
            if self.skipping {
                self.ring.next = at;
                self.skipping = command & EOP == 0;
                continue;
            }
            self.gather(memory, descriptor, extended, settings, &mut walk, posted);
            descriptors += 1;
            if command & EOP != 0 {
                self.ring.next = at;
                return self.end(memory, command, settings, &walk, posted);
            }
            if descriptors == DESCRIPTORS_MAX {
                self.ring.next = at;
                self.skipping = true;
                return Step::Dropped(Drop::TooLong);
            }
        }
        if walk.started {
            // Nothing of it was taken: its reports are not due.
            while self.reports.len() > reports
                && self.reports.last().is_some_and(|index| self.is_ahead(*index))
            {
                self.reports.pop();
            }
            self.stuck = true;
        }
        Step::Empty
    }

    /// Is an index between `next` and the tail?
    fn is_ahead(&self, index: u16) -> bool {
        let (next, tail) = (self.ring.next, self.ring.tail());
        if next <= tail { (next..tail).contains(&index) } else { index >= next || index < tail }
    }

    /// Adds a descriptor's buffer to the frame.
    #[inline]
    fn gather(
        &mut self,
        memory: &Memory,
        descriptor: [u64; 2],
        extended: bool,
        settings: Settings,
        walk: &mut Walk,
        posted: &mut Posted,
    ) {
        let [address, flags] = descriptor;
        let command = (flags >> 24) as u8;
        let len = if extended { flags as u32 & 0xf_ffff } else { flags as u32 & 0xffff };
        if !walk.started {
            walk.started = true;
            walk.extended = extended;
            walk.wanted = PEEK;
            if extended {
                walk.options = (flags >> 40) as u8;
                walk.segments = command & IC != 0;
            } else if command & IC != 0 {
                walk.legacy = Some(((flags >> 40) as u8 as u16, (flags >> 16) as u8 as u16));
            }
            if walk.options & (IXSM | TXSM) != 0 || walk.segments || walk.legacy.is_some() {
                // Room for a tag is left: a frame's header is no longer than this with it.
                walk.wanted = HEADER_MAX as u32 - 4;
            }
        }
        if command & VLE != 0 && settings.vlan {
            walk.tag = Some((flags >> 48) as u16);
        }
        walk.bytes += u64::from(len);
        // What is too long is dropped; its spans are of no use.
        if len == 0 || walk.bad_memory || walk.bytes > u64::from(FRAME_MAX) + 4 {
            return;
        }
        if let Some(span) = memory.locate(Address(address), len, &mut self.hint) {
            walk.bad_memory = !add(memory, span, walk, posted);
            return;
        }
        // It straddles two regions, or is nowhere.
        let (mut address, mut left) = (address, len);
        while left > 0 {
            let part = memory.contiguous(Address(address)).min(u64::from(left)) as u32;
            match memory.locate(Address(address), part, &mut self.hint) {
                Some(span) if part > 0 => walk.bad_memory |= !add(memory, span, walk, posted),
                _ => {
                    walk.bad_memory = true;
                    return;
                }
            }
            address = address.wrapping_add(u64::from(part));
            left -= part;
        }
    }

    /// All descriptors of a frame are there.
    #[inline]
    fn end(
        &self,
        memory: &Memory,
        command: u8,
        settings: Settings,
        walk: &Walk,
        posted: &mut Posted,
    ) -> Step {
        if walk.bytes > u64::from(FRAME_MAX) + 4 {
            return Step::Dropped(Drop::TooLong);
        }
        if walk.bad_memory {
            return Step::Dropped(Drop::BadMemory);
        }
        posted.len = walk.bytes as u32;
        if command & IFCS == 0 && !trim(posted, 4) {
            return Step::Dropped(Drop::Runt);
        }
        if posted.len < 14 {
            return Step::Dropped(Drop::Runt);
        }
        if posted.len > FRAME_MAX {
            return Step::Dropped(Drop::TooLong);
        }
        if walk.wanted > PEEK && self.offload(memory, walk, posted).is_none() {
            return Step::Dropped(Drop::BadHeader);
        }
        if let Some(tag) = walk.tag {
            insert(posted, settings.tag_type, tag);
        }
        Step::Frame
    }

    /// What the driver left to the device: into facts, or done here if facts cannot say it.
    fn offload(&self, memory: &Memory, walk: &Walk, posted: &mut Posted) -> Option<()> {
        if let Some((start, place)) = walk.legacy {
            return checksum(memory, posted, start, place, 0);
        }
        let context = self.contexts[usize::from(walk.segments)];
        if walk.segments {
            self.segmentation(context, posted)?;
        }
        if walk.options & TXSM != 0 || walk.segments {
            let (start, place, end) = (context.byte(4), context.byte(5), context.word(6));
            checksum(memory, posted, start, place, if walk.segments { 0 } else { end })?;
        }
        if walk.options & IXSM != 0 {
            // The IP header's checksum: it lies in what was copied out, so it is finished here.
            let (start, place, end) =
                (usize::from(context.byte(0)), usize::from(context.byte(1)), usize::from(context.word(2)));
            let header = posted.raw.get_mut(..posted.header_len)?;
            header.get_mut(place..place + 2)?.fill(0);
            let end = if end == 0 { header.len() } else { end + 1 };
            let mut sum = Sum::default();
            sum.add(header.get(start..end)?);
            header.get_mut(place..place + 2)?.copy_from_slice(&sum.finished().to_be_bytes());
        }
        Some(())
    }

    /// A frame to be segmented: lengths that the driver left out are put in, as whoever receives it
    /// whole expects them (3.5.6 to 3.5.9).
    fn segmentation(&self, context: Context, posted: &mut Posted) -> Option<()> {
        let (ip, transport) = (usize::from(context.byte(0)), usize::from(context.byte(4)));
        let place = usize::from(context.byte(5));
        let (header, mss) = (u32::from(context.byte(13)), context.word(14));
        let (v4, tcp) = (context.command() & CONTEXT_IP4 != 0, context.command() & CONTEXT_TCP != 0);
        if mss == 0 || header > posted.header_len as u32 || transport >= header as usize || ip >= transport {
            return None;
        }
        let bytes = posted.raw.get_mut(..posted.header_len)?;
        if v4 {
            let total = u16::try_from(posted.len - ip as u32).ok()?;
            bytes.get_mut(ip + 2..ip + 4)?.copy_from_slice(&total.to_be_bytes());
        } else {
            let payload = u16::try_from((posted.len - ip as u32).checked_sub(40)?).ok()?;
            bytes.get_mut(ip + 4..ip + 6)?.copy_from_slice(&payload.to_be_bytes());
        }
        let len = posted.len - transport as u32;
        if !tcp {
            let len = u16::try_from(len).ok()?;
            bytes.get_mut(transport + 4..transport + 6)?.copy_from_slice(&len.to_be_bytes());
        }
        // The pseudo header's sum lacks the length (3.5.8): it differs from segment to segment.
        let field = bytes.get_mut(place..place + 2)?;
        let mut sum = Sum::default();
        sum.add(field);
        sum.add_number(len);
        field.copy_from_slice(&sum.folded().to_be_bytes());
        if posted.len - header > u32::from(mss) {
            posted.facts.gso = match (tcp, v4) {
                (true, true) => Gso::TcpV4,
                (true, false) => Gso::TcpV6,
                (false, _) => Gso::UdpL4,
            };
            posted.facts.segment = mss;
            posted.facts.header = header as u16;
            // CWR.
            posted.facts.ecn = tcp && bytes.get(transport + 13).is_some_and(|flags| flags & 0x80 != 0);
        }
        Some(())
    }

    /// Shows the driver what was taken, as `ring` says.
    pub fn publish(&mut self, memory: &Memory) -> Published {
        // What cannot be shown now is kept for later.
        if self.ring.next == self.ring.head() || !self.ring.look(memory) {
            return Published::default();
        }
        let any = !self.reports.is_empty();
        let done = Published {
            any: true,
            report: any && self.report_now,
            report_later: any && !self.report_now,
            empty: self.ring.available() == 0,
        };
        let mut place = self.ring.kept_extra();
        if self.contexts_changed {
            place = !place;
            let at = self.contexts_at + if place { 2 * CONTEXT_BYTES } else { 0 };
            for (nth, context) in self.contexts.iter().enumerate() {
                self.hot.store_u64(at + nth * CONTEXT_BYTES, context.0[0]);
                self.hot.store_u64(at + nth * CONTEXT_BYTES + 8, context.0[1]);
            }
            self.contexts_changed = false;
        }
        if any {
            for index in &self.reports {
                self.ring.store_status(*index, MARK);
            }
            self.ring.begin(place);
            for index in &self.reports {
                self.ring.store_status(*index, DD);
                self.ring.mark_dirty(memory, *index);
            }
        }
        self.ring.finish(place);
        self.reports.clear();
        self.report_now = false;
        done
    }

    /// Finishes what a predecessor was showing, and takes up its contexts.
    pub fn resume(&mut self, memory: &Memory) {
        self.forget();
        if let Some(indexes) = self.ring.interrupted() {
            if self.ring.look(memory) {
                for index in indexes {
                    if self.ring.status(index) & (MARK | DD) == MARK {
                        self.ring.store_status(index, DD);
                        self.ring.mark_dirty(memory, index);
                    }
                }
            }
            self.ring.finish(self.ring.kept_extra());
        }
        let at = self.contexts_at + if self.ring.kept_extra() { 2 * CONTEXT_BYTES } else { 0 };
        for (nth, context) in self.contexts.iter_mut().enumerate() {
            *context = Context(self.hot.load_desc(at + nth * CONTEXT_BYTES));
        }
        self.contexts_changed = false;
    }
}

/// Copies what is wanted of a span into the header, and keeps the rest.
#[inline]
fn add(memory: &Memory, span: Span, walk: &Walk, posted: &mut Posted) -> bool {
    let room = walk.wanted - posted.header_len as u32;
    let (now, later) = match span.split_at(room.min(span.len)) {
        Some(parts) => parts,
        None => return false,
    };
    if now.len > 0 {
        let end = posted.header_len + now.len as usize;
        let read = posted.raw.get_mut(posted.header_len..end).and_then(|into| memory.read(now, into));
        if read.is_none() {
            return false;
        }
        posted.header_len = end;
    }
    if later.len > 0 {
        posted.rest.push(later);
    }
    true
}

/// Cuts bytes off a frame's end.
fn trim(posted: &mut Posted, mut count: u32) -> bool {
    if posted.len < count {
        return false;
    }
    posted.len -= count;
    while count > 0 {
        match posted.rest.last_mut() {
            Some(last) if last.len > count => {
                last.len -= count;
                return true;
            }
            Some(last) => {
                count -= last.len;
                posted.rest.pop();
            }
            None => {
                posted.header_len -= count as usize;
                return true;
            }
        }
    }
    true
}

/// A checksum from `start` to `end` (0: the frame's), to be stored at `place`.
fn checksum(memory: &Memory, posted: &mut Posted, start: u16, place: u16, end: u16) -> Option<()> {
    let len = posted.len;
    if u32::from(start) >= len || u32::from(place) + 2 > len {
        return None;
    }
    let to_the_end = end == 0 || u32::from(end) + 1 >= len;
    if let Some(offset) = place.checked_sub(start)
        && to_the_end
    {
        posted.facts.checksum_start = start;
        posted.facts.checksum_offset = offset;
        return Some(());
    }
    // Facts cannot say it: it is done here, and the place must lie in what was copied out.
    if posted.facts.gso != Gso::None {
        return None;
    }
    let (start, place) = (usize::from(start), usize::from(place));
    let end = if to_the_end { len as usize } else { usize::from(end) + 1 };
    let mut sum = Sum::default();
    let header = posted.raw.get(..posted.header_len)?;
    sum.add(header.get(start..end.min(header.len())).unwrap_or(&[]));
    let mut skip = start.saturating_sub(header.len());
    let mut left = end.saturating_sub(header.len().max(start));
    let mut chunk = [0; 256];
    for span in &posted.rest {
        let mut span = *span;
        let skipped = skip.min(span.len as usize);
        skip -= skipped;
        span = span.split_at(skipped as u32)?.1;
        while span.len > 0 && left > 0 {
            let count = (span.len as usize).min(left).min(chunk.len());
            let (now, later) = span.split_at(count as u32)?;
            memory.read(now, &mut chunk[..count])?;
            sum.add(&chunk[..count]);
            left -= count;
            span = later;
        }
    }
    let field = posted.raw.get_mut(..posted.header_len)?.get_mut(place..place + 2)?;
    field.copy_from_slice(&sum.finished().to_be_bytes());
    debug_assert_eq!(posted.facts.checksum_start, CHECKSUM_NONE);
    Some(())
}

/// Puts a tag into the copied header.
fn insert(posted: &mut Posted, kind: u16, tag: u16) {
    let len = posted.header_len;
    // A frame has 14 bytes at least, and `raw` room for a tag behind what is copied at most.
    posted.raw.copy_within(12..len, 16);
    posted.raw[12..14].copy_from_slice(&kind.to_be_bytes());
    posted.raw[14..16].copy_from_slice(&tag.to_be_bytes());
    posted.header_len += 4;
    posted.len += 4;
    posted.facts = posted.facts.after(Rewrite::Insert(tag));
}
