//! Keys and values of login and text PDUs (RFC 7143 6).

/// `key=value`, each ended by a zero byte.
pub fn encode<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in pairs {
        bytes.extend_from_slice(key.as_ref().as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_ref().as_bytes());
        bytes.push(0);
    }
    bytes
}

/// `Err` has the part that is no pair of a key and a value.
pub fn decode(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let Some((0, bytes)) = bytes.split_last() else {
        return if bytes.is_empty() {
            Ok(Vec::new())
        } else {
            Err("the last pair is not ended by a zero".into())
        };
    };
    let pair = |part: &[u8]| {
        let text = std::str::from_utf8(part).map_err(|_| format!("{part:02x?} is no UTF-8"))?;
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no ="))?;
        if key.is_empty() || key.len() > 63 {
            return Err(format!("`{key}` is no key of 1 to 63 bytes"));
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    bytes.split(|byte| *byte == 0).map(pair).collect()
}

/// The value of a key.
pub fn find<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// Binary values: `0x` and hexadecimal digits, or `0b` and Base64 (RFC 7143 6.1).
pub fn binary(value: &str) -> Option<Vec<u8>> {
    if let Some(digits) = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        let digits: Vec<u8> =
            digits.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
        // An odd number of digits has a zero before the first.
        let odd = digits.len() % 2;
        let mut bytes: Vec<u8> = digits[..odd].to_vec();
        bytes.extend(digits[odd..].chunks(2).map(|pair| pair[0] << 4 | pair[1]));
        return (!digits.is_empty()).then_some(bytes);
    }
    let digits = value.strip_prefix("0b").or_else(|| value.strip_prefix("0B"))?.trim_end_matches('=');
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in digits.bytes() {
        let six = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_go_there_and_back() {
        let bytes = encode(&[("InitiatorName", "iqn.a"), ("Empty", "")]);
        assert_eq!(bytes, b"InitiatorName=iqn.a\0Empty=\0");
        let pairs = decode(&bytes).unwrap();
        assert_eq!(find(&pairs, "InitiatorName"), Some("iqn.a"));
        assert_eq!(find(&pairs, "Empty"), Some(""));
        assert!(decode(b"a=b").is_err());
        assert!(decode(b"ab\0").is_err());
        assert_eq!(decode(b"").unwrap(), []);
    }

    #[test]
    fn binary_values_have_two_forms() {
        assert_eq!(binary("0x0aFf"), Some(vec![0x0a, 0xff]));
        assert_eq!(binary("0xabc"), Some(vec![0x0a, 0xbc]));
        // RFC 4648 10: "foobar", "fooba", "foob".
        assert_eq!(binary("0bZm9vYmFy").as_deref(), Some(&b"foobar"[..]));
        assert_eq!(binary("0bZm9vYmE=").as_deref(), Some(&b"fooba"[..]));
        assert_eq!(binary("0bZm9vYg==").as_deref(), Some(&b"foob"[..]));
        assert_eq!(binary("12"), None);
        assert_eq!(binary("0xg"), None);
        assert_eq!(hexadecimal(&[1, 0xfe]), "0x01fe");
    }
}
