//! Moving bytes of a stream so that the count outlives the process.
//!
//! `recvmmsg` and `sendmmsg` write how many bytes they moved into the header that they are given,
//! before they return. With that header in shared memory the kernel moves the bytes and notes the
//! count in one system call: a process that is killed finds no instruction between the two. Its
//! successor reads the count where the dead one would have (docs/decisions/0007).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::map::Mapping;

/// A header for one call at a time, in shared memory.
#[derive(Clone, Debug)]
pub struct Slip {
    mapping: Arc<Mapping>,
    at: usize,
}

/// Room for one descriptor, aligned as its header wants it.
struct Control([u64; 8]);

const _: () = {
    assert!(align_of::<libc::cmsghdr>() <= align_of::<Control>());
    // SAFETY: arithmetic on a length.
    assert!(unsafe { libc::CMSG_SPACE(size_of::<libc::c_int>() as u32) } as usize <= size_of::<Control>());
};

/// Where the bytes go that were looked at before.
const WASTE: usize = 4096;
/// So many pieces of that size in one call.
const PIECES: usize = 16;

impl Slip {
    /// What a slip takes of its mapping, at a multiple of 8.
    pub const BYTES: usize = size_of::<libc::mmsghdr>();
    /// What one `take` takes at most.
    pub const TAKE_MAX: usize = WASTE * PIECES;

    /// A slip at a place of a mapping that others share. `None`: it does not lie within, or is not
    /// aligned.
    pub fn new(mapping: Arc<Mapping>, at: usize) -> Option<Self> {
        let end = at.checked_add(Self::BYTES)?;
        let aligned =
            (mapping.as_ptr() as usize).checked_add(at)?.is_multiple_of(align_of::<libc::mmsghdr>());
        (end <= mapping.len() && aligned).then_some(Self { mapping, at })
    }

    fn header(&self) -> *mut libc::mmsghdr {
        // SAFETY: `new` checked that the header lies within the mapping.
        unsafe { self.mapping.as_ptr().add(self.at).cast() }
    }

    fn len(&self) -> &AtomicU32 {
        // SAFETY: the field is an aligned number within the mapping, which `self` keeps; in this
        // process it is only accessed here, and by the kernel in calls of this thread.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.header()).msg_len) }
    }

    /// Bytes that the last call on this slip moved, whoever made it; zero if it moved none.
    pub fn count(&self) -> usize {
        self.len().load(Ordering::Acquire) as usize
    }

    /// Nothing was moved yet.
    pub fn clear(&self) {
        self.len().store(0, Ordering::Release);
    }

    /// Takes up to `len` bytes from a stream, and throws them away: they were looked at before. The
    /// slip has to be clear, and says afterwards how many were taken. Descriptors that come along are
    /// closed.
    pub fn take(&self, socket: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
        let mut waste = [0u8; WASTE];
        let mut vectors = [libc::iovec { iov_base: waste.as_mut_ptr().cast(), iov_len: 0 }; PIECES];
        let mut left = len;
        let mut used = 0;
        for vector in &mut vectors {
            if left == 0 {
                break;
            }
            vector.iov_len = left.min(WASTE);
            left -= vector.iov_len;
            used += 1;
        }
        self.fill(vectors.as_mut_ptr(), used);
        // SAFETY: the header lies in a live mapping; it points to `vectors`, and these to `waste`, which
        // outlive the call. The timeout is null.
        // JUSTIFICATION: all pieces are the same memory, whose bytes nobody reads.
        let moved = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.header(),
                1,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = self.ended(moved)?;
        if len > 0 && count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }

