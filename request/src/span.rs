use alloc::vec::Vec;

/// A guest-physical address: a claim by the guest, not yet known to be memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

/// A run of bytes within one region of a guest's memory snapshot.
///
/// Made by `guest/memory` when a descriptor is found to lie in a region, and checked again there
/// whenever bytes are touched, so that holding, copying, splitting or even inventing one is safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset within the region, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
    /// Index of the region within the snapshot.
    pub region: u32,
}

impl Span {
    /// The first `count` bytes and the rest; `None` if the span is shorter.
    pub fn split_at(self, count: u32) -> Option<(Self, Self)> {
        let rest = self.len.checked_sub(count)?;
        let offset = self.offset.checked_add(u64::from(count))?;
        Some((Self { len: count, ..self }, Self { offset, len: rest, ..self }))
    }
}

/// Sum of the lengths, in bytes. Cannot overflow: a chain has at most 65,536 spans of 32 bits.
pub fn total(spans: &[Span]) -> u64 {
    spans.iter().fold(0u64, |sum, span| sum.saturating_add(u64::from(span.len)))
}

/// Cuts `count` bytes off the front of a list in place and returns what is left of it; `None` if
/// it has fewer bytes.
pub fn advance(mut spans: &mut [Span], mut count: u64) -> Option<&mut [Span]> {
    while count > 0 {
        let first = spans.first_mut()?;
        if u64::from(first.len) <= count {
            count -= u64::from(first.len);
            spans = &mut spans[1..];
        } else {
            // The branch above leaves a count below a 32-bit length.
            *first = first.split_at(count as u32)?.1;
            count = 0;
        }
    }
    Some(spans)
}

/// Makes a border `count` bytes behind the beginning of span `from`, splitting the span that the
/// border falls into, and returns the index of the first span behind it. `None` if the spans before
/// `to` hold fewer bytes; the list is then as it was.
///
/// A split makes the list one span longer; lists are recycled, so they grow once.
pub fn cut(spans: &mut Vec<Span>, from: usize, to: usize, count: u64) -> Option<usize> {
    let mut left = count;
    let mut at = from;
    while left > 0 {
        let span = *spans.get(..to)?.get(at)?;
        if u64::from(span.len) > left {
            // Less than a 32-bit length.
            let (head, tail) = span.split_at(left as u32)?;
            spans[at] = tail;
            spans.insert(at, head);
            return Some(at + 1);
        }
        left -= u64::from(span.len);
        at += 1;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn span(offset: u64, len: u32) -> Span {
        Span { offset, len, region: 3 }
    }

    #[test]
    fn advancing_cuts_whole_and_partial_spans() {
        let mut spans = [span(0, 10), span(100, 20), span(200, 5)];
        let rest = advance(&mut spans, 16).unwrap();
        assert_eq!(rest, [span(106, 14), span(200, 5)]);
        assert_eq!(total(rest), 19);
        assert!(advance(rest, 19).unwrap().is_empty());
    }

    #[test]
    fn advancing_past_the_end_is_refused() {
        let mut spans = [span(0, 10)];
        assert!(advance(&mut spans, 11).is_none());
    }

    #[test]
    fn cutting_splits_the_span_at_the_border() {
        let mut spans = vec![span(0, 10), span(100, 20), span(200, 5)];
        assert_eq!(cut(&mut spans, 0, 3, 0), Some(0));
        assert_eq!(cut(&mut spans, 0, 3, 10), Some(1));
        assert_eq!(cut(&mut spans, 1, 3, 25), Some(3));
        assert_eq!(spans.len(), 3);
        assert_eq!(cut(&mut spans, 0, 3, 16), Some(2));
        assert_eq!(spans, [span(0, 10), span(100, 6), span(106, 14), span(200, 5)]);
    }

    #[test]
    fn cutting_behind_the_end_changes_nothing() {
        let mut spans = vec![span(0, 10), span(100, 20)];
        assert_eq!(cut(&mut spans, 0, 1, 11), None);
        assert_eq!(cut(&mut spans, 1, 2, 21), None);
        assert_eq!(cut(&mut spans, 5, 2, 1), None);
        assert_eq!(spans, [span(0, 10), span(100, 20)]);
    }
}
