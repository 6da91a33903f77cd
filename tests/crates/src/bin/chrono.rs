//! Dates and times: arithmetic, formats there and back, errors.

use chrono::{
    DateTime, Datelike, Days, Duration, FixedOffset, Months, NaiveDate, NaiveDateTime, TimeZone, Utc, Weekday,
};

use crates::source::Source;

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let times: Vec<DateTime<Utc>> = (0..30)
        .map(|_| Utc.timestamp_opt(source.below(1 << 32) as i64, source.below(1_000_000_000) as u32).unwrap())
        .collect();
    let mut sorted = times.clone();
    sorted.sort_by_key(|time| (time.weekday().num_days_from_monday(), std::cmp::Reverse(*time)));
    let mut out = String::new();
    for time in &sorted[..10] {
        let zone = FixedOffset::east_opt(source.below(80_000) as i32 / 60 * 60 - 40_000 / 60 * 60).unwrap();
        let local = time.with_timezone(&zone);
        let text = local.to_rfc3339();
        assert_eq!(DateTime::parse_from_rfc3339(&text).unwrap(), *time);
        assert_eq!(DateTime::parse_from_rfc2822(&local.to_rfc2822()).unwrap().timestamp(), time.timestamp());
        let long = local.format("%A, %-d. %B %Y %I:%M:%S%.6f %p %:z, day %j of %G-W%V").to_string();
        let month = local.checked_add_months(Months::new(13)).and_then(|t| t.checked_sub_days(Days::new(400)));
        out += &format!("{text} {long} {month:?}\n");
    }
    let total = times.windows(2).map(|pair| pair[1] - pair[0]).fold(Duration::zero(), |sum, d| sum + d);
    assert_eq!(times[0] + total, times[29]);
    let fridays = NaiveDate::from_ymd_opt(2000, 1, 1)
        .unwrap()
        .iter_days()
        .filter(|day| day.weekday() == Weekday::Fri && day.day() == 13)
        .take(5)
        .map(|day| day.format("%F").to_string())
        .collect::<Vec<_>>();
    let errors: Vec<String> =
        [("2001-02-30 1:2:3", "%F %T"), ("x", "%Y"), ("2001-02-03 25:00:00", "%F %T"), ("12", "%q")]
            .iter()
            .map(|(text, format)| NaiveDateTime::parse_from_str(text, format).unwrap_err().to_string())
            .collect();
    format!("{out}{total:?} {fridays:?} {errors:?}")
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
