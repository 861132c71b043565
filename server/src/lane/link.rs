//! A slot's link to its front end: the socket, the session, the descriptors that came over it, and
//! the order in which things are written down.
//!
//! One message goes through these steps, each of which may be the last that this worker does:
//!
//! 1. look at it (it stays in the socket),
//! 2. follow it: a new session state, descriptors with new generations,
//! 3. have the descriptors kept,
//! 4. do what it asks for (map, start, stop), so that the reply can say how that went,
//! 5. save the session in the ledger,
//! 6. put the reply into the outbox and note it,
//! 7. take the message from the socket, send the reply, clear the note.
//!
//! A successor finds the message still there up to step 6 and does all of it again; from step 7 on
//! it finds the note and finishes.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use host::given::Given;
use host::socket::{self, Outbox};
use vhost_user::bits::{HEADER_LEN, PAYLOAD_MAX};
use vhost_user::{Header, Reply, Request, Session, State, encode_reply};

use crate::blame;
use crate::ledger::{Ledger, ReplyNote};
use crate::vault::{self, Vault};

/// Names under which a slot's descriptors are kept, behind `SLOT/`.
pub const LEDGER: &str = "ledger";
pub const OUTBOX: &str = "out";
pub const LISTENER: &str = "listen";
pub const CONNECTION: &str = "conn";
pub const INFLIGHT: &str = "flight";
/// What the name of a front end's descriptor begins with; its generation follows.
const GENERATION: char = 'F';

pub fn generation_name(generation: u32) -> String {
    format!("{GENERATION}{}", vault::base36(u64::from(generation), 1))
}

pub fn is_generation_name(name: &str) -> bool {
    name.starts_with(GENERATION)
}

/// A message that was looked at.
#[derive(Debug)]
pub struct Message {
    pub header: Header,
    pub request: Request,
    pub fds: Vec<Given>,
}

/// What is at the head of the socket.
#[derive(Debug)]
pub enum Head {
    Nothing,
    Message(Message),
    /// The beginning of a message; the front end may send the rest, or never.
    Part,
    /// The front end left, or speaks something else.
    Gone(&'static str),
}

/// The link of one slot.
#[derive(Debug)]
pub struct Link {
    /// `VM.SLOT`.
    pub name: String,
    pub stream: Option<UnixStream>,
    pub session: Session,
    pub ledger: Ledger,
    ledger_fd: OwnedFd,
    /// Descriptors that came over the link, by generation.
    pub fds: HashMap<u32, OwnedFd>,
    outbox: Outbox,
    vault: Vault,
    /// Descriptors that are of no kind that anybody has a use for, of this connection and of all.
    refused: u32,
    pub descriptors_refused: u64,
    expelled: bool,
    crowded: bool,
}

/// Descriptors of a wrong kind that one connection may bring: each may keep a thread of ours busy that
/// closes it.
pub const REFUSED_MAX: u32 = 1024;

impl Link {
    /// Takes up what the last worker left of this slot, or begins anew.
    pub fn resume(
        name: &str,
        queues: usize,
        estate: &mut HashMap<String, OwnedFd>,
        vault: &Vault,
    ) -> std::io::Result<Self> {
        let keep_as = |what: &str| vault::name(name, what);
        // What can fail comes before anything is taken out of the estate.
        if !estate.contains_key(OUTBOX) {
            let outbox = Outbox::create()?;
            vault.keep(&keep_as(OUTBOX), outbox.as_fd());
            estate.insert(OUTBOX.to_owned(), outbox.into_fd());
        }
        let old = estate.remove(LEDGER).and_then(|fd| match Ledger::open(&fd) {
            Ok(ledger) => Some((ledger, fd)),
            Err(error) => {
                tracing::error!(slot = name, ?error, "the ledger cannot be read; the slot begins anew");
                vault.forget(&keep_as(LEDGER));
                None
            }
        });
        let (ledger, ledger_fd) = match old {
            Some(old) => old,
            None => {
                let (ledger, fd) = Ledger::create(name)?;
                vault.keep(&keep_as(LEDGER), fd.as_fd());
                (ledger, fd)
            }
        };
        // There from above.
        let outbox = Outbox::from_fd(estate.remove(OUTBOX).ok_or(std::io::ErrorKind::NotFound)?);
        let bytes = ledger.session.load();
        let session = match State::decode(&bytes) {
            Ok(state) => Some(Session::resume(state, queues)),
            Err(_) if bytes.is_empty() => None,
            Err(error) => {
                tracing::error!(
                    slot = name,
                    ?error,
                    "the session cannot be read; the front end has to connect again"
                );
                None
            }
        };
        let mut stream = estate.remove(CONNECTION).map(UnixStream::from);
        let mut fds = HashMap::new();
        if session.is_none() && stream.take().is_some() {
            vault.forget(&keep_as(CONNECTION));
        }
        let mut session = session.unwrap_or_else(|| Session::new(queues));
        if stream.is_none() {
            session.disconnected();
        }
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
        let link = Self {
            name: name.to_owned(),
            stream,
            session,
            ledger,
            ledger_fd,
            fds,
            outbox,
            vault: vault.clone(),
            refused: 0,
            descriptors_refused: 0,
            expelled: false,
            crowded: false,
        };
        link.save();
        Ok(link)
    }

