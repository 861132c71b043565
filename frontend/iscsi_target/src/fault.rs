//! What an initiator can do wrong, and what was refused, each under the name of its counter.

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal;)*) => {
        /// A rule that an initiator broke, or a limit that it met.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault { $($(#[$doc])* $fault),* }

        impl Fault {
            pub const ALL: &'static [Fault] = &[$(Fault::$fault),*];
            pub const COUNT: usize = Self::ALL.len();

            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name),* }
            }
        }
    };
}

faults! {
    /// The first PDU of a connection is not a login request.
    NotALogin = "not_a_login";
    /// A login took longer than it may.
    LoginTimeout = "login_timeout";
    LoginTooManyRequests = "login_too_many_requests";
    /// Stages, flags or constant fields of a login request break the rules of RFC 7143 11.12.
    LoginMalformed = "login_malformed";
    LoginVersion = "login_version";
    LoginMissingKey = "login_missing_key";
    LoginNoTarget = "login_no_target";
    LoginTargetRemoved = "login_target_removed";
    LoginNotAllowed = "login_not_allowed";
    LoginAuthentication = "login_authentication";
    /// The initiator sent our own challenge back to us, or uses one secret for both directions.
    ChapReflected = "chap_reflected";
    LoginSessionType = "login_session_type";
    LoginNoSession = "login_no_session";
    LoginTooManyConnections = "login_too_many_connections";
    LoginNoResources = "login_no_resources";
    TextMalformed = "text_malformed";
    TextTooLong = "text_too_long";
    TextTooManyRequests = "text_too_many_requests";
    KeyRepeated = "key_repeated";
    BadValue = "bad_value";
    HeaderDigest = "header_digest";
    DataDigest = "data_digest";
    UnknownOpcode = "unknown_opcode";
    /// An additional header segment that is malformed.
    BadAdditionalHeader = "bad_additional_header";
    SegmentTooLong = "segment_too_long";
    UnexpectedDataSegment = "unexpected_data_segment";
    CommandOutsideWindow = "command_outside_window";
    CommandRepeated = "command_repeated";
    TagInUse = "tag_in_use";
    /// A request whose initiator task tag is the one that names nothing.
    ReservedTag = "reserved_tag";
    TooManyImmediate = "too_many_immediate";
    BothDirections = "both_directions";
    BadFlags = "bad_flags";
    /// More unsolicited data than FirstBurstLength or the negotiated keys allow.
    UnsolicitedData = "unsolicited_data";
    /// Data-Out for a task that has ended, or that never was.
    DataForNoTask = "data_for_no_task";
    /// DataSN, buffer offset or length do not go on where the last PDU ended.
    DataOutOfOrder = "data_out_of_order";
    DataAmount = "data_amount";
    SnackRefused = "snack_refused";
    UnknownFunction = "unknown_function";
    TaskReassign = "task_reassign";
    LogoutReason = "logout_reason";
    NopMalformed = "nop_malformed";
    NopTimeout = "nop_timeout";
    LogoutTimeout = "logout_timeout";
    /// A discovery session asked for something else than discovery.
    NotInDiscovery = "not_in_discovery";
    WaitingForLogout = "waiting_for_logout";
    HungUp = "hung_up";
    Displaced = "displaced";
}
