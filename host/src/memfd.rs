//! Files in memory: ledgers, in-flight tables, outboxes, guest memory of the tests.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A sealed file of a fixed size: it can neither shrink nor grow.
pub fn create(name: &str, len: u64) -> io::Result<OwnedFd> {
    let fd = create_unsealed(name, len)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the descriptor is ours; F_ADD_SEALS takes an integer.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// A file whose size may change later (only a test's guest wants that).
pub fn create_unsealed(name: &str, len: u64) -> io::Result<OwnedFd> {
    open(name, len, libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
}

/// As [`create_unsealed`], of 2 MiB pages; fails where none are reserved.
pub fn create_huge(name: &str, len: u64) -> io::Result<OwnedFd> {
    open(name, len, libc::MFD_CLOEXEC | libc::MFD_HUGETLB)
}

fn open(name: &str, len: u64, flags: u32) -> io::Result<OwnedFd> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `name` is a C string that outlives the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a plain system call on our own descriptor.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// The size of any file, in bytes.
pub fn size(fd: &impl AsRawFd) -> io::Result<u64> {
    // SAFETY: an all-zero stat is a valid value of this C structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    if unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat.st_size.max(0) as u64)
}

/// Which file this is: two descriptors of one file have the same, and nothing else does as long as
/// one of them is open.
pub fn identity(fd: &impl AsRawFd) -> io::Result<(u64, u64)> {
    // SAFETY: an all-zero stat is a valid value of this C structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    if unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((stat.st_dev, stat.st_ino))
}

/// Gives the pages of a range back; they read as zeroes from then on.
pub fn give_back(fd: &OwnedFd, at: u64, len: u64) -> io::Result<()> {
    let (at, len) = (i64::try_from(at), i64::try_from(len));
    let (Ok(at), Ok(len)) = (at, len) else { return Err(io::ErrorKind::InvalidInput.into()) };
    // SAFETY: a plain system call on an open descriptor.
    if unsafe { libc::fallocate(fd.as_raw_fd(), crate::file::PUNCH_HOLE, at, len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
