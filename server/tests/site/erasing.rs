//! A restart and a move while a SANITIZE is under way, whose command waits for its end.

use std::time::{Duration, Instant};

use bench::driver::iscsi::{Command, Data, Initiator, Options, Tag};
use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE, disk_slot};
use crate::iscsi::{IQN, login, options, portal, ready};

/// A volume behind a portal, and a VM in the same lane.
fn first(portal: &str) -> String {
    disk_slot("web1", "virtio-blk", "root")
        + &format!(
            "[disk.long]\nstore = \"local\"\nsize = \"1GiB\"\nshared = true\n[portal.a]\nlisten = \"{portal}\"\n\
             [target.t]\niqn = \"{IQN}\"\nportals = [\"a\"]\nopen = true\nluns = {{ 0 = \"long\" }}\n"
        )
}

/// Another one, which comes to the other lane as long as the two have nothing in common. `also`: more
/// of its LUNs.
fn second(portal: &str, also: &str) -> String {
    format!(
        "[disk.other]\nstore = \"local\"\nsize = \"16MiB\"\nshared = true\n[portal.b]\nlisten = \"{portal}\"\n\
         [target.u]\niqn = \"{IQN}.u\"\nportals = [\"b\"]\nopen = true\nluns = {{ 0 = \"other\"{also} }}\n"
    )
}

/// OVERWRITE, IMMED zero, 31 passes: longer than any test.
fn sanitize(session: &mut Initiator) -> Tag {
    let list = [31, 0, 0, 1, 0xa5];
    let cdb = [0x48, 0x01, 0, 0, 0, 0, 0, 0, list.len() as u8, 0];
    session.start(Command::new(0, &cdb, Data::Out(list.to_vec()))).unwrap()
}

/// REQUEST SENSE: SANITIZE IN PROGRESS, and its progress.
fn progress(session: &mut Initiator) -> u16 {
    let answer = session.command(0, &[0x03, 0, 0, 0, 18, 0], Data::In(18)).unwrap();
    assert!(answer.is_good(), "{answer:?}");
    let sense = answer.data;
    assert_eq!((sense[2], sense[12], sense[13], sense[15]), (0x02, 0x04, 0x1b, 0x80), "{sense:02x?}");
    u16::from_be_bytes([sense[16], sense[17]])
}

#[test]
fn a_restart_does_not_wait_for_the_end_of_a_sanitize() {
    let portal = portal();
    let daemon = Daemon::start(&first(&portal));
    let mut session = login(&options(&portal));
    let sanitize = sanitize(&mut session);
    daemon.eventually("it goes on", || (progress(&mut session) > 0).then_some(()));
    let mut shortest = Duration::MAX;
    for _ in 0..4 {
        let begun = Instant::now();
        daemon.replace_worker(Signal::HUP);
        shortest = shortest.min(begun.elapsed());
        progress(&mut session);
    }
    // A lane waits a second for a disk that hangs.
    assert!(shortest < Duration::from_secs(1), "{shortest:?}");
    let before = progress(&mut session);
    daemon.eventually("it goes on behind that", || (progress(&mut session) > before).then_some(()));
    assert!(session.wait_for(sanitize, Duration::ZERO).unwrap().is_none(), "it was answered before its end");
}

#[test]
fn a_move_to_another_lane_takes_a_waiting_sanitize_along() {
    let (one, two) = (portal(), portal());
    let daemon = Daemon::start(&first(&one));
    let said = daemon.apply(&(first(&one) + &second(&two, "")));
    assert!(said.status.success(), "{}", said.err);
    let mut session = login(&options(&one));
    let mut other =
        Initiator::login(&Options { timeout: PATIENCE, ..Options::new(&two, &format!("{IQN}.u")) }).unwrap();
    ready(&mut other, 0);
    let sanitize = sanitize(&mut session);
    daemon.eventually("it goes on", || (progress(&mut session) > 0).then_some(()));
    // The other target has both volumes from now on, so all is in one lane.
    let said = daemon.apply(&(first(&one) + &second(&two, ", 1 = \"long\"")));
    assert!(said.status.success(), "{}", said.err);
    let before = progress(&mut session);
    daemon.eventually("it goes on in the other lane", || (progress(&mut session) > before).then_some(()));
    assert!(session.wait_for(sanitize, Duration::ZERO).unwrap().is_none(), "it was answered before its end");
    let answer = other.command(1, &[0; 6], Data::None).unwrap();
    assert_eq!(answer.status, 0x02, "{answer:?}");
    let answer = other.command(1, &[0; 6], Data::None).unwrap();
    let sense = answer.decoded_sense();
    assert!(matches!((sense.key, sense.asc), (0x06, _) | (0x02, 0x04)), "{answer:?}");
}
