//! Descriptors that a stranger gave us.
//!
//! A descriptor can be of any file, and there are files of which nothing can be asked without their
//! owner: one of a FUSE file system answers when the process behind it likes to. Its size, a page of it
//! that was mapped, even the close of its descriptor wait for that process. So what a descriptor is gets
//! found out by calls that only the kernel answers, and what we have no use for is closed by a thread
//! that nobody waits for.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

/// Descriptors that wait to be closed. Whoever gives more of them than that has them leak.
const UNCLOSED_MAX: usize = 4096;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file that lies in memory: a memfd, or one of tmpfs or hugetlbfs.
    Memory,
    /// An eventfd.
    Event,
    /// A unix socket.
    Socket,
    /// Anything else, about which nothing may be asked.
    Other,
}

/// What a descriptor is, told by the kernel alone.
pub fn kind(fd: BorrowedFd<'_>) -> Kind {
    // SAFETY: plain system calls on an open descriptor. Seals are what files of tmpfs and hugetlbfs
    // have, those of memfd among them, and no others.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) } >= 0 {
        return Kind::Memory;
    }
    if is_event(fd) {
        return Kind::Event;
    }
    let (mut domain, mut len) = (0i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: both point to locals that outlive the call, and `len` is the length of the first.
    let asked = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut len,
        )
    };
    if asked == 0 && domain == libc::AF_UNIX { Kind::Socket } else { Kind::Other }
}

/// The kernel's own name of what is open: a path begins with a slash, and no other kernel object has this.
fn is_event(fd: BorrowedFd<'_>) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .is_ok_and(|name| name.as_os_str() == "anon_inode:[eventfd]")
}

/// A descriptor that just came from a stranger. Dropping it does not wait for anybody.
#[derive(Debug)]
pub struct Given(ManuallyDrop<OwnedFd>);

impl Given {
    pub fn new(fd: OwnedFd) -> Self {
        Self(ManuallyDrop::new(fd))
    }

    /// The descriptor, if it is of a kind that we have any use for.
    pub fn known(mut self) -> Option<OwnedFd> {
        if kind(self.0.as_fd()) == Kind::Other {
            return None;
        }
        // SAFETY: `self` is forgotten in the next line, so that nobody takes it again.
        let fd = unsafe { ManuallyDrop::take(&mut self.0) };
        std::mem::forget(self);
        Some(fd)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // SAFETY: this value is not used any more.
        let fd = unsafe { ManuallyDrop::take(&mut self.0) };
        if kind(fd.as_fd()) == Kind::Other {
            close_elsewhere(fd);
        }
    }
}

/// Closes a descriptor where nobody waits for it.
fn close_elsewhere(fd: OwnedFd) {
    static CLOSER: OnceLock<io::Result<SyncSender<OwnedFd>>> = OnceLock::new();
    let closer = CLOSER.get_or_init(|| {
        let (sender, receiver) = sync_channel::<OwnedFd>(UNCLOSED_MAX);
        let close = move || receiver.into_iter().for_each(drop);
        std::thread::Builder::new().name("closer".to_owned()).spawn(close)?;
        Ok(sender)
    });
    let left = match closer {
        Ok(closer) => match closer.try_send(fd) {
            Ok(()) => return,
            Err(TrySendError::Full(fd) | TrySendError::Disconnected(fd)) => fd,
        },
        Err(_) => fd,
    };
    // A leak is the lesser evil: callers bound how many a stranger may give.
    std::mem::forget(left);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::memfd;
    use std::fs::File;
    use std::os::unix::net::UnixStream;

    #[test]
    fn kinds_are_told_apart() {
        let memory = memfd::create("memory", 4096).unwrap();
        assert_eq!(kind(memory.as_fd()), Kind::Memory);
        if let Ok(huge) = memfd::create_huge("huge", 2 << 20) {
            assert_eq!(kind(huge.as_fd()), Kind::Memory);
        }
        // The name of a file is its maker's choice.
        let named = memfd::create("anon_inode:[eventfd]", 4096).unwrap();
        assert_eq!(kind(named.as_fd()), Kind::Memory);
        assert_eq!(kind(Event::new().unwrap().as_fd()), Kind::Event);
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(kind(one.as_fd()), Kind::Socket);
        let (reader, writer) = io::pipe().unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        let null = File::open("/dev/null").unwrap();
        for other in [reader.as_fd(), writer.as_fd(), tcp.as_fd(), file.as_fd(), null.as_fd()] {
            assert_eq!(kind(other), Kind::Other);
        }
    }

    #[test]
    fn what_is_of_no_use_is_closed_all_the_same() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(Given::new(writer.into()).known().is_none());
        // Ends when the last writer has gone.
        let mut got = Vec::new();
        io::Read::read_to_end(&mut &reader, &mut got).unwrap();
        assert!(got.is_empty());
        let event = Event::new().unwrap();
        assert!(Given::new(event.into_fd()).known().is_some());
    }
}
