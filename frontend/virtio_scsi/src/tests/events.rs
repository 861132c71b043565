use super::{UNTOUCHED, post};
use crate::{EVENTS_BYTES, Event, Events, Fault, Happening, Refused};

fn event(lun: u16, happening: Happening) -> Event {
    Event { target: 0, lun, happening }
}

/// The sixteen bytes of the next event.
fn next(events: &mut Events) -> [u8; 16] {
    let posted = post(&[], &[], &[5, 11, 4]);
    assert!(events.is_waiting());
    assert_eq!(events.deliver(&posted.memory, &posted.chain), Ok(16));
    assert_eq!(posted.written(20)[16..], [UNTOUCHED; 4]);
    posted.written(16).try_into().unwrap()
}

#[test]
fn each_happening() {
    for (happening, code, reason) in [
        (Happening::Added, 1, [1, 0]),
        (Happening::Removed, 1, [2, 0]),
        (Happening::Reset, 1, [0, 0]),
        (Happening::Capacity, 3, [0x2a, 0x09]),
        (Happening::ModeParameters, 3, [0x2a, 0x01]),
    ] {
        let mut events = Events::default();
        assert!(!events.is_waiting());
        assert!(events.post(Event { target: 2, lun: 300, happening }));
        let expected = [code, 0, 0, 0, 1, 2, 0x41, 0x2c, 0, 0, 0, 0, reason[0], reason[1], 0, 0];
        assert_eq!(next(&mut events), expected);
        assert!(!events.is_waiting());
    }
}

#[test]
fn events_come_in_their_order_and_repeat_where_it_matters() {
    let mut events = Events::default();
    for happening in
        [Happening::Removed, Happening::Capacity, Happening::Added, Happening::Capacity, Happening::Removed]
    {
        assert!(events.post(event(1, happening)));
    }
    let mut told = [0; 4];
    for told in &mut told {
        let bytes = next(&mut events);
        *told = bytes[0] << 4 | bytes[12] & 0x0f;
    }
    assert_eq!(told, [0x12, 0x3a, 0x11, 0x12]);
    assert!(!events.is_waiting());
}

#[test]
fn what_does_not_fit_is_missed() {
    let mut events = Events::default();
    for lun in 0..16 {
        assert!(events.post(event(lun, Happening::Added)));
    }
    assert!(!events.post(event(16, Happening::Added)));
    assert_eq!(next(&mut events)[..4], [1, 0, 0, 0x80]);
    for lun in 1..16 {
        let bytes = next(&mut events);
        assert_eq!((bytes[3], bytes[7]), (0, lun));
    }
    assert!(!events.is_waiting());
}

#[test]
fn a_buffer_too_short_holds_up_nothing() {
    let mut events = Events::default();
    events.post(event(1, Happening::Added));
    let posted = post(&[], &[], &[15]);
    let refused = Refused { fault: Fault::EventBufferTooShort, written: 0 };
    assert_eq!(events.deliver(&posted.memory, &posted.chain), Err(refused));
    assert_eq!(posted.written(15), [UNTOUCHED; 15]);
    assert_eq!(next(&mut events)[..1], [1]);
}

#[test]
fn events_survive() {
    let mut events = Events::default();
    events.post(Event { target: 7, lun: 0x0102, happening: Happening::Capacity });
    events.post(event(1, Happening::Removed));
    let mut stored = [0; 68];
    stored[0] = 1;
    stored[4..8].copy_from_slice(&[4, 7, 0x02, 0x01]);
    stored[8..12].copy_from_slice(&[2, 0, 1, 0]);
    assert_eq!(events.encode(), stored);
    assert_eq!(Events::decode(&stored), Some(events));

    // Missed, and nothing else.
    let mut missed = [0; EVENTS_BYTES];
    missed[..2].copy_from_slice(&[1, 1]);
    let mut events = Events::decode(&missed).unwrap();
    assert_eq!(next(&mut events), [0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // A number without a meaning: something was missed.
    stored[8] = 99;
    let mut events = Events::decode(&stored).unwrap();
    assert_eq!(next(&mut events)[..4], [3, 0, 0, 0x80]);
    assert!(!events.is_waiting());
    assert_eq!(Events::decode(&[0; EVENTS_BYTES]), None);
    stored[0] = 2;
    assert_eq!(Events::decode(&stored), None);
    let mut events = Events::default();
    events.post(event(1, Happening::Added));
    events.reset();
    assert!(!events.is_waiting());
}
