//! The control queue, with commands typed from virtio 1.2, 5.1.6.5.

mod driver;

use driver::{Guest, Ring, readable, writable};
use proptest::prelude::*;
use request::{FrameFacts, Mac, Rewrite};
use standpipe_virtio_net::*;
use virtqueue::{Chain, Pop, Queue};

const OWN: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const OTHER: Mac = Mac([0x52, 0x54, 0, 0, 0, 9]);

struct Control {
    guest: Guest,
    ring: Ring,
    queue: Queue,
    nic: Nic,
}

impl Control {
    fn new(mac_changeable: bool) -> Control {
        let mut guest = Guest::new(4 << 20);
        let ring = Ring::new(&mut guest, 64, false);
        let queue = ring.queue(&guest.memory, false);
        let mut nic = Nic::new(Config {
            mac: OWN,
            mac_changeable,
            mtu: None,
            pairs_max: 4,
            link: Link::Up,
            speed: u32::MAX,
        });
        nic.negotiate(OFFERED);
        Control { guest, ring, queue, nic }
    }

    /// The answer's byte, and what was changed.
    fn command(&mut self, bytes: &[u8]) -> (u8, Effect) {
        let at = self.guest.allocate(bytes.len() as u64 + 1);
        self.guest.write(at, bytes);
        let answer = self.guest.allocate(1);
        self.guest.write(answer, &[0xee]);
        // As Linux does it: class and command, payload, answer.
        let cut = bytes.len().min(2) as u32;
        let buffers =
            [readable(at, cut), readable(at + u64::from(cut), bytes.len() as u32 - cut), writable(answer, 1)];
        self.ring.post(&buffers).unwrap();
        let mut chain = Chain::new();
        assert_eq!(self.queue.pop(&self.guest.memory, &mut chain), Pop::Chain);
        let (written, effect) = self.nic.control(&self.guest.memory, &mut chain);
        self.queue.push(&self.guest.memory, chain.head, written);
        self.queue.publish(&self.guest.memory);
        assert_eq!(self.ring.take_used(), Some((chain.head, 1)));
        (self.guest.read(answer, 1)[0], effect)
    }
}

#[test]
fn every_command_does_its_part() {
    let mut control = Control::new(true);
    let filter = (0, Effect::Filter);
    assert!(control.nic.state().promiscuous);
    assert_eq!(control.command(&[0, 0, 0]), filter);
    assert!(!control.nic.state().promiscuous);
    for command in 1..=5 {
        assert_eq!(control.command(&[0, command, 1]), filter);
    }
    let state = control.nic.state();
    let set =
        [state.all_multicast, state.all_unicast, state.no_multicast, state.no_unicast, state.no_broadcast];
    assert_eq!(set, [true; 5]);
    assert_eq!(control.command(&[2, 0, 9, 0]), filter);
    assert_eq!(control.command(&[2, 0, 0xff, 0x0f]), filter);
    assert_eq!((control.nic.state().vlans[1], control.nic.state().vlans[511]), (2, 0x80));
    assert_eq!(control.command(&[2, 1, 9, 0]), filter);
    assert_eq!(control.nic.state().vlans[1], 0);
    assert_eq!(control.command(&[1, 1, 0x52, 0x54, 0, 0, 0, 9]), (0, Effect::Mac(OTHER)));
    assert_eq!(control.nic.config_space()[..6], OTHER.0);
    assert_eq!(control.command(&[4, 0, 3, 0]), (0, Effect::Pairs(3)));
    assert_eq!(control.nic.pairs(), 3);
    let tables = [&[1, 0, 1, 0, 0, 0], &OTHER.0[..], &[1, 0, 0, 0], &[0x33, 0x33, 0, 0, 0, 1]].concat();
    assert_eq!(control.command(&tables), filter);
    assert_eq!(control.nic.state().unicast.list(), [OTHER]);
    assert_eq!(control.nic.state().multicast.list(), [Mac([0x33, 0x33, 0, 0, 0, 1])]);
    assert_eq!((control.nic.counters().commands, control.nic.counters().commands_refused), (12, 0));
    // A successor knows all of it.
    let state = v1::State::decode(&control.nic.state().encode()).unwrap();
    let mut successor = Control::new(true).nic;
    successor.resume(OFFERED, state);
    assert_eq!(successor.state(), control.nic.state());
    // VHOST_F_LOG_ALL comes and goes under a running driver.
    control.nic.negotiate(OFFERED | 1 << 26);
    assert_eq!(successor.state(), control.nic.state());
    control.nic.reset();
    assert_eq!(control.nic.config_space()[..6], OWN.0);
    assert_eq!(control.nic.pairs(), 1);
}

