//! The discipline of a control socket that outlives the process behind it.
//!
//! A message is looked at (`peek`, which also duplicates its descriptors), acted on and noted, and
//! only then taken from the socket (`consume`): until then a successor finds it there. A reply is
//! written into the [`Outbox`], a file in memory, and sent from there with `sendfile`, so that the
//! kernel itself moves the file's position as it sends: after a crash the position tells how much
//! of the reply the peer has been given. Neither a second reply nor a lost one is possible
//! (docs/decisions/0002).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::given::Given;

/// Descriptors in one message: vhost-user sends at most 8 in SET_MEM_TABLE, QEMU's vfio-user 16.
pub const FDS_MAX: usize = 16;

/// What is at the head of a stream.
#[derive(Debug)]
pub struct Peeked {
    pub len: usize,
    pub fds: Vec<OwnedFd>,
}

/// Looks at the head of the stream without taking it. `Ok(None)`: nothing there yet.
/// A length of zero means that the peer has closed.
pub fn peek(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Option<Peeked>> {
    receive(socket, into, libc::MSG_PEEK)
}

/// As [`peek`], where the peer is a stranger.
pub fn peek_stranger(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Option<(usize, Vec<Given>)>> {
    let peeked = peek(socket, into)?;
    Ok(peeked.map(|peeked| (peeked.len, peeked.fds.into_iter().map(Given::new).collect())))
}

/// Takes what there is, with its descriptors.
pub fn take(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Option<Peeked>> {
    receive(socket, into, 0)
}

fn receive(socket: BorrowedFd<'_>, into: &mut [u8], flags: i32) -> io::Result<Option<Peeked>> {
    let mut vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut control = [0u64; 32];
    // SAFETY: an all-zero msghdr is a valid value of this C structure.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `header` points to buffers that outlive the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) };
    if got < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    }
    let mut fds = Vec::new();
    // SAFETY: `header` was filled in by the kernel.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give headers within `control`.
        let cmsg = unsafe { &*message };
        if cmsg.cmsg_level == libc::SOL_SOCKET && cmsg.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the data lies within `control`, behind its header.
            let data = unsafe { libc::CMSG_DATA(message) };
            // SAFETY: a pure computation.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (cmsg.cmsg_len as usize).saturating_sub(head) / size_of::<RawFd>();
            for index in 0..count {
                // SAFETY: `index` is below the number of descriptors that the kernel wrote; it made
                // them for us.
                let fd = unsafe { OwnedFd::from_raw_fd(data.cast::<RawFd>().add(index).read_unaligned()) };
                fds.push(fd);
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        message = unsafe { libc::CMSG_NXTHDR(&header, message) };
    }
    Ok(Some(Peeked { len: got as usize, fds }))
}

/// Takes `len` bytes that were looked at before; their descriptors were duplicated then.
pub fn consume(socket: BorrowedFd<'_>, mut len: usize) -> io::Result<()> {
    let mut scratch = [0u8; 4096];
    while len > 0 {
        let want = len.min(scratch.len());
        // SAFETY: `scratch` is writable for `want` bytes. Without room for control data the kernel
        // closes the descriptors that come along.
        let got =
            unsafe { libc::recv(socket.as_raw_fd(), scratch.as_mut_ptr().cast(), want, libc::MSG_DONTWAIT) };
        match got {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got if got > 0 => len -= got as usize,
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Sends bytes with descriptors; all of them or an error. For datagrams and for replies that carry
/// a descriptor.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket, bytes, fds, 0)
}

/// As `send`, but never waits for a peer that does not read.
pub fn try_send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    send_with(socket, bytes, &[], libc::MSG_DONTWAIT)
}

fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: i32) -> io::Result<()> {
    if fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = [0u64; 32];
    // SAFETY: an all-zero msghdr is a valid value of this C structure.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    if !raw.is_empty() {
        let len = size_of_val(raw.as_slice()) as u32;
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: a pure computation.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(len) } as usize;
        // SAFETY: `control` has room for one header with FDS_MAX descriptors.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(&header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_RIGHTS;
            (*message).cmsg_len = libc::CMSG_LEN(len) as usize;
            std::ptr::copy_nonoverlapping(raw.as_ptr().cast::<u8>(), libc::CMSG_DATA(message), len as usize);
        }
    }
    loop {
        // SAFETY: `header` points to buffers that outlive the call.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_NOSIGNAL | flags) };
        if sent == bytes.len() as isize {
            return Ok(());
        }
        if sent >= 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A reply on its way, in a file whose position the kernel moves as it sends.
///
/// `sendfile` does not copy: until the peer has read a reply, the socket's queue refers to the file's
/// page. So each reply has a page of its own, and a page is used again only after all the others. A
/// peer that asks for more replies than that before it reads one spoils its own answers.
#[derive(Debug)]
pub struct Outbox(OwnedFd);

const PAGE: usize = 4096;
const PAGES: usize = 64;

impl Outbox {
    /// Longer than any reply of the protocols that use it (GET_CONFIG: 12 + 12 + 256 bytes).
    /// Less than a page, so that the position always lies in the page of its reply.
    pub const LEN_MAX: usize = PAGE - 1;

    pub fn create() -> io::Result<Self> {
        Ok(Self(crate::memfd::create("standpipe-outbox", (PAGES * PAGE) as u64)?))
    }

    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.0.as_fd()
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Puts a reply into the next page and sets the position to its start. Until the caller has noted
    /// that there is one, nobody sends it.
    pub fn fill(&self, reply: &[u8]) -> io::Result<()> {
        if reply.len() > Self::LEN_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let page = (self.position()? / PAGE + 1) % PAGES;
        let start = (page * PAGE) as i64;
        // SAFETY: `reply` is readable for its length.
        let put = unsafe { libc::pwrite(self.0.as_raw_fd(), reply.as_ptr().cast(), reply.len(), start) };
        if put != reply.len() as isize {
            return Err(io::Error::last_os_error());
        }
        self.seek(start)
    }

    fn seek(&self, to: i64) -> io::Result<()> {
        // SAFETY: a plain system call on our own descriptor.
        if unsafe { libc::lseek(self.0.as_raw_fd(), to, libc::SEEK_SET) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// How many bytes of the reply the socket has taken.
    pub fn sent(&self) -> io::Result<usize> {
        Ok(self.position()? % PAGE)
    }

    fn position(&self) -> io::Result<usize> {
        // SAFETY: a plain system call on our own descriptor.
        let at = unsafe { libc::lseek(self.0.as_raw_fd(), 0, libc::SEEK_CUR) };
        if at < 0 { Err(io::Error::last_os_error()) } else { Ok(at as usize) }
    }

    /// Sends what is left of a reply of `len` bytes; `false` if the socket takes no more now.
    pub fn flush(&self, socket: BorrowedFd<'_>, len: usize) -> io::Result<bool> {
        loop {
            let sent = self.sent()?;
            if sent >= len {
                return Ok(true);
            }
            // SAFETY: both descriptors are open; no offset pointer, so the file's position moves.
            let moved = unsafe {
                libc::sendfile(socket.as_raw_fd(), self.0.as_raw_fd(), std::ptr::null_mut(), len - sent)
            };
            if moved < 0 {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(false),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                }
            } else if moved == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
    }
}

/// Makes a descriptor non-blocking.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain system calls on an open descriptor.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: as above.
    if flags < 0 || unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_message_stays_until_it_is_consumed_and_its_descriptors_come_with_each_look() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let event = crate::event::Event::new().unwrap();
        send(theirs.as_fd(), b"hello", &[event.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        for _ in 0..2 {
            let peeked = peek(ours.as_fd(), &mut buffer).unwrap().unwrap();
            assert_eq!((peeked.len, peeked.fds.len()), (5, 1));
        }
        consume(ours.as_fd(), 5).unwrap();
        assert!(peek(ours.as_fd(), &mut buffer).unwrap().is_none());
    }

    #[test]
    fn the_outbox_knows_what_the_socket_took() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let outbox = Outbox::create().unwrap();
        outbox.fill(b"a reply").unwrap();
        assert_eq!(outbox.sent().unwrap(), 0);
        assert!(outbox.flush(ours.as_fd(), 7).unwrap());
        assert_eq!(outbox.sent().unwrap(), 7);
        // A successor that finds the note does not send it again.
        assert!(outbox.flush(ours.as_fd(), 7).unwrap());
        drop(ours);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"a reply");
        theirs.flush().unwrap();
    }

    #[test]
    fn a_reply_that_waits_to_be_read_is_not_changed_by_the_next() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let outbox = Outbox::create().unwrap();
        for number in 0..PAGES as u8 {
            outbox.fill(&[number; 20]).unwrap();
            assert!(outbox.flush(ours.as_fd(), 20).unwrap());
        }
        for number in 0..PAGES as u8 {
            let mut got = [0; 20];
            theirs.read_exact(&mut got).unwrap();
            assert_eq!(got, [number; 20]);
        }
    }
}
