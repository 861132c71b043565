//! What an operator uses on a disk: sg3_utils, sdparm, ddpt and lsscsi on the device itself, LVM, mdraid,
//! XFS and the block tools of util-linux on top of it.

use crate::cases::disk::no_errors;
use crate::cases::reserve::{ILLEGAL_REQUEST, UNIT_ATTENTION};
use crate::guest::Guest;
use crate::site::{DiskModel, Kind, MIB, Site};
use crate::steps::{Row, Steps};
use crate::world::{Bench, World};
use crate::{Result, ensure};

/// Exit statuses of sg3_utils: NOT READY, DATA PROTECT, INVALID COMMAND OPERATION CODE,
/// MISCOMPARE, LOGICAL BLOCK ADDRESS OUT OF RANGE.
const NOT_READY: i32 = 2;
const DATA_PROTECT: i32 = 7;
const INVALID_OPCODE: i32 = 9;
const MISCOMPARE: i32 = 14;
const LBA_OUT_OF_RANGE: i32 = 22;

/// A disk of each kind of block, of the same size, as LUN 0, 1 and 2.
const DISKS: [(&str, u32, u32); 3] = [("plain", 512, 512), ("emulated", 512, 4096), ("native", 4096, 4096)];

fn disks(site: Site, mib: u64) -> Site {
    DISKS.into_iter().fold(site, |site, (name, logical, physical)| {
        site.volume(name, mib).with(|volume| {
            volume.kind = Kind::Disk(logical, physical);
            volume.thin_threshold = (name == "emulated").then_some("90%");
        })
    })
}

