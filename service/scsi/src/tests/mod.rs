//! Expected bytes are typed here from the standards, apart from the constants of the code.

mod allocation;
mod alua;
mod arbitrary;
mod attentions;
mod bench;
mod compare;
mod copy;
mod document;
mod erase;
mod inquiry;
mod journal;
mod linux;
mod log;
mod medium;
mod mmc;
mod mode;
mod nexuses;
mod provisioning;
mod removable;
mod report;
mod reservation;
mod rows;
mod sense;
mod settings;
mod states;
mod task_set;

use alloc::string::String;
use alloc::vec::Vec;
use request::{Atomic, Blocks, Discard, Facts, Identity, Operation, Status};

use crate::{
    Attribute, Command, Ending, Nexus, Peer, Plan, PortId, Profile, Response, Sense, TransportId, Unit,
    Verdict,
};

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
        atomic: Some(Atomic { max: Blocks(2048), alignment: Blocks(8), granularity: Blocks(8) }),
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

/// The controller of a VM, by the one target port.
pub(super) fn peer(number: u8) -> Peer {
    Peer { initiator: TransportId::sas([0x32, 0, 0, 0, 0, 0, 0, number]), port: PortId(1) }
}

/// A unit as after power on, with NEXUS and OTHER attached.
pub(super) fn attached(facts: Facts) -> Unit {
    let mut unit = Unit::new(facts, Profile::default());
    assert_eq!(unit.attach(peer(0)), Some(NEXUS));
    assert_eq!(unit.attach(peer(1)), Some(OTHER));
    unit
}

/// A unit whose attentions were told to both initiators.
pub(super) fn unit(facts: Facts) -> Unit {
    let mut unit = attached(facts);
    for nexus in [NEXUS, OTHER] {
        let response = response(&mut unit, nexus, &[0; 6]);
        assert_eq!(response.sense.map(|sense| (sense.asc, sense.ascq)), Some((0x29, 0x00)));
    }
    unit.seen();
    unit
}

pub(super) fn command(nexus: Nexus, cdb: &[u8]) -> Command<'_> {
    Command {
        nexus,
        tag: 7,
        task: None,
        id: 70,
        attribute: Attribute::Simple,
        cdb,
        luns: &[0, 1, 256],
        data_out: 0,
        resumed: false,
        clock_millis: 1_763_840_000_000,
        neighbours: None,
    }
}

/// Runs a command, giving it a parameter list if it asks for one, until it ends or has to work on
/// the medium; that work ends well at once.
pub(super) fn run_command(
    unit: &mut Unit,
    command: &Command<'_>,
    list: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Verdict {
    let before = unit.tasks();
    let mut outcome = unit.execute(command, None, out);
    if let (Verdict::Parameters(bytes), Some(list)) = (&outcome.verdict, list) {
        let offered = &list[..list.len().min(*bytes)];
        let again = Command { task: Some(outcome.task), ..*command };
        outcome = unit.execute(&again, Some(offered), out);
        assert!(!matches!(outcome.verdict, Verdict::Parameters(_)), "{:02x?}: asked twice", command.cdb);
    }
    match outcome.verdict {
        Verdict::Respond(_) | Verdict::Aborted(_) => {}
        Verdict::Work(_) => {
            let _ = unit.finish_work(outcome.task, Ok(()), 0);
        }
        _ => {
            let _ = unit.finish(outcome.task, Status::Good);
        }
    }
    assert_eq!(unit.tasks(), before, "{:02x?}", command.cdb);
    outcome.verdict
}

/// A command without a parameter list.
pub(super) fn run(unit: &mut Unit, nexus: Nexus, cdb: &[u8]) -> Verdict {
    run_command(unit, &command(nexus, cdb), None, &mut Vec::new())
}

/// A command that is answered at once, with its data.
pub(super) fn answer(unit: &mut Unit, nexus: Nexus, cdb: &[u8]) -> (Response, Vec<u8>) {
    let mut out = Vec::new();
    match run_command(unit, &command(nexus, cdb), None, &mut out) {
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
    match run(unit, NEXUS, cdb) {
        Verdict::Medium(plan) => plan,
        other => panic!("{cdb:02x?}: {other:?}"),
    }
}

pub(super) fn operations(unit: &mut Unit, cdb: &[u8]) -> Vec<Operation> {
    plan(unit, cdb).collect()
}

/// A command with a parameter list: what it says to the list.
pub(super) fn with_list(unit: &mut Unit, nexus: Nexus, cdb: &[u8], list: &[u8]) -> Verdict {
    let mut out = Vec::new();
    let command = Command { data_out: list.len() as u64, ..command(nexus, cdb) };
    let verdict = run_command(unit, &command, Some(list), &mut out);
    assert!(out.is_empty());
    verdict
}

pub(super) fn refused(verdict: Verdict) -> (u8, u8, u8) {
    match verdict {
        Verdict::Respond(response) => codes(&response),
        other => panic!("{other:?}"),
    }
}

/// The response of a task whose one operation ended so.
pub(super) fn ended(unit: &mut Unit, cdb: &[u8], status: Status) -> Response {
    let outcome = unit.execute(&command(NEXUS, cdb), None, &mut Vec::new());
    assert!(matches!(outcome.verdict, Verdict::Medium(_)), "{cdb:02x?}: {outcome:?}");
    match unit.finish(outcome.task, status) {
        Ending::Respond(response) => response,
        Ending::Aborted { .. } => panic!("nobody aborted it"),
    }
}
