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
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

use crate::given::{self, Kind};
use crate::memfd;

/// Mappings alive at once: more than 512 strangers may have ([`Account`]), and than Linux gives a process
/// (vm.max_map_count is 65,530 unless somebody changed it). Pages that are not used take no memory.
const GUARDED_MAX: usize = 1 << 17;

struct Guard {
    start: AtomicUsize,
    end: AtomicUsize,
    poisoned: AtomicBool,
}

static GUARDS: [Guard; GUARDED_MAX] = [const {
    Guard { start: AtomicUsize::new(0), end: AtomicUsize::new(0), poisoned: AtomicBool::new(false) }
}; GUARDED_MAX];

const PAGE: usize = 4096;
/// The most common of the larger ones.
const HUGE_PAGE: usize = 2 << 20;

/// Marks a slot as being filled: no address range starts here.
const RESERVED: usize = usize::MAX;

/// Of one stranger: bytes that are mapped at once, and mappings. A table of vhost-user has 64 regions, and
/// for a moment the old ones are there as well; 480 strangers are within vm.max_map_count as Linux sets it.
pub const BYTES_MAX: u64 = 4 << 40;
pub const MAPPINGS_MAX: u32 = 136;
/// So much everybody may have whatever others do. A process has 128 TiB of addresses.
const BYTES_FOR_SURE: u64 = 128 << 30;
/// What lies above that, of all strangers together.
const BYTES_ABOVE: u64 = 48 << 40;

static ABOVE: AtomicU64 = AtomicU64::new(0);

/// What one stranger has mapped, so that none takes the addresses that others need.
#[derive(Debug, Default)]
pub struct Account(Mutex<(u64, u32)>);

impl Account {
    fn take(&self, bytes: u64) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = used.0.checked_add(bytes) else { return false };
        if all > BYTES_MAX || used.1 >= MAPPINGS_MAX {
            return false;
        }
        let more = above(all) - above(used.0);
        let room = |total: u64| total.checked_add(more).filter(|total| *total <= BYTES_ABOVE);
        if more > 0 && ABOVE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return false;
        }
        *used = (all, used.1 + 1);
        true
    }

    fn give(&self, bytes: u64) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = used.0 - bytes;
        ABOVE.fetch_sub(above(used.0) - above(left), Ordering::Relaxed);
        *used = (left, used.1 - 1);
    }
}

fn above(bytes: u64) -> u64 {
    bytes.saturating_sub(BYTES_FOR_SURE)
}

/// Why a stranger's file is not mapped.
#[derive(Debug)]
pub enum Refused {
    /// It does not lie in memory, so that touching a page of it may wait for a disk, or for its owner.
    NotMemory,
    /// It ends before what is to be mapped does.
    Short,
    /// Its owner has as much mapped as one may, or all have together.
    TooMuch,
    Failed(io::Error),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotMemory => f.write_str(
                "it is no file in memory; give the VM memory of a memfd, or of a file on tmpfs or hugetlbfs (QEMU: memory-backend-memfd, or memory-backend-file below /dev/shm or /dev/hugepages, with share=on)",
            ),
            Self::Short => f.write_str("the file is shorter than it is said to be"),
            Self::TooMuch => write!(
                f,
                "one client may have {} TiB and {MAPPINGS_MAX} files mapped, as far as others leave room",
                BYTES_MAX >> 40
            ),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// A shared, writable mapping; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    /// Whole pages of the file's size.
    mapped: usize,
    guard: usize,
    account: Option<Arc<Account>>,
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
        Self::map(libc::MAP_SHARED | libc::MAP_NORESERVE, fd.as_raw_fd(), offset, len, len)
    }

    /// Maps `len` bytes of a stranger's file from `offset` on, shared, on the stranger's account.
    pub fn of_given(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        account: &Arc<Account>,
    ) -> Result<Self, Refused> {
        // Of another file not even the size may be asked.
        if given::kind(fd) != Kind::Memory {
            return Err(Refused::NotMemory);
        }
        let size = memfd::size(&fd).map_err(Refused::Failed)?;
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(Refused::Short);
        }
        let page = page_of(fd).map_err(Refused::Failed)?;
        let mapped = len.checked_next_multiple_of(page).ok_or(Refused::TooMuch)?;
        if !account.take(mapped) {
            return Err(Refused::TooMuch);
        }
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let made = match (libc::off_t::try_from(offset), usize::try_from(len), usize::try_from(mapped)) {
            (Ok(offset), Ok(len), Ok(mapped)) => Self::map(flags, fd.as_raw_fd(), offset, len, mapped),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        };
        match made {
            Ok(mut made) => {
                made.account = Some(Arc::clone(account));
                Ok(made)
            }
            Err(error) => {
                account.give(mapped);
                Err(Refused::Failed(error))
            }
        }
    }

    /// Maps memory that belongs to this process alone.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0, len, len)
    }

    fn map(flags: i32, fd: i32, offset: libc::off_t, len: usize, mapped: usize) -> io::Result<Self> {
        if len == 0 || mapped > isize::MAX as usize {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        install_handler();
        let guard = claim_guard().ok_or_else(|| io::Error::other("too many memory mappings"))?;
        // SAFETY: no address is asked for, so the kernel picks one that nobody uses.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset)
        };
        let start = if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast::<u8>()) };
        let Some(start) = start else {
            let error = io::Error::last_os_error();
            GUARDS[guard].start.store(0, Ordering::Release);
            return Err(error);
        };
        GUARDS[guard].poisoned.store(false, Ordering::Relaxed);
        GUARDS[guard].end.store(start.as_ptr() as usize + mapped, Ordering::Relaxed);
        GUARDS[guard].start.store(start.as_ptr() as usize, Ordering::Release);
        Ok(Self { start, len, mapped, guard, account: None })
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
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.mapped) };
        GUARDS[self.guard].start.store(0, Ordering::Release);
        if let Some(account) = &self.account {
            account.give(self.mapped as u64);
        }
    }
}

