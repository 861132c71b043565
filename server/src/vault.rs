//! The worker's side of the keeper: every descriptor that must outlive the worker, by name.
//!
//! A descriptor is kept from the moment in which its datagram lies in the keeper's socket, which is
//! when `keep` returns; a worker that dies afterwards leaves it to its successor.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control::Problem;
use host::socket;

/// Connections that the keeper has room for.
///
/// A connection of an initiator costs some 15 characters of the names that a successor is started with
/// (see [`key`]). Strangers can open connections, so there is a limit for the whole server.
pub const CONNECTIONS_MAX: usize = 2048;

/// One of the connections that the keeper has room for, until it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes of all names, of the 128 KiB that Linux takes (see [`key`]). What front ends give beyond their
/// share ([`SHARE`]) is refused from the first bound on, and all that they give from the second. What
/// is left is for the descriptors of our own.
const NAMES_SHARED: usize = 80 << 10;
const NAMES_MAX: usize = 116 << 10;
/// Descriptors that the front end of a slot may give whatever others do.
pub const SHARE: usize = 24;

/// The names under which the keeper has something.
#[derive(Debug, Default)]
struct Names {
    kept: HashSet<String>,
    bytes: usize,
}

impl Names {
    fn add(&mut self, name: &str) {
        if self.kept.insert(name.to_owned()) {
            self.bytes += name.len() + 1;
        }
    }

    fn remove(&mut self, name: &str) {
        if self.kept.remove(name) {
            self.bytes -= name.len() + 1;
        }
    }

    /// Adds one that a front end gave, which has so many already; `false`: there is no room.
    fn add_given(&mut self, name: &str, others: usize) -> bool {
        let max = if others < SHARE { NAMES_MAX } else { NAMES_SHARED };
        let fits = self.bytes + name.len() < max;
        if fits {
            self.add(name);
        }
        fits
    }
}

/// The worker's side of the keeper. Shared by all lanes; each call is one datagram.
#[derive(Clone, Debug, Default)]
pub struct Vault {
    /// `None`: nobody keeps anything, and a crash is the end of every connection.
    keeper: Option<Arc<UnixDatagram>>,
    seats: Arc<AtomicUsize>,
    names: Arc<Mutex<Names>>,
}

impl Vault {
    /// Finds the keeper as sd_notify(3) says: by NOTIFY_SOCKET.
    /// `estate` is what it has by now.
    pub fn from_environment(estate: &Estate) -> Result<Self, Problem> {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
            return Ok(Self::default());
        };
        let address = address.to_string_lossy().into_owned();
        let failed = |error: std::io::Error| {
            Problem::failed(format!("cannot reach the keeper: {error}"))
                .at(format!("NOTIFY_SOCKET={address}"))
                .hint(
                    "start the worker by `standpipe keep -- standpipe serve`, or by systemd with Type=notify",
                )
        };
        let socket = UnixDatagram::unbound().map_err(failed)?;
        match address.strip_prefix('@') {
            Some(name) => {
                let name = SocketAddr::from_abstract_name(name).map_err(failed)?;
                socket.connect_addr(&name).map_err(failed)?;
            }
            None => socket.connect(&address).map_err(failed)?,
        }
        let vault = Self { keeper: Some(Arc::new(socket)), ..Self::default() };
        for name in estate.by_name.keys() {
            vault.names().add(name);
        }
        Ok(vault)
    }

    pub fn is_kept(&self) -> bool {
        self.keeper.is_some()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more connection; `None`: there is none.
    pub fn seat(&self) -> Option<Seat> {
        let seat = self.seat_of_old();
        (self.seats.load(Ordering::Relaxed) <= CONNECTIONS_MAX).then_some(seat)
    }

    /// The room of a connection that was there before.
    pub fn seat_of_old(&self) -> Seat {
        self.seats.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(&self.seats))
    }

    fn tell(&self, text: &str, fds: &[BorrowedFd<'_>]) {
        let Some(keeper) = &self.keeper else { return };
        if let Err(error) = socket::send(keeper.as_fd(), text.as_bytes(), fds) {
            tracing::error!(%error, text, "the keeper does not take what we tell it; a crash would lose it");
        }
    }

    /// Has a descriptor kept under a name that nothing else has.
    pub fn keep(&self, name: &str, fd: BorrowedFd<'_>) {
        self.names().add(name);
        // FDPOLL=0: systemd would throw a socket away as soon as its peer hangs up.
        self.tell(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), &[fd]);
    }

    /// Has a descriptor kept that a front end gave us, which has given so many `others`. `false`: no
    /// worker could be started with one more, and it is to be as if it had not come.
    #[must_use]
    pub fn keep_given(&self, name: &str, fd: BorrowedFd<'_>, others: usize) -> bool {
        if self.keeper.is_none() {
            return true;
        }
        if !self.names().add_given(name, others) {
            return false;
        }
        match wrap(fd) {
            Ok(envelope) => self.keep(name, envelope.as_fd()),
            Err(error) => tracing::error!(%error, name, "a descriptor cannot be kept; a crash would lose it"),
        }
        true
    }

    pub fn forget(&self, name: &str) {
        self.names().remove(name);
        self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[]);
    }

    /// Tells the service manager that we serve.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"), &[]);
    }
}

/// The first part of the names of a slot's descriptors: short, because all names together are one
/// environment variable, and Linux takes at most 128 KiB of one (MAX_ARG_STRLEN). Some 20 descriptors a
/// slot, of 11 characters each, leave room for 512 slots.
pub fn key(slot: &str) -> String {
    // FNV-1a, 64 bits, as 6 digits of base 36: two of 512 slots share one in 1 of 16,000 sites, and the
    // engine refuses the second.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in slot.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    base36((hash ^ hash >> 32) % 36u64.pow(6), 6)
}

