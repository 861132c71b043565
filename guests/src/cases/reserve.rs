//! Persistent reservations between two initiators: every service action and every type, as SPC-5 5.14
//! has them, by `sg_persist`.

use crate::guest::Guest;
use crate::steps::Steps;
use crate::{During, Result, ensure};

/// Exit statuses of sg3_utils (sg3_utils(8)).
pub const ILLEGAL_REQUEST: i32 = 5;
pub const UNIT_ATTENTION: i32 = 6;
pub const RESERVATION_CONFLICT: i32 = 24;

/// An initiator: a disk in a guest.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    pub guest: &'a Guest,
    /// The disk's generic device, by which nothing is sent but what is asked for.
    pub device: &'a str,
    pub key: u64,
}

/// One full status descriptor (SPC-5 6.16.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrant {
    pub key: u64,
    pub all_ports: bool,
    pub holder: bool,
    pub kind: u8,
    pub port: u16,
    pub transport: Vec<u8>,
}

/// Reads the parameter data of READ FULL STATUS.
pub fn parse_full_status(bytes: &[u8]) -> Option<Vec<Registrant>> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let end = 8 + number(4)? as usize;
    let mut found = Vec::new();
    let mut at = 8;
    while at < end {
        let head = bytes.get(at..at + 24)?;
        let additional = number(at + 20)? as usize;
        found.push(Registrant {
            key: u64::from_be_bytes(head[..8].try_into().ok()?),
            all_ports: head[12] & 2 != 0,
            holder: head[12] & 1 != 0,
            kind: head[13] & 0x0f,
            port: u16::from_be_bytes([head[18], head[19]]),
            transport: bytes.get(at + 24..at + 24 + additional)?.to_vec(),
        });
        at += 24 + additional;
    }
    Some(found)
}

impl Node<'_> {
    /// All registrations, in the order of their keys.
    pub fn full_status(&self) -> Result<Vec<Registrant>> {
        let text = self.guest.check(&format!(
            "sg_raw -r 4096 -o /tmp/status {} 5e 03 00 00 00 00 00 10 00 00 >/tmp/said 2>&1 || {{ cat /tmp/said; exit 1; }}; \
             hexdump -v -e '1/1 \"%02x\"' /tmp/status",
            self.device
        ))?;
        let digits: Vec<char> = text.trim().chars().collect();
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).ok())
            .collect();
        let mut found = bytes
            .and_then(|bytes| parse_full_status(&bytes))
            .during(format!("READ FULL STATUS gave: {}", text.trim()))?;
        found.sort_by_key(|registrant| (registrant.key, registrant.transport.clone()));
        Ok(found)
    }

    /// Takes the unit attentions that wait.
    pub fn settle(&self) -> Result<()> {
        let device = self.device;
        self.guest
            .check(&format!(
                "for i in 1 2 3 4 5 6; do sg_raw {device} 00 00 00 00 00 00 2>&1 && exit 0; done; exit 1"
            ))
            .map(drop)
    }
}

/// TransportIDs as `sg_persist --transport-id` takes them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:x}")).collect::<Vec<_>>().join(",")
}

pub struct Tour<'a> {
    pub steps: Steps,
    /// These are disks of the Linux kernel's target behind its loop-back ports, which strays from SPC-5 as
    /// of 6.12: it never ends PREEMPT AND ABORT, ends what is asked for without a registration with NOT
    /// READY and a release of another type with RESERVATION CONFLICT, and gives both ports the number 0.
    pub linux: bool,
    pub a: Node<'a>,
    pub b: Node<'a>,
}

/// What each type lets through (SPC-5 5.14.3, table of commands; SBC-4 4.17): reads and writes of a
/// registrant that does not hold the reservation, and of an initiator that is not registered.
struct Kind {
    number: u8,
    name: &'static str,
    registrant_reads: bool,
    registrant_writes: bool,
    stranger_reads: bool,
    all_registrants: bool,
}

