//! What a Linux guest sends, in its order (drivers/scsi/scsi_scan.c and sd.c).

use alloc::vec::Vec;
use request::{Operation, Status};

use super::{NEXUS, codes, command, data, ended, facts, plan, response, with_list};
use crate::{Verdict, no_unit};

#[test]
fn probe_mount_write_trim() {
    let mut unit = super::attached(facts());
    // scsi_probe_lun: 36 bytes first, then as many as the unit says.
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 36, 0])[4], 91);
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 96, 0]).len(), 96);
    // scsi_report_lun_scan.
    assert_eq!(data(&mut unit, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0])[3], 24);
    // An empty LUN is skipped by its peripheral qualifier.
    let mut out = Vec::new();
    let _ = no_unit(&command(NEXUS, &[0x12, 0, 0, 0, 36, 0]), &mut out);
    assert_eq!(out[0] >> 5, 0b011);
    // scsi_attach_vpd: sizes are asked for with four bytes first.
    for page in [0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2] {
        let head = data(&mut unit, &[0x12, 1, page, 0, 4, 0]);
        let whole = data(&mut unit, &[0x12, 1, page, 0, head[3] + 4, 0]);
        assert_eq!(whole.len(), usize::from(head[3]) + 4);
    }
    // sd_spinup_disk: the first TEST UNIT READY meets the power on attention and is repeated.
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x29, 0x00));
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
    // read_capacity_16, sd_read_write_protect_flag, sd_read_cache_type.
    assert_eq!(data(&mut unit, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]).len(), 32);
    assert_eq!(data(&mut unit, &[0x1a, 0, 0x3f, 0, 4, 0])[2] & 0x80, 0);
    let head = data(&mut unit, &[0x1a, 0, 0x08, 0, 4, 0]);
    let caching = data(&mut unit, &[0x1a, 0, 0x08, 0, head[0] + 1, 0]);
    assert_eq!(caching[usize::from(head[3]) + 4 + 2], 0x04);
    assert_eq!(head[2] & 0x10, 0x10); // DPOFUA: sd will send FUA
    // scsi_report_opcode, as sd asks for WRITE SAME(16) and SYNCHRONIZE CACHE.
    for opcode in [0x93, 0x35, 0x91] {
        let known = data(&mut unit, &[0xa3, 0x0c, 0x01, opcode, 0, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(known[1] & 0x07, 0x03);
    }
    // A filesystem: read, write, flush, FUA write, trim.
    assert_eq!(plan(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0]).data_in(), 4096);
    assert_eq!(plan(&mut unit, &[0x2a, 0x08, 0, 0, 8, 0, 0, 0, 8, 0]).data_out(), 4096);
    assert_eq!(ended(&mut unit, &[0x2a, 0x08, 0, 0, 8, 0, 0, 0, 8, 0], Status::Good).status, 0x00);
    assert_eq!(plan(&mut unit, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]).next(), Some(Operation::Flush));
    let trim = [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x08, 0, 0, 0, 0, 0];
    let verdict = with_list(&mut unit, NEXUS, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &trim);
    let Verdict::Medium(mut plan) = verdict else { panic!() };
    assert!(matches!(plan.next(), Some(Operation::Discard(extent)) if extent.count().0 == 0x800));
    // The store is full: what sd turns into ENOSPC.
    assert_eq!(
        codes(&ended(&mut unit, &[0x2a, 0, 0, 0, 8, 0, 0, 0, 8, 0], Status::NoSpace)),
        (0x7, 0x27, 0x07)
    );
}

/// `echo "write through" > /sys/class/scsi_disk/…/cache_type` (cache_type_store).
#[test]
fn sysfs_cache_type() {
    let mut unit = super::unit(facts());
    let mut list = data(&mut unit, &[0x1a, 0x08, 0x08, 0, 192, 0]);
    list[0] = 0;
    list[2] = 0; // DEVICE-SPECIFIC PARAMETER
    list[4] &= 0x7f;
    list[6] &= !0x05;
    let verdict = with_list(&mut unit, NEXUS, &[0x15, 0x10, 0, 0, 24, 0], &list);
    let Verdict::Medium(mut plan) = verdict else { panic!() };
    assert_eq!(plan.next(), Some(Operation::Flush));
    assert_eq!(data(&mut unit, &[0x1a, 0x08, 0x08, 0, 192, 0])[6], 0x00);
}
