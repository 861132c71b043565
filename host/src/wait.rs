//! One sleep for everything that a lane waits for: epoll.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What to be woken for. Errors and hang-ups always wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    pub read: bool,
    pub write: bool,
    /// Once per change instead of as long as it lasts.
    pub edge: bool,
}

impl Interest {
    pub const READ: Self = Self { read: true, write: false, edge: false };
    pub const WRITE: Self = Self { read: false, write: true, edge: false };
    pub const READ_EDGE: Self = Self { read: true, write: false, edge: true };
    /// Errors and hang-ups only, once: they cannot be turned off, and would wake for ever.
    pub const NONE: Self = Self { read: false, write: false, edge: true };

    fn bits(self) -> u32 {
        let mut bits = 0;
        for (wanted, bit) in
            [(self.read, libc::EPOLLIN), (self.write, libc::EPOLLOUT), (self.edge, libc::EPOLLET)]
        {
            if wanted {
                bits |= bit as u32;
            }
        }
        bits
    }
}

/// What happened to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What it was added with.
    pub token: u64,
    pub read: bool,
    pub write: bool,
    /// The peer is gone, or the descriptor has an error: reading tells which.
    pub hangup: bool,
}

/// A set of descriptors to sleep on.
#[derive(Debug)]
pub struct Wait {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    count: usize,
}

impl Wait {
    /// `batch`: events taken in one sleep at most; the others come in the next.
    pub fn new(batch: usize) -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was made just now, for us alone.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; batch.max(1)], count: 0 })
    }

    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// To be called while the descriptor is open: epoll watches the open file, which may live on in
    /// the keeper after our descriptor is closed.
    pub fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::NONE)
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        // SAFETY: both descriptors are open, and `event` outlives the call.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sleeps until something happens or `timeout_nanos` are over (`None`: without end; 0: only looks).
    /// Returns how many events `ready` then has. A signal ends the sleep with none; so does a
    /// completion of a `Ring` of this thread, which is why a lane looks at everything after a sleep.
    pub fn wait(&mut self, timeout_nanos: Option<u64>) -> io::Result<usize> {
        let timeout = timeout_nanos.map(|nanos| libc::timespec {
            tv_sec: (nanos / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let (events, len) = (self.events.as_mut_ptr(), self.events.len() as i32);
        // SAFETY: `events` has room for `len` events; `timeout` is null or points to a local that
        // outlives the call; the signal mask is null.
        let count =
            unsafe { libc::epoll_pwait2(self.epoll.as_raw_fd(), events, len, timeout, std::ptr::null()) };
        self.count = usize::try_from(count).unwrap_or(0);
        if count < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(self.count)
    }

    /// What the last `wait` found.
    pub fn ready(&self) -> impl Iterator<Item = Ready> + '_ {
        self.events[..self.count].iter().map(|event| {
            let bits = event.events as i32;
            Ready {
                token: event.u64,
                read: bits & libc::EPOLLIN != 0,
                write: bits & libc::EPOLLOUT != 0,
                hangup: bits & (libc::EPOLLHUP | libc::EPOLLERR) != 0,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    #[test]
    fn tokens_name_what_is_ready() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut wait = Wait::new(4).unwrap();
        wait.add(far.as_fd(), 77, Interest::READ).unwrap();
        assert_eq!(wait.wait(Some(0)).unwrap(), 0);
        near.write_all(b"x").unwrap();
        assert_eq!(wait.wait(None).unwrap(), 1);
        let ready: Vec<_> = wait.ready().collect();
        assert_eq!(ready, [Ready { token: 77, read: true, write: false, hangup: false }]);

        wait.modify(far.as_fd(), 78, Interest { read: true, write: true, edge: false }).unwrap();
        wait.wait(None).unwrap();
        assert_eq!(wait.ready().next().unwrap(), Ready { token: 78, read: true, write: true, hangup: false });

        wait.delete(far.as_fd()).unwrap();
        assert_eq!(wait.wait(Some(0)).unwrap(), 0);
    }

    #[test]
    fn an_edge_is_told_once_and_a_hangup_always() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let mut wait = Wait::new(4).unwrap();
        wait.add(far.as_fd(), 1, Interest::READ_EDGE).unwrap();
        near.write_all(b"x").unwrap();
        assert_eq!(wait.wait(None).unwrap(), 1);
        assert_eq!(wait.wait(Some(0)).unwrap(), 0);
        far.read_exact(&mut [0]).unwrap();
        drop(near);
        assert_eq!(wait.wait(None).unwrap(), 1);
        assert!(wait.ready().next().unwrap().hangup);
    }

    #[test]
    fn the_timeout_has_nanoseconds() {
        let (_near, far) = UnixStream::pair().unwrap();
        let mut wait = Wait::new(1).unwrap();
        wait.add(far.as_fd(), 1, Interest::READ).unwrap();
        let begin = Instant::now();
        assert_eq!(wait.wait(Some(300_000)).unwrap(), 0);
        assert!(begin.elapsed() >= Duration::from_micros(300));
        assert_eq!(wait.ready().count(), 0);
    }
}
