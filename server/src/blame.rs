//! Which device brought the worker down.
//!
//! A panic in a lane is our own bug, but a guest found it and may find it again. The panic hook
//! writes into the ledger of the slot that the lane was serving; a slot whose device has ended the
//! worker several times within a minute is put in quarantine: its sockets stay open, so its VM
//! lives, but nobody looks at its rings. A worker that is killed from outside blames nobody.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use guest_memory::Window;

/// Deaths within [`FORGIVEN_NANOS`] that lead to quarantine.
pub const DEATHS_MAX: u32 = 3;
/// A device that has behaved for this long starts anew.
pub const FORGIVEN_NANOS: u64 = 60_000_000_000;

/// No slot has this number.
const NOBODY: u32 = u32::MAX;

thread_local! {
    static SERVING: RefCell<Option<Window>> = const { RefCell::new(None) };
    /// Of the slots of this lane, by number.
    static CERTIFICATES: RefCell<HashMap<u32, Window>> = RefCell::default();
    static NUMBER: Cell<u32> = const { Cell::new(NOBODY) };
    static IS_LANE: Cell<bool> = const { Cell::new(false) };
}

/// This thread is a lane: a panic here is the end of the worker.
pub fn this_is_a_lane() {
    IS_LANE.set(true);
}

/// The lane turns to somebody who is no slot of it, or to nobody.
pub fn serving(certificate: Option<&Window>) {
    NUMBER.set(NOBODY);
    SERVING.with_borrow_mut(|serving| serving.clone_from(&certificate.cloned()));
}

/// The lane has a slot of this number from now on.
pub fn enroll(number: u32, certificate: Window) {
    CERTIFICATES.with_borrow_mut(|all| all.insert(number, certificate));
}

/// It has no slot of this number any more, and serves nobody.
pub fn strike_off(number: u32) {
    serving(None);
    CERTIFICATES.with_borrow_mut(|all| all.remove(&number));
}

/// The lane turns to a slot of its own: with each frame that goes from one to another, so it costs next
/// to nothing. Gives what takes it back to where it was.
pub fn turn_to(number: u32) -> u32 {
    NUMBER.replace(number)
}

/// Makes a panic in a lane the end of the process, with the name of who was served in its ledger. In
/// other threads a panic unwinds to whoever guards against it: a request to the API, the store.
pub fn install_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        charge_served();
        default(info);
        if IS_LANE.try_with(Cell::get).unwrap_or(false) {
            std::process::abort();
        }
    }));
}

/// Whoever this thread serves has ended the worker.
fn charge_served() {
    let number = NUMBER.try_with(Cell::get).unwrap_or(NOBODY);
    let of_slot = |all: &RefCell<HashMap<u32, Window>>| all.try_borrow().ok()?.get(&number).cloned();
    let of_other = |serving: &RefCell<Option<Window>>| serving.try_borrow().ok()?.clone();
    let served = match number {
        NOBODY => SERVING.try_with(of_other),
        _ => CERTIFICATES.try_with(of_slot),
    };
    if let Ok(Some(certificate)) = served {
        charge(&certificate);
    }
}

/// Notes that this device has brought the worker down, or held it up on purpose.
pub fn charge(certificate: &Window) {
    certificate.store_u32(0, certificate.load_u32(0).saturating_add(1));
    certificate.store_u64(8, host::process::now_nanos());
}

/// How often a device has brought the worker down.
pub fn deaths(certificate: &Window) -> u32 {
    certificate.load_u32(0)
}

/// Whether a slot is to be left alone, and if not, forgets what is long ago.
pub fn is_quarantined(certificate: &Window, now_nanos: u64) -> bool {
    if deaths(certificate) >= DEATHS_MAX {
        return true;
    }
    if deaths(certificate) > 0 && now_nanos.saturating_sub(certificate.load_u64(8)) > FORGIVEN_NANOS {
        certificate.store_u32(0, 0);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    #[test]
    fn three_deaths_are_too_many_and_old_ones_are_forgiven() {
        let (ledger, _fd) = Ledger::create("blamed").unwrap();
        let certificate = ledger.death_certificate();
        certificate.store_u32(0, 2);
        certificate.store_u64(8, 1_000);
        assert!(!is_quarantined(&certificate, 2_000));
        assert_eq!(deaths(&certificate), 2);
        certificate.store_u32(0, 3);
        assert!(is_quarantined(&certificate, 2_000));
        certificate.store_u32(0, 2);
        assert!(!is_quarantined(&certificate, 1_001 + FORGIVEN_NANOS));
        assert_eq!(deaths(&certificate), 0);
    }
    #[test]
    fn whoever_is_served_at_the_moment_is_charged() {
        let ledgers = ["sender", "receiver", "session"].map(|name| Ledger::create(name).unwrap().0);
        let [sender, receiver, session] = ledgers.each_ref().map(Ledger::death_certificate);
        enroll(0, sender.clone());
        enroll(1 << 31, receiver.clone());
        let all = || [&sender, &receiver, &session].map(deaths);
        charge_served();
        turn_to(0);
        let before = turn_to(1 << 31);
        charge_served();
        assert_eq!(all(), [0, 1, 0]);
        turn_to(before);
        charge_served();
        assert_eq!(all(), [1, 1, 0]);
        serving(Some(&session));
        let before = turn_to(0);
        turn_to(before);
        charge_served();
        assert_eq!(all(), [1, 1, 1]);
        turn_to(0);
        strike_off(0);
        charge_served();
        assert_eq!(all(), [1, 1, 1]);
    }
}
