//! Every key that is negotiated or declared, as a row: RFC 7143 13 and 12, RFC 7144.

use alloc::string::String;
use core::num::NonZeroU32;

use crate::limits::Limits;

/// The numbers that a session runs by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    pub header_digest: bool,
    pub data_digest: bool,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    pub max_burst: u32,
    pub first_burst: u32,
    pub max_outstanding_r2t: u32,
    /// MaxRecvDataSegmentLength that the initiator declared: the most that we send.
    pub initiator_segment: u32,
    /// The one that we declared: the most that we take.
    pub target_segment: u32,
    pub protocol_level: u32,
    pub time_to_wait: u32,
    pub time_to_retain: u32,
}

impl Parameters {
    /// MaxBurstLength, to count bursts by: it is 512 at least.
    pub(crate) fn burst(&self) -> NonZeroU32 {
        NonZeroU32::new(self.max_burst).unwrap_or(NonZeroU32::MIN)
    }
}

impl Default for Parameters {
    /// What holds for a key that nobody mentions.
    fn default() -> Parameters {
        Parameters {
            header_digest: false,
            data_digest: false,
            initial_r2t: true,
            immediate_data: true,
            max_burst: 262_144,
            first_burst: 65_536,
            max_outstanding_r2t: 1,
            initiator_segment: 8192,
            target_segment: 8192,
            protocol_level: 1,
            time_to_wait: 2,
            time_to_retain: 20,
        }
    }
}

/// How two sides come to one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A list of values, most wanted first; the answer is the first that we have as well.
    List(&'static [&'static str]),
    /// Boolean, Yes if either says so.
    Or,
    /// Boolean, Yes if both say so.
    And,
    /// The smaller number; ours is at most the last one, or a limit.
    Minimum(u32, u32, Ours),
    /// The larger number; ours is 0.
    Maximum(u32, u32),
    /// A number that each side says of itself; no answer.
    DeclareNumber(u32, u32),
    /// A text that the initiator says of itself; no answer.
    DeclareText,
    /// CHAP's own, by the security stage's rules.
    Security,
    /// A request, not a negotiation.
    SendTargets,
    /// Only targets may say it.
    TargetOnly,
    /// Obsolete, 13.25: answered with this value.
    Obsolete(&'static str),
}

/// The most that we offer of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    Fixed(u32),
    Burst,
    Slot,
    Outstanding,
}

impl Ours {
    pub fn value(self, limits: &Limits) -> u32 {
        match self {
            Ours::Fixed(value) => value,
            Ours::Burst => limits.burst_bytes,
            Ours::Slot => limits.slot_bytes,
            Ours::Outstanding => u32::from(limits.r2t),
        }
    }
}

/// Where a key may appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// IO, initialisation only: the login phase, before authentication as well.
    Login,
    /// The operational stage of the login phase only (LO, and FFPO's opposite).
    Operational,
    /// The security stage only.
    Security,
    /// The operational stage and the full feature phase.
    OperationalAndLater,
    /// Any time.
    Any,
    /// The full feature phase only.
    FullFeature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: &'static str,
    pub key: Key,
    pub place: Where,
    /// Means something in a discovery session.
    pub discovery: bool,
    pub rule: Rule,
}

