use std::sync::Arc;

use host::map::Mapping;

use crate::Window;

/// The dirty log of a live migration: one bit for each 4 KiB page of guest-physical address space
/// (vhost-user: "Migration", VHOST_LOG_PAGE; vfio-user: DMA_LOGGING).
#[derive(Clone, Debug)]
pub struct Log {
    bits: Window,
}

const PAGE_SHIFT: u32 = 12;

impl Log {
    /// A log in `len` bytes of a mapping.
    pub fn new(mapping: Arc<Mapping>, offset: usize, len: usize) -> Option<Self> {
        Some(Self { bits: Window::new(mapping, offset, len)? })
    }

    /// A log of this process alone, of all addresses below `end`.
    pub fn below(end: u64) -> std::io::Result<Self> {
        let len =
            usize::try_from(end.div_ceil(8 << PAGE_SHIFT)).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        let mapping = Arc::new(Mapping::anonymous(len)?);
        Self::new(mapping, 0, len).ok_or_else(|| std::io::ErrorKind::OutOfMemory.into())
    }

    /// Marks every page that `len` bytes at `address` touch. Pages beyond the log are the front
    /// end's loss: it gave a log too small for its memory.
    pub fn mark(&self, address: u64, len: u64) {
        if len == 0 {
            return;
        }
        self.bytes_of(address, len, |byte, mask| self.bits.or_u8(byte, mask));
    }

    /// Of each byte of the log that has bits for these addresses: its place, and which bits.
    fn bytes_of(&self, address: u64, len: u64, mut each: impl FnMut(usize, u8)) {
        let (mut page, last) = (address >> PAGE_SHIFT, address.saturating_add(len - 1) >> PAGE_SHIFT);
        while page <= last {
            let Ok(byte) = usize::try_from(page / 8) else { return };
            if byte >= self.bits.len() {
                return;
            }
            let (low, high) = (page % 8, (last - page + page % 8).min(7));
            each(byte, (0xff << low) & (0xff >> (7 - high)));
            page = (page / 8 + 1) * 8;
        }
    }

    /// Takes the marks of the pages that lie in `len` bytes at `address`, and tells the first address
    /// of each page that had one.
    pub fn take(&self, address: u64, len: u64, mut each: impl FnMut(u64)) {
        if len == 0 {
            return;
        }
        self.bytes_of(address, len, |byte, mask| {
            let mut marked = match self.bits.load_u8(byte) {
                0 => 0,
                _ => self.bits.take_u8(byte, mask),
            };
            while marked != 0 {
                each((byte as u64 * 8 + u64::from(marked.trailing_zeros())) << PAGE_SHIFT);
                marked &= marked - 1;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_once_and_only_where_they_are_asked_for() {
        let log = Log::below(0x40_000).unwrap();
        let taken = |address, len| {
            let mut pages = Vec::new();
            log.take(address, len, |page| pages.push(page));
            pages
        };
        log.mark(0x3000, 0x1001);
        log.mark(0x3f_000, 1);
        log.mark(0x9000, 0x1000);
        assert_eq!(taken(0, 0), []);
        assert_eq!(taken(0x4000, 0x5000), [0x4000]);
        assert_eq!(taken(0x4000, 0x6000), [0x9000]);
        // Beyond its end there is nothing.
        log.mark(u64::MAX, 9);
        assert_eq!(taken(0, u64::MAX), [0x3000, 0x3f_000]);
        assert_eq!(taken(0, u64::MAX), []);
    }
}
