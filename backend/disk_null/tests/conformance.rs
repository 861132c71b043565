use conformance::{Subject, check, check_read_only, facts};
use request::{Facts, Instant};
use standpipe_disk_null::DiskNull;

#[test]
fn conforms() {
    check(Subject {
        disk: &mut DiskNull::new(facts(512, 64 << 20)),
        pump: &mut Instant::default,
        keeps_data: false,
        allocated: None,
        tells_holes: false,
        grow: None,
    });
    let facts = Facts { read_only: true, discard: None, ..facts(4096, 64 << 20) };
    check_read_only(&mut DiskNull::new(facts), &mut Instant::default);
}
