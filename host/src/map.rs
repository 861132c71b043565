//! Shared mappings, and what happens when the file behind one shrinks.
//!
//! A front end may truncate the file that it gave us as guest memory; touching the lost pages then
//! raises SIGBUS, which would end the worker and with it everybody's service. So every mapping is
//! listed in a table that the signal handler can read: a fault inside a listed mapping puts
//! anonymous zero pages in the place of the lost ones and marks the mapping as poisoned; only the
//! guest whose memory it was sees zeroes. A fault elsewhere is our own bug and keeps its default
//! action.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Mappings alive at once: 512 VMs with 8 memory slots each and their ledgers.
const GUARDED_MAX: usize = 8192;

struct Guard {
    start: AtomicUsize,
    end: AtomicUsize,
    poisoned: AtomicBool,
}

static GUARDS: [Guard; GUARDED_MAX] = [const {
    Guard { start: AtomicUsize::new(0), end: AtomicUsize::new(0), poisoned: AtomicBool::new(false) }
}; GUARDED_MAX];

/// Marks a slot as being filled: no address range starts here.
const RESERVED: usize = usize::MAX;

/// A shared, writable mapping; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    guard: usize,
}

// SAFETY: a mapping is a range of addresses; who reads and writes the bytes, and how, is decided
// by `guest/memory`, which uses atomic or volatile accesses only.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives out nothing but numbers.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a file from `offset` on, shared.
    pub fn of_file(fd: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Self> {
        let offset =
            libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        Self::map(libc::MAP_SHARED | libc::MAP_NORESERVE, fd.as_raw_fd(), offset, len)
    }

    /// Maps memory that belongs to this process alone.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0, len)
    }

    fn map(flags: i32, fd: i32, offset: libc::off_t, len: usize) -> io::Result<Self> {
        if len == 0 || len > isize::MAX as usize {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        install_handler();
        let guard = claim_guard().ok_or_else(|| io::Error::other("too many memory mappings"))?;
        // SAFETY: no address is asked for, so the kernel picks one that nobody uses.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset)
        };
        let start = if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast::<u8>()) };
        let Some(start) = start else {
            let error = io::Error::last_os_error();
            GUARDS[guard].start.store(0, Ordering::Release);
            return Err(error);
        };
        GUARDS[guard].poisoned.store(false, Ordering::Relaxed);
        GUARDS[guard].end.store(start.as_ptr() as usize + len, Ordering::Relaxed);
        GUARDS[guard].start.store(start.as_ptr() as usize, Ordering::Release);
        Ok(Self { start, len, guard })
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its file shrank under it, and zeroes stand in the place of what was lost.
    pub fn is_poisoned(&self) -> bool {
        GUARDS[self.guard].poisoned.load(Ordering::Relaxed)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        GUARDS[self.guard].end.store(0, Ordering::Relaxed);
        GUARDS[self.guard].start.store(RESERVED, Ordering::Release);
        // SAFETY: this value owns the range, and nobody borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        GUARDS[self.guard].start.store(0, Ordering::Release);
    }
}

fn claim_guard() -> Option<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let from = NEXT.fetch_add(1, Ordering::Relaxed);
    (0..GUARDED_MAX).map(|step| (from.wrapping_add(step)) % GUARDED_MAX).find(|&slot| {
        GUARDS[slot].start.compare_exchange(0, RESERVED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    })
}

fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: an all-zero sigaction is a valid value of this C structure.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        // SAFETY: the handler only touches atomics and makes async-signal-safe system calls.
        unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    });
}

extern "C" fn on_bus_error(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    /// The largest page that guest memory is commonly made of; smaller ones divide it.
    const HUGE_PAGE: usize = 2 << 20;
    const PAGE: usize = 4096;
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    for guard in &GUARDS {
        let start = guard.start.load(Ordering::Acquire);
        let end = guard.end.load(Ordering::Relaxed);
        if start == 0 || start == RESERVED || address < start || address >= end {
            continue;
        }
        guard.poisoned.store(true, Ordering::Relaxed);
        for page in [PAGE, HUGE_PAGE] {
            let from = (address & !(page - 1)).max(start);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
            // SAFETY: `from..end` lies in a mapping of ours, whose lost pages are replaced.
            let made = unsafe {
                libc::mmap(from as *mut _, end - from, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
            };
            if made != libc::MAP_FAILED {
                return;
            }
        }
        break;
    }
    // Not ours to mend: the default action, when the faulting instruction runs again.
    // SAFETY: SIG_DFL is a valid disposition.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memfd;
    use std::os::fd::AsFd;

    #[test]
    fn a_truncated_file_reads_as_zeroes_instead_of_killing_us() {
        let file = memfd::create_unsealed("truncated", 16384).unwrap();
        let mapping = Mapping::of_file(file.as_fd(), 0, 16384).unwrap();
        // SAFETY: within the mapping.
        unsafe { mapping.as_ptr().add(12288).write_volatile(7) };
        std::fs::File::from(file.try_clone().unwrap()).set_len(4096).unwrap();
        // SAFETY: within the mapping; the handler replaces the page.
        assert_eq!(unsafe { mapping.as_ptr().add(12288).read_volatile() }, 0);
        assert!(mapping.is_poisoned());
    }
}
