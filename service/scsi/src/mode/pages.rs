//! The mode pages: what each says now, and which of its bits MODE SELECT may change.

use super::Values;
use crate::profile::Kind;
use crate::unit::Unit;

/// The longest page: power condition.
pub(super) const PAGE_MAX_BYTES: usize = 40;

pub(super) type Bytes = [u8; PAGE_MAX_BYTES];

/// One page, or one subpage of it.
pub(super) struct Page {
    pub code: u8,
    pub subpage: u8,
    pub len: usize,
    pub has: fn(&Unit) -> bool,
    /// The whole page behind its header of two bytes, or of four in a subpage.
    current: fn(&Unit, Values, &mut Bytes),
    /// Bits that MODE SELECT may change; these are saved too (PS).
    changeable: Option<fn(&Unit, &mut Bytes)>,
    /// Takes over the changeable bits of a page that was found good.
    pub apply: fn(&mut Values, &[u8]),
}

const PAGE: Page = Page {
    code: 0,
    subpage: 0,
    len: 12,
    has: |_| true,
    current: |_, _, _| {},
    changeable: None,
    apply: |_, _| {},
};

/// Ascending by page code and subpage code.
pub(super) static PAGES: [Page; 9] = [
    // Read-write error recovery, SBC-4; of a CD, read error recovery. No recovery by this unit, no
    // retries to set.
    Page { code: 0x01, ..PAGE },
    // Disconnect-reconnect, SPC-5: no limit of any kind.
    Page { code: 0x02, len: 16, has: is_disk, ..PAGE },
    Page {
        code: 0x08,
        len: 20,
        has: is_disk,
        current: caching,
        changeable: Some(caching_changeable),
        apply: caching_apply,
        ..PAGE
    },
    Page { code: 0x0a, current: control, changeable: Some(control_changeable), apply: control_apply, ..PAGE },
    Page { code: 0x0a, subpage: 0x01, len: 32, current: control_extension, ..PAGE },
    // Power condition, SPC-5: no timer is enabled.
    Page { code: 0x1a, len: 40, has: is_disk, ..PAGE },
    // Informational exceptions control, SPC-5: DEXCPT, there are no informational exceptions to report.
    Page { code: 0x1c, current: |_, _, page| page[2] = 0x08, ..PAGE },
    Page { code: 0x1c, subpage: 0x02, len: 24, has: has_threshold, current: provisioning, ..PAGE },
    Page { code: 0x2a, len: 22, has: |unit| !is_disk(unit), current: capabilities, ..PAGE },
];

impl Page {
    /// PS, SPF, PAGE CODE, PAGE LENGTH.
    fn header(&self, unit: &Unit) -> Bytes {
        let mut page = [0; PAGE_MAX_BYTES];
        page[0] = self.code;
        if self.saves(unit) {
            page[0] |= 0x80;
        }
        if self.subpage == 0 {
            page[1] = (self.len - 2) as u8; // at most PAGE_MAX_BYTES
        } else {
            page[0] |= 0x40;
            page[1] = self.subpage;
            page[3] = (self.len - 4) as u8;
        }
        page
    }

    pub fn bytes(&self, unit: &Unit, values: Values) -> Bytes {
        let mut page = self.header(unit);
        (self.current)(unit, values, &mut page);
        page
    }

    /// Ones where MODE SELECT may change something.
    pub fn mask(&self, unit: &Unit) -> Bytes {
        let mut mask = self.header(unit);
        if let Some(changeable) = self.changeable {
            changeable(unit, &mut mask);
        }
        mask
    }

    fn saves(&self, unit: &Unit) -> bool {
        let mut mask = [0; PAGE_MAX_BYTES];
        if let Some(changeable) = self.changeable {
            changeable(unit, &mut mask);
        }
        mask != [0; PAGE_MAX_BYTES]
    }

    /// Bytes of the header, which MODE SELECT has checked by itself.
    pub fn body(&self) -> usize {
        if self.subpage == 0 { 2 } else { 4 }
    }
}

fn is_disk(unit: &Unit) -> bool {
    unit.profile.kind == Kind::Disk
}

