//! What to log in with.

use std::time::Duration;

use super::chap::Algorithm;
use super::url::Url;

/// A name with its secret, for CHAP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub secret: Vec<u8>,
}

/// A login: the keys that are offered, as they are offered, and how long to wait for the target.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port`.
    pub portal: String,
    pub initiator_name: String,
    pub initiator_alias: Option<String>,
    /// `None`: a discovery session.
    pub target_name: Option<String>,
    pub isid: [u8; 6],
    /// Other than 0: another connection of that session.
    pub tsih: u16,
    pub cid: u16,
    /// What we prove who we are with; `None`: AuthMethod=None is offered.
    pub chap: Option<Credentials>,
    /// What the target has to prove who it is with.
    pub mutual: Option<Credentials>,
    /// Also offer to do without authentication, where `chap` is given.
    pub offer_none: bool,
    pub chap_algorithms: Vec<Algorithm>,
    /// Begin with operational parameters, without a security stage.
    pub skip_security: bool,
    /// Values of HeaderDigest and DataDigest in their order, such as `CRC32C,None`.
    pub header_digest: String,
    pub data_digest: String,
    pub max_connections: u16,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    /// What we take in one PDU.
    pub max_recv_data_segment_length: u32,
    pub max_burst_length: u32,
    pub first_burst_length: u32,
    pub default_time2wait: u16,
    pub default_time2retain: u16,
    pub max_outstanding_r2t: u16,
    pub data_pdu_in_order: bool,
    pub data_sequence_in_order: bool,
    pub error_recovery_level: u8,
    /// Keys that are offered beside these, with the operational ones. Their answers are in
    /// `Negotiated::answers`.
    pub further_keys: Vec<(String, String)>,
    pub timeout: Duration,
    /// Overlook what peers do against the rules without harm: Data-In sequences above
    /// MaxBurstLength, wrong ExpDataSN, a connection that stays open after a logout.
    pub tolerant: bool,
}

impl Options {
    /// The defaults offer what lets most data through at once: no R2T for the first burst, large
    /// bursts and segments, no digests.
    pub fn new(portal: &str, target_name: &str) -> Options {
        Options {
            portal: portal.into(),
            initiator_name: "iqn.2026-11.org.standpipe:load".into(),
            initiator_alias: None,
            target_name: Some(target_name.into()),
            // Type 80h: random (RFC 7143 11.12.5).
            isid: [0x80, 0, 0, 1, 0, 0],
            tsih: 0,
            cid: 0,
            chap: None,
            mutual: None,
            offer_none: false,
            chap_algorithms: vec![Algorithm::Md5],
            skip_security: false,
            header_digest: "None".into(),
            data_digest: "None".into(),
            max_connections: 1,
            initial_r2t: false,
            immediate_data: true,
            max_recv_data_segment_length: 256 << 10,
            max_burst_length: 1 << 20,
            first_burst_length: 256 << 10,
            default_time2wait: 2,
            default_time2retain: 0,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            further_keys: Vec::new(),
            timeout: Duration::from_secs(10),
            tolerant: false,
        }
    }

    /// A discovery session.
    pub fn discovery(portal: &str) -> Options {
        Options { target_name: None, ..Options::new(portal, "") }
    }

    pub fn from_url(url: &Url) -> Options {
        let mut options = Options::new(&url.portal, &url.target);
        options.chap = url.credentials.clone();
        options
    }
}