/// The size of the pages that a file in memory is made of, by which alone it can be mapped and unmapped.
fn page_of(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: an all-zero statfs is a valid value of this C structure.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    if unsafe { libc::fstatfs(fd.as_raw_fd(), &mut stat) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let huge = stat.f_type == libc::HUGETLBFS_MAGIC;
    Ok(if huge { (stat.f_bsize as u64).max(PAGE as u64) } else { PAGE as u64 })
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
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    for guard in &GUARDS {
        let start = guard.start.load(Ordering::Acquire);
        let end = guard.end.load(Ordering::Relaxed);
        if start == 0 || start == RESERVED || address < start || address >= end {
            continue;
        }
        guard.poisoned.store(true, Ordering::Relaxed);
        // Of huge pages only whole ones can be replaced, and the whole mapping is made of such.
        for from in [address & !(PAGE - 1), address & !(HUGE_PAGE - 1), start] {
            let from = from.max(start);
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
    use std::fs::File;
    use std::os::fd::AsFd;

    fn given(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Mapping, Refused> {
        Mapping::of_given(fd, offset, len, &Arc::default())
    }

    #[test]
    fn only_whole_files_in_memory_are_taken_from_strangers() {
        let file = memfd::create_unsealed("given", 16384).unwrap();
        let mapping = given(file.as_fd(), 4096, 12288).unwrap();
        // SAFETY: within the mapping.
        unsafe { mapping.as_ptr().add(12287).write_volatile(7) };
        assert_eq!(mapping.len(), 12288);
        for (offset, len) in [(0, 16385), (4096, 16384), (16384, 1), (u64::MAX, 2)] {
            assert!(matches!(given(file.as_fd(), offset, len), Err(Refused::Short)), "{offset} {len}");
        }
        let executable = File::open("/proc/self/exe").unwrap();
        assert!(matches!(given(executable.as_fd(), 0, 4096), Err(Refused::NotMemory)));
        let (pipe, _writer) = io::pipe().unwrap();
        assert!(matches!(given(pipe.as_fd(), 0, 4096), Err(Refused::NotMemory)));
    }

    #[test]
    fn one_stranger_has_so_many_mappings_and_bytes() {
        let account = Arc::default();
        let small = memfd::create_unsealed("small", 4096).unwrap();
        let map = |fd: BorrowedFd<'_>, len| Mapping::of_given(fd, 0, len, &account);
        let all: Vec<Mapping> = (0..MAPPINGS_MAX).map(|_| map(small.as_fd(), 4096).unwrap()).collect();
        assert!(matches!(map(small.as_fd(), 4096), Err(Refused::TooMuch)));
        drop(all);
        // A file of a size that nobody has costs its maker nothing.
        let wide = memfd::create_unsealed("wide", 100 << 40).unwrap();
        assert!(matches!(map(wide.as_fd(), 100 << 40), Err(Refused::TooMuch)));
        let most = map(wide.as_fd(), BYTES_MAX).unwrap();
        assert!(matches!(map(small.as_fd(), 4096), Err(Refused::TooMuch)));
        drop(most);
        map(small.as_fd(), 4096).unwrap();
    }

    #[test]
    fn what_is_above_a_sure_share_is_shared() {
        let accounts: Vec<Account> = (0..20).map(|_| Account::default()).collect();
        let with_most = accounts.iter().filter(|account| account.take(BYTES_MAX)).count();
        // 48 TiB by 4 TiB less 128 GiB; other tests may have some of it.
        assert!((10..=12).contains(&with_most), "{with_most}");
        for account in &accounts {
            let free = *account.0.lock().unwrap() == (0, 0);
            assert_eq!(account.take(BYTES_FOR_SURE), free);
        }
        for account in &accounts {
            let (bytes, _) = *account.0.lock().unwrap();
            account.give(bytes);
        }
    }

    #[test]
    fn huge_pages_are_mapped_and_unmapped_as_wholes() {
        const HUGE: usize = 2 << 20;
        // Where none are reserved there is nothing to try.
        let Ok(file) = memfd::create_huge("huge", 4 * HUGE as u64) else { return };
        let Ok(first) = given(file.as_fd(), 0, HUGE as u64 + 4096) else { return };
        assert_eq!((first.len(), first.mapped), (HUGE + 4096, 2 * HUGE));
        let at = first.as_ptr() as usize;
        drop(first);
        // SAFETY: nothing is touched; the kernel says whether anything is mapped there.
        let left = unsafe { libc::msync(at as *mut _, HUGE, libc::MS_ASYNC) };
        assert_eq!((left, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOMEM)));
        let mapping = given(file.as_fd(), 0, 4 * HUGE as u64).unwrap();
        File::from(file.try_clone().unwrap()).set_len(HUGE as u64).unwrap();
        // SAFETY: within the mapping; the handler replaces what is lost.
        assert_eq!(unsafe { mapping.as_ptr().add(3 * HUGE + 7).read_volatile() }, 0);
        assert!(mapping.is_poisoned());
    }

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
