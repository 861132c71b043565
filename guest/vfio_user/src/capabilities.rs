//! Capabilities: the JSON behind VERSION's numbers.
//!
//! Read by hand, as far as JSON goes that may come here: a bounded text, in one pass, with bounded
//! depth. What is not known is passed over.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::numbers::offer;

/// A text that is longer says nothing that we would want to know. QEMU's has 200 bytes.
const TEXT_MAX: usize = 4096;
/// QEMU's text is three levels deep.
const DEPTH_MAX: usize = 16;

/// What a client proposes; `None`: it does not name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub max_msg_fds: Option<u64>,
    pub max_data_xfer_size: Option<u64>,
    pub max_dma_maps: Option<u64>,
    pub pgsizes: Option<u64>,
    pub write_multiple: Option<bool>,
    pub migration: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// A number without sign, fraction and exponent.
    Number(u64),
    Bool(bool),
    Object,
    /// Anything else.
    Other,
}

impl Capabilities {
    /// `None`: that is no JSON object, or a capability is not of its kind.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let mut parser = Parser { text, at: 0, path: Vec::new(), found: Self::default() };
        if parser.value()? != Value::Object {
            return None;
        }
        parser.space();
        (parser.at == text.len()).then_some(parser.found)
    }

    /// A member of the object `capabilities`.
    fn take(&mut self, name: &[u8], value: Value) -> Option<()> {
        let number = |place: &mut Option<u64>| match value {
            Value::Number(number) => {
                *place = Some(number);
                Some(())
            }
            _ => None,
        };
        match name {
            b"max_msg_fds" => number(&mut self.max_msg_fds),
            b"max_data_xfer_size" => number(&mut self.max_data_xfer_size),
            b"max_dma_maps" => number(&mut self.max_dma_maps),
            b"pgsizes" => number(&mut self.pgsizes),
            b"write_multiple" => match value {
                Value::Bool(value) => {
                    self.write_multiple = Some(value);
                    Some(())
                }
                _ => None,
            },
            b"migration" => {
                self.migration = value == Value::Object;
                self.migration.then_some(())
            }
            _ => Some(()),
        }
    }
}

