//! Where volumes are: LUNs of a slot's targets, LUNs of an iSCSI target.

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{ArrayBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// The largest LUN that flat or peripheral single-level addressing can name
/// (14 bits, which is what virtio-scsi carries).
pub const LUN_MAX: u16 = 16383;

/// Volumes of one slot. All addresses may be used, which are 256 times as many; but each volume is an
/// open file with a unit behind it, and as many as one target can have is enough for a controller.
pub const SLOT_VOLUMES_MAX: usize = 16384;

/// Where a SCSI controller has a volume: a LUN of one of its targets. `3` is LUN 3 of target 0, `1:3`
/// LUN 3 of target 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LunAddress {
    pub target: u8,
    /// At most [`LUN_MAX`].
    pub lun: u16,
}

impl LunAddress {
    pub const fn new(target: u8, lun: u16) -> Self {
        Self { target, lun }
    }
}

/// A LUN of target 0.
impl From<u16> for LunAddress {
    fn from(lun: u16) -> Self {
        Self { target: 0, lun }
    }
}

impl fmt::Display for LunAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            0 => write!(f, "{}", self.lun),
            target => write!(f, "{target}:{}", self.lun),
        }
    }
}

fn lun_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|lun| *lun <= LUN_MAX)
}

impl FromStr for LunAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = match text.split_once(':') {
            None => lun_number(text).map(Self::from),
            Some((target, lun)) => target.parse().ok().zip(lun_number(lun)).map(|(t, l)| Self::new(t, l)),
        };
        read.ok_or_else(|| {
            format!(
                "`{text}` is not a LUN; write 0 to {LUN_MAX}, or TARGET:LUN with a target from 0 to 255, such as \"1:0\""
            )
        })
    }
}

/// As it always was in target 0: a number. A text elsewhere.
impl Serialize for LunAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.target {
            0 => serializer.serialize_u16(self.lun),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for LunAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressVisitor;
        impl Visitor<'_> for AddressVisitor {
            type Value = LunAddress;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a LUN such as 3, or one of another target such as \"1:3\"")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<LunAddress, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<LunAddress, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LunAddress, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(AddressVisitor)
    }
}

impl ToSchema for LunAddress {}
impl PartialSchema for LunAddress {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::Integer)
                    .minimum(Some(0))
                    .maximum(Some(LUN_MAX))
                    .description(Some("A LUN of target 0.")),
            )
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some("^([0-9]{1,3}:)?[0-9]{1,5}$"))
                    .description(Some("TARGET:LUN, such as \"1:3\".")),
            )
            .into()
    }
}

/// The volumes of a SCSI slot. A list gives LUN 0, 1, 2, … of target 0; a table gives each its place:
/// `{ 0 = "a", 3 = "b", "1:0" = "c" }`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotLuns(pub BTreeMap<LunAddress, String>);

/// The volumes of an iSCSI target by LUN. A list gives LUN 0, 1, 2, …; a table
/// gives each its LUN: `{ 0 = "a", 3 = "b" }`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Luns(pub BTreeMap<u16, String>);

impl Serialize for SlotLuns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(at, name)| (at.to_string(), name)))
    }
}

impl Serialize for Luns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(lun, name)| (lun.to_string(), name)))
    }
}

impl<'de> Deserialize<'de> for SlotLuns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LunsVisitor::<LunAddress>(PhantomData)).map(SlotLuns)
    }
}

impl<'de> Deserialize<'de> for Luns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LunsVisitor::<u16>(PhantomData)).map(Luns)
    }
}

/// What a volume is found by in a list of them.
trait Key: Copy + Ord + fmt::Display + From<u16> {
    fn read(text: &str) -> Result<Self, String>;
}

impl Key for LunAddress {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Key for u16 {
    fn read(text: &str) -> Result<Self, String> {
        lun_number(text).ok_or_else(|| match text.parse::<LunAddress>() {
            Ok(_) => format!(
                "`{text}` names a target of a controller, and an iSCSI target is one itself; write a LUN, 0 to {LUN_MAX}"
            ),
            Err(_) => format!("`{text}` is not a LUN; write 0 to {LUN_MAX}"),
        })
    }
}

struct LunsVisitor<K>(PhantomData<K>);

impl<'de, K: Key> Visitor<'de> for LunsVisitor<K> {
    type Value = BTreeMap<K, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of volumes, or a table from LUN to volume")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut luns = BTreeMap::new();
        while let Some(name) = seq.next_element::<String>()? {
            let lun = u16::try_from(luns.len()).ok().filter(|l| *l <= LUN_MAX);
            let lun = lun.ok_or_else(|| de::Error::custom("too many volumes in a slot"))?;
            luns.insert(K::from(lun), name);
        }
        Ok(luns)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut luns = BTreeMap::new();
        while let Some((key, name)) = map.next_entry::<String, String>()? {
            let lun = K::read(&key).map_err(de::Error::custom)?;
            if luns.insert(lun, name).is_some() {
                return Err(de::Error::custom(format!("LUN {lun} is given twice; remove one of the two")));
            }
        }
        Ok(luns)
    }
}

fn luns_schema(table: &str, list: &str) -> RefOr<Schema> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    OneOfBuilder::new()
        .item(ObjectBuilder::new().description(Some(table)).additional_properties(Some(text())))
        .item(ArrayBuilder::new().items(text()).description(Some(list)))
        .into()
}

impl ToSchema for Luns {}
impl PartialSchema for Luns {
    fn schema() -> RefOr<Schema> {
        luns_schema("From LUN to volume; answers have this form.", "LUN 0, 1, 2, …")
    }
}

impl ToSchema for SlotLuns {}
impl PartialSchema for SlotLuns {
    fn schema() -> RefOr<Schema> {
        luns_schema(
            "From LUN of target 0 (`3`) or target and LUN (`1:3`) to volume; answers have this form.",
            "LUN 0, 1, 2, … of target 0",
        )
    }
}
