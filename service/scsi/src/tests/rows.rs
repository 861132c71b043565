use super::{NEXUS, data, facts, run};
use crate::{Kind, On, Profile, Row, Unit, Verdict, rows};

/// A unit on which no attention waits, made anew so that START STOP UNIT has no successor.
fn fresh() -> Unit {
    super::unit(facts())
}

/// One that has the command.
fn fresh_for(row: &Row) -> Unit {
    if row.on != On::CdRom {
        return fresh();
    }
    let mut unit = Unit::new(facts(), Profile { kind: Kind::CdRom, ..Profile::default() });
    let _ = unit.attach(super::peer(0));
    let _ = run(&mut unit, NEXUS, &[0; 6]);
    unit
}

#[test]
fn the_table_is_sound() {
    let rows = rows();
    for pair in rows.windows(2) {
        assert!((pair[0].opcode, pair[0].action) < (pair[1].opcode, pair[1].action));
    }
    for row in rows {
        assert_eq!(row.usage[0], row.opcode, "{}", row.name);
        // SPC-4, OPERATION CODE: the group code gives the length.
        let length = match row.opcode >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            5 => 12,
            other => panic!("{}: group {other}", row.name),
        };
        assert_eq!(row.usage.len(), length, "{}", row.name);
        if let Some(action) = row.action {
            assert_eq!(row.usage[1] & 0x1f, action, "{}", row.name);
        }
        // CONTROL: NACA is refused since NORMACA is zero.
        assert_eq!(row.usage[length - 1], 0x00, "{}", row.name);
        assert_ne!(row.timeout_seconds, 0);
    }
}

#[test]
fn every_bit_outside_the_usage_mask_is_refused_with_its_place() {
    let mut bits_tried = 0;
    for row in rows() {
        for byte in 1..row.usage.len() {
            for bit in 0..8 {
                let in_action = row.action.is_some() && byte == 1 && bit < 5;
                // SCSI-2, INQUIRY: Logical Unit Number.
                let lun = row.opcode == 0x12 && byte == 1 && bit >= 5;
                if in_action || lun || row.usage[byte] >> bit & 1 != 0 {
                    continue;
                }
                let mut cdb = [0; 16];
                cdb[0] = row.opcode;
                if let Some(action) = row.action {
                    cdb[1] = action;
                }
                cdb[byte] |= 1 << bit;
                let verdict = run(&mut fresh_for(row), NEXUS, &cdb);
                let Verdict::Respond(response) = verdict else { panic!("{} {byte}.{bit}", row.name) };
                let sense = response.sense_data().unwrap();
                let place = [0x24, 0x00, 0, 0xc8 | bit, 0x00, byte as u8];
                assert_eq!(&sense[12..], place, "{} byte {byte} bit {bit}", row.name);
                bits_tried += 1;
            }
        }
    }
    assert!(bits_tried > 800, "{bits_tried}");
}

/// As Linux asks a target that it knows nothing of yet for its LUN 7.
#[test]
fn an_inquiry_with_the_lun_of_scsi_2_is_answered() {
    let asked = |cdb: &[u8]| data(&mut fresh(), cdb);
    assert_eq!(asked(&[0x12, 0xe0, 0, 0, 96, 0]), asked(&[0x12, 0x00, 0, 0, 96, 0]));
}

#[test]
fn every_bit_inside_the_usage_mask_is_let_through() {
    for row in rows() {
        let mut unit = fresh_for(row);
        let mut cdb = [0; 16];
        cdb[..row.usage.len()].copy_from_slice(row.usage);
        let found = crate::rows::find(&cdb, &unit).unwrap();
        assert_eq!(found.name, row.name);
        assert!(found.check(&crate::cdb::Cdb::new(&cdb)).is_ok(), "{}", row.name);
        let _ = run(&mut unit, NEXUS, &cdb);
    }
}

#[test]
fn the_highest_wrong_bit_of_the_first_wrong_byte_is_named() {
    let mut unit = fresh();
    let verdict = run(&mut unit, NEXUS, &[0x00, 0, 0x28, 0xff, 0, 0]);
    let Verdict::Respond(response) = verdict else { panic!() };
    assert_eq!(&response.sense_data().unwrap()[15..], [0xcd, 0x00, 0x02]);
}

#[test]
fn operation_codes_without_a_row_and_cdbs_cut_short() {
    let mut unit = fresh();
    for opcode in 0..=255u8 {
        let known = rows().iter().any(|row| row.opcode == opcode && row.is_available(&unit));
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        let verdict = run(&mut unit, NEXUS, &cdb);
        let refused = matches!(verdict, Verdict::Respond(response)
            if response.sense.is_some_and(|sense| sense.asc == 0x20));
        assert_eq!(refused, !known, "{opcode:02x}");
        if opcode == 0x1b {
            unit = fresh(); // It was stopped.
        }
    }
    for row in rows() {
        let cut = &row.usage[..row.usage.len() - 1];
        let verdict = run(&mut fresh_for(row), NEXUS, cut);
        assert_eq!(super::refused(verdict), (0x5, 0x24, 0x00), "{}", row.name);
    }
    let none = run(&mut unit, NEXUS, &[]);
    assert_eq!(super::refused(none), (0x5, 0x20, 0x00));
}
