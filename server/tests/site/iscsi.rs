//! The iSCSI target of the real binary, with an initiator of our own (`bench::driver::iscsi`), which
//! takes every break of the protocol's rules for an error.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bench::driver::error::Error;
use bench::driver::iscsi::pdu::{self, IMMEDIATE, request, response};
use bench::driver::iscsi::{
    Answer, Command, Credentials, Data, Initiator, Message, Options, Pdu, Tag, Wire, text,
};
use bench::load::random::Random;
use rustix::process::Signal;

use crate::daemon::{Daemon, MIB, PATIENCE};

pub const IQN: &str = "iqn.2026-11.org.example:t";
const ME: &str = "iqn.2026-11.org.standpipe:load";

/// An address of this host that no other test has: all of 127.0.0.0/8 is ours.
pub fn portal() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let process = std::process::id();
    let [high, low] = (process as u16).to_be_bytes();
    format!("127.{}.{}.{}:3260", 1 + NEXT.fetch_add(1, Ordering::Relaxed) % 250, high, low)
}

/// A shared volume of 16 MiB, a portal, and a target with the volume as LUN 0; `rest` goes on with the
/// target's table.
pub fn shared(portal: &str, rest: &str) -> String {
    format!(
        "[disk.root]\nstore = \"local\"\nsize = \"16MiB\"\nshared = true\n[portal.a]\nlisten = \"{portal}\"\n[target.t]\niqn = \"{IQN}\"\nportals = [\"a\"]\nluns = {{ 0 = \"root\" }}\n{rest}"
    )
}

pub fn options(portal: &str) -> Options {
    Options { timeout: PATIENCE, ..Options::new(portal, IQN) }
}

pub fn isid(number: u8) -> [u8; 6] {
    [0x80, 0, 0, 1, 0, number]
}

/// Logs in, and takes the attentions that a new nexus finds.
pub fn login(options: &Options) -> Initiator {
    let mut session = Initiator::login(options).unwrap();
    ready(&mut session, 0);
    session
}

pub fn ready(session: &mut Initiator, lun: u16) {
    for _ in 0..8 {
        let answer = session.command(lun, &[0; 6], Data::None).unwrap();
        if answer.is_good() {
            return;
        }
        assert_eq!((answer.status, answer.decoded_sense().key), (0x02, 0x06), "{answer:?}");
    }
    panic!("one attention after the other");
}

pub fn cdb10(code: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let ([a, b, c, d], [e, f]) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [code, 0, a, b, c, d, 0, e, f, 0]
}

fn write(session: &mut Initiator, lba: u32, bytes: &[u8]) -> Answer {
    let cdb = cdb10(0x2a, lba, (bytes.len() / 512) as u16);
    session.command(0, &cdb, Data::Out(bytes.to_vec())).unwrap()
}

fn read(session: &mut Initiator, lba: u32, len: usize) -> Vec<u8> {
    let answer = session.command(0, &cdb10(0x28, lba, (len / 512) as u16), Data::In(len)).unwrap();
    assert!(answer.is_good(), "{answer:?}");
    answer.data
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.below(256) as u8).collect()
}

/// Writes and reads again, in sizes around all limits of bursts and segments.
pub fn works(session: &mut Initiator, seed: u64) {
    for (at, len) in [512, 4096, 65536, 66048, 262_144, 1 << 20].into_iter().enumerate() {
        let bytes = noise(seed + at as u64, len);
        let lba = 64 * at as u32;
        assert!(write(session, lba, &bytes).is_good());
        assert!(read(session, lba, len) == bytes, "{len} bytes came back otherwise");
    }
}

fn refusal(options: &Options) -> (u8, u8) {
    match Initiator::login(options) {
        Err(Error::Refused { class, detail }) => (class, detail),
        Err(other) => panic!("not refused, but {other}"),
        Ok(_) => panic!("let in"),
    }
}

