//! TCP connections that outlive the process behind them.
//!
//! Bytes are received straight into a mapping and sent straight out of one. How far a stream has come
//! is not noted by us, as a note can always be one instruction late: the kernel itself counts what it
//! has handed out and taken in, and moves its counts after the bytes ([`Stream::position`],
//! docs/decisions/0005).

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use request::Span;

use crate::ring::Pin;

/// Pieces in one call: UIO_MAXIOV. The rest of a longer list waits for the next call.
pub const PIECES_MAX: usize = 1024;

/// A socket that waits for connections; never blocks.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Listens on one address. An IPv6 address means IPv6 only, so that `[::]` and `0.0.0.0` can both
    /// be listened on.
    pub fn bind(address: SocketAddr, backlog: u32) -> io::Result<Self> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(family, kind, libc::IPPROTO_TCP) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was made just now, for us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // Connections of a server that was here before may still be in TIME_WAIT.
        set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        // Connections have it from here: set when they are accepted it would be late for an urgent byte
        // that has come by then.
        set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_OOBINLINE, 1)?;
        if address.is_ipv6() {
            set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        let (storage, len) = to_kernel(address);
        // SAFETY: `storage` holds an address of `len` bytes and outlives the call.
        if unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: no pointers are passed.
        if unsafe { libc::listen(fd.as_raw_fd(), i32::try_from(backlog).unwrap_or(i32::MAX)) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(fd.into()))
    }

    /// A listener that was kept while the worker was away.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let listener = TcpListener::from(fd);
        if get_option(listener.as_fd(), libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptor does not listen"));
        }
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The address, with the port that the kernel chose if none was given.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Listens no more, whoever has duplicates of the descriptor: the address is free at once.
    pub fn end(&self) -> io::Result<()> {
        // SAFETY: no pointers are passed, and the descriptor is open as long as `self` is there.
        match unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_RDWR) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The next connection; `None` if there is none now.
    pub fn accept(&self) -> io::Result<Option<(Stream, SocketAddr)>> {
        loop {
            match self.0.accept() {
                Ok((stream, peer)) => return Ok(Some((Stream::of(stream)?, peer))),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(None),
                    // It came and went; the next may be there.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An iovec whose address is a number, so that a connection can go to another thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Piece {
    address: usize,
    len: usize,
}

const _: () = assert!(size_of::<Piece>() == size_of::<libc::iovec>());
const _: () = assert!(align_of::<Piece>() == align_of::<libc::iovec>());

/// What receiving brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    Bytes(usize),
    /// There is nothing now.
    Nothing,
    /// The peer has sent its last byte.
    End,
}

/// How far both directions of a stream have come, in bytes since the connection was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Bytes that were received by whoever held the socket.
    pub consumed: u64,
    /// Bytes that the socket has taken for the peer.
    pub given: u64,
}

/// How soon a peer that is gone without a word is noticed.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Silence after which the peer's kernel is asked whether it is there.
    pub idle: Duration,
    /// Time for which sent bytes or such questions may stay unacknowledged.
    pub unacknowledged: Duration,
}

/// A connection. No call waits.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    pieces: Vec<Piece>,
}

