//! Aborts, resets, unplugging, and messages.

use std::vec::Vec;

use guest_memory::Memory;
use pci::{Bars, Lasting, Signals};
use request::Address;

use super::driver::{
    Driver, GOOD, MESSAGES, NOW, Request, STATE, adapter, command, counter, hot, read, successor, take,
    take_resumed, write,
};
use crate::{Adapter, Answer, Hotplug, Management, Place};

fn started() -> (Driver, Adapter) {
    let mut driver = Driver::new(1);
    let mut adapter = adapter(&hot());
    driver.start(&mut adapter);
    (driver, adapter)
}

fn abort(adapter: &mut Adapter, memory: &Memory, context: u64, target: u32) -> u32 {
    command(adapter, memory, 6, &[context as u32, (context >> 32) as u32, target, 0])
}

#[test]
fn an_abort_finds_what_was_posted_before_it() {
    let (driver, mut adapter) = started();
    driver.post(&Request::read(1));
    driver.post(&Request::read(2));
    let memory = &driver.memory;
    assert_eq!(abort(&mut adapter, memory, 2, 0), 0);
    driver.post(&Request::read(3));
    assert!(adapter.has_work() && adapter.settling());
    assert_eq!(adapter.take_task_management(memory), None, "the request itself comes first");
    let commands = take(&mut adapter, memory);
    assert_eq!(commands.len(), 2, "what was posted after the order comes after it");
    assert!(adapter.has_work());
    let order = adapter.take_task_management(memory);
    assert_eq!(order, Some(Management::Abort { id: commands[1].id }));
    assert_eq!(adapter.take_task_management(memory), None);
    assert!(adapter.settling());
    assert!(adapter.complete(memory, commands[1].id, &Answer::Aborted));
    assert!(!adapter.settling());
    adapter.complete(memory, commands[0].id, &GOOD);
    adapter.publish(NOW, memory);
    let ends: Vec<_> = driver.consume_all().iter().map(|end| (end.context, end.host_status)).collect();
    // BTSTAT_ABORTQUEUE.
    assert_eq!(ends, [(2, 0x26), (1, 0)]);
    assert_eq!(take(&mut adapter, memory)[0].context, 3);
}

#[test]
fn an_abort_of_nothing_is_done() {
    let (driver, mut adapter) = started();
    driver.post(&Request::read(1));
    let commands = take(&mut adapter, &driver.memory);
    assert_eq!(abort(&mut adapter, &driver.memory, 9, 0), 0);
    assert_eq!(abort(&mut adapter, &driver.memory, 1, 1), 0, "another target");
    assert_eq!(abort(&mut adapter, &driver.memory, 1, 256), u32::MAX);
    assert_eq!(adapter.take_task_management(&driver.memory), None);
    assert!(!adapter.settling() && !adapter.has_work());
    adapter.complete(&driver.memory, commands[0].id, &GOOD);
    assert_eq!(abort(&mut adapter, &driver.memory, 1, 0), 0, "it has ended");
    assert_eq!(adapter.take_task_management(&driver.memory), None);
}

#[test]
fn resets_end_what_they_mean() {
    let (driver, mut adapter) = started();
    let memory = &driver.memory;
    for (context, target) in [(1, 0), (2, 5), (3, 5), (4, 6)] {
        driver.post(&Request { target, ..Request::read(context) });
    }
    assert_eq!(command(&mut adapter, memory, 5, &[5, 0, 0]), 0);
    assert_eq!(command(&mut adapter, memory, 5, &[64, 0, 0]), u32::MAX);
    assert_eq!(command(&mut adapter, memory, 5, &[5, 0xff, 0]), u32::MAX);
    let commands = take(&mut adapter, memory);
    let place = Place::Unit { target: 5, lun: 0 };
    assert_eq!(adapter.take_task_management(memory), Some(Management::ResetDevice { place }));
    // One of them was just about to end by itself.
    adapter.complete(memory, commands[1].id, &GOOD);
    assert!(adapter.settling());
    adapter.complete(memory, commands[2].id, &Answer::Aborted);
    assert!(!adapter.settling());
    assert_eq!(command(&mut adapter, memory, 4, &[]), 0);
    assert_eq!(adapter.take_task_management(memory), Some(Management::ResetBus));
    adapter.complete(memory, commands[0].id, &Answer::Aborted);
    adapter.complete(memory, commands[3].id, &Answer::Aborted);
    adapter.publish(NOW, memory);
    let ends: Vec<_> = driver.consume_all().iter().map(|end| (end.context, end.host_status)).collect();
    // BTSTAT_BUSRESET.
    assert_eq!(ends, [(2, 0), (3, 0x25), (1, 0x25), (4, 0x25)]);
}

