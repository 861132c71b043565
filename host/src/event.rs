//! Event counters: kicks, calls, wake-ups of a lane.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::given::{self, Kind};
use crate::nudge;

/// An eventfd that nobody else may change. Never blocks.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds one. A full counter already says all that there is to say.
    pub fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is 8 readable bytes.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Sets the count to zero; true if it was not.
    pub fn clear(&self) -> bool {
        let mut count = [0u8; 8];
        // SAFETY: `count` is 8 writable bytes.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) == 8 }
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// An eventfd that a stranger shares with us: what stands in it and whether a call on it waits is the
/// stranger's to change at any time.
#[derive(Debug)]
pub struct PeerEvent {
    fd: OwnedFd,
    /// Its owner has made us wait.
    given_up: Cell<bool>,
}

impl PeerEvent {
    /// Anything but an eventfd is refused. It is made non-blocking, for owners of good will.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if given::kind(fd.as_fd()) != Kind::Event {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the descriptor is no eventfd"));
        }
        crate::socket::set_nonblocking(fd.as_fd())?;
        Ok(Self { fd, given_up: Cell::new(false) })
    }

    /// Adds one. A full counter already says all that there is to say. `false`: its owner has made us
    /// wait for room in it, and gets no more of us.
    #[must_use]
    pub fn signal(&self) -> bool {
        if self.given_up.get() {
            return true;
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is 8 readable bytes.
        let put =
            nudge::briefly(|| unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) });
        if put < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            self.given_up.set(true);
            return false;
        }
        true
    }

    /// Sets the count to zero; true if it was not.
    pub fn clear(&self) -> bool {
        let mut count = [0u8; 8];
        let vector = libc::iovec { iov_base: count.as_mut_ptr().cast(), iov_len: count.len() };
        // Reads, other than writes, can be told not to wait whatever the file's own flags say.
        // SAFETY: `vector` names 8 writable bytes.
        unsafe { libc::preadv2(self.fd.as_raw_fd(), &vector, 1, -1, libc::RWF_NOWAIT) == 8 }
    }
}

impl AsFd for PeerEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// A second descriptor of the same open file, as its owner has one.
    fn shared() -> (OwnedFd, PeerEvent) {
        let owner = Event::new().unwrap().into_fd();
        let ours = PeerEvent::from_fd(owner.try_clone().unwrap()).unwrap();
        (owner, ours)
    }

    fn make_blocking(fd: &OwnedFd) {
        // SAFETY: a plain system call on an open descriptor.
        assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_RDWR) }, 0);
    }

    #[test]
    fn signals_arrive_and_are_cleared() {
        let (_owner, event) = shared();
        assert!(!event.clear());
        assert!(event.signal() && event.signal());
        assert!(event.clear() && !event.clear());
    }

    #[test]
    fn only_an_eventfd_will_do() {
        let (reader, writer) = io::pipe().unwrap();
        let file = crate::memfd::create("file", 8).unwrap();
        for fd in [reader.into(), writer.into(), file] {
            assert_eq!(PeerEvent::from_fd(fd).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn an_owner_cannot_hold_us_by_a_full_counter() {
        let (owner, event) = shared();
        make_blocking(&owner);
        let full = (u64::MAX - 1).to_ne_bytes();
        // SAFETY: `full` is 8 readable bytes.
        assert_eq!(unsafe { libc::write(owner.as_raw_fd(), full.as_ptr().cast(), 8) }, 8);
        let begin = Instant::now();
        assert!(!event.signal());
        assert!(begin.elapsed() < Duration::from_secs(20));
        // Its owner had its chance: the next ones do not even try.
        let begin = Instant::now();
        for _ in 0..1000 {
            assert!(event.signal());
        }
        assert!(begin.elapsed() < nudge::LOOK);
        // Others are served as before.
        let (_owner, other) = shared();
        assert!(other.signal() && other.clear());
    }

    #[test]
    fn an_owner_cannot_hold_us_by_an_empty_counter() {
        let (owner, event) = shared();
        make_blocking(&owner);
        assert!(!event.clear());
    }
}
