//! From login requests to an established session.

use crate::bits::{flag, login_status, opcode};
use crate::connection::{Connection, Event, Phase, Turn};
use crate::fault::Fault;
use crate::login::{Login, Refusal, Scene, Step};
use crate::pdu::Header;
use crate::sessions::Admission;

impl Connection {
    /// One login request. `Some`: something is to be done before it is looked at (again).
    pub(crate) fn log_in(&mut self, header: &Header, data: &[u8], turn: &mut Turn<'_>) -> Option<Event> {
        let first = self.login.requests == 0;
        // The request is taken on a copy, so that one that has to wait leaves no trace.
        let mut login = self.login.clone();
        let mut scene = Scene {
            directory: turn.directory,
            limits: &self.layout.limits,
            portal: self.portal,
            random: &mut *turn.random,
        };
        let taken = login.step(header, data, &mut scene);
        if !self.announced && login.is_named() && taken.is_ok() && !login.negotiation.discovery {
            self.announced = true;
            if !self.login.is_named() {
                self.named = Some(self.claim_of(&login));
                return Some(Event::Target);
            }
        }
        if first {
            // The initiator's number is as good a beginning as any, and easy to follow in a trace.
            self.hot.stat_sn = header.exp_stat_sn();
            self.hot.exp_cmd_sn = header.cmd_sn();
        }
        let step = match taken {
            Ok(step) => step,
            Err(refusal) => {
                self.refuse_login(&login, header, refusal);
                return None;
            }
        };
        if step.done {
            match self.admit(&login, turn) {
                Ok(None) => {}
                Ok(Some(event)) => return Some(event),
                Err(refusal) => {
                    self.refuse_login(&login, header, refusal);
                    return None;
                }
            }
        }
        self.login = login;
        self.cold_dirty = true;
        self.hot_dirty = true;
        self.answer_login(header, &step);
        if step.done {
            self.hot.phase = Phase::Full;
            self.hot.heard = turn.now.nanos();
            self.events.push_back(Event::Established);
        }
        None
    }

    fn admit(&mut self, login: &Login, turn: &mut Turn<'_>) -> Result<Option<Event>, Refusal> {
        let claim = self.claim_of(login);
        let most = turn.directory.target(&login.target).map_or(0, |target| target.sessions_max);
        match turn.sessions.admit(&claim, most) {
            Admission::New(tsih) | Admission::Reinstated(tsih) => {
                self.hot.tsih = tsih;
                Ok(None)
            }
            Admission::After(old) => Ok(Some(Event::Displace(old))),
            Admission::NoSuchSession => {
                Err(Refusal(login_status::SESSION_DOES_NOT_EXIST, Fault::LoginNoSession))
            }
            Admission::TooManyConnections => {
                Err(Refusal(login_status::TOO_MANY_CONNECTIONS, Fault::LoginTooManyConnections))
            }
            Admission::Full => Err(Refusal(login_status::OUT_OF_RESOURCES, Fault::LoginNoResources)),
        }
    }

    fn login_response(&mut self, header: &Header, flags: u8, tsih: u16, status: u16) -> Header {
        // 11.13.4: StatSN counts login responses as well. No CmdSN has passed yet.
        let window = u32::from(self.layout.limits.commands);
        let response = Header::new(opcode::LOGIN_RESPONSE)
            .with_flags(flags)
            .with_bytes(8, &header.isid())
            .with_bytes(14, &tsih.to_be_bytes())
            .with_itt(header.itt())
            .with_numbers(
                self.hot.stat_sn,
                self.hot.exp_cmd_sn,
                self.hot.exp_cmd_sn.wrapping_add(window).wrapping_sub(1),
            )
            .with_bytes(36, &status.to_be_bytes());
        self.hot.stat_sn = self.hot.stat_sn.wrapping_add(1);
        self.hot_dirty = true;
        response
    }

    fn answer_login(&mut self, header: &Header, step: &Step) {
        let tsih = if step.done { self.hot.tsih } else { header.tsih() };
        let response = self.login_response(header, step.flags, tsih, login_status::SUCCESS);
        self.put_small(response, &step.text.0);
    }

    fn refuse_login(&mut self, login: &Login, header: &Header, Refusal(status, fault): Refusal) {
        self.count(fault);
        // 11.13.5: the stages say nothing in a refusal.
        let flags = header.flags() & !(flag::FINAL | flag::CONTINUE) & 0x0c;
        let response = self.login_response(header, flags, header.tsih(), status);
        self.put_small(response, &[]);
        self.login.initiator.clone_from(&login.initiator);
        self.end_login();
    }
}
