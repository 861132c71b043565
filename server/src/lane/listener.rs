//! A slot's socket, before anybody has connected.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use control::Problem;
use control::step::SlotSpec;

use super::link::LISTENER;
use crate::vault::{self, Vault};

/// The slot's listener: the one that is kept, or a new one. It stays in `estate`, so that it is not
/// lost if the slot cannot be made.
pub fn listen(
    spec: &SlotSpec,
    estate: &mut HashMap<String, OwnedFd>,
    vault: &Vault,
) -> Result<UnixListener, Problem> {
    let name = spec.id.to_string();
    let failed = |what: &str, error: std::io::Error| {
        Problem::failed(format!("{what}: {error}")).at(format!("vm.{name}"))
    };
    if !estate.contains_key(LISTENER) {
        let listener = crate::serve::bind(&spec.socket)?;
        if let Some(user) = &spec.user {
            host::process::give_to_user(&spec.socket, user).map_err(|error| {
                failed("cannot give the socket to its user", error)
                    .hint("name a user that exists in `user`, or leave it out")
            })?;
        }
        vault.keep(&vault::name(&name, LISTENER), listener.as_fd());
        estate.insert(LISTENER.to_owned(), listener.into());
    }
    let listener = estate[LISTENER].try_clone().map_err(|error| failed("cannot listen", error))?;
    let listener = UnixListener::from(listener);
    listener.set_nonblocking(true).map_err(|error| failed("cannot listen", error))?;
    Ok(listener)
}
