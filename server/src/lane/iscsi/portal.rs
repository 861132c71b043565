//! A portal: an address that iSCSI initiators connect to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use control::Problem;
use control::status::PortalStatus;
use control::step::PortalSpec;
use host::tcp::{Listener, Stream};
use host::wait::{Interest, Wait};
use request::Instant;

use super::super::token::Token;
use crate::vault::{Vault, key};

/// Connections that wait to be accepted: what a cluster that comes back at once may want.
const BACKLOG: u32 = 256;
/// Connections taken in one turn.
pub const ACCEPT_BURST_MAX: usize = 16;
/// How long nobody is accepted after the system was short of something.
const PAUSE: Duration = Duration::from_millis(100);

/// The name under which a portal's listener is kept.
pub fn listener_name(portal: &str) -> String {
    format!("ip/{}", key(portal))
}

/// The beginning of the names under which its connections are kept.
pub fn connection_prefix(portal: &str) -> String {
    format!("ic/{}.", key(portal))
}

/// What a portal counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub accepted: u64,
    /// Login phases that were cut off to make room for newer ones.
    pub crowded_out: u64,
    /// Connections that found no room.
    pub no_room: u64,
    /// The system was short of something.
    pub accept_failed: u64,
}

pub struct Portal {
    pub spec: PortalSpec,
    listener: Listener,
    pub counters: Counters,
    /// Until then nobody is accepted.
    paused_until: Option<Instant>,
}

impl Portal {
    /// Listens, or goes on listening.
    pub fn open(
        spec: PortalSpec,
        index: u32,
        left: &mut HashMap<String, OwnedFd>,
        vault: &Vault,
        wait: &Wait,
    ) -> Result<Self, Problem> {
        let name = listener_name(&spec.name);
        let kept = left
            .remove(&name)
            .and_then(|fd| Listener::adopt(fd).ok())
            .filter(|listener| listener.address().is_ok_and(|address| address == spec.listen));
        let listener = match kept {
            Some(listener) => listener,
            None => {
                let listener = Listener::bind(spec.listen, BACKLOG).map_err(|error| {
                    Problem::failed(format!("cannot listen for iSCSI: {error}"))
                        .at(format!("portal.{}: {}", spec.name, spec.listen))
                        .hint("is the address one of this host's, and does no other program listen there (`ss -ltnp`)?")
                })?;
                // The listener of another address may be there under this name.
                vault.forget(&name);
                vault.keep(&name, listener.as_fd());
                listener
            }
        };
        let portal = Self { spec, listener, counters: Counters::default(), paused_until: None };
        wait.add(portal.listener.as_fd(), Token::Portal(index).into(), Interest::READ).map_err(|error| {
            Problem::failed(format!("cannot wait for connections: {error}"))
                .at(format!("portal.{}", portal.spec.name))
                .hint("the limit of open files, or of memory, may be reached")
        })?;
        Ok(portal)
    }

    /// Nobody connects here any more. The keeper has the listener too, for a moment longer.
    pub fn end(self, wait: &Wait) {
        let _ = self.listener.end();
        let _ = wait.delete(self.listener.as_fd());
    }

    /// Takes it out of the wait, because another lane goes on with it.
    pub fn release(self, wait: &Wait) -> Option<OwnedFd> {
        let _ = wait.delete(self.listener.as_fd());
        self.listener.as_fd().try_clone_to_owned().ok()
    }

    /// The next connection, if there is one.
    pub fn accept(&mut self, index: u32, now: Instant, wait: &Wait) -> Option<(Stream, SocketAddr)> {
        if self.paused_until.is_some() {
            return None;
        }
        match self.listener.accept() {
            Ok(accepted) => {
                self.counters.accepted += u64::from(accepted.is_some());
                accepted
            }
            Err(error) => {
                if self.counters.accept_failed == 0 {
                    tracing::error!(portal = self.spec.name, %error, "cannot accept connections; trying on");
                }
                self.counters.accept_failed += 1;
                // It would wake us again and again.
                self.paused_until = Some(now.after(PAUSE));
                let _ = wait.modify(self.listener.as_fd(), Token::Portal(index).into(), Interest::NONE);
                None
            }
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.paused_until
    }

    /// The pause may be over.
    pub fn age(&mut self, index: u32, now: Instant, wait: &Wait) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            let _ = wait.modify(self.listener.as_fd(), Token::Portal(index).into(), Interest::READ);
        }
    }

    pub fn status(&self, connections: u32) -> PortalStatus {
        let Counters { accepted, crowded_out, no_room, accept_failed } = self.counters;
        let counters = [
            ("accepted", accepted),
            ("refused_crowded_out", crowded_out),
            ("refused_no_room", no_room),
            ("accept_failed", accept_failed),
        ];
        let counters = counters.map(|(name, value)| (name.to_owned(), value)).into();
        PortalStatus { connections, fault: None, counters }
    }
}
