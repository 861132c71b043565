//! Waiting for a handful of descriptors at once, for clients that have no ring of their own.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Waits until one of the descriptors can be read (or its peer is gone), or until the time is
/// over. Returns how many can be read.
pub fn readable(fds: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<usize> {
    let poll = |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = fds.iter().map(poll).collect();
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `polled` is writable for its length and outlives the call.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    match usize::try_from(ready) {
        Ok(ready) => Ok(ready),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        },
    }
}

/// Whether the peer of a stream has closed it, or its writing half: nothing more will come than
/// what lies in the socket already.
pub fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: `polled` is writable and outlives the call, which does not wait.
    let ready = unsafe { libc::poll(&mut polled, 1, 0) };
    ready > 0 && polled.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use std::os::fd::AsFd;

    #[test]
    fn only_what_was_signalled_is_ready() {
        let (quiet, loud) = (Event::new().unwrap(), Event::new().unwrap());
        let both = [quiet.as_fd(), loud.as_fd()];
        assert_eq!(readable(&both, Duration::ZERO).unwrap(), 0);
        loud.signal();
        assert_eq!(readable(&both, Duration::from_secs(5)).unwrap(), 1);
    }
}
