//! Latencies and other amounts, counted in a histogram with two significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A minute: whatever takes longer is counted as that.
const LONGEST_NS: u64 = 60_000_000_000;

pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(Histogram::new_with_max(LONGEST_NS, 2).expect("constant bounds that the crate takes"))
    }
}

impl Latencies {
    #[inline]
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_nanos() as u64);
    }

    pub fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("all histograms here have the same bounds");
    }

    pub fn percentile_us(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e3
    }

    pub fn min_us(&self) -> f64 {
        self.0.min() as f64 / 1e3
    }

    pub fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