#[test]
fn long_tables_mean_everybody() {
    let mut control = Control::new(true);
    control.command(&[0, 0, 0]);
    let mut tables = vec![1, 0, 200, 0, 0, 0];
    (0..200u8).for_each(|n| tables.extend([0x52, 0x54, 0, 0, 1, n]));
    tables.extend([1, 0, 0, 0, 0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(control.command(&tables), (0, Effect::Filter));
    let state = control.nic.state();
    assert!(state.unicast.overflow && state.unicast.holds(OWN) && !state.multicast.overflow);
    assert_eq!(state.multicast.list().len(), 1);
}

#[test]
fn commands_that_are_not_whole_change_nothing() {
    let mut control = Control::new(true);
    let before = control.nic.state().clone();
    for command in [
        &[][..],
        &[0],
        &[0, 0],
        &[0, 0, 1, 1],
        &[0, 6, 1],
        &[1, 0],
        &[1, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6],
        &[1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
        &[1, 1, 1, 2, 3],
        &[1, 1, 0x53, 0, 0, 0, 0, 1],
        &[1, 1, 0, 0, 0, 0, 0, 0],
        &[2, 0, 9],
        &[2, 0, 0, 0x10],
        &[2, 2, 0, 0],
        &[3, 0],
        &[4, 0, 0, 0],
        &[4, 0, 5, 0],
        &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
    ] {
        assert_eq!(control.command(command), (1, Effect::None), "{command:?}");
        assert_eq!(control.nic.state(), &before, "{command:?}");
    }
    assert_eq!(control.nic.counters().commands_refused, 20);
    let mut fixed = Control::new(false);
    assert_eq!(fixed.command(&[1, 1, 0x52, 0x54, 0, 0, 0, 9]), (1, Effect::None));
    assert_eq!(fixed.command(&[1, 1, 0x52, 0x54, 0, 0, 0, 1]), (0, Effect::Mac(OWN)));
}

#[test]
fn an_announcement_is_asked_for_and_acknowledged() {
    let mut control = Control::new(true);
    assert_eq!(control.nic.config_space(), [0x52, 0x54, 0, 0, 0, 1, 1, 0, 4, 0, 0, 0, 255, 255, 255, 255, 1]);
    control.nic.announce();
    assert_eq!(control.nic.config_space()[6], 3);
    assert_eq!(control.command(&[3, 0]), (0, Effect::Announced));
    assert_eq!(control.nic.config_space()[6], 1);
    control.nic.negotiate(OFFERED & !(1 << bit::GUEST_ANNOUNCE));
    control.nic.announce();
    assert_eq!(control.nic.config_space()[6], 1);
    let down = Config { link: Link::Down, ..*control.nic.config() };
    assert!(control.nic.change(down));
    assert!(!control.nic.change(down));
    assert_eq!(control.nic.config_space()[6], 0);
}

#[test]
fn filters_hold_on_delivery() {
    let mut control = Control::new(true);
    let ring = Ring::new(&mut control.guest, 16, false);
    let mut queue = ring.queue(&control.guest.memory, false);
    control.command(&[0, 0, 0]);
    control.command(&[2, 0, 9, 0]);
    let mut header = [0; 64];
    header[..6].copy_from_slice(&OTHER.0);
    let mut deliver = |header: &[u8], rewrite| {
        let frame = Frame { header, body: Body::Bytes(&[]), facts: FrameFacts::default() };
        control.nic.deliver(&mut queue, &control.guest.memory, &frame, rewrite).unwrap_err()
    };
    assert_eq!(deliver(&header, Rewrite::Keep), Refused::Filtered);
    header[..6].copy_from_slice(&OWN.0);
    assert_eq!(deliver(&header, Rewrite::Keep), Refused::NoBuffer);
    // The tag that the driver would see counts.
    assert_eq!(deliver(&header, Rewrite::Insert(9)), Refused::NoBuffer);
    assert_eq!(deliver(&header, Rewrite::Insert(8)), Refused::Filtered);
    assert_eq!(control.nic.control_queue(), Some(8));
}

#[test]
fn a_client_that_keeps_the_control_queue_has_none_here() {
    // QEMU acknowledges MQ without CTRL_VQ; its ring 2 is then a receive queue.
    let config =
        Config { mac: OWN, mac_changeable: true, mtu: None, pairs_max: 2, link: Link::Up, speed: u32::MAX };
    let mut nic = Nic::new(config);
    nic.negotiate(1 << 32 | 1 << 22);
    assert_eq!(nic.control_queue(), None);
    nic.negotiate(1 << 32 | 1 << 22 | 1 << 17);
    assert_eq!(nic.control_queue(), Some(4));
}

proptest! {
    #[test]
    fn any_command_has_an_answer(command in prop::collection::vec(prop_oneof![3 => 0u8..6, 1 => any::<u8>()], 0..80)) {
        let mut control = Control::new(true);
        let (answer, _) = control.command(&command);
        prop_assert!(answer <= 1);
        let kept = v1::State::decode(&control.nic.state().encode());
        prop_assert_eq!(kept.as_ref(), Some(control.nic.state()));
    }
}
