//! What is offered over iSCSI: portals, targets, and who may log in.

use super::{Luns, Site};
use crate::secret::Secret;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{ArrayBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// Sessions that one target may have at a time.
pub const SESSIONS_MAX: u16 = 1024;

/// RFC 7143, 4.2.7.1.
const NAME_BYTES_MAX: usize = 223;

/// The port that IANA keeps for iSCSI (RFC 7143, 4.2.7.3 and 14).
const PORT_DEFAULT: u16 = 3260;

/// An address that initiators connect to. Each portal is a portal group, a
/// target port and an ALUA target port group of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    pub listen: Listen,
}

/// An iSCSI target: volumes for other hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name for initiators.
    pub iqn: IscsiName,
    /// The portals at which it can be found.
    #[serde(default)]
    pub portals: TargetPortals,
    /// Its volumes by LUN.
    #[serde(default)]
    pub luns: Luns,
    /// Sessions at a time, 1 to 1024.
    #[serde(default = "default_sessions_max")]
    pub sessions_max: u16,
    /// Also initiators that `allow` does not name may log in, to all LUNs.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub open: bool,
    /// How initiators prove who they are, unless their entry in `allow` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
    /// How the target proves itself to them, unless their entry says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<Chap>,
    /// Who may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Allow>,
}

fn default_sessions_max() -> u16 {
    64
}

impl Target {
    /// A target with nothing but its name: nobody may log in, and there would
    /// be nothing to find.
    pub fn new(iqn: IscsiName) -> Self {
        Self {
            iqn,
            portals: TargetPortals::default(),
            luns: Luns::default(),
            sessions_max: default_sessions_max(),
            open: false,
            chap: None,
            mutual: None,
            allow: Vec::new(),
        }
    }
}

/// An initiator that may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    pub initiator: IscsiName,
    /// The LUNs that it sees; by default all of the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub luns: Option<Vec<u16>>,
    /// How it proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
    /// How the target proves itself to it; only with `chap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<Chap>,
}

/// A user name and where its secret is. Over the API the secret itself can be
/// given: the daemon then keeps it in a file of its own, which answers name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Chap {
    pub user: String,
    /// A file that only its owner, or its group, can read: one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub secret_file: Option<PathBuf>,
    /// Goes in over the API, and never comes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(write_only)]
    pub secret: Option<Secret>,
}

/// How good a path to a volume is: its asymmetric access state (SPC-5, 5.15.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// Active/optimized.
    #[default]
    Active,
    /// Active/non-optimized: works, and initiators prefer another.
    NonOptimized,
    /// Standby: no reads and writes.
    Standby,
}

impl PathState {
    const ALL: [PathState; 3] = [PathState::Active, PathState::NonOptimized, PathState::Standby];

    pub(crate) fn name(self) -> &'static str {
        match self {
            PathState::Active => "active",
            PathState::NonOptimized => "non-optimized",
            PathState::Standby => "standby",
        }
    }
}

impl fmt::Display for PathState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PathState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = PathState::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| format!("`{text}` is no state of a path; write active, non-optimized or standby"))
    }
}

/// An address and a TCP port: `192.0.2.1:3260`, `[2001:db8::1]:3260`; without
/// a port 3260.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen(pub SocketAddr);

impl Listen {
    /// The two cannot be listened at together.
    pub(crate) fn overlaps(self, other: Listen) -> bool {
        let (a, b) = (self.0, other.0);
        // An IPv6 socket of ours takes no IPv4 connections.
        a.port() == b.port()
            && a.is_ipv4() == b.is_ipv4()
            && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let alone = || bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT_DEFAULT));
        let address = text.parse().ok().or_else(alone).ok_or_else(|| {
            format!(
                "`{text}` is not an address to listen at; write an IP address and a port, such as \"192.0.2.1:3260\", \"[2001:db8::1]:3260\" or \"0.0.0.0:3260\""
            )
        })?;
        if address.port() == 0 {
            return Err(
                "port 0 is no port; write 3260, which initiators try by themselves, or another".to_owned()
            );
        }
        if address.ip().is_multicast() {
            return Err(format!(
                "`{text}` is a multicast address; write an address of one of this host's interfaces"
            ));
        }
        Ok(Listen(address))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a target or an initiator (RFC 7143, 4.2.7), in lower case, as
/// names are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IscsiName(String);

impl IscsiName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `iqn.`, the year and month in which somebody owned a domain, the domain
/// from its end, and what they like after a colon (RFC 7143, 4.2.7.4).
fn is_iqn(rest: &str) -> bool {
    let (authority, _) = rest.split_once(':').unwrap_or((rest, ""));
    let Some((date, domain)) = authority.split_once('.') else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let dated = date.split_once('-').is_some_and(|(year, month)| {
        year.len() == 4
            && digits(year)
            && month.len() == 2
            && digits(month)
            && month.parse::<u8>().is_ok_and(|month| (1..=12).contains(&month))
    });
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    dated && domain.split('.').all(label)
}

