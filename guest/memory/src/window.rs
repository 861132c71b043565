use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use host::map::Mapping;

#[cfg(target_endian = "big")]
compile_error!("rings and ledgers are read in place as little-endian numbers");

/// A piece of shared memory: a ring, a ledger, an in-flight table.
///
/// The accessors are total: what lies outside of the window reads as zero and is not written. So
/// no arithmetic on a guest's numbers can do harm here.
#[derive(Clone, Debug)]
pub struct Window {
    start: NonNull<u8>,
    len: usize,
    /// The length for numbers of 1, 2, 4 and 8 bytes: zero where the start is not aligned for them,
    /// so that an access needs one comparison, and its offset's alignment is visible beforehand.
    lens: [usize; 4],
    mapping: Arc<Mapping>,
}

// SAFETY: a window is an address range in a mapping that it keeps alive; all access is atomic or
// by volatile-like copies, and everybody who shares the memory expects it to change.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

macro_rules! accessors {
    ($($number:ty, $atomic:ty, $load:ident, $store:ident, $order_load:ident, $order_store:ident);* $(;)?) => {$(
        /// Relaxed load; zero outside of the window or at an unaligned address.
        #[inline(always)]
        pub fn $load(&self, offset: usize) -> $number {
            self.load_ordered(offset, Ordering::Relaxed, <$number>::default(), |at, order| {
                // SAFETY: `at` is aligned and within the live mapping for the number's size.
                unsafe { (*at.cast::<$atomic>()).load(order) }
            })
        }

        /// Relaxed store; nothing outside of the window or at an unaligned address.
        #[inline(always)]
        pub fn $store(&self, offset: usize, value: $number) {
            self.store_ordered::<$number>(offset, |at| {
                // SAFETY: `at` is aligned and within the live mapping for the number's size.
                unsafe { (*at.cast::<$atomic>()).store(value, Ordering::Relaxed) }
            });
        }

        /// As the relaxed load; nothing after it is done before it.
        #[inline(always)]
        pub fn $order_load(&self, offset: usize) -> $number {
            self.load_ordered(offset, Ordering::Acquire, <$number>::default(), |at, order| {
                // SAFETY: `at` is aligned and within the live mapping for the number's size.
                unsafe { (*at.cast::<$atomic>()).load(order) }
            })
        }

        /// As the relaxed store; everything before it is seen by whoever sees it.
        #[inline(always)]
        pub fn $order_store(&self, offset: usize, value: $number) {
            self.store_ordered::<$number>(offset, |at| {
                // SAFETY: `at` is aligned and within the live mapping for the number's size.
                unsafe { (*at.cast::<$atomic>()).store(value, Ordering::Release) }
            });
        }
    )*};
}

impl Window {
    /// `len` bytes of a mapping from `offset` on.
    pub fn new(mapping: Arc<Mapping>, offset: usize, len: usize) -> Option<Self> {
        let end = offset.checked_add(len)?;
        if end > mapping.len() {
            return None;
        }
        // SAFETY: `offset` is within the mapping, or one past its end when `len` is zero.
        let start = NonNull::new(unsafe { mapping.as_ptr().add(offset) })?;
        Some(Self::at_start(start, len, mapping))
    }

    fn at_start(start: NonNull<u8>, len: usize, mapping: Arc<Mapping>) -> Self {
        let aligned = |to: usize| if (start.as_ptr() as usize).is_multiple_of(to) { len } else { 0 };
        Self { start, len, lens: [len, aligned(2), aligned(4), aligned(8)], mapping }
    }

    /// Zeroed memory of this process alone.
    ///
    /// # Panics
    /// If `len` is zero or the machine has no such memory: for tests, and for set-up.
    pub fn anonymous(len: usize) -> Self {
        let mapping = Arc::new(Mapping::anonymous(len).expect("memory for a window"));
        Self::new(mapping, 0, len).expect("a window as large as its mapping")
    }

    /// All of a file in memory.
    pub fn of_file(fd: std::os::fd::BorrowedFd<'_>, offset: u64, len: usize) -> std::io::Result<Self> {
        let mapping = Arc::new(Mapping::of_file(fd, offset, len)?);
        Self::new(mapping, 0, len).ok_or_else(|| std::io::ErrorKind::InvalidInput.into())
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn is_aligned(&self, to: usize) -> bool {
        to != 0 && (self.start.as_ptr() as usize).is_multiple_of(to)
    }

    /// A window within this one.
    pub fn sub(&self, offset: usize, len: usize) -> Option<Self> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: within this window, hence within the mapping.
        let start = unsafe { self.start.add(offset) };
        Some(Self::at_start(start, len, Arc::clone(&self.mapping)))
    }

    #[inline(always)]
    fn at(&self, offset: usize, size: usize) -> Option<*mut u8> {
        // In this form the sum needs no check where the offset is visibly small.
        if offset.checked_add(size)? > self.len {
            return None;
        }
        // SAFETY: `offset + size <= len`, and the window lies in a mapping that it keeps alive.
        Some(unsafe { self.start.as_ptr().add(offset) })
    }

    /// Where a number lies, if it lies within the window and is aligned.
    #[inline(always)]
    fn number(&self, offset: usize, size: usize) -> Option<*mut u8> {
        let len = self.lens[size.trailing_zeros() as usize];
        if !offset.is_multiple_of(size) || offset.checked_add(size)? > len {
            return None;
        }
        // SAFETY: `offset + size` is at most `len`, which is the window's or zero, and the window
        // lies in a mapping that it keeps alive.
        Some(unsafe { self.start.as_ptr().add(offset) })
    }

