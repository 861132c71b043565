//! From TOML to a site, with problems that know their line and column.

use super::Site;
use super::check::{dotted, nearest};
use crate::problem::Problem;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Reads, parses and checks a file.
pub fn read(path: &Path) -> Result<Site, Problem> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path; it is looked up from the current directory",
            std::io::ErrorKind::PermissionDenied => "run as a user that may read it",
            std::io::ErrorKind::InvalidData => "save it as UTF-8 text",
            _ => "the operating system refused it; mend that and try again",
        };
        Problem::invalid(format!("cannot read the file: {error}")).at(&file).hint(hint)
    })?;
    parse(&file, &text)
}

/// Parses and checks a text; `file` is the name that problems give to it.
pub fn parse(file: &str, text: &str) -> Result<Site, Problem> {
    let site: Site = toml::from_str(text).map_err(|error| syntax(file, text, &error))?;
    let mut findings = site.findings();
    findings.extend(site.strange_masks(&Site::default()));
    findings.extend(site.open_secrets());
    if findings.is_empty() {
        return Ok(site);
    }
    // Positions only matter now, so only now the text is parsed for them.
    let table = DeTable::parse(text).ok();
    let mut problems: Vec<(usize, Problem)> = findings
        .into_iter()
        .map(|finding| {
            let span = table.as_ref().and_then(|t| locate(t, &finding.keys));
            let start = span.map_or(0, |span| span.start);
            let place = format!("{} ({})", position(file, text, start), dotted(&finding.keys));
            let problem = Problem::invalid(finding.what).at(place).hint(finding.hint);
            (start, problem)
        })
        .collect();
    problems.sort_by_key(|(start, _)| *start);
    let problems = problems.into_iter().map(|(_, problem)| problem).collect();
    match Problem::from_list(problems) {
        Some(problem) => Err(problem),
        None => Ok(site),
    }
}

/// `file:line:column`, both from 1, the column in characters.
fn position(file: &str, text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("{file}:{line}:{column}")
}

/// The deepest key of the path that stands in the text: a default that is
/// wrong has no key of its own, and its table is named instead.
fn locate(table: &Spanned<DeTable<'_>>, keys: &[String]) -> Option<Range<usize>> {
    let mut found = None;
    let mut current = Some(Here::Table(table.get_ref()));
    for key in keys {
        let value = match current {
            Some(Here::Table(table)) => {
                let Some((name, value)) = table.get_key_value(key.as_str()) else {
                    break;
                };
                found = Some(name.span());
                value
            }
            // An element of a list: [[target.x.allow]].
            Some(Here::Array(array)) => {
                let Some(value) = key.parse::<usize>().ok().and_then(|index| array.get(index)) else {
                    break;
                };
                found = Some(value.span());
                value
            }
            None => break,
        };
        current = match value.get_ref() {
            DeValue::Table(next) => Some(Here::Table(next)),
            DeValue::Array(next) => Some(Here::Array(next)),
            _ => None,
        };
    }
    found
}

enum Here<'a, 'i> {
    Table(&'a DeTable<'i>),
    Array(&'a DeArray<'i>),
}

fn syntax(file: &str, text: &str, error: &toml::de::Error) -> Problem {
    let message = error.message().trim();
    let place = match error.span() {
        Some(span) => position(file, text, span.start),
        None => file.to_owned(),
    };
    // Serde's own words for a wrong key or value carry what would be right.
    let backticked = |part: &str| -> Vec<String> {
        let words = part.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    };
    let (what, hint) = if let Some(rest) = message.strip_prefix("unknown field ") {
        let words = backticked(rest);
        let (wrong, known) = words.split_first().map_or(("", &[][..]), |(w, k)| (w, k));
        (format!("unknown key `{wrong}`"), suggest(wrong, known, "known keys are"))
    } else if let Some(rest) = message.strip_prefix("unknown variant ") {
        let words = backticked(rest);
        let (wrong, known) = words.split_first().map_or(("", &[][..]), |(w, k)| (w, k));
        let model = known.iter().any(|known| known.starts_with("virtio-"));
        let (sort, list) = if model { ("model", "models are") } else { ("value", "values are") };
        (format!("unknown {sort} `{wrong}`"), suggest(wrong, known, list))
    } else if let Some(rest) = message.strip_prefix("missing field ") {
        let key = rest.trim_matches('`');
        (format!("the key `{key}` is missing"), format!("add `{key} = …` to this table"))
    } else if let Some(rest) = message.strip_prefix("invalid type: ") {
        (
            format!("wrong type of value: {rest}"),
            "write text in quotes, numbers and true or false without".to_owned(),
        )
    } else if let Some(rest) = message.strip_prefix("invalid value: ") {
        (format!("value out of range: {rest}"), "write a value in the range of this key".to_owned())
    } else if let Some((what, hint)) = message.split_once("; ") {
        (what.to_owned(), hint.to_owned())
    } else {
        (
            message.replace('\n', ", "),
            "mend the TOML here; strings need quotes, tables are [like.this]".to_owned(),
        )
    };
    Problem::invalid(what).at(place).hint(hint)
}

fn suggest(wrong: &str, known: &[String], list: &str) -> String {
    let all = format!("{list} {}", known.join(", "));
    match nearest(wrong, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? ({all})"),
        None => all,
    }
}