impl Stream {
    /// A connection that was kept while the worker was away.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let socket = TcpStream::from(fd);
        // Fails for anything but a connection of IP, and then for anything but TCP.
        socket.local_addr()?;
        information(socket.as_fd())?;
        Self::of(socket)
    }

    fn of(socket: TcpStream) -> io::Result<Self> {
        // An urgent byte stays in its place in the stream. Otherwise it would be taken out of it, and
        // counted all the same.
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_OOBINLINE, 1)?;
        Ok(Self { socket, pieces: Vec::new() })
    }

    /// Small messages go at once, and a peer that vanished is noticed.
    pub fn set_up(&self, patience: Patience) -> io::Result<()> {
        let seconds = |time: Duration| i32::try_from(time.as_secs().max(1)).unwrap_or(i32::MAX);
        let fd = self.socket.as_fd();
        self.socket.set_nodelay(true)?;
        set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(patience.idle))?;
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 1)?;
        let limit = i32::try_from(patience.unacknowledged.as_millis()).unwrap_or(i32::MAX);
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, limit)
    }

    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Says that no more will be sent. What was sent arrives.
    pub fn finish(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Ends both directions. Duplicates of the descriptor, wherever they are, end with it.
    pub fn shut(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Both)
    }

    /// Receives into the spans, in their order.
    pub fn receive<M: Pin>(&mut self, memory: &M, into: &[Span]) -> io::Result<Received> {
        self.gather(memory, into)?;
        if self.pieces.is_empty() {
            return Ok(Received::Nothing);
        }
        loop {
            let mut header = self.header();
            // SAFETY: `header` refers to `pieces`, which outlive the call. `Piece` has the layout of an
            // iovec, and each is mapped, shared and writable as long as `memory` is borrowed (`Pin`).
            // JUSTIFICATION: no reference to the bytes is made; whoever reads them later does so by
            // `guest/memory`.
            let got = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
            match usize::try_from(got) {
                Ok(0) => return Ok(Received::End),
                Ok(got) => return Ok(Received::Bytes(got)),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }

    /// Sends the spans, in their order, as far as the socket takes them; returns how many bytes that
    /// was. `more`: further bytes follow at once, so that the kernel may wait to fill a segment.
    pub fn send<M: Pin>(&mut self, memory: &M, from: &[Span], more: bool) -> io::Result<usize> {
        self.gather(memory, from)?;
        if self.pieces.is_empty() {
            return Ok(0);
        }
        let more = if more { libc::MSG_MORE } else { 0 };
        loop {
            let header = self.header();
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | more;
            // SAFETY: as for `receive`; the kernel has copied the bytes when the call returns.
            let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const header, flags) };
            match usize::try_from(sent) {
                Ok(sent) => return Ok(sent),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }

    fn gather<M: Pin>(&mut self, memory: &M, spans: &[Span]) -> io::Result<()> {
        self.pieces.clear();
        for &span in spans.iter().filter(|span| span.len > 0).take(PIECES_MAX) {
            let buffer = memory.pin(span).ok_or(io::ErrorKind::InvalidInput)?;
            self.pieces.push(Piece { address: buffer.ptr.expose_provenance(), len: buffer.len });
        }
        Ok(())
    }

    fn header(&mut self) -> libc::msghdr {
        // SAFETY: an all-zero msghdr is a valid value of this C structure.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.pieces.as_mut_ptr().cast();
        header.msg_iovlen = self.pieces.len() as _;
        header
    }

    /// Whether the connection is over in both directions, by a reset for instance. One system call.
    pub fn is_over(&self) -> bool {
        information(self.socket.as_fd()).is_ok_and(|information| information.state == State::OVER)
    }

    /// The kernel's own counts. They are exact as long as nobody else receives or sends meanwhile,
    /// whoever did so before and however it ended; that is what a successor starts from.
    ///
    /// # Errors
    /// `NotConnected` once the connection is over in both directions: nothing can be received or sent
    /// any more, and a reset leaves no count that says how much was.
    pub fn position(&self) -> io::Result<Position> {
        let fd = self.socket.as_fd();
        let mut before = information(fd)?;
        loop {
            let unread = queued(fd, libc::FIONREAD)?;
            let unacknowledged = queued(fd, libc::TIOCOUTQ)?;
            let after = information(fd)?;
            // What arrives or is acknowledged moves from one summand to the other: the sums hold only
            // if nothing moved while we looked.
            if after != before {
                before = after;
                continue;
            }
            if before.state == State::OVER {
                return Err(io::ErrorKind::NotConnected.into());
            }
            // A FIN takes a number in its sequence as if it were a byte: the peer's once it has come
            // (SIOCINQ leaves it out, tcpi_bytes_received does not), ours once it is queued.
            let received = before.received.wrapping_sub(u64::from(before.state.has_received_fin()));
            let sent =
                (before.acknowledged + unacknowledged).wrapping_sub(u64::from(before.state.has_queued_fin()));
            return Ok(Position { consumed: received.wrapping_sub(unread), given: sent });
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A state of RFC 9293, as the kernel numbers them (net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u8);

impl State {
    const FIN_WAIT1: Self = Self(4);
    const FIN_WAIT2: Self = Self(5);
    const TIME_WAIT: Self = Self(6);
    const OVER: Self = Self(7);
    const CLOSE_WAIT: Self = Self(8);
    const LAST_ACK: Self = Self(9);
    const CLOSING: Self = Self(11);

    fn has_received_fin(self) -> bool {
        [Self::CLOSE_WAIT, Self::LAST_ACK, Self::CLOSING, Self::TIME_WAIT].contains(&self)
    }

    fn has_queued_fin(self) -> bool {
        [Self::FIN_WAIT1, Self::FIN_WAIT2, Self::CLOSING, Self::LAST_ACK, Self::TIME_WAIT].contains(&self)
    }
}

/// What of TCP_INFO tells a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Information {
    state: State,
    acknowledged: u64,
    received: u64,
}

fn information(fd: BorrowedFd<'_>) -> io::Result<Information> {
    /// Up to and with tcpi_bytes_received (linux/tcp.h); Linux 4.1 and newer.
    const WORDS: usize = 17;
    const BYTES_ACKED: usize = 15;
    const BYTES_RECEIVED: usize = 16;
    let mut words = [0u64; WORDS];
    let mut len = size_of_val(&words) as libc::socklen_t;
    // SAFETY: `words` is writable for `len` bytes, and both outlive the call.
    let got = unsafe {
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        libc::getsockopt(fd.as_raw_fd(), level, name, words.as_mut_ptr().cast(), &raw mut len)
    };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    if (len as usize) < size_of_val(&words) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel does not count a stream's bytes"));
    }
    let state = State(words[0].to_ne_bytes()[0]);
    Ok(Information { state, acknowledged: words[BYTES_ACKED], received: words[BYTES_RECEIVED] })
}

/// SIOCINQ and SIOCOUTQ (tcp(7)), by their older names.
fn queued(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one int, which outlives the call.
    if unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut bytes) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: all options used in this file are ints; `value` outlives the call.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn get_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is writable for `len` bytes, and both outlive the call.
    match unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) } {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

fn to_kernel(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: an all-zero value of this C structure is valid.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match address {
        SocketAddr::V4(address) => {
            // SAFETY: the storage is large enough for every kind of address, and aligned for it.
            let place = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            place.sin_family = libc::AF_INET as libc::sa_family_t;
            place.sin_port = address.port().to_be();
            place.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above.
            let place = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            place.sin6_port = address.port().to_be();
            place.sin6_flowinfo = address.flowinfo();
            place.sin6_addr.s6_addr = address.ip().octets();
            place.sin6_scope_id = address.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as libc::socklen_t)
}