/// WCE of the caching page, byte 2.
const WCE: u8 = 0x04;

/// Caching, SBC-4.
fn caching(unit: &Unit, values: Values, page: &mut Bytes) {
    if unit.facts.write_cache && !values.write_cache_off {
        page[2] |= WCE;
    }
}

/// A unit without a volatile cache cannot be told to have one.
fn caching_changeable(unit: &Unit, mask: &mut Bytes) {
    if unit.facts.write_cache {
        mask[2] = WCE;
    }
}

fn caching_apply(values: &mut Values, page: &[u8]) {
    values.write_cache_off = page[2] & WCE == 0;
}

/// D_SENSE of the control page, byte 2, and SWP, byte 4.
const D_SENSE: u8 = 0x04;
const SWP: u8 = 0x08;

/// Control, SPC-5: GLTSD (log parameters are not saved), QUEUE ALGORITHM MODIFIER unrestricted
/// (commands end in any order), TAS (who did not abort a task is told by its status), BUSY TIMEOUT
/// PERIOD unlimited.
fn control(_: &Unit, values: Values, page: &mut Bytes) {
    page[2] = 0x02;
    if values.descriptor_sense {
        page[2] |= D_SENSE;
    }
    page[3] = 0x10;
    if values.write_protect {
        page[4] |= SWP;
    }
    page[5] = 0x40;
    page[8..10].copy_from_slice(&[0xff, 0xff]);
}

fn control_changeable(unit: &Unit, mask: &mut Bytes) {
    mask[2] = D_SENSE;
    if is_disk(unit) {
        mask[4] = SWP;
    }
}

fn control_apply(values: &mut Values, page: &[u8]) {
    values.descriptor_sense = page[2] & D_SENSE != 0;
    values.write_protect = page[4] & SWP != 0;
}

/// Control extension, SPC-5: TCMOS (the clock of the host goes its own way), IALUAE (the owner may
/// change access states).
fn control_extension(_: &Unit, _: Values, page: &mut Bytes) {
    page[4] = 0x05;
}

pub(crate) fn has_threshold(unit: &Unit) -> bool {
    is_disk(unit) && unit.facts.discard.is_some() && unit.profile.thin_threshold_percent.is_some()
}

/// Logical block provisioning, SBC-4: one descriptor, of the soft threshold that the owner set.
fn provisioning(unit: &Unit, _: Values, page: &mut Bytes) {
    let percent = u64::from(unit.profile.thin_threshold_percent.unwrap_or(100)).min(100);
    let blocks = u128::from(unit.facts.blocks.0) * u128::from(percent) / 100;
    let count = blocks >> threshold_exponent(unit);
    // ENABLED, THRESHOLD TYPE soft, THRESHOLD ARMING increasing; THRESHOLD RESOURCE: used LBA mapping.
    page[16] = 0x81;
    page[17] = 0x02;
    page[20..24].copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

/// THRESHOLD EXPONENT: a threshold set is so many powers of two blocks. The smallest with which every
/// count fits its field; at least one, as zero would mean that there are no thresholds.
pub(crate) fn threshold_exponent(unit: &Unit) -> u8 {
    let bits = 64 - unit.facts.blocks.0.leading_zeros();
    bits.saturating_sub(32).max(1) as u8 // at most 32
}

/// MM capabilities and mechanical status, MMC-6 annex (a page of earlier versions that drivers
/// still ask for): a tray that can be locked and opened, which reads CD-R, CD-RW and DVD-ROM.
fn capabilities(unit: &Unit, _: Values, page: &mut Bytes) {
    /// Forty times the speed of an audio CD, in 1,000 bytes a second. Nobody is held to it.
    const SPEED: [u8; 2] = 7056u16.to_be_bytes();
    page[2] = 0x0b;
    page[4] = 0x30; // Mode 2, forms 1 and 2
    // LOADING MECHANISM TYPE tray, EJECT, LOCK; LOCK STATE as it is.
    page[6] = 0x29;
    if unit.removable.is_locked() {
        page[6] |= 0x02;
    }
    page[8..10].copy_from_slice(&SPEED);
    page[14..16].copy_from_slice(&SPEED);
}
