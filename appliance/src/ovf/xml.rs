//! Elements by their local names, and units of measure.

use roxmltree::Node;

pub fn children<'a, 'input>(
    node: Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

pub fn child<'a, 'input>(node: Node<'a, 'input>, name: &'static str) -> Option<Node<'a, 'input>> {
    children(node, name).next()
}

pub fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attributes().find(|attribute| attribute.name() == name).map(|attribute| attribute.value())
}

/// The text of an element, without blanks around it; `None` if there is nothing else.
pub fn text_of<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    node.text().map(str::trim).filter(|text| !text.is_empty())
}

/// How many bytes a programmatic unit (DSP0004, Annex C) stands for: `byte * 2^30`, `byte*1024`; and the
/// names that came before those.
pub fn unit(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let named = match text.as_str() {
        "byte" | "bytes" => Some(0),
        "kilobytes" | "kb" => Some(10),
        "megabytes" | "mb" => Some(20),
        "gigabytes" | "gb" => Some(30),
        _ => None,
    };
    if let Some(shift) = named {
        return Some(1 << shift);
    }
    let mut factors = text.split('*').map(str::trim);
    let one = match factors.next()? {
        "byte" => 1,
        "kilobyte" => 1000,
        _ => return None,
    };
    factors.try_fold(one, |product: u64, factor| {
        let factor = match factor.split_once('^') {
            Some((base, power)) => {
                let base: u64 = base.trim().parse().ok()?;
                base.checked_pow(power.trim().parse().ok()?)?
            }
            None => factor.parse().ok()?,
        };
        product.checked_mul(factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_bytes() {
        for (text, bytes) in [
            ("byte * 2^30", 1 << 30),
            ("byte*2^20", 1 << 20),
            (" Byte * 2 ^ 10 ", 1 << 10),
            ("byte * 1024 * 1024", 1 << 20),
            ("byte * 10^9", 1_000_000_000),
            ("byte", 1),
            ("MegaBytes", 1 << 20),
            ("GB", 1 << 30),
        ] {
            assert_eq!(unit(text), Some(bytes), "{text}");
        }
        for text in ["", "hertz * 10^6", "byte * 2^64", "byte * x", "byte * 2^2^2", "byte * -1"] {
            assert_eq!(unit(text), None, "{text}");
        }
    }
}
