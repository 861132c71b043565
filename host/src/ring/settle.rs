//! Waiting for the requests of a ring whose owner is dead.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How a dead worker's ring came to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Requests that were still in the kernel when we looked first.
    pub in_flight: u32,
    pub waited: Duration,
}

/// Waits until every request that the kernel took from the old ring has its CQE. After that nothing
/// of the old worker writes to a disk or to guest memory any more.
///
/// The old worker must be dead and reaped: while one of its threads is still inside
/// `io_uring_enter`, the SQ's head does not yet count what that call has started.
///
/// Fails with `TimedOut` if requests are still out; their volumes must not be used then.
pub fn settle(old: OwnedFd, timeout: Duration) -> io::Result<Settled> {
    let begin = Instant::now();
    let counters = Counters::map(old.as_raw_fd())?;
    let in_flight = counters.in_flight();
    let mut nap = Duration::from_micros(20);
    while counters.in_flight() != 0 {
        let waited = begin.elapsed();
        if waited >= timeout {
            let message = format!("{} requests of the old worker are still out", counters.in_flight());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        // The ring's descriptor cannot be waited on: it is readable as long as the CQ is not
        // empty, and nobody empties it.
        std::thread::sleep(nap.min(timeout - waited));
        nap = (nap * 2).min(Duration::from_millis(1));
    }
    Ok(Settled { in_flight, waited: begin.elapsed() })
}

/// The counters of another process' ring, mapped read-only.
struct Counters {
    start: *mut libc::c_void,
    len: usize,
    offsets: Offsets,
}

/// Where the kernel keeps them. They depend on the kernel alone, which is still the one that the
/// old worker had: descriptors do not survive a reboot.
#[derive(Clone, Copy)]
struct Offsets {
    submission_head: usize,
    completion_tail: usize,
}

impl Counters {
    fn map(ring: RawFd) -> io::Result<Self> {
        let target = std::fs::read_link(format!("/proc/self/fd/{ring}"))?;
        if target.as_os_str() != "anon_inode:[io_uring]" {
            let message = format!("descriptor is {}, not an io_uring", target.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let offsets = Offsets::of_this_kernel()?;
        let len = offsets.submission_head.max(offsets.completion_tail) + size_of::<u32>();
        const IORING_OFF_SQ_RING: libc::off_t = 0;
        // SAFETY: no address is asked for, so the kernel picks one that nobody uses.
        let start = unsafe {
            let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
            libc::mmap(std::ptr::null_mut(), len, protection, flags, ring, IORING_OFF_SQ_RING)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start, len, offsets })
    }

    fn load(&self, offset: usize) -> u32 {
        // SAFETY: both offsets are multiples of 4 that lie within the mapping (`map` chose its
        // length by them), and the kernel accesses these words atomically.
        // JUSTIFICATION: the words are shared with the kernel.
        unsafe { (*self.start.byte_add(offset).cast::<AtomicU32>()).load(Ordering::Acquire) }
    }

    /// Each SQE that the kernel took gives one CQE.
    fn in_flight(&self) -> u32 {
        let completed = self.load(self.offsets.completion_tail);
        self.load(self.offsets.submission_head).wrapping_sub(completed)
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: this value owns the range, and nobody borrows from it any more.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

/// struct io_uring_params of linux/io_uring.h.
#[repr(C)]
#[derive(Default)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    /// head, tail, ring_mask, ring_entries, flags, dropped, array, resv1.
    sq_off: [u32; 8],
    sq_user_addr: u64,
    /// head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1.
    cq_off: [u32; 8],
    cq_user_addr: u64,
}

const _: () = assert!(size_of::<Parameters>() == 120);

impl Offsets {
    fn of_this_kernel() -> io::Result<Self> {
        let mut parameters = Parameters::default();
        // SAFETY: the structure has the kernel's layout and is ours to be written.
        let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters) };
        if ring < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was made just now, for us alone.
        drop(unsafe { OwnedFd::from_raw_fd(ring as RawFd) });
        const IORING_FEAT_SINGLE_MMAP: u32 = 1;
        if parameters.features & IORING_FEAT_SINGLE_MMAP == 0 {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring without single mmap"));
        }
        Ok(Self {
            submission_head: parameters.sq_off[0] as usize,
            completion_tail: parameters.cq_off[1] as usize,
        })
    }
}