    pub fn save(&self) {
        self.ledger.session.save(&self.session.state.encode());
    }

    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Takes a connection; it is kept before anything is read from it.
    pub fn connect(&mut self, stream: UnixStream) -> std::io::Result<()> {
        socket::set_nonblocking(stream.as_fd())?;
        self.ledger.set_reply(ReplyNote::default());
        (self.refused, self.expelled, self.crowded) = (0, false, false);
        self.vault.keep(&vault::name(&self.name, CONNECTION), stream.as_fd());
        self.stream = Some(stream);
        Ok(())
    }

    /// The front end is gone: everything that came over the link goes with it.
    pub fn disconnect(&mut self) {
        self.session.disconnected();
        self.save();
        self.ledger.set_reply(ReplyNote::default());
        self.release_unnamed();
        self.vault.forget(&vault::name(&self.name, CONNECTION));
        self.stream = None;
    }

    /// Looks at the next message.
    pub fn peek(&self) -> Head {
        let Some(stream) = &self.stream else { return Head::Nothing };
        let mut bytes = [0; HEADER_LEN + PAYLOAD_MAX];
        // The head alone first: the descriptors belong to it, and a longer look might take those of
        // the next message for this one's.
        let (head, fds) = match socket::peek_stranger(stream.as_fd(), &mut bytes[..HEADER_LEN]) {
            Ok(None) => return Head::Nothing,
            Ok(Some((0, _))) => return Head::Gone("the front end disconnected"),
            Ok(Some((len, _))) if len < HEADER_LEN => return self.part(),
            Ok(Some((_, fds))) => {
                let mut head = [0; HEADER_LEN];
                head.copy_from_slice(&bytes[..HEADER_LEN]);
                (head, fds)
            }
            Err(_) => return Head::Gone("the socket failed"),
        };
        let header = match Header::parse(head) {
            Ok(header) => header,
            Err(_) => return Head::Gone("the front end does not speak vhost-user"),
        };
        let len = header.message_len();
        match socket::peek_stranger(stream.as_fd(), &mut bytes[..len]) {
            Ok(Some((there, _))) if there == len => {}
            Ok(_) => return self.part(),
            Err(_) => return Head::Gone("the socket failed"),
        }
        Head::Message(Message {
            header,
            request: Request::parse(header.request, &bytes[HEADER_LEN..len]),
            fds,
        })
    }

    fn part(&self) -> Head {
        match &self.stream {
            Some(stream) if host::poll::is_hung_up(stream.as_fd()) => {
                Head::Gone("the front end disconnected in the middle of a message")
            }
            _ => Head::Part,
        }
    }

    /// Step 3: the descriptors of a message, under the generations that the session gave them.
    /// Those of a wrong kind are as if they had not come.
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

