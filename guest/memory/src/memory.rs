use std::sync::Arc;

use host::Buffer;
use host::map::Mapping;
use request::{Address, Span};

use crate::{Log, Window};

/// Regions in one map. vhost-user's memory slots and QEMU's own limit lie below.
pub const REGIONS_MAX: usize = 512;

/// A run of guest-physical addresses and where its bytes are.
#[derive(Clone, Debug)]
pub struct Region {
    /// First guest-physical address.
    pub guest: u64,
    pub len: u64,
    /// The front end's own virtual address of the first byte: vring addresses come as such.
    pub user: u64,
    /// Where the first byte lies within the mapping.
    pub offset: u64,
    pub mapping: Arc<Mapping>,
}

/// Why a memory map is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    TooManyRegions,
    Empty,
    /// An address range wraps around, or exceeds its mapping.
    Range,
    Overlap,
}

/// An immutable snapshot of a guest's memory map.
#[derive(Debug)]
pub struct Memory {
    /// Sorted by guest address.
    regions: Vec<Region>,
    log: Option<Log>,
}

impl Memory {
    /// No memory at all: every address is bad.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self { regions: Vec::new(), log: None })
    }

    pub fn new(mut regions: Vec<Region>, log: Option<Log>) -> Result<Arc<Self>, MapError> {
        if regions.len() > REGIONS_MAX {
            return Err(MapError::TooManyRegions);
        }
        regions.sort_by_key(|region| region.guest);
        let mut free_from = 0;
        for region in &regions {
            if region.len == 0 {
                return Err(MapError::Empty);
            }
            let end = region.guest.checked_add(region.len).ok_or(MapError::Range)?;
            region.user.checked_add(region.len).ok_or(MapError::Range)?;
            let mapped = region.offset.checked_add(region.len).ok_or(MapError::Range)?;
            if mapped > region.mapping.len() as u64 {
                return Err(MapError::Range);
            }
            if region.guest < free_from {
                return Err(MapError::Overlap);
            }
            free_from = end;
        }
        Ok(Arc::new(Self { regions, log }))
    }

    /// Memory of this process alone, at guest and user address 0, for tests and the simulation.
    ///
    /// # Panics
    /// If `len` is zero or the machine has no such memory.
    pub fn anonymous(len: usize) -> Arc<Self> {
        let mapping = Arc::new(Mapping::anonymous(len).expect("memory for a guest"));
        let region = Region { guest: 0, len: len as u64, user: 0, offset: 0, mapping };
        Self::new(vec![region], None).expect("one region")
    }

    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    pub fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// The same memory with another dirty log.
    pub fn with_log(&self, log: Option<Log>) -> Arc<Self> {
        Arc::new(Self { regions: self.regions.clone(), log })
    }

    /// The bytes at a guest's address, if they all lie in one region. `hint` is the region that was
    /// hit last: a queue keeps it, and most look-ups end there.
    #[inline(always)]
    pub fn locate(&self, address: Address, len: u32, hint: &mut u32) -> Option<Span> {
        if let Some(region) = self.regions.get(*hint as usize) {
            let offset = address.0.wrapping_sub(region.guest);
            if offset < region.len && u64::from(len) <= region.len - offset {
                return Some(Span { offset, len, region: *hint });
            }
        }
        self.search(address, len, hint)
    }

    #[cold]
    fn search(&self, address: Address, len: u32, hint: &mut u32) -> Option<Span> {
        let index = self.regions.partition_point(|region| region.guest <= address.0).checked_sub(1)?;
        let region = &self.regions[index];
        let offset = address.0 - region.guest;
        if offset >= region.len || u64::from(len) > region.len - offset {
            return None;
        }
        *hint = index as u32;
        Some(Span { offset, len, region: *hint })
    }

    /// How many bytes from this address on lie in the region that holds it; 0 if none does. For
    /// buffers that straddle two regions.
    pub fn contiguous(&self, address: Address) -> u64 {
        let Some(index) = self.regions.partition_point(|region| region.guest <= address.0).checked_sub(1)
        else {
            return 0;
        };
        let region = &self.regions[index];
        region.len.saturating_sub(address.0 - region.guest)
    }

    /// The guest address of a front end's virtual address.
    pub fn guest_address(&self, user: u64) -> Option<Address> {
        self.regions.iter().find_map(|region| {
            let offset = user.checked_sub(region.user)?;
            (offset < region.len).then_some(Address(region.guest.wrapping_add(offset)))
        })
    }

    #[inline(always)]
    fn pointer(&self, span: Span) -> Option<(*mut u8, usize)> {
        let region = self.regions.get(span.region as usize)?;
        if span.offset > region.len || u64::from(span.len) > region.len - span.offset {
            return None;
        }
        // SAFETY: `new` checked that offset + len of the region lies within its mapping, and the
        // span lies within the region.
        let at = unsafe { region.mapping.as_ptr().add((region.offset + span.offset) as usize) };
        Some((at, span.len as usize))
    }

    /// Copies a span out; `None` if the lengths differ or the span is not of this memory.
    #[inline]
    pub fn read(&self, span: Span, into: &mut [u8]) -> Option<()> {
        let (at, len) = self.pointer(span)?;
        if len != into.len() {
            return None;
        }
        // SAFETY: `at` is valid for `len` bytes while `self` keeps the mapping; `into` is ours.
        // JUSTIFICATION: the guest may write meanwhile; any mixture of bytes is a valid result.
        unsafe { std::ptr::copy_nonoverlapping(at, into.as_mut_ptr(), len) };
        Some(())
    }

    /// Copies into a span; `None` if the lengths differ or the span is not of this memory.
    #[inline]
    pub fn write(&self, span: Span, from: &[u8]) -> Option<()> {
        let (at, len) = self.pointer(span)?;
        if len != from.len() {
            return None;
        }
        // SAFETY: `at` is valid for `len` bytes while `self` keeps the mapping; `from` is ours.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), at, len) };
        self.mark(span);
        Some(())
    }

    /// Copies from the front of a list as much as both hold; returns the number of bytes.
    pub fn gather(&self, spans: &[Span], into: &mut [u8]) -> usize {
        let mut done = 0;
        for span in spans {
            let len = (span.len as usize).min(into.len() - done);
            let part = Span { len: len as u32, ..*span };
            if self.read(part, &mut into[done..done + len]).is_none() {
                break;
            }
            done += len;
            if done == into.len() {
                break;
            }
        }
        done
    }

    /// Copies to the front of a list as much as both hold; returns the number of bytes.
    pub fn scatter(&self, spans: &[Span], from: &[u8]) -> usize {
        let mut done = 0;
        for span in spans {
            let len = (span.len as usize).min(from.len() - done);
            let part = Span { len: len as u32, ..*span };
            if self.write(part, &from[done..done + len]).is_none() {
                break;
            }
            done += len;
            if done == from.len() {
                break;
            }
        }
        done
    }

    /// Fills a span with zeroes.
    pub fn zero(&self, span: Span) -> Option<()> {
        let (at, len) = self.pointer(span)?;
        // SAFETY: `at` is valid for `len` bytes while `self` keeps the mapping.
        unsafe { std::ptr::write_bytes(at, 0, len) };
        self.mark(span);
        Some(())
    }

    /// The one copy of a frame: from this guest's spans into another guest's, as much as both
    /// lists hold. Returns the number of bytes.
    #[inline]
    pub fn copy(&self, from: &[Span], to_memory: &Memory, to: &[Span]) -> u64 {
        // The common case, both sides in one piece, without the bookkeeping of the general one.
        if let ([from], [to]) = (from, to) {
            let len = from.len.min(to.len);
            return to_memory.copy_span(Span { len, ..*to }, self, Span { len, ..*from }).unwrap_or(0);
        }
        let mut done = 0;
        let (mut sources, mut targets) = (from.iter().copied(), to.iter().copied());
        let (mut source, mut target) = (Span::default(), Span::default());
        loop {
            while source.len == 0 {
                match sources.next() {
                    Some(next) => source = next,
                    None => return done,
                }
            }
            while target.len == 0 {
                match targets.next() {
                    Some(next) => target = next,
                    None => return done,
                }
            }
            let len = source.len.min(target.len);
            let (Some((head, rest)), Some((into, left))) = (source.split_at(len), target.split_at(len))
            else {
                return done;
            };
            match to_memory.copy_span(into, self, head) {
                Some(copied) => done += copied,
                None => return done,
            }
            source = rest;
            target = left;
        }
    }

    #[inline]
    fn copy_span(&self, to: Span, from_memory: &Memory, from: Span) -> Option<u64> {
        let (source, len) = from_memory.pointer(from)?;
        let (target, _) = self.pointer(to)?;
        // SAFETY: both are valid for `len` bytes (the caller made the lengths equal) while the two
        // snapshots keep their mappings.
        // JUSTIFICATION: a guest that sends to itself, or two that share memory, may make the
        // ranges overlap, hence `copy` and not `copy_nonoverlapping`.
        unsafe { std::ptr::copy(source, target, len) };
        self.mark(to);
        Some(len as u64)
    }

    /// A window on a guest's address; it must lie in one region.
    pub fn window(&self, address: Address, len: u32) -> Option<Window> {
        let span = self.locate(address, len, &mut 0)?;
        let region = self.regions.get(span.region as usize)?;
        let start = usize::try_from(region.offset + span.offset).ok()?;
        Window::new(Arc::clone(&region.mapping), start, len as usize)
    }

    /// A window on a front end's virtual address.
    pub fn user_window(&self, user: u64, len: u32) -> Option<Window> {
        self.window(self.guest_address(user)?, len)
    }

    /// The span as a buffer for the kernel. Whoever passes it on keeps this snapshot alive.
    #[inline]
    pub fn pin(&self, span: Span) -> Option<Buffer> {
        let (at, len) = self.pointer(span)?;
        // SAFETY: `pointer` found it in a live mapping; `host::ring` holds the `Arc<Memory>` that
        // comes with a request until the kernel is done.
        Some(unsafe { Buffer::new(at, len) })
    }

    /// Notes in the dirty log that a span was written (the kernel wrote it, behind our back).
    #[inline(always)]
    pub fn mark(&self, span: Span) {
        if let Some(log) = &self.log {
            self.mark_slowly(log, span);
        }
    }

    #[cold]
    fn mark_slowly(&self, log: &Log, span: Span) {
        if let Some(region) = self.regions.get(span.region as usize) {
            log.mark(region.guest.saturating_add(span.offset), u64::from(span.len));
        }
    }

    /// As if all of it had been written. A worker that dies between a write and its mark leaves a
    /// page that nobody knows of, so its successor marks them all.
    pub fn mark_all(&self) {
        if let Some(log) = &self.log {
            self.regions.iter().for_each(|region| log.mark(region.guest, region.len));
        }
    }

    /// Notes that guest memory at an address was written (a used ring).
    #[inline(always)]
    pub fn mark_range(&self, address: Address, len: u32) {
        if let Some(log) = &self.log {
            log.mark(address.0, u64::from(len));
        }
    }
}