#[test]
fn an_adapter_reset_is_silent() {
    let (mut driver, mut adapter) = started();
    driver.post(&Request::read(1));
    driver.post(&Request::read(2));
    driver.post(&Request::read(3));
    let commands = take(&mut adapter, &driver.memory);
    adapter.complete(&driver.memory, commands[0].id, &GOOD);
    command(&mut adapter, &driver.memory, 1, &[]);
    adapter.publish(NOW, &driver.memory);
    assert_eq!(driver.word(STATE + 12), 0, "rings were touched after the reset");
    assert!(adapter.settling());
    assert_eq!(adapter.take_task_management(&driver.memory), Some(Management::ResetAdapter));
    // The driver goes on before the old commands are over.
    driver.memory.zero(request::Span { offset: STATE, len: 4096, region: 0 }).unwrap();
    command(&mut adapter, &driver.memory, 3, &driver.setup_rings());
    driver.learn();
    driver.post(&Request::read(1));
    let fresh = take(&mut adapter, &driver.memory);
    assert_eq!(fresh.len(), 1);
    assert!(adapter.complete(&driver.memory, commands[1].id, &GOOD));
    assert!(adapter.settling());
    assert!(adapter.complete(&driver.memory, commands[2].id, &Answer::Aborted));
    assert!(!adapter.settling());
    adapter.publish(NOW, &driver.memory);
    assert_eq!(driver.consume(), None);
    assert!(adapter.complete(&driver.memory, fresh[0].id, &GOOD));
    adapter.publish(NOW, &driver.memory);
    assert_eq!(driver.consume_all().len(), 1);
    assert_eq!(counter(&adapter, "ended_by_reset"), 2);
}

/// The machine is reset, or its guest is gone: nobody will end the commands here.
#[test]
fn a_reset_of_the_function_forgets_at_once() {
    let (mut driver, mut adapter) = started();
    driver.post(&Request::read(1));
    driver.post(&Request::read(2));
    let commands = take(&mut adapter, &driver.memory);
    command(&mut adapter, &driver.memory, 4, &[]);
    assert_eq!(adapter.take_task_management(&driver.memory), Some(Management::ResetBus));
    adapter.reset();
    assert!(adapter.settling(), "the order is to be taken");
    assert_eq!(adapter.take_task_management(&driver.memory), Some(Management::ResetAdapter));
    assert!(!adapter.settling());
    driver.start(&mut adapter);
    driver.post(&Request::read(3));
    let fresh = take(&mut adapter, &driver.memory);
    for late in commands {
        assert!(!adapter.complete(&driver.memory, late.id, &GOOD));
    }
    assert!(adapter.complete(&driver.memory, fresh[0].id, &GOOD));
    adapter.publish(NOW, &driver.memory);
    assert_eq!(driver.consume_all().iter().map(|end| end.context).collect::<Vec<_>>(), [3]);
}

