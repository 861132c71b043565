//! An emulated slot's link to its client: the socket, the session, the descriptors that came over it,
//! and the order in which things are written down (docs/decisions/0007).
//!
//! A look at the socket goes through these steps, each of which may be the last that this worker does:
//!
//! 1. look at what lies in the socket, which stays there,
//! 2. follow its messages, one after the other: the device and the session change in our memory, the
//!    replies are gathered; descriptors are kept as they come,
//! 3. write the new states and the replies beside the old ones,
//! 4. commit: one store makes all of that hold,
//! 5. send the replies and take the messages from the socket; the kernel notes how much of each was
//!    done.
//!
//! A successor that comes before step 4 finds the old states and all of the messages, and follows them
//! again. From there on it finds the new states, and sends and takes what is left.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use guest_memory::Window;
use host::given::Given;
use host::socket;
use pci::Pages;
use vfio_user::{Session, State, brings_descriptor};

use super::super::link::{CONNECTION, LEDGER, LISTENER, REFUSED_MAX, generation_name, is_generation_name};
use super::ledger::{Commit, Ledger};
use crate::blame;
use crate::vault::{self, Vault};

/// The name under which a slot's page of doorbells is kept.
const DOORBELLS: &str = "bell";

/// Doorbells that are memory of the guest, in a file that the client maps.
pub struct Doorbells {
    fd: OwnedFd,
    pub window: Window,
    /// Of the file: it comes back as a map that is no memory.
    pub identity: (u64, u64),
}

impl Doorbells {
    /// In the file they are where they are in their BAR.
    fn open(fd: OwnedFd, pages: Pages) -> std::io::Result<Self> {
        let (offset, bytes) = (u64::from(pages.offset), u64::from(pages.bytes));
        if host::memfd::size(&fd)? != offset + bytes {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let window = Window::of_file(fd.as_fd(), offset, bytes as usize)?;
        Ok(Self { identity: host::memfd::identity(&fd)?, window, fd })
    }
}

pub struct Link {
    /// `VM.SLOT`.
    pub name: String,
    pub stream: Option<UnixStream>,
    pub session: Session,
    pub ledger: Ledger,
    ledger_fd: OwnedFd,
    /// Descriptors that came over the link, by generation.
    pub fds: HashMap<u32, OwnedFd>,
    /// Those that this connection's client may map.
    pub doorbells: Option<Doorbells>,
    vault: Vault,
    /// As they are in the ledger.
    pub replies: Vec<u8>,
    /// Descriptors that are of no kind that anybody has a use for, of this connection and of all.
    refused: u32,
    pub descriptors_refused: u64,
    expelled: bool,
    crowded: bool,
}

impl Link {
    /// Takes up what the last worker left of this slot, or begins anew.
    pub fn resume(
        name: &str,
        model: u32,
        hot: usize,
        pages: Option<Pages>,
        estate: &mut HashMap<String, OwnedFd>,
        vault: &Vault,
    ) -> std::io::Result<Self> {
        let keep_as = |what: &str| vault::name(name, what);
        let old = estate.get(LEDGER).and_then(|fd| match Ledger::open(fd, model, hot) {
            Ok(ledger) => Some(ledger),
            Err(error) => {
                tracing::error!(slot = name, ?error, "the ledger cannot be read; the slot begins anew");
                None
            }
        });
        let (ledger, ledger_fd) = match (old, estate.remove(LEDGER)) {
            (Some(ledger), Some(fd)) => (ledger, fd),
            (_, useless) => {
                let (ledger, fd) = Ledger::create(name, model, hot)?;
                if useless.is_some() {
                    vault.forget(&keep_as(LEDGER));
                }
                vault.keep(&keep_as(LEDGER), fd.as_fd());
                (ledger, fd)
            }
        };
        let bytes = ledger.session();
        let state = match State::decode(&bytes) {
            Ok(state) => Some(state),
            Err(_) if bytes.is_empty() => None,
            Err(error) => {
                tracing::error!(
                    slot = name,
                    ?error,
                    "the session cannot be read; the client has to connect again"
                );
                None
            }
        };
        let mut stream = estate.remove(CONNECTION).map(UnixStream::from);
        if state.is_none() && stream.take().is_some() {
            vault.forget(&keep_as(CONNECTION));
        }
        let mut session = Session::resume(state.unwrap_or_default());
        if stream.is_none() {
            session.disconnected();
        }
        // Without it the client was told of no page, as it is kept before anything is answered.
        let doorbells = match estate.remove(DOORBELLS) {
            Some(fd) if stream.is_some() => pages.and_then(|pages| match Doorbells::open(fd, pages) {
                Ok(doorbells) => Some(doorbells),
                Err(error) => {
                    tracing::error!(slot = name, %error, "the doorbells that the guest has as memory are lost");
                    None
                }
            }),
            Some(_) => {
                vault.forget(&keep_as(DOORBELLS));
                None
            }
            None => None,
        };
        let mut fds = HashMap::new();
        for generation in session.state.generations() {
            let envelope = estate.remove(&generation_name(generation));
            if let Some(fd) = envelope.and_then(|envelope| vault::unwrap(&envelope)) {
                fds.insert(generation, fd);
            }
        }
        // What a crash left half-way: descriptors that no saved state names.
        for stray in estate.keys().filter(|key| is_generation_name(key)) {
            vault.forget(&keep_as(stray));
        }
        let replies = ledger.replies(ledger.commit().reply_to as usize);
        Ok(Self {
            name: name.to_owned(),
            stream,
            session,
            ledger,
            ledger_fd,
            fds,
            doorbells,
            vault: vault.clone(),
            replies,
            refused: 0,
            descriptors_refused: 0,
            expelled: false,
            crowded: false,
        })
    }

    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Takes a connection; it is kept before anything is read from it.
    pub fn connect(&mut self, stream: UnixStream) -> std::io::Result<()> {
        socket::set_nonblocking(stream.as_fd())?;
        self.begin_anew();
        (self.refused, self.expelled, self.crowded) = (0, false, false);
        self.vault.keep(&vault::name(&self.name, CONNECTION), stream.as_fd());
        self.stream = Some(stream);
        Ok(())
    }