    /// Sends bytes, as many as the stream takes without waiting, and a descriptor with the first of them.
    /// The slip has to be clear, and says afterwards how many bytes that were.
    pub fn send(
        &self,
        socket: BorrowedFd<'_>,
        bytes: &[u8],
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<usize> {
        let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.fill(&mut vector, 1);
        let mut control = Control([0; 8]);
        if let Some(fd) = fd {
            // SAFETY: the header lies in a live mapping; it points to `control`, which outlives the call
            // and is long enough and aligned for a header and one descriptor (asserted below).
            unsafe {
                let message = &raw mut (*self.header()).msg_hdr;
                (*message).msg_control = control.0.as_mut_ptr().cast();
                (*message).msg_controllen = libc::CMSG_SPACE(size_of::<libc::c_int>() as u32) as _;
                let first = libc::CMSG_FIRSTHDR(message);
                (*first).cmsg_level = libc::SOL_SOCKET;
                (*first).cmsg_type = libc::SCM_RIGHTS;
                (*first).cmsg_len = libc::CMSG_LEN(size_of::<libc::c_int>() as u32) as _;
                libc::CMSG_DATA(first).cast::<libc::c_int>().write_unaligned(fd.as_raw_fd());
            }
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the header lies in a live mapping; it points to `vector`, that to `bytes`, and to
        // `control`, which outlive the call and are only read.
        let moved = unsafe { libc::sendmmsg(socket.as_raw_fd(), self.header(), 1, flags as _) };
        self.ended(moved)
    }

    /// All but the count.
    fn fill(&self, vectors: *mut libc::iovec, count: usize) {
        // SAFETY: an all-zero msghdr is a valid value of this C structure.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = vectors;
        message.msg_iovlen = count as _;
        // SAFETY: within the mapping, and no reference to it exists.
        unsafe { (&raw mut (*self.header()).msg_hdr).write(message) };
    }

    fn ended(&self, moved: libc::c_int) -> io::Result<usize> {
        if moved > 0 {
            return Ok(self.count());
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => Ok(0),
            io::ErrorKind::Interrupted => Ok(0),
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{memfd, socket};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, Instant};

    fn shared() -> Arc<Mapping> {
        let file = memfd::create("slips", 4096).unwrap();
        Arc::new(Mapping::of_file(file.as_fd(), 0, 4096).unwrap())
    }

    #[test]
    fn the_kernel_notes_what_it_moved() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let memory = shared();
        let slip = Slip::new(Arc::clone(&memory), 64).unwrap();
        theirs.write_all(b"some bytes").unwrap();
        assert_eq!(slip.take(ours.as_fd(), 4).unwrap(), 4);
        // Another look at the same memory, as a successor has it.
        let successor = Slip::new(Arc::clone(&memory), 64).unwrap();
        assert_eq!(successor.count(), 4);
        slip.clear();
        assert_eq!(slip.send(ours.as_fd(), b"answer", None).unwrap(), 6);
        assert_eq!(successor.count(), 6);
        let mut got = [0; 6];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"answer");
        slip.clear();
        assert_eq!(slip.take(ours.as_fd(), 100).unwrap(), 6);
        drop(theirs);
        slip.clear();
        assert!(slip.take(ours.as_fd(), 1).is_err() && slip.count() == 0);
        assert!(Slip::new(Arc::clone(&memory), 4096 - 8).is_none() && Slip::new(memory, 4).is_none());
    }

    #[test]
    fn a_descriptor_goes_with_the_first_byte() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let memory = shared();
        let slip = Slip::new(Arc::clone(&memory), 0).unwrap();
        let file = memfd::create("page", 4096).unwrap();
        assert_eq!(slip.send(ours.as_fd(), b"here", Some(file.as_fd())).unwrap(), 4);
        slip.clear();
        assert_eq!(slip.send(ours.as_fd(), b"more", None).unwrap(), 4);
        let mut bytes = [0; 16];
        let got = socket::peek(theirs.as_fd(), &mut bytes).unwrap().unwrap();
        assert_eq!((&bytes[..got.len], got.fds.len()), (&b"here"[..], 1));
        assert_eq!(memfd::identity(&got.fds[0]).unwrap(), memfd::identity(&file).unwrap());
    }

