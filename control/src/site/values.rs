//! Values that have a text form of their own: sizes, MAC addresses, slot
//! names, volume names for SCSI.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// A number of bytes: `20GiB`, `512MiB`, `1048576`. Written as plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

const UNITS: [(&str, u32); 5] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("PiB", 50)];

impl Size {
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let unit = unit.trim_start();
        let wrong = || {
            format!(
                "`{text}` is not a size; write a whole number with a unit, such as \"512MiB\", \"20GiB\" or \"1TiB\", or plain bytes"
            )
        };
        if number.is_empty() {
            return Err(wrong());
        }
        let shift = if unit.is_empty() || unit == "B" {
            0
        } else {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit) || name[..1].eq_ignore_ascii_case(unit))
                .map(|(_, shift)| *shift)
                .ok_or_else(wrong)?
        };
        let too_large = || format!("`{text}` is more than a volume can have (8EiB)");
        let number: u64 = number.parse().map_err(|_| too_large())?;
        number
            .checked_mul(1 << shift)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Size)
            .ok_or_else(too_large)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, shift) in UNITS.iter().rev() {
            if self.0 != 0 && self.0.trailing_zeros() >= *shift {
                return f.pad(&format!("{}{name}", self.0 >> shift));
            }
        }
        f.pad(&self.0.to_string())
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"20GiB\", or a number of bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                bytes.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                bytes.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl ToSchema for Size {}
impl PartialSchema for Size {
    fn schema() -> RefOr<Schema> {
        let integer =
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).description(Some("Bytes."));
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A whole number and KiB, MiB, GiB, TiB or PiB."));
        OneOfBuilder::new()
            .item(integer)
            .item(text)
            .description(Some("A size; answers always carry bytes."))
            .into()
    }
}

/// An Ethernet address, `52:54:00:aa:bb:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that a slot has when none is given: a function of its name
    /// alone, so that it is the same after every restart and on every host.
    /// 46 bits of FNV-1a; unicast and locally administered (IEEE 802-2014, 8.4).
    pub fn derived(vm: &str, slot: &str) -> Self {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in vm.bytes().chain([b'.']).chain(slot.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // FNV's low bits are its good ones; fold the high half into them.
        hash ^= hash >> 47;
        let b = hash.to_le_bytes();
        Mac([(b[5] & 0xfc) | 0x02, b[4], b[3], b[2], b[1], b[0]])
    }

    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a MAC address; write six pairs of hex digits, such as \"52:54:00:aa:bb:01\""
            )
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Mac(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A volume's name for SCSI: 16 bytes, NAA IEEE Registered Extended (6h),
/// written as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Naa(pub [u8; 16]);

impl Naa {
    /// A fresh name from 16 random bytes. We own no IEEE company id, so the
    /// company id is one with the locally administered bit set and the group
    /// bit clear; the rest stays random.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[0] = 0x60 | (bytes[0] & 0x0f);
        // The company id's first octet is the low nibble of byte 0 and the
        // high nibble of byte 1; its two lowest bits are U/L and I/G.
        bytes[1] = (bytes[1] & 0xcf) | 0x20;
        Naa(bytes)
    }

    /// The serial number that a volume has when none is given: the last 8
    /// bytes in hex, short enough for virtio-blk's 20 byte identity.
    pub fn serial(&self) -> String {
        self.0[8..].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl FromStr for Naa {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("naa.").unwrap_or(text);
        let mut bytes = [0; 16];
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) || !digits.starts_with('6') {
            return Err(format!(
                "`{text}` is not an NAA name; write 32 hex digits that begin with 6, or leave it out and one is made"
            ));
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|e| e.to_string())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|e| e.to_string())?;
        }
        Ok(Naa(bytes))
    }
}

impl fmt::Display for Naa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Where a VM plugs in: `web1.disk0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    pub vm: String,
    pub slot: String,
}

impl SlotId {
    pub fn new(vm: impl Into<String>, slot: impl Into<String>) -> Self {
        Self { vm: vm.into(), slot: slot.into() }
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.vm, self.slot)
    }
}

impl FromStr for SlotId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('.') {
            Some((vm, slot)) if is_vm_name(vm) && is_slot_name(slot) => Ok(SlotId::new(vm, slot)),
            _ => Err(format!("`{text}` is not a slot; write VM.SLOT, such as web1.disk0 or web1.nic0")),
        }
    }
}

/// A share of a whole: `80%`, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

impl Percent {
    pub fn get(self) -> u8 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
        number.filter(|number| (1..=100).contains(number)).map(Percent).ok_or_else(|| {
            format!("`{text}` is not a share; write 1 to 100 with a percent sign, such as \"80%\"")
        })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// `[a-z0-9][a-z0-9._-]*`, at most 63 characters.
pub fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

/// A name without a dot, because `VM.SLOT` must divide in one way only.
pub fn is_vm_name(text: &str) -> bool {
    is_name(text) && !text.contains('.')
}

/// `diskN` or `nicN`, N without leading zeros, at most 255.
pub fn is_slot_name(text: &str) -> bool {
    let number = text.strip_prefix("disk").or(text.strip_prefix("nic"));
    number.is_some_and(|n| n.parse::<u8>().is_ok_and(|parsed| parsed.to_string() == n))
}

/// Serde and the schema of a type that is written as text.
macro_rules! text_form {
    ($($name:ident, $expecting:literal, $pattern:literal;)*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct TextVisitor;
                impl serde::de::Visitor<'_> for TextVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(TextVisitor)
            }
        }
        impl utoipa::ToSchema for $name {}
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some($expecting))
                    .pattern(Some($pattern))
                    .into()
            }
        }
        impl TryFrom<&str> for $name {
            type Error = crate::problem::Problem;
            fn try_from(text: &str) -> Result<Self, crate::problem::Problem> {
                text.parse().map_err(crate::problem::Problem::invalid)
            }
        }
    )*};
}
pub(super) use text_form;

text_form! {
    Mac, "a MAC address such as \"52:54:00:aa:bb:01\"", "^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$";
    Naa, "an NAA name of 32 hex digits that begins with 6", "^(naa\\.)?6[0-9a-fA-F]{31}$";
    Percent, "a share such as \"80%\"", "^[0-9]{1,3}%$";
    SlotId, "a slot such as \"web1.disk0\"", "^[a-z0-9][a-z0-9_-]*\\.(disk|nic)[0-9]+$";
}
