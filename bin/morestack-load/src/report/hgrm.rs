//! Percentiles in the text form of HdrHistogram's `outputPercentileDistribution`, which its plotters read.
//!
//! ```text
//!          Value     Percentile TotalCount 1/(1-Percentile)
//!
//!       0.005123 0.000000000000          1           1.00
//!       ...
//!       1.234943 1.000000000000      10000
//!   #[Mean    =     0.008123, StdDeviation   =     0.065234]
//!   #[Max     =     1.234943, Total count    =        10000]
//!   #[Buckets =           30, SubBuckets     =         2048]
//! ```
//!
//! Values are in milliseconds, the plotter's own unit, with six decimals: nanoseconds.

use std::fmt::Write;

use crate::record::Hdr;

/// Steps in which half of what is left to 100% is passed. What HdrHistogram's tools use.
const TICKS: u32 = 5;

/// Nanoseconds in a millisecond.
const MS: f64 = 1e6;

/// The sub-buckets of a histogram with three significant digits, and the buckets that ten minutes of nanoseconds need.
/// Readers show them and use them for nothing.
const SUB_BUCKETS: u32 = 2048;

/// The percentiles of a histogram of nanoseconds.
// Writing to a string cannot fail.
pub fn hgrm(hdr: &Hdr) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in hdr.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / MS, step.quantile_iterated_to());
        let _ = write!(text, "{value:12.6} {quantile:14.12} {total:10}");
        if quantile < 1.0 {
            let _ = write!(text, " {:14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    let (mean, deviation, max) = (hdr.mean() / MS, hdr.stdev() / MS, hdr.max() as f64 / MS);
    let buckets = 64 - (hdr.high() / u64::from(SUB_BUCKETS)).leading_zeros() + 1;
    let _ = writeln!(text, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]");
    let _ = writeln!(text, "#[Max     = {max:12.6}, Total count    = {:12}]", hdr.len());
    let _ = writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {SUB_BUCKETS:12}]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::histogram;

    #[test]
    fn a_plotter_reads_it() {
        let mut hdr = histogram();
        for n in 1..=10_000 {
            hdr.record(n * 1_000).unwrap();
        }
        let text = hgrm(&hdr);
        // What HdrHistogram's plotter takes: lines of four numbers that do not begin with a `#`.
        let rows: Vec<Vec<f64>> = text
            .lines()
            .map(|line| line.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>().unwrap_or_default())
            .filter(|row| row.len() == 4)
            .collect();
        assert!(rows.len() > 50, "{text}");
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] < b[1] && a[2] <= b[2] && a[3] < b[3]), "{text}");
        for row in &rows {
            assert!((row[3] * (1.0 - row[1]) - 1.0).abs() < 0.01, "{row:?}");
            // Uniform from 0.001 ms to 10 ms.
            assert!((row[0] - 10.0 * row[2] / 10_000.0).abs() < 0.02, "{row:?}");
        }
        let at = |quantile: f64| rows.iter().find(|row| row[1] >= quantile).unwrap()[0];
        assert!((at(0.5) - 5.0).abs() < 0.01 && (at(0.99) - 9.9).abs() < 0.1, "{text}");
        assert!(text.contains("#[Max     =    10.00"), "{text}");
        assert!(text.contains("Total count    =        10000]"), "{text}");
    }
}