    /// Ends the connection of a front end that held up its lane, which counts as a death: who does it again
    /// and again is put in quarantine. What it sent before is still followed.
    pub fn expel(&mut self, why: &str) {
        if std::mem::replace(&mut self.expelled, true) {
            return;
        }
        blame::charge(&self.ledger.death_certificate());
        tracing::warn!(slot = self.name, why, "the front end is thrown out");
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Descriptors that the state no longer names are closed, here and at the keeper.
    pub fn release_unnamed(&mut self) {
        let named: Vec<u32> = self.session.state.generations().collect();
        let (name, vault) = (&self.name, &self.vault);
        self.fds.retain(|generation, _| {
            let keep = named.contains(generation);
            if !keep {
                vault.forget(&vault::name(name, &generation_name(*generation)));
            }
            keep
        });
    }

    /// Steps 5 to 7. `false`: the link is broken.
    pub fn finish(&mut self, header: Header, reply: Option<&Reply>, fd: Option<u32>) -> bool {
        self.save();
        let done = self.answer(header, reply, fd);
        self.release_unnamed();
        done.is_ok()
    }

    fn answer(&self, header: Header, reply: Option<&Reply>, fd: Option<u32>) -> std::io::Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let message_len = header.message_len();
        let Some(reply) = reply else { return socket::consume(stream.as_fd(), message_len) };
        let bytes = encode_reply(&header, reply);
        if let Some(fd) = fd.and_then(|generation| self.fds.get(&generation)) {
            // A reply with a descriptor cannot go by sendfile. Between the two calls there is a
            // moment in which a crash leaves the front end without its answer; it then waits, and
            // its operator has to restart the VM (docs/decisions/0002). Only GET_INFLIGHT_FD has one,
            // before the device is first used.
            socket::consume(stream.as_fd(), message_len)?;
            return socket::send(stream.as_fd(), &bytes, &[fd.as_fd()]);
        }
        self.outbox.fill(&bytes)?;
        let reply_len = bytes.len() as u32;
        self.ledger.set_reply(ReplyNote { reply_len, message_len: message_len as u32 });
        socket::consume(stream.as_fd(), message_len)?;
        self.ledger.set_reply(ReplyNote { reply_len, message_len: 0 });
        self.flush_reply()?;
        Ok(())
    }

    /// What the last worker may have left between steps 6 and 7. `false`: the link is broken.
    pub fn finish_reply(&self) -> bool {
        let note = self.ledger.reply();
        let Some(stream) = &self.stream else { return true };
        if note.reply_len == 0 {
            return true;
        }
        if note.message_len > 0 {
            // The front end waits for the reply, so whatever lies in the socket is what it answers.
            match socket::peek_stranger(stream.as_fd(), &mut [0; 1]) {
                Ok(Some((there, _))) if there > 0 => {
                    if socket::consume(stream.as_fd(), note.message_len as usize).is_err() {
                        return false;
                    }
                }
                Ok(_) => {}
                Err(_) => return false,
            }
            self.ledger.set_reply(ReplyNote { message_len: 0, ..note });
        }
        self.flush_reply().is_ok()
    }

    /// Sends what is left of a noted reply; the rest goes when the socket takes more.
    pub fn flush_reply(&self) -> std::io::Result<bool> {
        let note = self.ledger.reply();
        let Some(stream) = &self.stream else { return Ok(true) };
        if note.reply_len == 0 {
            return Ok(true);
        }
        let all = self.outbox.flush(stream.as_fd(), note.reply_len as usize)?;
        if all {
            self.ledger.set_reply(ReplyNote::default());
        }
        Ok(all)
    }

    /// Tells the front end that the configuration space changed, if it gave us a way to.
    pub fn notify_config_change(&self) {
        if let Some(channel) = self.fds.get(&self.session.state.backend_channel) {
            // A front end that does not read its channel misses the notice; it is not waited for.
            if let Err(error) = socket::try_send(channel.as_fd(), &vhost_user::encode_config_change()) {
                tracing::warn!(slot = self.name, %error, "the front end was not told of the new capacity");
            }
        }
    }

    /// Gives up everything that a successor needs, under the names that it looks for.
    pub fn release(self) -> HashMap<String, OwnedFd> {
        let given = self.fds.iter();
        let mut left: HashMap<String, OwnedFd> = given
            .filter_map(|(generation, fd)| {
                Some((generation_name(*generation), vault::wrap(fd.as_fd()).ok()?))
            })
            .collect();
        left.insert(LEDGER.to_owned(), self.ledger_fd);
        left.insert(OUTBOX.to_owned(), self.outbox.into_fd());
        if let Some(stream) = self.stream {
            left.insert(CONNECTION.to_owned(), stream.into());
        }
        left
    }

    /// The slot is removed: nothing of it is kept.
    pub fn forget_all(&mut self) {
        self.disconnect();
        for what in [LEDGER, OUTBOX, LISTENER, INFLIGHT] {
            self.vault.forget(&vault::name(&self.name, what));
        }
    }
}
