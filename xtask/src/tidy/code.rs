//! Rust source without its comments and texts, line by line, so that a word in a sentence is not
//! taken for a word of the program.

/// The same text with every comment, string and character literal made blank. Lines keep their
/// numbers.
pub fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |out: &mut String, from: &[char]| {
        out.extend(from.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    };
    while at < bytes.len() {
        let end = skip(&bytes, at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            blank(&mut out, &bytes[at..end]);
            at = end;
        }
    }
    out
}

/// The end of a comment or literal that begins here; `at` itself if none does.
fn skip(text: &[char], at: usize) -> usize {
    let next = |step: usize| text.get(at + step).copied().unwrap_or('\0');
    let before = if at == 0 { ' ' } else { text[at - 1] };
    match text[at] {
        '/' if next(1) == '/' => (at..text.len()).find(|i| text[*i] == '\n').unwrap_or(text.len()),
        '/' if next(1) == '*' => block_comment(text, at),
        '"' => quoted(text, at + 1, '"'),
        'r' | 'b' | 'c' if !is_word(before) => prefixed(text, at),
        // 'a' is a character, 'a a lifetime.
        '\'' if next(1) == '\\' => quoted(text, at + 1, '\''),
        '\'' if next(2) == '\'' => at + 3,
        _ => at,
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment(text: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn quoted(text: &[char], from: usize, mark: char) -> usize {
    let mut at = from;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            c if c == mark => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `b'…'`, `c"…"`.
fn prefixed(text: &[char], from: usize) -> usize {
    let mut at = from;
    let mut raw = false;
    while let Some(c) = text.get(at).copied().filter(|c| matches!(c, 'r' | 'b' | 'c')) {
        raw |= c == 'r';
        at += 1;
    }
    let hashes = text[at..].iter().take_while(|c| **c == '#').count();
    match text.get(at + hashes) {
        Some('"') if raw => {
            let mut end = at + hashes + 1;
            while end < text.len() {
                let closes = text[end] == '"'
                    && text[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
                if closes {
                    return end + 1 + hashes;
                }
                end += 1;
            }
            text.len()
        }
        Some('"') if hashes == 0 => quoted(text, at + 1, '"'),
        Some('\'') if hashes == 0 && !raw => quoted(text, at + 1, '\''),
        _ => from,
    }
}

/// Whether a line of code has this word, as a word of its own.
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_word);
        let after = line[at + word.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_and_texts_are_blank_and_lines_stay() {
        let text = "let a = \"unsafe \\\" {\"; // unsafe\n/* unsafe\n/* in */ unsafe */ unsafe { b'\\'' }";
        let code = code(text);
        let lines: Vec<&str> = code.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(!has_word(lines[0], "unsafe"));
        assert!(!has_word(lines[1], "unsafe"));
        assert_eq!(lines[2].matches("unsafe").count(), 1);
        assert!(lines[2].ends_with('}'));
    }

    #[test]
    fn raw_texts_end_where_they_say_and_lifetimes_are_no_characters() {
        assert_eq!(code("r#\"a \" unsafe\"# x").trim(), "x");
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
        assert_eq!(code("('{', for_br)"), "(   , for_br)");
        assert_eq!(code("c\"x\" br\"y\" b'z' r"), "                r");
    }

    #[test]
    fn a_word_is_whole() {
        assert!(has_word("unsafe{", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
    }
}
