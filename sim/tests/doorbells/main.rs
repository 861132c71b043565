//! Doorbells without a wake-up that is lost: every interleaving of a driver, a lane that falls asleep,
//! and the death of a worker at any step (docs/decisions/0008).
//!
//! The machine is x86's as programs see it: each processor has a queue of stores on their way to memory
//! (total store order), so that a load may be done before an older store is seen. What is proven: from
//! every state that can be reached there is a way to the end, where all that was posted is taken and all
//! that was told of is seen. Each proof is repeated with a step of the protocol left out, and must fail.

mod explore;
mod masks;
mod rings;

use explore::lost;
use masks::Masks;
use rings::{Driver, Rings, Wake};

/// Doorbells that are rung when the lane sleeps: the larger layout of VMXNET3, PVSCSI with a threshold.
const RUNG: Rings = Rings {
    driver: Driver::Linux,
    wake: Wake::Rung { fence: true, look: true, second_look: true },
    deaths: 1,
};

/// Doorbells that are stores to memory.
const WATCHED: Rings = Rings { driver: Driver::Silent, wake: Wake::Watched { looks: None }, deaths: 1 };

const MASKS: Masks = Masks { watch: true, masked_before_told: true, opened_after_death: true, deaths: 2 };

#[test]
fn a_lane_that_sleeps_is_rung_awake() {
    assert_eq!(lost(&RUNG), None);
    // A driver with a fence, as virtio's have, needs no second look.
    let fenced = Rings {
        driver: Driver::Fenced,
        wake: Wake::Rung { fence: true, look: true, second_look: false },
        ..RUNG
    };
    assert_eq!(lost(&fenced), None);
}

#[test]
fn without_a_look_behind_the_threshold_a_doorbell_is_lost() {
    for driver in [Driver::Linux, Driver::Fenced] {
        let wake = Wake::Rung { fence: true, look: false, second_look: false };
        assert!(lost(&Rings { driver, wake, ..RUNG }).is_some());
        let wake = Wake::Rung { fence: false, look: true, second_look: false };
        assert!(lost(&Rings { driver, wake, ..RUNG }).is_some());
    }
}

#[test]
fn without_a_second_look_a_driver_that_has_no_fence_loses_a_doorbell() {
    let wake = Wake::Rung { fence: true, look: true, second_look: false };
    assert!(lost(&Rings { wake, ..RUNG }).is_some());
}

#[test]
fn a_silent_driver_is_found_by_the_watch_that_never_ends() {
    assert_eq!(lost(&WATCHED), None);
    for looks in 0..3 {
        assert!(lost(&Rings { wake: Wake::Watched { looks: Some(looks) }, ..WATCHED }).is_some());
    }
}

#[test]
fn a_driver_that_opens_its_vector_in_memory_is_told() {
    assert_eq!(lost(&MASKS), None);
}

#[test]
fn each_step_of_the_masks_is_needed() {
    assert!(lost(&Masks { watch: false, ..MASKS }).is_some());
    assert!(lost(&Masks { masked_before_told: false, ..MASKS }).is_some());
    assert!(lost(&Masks { opened_after_death: false, ..MASKS }).is_some());
    assert_eq!(lost(&Masks { opened_after_death: false, deaths: 0, ..MASKS }), None);
}
