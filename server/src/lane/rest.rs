//! Before a worker, a slot or a portal goes: nothing new is begun, and what is at the disks ends, as
//! far as it does so soon.

use request::Instant;

use super::Lane;
use super::requests::Origin;
use super::token::Token;

/// A disk that has not ended a request for so long hangs.
const PATIENCE_NANOS: u64 = 1_000_000_000;

impl Lane {
    /// The worker is about to end. What waits for anything but a disk, be it hours of a SANITIZE, comes
    /// again to the next one.
    pub fn quiesce(&mut self) {
        self.quiet = true;
        self.turn_until(|lane| !lane.volumes.are_busy());
    }

    /// Everything that came from there has ended, but for tasks that wait for the end of an erasure:
    /// these go without an answer, and come again elsewhere. `false`: something hangs.
    pub(super) fn rest(&mut self, of: impl Fn(Origin) -> bool) -> bool {
        let rests = self.turn_until(|lane| {
            let parked = lane.volumes.parked();
            let mut left = lane.requests.tags_of(&of);
            left.all(|tag| parked.iter().any(|(_, there)| *there == tag))
        });
        if rests {
            for (volume, tag) in self.volumes.parked() {
                if of(self.requests.get(tag).origin)
                    && let Some(logical) = self.volumes.unit(volume)
                {
                    logical.unit.leave_parked();
                    self.volumes.dirty(volume);
                    self.requests.give_back(tag);
                }
            }
        }
        rests
    }

    /// What the wait names is for the next look: an edge is told of once.
    fn keep_ready(&mut self) {
        for ready in self.wait.ready() {
            let token = Token::from(ready.token);
            if !self.ready.contains(&token) {
                self.ready.push(token);
            }
        }
    }

    /// Turns in which nothing new is begun.
    fn turn_until(&mut self, mut is_done: impl FnMut(&mut Lane) -> bool) -> bool {
        let begun = host::process::now_nanos();
        while !is_done(self) {
            if host::process::now_nanos() - begun > PATIENCE_NANOS {
                return false;
            }
            let _ = self.ring.submit();
            let _ = self.wait.wait(Some(1_000_000));
            self.keep_ready();
            self.now = Instant::from_nanos(host::process::now_nanos());
            self.end_requests();
            self.run_woken();
            self.publish();
        }
        true
    }
}
