//! Messages that were not followed, by name.

use crate::numbers::*;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal, $errno:ident;)*) => {
        /// A message that was not followed: the operator's counter, and the error of the reply if
        /// one was due.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault { $($(#[$doc])* $fault,)* }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$fault,)*];

            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => concat!("vfio_user_", $name),)* }
            }

            /// The error that a reply carries.
            pub fn errno(self) -> u32 {
                match self { $(Fault::$fault => $errno,)* }
            }
        }
    };
}

faults! {
    UnknownCommand = "unknown_command", ENOTSUP;
    /// A payload that is not what the command has.
    Malformed = "malformed", EINVAL;
    /// Longer than any message that is looked at.
    Oversize = "oversize", E2BIG;
    /// Something before VERSION, or VERSION a second time.
    OutOfOrder = "out_of_order", EINVAL;
    BadVersion = "bad_version", EINVAL;
    BadCapabilities = "bad_capabilities", EINVAL;
    /// More descriptors than the command has.
    ExtraDescriptors = "extra_descriptors", EINVAL;
    BadMap = "bad_map", EINVAL;
    MapExists = "map_exists", EEXIST;
    TooManyMaps = "too_many_maps", ENOSPC;
    NoSuchMap = "no_such_map", ENOENT;
    /// DMA_UNMAP that asks for a bitmap: no version of the specification that we offer has it.
    BadUnmap = "bad_unmap", EINVAL;
    NoSuchRegion = "no_such_region", EINVAL;
    /// An access that is not wholly within its region, or a write to one that cannot be written.
    OutOfRegion = "out_of_region", EINVAL;
    TooMuchData = "too_much_data", E2BIG;
    /// A read that nobody waits for.
    PostedRead = "posted_read", EINVAL;
    NoSuchIrq = "no_such_irq", EINVAL;
    BadIrqSet = "bad_irq_set", EINVAL;
    NoSuchFeature = "no_such_feature", ENOTTY;
    BadTransition = "bad_transition", EINVAL;
    /// Data of a device's state when none is due.
    NotMigrating = "not_migrating", EINVAL;
    StateTooLong = "state_too_long", ENOSPC;
    BadLog = "bad_log", EINVAL;
    /// An answer to something that was not asked.
    UnexpectedReply = "unexpected_reply", EINVAL;
}