    #[test]
    fn a_full_stream_takes_a_part_and_says_how_much() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let slip = Slip::new(shared(), 0).unwrap();
        let bytes = vec![7; 1 << 20];
        let mut sent = 0;
        loop {
            slip.clear();
            match slip.send(ours.as_fd(), &bytes[sent..], None).unwrap() {
                0 => break,
                some => sent += some,
            }
        }
        assert!(sent > 0 && sent < bytes.len() && slip.count() == 0);
        let mut got = vec![0; sent];
        theirs.read_exact(&mut got).unwrap();
    }

    /// Descriptors cut a stream into pieces: a `take` ends behind the bytes that bring one.
    #[test]
    fn a_piece_with_descriptors_ends_a_take() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let slip = Slip::new(shared(), 0).unwrap();
        let event = crate::event::Event::new().unwrap();
        socket::send(theirs.as_fd(), b"with", &[event.as_fd()]).unwrap();
        socket::send(theirs.as_fd(), b"without", &[]).unwrap();
        assert_eq!(slip.take(ours.as_fd(), 11).unwrap(), 4);
        slip.clear();
        assert_eq!(slip.take(ours.as_fd(), 7).unwrap(), 7);
    }

    /// The state of the echo below, one number: bytes handled and not yet taken, replies queued and not
    /// yet sent, which slip is used for each, how many bytes there were before.
    #[derive(Clone, Copy)]
    struct Word {
        before: u64,
        handled: u64,
        queued: u64,
        receive: u64,
        send: u64,
    }

    impl Word {
        fn of(bits: u64) -> Self {
            let field = |at: u32, width: u32| bits >> at & ((1 << width) - 1);
            Self {
                before: field(0, 30),
                handled: field(30, 16),
                queued: field(46, 16),
                receive: field(62, 1),
                send: field(63, 1),
            }
        }

        fn bits(self) -> u64 {
            self.before | self.handled << 30 | self.queued << 46 | self.receive << 62 | self.send << 63
        }
    }

    const SEND_SLIPS: usize = 1024;

    /// Byte `at` of the stream that the parent sends.
    fn byte(at: u64) -> u8 {
        (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    }

    /// A worker that sends back what comes, with each bit turned; in a process of its own, without an
    /// allocation, until it is killed. Ends with 1 if what it finds is not what it expects.
    fn echo(memory: &Arc<Mapping>, socket: BorrowedFd<'_>) -> i32 {
        // SAFETY: aligned and within the mapping.
        let word = unsafe { AtomicU64::from_ptr(memory.as_ptr().cast()) };
        let slip = |at: usize, which: u64| Slip::new(Arc::clone(memory), at + which as usize * 64).unwrap();
        let mut bytes = [0; 600];
        loop {
            let mut now = Word::of(word.load(Ordering::Acquire));
            // What a dead worker had begun, and what we begin below.
            let taken = slip(64, now.receive).count() as u64;
            let sent = slip(SEND_SLIPS, now.send).count() as u64;
            if taken > now.handled || sent > now.queued {
                return 2;
            }
            let (take, send) = (now.handled - taken, now.queued - sent);
            slip(64, 1 - now.receive).clear();
            slip(SEND_SLIPS, 1 - now.send).clear();
            now = Word {
                before: now.before + taken,
                handled: take,
                queued: send,
                receive: 1 - now.receive,
                send: 1 - now.send,
            };
            word.store(now.bits(), Ordering::Release);
            if take > 0 || send > 0 {
                let end = now.before + now.handled;
                let mut replies = [0; 600];
                for (at, reply) in replies.iter_mut().take(send as usize).enumerate() {
                    *reply = !byte(end - send + at as u64);
                }
                let reply = &replies[..send as usize];
                if !reply.is_empty() && slip(SEND_SLIPS, now.send).send(socket, reply, None).is_err() {
                    return 3;
                }
                if take > 0 && slip(64, now.receive).take(socket, take as usize).is_err() {
                    return 4;
                }
                continue;
            }
            let len = match socket::peek(socket, &mut bytes) {
                Ok(Some(peeked)) if peeked.len > 0 => peeked.len,
                Ok(None) => continue,
                _ => return 5,
            };
            // Not always all that is there.
            let len = len.min(1 + (now.before % 577) as usize);
            if bytes[..len].iter().enumerate().any(|(at, got)| *got != byte(now.before + at as u64)) {
                return 1;
            }
            now.handled = len as u64;
            now.queued = len as u64;
            word.store(now.bits(), Ordering::Release);
        }
    }

    #[test]
    fn a_worker_that_is_killed_anywhere_takes_and_sends_each_byte_once() {
        let memory = shared();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (mut sent, mut got) = (0u64, 0u64);
        let mut random = 0x1234_5678_9abc_def1u64;
        let mut kills = 0;
        while kills < 400 {
            // SAFETY: the child makes system calls on memory that is there, and never returns.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            if child == 0 {
                let code = echo(&memory, ours.as_fd());
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(code) };
            }
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let alive = Duration::from_micros(random >> 32 & 0x7ff);
            let begun = Instant::now();
            while begun.elapsed() < alive {
                if sent - got < 20_000 && sent < 1 << 29 {
                    let chunk: Vec<u8> = (sent..sent + 900).map(byte).collect();
                    match theirs.write(&chunk) {
                        Ok(len) => sent += len as u64,
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                }
                let mut back = [0; 4096];
                match theirs.read(&mut back) {
                    Ok(len) => {
                        for reply in &back[..len] {
                            assert_eq!(*reply, !byte(got), "byte {got} came twice, or never");
                            got += 1;
                        }
                    }
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            let mut status = 0;
            // SAFETY: our own child, which is waited for here and nowhere else.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, &mut status, 0);
            }
            assert!(libc::WIFSIGNALED(status), "the worker ended by itself: {status:#x}");
            kills += 1;
        }
        assert!(got > 10_000, "{got} bytes came back in all");
    }
}
