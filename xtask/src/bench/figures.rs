//! `key=value` figures: read from the load generator, gathered over rounds, compared.

use std::collections::BTreeMap;

/// The output of one measurement.
pub struct Measured(BTreeMap<String, f64>);

impl Measured {
    /// Takes the lines whose value is a number.
    pub fn parse(output: &str) -> Measured {
        let pairs = output.lines().filter_map(|line| line.split_once('='));
        Measured(pairs.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect())
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// All rounds of all rows, by row, contender and key.
#[derive(Default)]
pub struct Figures(BTreeMap<(String, String, String), Vec<f64>>);

impl Figures {
    pub fn add<'a>(
        &mut self,
        row: &str,
        contender: &str,
        measured: &Measured,
        keys: impl IntoIterator<Item = &'a str>,
    ) {
        for key in keys {
            if let Some(value) = measured.0.get(key) {
                let place = (row.to_owned(), contender.to_owned(), key.to_owned());
                self.0.entry(place).or_default().push(*value);
            }
        }
    }

    pub fn median(&self, row: &str, contender: &str, key: &str) -> Option<f64> {
        let values = self.0.get(&(row.to_owned(), contender.to_owned(), key.to_owned()))?;
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        Some(if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 })
    }

    /// Prints a row: each contender's medians, then `ratio.KEY` of ours to the peer's, where a
    /// ratio above 1 is always better for us.
    pub fn print(&self, row: &str, ours: &[&str], peer: &str, keys: &[Key]) {
        for contender in ours.iter().chain([&peer]) {
            for key in keys {
                if let Some(value) = self.median(row, contender, key.name) {
                    println!("{row}.{contender}.{}={}", key.name, rounded(value));
                }
            }
        }
        for contender in ours {
            for key in keys.iter().filter(|key| key.better != Better::Neither) {
                let (Some(our), Some(their)) =
                    (self.median(row, contender, key.name), self.median(row, peer, key.name))
                else {
                    continue;
                };
                let (above, below) = if key.better == Better::Higher { (our, their) } else { (their, our) };
                if below > 0.0 {
                    println!("{row}.{contender}.ratio.{}={}", key.name, rounded(above / below));
                }
            }
        }
    }
}

/// A figure of the load generator that a row shows.
#[derive(Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub better: Better,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    Neither,
}

/// Four significant digits say all that such a measurement can.
fn rounded(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = (3 - value.abs().log10().floor() as i32).max(0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_the_rounds_of_one_contender() {
        let mut figures = Figures::default();
        for value in ["x=3", "x=1", "x=100"] {
            figures.add("row", "ours", &Measured::parse(value), ["x"]);
        }
        figures.add("row", "peer", &Measured::parse("x=8\ny=word\n# a note"), ["x", "y"]);
        figures.add("row", "peer", &Measured::parse("x=4"), ["x"]);
        assert_eq!(figures.median("row", "ours", "x"), Some(3.0));
        assert_eq!(figures.median("row", "peer", "x"), Some(6.0));
        assert_eq!(figures.median("row", "peer", "y"), None);
    }

    #[test]
    fn four_digits_are_kept() {
        assert_eq!(rounded(1234567.0), "1234567");
        assert_eq!(rounded(0.0123456), "0.01235");
        assert_eq!(rounded(12.3456), "12.35");
        assert_eq!(rounded(0.0), "0");
    }
}
