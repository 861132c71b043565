/// A run of mapped memory for the kernel to read from or write to.
///
/// Whoever hands one to the kernel also hands over what keeps the mapping alive.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    pub(crate) ptr: *mut u8,
    pub(crate) len: usize,
}

impl Buffer {
    /// # Safety
    /// `ptr..ptr + len` lies in one live shared mapping, and whoever uses the buffer holds that
    /// mapping until the kernel is done with it.
    pub unsafe fn new(ptr: *mut u8, len: usize) -> Self {
        Self { ptr, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address as a number, for alignment checks.
    pub fn address(&self) -> usize {
        self.ptr as usize
    }
}
