//! Registers and commands, with numbers typed from VMware's headers.

use std::vec::Vec;

use guest_memory::Memory;
use pci::{Bar, Bars, Cap, IrqMode, Lasting, Signals};

use super::driver::{Driver, NOW, Request, STATE, adapter, command, counter, hot, read, run, write};

#[test]
fn the_function_is_vmwares() {
    let adapter = adapter(&hot());
    let layout = adapter.layout();
    assert_eq!((layout.vendor, layout.device, layout.revision), (0x15ad, 0x07c0, 2));
    assert_eq!(layout.class, [0x01, 0x07, 0x00]);
    assert_eq!(layout.bars[0], Bar::Memory32 { bytes: 32 << 10, prefetchable: false });
    let msix = Cap::MsiX { vectors: 24, table_bar: 0, table_offset: 0x6000, pba_bar: 0, pba_offset: 0x7000 };
    assert!(layout.caps.iter().any(|(_, cap)| *cap == msix));
    assert!(layout.caps.iter().any(|(_, cap)| matches!(cap, Cap::Msi { vectors: 1, .. })));
}

/// "A value of -1 means that the command is not supported; if it is, the status register returns
/// the size of the descriptor in words."
#[test]
fn drivers_can_ask_which_commands_are_there() {
    let memory = Memory::anonymous(4096);
    let mut adapter = adapter(&hot());
    let sizes: Vec<u32> = (0..14).map(|number| command(&mut adapter, &memory, number, &[])).collect();
    let none = u32::MAX;
    // FIRST, ADAPTER_RESET, ISSUE_SCSI, SETUP_RINGS, RESET_BUS, RESET_DEVICE, ABORT_CMD, CONFIG,
    // SETUP_MSG_RING, DEVICE_UNPLUG, SETUP_REQCALLTHRESHOLD, GET_MAX_TARGETS, and no more.
    assert_eq!(sizes, [none, 0, none, 132, 0, 3, 4, 6, 34, 6, 1, 64, none, none]);
    assert_eq!(command(&mut adapter, &memory, u32::MAX, &[]), none);
    assert_eq!(counter(&adapter, "fault_unknown_command"), 5);
}

#[test]
fn rings_are_announced_in_the_state_page() {
    let mut driver = Driver::new(8);
    let mut adapter = adapter(&hot());
    driver.start(&mut adapter);
    assert_eq!((driver.request_log2, driver.completion_log2, driver.message_log2), (8, 10, 5));
    assert_eq!(read(&mut adapter, 0x8), 1, "the threshold is there");
    assert_eq!(driver.word(STATE + 24), 1);
    // What a driver may not give.
    for pages in [0, 3, 33, 64, u32::MAX] {
        let mut words = driver.setup_rings();
        words[0] = pages;
        assert_eq!(command(&mut adapter, &driver.memory, 3, &words), u32::MAX);
        words.swap(0, 1);
        assert_eq!(command(&mut adapter, &driver.memory, 3, &words), u32::MAX);
    }
    for (word, bad) in [(2, 0x7fff_ffff), (3, u32::MAX), (4, 0x800), (5, 0x10_0000)] {
        let mut words = driver.setup_rings();
        words[word] = bad;
        assert_eq!(command(&mut adapter, &driver.memory, 3, &words), u32::MAX);
    }
    assert_eq!(counter(&adapter, "fault_bad_rings"), 14);
    // The rings from before are still good.
    assert!(driver.post(&Request::read(1)));
    run(&mut adapter, &driver.memory);
    assert_eq!(driver.consume_all().len(), 1);
}

/// Register writes are posted: a driver that cleared its page may have a request there before we
/// come to the last word of SETUP_RINGS (SeaBIOS posts one without reading any register).
#[test]
fn a_request_that_was_faster_than_the_setup_stands() {
    let mut driver = Driver::new(1);
    let mut adapter = adapter(&hot());
    driver.request_log2 = 5;
    driver.post(&Request::read(7));
    assert_eq!(command(&mut adapter, &driver.memory, 3, &driver.setup_rings()), 0);
    driver.learn();
    assert!(adapter.has_work());
    run(&mut adapter, &driver.memory);
    assert_eq!(driver.consume().unwrap().context, 7);
}

#[test]
fn a_page_that_was_not_cleared_is_cleared() {
    let mut driver = Driver::new(1);
    let mut adapter = adapter(&hot());
    driver.start(&mut adapter);
    for context in 1..=3 {
        driver.post(&Request::read(context));
    }
    run(&mut adapter, &driver.memory);
    driver.post(&Request::read(4));
    command(&mut adapter, &driver.memory, 1, &[]);
    command(&mut adapter, &driver.memory, 3, &driver.setup_rings());
    assert_eq!([0, 4, 12, 16].map(|field| driver.word(STATE + field)), [0; 4]);
    assert!(adapter.take_task_management(&driver.memory).is_some());
    assert!(!adapter.has_work(), "an old request is run again");
    driver.post(&Request::read(9));
    run(&mut adapter, &driver.memory);
    assert_eq!(driver.consume().unwrap().context, 9);
}

#[test]
fn causes_are_cleared_by_ones_and_masked() {
    let mut driver = Driver::new(1);
    let mut adapter = adapter(&hot());
    adapter.set_irq_mode(IrqMode::Intx);
    driver.start(&mut adapter);
    assert!(!adapter.interrupts().level);
    driver.post(&Request::read(1));
    run(&mut adapter, &driver.memory);
    assert_eq!(read(&mut adapter, 0x100c), 1);
    assert!(adapter.interrupts().level);
    write(&mut adapter, &driver.memory, 0x2010, 0);
    assert!(!adapter.interrupts().level);
    write(&mut adapter, &driver.memory, 0x2010, u32::MAX);
    assert_eq!(read(&mut adapter, 0x2010), 0xf);
    assert!(adapter.interrupts().level);
    write(&mut adapter, &driver.memory, 0x100c, 0xe);
    assert!(adapter.interrupts().level);
    write(&mut adapter, &driver.memory, 0x100c, 1);
    assert_eq!(adapter.interrupts(), pci::Interrupts { level: false, vectors: 0 });
}