/// Names the devices by their LUN, the disks `/dev/d0` and so on and their generic devices `/dev/g0` and
/// so on: the kernel looks at several LUNs at once, and the letters come as they come.
pub fn name_by_lun(guest: &Guest) -> Result<()> {
    guest
        .check(
            "for i in $(seq 100); do [ $(ls -d /sys/class/scsi_disk/* | wc -l) -ge 3 ] && break; usleep 50000; done
             for d in /sys/bus/scsi/devices/[0-9]*:[0-9]*; do
               [ -e $d/scsi_generic ] || continue
               n=${d##*:}
               ln -sf /dev/$(ls $d/scsi_generic) /dev/g$n
               for i in $(seq 100); do [ -e $d/block ] && break; usleep 50000; done
               ln -sf /dev/$(ls $d/block) /dev/d$n
             done; ls /dev/d0 /dev/g0",
        )
        .map(drop)
}

/// Who the disk is, and what it can do.
const ENQUIRIES: &[Row] = &[
    ("sg_turs /dev/g0", 0, &[]),
    ("sg_inq /dev/g0", 0, &["Peripheral device type: disk", "CmdQue=1", "TPGS=", "3PC=1"]),
    ("sg_inq --descriptors /dev/g0", 0, &["SAM-", "SPC-", "SBC-"]),
    (
        "sg_vpd --all /dev/g0",
        0,
        &[
            "Supported VPD pages",
            "Unit serial number",
            "Device Identification",
            "Extended INQUIRY",
            "Mode page policy",
            "SCSI Ports",
            "Block limits",
            "Block device characteristics",
            "Logical block provisioning",
            "Third party copy",
        ],
    ),
    (
        "sg_vpd -p di /dev/g0",
        0,
        &[
            "NAA",
            "Relative target port",
            "Target port group",
            "T10 vendor identification",
            "SCSI name string",
        ],
    ),
    ("sg_vpd -p bl /dev/g0", 0, &["Maximum compare and write length", "Maximum unmap LBA count"]),
    ("sg_raw -r 252 /dev/g0 12 01 7f 00 fc 00 2>&1", ILLEGAL_REQUEST, &["Invalid field in cdb"]),
    ("sg_luns /dev/g0", 0, &["0000000000000000", "0001000000000000", "0002000000000000"]),
    ("sg_luns --select=1 /dev/g0", 0, &[]),
    ("sg_luns --select=2 /dev/g0", 0, &["0002000000000000"]),
    ("sg_readcap /dev/g0", 0, &["block length=512 bytes"]),
    ("sg_readcap --long /dev/g0", 0, &["lbpme=1", "67108864 bytes"]),
    (
        "sg_readcap --long /dev/g1",
        0,
        &["Logical block length=512 bytes", "Logical blocks per physical block exponent=3"],
    ),
    ("sg_readcap --long /dev/g2", 0, &["Logical block length=4096 bytes", "67108864 bytes"]),
    ("sg_opcodes /dev/g0", 0, &["Compare and write", "Extended copy", "Persistent reserve out", "Unmap"]),
    // A file cannot promise all or nothing after a loss of power; where nothing is written, all is atomic.
    ("sg_opcodes --opcode=0x9c /dev/g0", 0, &["not supported"]),
    ("sg_opcodes /dev/g3", 0, &["Write atomic"]),
    ("sg_opcodes --rctd /dev/g0", 0, &["Inquiry"]),
    ("sg_opcodes --opcode=0x28 /dev/g0", 0, &["Usage data: 28 "]),
    ("sg_opcodes --opcode=0x9e,0x10 /dev/g0", 0, &["Usage data: 9e 10"]),
    ("sg_opcodes --opcode=0x04 --rctd /dev/g0", 0, &["Usage data: 04 "]),
    ("sg_opcodes --tmf /dev/g0", 0, &["Abort task", "Logical unit reset"]),
    (
        "sg_modes --all /dev/g0",
        0,
        &["Caching", "Control", "Read-Write error recovery", "Informational exceptions"],
    ),
    ("sg_modes --six --all /dev/g0", 0, &["Caching"]),
    ("sg_modes --all --control=1 /dev/g0", 0, &["Caching"]),
    ("sg_modes --all --control=2 /dev/g0", 0, &["Caching"]),
    ("sg_modes --all --control=3 /dev/g0", 0, &["Caching"]),
    ("sg_modes --page=0x3e /dev/g0", ILLEGAL_REQUEST, &[]),
    ("sg_logs --list /dev/g0", 0, &["Supported log pages"]),
    // There is no thermometer, and so no page 0Dh; page 0Ch is where somebody has set a threshold.
    (
        "sg_logs --list --list /dev/g0 | tee /tmp/pages; ! grep -qE '0x0[cd]' /tmp/pages",
        0,
        &["0x00,0xff", "0x02", "0x03", "0x05", "0x19", "0x2f"],
    ),
    ("sg_logs --list --list /dev/g1", 0, &["0x0c"]),
    ("sg_logs --all /dev/g1", 0, &["Logical block provisioning", "Informational exceptions"]),
    ("sg_modes --page=0x1c,0x02 /dev/g1", 0, &["Logical block provisioning"]),
    ("sg_logs --page=0x2f /dev/g0", 0, &["Informational Exceptions"]),
    ("sg_logs --page=0x33 /dev/g0", ILLEGAL_REQUEST, &[]),
    ("sg_requests /dev/g0", 0, &[]),
    ("sg_timestamp /dev/g0", 0, &[]),
    ("sg_persist --in --read-keys /dev/g0", 0, &["no registered reservation keys"]),
    ("sg_copy_results --params /dev/g0", 0, &["Maximum segment length", "copy"]),
    ("sg_senddiag --list /dev/g0", 0, &["Supported diagnostic pages"]),
    ("sg_senddiag --test /dev/g0", 0, &[]),
    // The default self-test is the one that a device has to have (SPC-5 6.42). The others would keep a
    // log of their results, for a medium that the store below watches over.
    ("sg_senddiag --selftest=5 /dev/g0 2>&1", ILLEGAL_REQUEST, &["Illegal request"]),
    ("sg_reassign --grown /dev/g0", 0, &[]),
    ("lsscsi -g", 0, &["/dev/sg0", "/dev/sg1", "/dev/sg2"]),
    ("lsscsi -s", 0, &["67.1MB"]),
    ("lsscsi -u", 0, &[]),
    ("lsscsi --long", 0, &["state=running"]),
];

/// Blocks: written, compared, unmapped, and told which they are.
const BLOCKS: &[Row] = &[
    (
        "dd if=/dev/urandom of=/tmp/random bs=64k count=1 2>/dev/null; head -c 65536 /dev/zero >/tmp/zeros; head -c 4096 /dev/zero | tr '\\0' '\\377' >/tmp/ones",
        0,
        &[],
    ),
    ("sg_dd if=/tmp/random of=/dev/g0 bs=512 seek=2048 count=128", 0, &["128+0 records out"]),
    ("sg_dd if=/dev/g0 of=/tmp/back bs=512 skip=2048 count=128 && cmp /tmp/back /tmp/random", 0, &[]),
    ("sg_get_lba_status --lba=2048 /dev/g0", 0, &["mapped"]),
    ("sg_verify --lba=2048 --count=128 /dev/g0", 0, &[]),
    ("sg_verify --16 --lba=2048 --count=128 /dev/g0", 0, &[]),
    ("sg_verify --lba=2048 --count=128 --ndo=65536 --in=/tmp/random /dev/g0", 0, &[]),
    ("sg_verify --16 --lba=2048 --count=128 --ndo=65536 --in=/tmp/random /dev/g0", 0, &[]),
    ("sg_verify --quiet --lba=2049 --count=127 --ndo=65024 --in=/tmp/random /dev/g0", MISCOMPARE, &[]),
    ("sg_verify --lba=131071 --count=2 /dev/g0", LBA_OUT_OF_RANGE, &[]),
    ("sg_unmap --force --lba=2048 --num=128 /dev/g0", 0, &[]),
    ("sg_get_lba_status --lba=2048 /dev/g0", 0, &["deallocated"]),
    ("sg_verify --lba=2048 --count=128 --ndo=65536 --in=/tmp/zeros /dev/g0", 0, &[]),
    ("sg_write_same --10 --ff --lba=4096 --num=128 --xferlen=512 /dev/g0", 0, &[]),
    ("sg_verify --16 --lba=4096 --count=128 --ebytchk=3 --in=/tmp/ones --ndo=512 /dev/g0", 0, &[]),
    (
        "sg_verify --quiet --16 --lba=4096 --count=129 --ebytchk=3 --in=/tmp/ones --ndo=512 /dev/g0",
        MISCOMPARE,
        &[],
    ),
    ("sg_write_same --16 --in=/tmp/random --lba=4096 --num=128 --xferlen=512 /dev/g0", 0, &[]),
    ("sg_verify --16 --lba=4096 --count=128 --ebytchk=3 --in=/tmp/random --ndo=512 /dev/g0", 0, &[]),
    ("sg_write_same --16 --ndob --lba=4096 --num=64 /dev/g0", 0, &[]),
    ("sg_verify --lba=4096 --count=64 --ndo=32768 --in=/tmp/zeros /dev/g0", 0, &[]),
    ("sg_write_same --16 --unmap --lba=4160 --num=64 --xferlen=512 /dev/g0", 0, &[]),
    ("sg_get_lba_status --lba=4160 /dev/g0", 0, &["deallocated"]),
    ("sg_write_verify --in=/tmp/random --lba=6144 --num=128 --ilen=65536 /dev/g0", 0, &[]),
    ("sg_write_verify --16 --in=/tmp/random --lba=6144 --num=128 --ilen=65536 /dev/g0", 0, &[]),
    ("sg_verify --lba=6144 --count=128 --ndo=65536 --in=/tmp/random /dev/g0", 0, &[]),
    ("sg_write_x --or --16 --in=/tmp/zeros --lba=6144 --num=128 --bs=512 /dev/g0", 0, &[]),
    ("sg_verify --lba=6144 --count=128 --ndo=65536 --in=/tmp/random /dev/g0", 0, &[]),
    (
        "sg_write_x --atomic=0 --16 --in=/tmp/zeros --lba=6144 --num=8 --bs=512 /dev/g0 2>&1",
        INVALID_OPCODE,
        &["Invalid opcode"],
    ),
    ("sg_verify --lba=6144 --count=128 --ndo=65536 --in=/tmp/random /dev/g0", 0, &[]),
    ("sg_write_x --atomic=0 --16 --in=/tmp/random --lba=6144 --num=8 --bs=512 /dev/g3", 0, &[]),
    ("sg_write_same --10 --lba=6144 --num=8 --xferlen=512 /dev/g0", 0, &[]),
    ("sg_verify --lba=6144 --count=8 --ndo=4096 --in=/tmp/zeros /dev/g0", 0, &[]),
    // COMPARE AND WRITE: the first half is compared, the second written.
    (
        "head -c 512 /tmp/random >/tmp/new; cat /tmp/zeros | head -c 512 >/tmp/old; cat /tmp/old /tmp/new >/tmp/pair",
        0,
        &[],
    ),
    ("sg_compare_and_write --in=/tmp/pair --lba=6144 --num=1 /dev/g0", 0, &[]),
    ("sg_verify --lba=6144 --count=1 --ndo=512 --in=/tmp/new /dev/g0", 0, &[]),
    ("sg_compare_and_write --quiet --in=/tmp/pair --lba=6144 --num=1 /dev/g0", MISCOMPARE, &[]),
    ("sg_verify --lba=6144 --count=1 --ndo=512 --in=/tmp/new /dev/g0", 0, &[]),
    ("sg_sync /dev/g0", 0, &[]),
    ("sg_sync --16 --lba=2048 --count=128 /dev/g0", 0, &[]),
    ("sg_raw /dev/g0 34 00 00 00 08 00 00 00 80 00 2>&1", 0, &[]), // PRE-FETCH(10)
    // The same with blocks of 4,096 bytes.
    ("sg_dd if=/tmp/random of=/dev/g2 bs=4096 seek=16 count=16", 0, &["16+0 records out"]),
    ("sg_dd if=/dev/g2 of=/tmp/back bs=4096 skip=16 count=16 && cmp /tmp/back /tmp/random", 0, &[]),
    ("sg_verify --lba=16 --count=16 --ndo=65536 --in=/tmp/random /dev/g2", 0, &[]),
    ("sg_write_same --16 --ff --lba=16 --num=16 --xferlen=4096 /dev/g2", 0, &[]),
    ("sg_verify --16 --lba=16 --count=16 --ebytchk=3 --in=/tmp/ones --ndo=4096 /dev/g2", 0, &[]),
    (
        "sg_unmap --force --lba=16 --num=16 /dev/g2 && sg_verify --lba=16 --count=16 --ndo=65536 --in=/tmp/zeros /dev/g2",
        0,
        &[],
    ),
];

/// Copies that the server does between its volumes.
const COPIES: &[Row] = &[
    (
        "dd if=/dev/urandom of=/tmp/mib bs=1M count=4 2>/dev/null && sg_dd if=/tmp/mib of=/dev/g0 bs=512 seek=8192 count=8192",
        0,
        &[],
    ),
    ("sg_xcopy if=/dev/g0 of=/dev/g1 bs=512 skip=8192 seek=16384 count=8192", 0, &[]),
    ("sg_dd if=/dev/g1 of=/tmp/back bs=512 skip=16384 count=8192 && cmp /tmp/back /tmp/mib", 0, &[]),
    ("ddpt --xcopy if=/dev/g0 of=/dev/g1 bs=512 skip=8192 seek=32768 count=8192", 0, &[]),
    ("sg_dd if=/dev/g1 of=/tmp/back bs=512 skip=32768 count=8192 && cmp /tmp/back /tmp/mib", 0, &[]),
    // By token (SBC-4 5.18 to 5.20, SPC-5 6.24): ddpt 0.97 sends garbage for its --odx on Debian 13, so
    // the three commands are written out: 8,192 blocks from 2000h here to C000h there, then within one.
    (
        "printf '\\0\\036\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\020\\0\\0\\0\\0\\0\\0\\040\\0\\0\\0\\040\\0\\0\\0\\0\\0' >/tmp/populate; \
         sg_raw -s 32 -i /tmp/populate /dev/g0 83 10 00 00 00 00 00 00 01 01 00 00 00 20 00 00 2>&1",
        0,
        &[],
    ),
    ("sg_raw -r 1024 -o /tmp/token /dev/g0 84 07 00 00 01 01 00 00 00 00 00 00 04 00 00 00 2>&1", 0, &[]),
    (
        "use() { printf '\\002\\046\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0'; dd if=/tmp/token bs=1 skip=38 count=512 2>/dev/null; \
         printf '\\0\\0\\0\\0\\0\\0\\0\\020\\0\\0\\0\\0\\0\\'$1'\\'$2'\\0\\0\\0\\040\\0\\0\\0\\0\\0'; }; use 000 300 >/tmp/use1; use 001 000 >/tmp/use2; wc -c </tmp/use1",
        0,
        &["552"],
    ),
    ("sg_raw -s 552 -i /tmp/use1 /dev/g1 83 11 00 00 00 00 00 00 01 02 00 00 02 28 00 00 2>&1", 0, &[]),
    ("sg_dd if=/dev/g1 of=/tmp/back bs=512 skip=49152 count=8192 && cmp /tmp/back /tmp/mib", 0, &[]),
    ("sg_raw -s 552 -i /tmp/use2 /dev/g0 83 11 00 00 00 00 00 00 01 03 00 00 02 28 00 00 2>&1", 0, &[]),
    ("sg_dd if=/dev/g0 of=/tmp/back bs=512 skip=65536 count=8192 && cmp /tmp/back /tmp/mib", 0, &[]),
    ("ddpt --xcopy if=/dev/g0 of=/dev/g1 bs=512 skip=65536 seek=65536 count=8192", 0, &[]),
    ("ddpt --verify if=/dev/g0 of=/dev/g1 iflag=pt oflag=pt bs=512 skip=8192 seek=65536 count=8192", 0, &[]),
    (
        "ddpt if=/dev/g0 of=/dev/g1 iflag=pt oflag=pt bs=512 skip=8192 seek=81920 count=8192",
        0,
        &["8192+0 records out"],
    ),
];

/// Modes, buffers, power conditions, and what else a device keeps.
const STATES: &[Row] = &[
    ("sdparm --all /dev/g0; true", 0, &["Caching", "Control", "WCE"]),
    ("sdparm --inquiry /dev/g0", 0, &["Device identification"]),
    ("sdparm --get=WCE /dev/g0", 0, &["WCE           1"]),
    ("sdparm --clear=WCE /dev/g0 && sdparm --get=WCE /dev/g0", 0, &["WCE           0"]),
    // With the write cache off, the device says so to who asks next.
    (
        "echo 1 >$(echo /sys/class/scsi_disk/*:0)/device/rescan; cat /sys/class/scsi_disk/*:0/cache_type",
        0,
        &["write through"],
    ),
    ("sdparm --set=WCE --save /dev/g0 && sdparm --get=WCE /dev/g0", 0, &["WCE           1"]),
    (
        "sdparm --clear=WCE --save /dev/g0 && sdparm --get=WCE /dev/g0",
        0,
        &["WCE           0  [cha: y, def:  1, sav:  0]"],
    ),
    ("sdparm --set=WCE --save /dev/g0 && sdparm --get=WCE /dev/g0", 0, &["WCE           1"]),
    ("sdparm --set=SWP /dev/g0", 0, &[]),
    (
        "head -c 512 /dev/zero | sg_raw -s 512 /dev/g0 2a 00 00 00 00 00 00 00 01 00 2>&1",
        DATA_PROTECT,
        &["Data protect"],
    ),
    ("sdparm --clear=SWP /dev/g0", 0, &[]),
    ("head -c 512 /dev/zero | sg_raw -s 512 /dev/g0 2a 00 00 00 00 00 00 00 01 00 2>&1", 0, &[]),
    ("sdparm --command=ready /dev/g0", 0, &["Ready"]),
    ("sdparm --command=capacity /dev/g0", 0, &["block_length: 512"]),
    // Buffers: descriptors, echo, data.
    ("sg_read_buffer --mode=desc /dev/g0", 0, &[]),
    ("sg_read_buffer --mode=echo_desc --length=4 /dev/g0", 0, &[]),
    (
        "head -c 252 /tmp/random >/tmp/echo; sg_write_buffer --mode=echo --in=/tmp/echo --length=252 /dev/g0",
        0,
        &[],
    ),
    ("sg_read_buffer --mode=echo --length=252 --raw /dev/g0 >/tmp/back && cmp /tmp/back /tmp/echo", 0, &[]),
    // Power conditions (SBC-4 4.20): stopped, the medium is not ready.
    ("sg_start --stop /dev/g0", 0, &[]),
    ("sg_raw /dev/g0 00 00 00 00 00 00 2>&1", NOT_READY, &["initializing command required"]),
    ("sg_raw -r 512 /dev/g0 28 00 00 00 00 00 00 00 01 00 2>&1", NOT_READY, &[]),
    ("sg_inq /dev/g0", 0, &[]),
    ("sg_start --start /dev/g0", 0, &[]),
    ("sg_raw -r 512 /dev/g0 28 00 00 00 00 00 00 00 01 00 2>&1", 0, &[]),
    ("sg_start --pc=2 /dev/g0", 0, &[]),
    ("sg_requests /dev/g0", 0, &["idle"]),
    ("sg_start --pc=3 /dev/g0", 0, &[]),
    ("sg_requests /dev/g0", 0, &["standby"]),
    ("sg_start --pc=1 /dev/g0", 0, &[]),
    ("sg_prevent /dev/g0 && sg_prevent --allow /dev/g0", 0, &[]),
    // A reset is told once.
    ("sg_reset --no-esc --device /dev/g0", 0, &[]),
    ("sg_raw /dev/g0 00 00 00 00 00 00 2>&1", UNIT_ATTENTION, &["reset"]),
    ("sg_raw /dev/g0 00 00 00 00 00 00 2>&1", 0, &[]),
    // The port's group, and its state from here (SPC-5 5.18).
    ("sg_rtpg --decode /dev/g0", 0, &["target port group id", "active/optimized"]),
];

/// The whole medium: formatted and sanitized. Nothing is left of what was there.
const ERASING: &[Row] = &[
    ("sg_dd if=/tmp/random of=/dev/g0 bs=512 seek=2048 count=128", 0, &[]),
    ("sg_format --format --quick --wait /dev/g0", 0, &[]),
    ("sg_verify --lba=2048 --count=128 --ndo=65536 --in=/tmp/zeros /dev/g0", 0, &[]),
    ("sg_dd if=/tmp/random of=/dev/g0 bs=512 seek=2048 count=128", 0, &[]),
    ("sg_sanitize --block --quick --wait /dev/g0", 0, &[]),
    ("sg_verify --lba=2048 --count=128 --ndo=65536 --in=/tmp/zeros /dev/g0", 0, &[]),
    (
        "head -c 512 /tmp/random >/tmp/pattern; sg_sanitize --overwrite --pattern=/tmp/pattern --ipl=512 --quick --wait /dev/g0",
        0,
        &[],
    ),
    ("sg_verify --16 --lba=0 --count=128 --ebytchk=3 --in=/tmp/pattern --ndo=512 /dev/g0", 0, &[]),
    ("sg_verify --16 --lba=130944 --count=128 --ebytchk=3 --in=/tmp/pattern --ndo=512 /dev/g0", 0, &[]),
    // Inverted between the passes: the second of two writes ones.
    ("sg_sanitize --overwrite --zero --invert --count=2 --quick --early /dev/g0", 0, &[]),
    (
        "for i in $(seq 300); do sg_raw /dev/g0 00 00 00 00 00 00 >/dev/null 2>&1 && exit 0; usleep 100000; done; exit 1",
        0,
        &[],
    ),
    ("sg_verify --16 --lba=0 --count=128 --ebytchk=3 --in=/tmp/ones --ndo=512 /dev/g0", 0, &[]),
    ("sg_sanitize --fail --quick --wait /dev/g0", 0, &[]),
    ("sg_turs /dev/g0", 0, &[]),
];

/// Sets the state of a target port group, and takes it back.
fn access_states(steps: &mut Steps, guest: &Guest) -> Result<()> {
    let shown = guest.run("sg_rtpg --decode /dev/g0", crate::guest::COMMAND_MAX)?.stdout;
    let Some(group) = shown.split("group id :").nth(1).and_then(|rest| rest.split_whitespace().next()) else {
        steps.fail(format!("sg_rtpg names no group: {shown}"));
        return Ok(());
    };
    for (word, said) in [("--active", "active/non optimized"), ("--optimized", "active/optimized")] {
        steps.one(guest, &format!("sg_stpg {word} --tp={group} /dev/g0"), 0, &[])?;
        steps.one(guest, "sg_rtpg --decode /dev/g0", 0, &[said])?;
    }
    Ok(())
}

pub fn scsi(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "scsi-tools", |site| {
        disks(site, 64).volume("null", 64).with(|volume| volume.kind = Kind::Null).disk(
            "web1",
            "disk0",
            DiskModel::Scsi,
            &["plain", "emulated", "native", "null"],
        )
    })?;
    let guest = world.boot("web1")?;
    let worker = world.worker()?;
    name_by_lun(&guest)?;
    let mut steps = Steps::new();
    for rows in [ENQUIRIES, BLOCKS, COPIES, STATES] {
        steps.all(&guest, rows)?;
    }
    access_states(&mut steps, &guest)?;
    steps.all(&guest, ERASING)?;
    let passed = steps.done()?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(format!("steps={passed}"))
}