macro_rules! keys {
    ($($key:ident = $name:literal, $place:ident, $discovery:literal, $rule:expr;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key { $($key),* }

        /// In the order in which they are settled: FirstBurstLength hangs on four before it.
        pub const ROWS: &[Row] = &[$(Row {
            name: $name, key: Key::$key, place: Where::$place, discovery: $discovery, rule: $rule,
        }),*];
    };
}

const DIGESTS: Rule = Rule::List(&["None", "CRC32C"]);

keys! {
    InitiatorName = "InitiatorName", Login, true, Rule::DeclareText;
    InitiatorAlias = "InitiatorAlias", Any, true, Rule::DeclareText;
    SessionType = "SessionType", Login, true, Rule::DeclareText;
    TargetName = "TargetName", Login, true, Rule::DeclareText;
    TargetAlias = "TargetAlias", Any, true, Rule::TargetOnly;
    TargetAddress = "TargetAddress", Any, true, Rule::TargetOnly;
    TargetPortalGroupTag = "TargetPortalGroupTag", Login, true, Rule::TargetOnly;
    AuthMethod = "AuthMethod", Security, true, Rule::Security;
    ChapA = "CHAP_A", Security, true, Rule::Security;
    ChapI = "CHAP_I", Security, true, Rule::Security;
    ChapC = "CHAP_C", Security, true, Rule::Security;
    ChapN = "CHAP_N", Security, true, Rule::Security;
    ChapR = "CHAP_R", Security, true, Rule::Security;
    HeaderDigest = "HeaderDigest", Operational, true, DIGESTS;
    DataDigest = "DataDigest", Operational, true, DIGESTS;
    MaxRecvDataSegmentLength = "MaxRecvDataSegmentLength", OperationalAndLater, true, Rule::DeclareNumber(512, 0xff_ffff);
    MaxConnections = "MaxConnections", Operational, false, Rule::Minimum(1, 65_535, Ours::Fixed(1));
    InitialR2T = "InitialR2T", Operational, false, Rule::Or;
    ImmediateData = "ImmediateData", Operational, false, Rule::And;
    MaxBurstLength = "MaxBurstLength", Operational, false, Rule::Minimum(512, 0xff_ffff, Ours::Burst);
    FirstBurstLength = "FirstBurstLength", Operational, false, Rule::Minimum(512, 0xff_ffff, Ours::Slot);
    DefaultTime2Wait = "DefaultTime2Wait", Operational, true, Rule::Maximum(0, 3600);
    DefaultTime2Retain = "DefaultTime2Retain", Operational, true, Rule::Minimum(0, 3600, Ours::Fixed(0));
    MaxOutstandingR2T = "MaxOutstandingR2T", Operational, false, Rule::Minimum(1, 65_535, Ours::Outstanding);
    DataPDUInOrder = "DataPDUInOrder", Operational, false, Rule::Or;
    DataSequenceInOrder = "DataSequenceInOrder", Operational, false, Rule::Or;
    ErrorRecoveryLevel = "ErrorRecoveryLevel", Operational, true, Rule::Minimum(0, 2, Ours::Fixed(0));
    TaskReporting = "TaskReporting", Operational, false, Rule::List(&["RFC3720"]);
    ProtocolLevel = "iSCSIProtocolLevel", Operational, true, Rule::Minimum(0, 31, Ours::Fixed(2));
    NodeArchitecture = "X#NodeArchitecture", Any, true, Rule::DeclareText;
    IFMarker = "IFMarker", Operational, true, Rule::Obsolete("No");
    OFMarker = "OFMarker", Operational, true, Rule::Obsolete("No");
    IFMarkInt = "IFMarkInt", Operational, true, Rule::Obsolete("Reject");
    OFMarkInt = "OFMarkInt", Operational, true, Rule::Obsolete("Reject");
    SendTargets = "SendTargets", FullFeature, true, Rule::SendTargets;
}

/// Key names are case-sensitive, 6.1.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Whether a text is an iSCSI name, 4.2.7: `iqn.`, `eui.` or `naa.`, printable, not too long.
pub fn is_name(name: &str) -> bool {
    if name.len() > crate::limits::NAME_MAX_BYTES {
        return false;
    }
    let lower: String = name.chars().take(4).flat_map(char::to_lowercase).collect();
    let hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let rest = name.get(4..).unwrap_or("");
    match lower.as_str() {
        "iqn." => {
            !rest.is_empty()
                && rest.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, ',' | '/'))
        }
        "eui." => rest.len() == 16 && hex(rest),
        "naa." => matches!(rest.len(), 16 | 32) && hex(rest),
        _ => false,
    }
}