/// Linux with MSI-X never touches INTR_STATUS: each batch has a message of its own.
#[test]
fn messages_need_no_acknowledgement() {
    for mode in [IrqMode::Msi, IrqMode::MsiX] {
        let mut driver = Driver::new(1);
        let mut adapter = adapter(&hot());
        adapter.set_irq_mode(mode);
        driver.start(&mut adapter);
        for context in 1..=5 {
            driver.post(&Request::read(context));
            run(&mut adapter, &driver.memory);
            assert_eq!(adapter.interrupts().vectors, 1);
            assert_eq!(adapter.interrupts().vectors, 0);
        }
        write(&mut adapter, &driver.memory, 0x2010, 0);
        driver.post(&Request::read(6));
        run(&mut adapter, &driver.memory);
        assert_eq!(adapter.interrupts().vectors, 0);
        write(&mut adapter, &driver.memory, 0x2010, 0xf);
        assert_eq!(adapter.interrupts().vectors, 1, "a cause was there when it was unmasked");
    }
}

#[test]
fn registers_answer_at_any_length_and_place() {
    let memory = Memory::anonymous(4096);
    let mut adapter = adapter(&hot());
    write(&mut adapter, &memory, 0x2010, 0x5);
    let mut bytes = [0xaa; 16];
    adapter.read(NOW, 0, 0x200e, &mut bytes);
    assert_eq!(bytes, [0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    adapter.read(NOW, 0, u64::MAX, &mut bytes);
    adapter.read(NOW, 1, 0x2010, &mut bytes);
    assert_eq!(bytes, [0; 16]);
    // Parts of a register are not written.
    adapter.write(NOW, &memory, 0, 0x2010, &[1]);
    adapter.write(NOW, &memory, 0, 0x2011, &[1, 1, 1, 1]);
    adapter.write(NOW, &memory, 0, u64::MAX - 3, &[1; 8]);
    assert_eq!(read(&mut adapter, 0x2010), 5);
    for quiet in [0x0, 0x4, 0x100, 0x104, 0x108, 0x10c, 0x3014, 0x3018, 0x4018, 0x6000, 0x7000] {
        assert_eq!(read(&mut adapter, quiet), 0);
    }
}

#[test]
fn a_reset_masks_and_forgets() {
    let mut driver = Driver::new(1);
    let mut adapter = adapter(&hot());
    driver.start(&mut adapter);
    driver.post(&Request::read(1));
    run(&mut adapter, &driver.memory);
    command(&mut adapter, &driver.memory, 1, &[]);
    assert_eq!(read(&mut adapter, 0x100c), 0);
    assert_eq!(read(&mut adapter, 0x2010), 0);
    assert_eq!(adapter.interrupts(), pci::Interrupts::default());
    driver.post(&Request::read(2));
    assert!(super::driver::take(&mut adapter, &driver.memory).is_empty());
    // A reset of the function forgets a command that was in the making as well.
    write(&mut adapter, &driver.memory, 0, 10);
    adapter.reset();
    write(&mut adapter, &driver.memory, 4, 1);
    assert_eq!(read(&mut adapter, 8), 0);
}

#[test]
fn control_state_survives_byte_by_byte() {
    let hot = hot();
    let mut driver = Driver::new(32);
    let mut one = adapter(&hot);
    driver.start(&mut one);
    write(&mut one, &driver.memory, 0, 3);
    for word in &driver.setup_rings()[..100] {
        write(&mut one, &driver.memory, 4, *word);
    }
    assert!(one.take_dirty() && !one.take_dirty());
    let state = one.state();
    assert!(state.len() < 4096);
    let mut two = adapter(&hot);
    two.restore(&state);
    assert_eq!(two.state(), state);
    two.resume(&driver.memory);
    for word in &driver.setup_rings()[100..] {
        write(&mut two, &driver.memory, 4, *word);
    }
    assert_eq!(read(&mut two, 8), 0);
    // What is cut or longer leaves the adapter as after power on.
    for len in 0..state.len() {
        let mut three = adapter(&hot);
        three.restore(&state[..len]);
        three.resume(&driver.memory);
        assert_eq!(read(&mut three, 0x2010), 0);
    }
}

/// The capabilities fit into a configuration space, and say what VMware's do.
#[test]
fn the_configuration_space_is_made_of_the_layout() {
    let adapter = adapter(&hot());
    let space = pci::Config::new(adapter.layout(), 0);
    let read = |at: usize| {
        let mut bytes = [0; 4];
        space.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    assert_eq!(read(0), 0x07c0_15ad);
    assert_eq!(read(8), 0x0107_0002);
    assert_eq!(read(0x2c), 0x07c0_15ad);
    // PM at 40h, MSI with 64 bits at 84h, MSI-X with 24 vectors at 9Ch: table at 6000h, bits at 7000h.
    assert_eq!(read(0x34) & 0xff, 0x40);
    assert_eq!(read(0x40) & 0xffff, 0x8401);
    assert_eq!(read(0x84), 0x0080_9c05);
    assert_eq!(read(0x9c), 0x0017_0011);
    assert_eq!((read(0xa0), read(0xa4)), (0x6000, 0x7000));
}