/// The answer to what a client proposed: of the capabilities that it named, those that there are.
/// It has no spaces and no longer numbers than theirs, because QEMU takes no answer that is longer
/// than its proposal.
pub fn answer(proposed: &Capabilities, migration: bool) -> String {
    let mut members: Vec<String> = Vec::new();
    let mut number = |proposed: Option<u64>, name: &str, value: u64| {
        if proposed.is_some() {
            members.push(format!("\"{name}\":{value}"));
        }
    };
    number(proposed.max_msg_fds, "max_msg_fds", offer::MAX_MSG_FDS);
    number(proposed.max_data_xfer_size, "max_data_xfer_size", offer::MAX_DATA_XFER_SIZE);
    number(proposed.max_dma_maps, "max_dma_maps", offer::MAX_DMA_MAPS);
    number(proposed.pgsizes, "pgsizes", offer::PGSIZES);
    if proposed.write_multiple == Some(true) {
        members.push(String::from("\"write_multiple\":true"));
    }
    if proposed.migration && migration {
        let (page, bitmap) = (offer::PGSIZES, offer::MAX_BITMAP_SIZE);
        members.push(format!("\"migration\":{{\"pgsize\":{page},\"max_bitmap_size\":{bitmap}}}"));
    }
    format!("{{\"capabilities\":{{{}}}}}", members.join(","))
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// Names of the objects that we are in; an empty name for a list.
    path: Vec<&'a [u8]>,
    found: Capabilities,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes over space and this byte, if it is there.
    fn has(&mut self, byte: u8) -> bool {
        self.space();
        let has = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(has);
        has
    }

    fn literal(&mut self, literal: &[u8], value: Value) -> Option<Value> {
        self.text[self.at..].starts_with(literal).then(|| {
            self.at += literal.len();
            value
        })
    }

    fn value(&mut self) -> Option<Value> {
        self.space();
        match self.text.get(self.at)? {
            b'{' => self.object(),
            b'[' => self.list(),
            b'"' => self.string().map(|_| Value::Other),
            b't' => self.literal(b"true", Value::Bool(true)),
            b'f' => self.literal(b"false", Value::Bool(false)),
            b'n' => self.literal(b"null", Value::Other),
            _ => self.number(),
        }
    }

    /// Between two quotes, as it stands: no name that we look for has anything to unescape.
    fn string(&mut self) -> Option<&'a [u8]> {
        if !self.has(b'"') {
            return None;
        }
        let start = self.at;
        loop {
            match self.text.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(&self.text[start..self.at - 1])
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        while matches!(self.text.get(self.at), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let digits = core::str::from_utf8(&self.text[start..self.at]).ok()?;
        if !digits.bytes().any(|byte| byte.is_ascii_digit()) || digits.starts_with('+') {
            return None;
        }
        Some(digits.parse().map_or(Value::Other, Value::Number))
    }

    fn enter(&mut self, name: &'a [u8]) -> Option<()> {
        self.path.push(name);
        (self.path.len() <= DEPTH_MAX).then_some(())
    }

    fn list(&mut self) -> Option<Value> {
        self.at += 1;
        if self.has(b']') {
            return Some(Value::Other);
        }
        loop {
            self.enter(b"")?;
            self.value()?;
            self.path.pop();
            if self.has(b']') {
                return Some(Value::Other);
            }
            if !self.has(b',') {
                return None;
            }
        }
    }

    fn object(&mut self) -> Option<Value> {
        self.at += 1;
        if self.has(b'}') {
            return Some(Value::Object);
        }
        loop {
            let name = self.string()?;
            if !self.has(b':') {
                return None;
            }
            self.enter(name)?;
            let value = self.value()?;
            self.path.pop();
            if self.path == [b"capabilities"] {
                self.found.take(name, value)?;
            } else if self.path.is_empty() && name == b"capabilities" && value != Value::Object {
                return None;
            }
            if self.has(b'}') {
                return Some(Value::Object);
            }
            if !self.has(b',') {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_and_unknown_members() {
        let text = br#" { "a" : [1, {"capabilities": 3}, "\"}"], "capabilities" :
            {"max_msg_fds":8, "twin_socket": {"supported": true, "max_msg_fds": 9}, "x": -1.5e3,
             "write_multiple": false} } "#;
        let found = Capabilities::parse(text).unwrap();
        let want = Capabilities { max_msg_fds: Some(8), write_multiple: Some(false), ..Default::default() };
        assert_eq!(found, want);
        assert_eq!(answer(&found, true), "{\"capabilities\":{\"max_msg_fds\":16}}");
        assert_eq!(Capabilities::parse(b"{}"), Some(Capabilities::default()));
        assert_eq!(answer(&Capabilities::default(), true), "{\"capabilities\":{}}");
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "1",
            "[]",
            "{",
            "{}{}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":\"\\",
            "{a:1}",
            "{\"a\":+1}",
            "{\"a\":truE}",
            "{\"capabilities\":1}",
            "{\"capabilities\":{\"max_msg_fds\":\"1\"}}",
            "{\"capabilities\":{\"max_msg_fds\":-1}}",
            "{\"capabilities\":{\"write_multiple\":1}}",
            "{\"capabilities\":{\"migration\":true}}",
            "{\"capabilities\":{\"pgsizes\":99999999999999999999}}",
        ] {
            assert_eq!(Capabilities::parse(text.as_bytes()), None, "{text}");
        }
        let deep = [[b'['; 5000], [b']'; 5000]].concat();
        assert_eq!(Capabilities::parse(&[b"{\"a\":", &deep[..], b"}"].concat()), None);
        let deep = [&b"{\"a\":"[..], &[b'['; 20], &[b']'; 20], b"}"].concat();
        assert_eq!(Capabilities::parse(&deep), None);
        assert_eq!(Capabilities::parse(&[b' '; 5000]), None);
    }

    proptest! {
        #[test]
        fn any_text_may_come(text in "[{}\\[\\]\",:a-c0-9\\\\ tru-]{0,60}", garbage in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Capabilities::parse(text.as_bytes());
            let _ = Capabilities::parse(&garbage);
        }
    }
}