    #[inline(always)]
    fn load_ordered<T>(
        &self,
        offset: usize,
        order: Ordering,
        none: T,
        load: impl Fn(*mut u8, Ordering) -> T,
    ) -> T {
        match self.number(offset, size_of::<T>()) {
            Some(at) => load(at, order),
            None => none,
        }
    }

    #[inline(always)]
    fn store_ordered<T>(&self, offset: usize, mut store: impl FnMut(*mut u8)) {
        if let Some(at) = self.number(offset, size_of::<T>()) {
            #[cfg(feature = "crash-points")]
            crash::point();
            store(at);
        }
    }

    accessors! {
        u8, AtomicU8, load_u8, store_u8, load_acquire_u8, store_release_u8;
        u16, AtomicU16, load_u16, store_u16, load_acquire_u16, store_release_u16;
        u32, AtomicU32, load_u32, store_u32, load_acquire_u32, store_release_u32;
        u64, AtomicU64, load_u64, store_u64, load_acquire_u64, store_release_u64;
    }

    /// Sets bits of a byte that others set bits in as well.
    pub fn or_u8(&self, offset: usize, bits: u8) {
        self.store_ordered::<u8>(offset, |at| {
            // SAFETY: `at` is within the live mapping.
            unsafe { (*at.cast::<AtomicU8>()).fetch_or(bits, Ordering::Relaxed) };
        });
    }

    /// Clears bits of a byte that others set bits in as well; gives those that were set.
    pub fn take_u8(&self, offset: usize, bits: u8) -> u8 {
        let mut taken = 0;
        self.store_ordered::<u8>(offset, |at| {
            // SAFETY: `at` is within the live mapping.
            taken = unsafe { (*at.cast::<AtomicU8>()).fetch_and(!bits, Ordering::Relaxed) } & bits;
        });
        taken
    }

    /// A descriptor: 16 bytes as two numbers.
    #[inline(always)]
    pub fn load_desc(&self, offset: usize) -> [u64; 2] {
        let end = offset.checked_add(16);
        if !offset.is_multiple_of(8) || end.is_none_or(|end| end > self.lens[3]) {
            return [0; 2];
        }
        // SAFETY: `offset + 16` is at most the window's length, and the window's start is aligned.
        unsafe {
            let pair = self.start.as_ptr().add(offset).cast::<AtomicU64>();
            [(*pair).load(Ordering::Relaxed), (*pair.add(1)).load(Ordering::Relaxed)]
        }
    }

    /// Copies out as much as both hold; the rest of `into` is left alone.
    pub fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        let len = into.len().min(self.len.saturating_sub(offset));
        if let Some(at) = self.at(offset, len) {
            // SAFETY: both ranges are valid for `len` bytes and cannot overlap: one is ours alone.
            // JUSTIFICATION: others may write meanwhile; any mixture of bytes is a valid result.
            unsafe { std::ptr::copy_nonoverlapping(at, into.as_mut_ptr(), len) };
        }
    }

    /// Copies in as much as the window holds.
    pub fn write_bytes(&self, offset: usize, from: &[u8]) {
        let len = from.len().min(self.len.saturating_sub(offset));
        if let Some(at) = self.at(offset, len) {
            #[cfg(feature = "crash-points")]
            crash::point();
            // SAFETY: both ranges are valid for `len` bytes and cannot overlap: one is ours alone.
            // JUSTIFICATION: others may read meanwhile; they expect any mixture of bytes.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), at, len) };
        }
    }
}

/// Death at a chosen store, for tests: the worker may die at any instruction, and between two
/// stores to shared memory nothing that outlives it changes.
#[cfg(feature = "crash-points")]
pub mod crash {
    use std::cell::Cell;

    thread_local!(static LEFT: Cell<Option<u64>> = const { Cell::new(None) });

    /// What a crash unwinds with.
    #[derive(Debug)]
    pub struct Crashed;

    /// Lets `stores` more stores happen on this thread; the next one does not, it unwinds.
    /// `None`: no crash.
    pub fn after(stores: Option<u64>) {
        LEFT.set(stores);
    }

    #[inline]
    pub(super) fn point() {
        match LEFT.get() {
            None => {}
            Some(0) => {
                LEFT.set(None);
                std::panic::resume_unwind(Box::new(Crashed));
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accessors_are_total() {
        let window = Window::anonymous(16);
        window.store_u32(12, 0x0403_0201);
        assert_eq!(window.load_u32(12), 0x0403_0201);
        assert_eq!(window.load_u8(13), 2);
        window.store_u64(12, u64::MAX);
        window.store_u16(13, 0xffff);
        assert_eq!(window.load_u32(12), 0x0403_0201);
        assert_eq!(window.load_u64(usize::MAX), 0);
        assert_eq!(window.load_desc(8), [0, 0]);
        let mut bytes = [9; 4];
        window.read_bytes(14, &mut bytes);
        assert_eq!(bytes, [3, 4, 9, 9]);
        window.write_bytes(15, &[7, 7, 7]);
        assert_eq!(window.load_u8(15), 7);
        assert!(window.sub(8, 9).is_none());
        assert_eq!(window.sub(8, 8).unwrap().load_u8(7), 7);
    }
}
