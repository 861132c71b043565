use std::sync::Arc;

use host::map::Mapping;

use crate::Window;

/// The dirty log of a live migration: one bit for each 4 KiB page of guest-physical address space
/// (vhost-user: "Migration", VHOST_LOG_PAGE).
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

    /// Marks every page that `len` bytes at `address` touch. Pages beyond the log are the front
    /// end's loss: it gave a log too small for its memory.
    pub fn mark(&self, address: u64, len: u64) {
        if len == 0 {
            return;
        }
        let last = address.saturating_add(len - 1) >> PAGE_SHIFT;
        for page in (address >> PAGE_SHIFT)..=last {
            let Ok(byte) = usize::try_from(page / 8) else { return };
            if byte >= self.bits.len() {
                return;
            }
            self.bits.or_u8(byte, 1 << (page % 8));
        }
    }
}
