//! INTx of an emulated adapter, masked and unmasked by the hypervisor, beside a worker that dies.

use std::os::fd::AsFd;
use std::time::Duration;

use host::event::Event;
use host::poll;
use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE};
use crate::emulated::Client;
use crate::held_up::{irqs, send};

const SET_IRQS: u16 = 8;
/// Flags of SET_IRQS.
const NO_DATA: u32 = 1 << 0;
const EVENTFD: u32 = 1 << 2;
const MASK: u32 = 1 << 3;
const UNMASK: u32 = 1 << 4;
const TRIGGER: u32 = 1 << 5;
/// 8254x SDM, 13.4.17 to 13.4.21: causes are read and cleared, set, and let through.
const ICS: u64 = 0xc8;
const IMS: u64 = 0xd0;
const LINK_CHANGED: u32 = 1 << 2;

#[test]
fn an_interrupt_that_was_unmasked_stays_so_although_the_worker_dies() {
    let daemon = Daemon::start("[network.lan]\n[vm.web1.nic0]\nmodel = \"e1000\"\nnetwork = \"lan\"\n");
    let mut client = Client::open(&daemon);
    let [interrupt, unmask] = [(), ()].map(|()| Event::new().unwrap());
    for (event, action) in [(&interrupt, TRIGGER), (&unmask, UNMASK)] {
        send(&mut client, SET_IRQS, 0, &irqs(EVENTFD | action), &[event.as_fd()]);
        client.answer();
    }
    let told = |patience| poll::readable(&[interrupt.as_fd()], patience).unwrap() == 1;
    client.put(SET_IRQS, 0, &irqs(NO_DATA | MASK));
    client.put_write(0, IMS, LINK_CHANGED);
    client.put_write(0, ICS, LINK_CHANGED);
    client.answers(1);
    // A mask outlives the worker.
    for _ in 0..2 {
        client.read(0, IMS);
        interrupt.clear();
        assert!(!told(Duration::from_millis(200)), "it is masked");
        daemon.replace_worker(Signal::KILL);
    }
    unmask.signal();
    assert!(told(PATIENCE), "it is not masked any more");
    // The pin is as it was, and a successor does not know whether its guest was told.
    interrupt.clear();
    daemon.replace_worker(Signal::KILL);
    assert!(told(PATIENCE), "it is masked again");
    assert_eq!(daemon.status()["slots"]["web1.nic0"]["connected"], true);
}