/// LVM without udev, whose rules are not what is tested.
const LVM: &str = "lvm() { command lvm \"$@\" --config 'devices { use_devicesfile=0 } activation { udev_sync=0 udev_rules=0 } global { locking_type=1 }'; }; mkdir -p /mnt/v;";

const FILES: &str = "for n in 1 2 3 4; do seq $n 200000 | head -c 3000000; done";

pub fn volumes(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "volumes", |site| {
        disks(site, 320).disk("web1", "disk0", DiskModel::Scsi, &["plain", "emulated", "native"])
    })?;
    let guest = world.boot("web1")?;
    let worker = world.worker()?;
    name_by_lun(&guest)?;
    let mut steps = Steps::new();
    let sectors = guest
        .check("for d in /dev/d0 /dev/d1 /dev/d2; do echo $(lsblk -t -n -d -o PHY-SEC,LOG-SEC $d); done")?;
    ensure!(
        sectors.lines().collect::<Vec<_>>() == ["512 512", "4096 512", "4096 4096"],
        "lsblk shows the disks' sectors as:\n{sectors}"
    );
    block_tools(&mut steps, &guest, &world)?;
    lvm(&mut steps, &guest)?;
    raid(&mut steps, &guest)?;
    xfs(&mut steps, &guest)?;
    let passed = steps.done()?;
    no_errors(&guest)?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(format!("steps={passed} sectors=512n,512e,4Kn"))
}