    /// Makes pages of doorbells for a client that has just come; the one before may have its own still.
    pub fn make_doorbells(&mut self, pages: Pages) -> std::io::Result<()> {
        let len = u64::from(pages.offset) + u64::from(pages.bytes);
        let fd = host::memfd::create(&format!("standpipe-{}-doorbells", self.name), len)?;
        let made = Doorbells::open(fd, pages)?;
        self.vault.keep(&vault::name(&self.name, DOORBELLS), made.fd.as_fd());
        self.doorbells = Some(made);
        Ok(())
    }

    /// The client is gone: everything that came over the link goes with it.
    pub fn disconnect(&mut self) {
        let dropped = self.session.disconnected();
        self.begin_anew();
        self.release(&dropped);
        self.vault.forget(&vault::name(&self.name, CONNECTION));
        self.stream = None;
        if self.doorbells.take().is_some() {
            self.vault.forget(&vault::name(&self.name, DOORBELLS));
        }
    }

    /// Nothing is handled, nothing is to be sent, the device is as after power on.
    fn begin_anew(&mut self) {
        self.replies.clear();
        for which in [false, true] {
            self.ledger.receive_slip(which).clear();
            self.ledger.send_slip(which).clear();
        }
        let mut commit = Commit { session: self.ledger.commit().session, ..Commit::default() };
        commit.model = self.ledger.commit().model;
        self.ledger.prepare(&mut commit, Some(&self.session.state.encode()), Some(&[]));
        self.ledger.set_commit(commit);
    }

    /// The session changed between two looks at the socket.
    pub fn save_session(&mut self) {
        let mut commit = self.ledger.commit();
        self.ledger.prepare(&mut commit, Some(&self.session.state.encode()), None);
        self.ledger.set_commit(commit);
    }

    /// Descriptors of a message, under the generations that the session gave them. Those of a wrong kind
    /// are as if they had not come.
    pub fn keep_fds(&mut self, generations: &[u32], fds: Vec<Given>) {
        for (generation, fd) in generations.iter().zip(fds) {
            let Some(fd) = fd.known() else {
                self.refused += 1;
                self.descriptors_refused += 1;
                continue;
            };
            let name = vault::name(&self.name, &generation_name(*generation));
            if !self.vault.keep_given(&name, fd.as_fd(), self.fds.len()) {
                self.descriptors_refused += 1;
                self.warn_of_room();
                continue;
            }
            self.fds.insert(*generation, fd);
        }
    }

    fn warn_of_room(&mut self) {
        // Once for each connection.
        if !std::mem::replace(&mut self.crowded, true) {
            tracing::warn!(
                slot = self.name,
                share = vault::SHARE,
                "the keeper has no room for more descriptors of this slot; give its VM fewer regions of memory, or others fewer devices"
            );
        }
    }