impl FromStr for IscsiName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{text}` is not an iSCSI name: {why}; write iqn., the year and month in which you had a domain, the domain from its end, a colon and a name, such as \"iqn.2026-11.org.example:backup\" (eui. and naa. names are taken too)"
            )
        };
        // The mapping of RFC 3722 folds case; of ASCII nothing else is left to it.
        let name = text.to_ascii_lowercase();
        if name.len() > NAME_BYTES_MAX {
            return Err(wrong("it has more than 223 bytes"));
        }
        // An underscore is outside of RFC 3722, but Windows puts it into names of initiators.
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte)) {
            return Err(wrong("it can have a to z, 0 to 9, `-`, `.` and `:`"));
        }
        let hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(rest) = name.strip_prefix("iqn.") {
            if !is_iqn(rest) {
                return Err(wrong("after iqn. come a date like 2026-11 and a domain"));
            }
        } else if let Some(digits) = name.strip_prefix("eui.") {
            if digits.len() != 16 || !hex(digits) {
                return Err(wrong("after eui. come 16 hex digits"));
            }
        } else if let Some(digits) = name.strip_prefix("naa.") {
            if ![16, 32].contains(&digits.len()) || !hex(digits) {
                return Err(wrong("after naa. come 16 or 32 hex digits"));
            }
        } else {
            return Err(wrong("it begins with iqn., eui. or naa."));
        }
        Ok(IscsiName(name))
    }
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

super::values::text_form! {
    Listen, "an address and a port such as \"192.0.2.1:3260\"", "^[0-9a-fA-F.:%\\[\\]]+$";
    IscsiName, "an iSCSI name such as \"iqn.2026-11.org.example:backup\"", "^([iI][qQ][nN]|[eE][uU][iI]|[nN][aA][aA])\\.[-.:_a-zA-Z0-9]+$";
}

/// The portals of a target: a list of names, or a table that gives each the
/// state of its path: `{ a = "active", b = "standby" }`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetPortals(pub BTreeMap<String, PathState>);

impl Serialize for TargetPortals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.0)
    }
}

impl<'de> Deserialize<'de> for TargetPortals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortalsVisitor;
        impl<'de> Visitor<'de> for PortalsVisitor {
            type Value = TargetPortals;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of portals, or a table from portal to the state of its path")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TargetPortals, A::Error> {
                let mut portals = BTreeMap::new();
                while let Some(name) = seq.next_element::<String>()? {
                    let again = format!("portal `{name}` is given twice; write it once");
                    if portals.insert(name, PathState::Active).is_some() {
                        return Err(de::Error::custom(again));
                    }
                }
                Ok(TargetPortals(portals))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TargetPortals, A::Error> {
                let mut portals = BTreeMap::new();
                while let Some((name, state)) = map.next_entry::<String, PathState>()? {
                    let again = format!("portal `{name}` is given twice; write it once");
                    if portals.insert(name, state).is_some() {
                        return Err(de::Error::custom(again));
                    }
                }
                Ok(TargetPortals(portals))
            }
        }
        deserializer.deserialize_any(PortalsVisitor)
    }
}

impl ToSchema for TargetPortals {}
impl PartialSchema for TargetPortals {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let states = PathState::ALL.map(PathState::name);
        OneOfBuilder::new()
            .item(
                ObjectBuilder::new()
                    .description(Some("From portal to the state of its path; answers have this form."))
                    .additional_properties(Some(text().enum_values(Some(states)))),
            )
            .item(ArrayBuilder::new().items(text()).description(Some("Portals, all active.")))
            .into()
    }
}

impl Target {
    /// All credentials that it names.
    fn credentials(&self) -> impl Iterator<Item = &Chap> {
        let own = self.chap.iter().chain(&self.mutual);
        own.chain(self.allow.iter().flat_map(|entry| entry.chap.iter().chain(&entry.mutual)))
    }

    fn credentials_mut(&mut self) -> impl Iterator<Item = &mut Chap> {
        let own = self.chap.iter_mut().chain(&mut self.mutual);
        own.chain(self.allow.iter_mut().flat_map(|entry| entry.chap.iter_mut().chain(&mut entry.mutual)))
    }
}

impl Site {
    pub(crate) fn credentials(&self) -> impl Iterator<Item = &Chap> {
        self.target.values().flat_map(Target::credentials)
    }

    pub(crate) fn credentials_mut(&mut self) -> impl Iterator<Item = &mut Chap> {
        self.target.values_mut().flat_map(Target::credentials_mut)
    }
}

/// What [`super::Identity`] knows a target's port at a portal by.
pub(crate) fn port_key(target: &str, portal: &str) -> String {
    // No name has a slash.
    format!("{target}/{portal}")
}
