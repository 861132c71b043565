//! Who may use the API: root, the daemon's own user, and the members of the
//! group that the site names. The kernel says who is at the other end.

use crate::problem::{Kind, Problem};
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;
use tokio::net::UnixListener;

/// The credentials of the process that connected, as SO_PEERCRED gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// `None` if the kernel would not say.
    pub ids: Option<(u32, u32)>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Peer { ids: credentials.map(|c| (c.uid(), c.gid())) }
    }
}

impl Peer {
    /// `group` is asked for only if the user alone does not decide it.
    pub fn check(&self, group: impl FnOnce() -> Option<String>) -> Result<(), Problem> {
        let own = Uid::effective().as_raw();
        if self.ids.is_some_and(|(uid, _)| uid == 0 || uid == own) {
            return Ok(());
        }
        let group = group();
        if let (Some((uid, gid)), Some(group)) = (self.ids, &group)
            && is_member(uid, gid, group)
        {
            return Ok(());
        }
        let who = match self.ids {
            Some((uid, _)) => format!("user {uid}"),
            None => "an unknown user".to_owned(),
        };
        let hint = match group {
            Some(group) => format!("run as root, or join the group `{group}` (then log in again)"),
            None => "run as root, or set `api_group` in the [server] table of the site".to_owned(),
        };
        Err(Problem::new(Kind::Forbidden, format!("{who} may not use this API")).hint(hint))
    }
}

/// SO_PEERCRED carries the primary group only, so the others are looked up.
fn is_member(uid: u32, gid: u32, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else {
        return false;
    };
    if group.gid == Gid::from_raw(gid) {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return false;
    };
    let Ok(name) = CString::new(user.name) else {
        return false;
    };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
}