#[test]
fn reads_writes_and_every_way_of_data() {
    let portal = portal();
    let daemon = Daemon::start(&shared(&portal, "open = true\n"));
    let digests = Options {
        header_digest: "CRC32C".into(),
        data_digest: "CRC32C".into(),
        isid: isid(1),
        ..options(&portal)
    };
    let solicited = Options {
        initial_r2t: true,
        immediate_data: false,
        max_burst_length: 8192,
        first_burst_length: 4096,
        max_recv_data_segment_length: 4096,
        max_outstanding_r2t: 3,
        isid: isid(2),
        ..options(&portal)
    };
    for (seed, options) in [options(&portal), digests, solicited].iter().enumerate() {
        let mut session = login(options);
        works(&mut session, 100 * seed as u64);
        assert_eq!(session.ping(b"are you there").unwrap(), b"are you there");
        session.logout().unwrap();
    }
    let file = std::fs::metadata(daemon.volume("root")).unwrap();
    assert_eq!(file.len(), 16 * MIB);
    daemon.eventually("all sessions are gone", || {
        let status = daemon.status();
        let target = &status["targets"]["t"];
        (target["sessions"].as_array()?.is_empty() && target["counters"]["sessions_ended"] == 3).then_some(())
    });
}

#[test]
fn discovery_names_what_an_initiator_may_use() {
    let portal = portal();
    let other = "[target.u]\niqn = \"iqn.2026-11.org.example:u\"\nportals = [\"a\"]\n[[target.u.allow]]\ninitiator = \"iqn.2026-11.org.example:somebody\"\n";
    let _daemon = Daemon::start(&shared(&portal, &format!("open = true\n{other}")));
    let found = Initiator::discover(&Options::discovery(&portal)).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].name, IQN);
    assert_eq!(found[0].portals.len(), 1);
    assert_eq!(found[0].portals[0].0, portal);
    let somebody =
        Options { initiator_name: "iqn.2026-11.org.example:somebody".into(), ..Options::discovery(&portal) };
    assert_eq!(Initiator::discover(&somebody).unwrap().len(), 2);
    // RFC 7143 11.13.5: 0203h not found; 0202h not allowed.
    let stranger = Options { target_name: Some("iqn.2026-11.org.example:none".into()), ..options(&portal) };
    assert_eq!(refusal(&stranger), (2, 3));
    let barred = Options { target_name: Some("iqn.2026-11.org.example:u".into()), ..options(&portal) };
    assert_eq!(refusal(&barred), (2, 2));
}

fn secret(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn chap_both_ways_and_masks() {
    let portal = portal();
    let folder = tempfile::TempDir::new().unwrap();
    secret(folder.path(), "ours", "initiators-secret");
    secret(folder.path(), "theirs", "the-targets-secret\n");
    let site = format!(
        "[disk.root]\nstore = \"local\"\nsize = \"16MiB\"\nshared = true\n[disk.more]\nstore = \"local\"\nsize = \"16MiB\"\nshared = true\n[portal.a]\nlisten = \"{portal}\"\n[target.t]\niqn = \"{IQN}\"\nportals = [\"a\"]\nluns = {{ 0 = \"root\", 5 = \"more\" }}\n[[target.t.allow]]\ninitiator = \"{ME}\"\nluns = [5]\nchap = {{ user = \"u\", secret_file = \"{{dir}}/ours\" }}\nmutual = {{ user = \"t\", secret_file = \"{{dir}}/theirs\" }}\n"
    );
    let daemon = Daemon::start_in(folder, &site);
    let user = |secret: &str| Some(Credentials { user: "u".into(), secret: secret.into() });
    let target = |secret: &str| Some(Credentials { user: "t".into(), secret: secret.into() });
    // 0201h: authentication failure.
    assert_eq!(refusal(&options(&portal)), (2, 1));
    let wrong = Options { chap: user("initiators-guess"), ..options(&portal) };
    assert_eq!(refusal(&wrong), (2, 1));
    let good = Options { chap: user("initiators-secret"), ..options(&portal) };
    let mutual = Options { mutual: target("the-targets-secret"), ..good.clone() };
    let deceived = Options { mutual: target("another-target"), ..good.clone() };
    assert!(Initiator::login(&deceived).is_err(), "our initiator takes a wrong proof");
    for options in [good, mutual] {
        let mut session = Initiator::login(&options).unwrap();
        ready(&mut session, 5);
        // REPORT LUNS: what the mask leaves.
        let answer = session.command(5, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], Data::In(64)).unwrap();
        assert!(answer.is_good());
        assert_eq!(answer.data[..16], [0, 0, 0, 8, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]);
        // LOGICAL UNIT NOT SUPPORTED.
        let answer = session.command(0, &[0; 6], Data::None).unwrap();
        assert_eq!((answer.decoded_sense().key, answer.decoded_sense().asc), (0x05, 0x25), "{answer:?}");
        session.logout().unwrap();
    }
    let said = daemon.ok(&["status", "--json"]) + &daemon.log();
    for word in ["initiators-secret", "the-targets-secret"] {
        assert!(!said.contains(word), "{word} is told");
    }
}