fn block_tools(steps: &mut Steps, guest: &Guest, world: &World) -> Result<()> {
    steps.all(
        guest,
        &[
            ("mkfs.ext4 -q -F /dev/d0 && wipefs /dev/d0", 0, &["ext4"]),
            ("wipefs -a /dev/d0 && test -z \"$(wipefs /dev/d0)\" && blkid -p /dev/d0; test $? = 2", 0, &[]),
            ("dd if=/dev/urandom of=/dev/d0 bs=1M count=32 oflag=direct 2>&1", 0, &[]),
        ],
    )?;
    let full = world.allocated("plain")?;
    steps.all(
        guest,
        &[
            ("blkdiscard -o 0 -l 16777216 /dev/d0", 0, &[]),
            ("dd if=/dev/d0 bs=1M count=16 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c", 0, &["0\n"]),
            ("dd if=/dev/d0 bs=1M skip=16 count=1 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c | grep -v '^0$'", 0, &[]),
            ("blkdiscard -z -o 16777216 -l 16777216 /dev/d0", 0, &[]),
            ("dd if=/dev/d0 bs=1M count=32 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c", 0, &["0\n"]),
            // A disk without 512-byte blocks takes none.
            ("dd if=/dev/zero of=/dev/d2 bs=512 count=1 oflag=direct 2>&1", 1, &["Invalid argument"]),
        ],
    )?;
    let left = world.allocated("plain")?;
    steps.holds(full.saturating_sub(left) >= 16 * MIB, || {
        format!("blkdiscard of 16 MiB left {left} of {full} bytes on the host")
    });
    Ok(())
}

