//! The kernel's counts of a TCP stream, whatever the peer and the death of a process do to it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use host::Buffer;
use host::map::Mapping;
use host::ring::Pin;
use host::tcp::{Listener, Patience, Position, Received, Stream};
use request::Span;
use standpipe_host as host;

struct Scratch(Mapping);

// SAFETY: the mapping lives as long as the value, and the buffer lies within it.
unsafe impl Pin for Scratch {
    fn pin(&self, span: Span) -> Option<Buffer> {
        let end = span.offset.checked_add(u64::from(span.len))?;
        // SAFETY: checked against the mapping's length in the same breath.
        (end <= self.0.len() as u64)
            .then(|| unsafe { Buffer::new(self.0.as_ptr().add(span.offset as usize), span.len as usize) })
    }
}

impl Scratch {
    fn byte(&self, offset: u64) -> u8 {
        assert!(offset < self.0.len() as u64);
        // SAFETY: within the mapping.
        unsafe { self.0.as_ptr().add(offset as usize).read_volatile() }
    }

    fn set(&self, offset: u64, byte: u8) {
        assert!(offset < self.0.len() as u64);
        // SAFETY: within the mapping.
        unsafe { self.0.as_ptr().add(offset as usize).write_volatile(byte) };
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.0.len());
        // SAFETY: aligned and within the mapping, which lives as long as `self`; all access to these
        // bytes is by this function.
        unsafe { &*self.0.as_ptr().add(offset).cast::<AtomicU64>() }
    }
}

fn span(offset: u64, len: u64) -> Span {
    Span { offset, len: len as u32, region: 0 }
}

/// xorshift64*: a run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// The byte at a position of a stream; the two directions differ.
fn pattern(direction: u8, at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 16).wrapping_mul(167) as u8 ^ direction
}

fn pair_on(address: SocketAddr) -> (Stream, TcpStream) {
    let listener = Listener::bind(address, 16).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let peer = TcpStream::connect(listener.address().unwrap()).unwrap();
    host::poll::readable(&[listener.as_fd()], Duration::from_secs(5)).unwrap();
    let (stream, from) = listener.accept().unwrap().expect("a connection");
    assert_eq!(from, peer.local_addr().unwrap());
    let patience = Patience { idle: Duration::from_secs(30), unacknowledged: Duration::from_secs(30) };
    stream.set_up(patience).unwrap();
    (stream, peer)
}

fn pair() -> (Stream, TcpStream) {
    pair_on((Ipv4Addr::LOCALHOST, 0).into())
}

fn position(consumed: u64, given: u64) -> Position {
    Position { consumed, given }
}

/// Until the loopback has carried what was sent.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        std::thread::yield_now();
    }
}

fn receive_all(stream: &mut Stream, memory: &Scratch, offset: u64, len: u64) {
    let mut done = 0;
    until("all has come", || {
        match stream.receive(memory, &[span(offset + done, len - done)]).unwrap() {
            Received::Bytes(got) => done += got as u64,
            other => assert_eq!(other, Received::Nothing),
        }
        done == len
    });
}

