//! What a driver wants to receive (5.1.6.5.1 to 5.1.6.5.3).

use crate::v1::State;
use request::Mac;

/// Does the driver want a frame that begins so? The order of the questions is QEMU's, whose
/// drivers we serve: promiscuous mode comes before the VLAN filter.
pub fn wants(state: &State, header: &[u8]) -> bool {
    if state.promiscuous {
        return true;
    }
    let Some(destination) = header.first_chunk::<6>() else { return false };
    if let (Some([0x81, 0x00]), Some([high, low])) = (header.get(12..14), header.get(14..16)) {
        let vid = usize::from(u16::from_be_bytes([*high, *low]) & 0xfff);
        if state.vlans.get(vid / 8).is_none_or(|bits| bits >> (vid % 8) & 1 == 0) {
            return false;
        }
    }
    let destination = Mac(*destination);
    if destination == Mac::BROADCAST {
        return !state.no_broadcast;
    }
    if destination.is_group() {
        return !state.no_multicast && (state.all_multicast || state.multicast.holds(destination));
    }
    !state.no_unicast && (state.all_unicast || state.mac == destination || state.unicast.holds(destination))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Features, bit};

    const OWN: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    const OTHER: [u8; 14] = [0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 3, 8, 0];
    const TO_OWN: [u8; 14] = [0x52, 0x54, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 3, 8, 0];
    const BROADCAST: [u8; 14] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, 3, 8, 6];
    const MULTICAST: [u8; 14] = [0x33, 0x33, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 3, 0x86, 0xdd];

    fn closed() -> State {
        State { promiscuous: false, ..State::reset(OWN, Features(0)) }
    }

    #[test]
    fn each_switch_opens_its_door() {
        let all = [OTHER, TO_OWN, BROADCAST, MULTICAST];
        let is = |state: &State, wanted: [bool; 4]| {
            assert_eq!(all.map(|header| wants(state, &header)), wanted);
        };
        is(&State::reset(OWN, Features(0)), [true; 4]);
        let mut state = closed();
        is(&state, [false, true, true, false]);
        state.all_unicast = true;
        is(&state, [true, true, true, false]);
        state.all_multicast = true;
        is(&state, [true; 4]);
        state.no_multicast = true;
        state.no_broadcast = true;
        is(&state, [true, true, false, false]);
        state.no_unicast = true;
        is(&state, [false; 4]);
        let mut state = closed();
        state.unicast.set(&[Mac([0x52, 0x54, 0, 0, 0, 2])]);
        state.multicast.set(&[Mac([0x33, 0x33, 0, 0, 0, 1])]);
        is(&state, [true; 4]);
        assert!(!wants(&state, &[0xff; 5]));
    }

    #[test]
    fn tagged_frames_meet_the_vlan_table() {
        let tagged = |vid: u8| {
            let mut header = [0; 18];
            header[..6].copy_from_slice(&OWN.0);
            header[12..16].copy_from_slice(&[0x81, 0, 0x60, vid]);
            header
        };
        let mut state = State { promiscuous: false, ..State::reset(OWN, Features(1 << bit::CTRL_VLAN)) };
        assert!(!wants(&state, &tagged(9)));
        state.vlans[1] = 0b10;
        assert!(wants(&state, &tagged(9)));
        assert!(!wants(&state, &tagged(8)));
        assert!(wants(&closed(), &tagged(8)), "without the feature there is no filter");
    }
}