const KINDS: [Kind; 6] = [
    Kind {
        number: 1,
        name: "Write Exclusive",
        registrant_reads: true,
        registrant_writes: false,
        stranger_reads: true,
        all_registrants: false,
    },
    Kind {
        number: 3,
        name: "Exclusive Access",
        registrant_reads: false,
        registrant_writes: false,
        stranger_reads: false,
        all_registrants: false,
    },
    Kind {
        number: 5,
        name: "Write Exclusive, registrants only",
        registrant_reads: true,
        registrant_writes: true,
        stranger_reads: true,
        all_registrants: false,
    },
    Kind {
        number: 6,
        name: "Exclusive Access, registrants only",
        registrant_reads: true,
        registrant_writes: true,
        stranger_reads: false,
        all_registrants: false,
    },
    Kind {
        number: 7,
        name: "Write Exclusive, all registrants",
        registrant_reads: true,
        registrant_writes: true,
        stranger_reads: true,
        all_registrants: true,
    },
    Kind {
        number: 8,
        name: "Exclusive Access, all registrants",
        registrant_reads: true,
        registrant_writes: true,
        stranger_reads: false,
        all_registrants: true,
    },
];

impl<'a> Tour<'a> {
    pub fn new(a: Node<'a>, b: Node<'a>) -> Tour<'a> {
        Tour { steps: Steps::new(), linux: false, a, b }
    }

    /// How `sg_persist` preempts and aborts.
    pub fn abort(&self) -> &'static str {
        if self.linux { "-P" } else { "-A" }
    }

    /// A command of `sg_persist`. Its status 19 is ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST.
    pub fn persist(&mut self, node: Node<'_>, arguments: &str, status: i32, words: &[&str]) -> Result<()> {
        let command = format!(
            "sg_persist -n {arguments} -d {}; s=$?; [ $s != 19 ] || s={ILLEGAL_REQUEST}; exit $s",
            node.device
        );
        self.steps.one(node.guest, &command, status, words).map(drop)
    }

    fn passes(&mut self, node: Node<'_>, command: String, allowed: bool) -> Result<()> {
        let status = if allowed { 0 } else { RESERVATION_CONFLICT };
        self.steps.one(node.guest, &command, status, &[]).map(drop)
    }

    /// A READ(10) passes, or conflicts.
    pub fn reads(&mut self, node: Node<'_>, allowed: bool) -> Result<()> {
        self.passes(
            node,
            format!("sg_raw -r 512 {} 28 00 00 00 00 40 00 00 01 00 2>&1", node.device),
            allowed,
        )
    }

    /// A WRITE(10) passes, or conflicts.
    pub fn writes(&mut self, node: Node<'_>, allowed: bool) -> Result<()> {
        let command = format!(
            "head -c 512 /dev/zero | sg_raw -s 512 {} 2a 00 00 00 00 40 00 00 01 00 2>&1",
            node.device
        );
        self.passes(node, command, allowed)
    }

    /// The unit attention that waits for a node, or that none does.
    pub fn attention(&mut self, node: Node<'_>, words: Option<&str>) -> Result<()> {
        let command = format!("sg_raw {} 00 00 00 00 00 00 2>&1", node.device);
        match words {
            Some(words) => self.steps.one(node.guest, &command, UNIT_ATTENTION, &[words])?,
            None => self.steps.one(node.guest, &command, 0, &[])?,
        };
        Ok(())
    }

    /// The registrations: key and whether it holds the reservation. The node that asks has no unit
    /// attention waiting.
    pub fn registered(&mut self, by: Node<'_>, expected: &[(u64, bool)]) -> Result<Vec<Registrant>> {
        let found = by.full_status()?;
        let mut there: Vec<(u64, bool)> = found.iter().map(|one| (one.key, one.holder)).collect();
        let mut expected = expected.to_vec();
        there.sort_unstable();
        expected.sort_unstable();
        self.steps.holds(there == expected, || {
            format!("registrations (key, holder) should be {expected:x?} and are {there:x?}")
        });
        Ok(found)
    }

    /// No registration is left, and no unit attention.
    pub fn clear(&mut self) -> Result<()> {
        let (a, b) = (self.a, self.b);
        for node in [a, b] {
            node.settle()?;
        }
        self.persist(a, &format!("-o -I -S {:x}", a.key), 0, &[])?;
        self.persist(a, &format!("-o -C -K {:x}", a.key), 0, &[])?;
        for node in [a, b] {
            node.settle()?;
        }
        self.persist(b, "-i -k", 0, &["no registered reservation keys"])
    }

    /// Both are registered, and no unit attention waits.
    fn register_both(&mut self) -> Result<()> {
        let (a, b) = (self.a, self.b);
        self.clear()?;
        for node in [a, b] {
            self.persist(node, &format!("-o -G -S {:x}", node.key), 0, &[])?;
        }
        Ok(())
    }

    /// REGISTER and REGISTER AND IGNORE EXISTING KEY (SPC-5 5.14.7).
    pub fn registering(&mut self) -> Result<()> {
        let (a, b) = (self.a, self.b);
        self.clear()?;
        self.persist(
            a,
            "-i -c",
            0,
            &[
                "(SIP_C): 1",
                "(ATP_C): 1",
                "(PTPL_C): 1",
                "(PTPL_A): 0",
                "(TMV): 1",
                "Write Exclusive: 1",
                "Exclusive Access: 1",
                "Write Exclusive, registrants only: 1",
                "Exclusive Access, registrants only: 1",
                "Write Exclusive, all registrants: 1",
                "Exclusive Access, all registrants: 1",
            ],
        )?;
        self.persist(a, "-i -r", 0, &["no reservation held"])?;
        // Who is not registered may not reserve, release, clear or preempt; nor register with a key that
        // it does not have.
        for action in ["-R -T 1", "-L -T 1", "-C", "-P -T 1 -S 2", "-A -T 1 -S 2", "-G -S 2"] {
            let status = if self.linux && ["-R", "-L", "-C"].contains(&&action[..2]) {
                2
            } else {
                RESERVATION_CONFLICT
            };
            self.persist(a, &format!("-o {action} -K 1"), status, &[])?;
        }
        self.persist(a, "-o -G -S 11", 0, &[])?;
        self.persist(b, "-i -k", 0, &["0x11"])?;
        self.persist(a, "-o -G -K 12 -S 13", RESERVATION_CONFLICT, &[])?;
        self.persist(a, "-o -G -K 11 -S 13", 0, &[])?;
        self.registered(a, &[(0x13, false)])?;
        self.persist(a, "-o -I -S 14", 0, &[])?;
        // A key of zero unregisters, of either kind.
        self.persist(a, "-o -G -K 14 -S 0", 0, &[])?;
        self.registered(a, &[])?;
        self.persist(a, "-o -I -S 15", 0, &[])?;
        self.persist(a, "-o -I -S 0", 0, &[])?;
        self.registered(a, &[])?;
        // Two nexuses may have the same key.
        self.persist(a, "-o -I -S 16", 0, &[])?;
        self.persist(b, "-o -I -S 16", 0, &[])?;
        let both = self.registered(a, &[(0x16, false), (0x16, false)])?;
        self.steps.holds(
            both.first().map(|one| (&one.transport, one.port))
                != both.get(1).map(|one| (&one.transport, one.port)),
            || format!("two initiators have one nexus: {both:?}"),
        );
        // Nobody is told of a registration.
        self.attention(a, None)?;
        self.attention(b, None)
    }

    /// Every type: reserve, who may do what, release (SPC-5 5.14.3, 5.14.9, 5.14.11.2).
    pub fn kinds(&mut self) -> Result<()> {
        for kind in &KINDS {
            self.kind(kind)?;
        }
        Ok(())
    }

    fn kind(&mut self, kind: &Kind) -> Result<()> {
        let (a, b) = (self.a, self.b);
        let number = kind.number;
        let (key_a, key_b) = (a.key, b.key);
        self.register_both()?;
        self.persist(a, &format!("-o -R -T {number} -K {key_a:x}"), 0, &[])?;
        self.persist(b, "-i -r", 0, &["Reservation follows", &format!("type: {}", kind.name)])?;
        let holders = self.registered(a, &[(key_a, true), (key_b, kind.all_registrants)])?;
        self.steps.holds(holders.iter().all(|one| !one.holder || one.kind == number), || {
            format!("type {number} is told as {holders:?}")
        });
        for node in [a, b] {
            let holds = node.key == key_a || kind.all_registrants;
            self.reads(node, holds || kind.registrant_reads)?;
            self.writes(node, holds || kind.registrant_writes)?;
        }
        // The holder may ask again for what it has, and for nothing else; others may not ask.
        let other = if number == 5 { 6 } else { 5 };
        self.persist(a, &format!("-o -R -T {number} -K {key_a:x}"), 0, &[])?;
        self.persist(a, &format!("-o -R -T {other} -K {key_a:x}"), RESERVATION_CONFLICT, &[])?;
        let status = if kind.all_registrants { 0 } else { RESERVATION_CONFLICT };
        self.persist(b, &format!("-o -R -T {number} -K {key_b:x}"), status, &[])?;
        // A release of another type is an error of the holder, and nothing from others.
        let status = if self.linux { RESERVATION_CONFLICT } else { ILLEGAL_REQUEST };
        self.persist(a, &format!("-o -L -T {other} -K {key_a:x}"), status, &[])?;
        if !kind.all_registrants {
            self.persist(b, &format!("-o -L -T {number} -K {key_b:x}"), 0, &[])?;
            self.persist(b, "-i -r", 0, &["Reservation follows"])?;
        }
        self.attention(b, None)?;
        // A stranger may say who it is and ask what is there.
        self.persist(b, &format!("-o -G -K {key_b:x} -S 0"), 0, &[])?;
        self.reads(b, kind.stranger_reads)?;
        self.writes(b, false)?;
        let device = b.device;
        for command in
            [format!("sg_inq {device}"), format!("sg_luns {device}"), format!("sg_requests {device}")]
        {
            self.steps.one(b.guest, &command, 0, &[])?;
        }
        self.persist(b, &format!("-o -G -S {key_b:x}"), 0, &[])?;
        b.settle()?;
        // The types for registrants tell the registrants of the end.
        self.persist(a, &format!("-o -L -T {number} -K {key_a:x}"), 0, &[])?;
        self.persist(a, "-i -r", 0, &["no reservation held"])?;
        self.attention(b, (number >= 5).then_some("Reservations released"))?;
        self.attention(a, None)?;
        self.writes(b, true)?;
        // So does a holder that unregisters; of all registrants, the last.
        self.persist(a, &format!("-o -R -T {number} -K {key_a:x}"), 0, &[])?;
        self.persist(a, &format!("-o -G -K {key_a:x} -S 0"), 0, &[])?;
        if kind.all_registrants {
            self.registered(a, &[(key_b, true)])?;
            self.writes(a, false)?;
            self.persist(b, &format!("-o -G -K {key_b:x} -S 0"), 0, &[])?;
            self.persist(a, "-i -r", 0, &["no reservation held"])?;
        } else {
            self.persist(a, "-i -r", 0, &["no reservation held"])?;
            self.attention(b, (number >= 5).then_some("Reservations released"))?;
        }
        Ok(())
    }

    /// PREEMPT, PREEMPT AND ABORT and CLEAR (SPC-5 5.14.11.4 to 5.14.11.6).
    pub fn preempting(&mut self) -> Result<()> {
        let (a, b) = (self.a, self.b);
        let (key_a, key_b) = (a.key, b.key);
        for action in ["-P", self.abort()] {
            self.register_both()?;
            self.persist(a, &format!("-o -R -T 5 -K {key_a:x}"), 0, &[])?;
            // A key that nobody has; no key at all.
            self.persist(b, &format!("-o {action} -T 1 -K {key_b:x} -S dead"), RESERVATION_CONFLICT, &[])?;
            self.persist(b, &format!("-o {action} -T 1 -K {key_b:x} -S 0"), ILLEGAL_REQUEST, &[])?;
            // The holder's key: its registration goes, and the reservation is ours, of our type.
            self.persist(b, &format!("-o {action} -T 1 -K {key_b:x} -S {key_a:x}"), 0, &[])?;
            self.registered(b, &[(key_b, true)])?;
            self.persist(b, "-i -r", 0, &["type: Write Exclusive"])?;
            self.attention(a, Some("Registrations preempted"))?;
            self.attention(b, None)?;
            self.writes(a, false)?;
            self.writes(b, true)?;
            // The key of somebody who holds nothing: only its registration goes.
            self.persist(a, &format!("-o -G -S {key_a:x}"), 0, &[])?;
            self.persist(b, &format!("-o {action} -T 3 -K {key_b:x} -S {key_a:x}"), 0, &[])?;
            self.registered(b, &[(key_b, true)])?;
            self.persist(b, "-i -r", 0, &["type: Write Exclusive"])?;
            self.attention(a, Some("Registrations preempted"))?;
            // Of all registrants, zero means everybody else.
            self.register_both()?;
            self.persist(a, &format!("-o -R -T 7 -K {key_a:x}"), 0, &[])?;
            self.persist(b, &format!("-o {action} -T 7 -K {key_b:x} -S 0"), 0, &[])?;
            self.registered(b, &[(key_b, true)])?;
            self.attention(a, Some("Registrations preempted"))?;
        }
        self.register_both()?;
        self.persist(a, &format!("-o -R -T 3 -K {key_a:x}"), 0, &[])?;
        self.persist(b, &format!("-o -C -K {key_b:x}"), 0, &[])?;
        self.registered(b, &[])?;
        self.persist(b, "-i -r", 0, &["no reservation held"])?;
        self.attention(a, Some("Reservations preempted"))?;
        self.attention(b, None)?;
        self.writes(a, true)?;
        self.writes(b, true)
    }

    /// SPEC_I_PT, ALL_TG_PT and REGISTER AND MOVE (SPC-5 5.14.7, 5.14.8).
    pub fn ports(&mut self) -> Result<()> {
        let (a, b) = (self.a, self.b);
        let (key_a, key_b) = (a.key, b.key);
        self.register_both()?;
        let both = self.registered(a, &[(key_a, false), (key_b, false)])?;
        let of = |key: u64| both.iter().find(|one| one.key == key).cloned();
        let (Some(own), Some(theirs)) = (of(key_a), of(key_b)) else {
            return Ok(()); // told above
        };
        ensure!(!theirs.transport.is_empty(), "READ FULL STATUS gives no TransportID: {both:?}");

        // REGISTER with the TransportID of the other: both have the key then.
        self.clear()?;
        let (tid, port) = (hex(&theirs.transport), theirs.port);
        if own.port == theirs.port {
            self.persist(a, &format!("-o -G -S {key_a:x} -X {tid}"), 0, &[])?;
            let now = self.registered(a, &[(key_a, false), (key_a, false)])?;
            self.steps.holds(now.iter().any(|one| one.transport == theirs.transport), || {
                format!("SPEC_I_PT did not register {theirs:?}: {now:?}")
            });
        }

        // A registration for all ports says so.
        self.clear()?;
        self.persist(a, &format!("-o -G -Y -S {key_a:x}"), 0, &[])?;
        let found = a.full_status()?;
        self.steps.holds(!found.is_empty() && found.iter().all(|one| one.key == key_a), || {
            format!("after a registration for all ports there are {found:?}")
        });
        self.steps.holds(found.iter().any(|one| one.all_ports) || found.len() > 1, || {
            format!("ALL_TG_PT is not told: {found:?}")
        });
        self.persist(a, &format!("-o -G -Y -K {key_a:x} -S 0"), 0, &[])?;

        if self.linux {
            return self.clear();
        }
        // REGISTER AND MOVE: the other is registered with the key, and holds the reservation.
        for unregister in [false, true] {
            self.register_both()?;
            let word = if unregister { "-U" } else { "" };
            let moved = format!("-o -M {word} -K {key_a:x} -S c1 -Q {port} -X {tid}");
            // There is nothing to move: not a conflict, but an invalid field in the CDB (SPC-4 5.12.8;
            // LIO and SCST say the same). Then by somebody who does not hold it; then of a type that all
            // hold.
            self.persist(a, &moved, ILLEGAL_REQUEST, &["bad field in cdb"])?;
            self.persist(b, &format!("-o -R -T 1 -K {key_b:x}"), 0, &[])?;
            self.persist(a, &moved, RESERVATION_CONFLICT, &[])?;
            self.persist(b, &format!("-o -L -T 1 -K {key_b:x}"), 0, &[])?;
            self.persist(a, &format!("-o -R -T 7 -K {key_a:x}"), 0, &[])?;
            self.persist(a, &moved, RESERVATION_CONFLICT, &[])?;
            self.persist(a, &format!("-o -L -T 7 -K {key_a:x}"), 0, &[])?;
            b.settle()?;
            self.persist(a, &format!("-o -R -T 1 -K {key_a:x}"), 0, &[])?;
            // Not to oneself, and not without a key.
            let (self_tid, self_port) = (hex(&own.transport), own.port);
            self.persist(
                a,
                &format!("-o -M -K {key_a:x} -S c1 -Q {self_port} -X {self_tid}"),
                ILLEGAL_REQUEST,
                &[],
            )?;
            self.persist(a, &format!("-o -M -K {key_a:x} -S 0 -Q {port} -X {tid}"), ILLEGAL_REQUEST, &[])?;
            self.persist(a, &moved, 0, &[])?;
            let expected = if unregister { vec![(0xc1, true)] } else { vec![(key_a, false), (0xc1, true)] };
            self.registered(a, &expected)?;
            self.persist(a, "-i -r", 0, &["key=0xc1", "type: Write Exclusive"])?;
            self.writes(b, true)?;
            self.writes(a, false)?;
            self.persist(b, "-o -L -T 1 -K c1", 0, &[])?;
        }
        Ok(())
    }

    /// RESERVE and RELEASE of SPC-2, and each kind in the other's way (SPC-2 5.5.1).
    pub fn of_spc_2(&mut self) -> Result<()> {
        let (a, b) = (self.a, self.b);
        let reserve = |node: Node<'_>| format!("sg_raw {} 16 00 00 00 00 00 2>&1", node.device);
        let release = |node: Node<'_>| format!("sg_raw {} 17 00 00 00 00 00 2>&1", node.device);
        self.clear()?;
        self.passes(a, reserve(a), true)?;
        self.passes(a, reserve(a), true)?;
        self.passes(b, reserve(b), false)?;
        self.writes(a, true)?;
        self.writes(b, false)?;
        self.reads(b, false)?;
        let device = b.device;
        self.passes(b, format!("sg_inq {device}"), true)?;
        self.persist(b, "-o -G -S 1", RESERVATION_CONFLICT, &[])?;
        // Not the holder: nothing happens.
        self.passes(b, release(b), true)?;
        self.writes(b, false)?;
        self.passes(a, release(a), true)?;
        self.writes(b, true)?;
        // A reset of the logical unit ends it.
        self.passes(a, reserve(a), true)?;
        self.steps.one(b.guest, &format!("sg_reset --device {}", b.device), 0, &[])?;
        for node in [a, b] {
            node.settle()?;
        }
        self.writes(b, true)?;
        // While somebody is registered, RESERVE conflicts from everybody else.
        self.persist(a, &format!("-o -G -S {:x}", a.key), 0, &[])?;
        self.passes(b, reserve(b), false)?;
        self.clear()
    }

    pub fn all(&mut self) -> Result<()> {
        self.registering()?;
        self.kinds()?;
        self.preempting()?;
        self.ports()?;
        self.of_spc_2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two descriptors as SPC-5 6.16.5 lays them out, typed by hand.
    #[test]
    fn reads_full_status() {
        let mut bytes = vec![0, 0, 0, 9, 0, 0, 0, 52];
        bytes.extend([0, 0, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 3, 0x05, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4]);
        bytes.extend([6, 0, 0, 1]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        let found = parse_full_status(&bytes).unwrap();
        assert_eq!(
            found[0],
            Registrant {
                key: 0x1234,
                all_ports: true,
                holder: true,
                kind: 5,
                port: 2,
                transport: vec![6, 0, 0, 1]
            }
        );
        assert_eq!(
            found[1],
            Registrant { key: 1, all_ports: false, holder: false, kind: 0, port: 256, transport: vec![] }
        );
        assert_eq!(parse_full_status(&bytes[..40]), None);
    }
}