#[test]
fn both_families_listen_side_by_side_and_can_be_adopted() {
    let six = Listener::bind((Ipv6Addr::UNSPECIFIED, 0).into(), 4).unwrap();
    let port = six.address().unwrap().port();
    let four = Listener::bind((Ipv4Addr::UNSPECIFIED, port).into(), 4).unwrap();
    let again = Listener::adopt(four.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let _peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    host::poll::readable(&[again.as_fd()], Duration::from_secs(5)).unwrap();
    let (stream, peer) = again.accept().unwrap().unwrap();
    assert!(peer.ip().is_loopback() && peer.is_ipv4());
    assert!(six.accept().unwrap().is_none());
    assert!(Stream::adopt(stream.as_fd().try_clone_to_owned().unwrap()).is_ok());
    assert!(Listener::adopt(stream.as_fd().try_clone_to_owned().unwrap()).is_err());
    let (unix, _) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(Stream::adopt(unix.into()).is_err());
    let (mut stream, mut peer) = pair_on((Ipv6Addr::LOCALHOST, 0).into());
    let memory = Scratch(Mapping::anonymous(4096).unwrap());
    peer.write_all(b"six").unwrap();
    receive_all(&mut stream, &memory, 0, 3);
    assert_eq!([memory.byte(0), memory.byte(1), memory.byte(2)], *b"six");
}

#[test]
fn bytes_go_to_the_spans_in_order_and_come_from_them() {
    let (mut stream, mut peer) = pair();
    let memory = Scratch(Mapping::anonymous(4096).unwrap());
    peer.write_all(b"abcdefgh").unwrap();
    until("all has come", || {
        stream.position().unwrap() == position(0, 0) && {
            let mut seen = [0; 8];
            // What is only looked at is not consumed.
            let fd = stream.as_fd().as_raw_fd();
            // SAFETY: `seen` is writable for its length.
            unsafe { libc::recv(fd, seen.as_mut_ptr().cast(), 8, libc::MSG_PEEK | libc::MSG_DONTWAIT) == 8 }
        }
    });
    let got = stream.receive(&memory, &[span(100, 3), span(7, 0), span(0, 4)]).unwrap();
    assert_eq!(got, Received::Bytes(7));
    assert_eq!([memory.byte(100), memory.byte(102), memory.byte(0), memory.byte(3)], *b"acdg");
    assert_eq!(stream.position().unwrap(), position(7, 0));
    assert_eq!(stream.send(&memory, &[span(2, 2), span(100, 1)], true).unwrap(), 3);
    assert_eq!(stream.send(&memory, &[span(101, 1)], false).unwrap(), 1);
    let mut got = [0; 4];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"fgab");
    assert_eq!(stream.position().unwrap(), position(7, 4));
    assert_eq!(stream.receive(&memory, &[]).unwrap(), Received::Nothing);
    assert_eq!(stream.send(&memory, &[], false).unwrap(), 0);
    let outside = stream.receive(&memory, &[span(4000, 97)]).unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::InvalidInput);
    assert_eq!(stream.send(&memory, &[span(4096, 1)], false).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_fin_of_either_side_is_no_byte() {
    let memory = Scratch(Mapping::anonymous(4096).unwrap());
    // The peer ends first; its FIN is noticed before the bytes in front of it are read.
    let (mut stream, mut peer) = pair();
    peer.write_all(b"hello").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    until("the end has come", || host::poll::is_hung_up(stream.as_fd()));
    assert_eq!(stream.position().unwrap(), position(0, 0));
    assert_eq!(stream.receive(&memory, &[span(0, 2)]).unwrap(), Received::Bytes(2));
    assert_eq!(stream.position().unwrap(), position(2, 0));
    assert_eq!(stream.receive(&memory, &[span(2, 100)]).unwrap(), Received::Bytes(3));
    assert_eq!(stream.position().unwrap(), position(5, 0));
    for _ in 0..2 {
        assert_eq!(stream.receive(&memory, &[span(2, 100)]).unwrap(), Received::End);
        assert_eq!(stream.position().unwrap(), position(5, 0));
    }
    assert_eq!(stream.send(&memory, &[span(0, 5)], false).unwrap(), 5);
    assert_eq!(stream.position().unwrap(), position(5, 5));
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    // LAST_ACK or, once the peer's kernel has answered, over.
    stream.finish().unwrap();
    match stream.position() {
        Ok(at) => assert_eq!(at, position(5, 5)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotConnected),
    }

    // We end first.
    let (mut stream, mut peer) = pair();
    assert_eq!(stream.send(&memory, &[span(0, 5)], false).unwrap(), 5);
    stream.finish().unwrap();
    for _ in 0..100 {
        assert_eq!(stream.position().unwrap(), position(0, 5));
        std::thread::sleep(Duration::from_micros(100));
    }
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"hello");
    assert_eq!(stream.position().unwrap(), position(0, 5));
    peer.write_all(b"bye").unwrap();
    receive_all(&mut stream, &memory, 0, 3);
    assert_eq!(stream.position().unwrap(), position(3, 5));
}

#[test]
fn what_the_peer_does_not_read_is_given_all_the_same() {
    const LEN: u64 = 8 << 20;
    let (mut stream, mut peer) = pair();
    let memory = Scratch(Mapping::anonymous(LEN as usize).unwrap());
    let mut given = 0;
    loop {
        let sent = stream.send(&memory, &[span(0, LEN)], false).unwrap() as u64;
        assert!(sent < LEN, "no socket takes as much as that");
        given += sent;
        assert_eq!(stream.position().unwrap(), position(0, given));
        if sent == 0 {
            break;
        }
    }
    stream.finish().unwrap();
    // The FIN cannot go before the bytes in front of it: it is queued, and is no byte either.
    assert_eq!(stream.position().unwrap(), position(0, given));
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all.len() as u64, given);
    assert_eq!(stream.position().unwrap(), position(0, given));
}

