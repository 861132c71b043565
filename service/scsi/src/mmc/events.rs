//! GET EVENT STATUS NOTIFICATION and MECHANISM STATUS: how hosts see that a disc came or went.

use super::has_medium;
use crate::execute::Call;
use crate::sense::Sense;
use crate::unit::{Unit, Verdict};

/// Notification classes that there are: media, device busy.
const MEDIA: u8 = 4;
const DEVICE_BUSY: u8 = 6;
const CLASSES: u8 = 1 << MEDIA | 1 << DEVICE_BUSY;
/// NEA: none of the classes that were asked for is there.
const NO_EVENT_AVAILABLE: u8 = 0x80;

/// GET EVENT STATUS NOTIFICATION. Hosts poll; nobody is told without asking.
pub(crate) fn get_event_status(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    if !call.cdb.bit(1, 0) {
        return Err(Sense::cdb_bit(1, 0)); // POLLED
    }
    let allocation = usize::from(call.cdb.u16(7));
    let asked = call.cdb.byte(4) & CLASSES;
    if asked == 0 {
        return Ok(call.reply(allocation, &[0, 2, NO_EVENT_AVAILABLE, CLASSES]));
    }
    // Of several the first.
    let class = asked.trailing_zeros() as u8;
    let mut data = [0, 6, class, CLASSES, 0, 0, 0, 0];
    if class == MEDIA {
        // An initiator that makes no room for the event has not been told of it.
        if allocation > 4 {
            let event = unit.removable.take_event(call.nexus);
            unit.dirty |= event as u8 != 0;
            data[4] = event as u8;
        }
        // MEDIA STATUS: present, tray open.
        data[5] = u8::from(has_medium(unit)) << 1 | u8::from(unit.removable.ejected);
    }
    Ok(call.reply(allocation, &data))
}

/// MECHANISM STATUS of a drive that is no changer.
pub(crate) fn mechanism_status(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let mut data = [0; 8];
    if unit.removable.ejected {
        data[1] = 0x10; // DOOR OPEN
    }
    let allocation = usize::from(call.cdb.u16(8));
    Ok(call.reply(allocation, &data))
}
