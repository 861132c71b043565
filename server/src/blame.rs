//! Which device brought the worker down.
//!
//! A panic in a lane is our own bug, but a guest found it and may find it again. The panic hook
//! writes into the ledger of the slot that the lane was serving; a slot whose device has ended the
//! worker several times within a minute is put in quarantine: its sockets stay open, so its VM
//! lives, but nobody looks at its rings. A worker that is killed from outside blames nobody.

use std::cell::{Cell, RefCell};

use guest_memory::Window;

/// Deaths within [`FORGIVEN_NANOS`] that lead to quarantine.
pub const DEATHS_MAX: u32 = 3;
/// A device that has behaved for this long starts anew.
pub const FORGIVEN_NANOS: u64 = 60_000_000_000;

thread_local! {
    static SERVING: RefCell<Option<Window>> = const { RefCell::new(None) };
    static IS_LANE: Cell<bool> = const { Cell::new(false) };
}

/// This thread is a lane: a panic here is the end of the worker.
pub fn this_is_a_lane() {
    IS_LANE.set(true);
}

/// The lane turns to this slot.
pub fn serving(certificate: Option<&Window>) {
    SERVING.with_borrow_mut(|serving| serving.clone_from(&certificate.cloned()));
}

/// Makes a panic in a lane the end of the process, with the name of who was served in its ledger. In
/// other threads a panic unwinds to whoever guards against it: a request to the API, the store.
pub fn install_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let _ = SERVING.try_with(|serving| {
            if let Ok(serving) = serving.try_borrow()
                && let Some(certificate) = serving.as_ref()
            {
                charge(certificate);
            }
        });
        default(info);
        if IS_LANE.try_with(Cell::get).unwrap_or(false) {
            std::process::abort();
        }
    }));
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
}
