//! Answers to iSCSI sessions.

use super::Lane;
use super::scsi::Ended;

impl Lane {
    /// A command of a session has ended.
    pub(super) fn answer_session(&mut self, connection: u32, task: u32, ended: &Ended) {
        unreachable!("there are no sessions yet: {connection} {task} {ended:?}")
    }

    /// The tasks that a session's task management function was about have ended.
    pub(super) fn session_managed(&mut self, connection: u32, task: u32) {
        unreachable!("there are no sessions yet: {connection} {task}")
    }
}
