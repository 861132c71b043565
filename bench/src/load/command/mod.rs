//! The sub-commands of `standpipe-load`: arguments in, `key=value` lines out.

pub mod crowd;
pub mod disk;
pub mod net;

use std::fmt::Display;

/// One line of the result.
fn figure(key: &str, value: impl Display) {
    println!("{key}={value}");
}

/// A size such as 4096, 4k, 128KiB, 1G.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1u64 << 40,
        _ => return Err(format!("{text}: a number with k, m, g or t")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text}: a number with k, m, g or t"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("4k"), Ok(4096));
        assert_eq!(size("128KiB"), Ok(131072));
        assert_eq!(size("1G"), Ok(1 << 30));
        assert!(size("12x").is_err());
        assert!(size("k").is_err());
        assert!(size("99999999999T").is_err());
    }
}