#[test]
fn orders_are_bounded() {
    let (driver, mut adapter) = started();
    for _ in 0..16 {
        assert_eq!(command(&mut adapter, &driver.memory, 4, &[]), 0);
    }
    assert_eq!(command(&mut adapter, &driver.memory, 4, &[]), u32::MAX);
    assert_eq!(counter(&adapter, "fault_too_many_orders"), 1);
    // A reset of the adapter takes the place of all of them.
    assert_eq!(command(&mut adapter, &driver.memory, 1, &[]), 0);
    assert_eq!(adapter.take_task_management(&driver.memory), Some(Management::ResetAdapter));
    assert_eq!(adapter.take_task_management(&driver.memory), None);
}

/// An order whose requests the driver took back does not wait for ever.
#[test]
fn a_producer_that_goes_back_frees_the_orders() {
    let (driver, mut adapter) = started();
    driver.post(&Request::read(1));
    command(&mut adapter, &driver.memory, 4, &[]);
    driver.set_word(STATE, 0);
    assert!(adapter.has_work());
    assert_eq!(adapter.take_task_management(&driver.memory), Some(Management::ResetBus));
    assert!(!adapter.settling());
}

#[test]
fn what_was_told_to_end_does_not_run_again() {
    let hot = hot();
    let mut driver = Driver::new(1);
    let mut one = adapter(&hot);
    driver.start(&mut one);
    for context in 1..=4 {
        driver.post(&Request { target: context as u8, ..Request::read(context) });
    }
    let memory = &driver.memory;
    let commands = take(&mut one, memory);
    abort(&mut one, memory, 2, 2);
    command(&mut one, memory, 5, &[3, 0, 0]);
    assert_eq!(one.take_task_management(memory), Some(Management::Abort { id: commands[1].id }));
    assert!(matches!(one.take_task_management(memory), Some(Management::ResetDevice { .. })));
    // This one was kept, and not yet taken.
    abort(&mut one, memory, 4, 4);
    let state = one.state();
    drop(one);
    let mut two = successor(&hot, &state, memory);
    assert!(two.has_work());
    assert_eq!(two.take_task_management(memory), None, "4 was not given out, and ends here");
    two.publish(NOW, memory);
    let resumed = take_resumed(&mut two, memory);
    assert_eq!(resumed.iter().map(|command| command.context).collect::<Vec<_>>(), [1]);
    assert!(resumed[0].resumed);
    assert!(!two.settling());
    two.complete(memory, resumed[0].id, &GOOD);
    two.publish(NOW, memory);
    let ends: Vec<_> = driver.consume_all().iter().map(|end| (end.context, end.host_status)).collect();
    assert_eq!(ends, [(2, 0x26), (3, 0x25), (4, 0x26), (1, 0)]);
}

/// The worker died after it carried out a reset, before that was kept.
#[test]
fn an_order_that_comes_again_ends_what_it_ended_before() {
    let hot = hot();
    let mut driver = Driver::new(1);
    let mut one = adapter(&hot);
    driver.start(&mut one);
    let memory = &driver.memory;
    driver.post(&Request::read(1));
    command(&mut one, memory, 4, &[]);
    let state = one.state();
    assert_eq!(take(&mut one, memory).len(), 1);
    assert_eq!(one.take_task_management(memory), Some(Management::ResetBus));
    driver.post(&Request::read(2));
    assert_eq!(take(&mut one, memory).len(), 1);
    let mut two = successor(&hot, &state, memory);
    assert_eq!(two.take_task_management(memory), Some(Management::ResetBus));
    let resumed = take_resumed(&mut two, memory);
    assert_eq!(resumed.len(), 1);
    two.complete(memory, resumed[0].id, &GOOD);
    two.publish(NOW, memory);
    let ends: Vec<_> = driver.consume_all().iter().map(|end| (end.context, end.host_status)).collect();
    assert_eq!(ends, [(1, 0x25), (2, 0)]);
}