fn lvm(steps: &mut Steps, guest: &Guest) -> Result<()> {
    let rows: &[(&str, &[&str])] = &[
        ("lvm pvcreate -y -f /dev/d0 /dev/d1", &["successfully created"]),
        ("lvm vgcreate box /dev/d0 /dev/d1", &["successfully created"]),
        ("lvm lvcreate -y -W n -Z n -L 64m -n data box /dev/d0", &["created"]),
        ("mkfs.ext4 -q -F /dev/mapper/box-data && mount -t ext4 /dev/mapper/box-data /mnt/v", &[]),
        ("FILES >/mnt/v/file && md5sum </mnt/v/file >/tmp/sum && sync", &[]),
        // A snapshot keeps what the origin loses.
        ("lvm lvcreate -y -s -L 48m -n before box/data", &["created"]),
        ("rm /mnt/v/file && seq 1 300000 >/mnt/v/other && md5sum </mnt/v/other >/tmp/othersum && sync", &[]),
        (
            "mkdir -p /mnt/s && mount -t ext4 -o ro,noload /dev/mapper/box-before /mnt/s && md5sum </mnt/s/file | cmp - /tmp/sum; s=$?; umount /mnt/s; exit $s",
            &[],
        ),
        ("lvm lvremove -f box/before", &["removed"]),
        // The volume moves to the other disk while it is written to.
        (
            "{ n=0; while [ $n -lt 30 ]; do seq 1 20000 >/mnt/v/busy$n; sync; n=$((n+1)); done; } & lvm pvmove -i 1 /dev/d0 /dev/d1; s=$?; wait; exit $s",
            &["100.00%"],
        ),
        ("lvm pvs --noheadings -o pv_name,pv_used /dev/d0", &[" 0 "]),
        ("umount /mnt/v && e2fsck -f -n /dev/mapper/box-data", &[]),
        (
            "mount -t ext4 -o ro /dev/mapper/box-data /mnt/v && md5sum </mnt/v/other | cmp - /tmp/othersum; s=$?; umount /mnt/v; exit $s",
            &[],
        ),
        ("lvm vgremove -f box && lvm pvremove /dev/d0 /dev/d1", &["successfully wiped"]),
    ];
    for (command, words) in rows {
        let command = command.replace("FILES", &format!("{{ {FILES}; }}"));
        steps.one(guest, &format!("{LVM} {command}"), 0, words)?;
    }
    Ok(())
}

