//! Expected bytes are typed here from the standards, apart from the constants of the code.

mod arbitrary;
mod attentions;
mod document;
mod inquiry;
mod linux;
mod medium;
mod mode;
mod provisioning;
mod report;
mod rows;
mod sense;
mod states;

use alloc::string::String;
use alloc::vec::Vec;
use request::{Blocks, Discard, Facts, Identity, Operation};

use crate::{Command, Nexus, Plan, Response, Sense, Unit, Verdict};

pub(super) const NEXUS: Nexus = Nexus(0);
pub(super) const OTHER: Nexus = Nexus(1);

/// 1 GiB of 512-byte blocks on 4 KiB physical blocks, thin, with a volatile cache.
pub(super) fn facts() -> Facts {
    Facts {
        block_size: 512,
        blocks: Blocks(2_097_152),
        physical_exponent: 3,
        optimal: Blocks(128),
        read_only: false,
        rotational: false,
        write_cache: true,
        discard: Some(Discard { granularity: Blocks(8), zeroes: true }),
        atomic: None,
        identity: Identity {
            naa: [
                0x62, 0x5e, 0x41, 0x10, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b,
                0x0c,
            ],
            serial: String::from("web1-disk0"),
            name: String::from("web1.disk0"),
        },
    }
}

/// A unit whose attentions were told to both initiators.
pub(super) fn unit(facts: Facts) -> Unit {
    let mut unit = Unit::new(facts);
    for nexus in [NEXUS, OTHER] {
        let response = response(&mut unit, nexus, &[0; 6]);
        assert_eq!(response.sense.map(|sense| (sense.asc, sense.ascq)), Some((0x29, 0x00)));
    }
    unit.seen();
    unit
}

pub(super) fn command(nexus: Nexus, cdb: &[u8]) -> Command<'_> {
    Command { nexus, cdb, luns: &[0, 1, 256] }
}

/// A command that is answered at once, with its data.
pub(super) fn answer(unit: &mut Unit, nexus: Nexus, cdb: &[u8]) -> (Response, Vec<u8>) {
    let mut out = Vec::new();
    match unit.execute(&command(nexus, cdb), None, &mut out) {
        Verdict::Respond(response) => (response, out),
        other => panic!("{cdb:02x?}: {other:?}"),
    }
}

pub(super) fn response(unit: &mut Unit, nexus: Nexus, cdb: &[u8]) -> Response {
    answer(unit, nexus, cdb).0
}

/// The data of a command that succeeds.
pub(super) fn data(unit: &mut Unit, cdb: &[u8]) -> Vec<u8> {
    let (response, data) = answer(unit, NEXUS, cdb);
    assert_eq!(response.status, 0x00, "{cdb:02x?}: {response:?}");
    data
}

/// Key, code, qualifier of a command that fails.
pub(super) fn failure(unit: &mut Unit, cdb: &[u8]) -> (u8, u8, u8) {
    let (response, data) = answer(unit, NEXUS, cdb);
    assert!(data.is_empty(), "{cdb:02x?}");
    codes(&response)
}

pub(super) fn codes(response: &Response) -> (u8, u8, u8) {
    assert_eq!(response.status, 0x02, "{response:?}");
    let sense: Sense = response.sense.expect("CHECK CONDITION comes with sense data");
    (sense.key as u8, sense.asc, sense.ascq)
}

pub(super) fn plan(unit: &mut Unit, cdb: &[u8]) -> Plan {
    match unit.execute(&command(NEXUS, cdb), None, &mut Vec::new()) {
        Verdict::Medium(plan) => plan,
        other => panic!("{cdb:02x?}: {other:?}"),
    }
}

pub(super) fn operations(unit: &mut Unit, cdb: &[u8]) -> Vec<Operation> {
    plan(unit, cdb).collect()
}

/// A command with a parameter list: what it asks for, then what it says to the list.
pub(super) fn with_list(unit: &mut Unit, nexus: Nexus, cdb: &[u8], list: &[u8]) -> Verdict {
    let mut out = Vec::new();
    let asked = unit.execute(&command(nexus, cdb), None, &mut out);
    assert!(matches!(asked, Verdict::Parameters(_)), "{asked:?}");
    let verdict = unit.execute(&command(nexus, cdb), Some(list), &mut out);
    assert!(out.is_empty());
    verdict
}

pub(super) fn refused(verdict: Verdict) -> (u8, u8, u8) {
    match verdict {
        Verdict::Respond(response) => codes(&response),
        other => panic!("{other:?}"),
    }
}