/// Blocks of 4 KiB, each with its last contents, and commands on some of them at any time.
struct Model {
    versions: Vec<u64>,
}

impl Model {
    const BLOCK: usize = 8192;
    const BLOCKS: usize = 256;

    fn contents(block: usize, version: u64) -> Vec<u8> {
        if version == 0 { vec![0; Self::BLOCK] } else { noise(version << 16 | block as u64, Self::BLOCK) }
    }
}

/// Keeps 16 commands in flight until told to stop, and compares all that is read.
fn verify(session: &mut Initiator, over: &AtomicBool, seed: u64) -> u64 {
    let mut model = Model { versions: vec![0; Model::BLOCKS] };
    let mut random = Random::new(seed);
    let mut flying: Vec<(Tag, usize, Option<u64>)> = Vec::new();
    let mut ended = 0;
    loop {
        while flying.len() < 16 && !over.load(Ordering::Relaxed) {
            let block = random.below(Model::BLOCKS as u64) as usize;
            if flying.iter().any(|(_, other, _)| *other == block) {
                continue;
            }
            let lba = (block * Model::BLOCK / 512) as u32;
            let blocks = (Model::BLOCK / 512) as u16;
            let version = (random.below(2) == 0).then(|| model.versions[block] + 1);
            let command = match version {
                Some(version) => {
                    Command::new(0, &cdb10(0x2a, lba, blocks), Data::Out(Model::contents(block, version)))
                }
                None => Command::new(0, &cdb10(0x28, lba, blocks), Data::In(Model::BLOCK)),
            };
            flying.push((session.start(command).unwrap(), block, version));
        }
        if flying.is_empty() {
            return ended;
        }
        let (tag, block, version) = flying.swap_remove(random.below(flying.len() as u64) as usize);
        let answer = session.wait(tag).unwrap();
        assert!(answer.is_good(), "{answer:?}");
        match version {
            Some(version) => model.versions[block] = version,
            None => {
                let expected = Model::contents(block, model.versions[block]);
                assert!(answer.data == expected, "block {block} is not at version {}", model.versions[block]);
            }
        }
        ended += 1;
    }
}

