//! Documents: a link leads somewhere, and so does a citation in a comment.

use super::Finding;
use super::tree::Tree;

pub fn check_links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut in_block = false;
        for (number, line) in text.lines().enumerate() {
            in_block ^= line.trim_start().starts_with("```");
            if in_block || line.starts_with("    ") {
                continue;
            }
            for target in targets(line) {
                let file = target.split('#').next().unwrap_or_default();
                if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                    continue;
                }
                if resolve(folder, file).is_none_or(|file| !tree.has(&file)) {
                    let mend =
                        format!("`{target}` leads nowhere: correct it, relative to this file, or drop it");
                    findings.push(Finding::new(path, number + 1, "links", mend));
                }
            }
        }
    }
    findings
}

/// What stands in the parentheses of `[…](…)`, outside of code.
fn targets(line: &str) -> Vec<String> {
    let outside: String =
        line.split('`').enumerate().map(|(at, part)| if at % 2 == 0 { part } else { "code" }).collect();
    let ends = outside.match_indices("](").map(|(at, _)| &outside[at + 2..]);
    ends.filter_map(|rest| Some(rest.split_once(')')?.0.split(' ').next()?.to_owned())).collect()
}

fn resolve(folder: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// `docs/decisions/0001` in a comment names a page by its number, `docs/scsi.md` one by its name.
pub fn check_citations(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("rs").filter(|(path, _)| !path.starts_with("xtask/src/tidy/")) {
        for (number, line) in text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("//") else { continue };
            for (at, _) in comment.match_indices("docs/") {
                let is_other = comment[..at].ends_with('/') || comment[..at].contains("QEMU");
                let is_path = |c: &char| c.is_ascii_alphanumeric() || "/._-".contains(*c);
                let cited: String = comment[at..].chars().take_while(is_path).collect();
                let cited = cited.trim_end_matches(['.', '/']);
                if is_other || tree.files().any(|(file, _)| file.starts_with(cited)) {
                    continue;
                }
                // QEMU's own documentation is cited by its path there.
                if cited.starts_with("docs/interop") {
                    continue;
                }
                let mend = format!("there is no `{cited}`: write the page, or cite one that is there");
                findings.push(Finding::new(path, number + 1, "citations", mend));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let text =
            "[a](b.md) [c](../README.md#top) [d](gone.md)\n`[code](x)`\n```\n[e](f)\n```\n[g](https://h)\n";
        let tree =
            Tree::of(&[("docs/a.md", text), ("docs/b.md", ""), ("README.md", "[up](../x)\n[d](docs)\n")]);
        let found: Vec<(String, usize)> =
            check_links(&tree).into_iter().map(|finding| (finding.path, finding.line)).collect();
        assert_eq!(found, [("README.md".to_owned(), 1), ("docs/a.md".to_owned(), 1)]);
    }

    #[test]
    fn citations_that_lead_nowhere_are_found() {
        let text = "//! See docs/decisions/0001.\n// and docs/decisions/0009\n// QEMU, docs/x.rst\nlet a = \"docs/no\";\n";
        let tree = Tree::of(&[("a.rs", text), ("docs/decisions/0001-spans.md", "")]);
        let found: Vec<usize> = check_citations(&tree).into_iter().map(|finding| finding.line).collect();
        assert_eq!(found, [2]);
    }
}
