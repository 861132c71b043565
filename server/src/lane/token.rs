/// What an event of the lane's one wait is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A command of the control plane.
    Command,
    /// The lane's io_uring.
    Ring,
    Listener(u32),
    Link(u32),
    Kick {
        slot: u32,
        ring: u32,
    },
    Uplink {
        uplink: u32,
        queue: u32,
    },
    /// The listener of an emulated slot.
    EmulatedListener(u32),
    /// The socket of an emulated slot's guest.
    Emulated(u32),
    /// The guest of an emulated slot has ended an interrupt.
    Unmask(u32),
    /// A listener for iSCSI.
    Portal(u32),
    /// A connection of an iSCSI initiator.
    Session(u32),
}

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        let pack = |kind: u64, high: u32, low: u32| {
            kind << 60 | u64::from(high & 0x0fff_ffff) << 32 | u64::from(low)
        };
        match token {
            Token::Command => pack(0, 0, 0),
            Token::Ring => pack(1, 0, 0),
            Token::Listener(slot) => pack(2, slot, 0),
            Token::Link(slot) => pack(3, slot, 0),
            Token::Kick { slot, ring } => pack(4, slot, ring),
            Token::Uplink { uplink, queue } => pack(5, uplink, queue),
            Token::Portal(portal) => pack(6, portal, 0),
            Token::Session(session) => pack(7, session, 0),
            Token::EmulatedListener(slot) => pack(8, slot, 0),
            Token::Emulated(slot) => pack(9, slot, 0),
            Token::Unmask(slot) => pack(10, slot, 0),
        }
    }
}

impl From<u64> for Token {
    fn from(bits: u64) -> Token {
        let (high, low) = ((bits >> 32) as u32 & 0x0fff_ffff, bits as u32);
        match bits >> 60 {
            1 => Token::Ring,
            2 => Token::Listener(high),
            3 => Token::Link(high),
            4 => Token::Kick { slot: high, ring: low },
            5 => Token::Uplink { uplink: high, queue: low },
            6 => Token::Portal(high),
            7 => Token::Session(high),
            8 => Token::EmulatedListener(high),
            9 => Token::Emulated(high),
            10 => Token::Unmask(high),
            _ => Token::Command,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Command,
            Token::Ring,
            Token::Listener(7),
            Token::Link(1 << 27),
            Token::Kick { slot: 255, ring: 127 },
            Token::Uplink { uplink: 3, queue: 9 },
            Token::Portal(2),
            Token::Session(1023),
            Token::EmulatedListener(3),
            Token::Emulated(511),
            Token::Unmask(2),
        ] {
            assert_eq!(Token::from(u64::from(token)), token);
        }
    }
}
