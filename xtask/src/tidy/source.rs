//! What stands in the source: `unsafe` and the traits between stations.

use super::Finding;
use super::code::{code, has_word};
use super::tree::Tree;

/// The two places of `unsafe`, their tests included.
const UNSAFE: [&str; 2] = ["guest/memory/", "host/"];
/// Folders whose public traits are seams between stations.
const SEAMS: [&str; 8] =
    ["request/", "guest/", "frontend/", "service/", "schedule/", "backend/", "host/", "control/"];
const METHODS_MAX: usize = 7;

pub fn check_unsafe(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("rs").filter(|(path, _)| !path.starts_with("fuzz/")) {
        let allowed = UNSAFE.iter().any(|folder| path.starts_with(folder));
        let is_root = ["src/lib.rs", "src/main.rs"].iter().any(|root| path.ends_with(root))
            || path.contains("/src/bin/");
        if is_root && !allowed && !code(text).contains("#![forbid(unsafe_code)]") {
            findings.push(Finding::new(path, 1, "unsafe", "begin the crate with `#![forbid(unsafe_code)]`"));
        }
        let code = code(text);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in code.lines().enumerate().filter(|(_, line)| has_word(line, "unsafe")) {
            if !allowed {
                let mend = "`unsafe` is for guest/memory and host: give this a safe face there";
                findings.push(Finding::new(path, at + 1, "unsafe", mend));
            } else if !is_proved(&lines, at) && !declares(line) {
                let mend = "write above it `// SAFETY:`, the precondition, and where it was established";
                findings.push(Finding::new(path, at + 1, "SAFETY", mend));
            }
        }
    }
    findings
}

/// `unsafe fn` and `unsafe trait` ask for a proof, they do not give one; rustdoc's `# Safety` is
/// clippy's to check. `unsafe extern` blocks only say what others promise.
fn declares(line: &str) -> bool {
    ["unsafe fn", "unsafe trait", "unsafe extern"].iter().any(|start| line.contains(start))
}

/// A SAFETY comment stands right above the statement that this line is part of.
fn is_proved(lines: &[&str], at: usize) -> bool {
    if lines[at].contains("// SAFETY:") {
        return true;
    }
    for line in lines[..at].iter().rev().map(|line| line.trim()) {
        if line.starts_with("// SAFETY:") {
            return true;
        }
        let is_comment = line.starts_with("//");
        let ends_statement = line.is_empty() || line.ends_with([';', '{', '}']);
        if !is_comment && ends_statement {
            return false;
        }
    }
    false
}

pub fn check_traits(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("rs") {
        if !SEAMS.iter().any(|seam| path.starts_with(seam)) || path.contains("/tests/") {
            continue;
        }
        let code = code(text);
        let mut rest = code.as_str();
        while let Some(at) = rest.find("pub trait ").or_else(|| rest.find("pub unsafe trait ")) {
            let body = &rest[at..];
            let line = code[..code.len() - body.len()].matches('\n').count() + 1;
            let (methods, defaults) = methods_of(body);
            if methods > METHODS_MAX {
                let mend =
                    format!("{methods} methods; at most {METHODS_MAX}: make facts of what is not a verb");
                findings.push(Finding::new(path, line, "traits", mend));
            }
            if defaults > 0 {
                let mend =
                    "a method with a default body is one that a decorator silently misses: give it none";
                findings.push(Finding::new(path, line, "traits", mend));
            }
            rest = &body[1..];
        }
    }
    findings
}

/// Methods of the trait that begins here, and how many have a body.
fn methods_of(text: &str) -> (usize, usize) {
    let (mut methods, mut defaults, mut depth) = (0, 0, 0);
    let mut word = String::new();
    let mut in_signature = false;
    for c in text.chars() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        if depth == 1 && word == "fn" && c == ' ' {
            methods += 1;
            in_signature = true;
        }
        word.clear();
        match c {
            '{' => {
                if depth == 1 && in_signature {
                    defaults += 1;
                    in_signature = false;
                }
                depth += 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ';' if depth == 1 => in_signature = false,
            _ => {}
        }
    }
    (methods, defaults)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str, rule: fn(&Tree) -> Vec<Finding>) -> Vec<(usize, &'static str)> {
        rule(&Tree::of(&[(path, text)])).iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn unsafe_code_is_found_outside_its_two_places() {
        let text = "// unsafe is fine in a sentence\nfn f() { unsafe { g() } }\n";
        assert_eq!(found("server/src/x.rs", text, check_unsafe), [(2, "unsafe")]);
        assert_eq!(found("host/src/x.rs", text, check_unsafe), [(2, "SAFETY")]);
        assert_eq!(found("server/src/main.rs", "fn main() {}\n", check_unsafe), [(1, "unsafe")]);
    }

    #[test]
    fn a_proof_stands_right_above() {
        let proved = "// SAFETY: it is.\nlet x =\n    unsafe { g() };\n";
        assert!(found("host/src/x.rs", proved, check_unsafe).is_empty());
        let apart = "// SAFETY: it is.\nlet x = 1;\nlet y = unsafe { g() };\n";
        assert_eq!(found("host/src/x.rs", apart, check_unsafe), [(3, "SAFETY")]);
    }

    #[test]
    fn traits_are_few_verbs_without_defaults() {
        let text = "pub trait Small { fn a(&self, f: impl Fn(u8)); const N: u8; }\n\npub trait Big {\n  fn a();\n  fn b() { }\n}\n";
        assert_eq!(found("backend/disk/src/lib.rs", text, check_traits), [(3, "traits")]);
        let eight = format!("pub trait Many {{ {} }}", "fn f(); ".repeat(8));
        assert_eq!(found("request/src/lib.rs", &eight, check_traits), [(1, "traits")]);
        assert!(found("server/src/lib.rs", &eight, check_traits).is_empty());
    }
}