fn survives(kills: u64, seed: u64, change: impl FnOnce(&mut Options)) {
    let portal = portal();
    let daemon = Daemon::start(&shared(&portal, "open = true\n"));
    let mut options = options(&portal);
    change(&mut options);
    let mut session = login(&options);
    let over = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let end = End(&over);
        let (session, over) = (&mut session, &over);
        let io = scope.spawn(move || verify(session, over, seed));
        let mut random = Random::new(seed);
        let mut killed = 0;
        while killed < kills && !io.is_finished() {
            std::thread::sleep(Duration::from_micros(random.below(120_000)));
            killed += u64::from(daemon.signal_worker(Signal::KILL));
        }
        drop(end);
        io.join().unwrap()
    });
    assert!(ended > kills, "only {ended} commands ended");
    // The same session, and nothing that it was to hear of.
    let answer = session.command(0, &[0; 6], Data::None).unwrap();
    assert!(answer.is_good(), "{answer:?}");
    assert_eq!(session.messages(), []);
    let status = daemon.status();
    let sessions = status["targets"]["t"]["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 1, "{status:#}");
    assert_eq!(sessions[0]["initiator"], ME);
    session.logout().unwrap();
}

#[test]
fn a_session_survives_fifty_deaths_of_the_worker() {
    survives(50, 21, |_| {});
}

#[test]
fn a_session_with_digests_and_small_bursts_survives() {
    survives(25, 22, |options| {
        options.header_digest = "CRC32C".into();
        options.data_digest = "CRC32C".into();
        options.initial_r2t = true;
        options.immediate_data = false;
        options.max_burst_length = 4096;
        options.first_burst_length = 4096;
        options.max_recv_data_segment_length = 2048;
        options.max_outstanding_r2t = 2;
    });
}

#[test]
fn a_login_goes_on_after_a_death_between_its_messages() {
    let portal = portal();
    let daemon = Daemon::start(&shared(&portal, "open = true\n"));
    let mut wire = Wire::connect(&portal, PATIENCE).unwrap();
    let login = |flags: u8, pairs: &[(&str, &str)]| {
        let mut pdu = Pdu::new(request::LOGIN | IMMEDIATE).with_flags(flags).with_data(&text::encode(pairs));
        pdu.set(8, &isid(9));
        pdu.set_word(16, 1);
        pdu
    };
    // Security negotiation, stays there: CSG 0, no transit.
    wire.send(&login(
        0x00,
        &[("InitiatorName", ME), ("TargetName", IQN), ("SessionType", "Normal"), ("AuthMethod", "None")],
    ))
    .unwrap();
    let answer = wire.receive().unwrap();
    assert_eq!((answer.opcode(), answer.half(36)), (response::LOGIN, 0));
    daemon.replace_worker(Signal::KILL);
    wire.send(&login(0x81, &[])).unwrap();
    let answer = wire.receive().unwrap();
    assert_eq!((answer.opcode(), answer.half(36), answer.flags()), (response::LOGIN, 0, 0x81));
    daemon.replace_worker(Signal::KILL);
    wire.send(&login(0x87, &[("HeaderDigest", "None")])).unwrap();
    let answer = wire.receive().unwrap();
    assert_eq!((answer.opcode(), answer.half(36), answer.flags() & 0x83), (response::LOGIN, 0, 0x83));
    daemon.replace_worker(Signal::KILL);
    let mut ping = Pdu::new(request::NOP_OUT | IMMEDIATE).with_flags(0x80).with_data(b"still there?");
    ping.set_word(16, 2);
    ping.set_word(20, pdu::NO_TAG);
    wire.send(&ping).unwrap();
    let answer = wire.receive().unwrap();
    assert_eq!((answer.opcode(), &answer.data[..]), (response::NOP_IN, &b"still there?"[..]));
}

#[test]
fn hostile_connections_cost_nobody_else_anything() {
    let portal = portal();
    let daemon = Daemon::start(&shared(&portal, "open = true\n"));
    let worker = daemon.worker();
    let mut good = login(&options(&portal));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (good, stop) = (&mut good, &over);
        let io = scope.spawn(move || verify(good, stop, 31));
        for seed in 0..60u64 {
            let mut random = Random::new(seed + 1);
            let bytes = noise(seed, 48 + random.below(4096) as usize);
            match seed % 3 {
                // Bytes that are no login.
                0 => {
                    let mut wire = Wire::connect(&portal, PATIENCE).unwrap();
                    let _ = wire.send_bytes(&bytes);
                    let _ = wire.finish_sending();
                    assert!(wire.is_closed_within(PATIENCE), "seed {seed}");
                }
                // A session that goes mad.
                1 => {
                    let mut mad = Initiator::login(&Options { isid: isid(50), ..options(&portal) }).unwrap();
                    let _ = mad.wire().send_bytes(&bytes);
                    let _ = mad.wire().finish_sending();
                    assert!(mad.wire().is_closed_within(PATIENCE), "seed {seed}");
                }
                // Headers of all kinds with small lies.
                _ => {
                    let mut mad = Initiator::login(&Options { isid: isid(51), ..options(&portal) }).unwrap();
                    for at in 0..20 {
                        let code = [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x10, 0x1f][random.below(8) as usize];
                        let mut lie = Pdu::new(code).with_flags(0x80 | random.below(128) as u8);
                        lie.set(8, &bytes[..40]);
                        lie.set_word(24, at);
                        let _ = mad.wire().send(&lie);
                    }
                    let _ = mad.wire().finish_sending();
                    assert!(mad.wire().is_closed_within(PATIENCE), "seed {seed}");
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(io.join().unwrap() > 0);
    });
    assert_eq!(daemon.worker(), worker, "the worker died");
    works(&mut good, 7);
}

#[test]
fn many_silent_connections_do_not_keep_a_login_out() {
    let portal = portal();
    let daemon = Daemon::start(&shared(&portal, "open = true\n"));
    let idle: Vec<Wire> = (0..300).map(|_| Wire::connect(&portal, PATIENCE).unwrap()).collect();
    let mut session = login(&options(&portal));
    works(&mut session, 3);
    daemon.eventually("the first ones are gone", || {
        let status = daemon.status();
        let portal = &status["portals"]["a"];
        (portal["connections"].as_u64()? <= 130 && portal["counters"]["refused_crowded_out"].as_u64()? >= 150)
            .then_some(())
    });
    drop(idle);
}

#[test]
fn a_login_with_the_same_names_takes_the_sessions_place() {
    let portal = portal();
    let daemon = Daemon::start(&shared(&portal, "open = true\nsessions_max = 2\n"));
    let mut first = login(&options(&portal));
    let mut other = login(&Options { isid: isid(2), ..options(&portal) });
    // 0302h: out of resources.
    assert_eq!(refusal(&Options { isid: isid(3), ..options(&portal) }), (3, 2));
    let tag = first.start(Command::new(0, &cdb10(0x28, 0, 8), Data::In(4096))).unwrap();
    let mut second = Initiator::login(&options(&portal)).unwrap();
    assert!(first.wait(tag).is_ok() || first.wire().is_closed_within(PATIENCE));
    assert!(first.wire().is_closed_within(PATIENCE), "two sessions of one I_T nexus");
    ready(&mut second, 0);
    works(&mut second, 1);
    works(&mut other, 2);
    let status = daemon.status();
    assert_eq!(status["targets"]["t"]["sessions"].as_array().unwrap().len(), 2);
    // Also across a death of the worker.
    daemon.replace_worker(Signal::KILL);
    let mut third = Initiator::login(&options(&portal)).unwrap();
    assert!(second.wire().is_closed_within(PATIENCE));
    ready(&mut third, 0);
    assert_eq!(refusal(&Options { isid: isid(3), ..options(&portal) }), (3, 2));
}

#[test]
fn two_portals_are_two_ports_of_one_unit() {
    let (one, two) = (portal(), portal());
    let site = shared(&one, "open = true\n").replace("portals = [\"a\"]", "portals = [\"a\", \"b\"]")
        + &format!("[portal.b]\nlisten = \"{two}\"\n");
    let daemon = Daemon::start(&site);
    let (mut a, mut b) = (login(&options(&one)), login(&options(&two)));
    let bytes = noise(9, 65536);
    assert!(write(&mut a, 128, &bytes).is_good());
    assert!(read(&mut b, 128, bytes.len()) == bytes);
    // VPD page 83h: a relative target port identifier (association 1, type 4) of each.
    let port = |session: &mut Initiator| {
        let page = session.command(0, &[0x12, 1, 0x83, 4, 0, 0], Data::In(1024)).unwrap().data;
        let mut at = 4;
        while at + 4 <= page.len() {
            if page[at + 1] & 0x3f == 0x14 {
                return u16::from_be_bytes([page[at + 6], page[at + 7]]);
            }
            at += 4 + usize::from(page[at + 3]);
        }
        panic!("no relative port in {page:02x?}");
    };
    let (first, second) = (port(&mut a), port(&mut b));
    assert!(first != 0 && second != 0 && first != second, "{first} {second}");
    // RESERVE by one holds the other off: RESERVATION CONFLICT.
    assert!(a.command(0, &[0x16, 0, 0, 0, 0, 0], Data::None).unwrap().is_good());
    assert_eq!(b.command(0, &[0; 6], Data::None).unwrap().status, 0x18);
    daemon.replace_worker(Signal::KILL);
    assert_eq!(b.command(0, &[0; 6], Data::None).unwrap().status, 0x18);
    // The end of the session is the end of its reservation.
    a.logout().unwrap();
    daemon.eventually("the reservation is gone", || {
        b.command(0, &[0; 6], Data::None).unwrap().is_good().then_some(())
    });
}

#[test]
fn a_restart_is_not_heard_of_and_a_stop_asks_for_a_logout() {
    let portal = portal();
    let mut daemon = Daemon::start(&shared(&portal, "open = true\n"));
    let mut session = login(&options(&portal));
    daemon.replace_worker(Signal::HUP);
    daemon.ok(&["upgrade"]);
    works(&mut session, 5);
    assert_eq!(session.messages(), []);
    let asked = std::thread::spawn(move || {
        let begun = Instant::now();
        // RFC 7143 11.9.1: event 1, the target asks for a logout.
        while begun.elapsed() < PATIENCE {
            if session.listen(Duration::from_millis(20)).is_err() {
                return (false, begun.elapsed());
            }
            if session.messages().iter().any(|message| matches!(message, Message::Async { event: 1, .. })) {
                session.logout().unwrap();
                return (true, begun.elapsed());
            }
        }
        (false, begun.elapsed())
    });
    assert!(daemon.stop().success());
    let (was_asked, after) = asked.join().unwrap();
    assert!(was_asked, "the connection went after {after:?} without a word");
}

#[test]
fn targets_come_change_and_go() {
    let portal = portal();
    let site = shared(&portal, "open = true\n");
    let daemon = Daemon::start(&site);
    let mut session = login(&options(&portal));
    works(&mut session, 1);
    // One more LUN: the session finds it.
    let more = site.replace("{ 0 = \"root\" }", "{ 0 = \"root\", 3 = \"more\" }")
        + "[disk.more]\nstore = \"local\"\nsize = \"16MiB\"\nshared = true\n";
    assert!(daemon.apply(&more).status.success());
    ready(&mut session, 0);
    ready(&mut session, 3);
    assert!(daemon.apply(&site).status.success());
    ready(&mut session, 0);
    let answer = session.command(3, &[0; 6], Data::None).unwrap();
    assert_eq!((answer.decoded_sense().key, answer.decoded_sense().asc), (0x05, 0x25), "{answer:?}");
    // Closed to those without an entry: the session ends.
    let closed = site.replace("open = true", "open = false");
    let said = daemon.apply(&closed);
    assert!(said.status.success(), "{}", said.err);
    assert!(session.wire().is_closed_within(PATIENCE));
    assert_eq!(refusal(&options(&portal)), (2, 2));
    assert!(daemon.apply(&site).status.success());
    let mut session = login(&options(&portal));
    works(&mut session, 2);
    let rest = site.split("[target.t]").next().unwrap();
    assert!(daemon.apply(rest).status.success());
    assert!(session.wire().is_closed_within(PATIENCE));
    assert_eq!(refusal(&options(&portal)), (2, 3));
    let rest = site.split("[portal.a]").next().unwrap();
    assert!(daemon.apply(rest).status.success());
    assert!(Wire::connect(&portal, Duration::from_secs(1)).is_err());
}