#[test]
fn an_urgent_byte_stays_in_its_place() {
    let (mut stream, mut peer) = pair();
    let memory = Scratch(Mapping::anonymous(4096).unwrap());
    peer.write_all(b"ab").unwrap();
    // SAFETY: the string is readable for its length.
    let sent = unsafe { libc::send(peer.as_raw_fd(), c"u".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
    peer.write_all(b"cd").unwrap();
    receive_all(&mut stream, &memory, 0, 5);
    let got: Vec<u8> = (0..5).map(|at| memory.byte(at)).collect();
    assert_eq!(got, b"abucd");
    assert_eq!(stream.position().unwrap(), position(5, 0));
}

#[test]
fn a_connection_that_was_reset_has_no_position() {
    let (mut stream, peer) = pair();
    let memory = Scratch(Mapping::anonymous(4096).unwrap());
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option takes this structure, which outlives the call.
    let set = unsafe {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_LINGER);
        libc::setsockopt(
            peer.as_raw_fd(),
            level,
            name,
            (&raw const linger).cast(),
            size_of_val(&linger) as u32,
        )
    };
    assert_eq!(set, 0);
    drop(peer);
    until("the reset has come", || host::poll::is_hung_up(stream.as_fd()));
    assert!(stream.is_over());
    assert_eq!(stream.position().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(stream.receive(&memory, &[span(0, 1)]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    // No signal comes of this: the test would not survive it.
    assert_eq!(stream.send(&memory, &[span(0, 1)], false).unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn random_traffic_is_counted_to_the_byte() {
    const RING: u64 = 1 << 16;
    let (mut stream, mut peer) = pair();
    peer.set_nonblocking(true).unwrap();
    let memory = Scratch(Mapping::anonymous(2 * RING as usize).unwrap());
    let mut dice = Dice(0x5eed);
    let (mut put, mut consumed, mut given, mut taken) = (0u64, 0u64, 0u64, 0u64);
    let mut bytes = vec![0; RING as usize];
    for _ in 0..20_000 {
        match dice.below(4) {
            0 => {
                let len = dice.below(RING) as usize;
                for (at, byte) in bytes[..len].iter_mut().enumerate() {
                    *byte = pattern(1, put + at as u64);
                }
                put += peer.write(&bytes[..len]).unwrap_or(0) as u64;
            }
            1 => {
                let len = 1 + dice.below(RING - 1);
                if let Received::Bytes(got) = stream.receive(&memory, &[span(0, len)]).unwrap() {
                    for at in 0..got as u64 {
                        assert_eq!(memory.byte(at), pattern(1, consumed + at));
                    }
                    consumed += got as u64;
                }
            }
            2 => {
                let (one, two) = (dice.below(RING / 2), dice.below(RING / 2));
                for at in 0..one + two {
                    memory.set(RING + at, pattern(2, given + at));
                }
                let more = dice.below(2) == 0;
                given +=
                    stream.send(&memory, &[span(RING, one), span(RING + one, two)], more).unwrap() as u64;
            }
            _ => {
                let len = dice.below(RING) as usize;
                let got = peer.read(&mut bytes[..len]).unwrap_or(0);
                for (at, byte) in bytes[..got].iter().enumerate() {
                    assert_eq!(*byte, pattern(2, taken + at as u64));
                }
                taken += got as u64;
            }
        }
        assert_eq!(stream.position().unwrap(), position(consumed, given));
    }
    assert!(consumed > 1 << 20 && taken > 1 << 20, "{consumed} {taken}: hardly anything moved");
}

/// Where the bytes received last lie: a lap around it is longer than what one call may receive.
const RING: u64 = 1 << 18;
const RECEIVE_MAX: u64 = 1 << 16;
/// The pattern's period divides the length: the byte of any position can be sent from here.
const OUT_AT: u64 = RING;
const OUT: u64 = 1 << 24;
const NOTES_AT: usize = (RING + OUT) as usize;

/// The worker: receives into the ring and sends the pattern, from wherever the kernel says the stream
/// is, until it is killed. It notes nothing by itself but that it moved.
fn work(mut stream: Stream, memory: &Scratch, seed: u64) -> ! {
    let mut dice = Dice(seed);
    let mut at = stream.position().expect("connected");
    loop {
        let mut into = dice.below(RECEIVE_MAX) + 1;
        let start = at.consumed % RING;
        let first = into.min(RING - start);
        into -= first;
        if let Received::Bytes(got) = stream.receive(memory, &[span(start, first), span(0, into)]).unwrap() {
            at.consumed += got as u64;
        }
        let mut len = dice.below(1 << 16) + 1;
        let mut pieces = Vec::new();
        let mut from = at.given % OUT;
        while len > 0 {
            let piece = (dice.below(8192) + 1).min(len).min(OUT - from);
            pieces.push(span(OUT_AT + from, piece));
            from = (from + piece) % OUT;
            len -= piece;
        }
        at.given += stream.send(memory, &pieces, dice.below(2) == 0).unwrap() as u64;
        memory.counter(NOTES_AT).fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_counts_are_exact_after_a_death_at_any_moment() {
    const KILLS: u64 = 400;
    let file = host::memfd::create("tcp-test", NOTES_AT as u64 + 4096).unwrap();
    let memory = Arc::new(Scratch(Mapping::of_file(file.as_fd(), 0, NOTES_AT + 4096).unwrap()));
    for at in 0..OUT {
        memory.set(OUT_AT + at, pattern(2, at));
    }
    let (stream, peer) = pair();
    let over = Arc::new(AtomicBool::new(false));
    let writer = {
        let (mut peer, over) = (peer.try_clone().unwrap(), Arc::clone(&over));
        std::thread::spawn(move || {
            let mut put = 0u64;
            let mut dice = Dice(11);
            while !over.load(Ordering::Relaxed) {
                let len = dice.below(1 << 15) + 1;
                let bytes: Vec<u8> = (put..put + len).map(|at| pattern(1, at)).collect();
                peer.write_all(&bytes).unwrap();
                put += len;
            }
            peer.shutdown(Shutdown::Write).unwrap();
            put
        })
    };
    let reader = {
        let mut peer = peer;
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 15];
            let mut taken = 0u64;
            loop {
                let got = peer.read(&mut bytes).unwrap();
                if got == 0 {
                    return taken;
                }
                for (at, byte) in bytes[..got].iter().enumerate() {
                    assert_eq!(*byte, pattern(2, (taken + at as u64) % OUT), "at {}", taken + at as u64);
                }
                taken += got as u64;
            }
        })
    };
    let mut dice = Dice(77);
    let mut last = Position::default();
    let mut moved = 0;
    for kill in 0..KILLS {
        memory.counter(NOTES_AT).store(0, Ordering::Relaxed);
        let theirs = Stream::adopt(stream.as_fd().try_clone_to_owned().unwrap()).unwrap();
        // SAFETY: the child only runs `work`, which never returns to the test harness, and exits
        // without unwinding into it; glibc makes malloc usable after a fork.
        // JUSTIFICATION: only the death of a process can interrupt a system call of its for good.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let _ = std::panic::catch_unwind(|| {
                work(theirs, &memory, 0x9e37_79b9_7f4a_7c15 ^ kill << 32 | 1);
            });
            // SAFETY: ends the process and runs nothing of the harness.
            unsafe { libc::_exit(1) };
        }
        drop(theirs);
        let (rounds, wait) = (dice.below(20), dice.below(1500));
        until("the child has begun", || memory.counter(NOTES_AT).load(Ordering::Relaxed) > rounds);
        std::thread::sleep(Duration::from_micros(wait));
        let mut status = 0;
        // SAFETY: the child is ours, and not reaped yet.
        unsafe {
            assert_eq!(libc::kill(child, libc::SIGKILL), 0);
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
        }
        assert!(libc::WIFSIGNALED(status), "the child ended by itself");
        let at = stream.position().unwrap();
        assert_eq!(stream.position().unwrap(), at, "nobody receives or sends, and yet it moved");
        assert!(at.consumed >= last.consumed && at.given >= last.given);
        // All bytes up to there are in the memory. What a call that did not end may have put behind
        // them is overwritten by the next.
        for byte in at.consumed.saturating_sub(RING - RECEIVE_MAX).max(last.consumed)..at.consumed {
            assert_eq!(memory.byte(byte % RING), pattern(1, byte), "at {byte} after {kill} kills");
        }
        moved += u64::from(at.consumed > last.consumed && at.given > last.given);
        last = at;
    }
    // The rest is taken by us, so that the writer comes to its end.
    over.store(true, Ordering::Relaxed);
    let mut stream = stream;
    let mut consumed = last.consumed;
    until("the writer has ended", || match stream.receive(&*memory, &[span(0, RECEIVE_MAX)]).unwrap() {
        Received::Bytes(got) => {
            for at in 0..got as u64 {
                assert_eq!(memory.byte(at), pattern(1, consumed + at));
            }
            consumed += got as u64;
            false
        }
        Received::Nothing => false,
        Received::End => true,
    });
    stream.finish().unwrap();
    assert_eq!(writer.join().unwrap(), consumed);
    assert_eq!(reader.join().unwrap(), last.given);
    assert!(moved > KILLS / 2, "only {moved} of {KILLS} children moved bytes both ways");
    println!("kills={KILLS} moved={moved} consumed={} given={}", last.consumed, last.given);
}
