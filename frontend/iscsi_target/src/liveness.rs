//! Time: logins that dawdle, initiators that fell silent, logouts that were asked for.

use core::time::Duration;

use request::Instant;

use crate::bits::{RESERVED_TAG, event};
use crate::connection::{Connection, Phase};
use crate::fault::Fault;
use crate::pdu::Header;

impl Connection {
    pub(crate) fn look_at_time(&mut self, now: Instant) {
        self.now = now;
        let limits = self.layout.limits;
        let passed = |time: u64| time != 0 && now.nanos() >= time;
        match self.hot.phase {
            Phase::Login if passed(self.hot.login_by) => self.end_by(Fault::LoginTimeout),
            Phase::Full => {
                // Whatever comes is a sign of life; what came before and has no room is none.
                if core::mem::replace(&mut self.receive.noticed, self.receive.received)
                    != self.receive.received
                {
                    self.hot.heard = now.nanos();
                    self.hot.nop_by = 0;
                }
                if passed(self.hot.logout_by) {
                    if self.transmit.has_room(8, 4) {
                        // 11.9: the target drops the connection; Time2Wait and Time2Retain are 0.
                        self.put_async(event::DROP_SESSION, [0; 8], [0; 3], &[]);
                    }
                    self.end_by(Fault::LogoutTimeout);
                } else if passed(self.hot.nop_by) {
                    self.end_by(Fault::NopTimeout);
                } else if limits.nop_seconds != 0 && self.hot.nop_by == 0 {
                    let silence = Duration::from_secs(u64::from(limits.nop_seconds));
                    let due = Instant::from_nanos(self.hot.heard).after(silence);
                    if now >= due {
                        let wait = Duration::from_secs(u64::from(limits.nop_answer_seconds.max(1)));
                        self.hot.nop_by = now.after(wait).nanos();
                        self.hot_dirty = true;
                        // Without room for a question it is the initiator that does not read: that it
                        // goes on reading is a sign of life as well (`Connection::sent`).
                        if self.transmit.has_room(8, 4) {
                            // Tags of our own that can be no task's: R2Ts have a slot in the low bits.
                            self.hot.nop_ttt = self.hot.nop_ttt.wrapping_add(1) & 0x7fff_ffff;
                            self.put_nop(self.hot.nop_ttt);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// NOP-Out without an initiator task tag: the answer to our NOP-In, or nothing but news of
    /// ExpStatSN (11.18).
    pub(crate) fn nop_answer(&mut self, header: &Header) {
        if !header.is_immediate() || (header.ttt() != RESERVED_TAG && header.ttt() != self.hot.nop_ttt) {
            self.count(Fault::NopMalformed);
        }
    }

    /// Asks the initiator to log out (AsyncEvent 1) within so many seconds; then the connection is
    /// dropped. For shutdown, and for targets that go away.
    pub fn ask_logout(&mut self, now: Instant, seconds: u16) {
        if self.hot.phase != Phase::Full || self.hot.logout_by != 0 {
            return;
        }
        self.hot.logout_by = now.after(Duration::from_secs(u64::from(seconds))).nanos();
        self.hot_dirty = true;
        if self.transmit.has_room(8, 4) {
            // Parameter3: the time within which a logout is expected.
            self.put_async(event::LOGOUT_REQUEST, [0; 8], [0, 0, seconds], &[]);
        }
    }
}
