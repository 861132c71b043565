//! Neither side may sleep while there is something for it.

use crate::driver::{BUFFERS, Buffer, Driver, Kind, Layout};
use guest_memory::Window;
use proptest::prelude::*;
use standpipe_virtqueue::{Chain, Order, Pop, Queue};

#[derive(Clone, Copy, Debug)]
enum Step {
    Post(u8),
    Work(u8),
    Publish,
    DeviceSleeps,
    DriverSleeps,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1u8..4).prop_map(Step::Post),
        (1u8..5).prop_map(Step::Work),
        Just(Step::Publish),
        Just(Step::DeviceSleeps),
        Just(Step::DriverSleeps),
    ];
    prop::collection::vec(step, 1..300)
}

fn run(kind: Kind, steps: &[Step]) {
    let mut driver = Driver::new(kind);
    let inflight = Window::anonymous(Queue::inflight_bytes(kind.size, kind.packed));
    let mut queue = Queue::new(driver.setup(&inflight, false), &driver.memory).unwrap();
    let mut held: Vec<Chain> = Vec::new();
    let mut token = 0;
    let (mut device_sleeps, mut driver_sleeps) = (false, false);
    driver.refuse_interrupts();
    queue.disable_kicks();
    for step in steps {
        match *step {
            Step::Post(count) => {
                let mut posted = false;
                for _ in 0..count {
                    let buffer = Buffer { address: BUFFERS, len: 8, write: true };
                    if driver.has_room(2, Layout::Direct) {
                        driver.post(token, &[buffer, buffer], Layout::Direct);
                        token += 1;
                        posted = true;
                    }
                }
                let kick = driver.must_kick();
                if device_sleeps && posted {
                    assert!(kick, "the device sleeps and the driver need not kick");
                    device_sleeps = false;
                    queue.disable_kicks();
                } else if kick && posted {
                    assert!(kind.event_idx && !kind.packed, "kicks were switched off");
                }
            }
            Step::Work(count) => {
                for _ in 0..count {
                    let mut chain = Chain::new();
                    if !device_sleeps && queue.pop(&driver.memory, &mut chain) == Pop::Chain {
                        held.push(chain);
                    }
                }
                if !held.is_empty() {
                    queue.push(&driver.memory, held.remove(0).head, 8);
                }
            }
            Step::Publish => {
                let before = queue.counters().batches;
                let interrupt = queue.publish(&driver.memory);
                let published = queue.counters().batches != before;
                assert!(published || !interrupt, "an interrupt for nothing");
                if driver_sleeps && published {
                    assert!(interrupt, "the driver sleeps and is not told");
                    assert!(!driver.take_used().is_empty());
                    driver_sleeps = false;
                    driver.refuse_interrupts();
                } else if interrupt {
                    assert!(kind.event_idx && !kind.packed, "interrupts were switched off");
                }
            }
            Step::DeviceSleeps => {
                if !device_sleeps && queue.enable_kicks() {
                    queue.disable_kicks();
                } else {
                    device_sleeps = true;
                }
            }
            Step::DriverSleeps => {
                if driver_sleeps {
                    continue;
                }
                // As drivers do: ask, then look once more.
                driver.take_used();
                driver.ask_for_interrupt();
                driver_sleeps = driver.take_used().is_empty();
                if !driver_sleeps {
                    driver.refuse_interrupts();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nobody_sleeps_over_work(steps in steps(), packed: bool, event_idx: bool) {
        run(Kind { packed, event_idx, order: Order::InOrder, size: 16 }, &steps);
        run(Kind { packed, event_idx, order: Order::Any, size: 8 }, &steps);
    }
}

/// Far enough for every counter to wrap.
#[test]
fn indices_wrap() {
    for packed in [false, true] {
        let turn = [Step::Post(3), Step::DeviceSleeps, Step::DriverSleeps, Step::Work(2), Step::Publish];
        let steps: Vec<Step> = turn.iter().copied().cycle().take(5 * 70_000).collect();
        run(Kind { packed, event_idx: true, order: Order::InOrder, size: 16 }, &steps);
    }
}