/// The name of one of a slot's descriptors.
pub fn name(slot: &str, what: &str) -> String {
    format!("{}/{what}", key(slot))
}

/// At least `width` digits.
pub fn base36(mut value: u64, width: usize) -> String {
    let mut digits = Vec::new();
    while value > 0 || digits.len() < width {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(value % 36) as usize]);
        value /= 36;
    }
    digits.reverse();
    digits.into_iter().map(char::from).collect()
}

/// Puts a descriptor into an envelope: a socket of its own, in whose queue it lies.
///
/// systemd keeps one descriptor of each open file and drops any other (`service_add_fd_store`, by
/// kcmp(2)). A front end sends the same memory file for each region and for each device of its VM; all
/// but the first would be lost. No two envelopes are the same open file (docs/decisions/0003).
pub fn wrap(fd: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    wrap_all(&[fd])
}

/// Several descriptors in one envelope: they are kept together or not at all.
pub fn wrap_all(fds: &[BorrowedFd<'_>]) -> std::io::Result<OwnedFd> {
    let (sender, envelope) = UnixDatagram::pair()?;
    socket::send(sender.as_fd(), b"fd", fds)?;
    Ok(envelope.into())
}

/// Looks into an envelope. The descriptor stays in it, for the next worker.
pub fn unwrap(envelope: &OwnedFd) -> Option<OwnedFd> {
    unwrap_all(envelope).pop()
}

/// All that is in an envelope, in the order in which it was put there; nothing if it is none.
pub fn unwrap_all(envelope: &OwnedFd) -> Vec<OwnedFd> {
    match socket::peek(envelope.as_fd(), &mut [0; 2]) {
        Ok(Some(peeked)) => peeked.fds,
        _ => Vec::new(),
    }
}

/// What the last worker left.
#[derive(Debug, Default)]
pub struct Estate {
    by_name: HashMap<String, OwnedFd>,
}

impl Estate {
    pub fn inherit() -> Self {
        // The newest of several under one name is the valid one.
        Self { by_name: host::process::take_listen_fds().into_iter().collect() }
    }

    pub fn take(&mut self, name: &str) -> Option<OwnedFd> {
        self.by_name.remove(name)
    }

    /// Everything whose name begins with `PREFIX/`.
    pub fn take_all(&mut self, prefix: &str) -> HashMap<String, OwnedFd> {
        let start = format!("{prefix}/");
        self.take_named(&start).into_iter().map(|(name, fd)| (name[start.len()..].to_owned(), fd)).collect()
    }

    /// Everything whose name begins with `start`, under its whole name.
    pub fn take_named(&mut self, start: &str) -> HashMap<String, OwnedFd> {
        let names: Vec<String> =
            self.by_name.keys().filter(|name| name.starts_with(start)).cloned().collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.by_name.remove(&name)?))).collect()
    }

    /// Tells the keeper to forget what nobody claimed.
    pub fn settle(self, vault: &Vault) {
        for name in self.by_name.keys() {
            vault.forget(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::event::{Event, PeerEvent};

    #[test]
    fn names_are_short_and_differ() {
        assert_eq!(base36(0, 1), "0");
        assert_eq!(base36(35 * 36 + 10, 1), "za");
        let keys: std::collections::HashSet<String> =
            (0..512).map(|vm| key(&format!("customer-{vm}.disk{}", vm % 3))).collect();
        assert_eq!(keys.len(), 512);
        assert!(keys.iter().all(|key| key.len() == 6));
    }

    #[test]
    fn who_has_his_share_leaves_room_for_others() {
        let mut names = Names::default();
        // Slots whose clients map all that they may, each map with a descriptor.
        let all = (0..512).flat_map(|slot| (0..96).map(move |at| (slot, at)));
        let given = |(slot, at): (usize, usize)| name(&format!("vm{slot}.nic0"), &base36(at as u64, 1));
        let taken = all.filter(|of| names.add_given(&given(*of), of.1)).count();
        assert!(taken > 512 * 14, "{taken}");
        assert!(names.bytes <= NAMES_MAX && names.bytes > NAMES_SHARED, "{}", names.bytes);
        // Some thousand of our own come on top, in what Linux takes.
        const { assert!(NAMES_MAX + 512 * 20 < 128 << 10) };
        let one = given((0, 0));
        let before = names.bytes;
        names.add(&one);
        assert_eq!(names.bytes, before, "it is there already");
        names.remove(&one);
        names.remove(&one);
        assert_eq!(names.bytes, before - one.len() - 1);
        assert!(!names.add_given(&one, SHARE));
        assert!(names.add_given(&one, SHARE - 1));
    }

    #[test]
    fn several_descriptors_come_in_their_order() {
        let (first, second) = (Event::new().unwrap(), Event::new().unwrap());
        let envelope = wrap_all(&[first.as_fd(), second.as_fd()]).unwrap();
        let taken = unwrap_all(&envelope);
        assert_eq!(taken.len(), 2);
        for (taken, event) in taken.into_iter().zip([first, second]) {
            assert!(PeerEvent::from_fd(taken).unwrap().signal());
            assert!(event.clear());
        }
    }

    #[test]
    fn a_descriptor_can_be_taken_out_of_its_envelope_by_every_successor() {
        let event = Event::new().unwrap();
        let first = wrap(event.as_fd()).unwrap();
        let second = wrap(event.as_fd()).unwrap();
        for envelope in [&first, &first, &second] {
            let taken = PeerEvent::from_fd(unwrap(envelope).unwrap()).unwrap();
            assert!(taken.signal());
            assert!(event.clear(), "what came out is not what went in");
        }
        assert!(unwrap(&event.into_fd()).is_none());
    }
}
