//! Why a frame did not get on: reasons with the names of an operator's counters.

/// An enumeration with a name for each of its values.
#[macro_export]
macro_rules! reasons {
    ($(#[$enum_doc:meta])* $kind:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $kind { $($(#[$doc])* $variant,)* }

        impl $kind {
            pub const ALL: &[$kind] = &[$($kind::$variant,)*];
            pub const COUNT: usize = $kind::ALL.len();

            /// The operator's counter.
            pub fn name(self) -> &'static str {
                match self { $($kind::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// Why a frame that a driver posted goes nowhere: its own fault each time.
    Drop {
        /// Shorter than the virtio and Ethernet headers.
        Runt = "runt",
        /// Longer than `FRAME_MAX`.
        TooLong = "too_long",
        /// A virtio header that contradicts itself.
        BadHeader = "bad_header",
        /// An offload that the driver did not accept.
        NotNegotiated = "not_negotiated",
        /// The chain's memory was taken away.
        BadMemory = "bad_memory",
    }
}

reasons! {
    /// Why a frame was not delivered. Nothing was changed: the same buffers serve the next one.
    Refused {
        /// The driver posted too few buffers for now.
        NoBuffer = "no_buffer",
        /// The frame does not fit into the buffers that this driver posts.
        BufferTooSmall = "buffer_too_small",
        /// The driver cannot take what the sender left undone. Not an end: the frame is to come
        /// again, finished.
        Offload = "offload",
        /// The driver's filters do not want it.
        Filtered = "filtered",
        /// The sender's or the receiver's memory was taken away.
        BadMemory = "bad_memory",
        /// The queue is broken.
        Broken = "broken",
        /// Not a frame: shorter than its header or tag, or with a header longer than `HEADER_MAX`.
        Malformed = "malformed",
    }
}