#[test]
fn a_guest_asks_to_be_rid_of_a_lun() {
    let (driver, mut adapter) = started();
    let memory = &driver.memory;
    // hostStatusAddr, bus, target, lun.
    assert_eq!(command(&mut adapter, memory, 9, &[0x9000, 0, 0, 7, 0, 0]), 0);
    let place = Place::Unit { target: 7, lun: 0 };
    let order = adapter.take_task_management(memory);
    assert_eq!(order, Some(Management::Unplug { place, reply: Address(0x9000) }));
    driver.set_word(0x9000, 0xffff_ffff);
    adapter.answer_unplug(memory, Address(0x9000), crate::bits::host_status::HASOFTWARE);
    assert_eq!(driver.word(0x9000), 0xffff_0027);
    assert_eq!(command(&mut adapter, memory, 9, &[0x9000, 0, 1, 7, 0, 0]), u32::MAX, "bus 1");
    assert_eq!(command(&mut adapter, memory, 9, &[0x9000, 0, 0, 64, 0, 0]), u32::MAX);
}

#[test]
fn messages_tell_of_luns() {
    let (driver, mut adapter) = started();
    assert!(adapter.post_message(Hotplug::Added { target: 5, lun: 0 }));
    assert!(adapter.post_message(Hotplug::Removed { target: 63, lun: 300 }));
    assert_eq!(driver.word(STATE + 128), 0);
    adapter.publish(NOW, &driver.memory);
    assert_eq!(driver.word(STATE + 128), 2);
    assert_eq!(read(&mut adapter, 0x100c), 4);
    assert_eq!(adapter.interrupts().vectors, 1);
    // type, bus, target, lun, pad.
    let mut expected = [0; 256];
    expected[8] = 5;
    expected[128] = 1;
    expected[136] = 63;
    expected[140..142].copy_from_slice(&[0x41, 0x2c]);
    assert_eq!(driver.get::<256>(MESSAGES), expected);
}

#[test]
fn messages_wait_for_room_and_come_once() {
    let hot = hot();
    let mut driver = Driver::new(1);
    let mut adapter = adapter(&hot);
    assert!(!adapter.post_message(Hotplug::Added { target: 0, lun: 0 }), "there is no ring");
    driver.start(&mut adapter);
    let memory = &driver.memory;
    for target in 0..40 {
        assert!(adapter.post_message(Hotplug::Added { target, lun: 0 }));
    }
    let before = adapter.state();
    adapter.publish(NOW, memory);
    assert_eq!(driver.word(STATE + 128), 32);
    assert!(adapter.deadline().is_some());
    // The state from before the publication does not bring them again.
    for state in [before, adapter.state()] {
        let mut next = successor(&hot, &state, memory);
        next.publish(NOW, memory);
        assert_eq!(driver.word(STATE + 128), 32);
    }
    driver.set_word(STATE + 132, 32);
    let mut next = successor(&hot, &adapter.state(), memory);
    next.publish(NOW, memory);
    assert_eq!(driver.word(STATE + 128), 40);
    assert_eq!(driver.word(MESSAGES + 128 * 7 + 8), 39);
    // A driver that never reads: no more wait than can.
    for _ in 0..200 {
        next.post_message(Hotplug::Removed { target: 1, lun: 0 });
        next.publish(NOW, memory);
    }
    assert_eq!(counter(&next, "ring_messages_lost"), 200 - 24 - 128);
    driver.set_word(STATE + 132, 0x8000_0000);
    next.publish(NOW, memory);
    assert_eq!(counter(&next, "fault_message_index"), 1);
}

/// Linux's host reset: kick, reset, set up again, unmask.
#[test]
fn a_host_reset_starts_anew() {
    let (mut driver, mut adapter) = started();
    for round in 0..50 {
        driver.post(&Request::read(round + 1));
        let commands = take(&mut adapter, &driver.memory);
        write(&mut adapter, &driver.memory, 0x3014, 0);
        driver.start(&mut adapter);
        for command in commands {
            assert!(adapter.complete(&driver.memory, command.id, &Answer::Aborted));
        }
        assert!(!adapter.settling());
    }
    driver.post(&Request::read(99));
    assert_eq!(take(&mut adapter, &driver.memory).len(), 1);
    assert_eq!(counter(&adapter, "kicks"), 50);
}