// SAFETY: `pin` gives out parts of regions, whose mappings (shared, writable) this value keeps.
unsafe impl host::ring::Pin for Memory {
    #[inline]
    fn pin(&self, span: Span) -> Option<Buffer> {
        Memory::pin(self, span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_regions() -> Arc<Memory> {
        let mapping = Arc::new(Mapping::anonymous(8192).unwrap());
        let low =
            Region { guest: 0, len: 4096, user: 0x7000_0000, offset: 4096, mapping: Arc::clone(&mapping) };
        let high = Region { guest: 4096, len: 4096, user: 0x6000_0000, offset: 0, mapping };
        Memory::new(vec![high, low], None).unwrap()
    }

    #[test]
    fn an_address_is_found_in_its_region_only() {
        let memory = two_regions();
        let mut hint = 0;
        let span = memory.locate(Address(4100), 16, &mut hint).unwrap();
        assert_eq!((span.region, span.offset, hint), (1, 4, 1));
        assert!(memory.locate(Address(4090), 16, &mut hint).is_none());
        assert!(memory.locate(Address(8192), 0, &mut hint).is_none());
        assert!(memory.locate(Address(u64::MAX), 2, &mut hint).is_none());
        assert_eq!(memory.contiguous(Address(4090)), 6);
        assert_eq!(memory.guest_address(0x6000_0010), Some(Address(4112)));
    }

    #[test]
    fn invented_spans_touch_nothing() {
        let memory = two_regions();
        let mut bytes = [0; 8];
        for span in [
            Span { offset: 4092, len: 8, region: 0 },
            Span { offset: u64::MAX, len: 8, region: 0 },
            Span { offset: 0, len: 8, region: 2 },
        ] {
            assert!(memory.read(span, &mut bytes).is_none());
            assert!(memory.write(span, &bytes).is_none());
            assert!(memory.pin(span).is_none());
        }
    }

    #[test]
    fn copies_follow_the_shapes_of_both_lists() {
        let (from, to) = (two_regions(), Memory::anonymous(4096));
        let source = [Span { offset: 10, len: 3, region: 0 }, Span { offset: 0, len: 5, region: 1 }];
        from.scatter(&source, b"abcdefgh");
        let target = [Span { offset: 0, len: 6, region: 0 }, Span { offset: 100, len: 9, region: 0 }];
        assert_eq!(from.copy(&source, &to, &target), 8);
        let mut got = [0; 8];
        assert_eq!(to.gather(&target, &mut got), 8);
        assert_eq!(&got, b"abcdefgh");
    }

    #[test]
    fn bad_maps_are_refused() {
        let mapping = Arc::new(Mapping::anonymous(8192).unwrap());
        let region =
            |guest, len, offset| Region { guest, len, user: 0, offset, mapping: Arc::clone(&mapping) };
        let refuse = |regions| Memory::new(regions, None).unwrap_err();
        assert_eq!(refuse(vec![region(0, 0, 0)]), MapError::Empty);
        assert_eq!(refuse(vec![region(0, 8193, 0)]), MapError::Range);
        assert_eq!(refuse(vec![region(0, 8192, u64::MAX)]), MapError::Range);
        assert_eq!(refuse(vec![region(u64::MAX, 4096, 0)]), MapError::Range);
        assert_eq!(refuse(vec![region(0, 4096, 0), region(4095, 4096, 0)]), MapError::Overlap);
    }

    #[test]
    fn writes_are_seen_in_the_dirty_log() {
        let bits = Arc::new(Mapping::anonymous(4096).unwrap());
        let log = Log::new(Arc::clone(&bits), 0, 4096).unwrap();
        let memory = two_regions().with_log(Some(log));
        memory.write(Span { offset: 4090, len: 6, region: 1 }, b"dirty!").unwrap();
        let seen = Window::new(bits, 0, 4096).unwrap();
        assert_eq!(seen.load_u8(0), 0b10);
        memory.mark_range(Address(8191), 2);
        assert_eq!(seen.load_u8(0), 0b110);
        memory.mark_all();
        let pages = |region: &Region| (region.guest >> 12)..=((region.guest + region.len - 1) >> 12);
        assert!(
            memory
                .regions()
                .iter()
                .flat_map(pages)
                .all(|page| seen.load_u8(page as usize / 8) >> (page % 8) & 1 == 1)
        );
    }

    #[test]
    fn a_snapshot_outlives_the_map_that_replaced_it() {
        let memory = two_regions();
        let window = memory.window(Address(0), 16).unwrap();
        drop(memory);
        window.store_u64(0, 42);
        assert_eq!(window.load_u64(0), 42);
    }
}