fn raid(steps: &mut Steps, guest: &Guest) -> Result<()> {
    steps.all(
        guest,
        &[
            ("mdadm --create /dev/md0 --run --metadata=1.2 --level=1 --raid-devices=2 --size=64M --bitmap=none /dev/d0 missing 2>&1", 0, &["started"]),
            ("dd if=/dev/urandom of=/tmp/mirror bs=1M count=24 2>/dev/null; dd if=/tmp/mirror of=/dev/md0 bs=1M oflag=direct 2>&1", 0, &[]),
            ("mdadm /dev/md0 --add /dev/d1 && { mdadm --wait /dev/md0; cat /proc/mdstat; }", 0, &["[UU]"]),
            ("echo check >/sys/block/md0/md/sync_action; mdadm --wait /dev/md0; cat /sys/block/md0/md/mismatch_cnt", 0, &["0\n"]),
            // The first half of the mirror goes, and the other has it all.
            ("mdadm /dev/md0 --fail /dev/d0 --remove /dev/d0 2>&1; cat /proc/mdstat", 0, &["[_U]"]),
            ("dd if=/dev/md0 bs=1M count=24 iflag=direct 2>/dev/null | cmp - /tmp/mirror", 0, &[]),
            ("mdadm --stop /dev/md0 2>&1 && mdadm --zero-superblock /dev/d0 /dev/d1; rm /tmp/mirror", 0, &[]),
        ],
    )
}

fn xfs(steps: &mut Steps, guest: &Guest) -> Result<()> {
    steps.all(
        guest,
        &[
            ("mkfs.xfs -f /dev/d2", 0, &["sectsz=4096"]),
            ("mkdir -p /mnt/x && mount -t xfs /dev/d2 /mnt/x", 0, &[]),
            ("fio --name=x --directory=/mnt/x --rw=randwrite --bs=4k --size=24m --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --do_verify=1 --output=/tmp/fio.txt || { cat /tmp/fio.txt; exit 1; }", 0, &[]),
            ("rm /mnt/x/x.* && sync && fstrim -v /mnt/x", 0, &["trimmed"]),
            ("umount /mnt/x && xfs_repair -n /dev/d2 2>&1", 0, &[]),
        ],
    )
}