    /// Whether the connection has brought too many descriptors that nobody has a use for.
    pub fn is_flooded(&self) -> bool {
        self.refused > REFUSED_MAX
    }

    /// Ends the connection of a client that held up its lane, which counts as a death: who does it again
    /// and again is put in quarantine. What it sent before is still followed.
    pub fn expel(&mut self, why: &str) {
        if std::mem::replace(&mut self.expelled, true) {
            return;
        }
        blame::charge(&self.ledger.certificate());
        tracing::warn!(slot = self.name, why, "the client is thrown out");
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Descriptors that nothing names any more are closed, here and at the keeper.
    pub fn release(&mut self, generations: &[u32]) {
        for generation in generations {
            if self.fds.remove(generation).is_some() {
                self.vault.forget(&vault::name(&self.name, &generation_name(*generation)));
            }
        }
    }

    /// Steps 3 and 4: so many bytes of the stream were followed, and the replies are what `replies`
    /// holds. What there was before has been settled.
    pub fn commit(&mut self, handled: usize, session: bool, model: Option<&[u8]>) {
        let mut commit = self.ledger.commit();
        debug_assert!(commit.handled == 0 && commit.reply_from == commit.reply_to);
        let session = session.then(|| self.session.state.encode());
        self.ledger.put_replies(&self.replies);
        self.ledger.prepare(&mut commit, session.as_deref(), model);
        // Both are at most 64 KiB.
        commit.handled = handled as u32;
        commit.reply_from = 0;
        commit.reply_to = self.replies.len() as u32;
        self.ledger.set_commit(commit);
    }

    /// The device changed without a message.
    pub fn save_model(&self, model: &[u8]) {
        let mut commit = self.ledger.commit();
        self.ledger.prepare(&mut commit, None, Some(model));
        self.ledger.set_commit(commit);
    }

    /// Step 5, and what a dead worker left of it. `false`: the client has to read first.
    pub fn settle(&mut self) -> std::io::Result<bool> {
        let Some(stream) = &self.stream else { return Ok(true) };
        loop {
            let mut commit = self.ledger.commit();
            let sent = self.ledger.send_slip(commit.send).count() as u32;
            let taken = self.ledger.receive_slip(commit.receive).count() as u32;
            if sent > 0 || taken > 0 {
                commit.reply_from = commit.reply_from.saturating_add(sent).min(commit.reply_to);
                commit.handled = commit.handled.saturating_sub(taken);
                (commit.send, commit.receive) = (!commit.send, !commit.receive);
                // Those of the step before last.
                self.ledger.send_slip(commit.send).clear();
                self.ledger.receive_slip(commit.receive).clear();
                self.ledger.set_commit(commit);
            }
            let replies = self.replies.get(commit.reply_from as usize..commit.reply_to as usize);
            let mut moved = 0;
            if let Some(replies) = replies.filter(|replies| !replies.is_empty()) {
                // A reply that brings a descriptor is the only one of its batch.
                let fd = self
                    .doorbells
                    .as_ref()
                    .filter(|_| commit.reply_from == 0 && brings_descriptor(replies))
                    .map(|doorbells| doorbells.fd.as_fd());
                moved += self.ledger.send_slip(commit.send).send(stream.as_fd(), replies, fd)?;
            }
            if commit.handled > 0 {
                moved +=
                    self.ledger.receive_slip(commit.receive).take(stream.as_fd(), commit.handled as usize)?;
            }
            if moved == 0 {
                if commit.reply_from == commit.reply_to {
                    self.replies.clear();
                }
                return Ok(commit.reply_from == commit.reply_to && commit.handled == 0);
            }
        }
    }

    /// Gives up everything that a successor needs, under the names that it looks for.
    pub fn give_up(self) -> HashMap<String, OwnedFd> {
        let given = self.fds.iter();
        let mut left: HashMap<String, OwnedFd> = given
            .filter_map(|(generation, fd)| {
                Some((generation_name(*generation), vault::wrap(fd.as_fd()).ok()?))
            })
            .collect();
        left.insert(LEDGER.to_owned(), self.ledger_fd);
        if let Some(stream) = self.stream {
            left.insert(CONNECTION.to_owned(), stream.into());
        }
        if let Some(doorbells) = self.doorbells {
            left.insert(DOORBELLS.to_owned(), doorbells.fd);
        }
        left
    }

    /// The slot is removed: nothing of it is kept.
    pub fn forget_all(&mut self) {
        self.disconnect();
        for what in [LEDGER, LISTENER] {
            self.vault.forget(&vault::name(&self.name, what));
        }
    }
}
