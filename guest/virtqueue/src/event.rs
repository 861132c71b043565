//! When the other side wants to be told (2.7.7, 2.7.10, 2.8.10, 2.8.21).

/// VIRTQ_AVAIL_F_NO_INTERRUPT and VIRTQ_USED_F_NO_NOTIFY.
pub const SPLIT_NO_NOTIFICATION: u16 = 1;

/// RING_EVENT_FLAGS_ENABLE, _DISABLE and _DESC.
pub const PACKED_ENABLE: u16 = 0;
pub const PACKED_DISABLE: u16 = 1;
pub const PACKED_DESC: u16 = 2;

/// Whether an index that moved from `old` to `new` passed `event` (2.7.7.1's comparison, in
/// arithmetic modulo 2^16).
#[inline(always)]
pub fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::passed;

    #[test]
    fn an_event_is_passed_once_also_across_the_end_of_the_numbers() {
        assert!(passed(5, 6, 5));
        assert!(!passed(6, 6, 5));
        assert!(!passed(4, 6, 5));
        assert!(passed(0xffff, 1, 0xfffe));
        assert!(!passed(0xfffd, 1, 0xfffe));
        assert!(!passed(5, 5, 5));
    }
}
