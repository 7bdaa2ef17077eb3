//! Times and durations: as people type them, and as they are shown.
//!
//! On the wire a time is Unix milliseconds; local time exists only here.

use jiff::civil::{DateTime, Time, date};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use std::time::Duration;

/// Reads a moment: `10m` or `1h30m` ago, RFC 3339, local `2026-01-31 12:00`, or `12:00` today.
///
/// Where a clock that is put ahead leaves a local time out it is read as if the clock had not been put yet,
/// and of one that comes twice the first is meant.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_moment(text: &str) -> Result<i64, String> {
    moment(text, Timestamp::now(), &TimeZone::system())
}

fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<i64, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now.as_millisecond());
    }
    // Before a span, which 12:00:05 could be too.
    if text.contains(':') && text.bytes().all(|it| it == b':' || it.is_ascii_digit()) {
        let time = text.parse::<Time>().ok();
        let today = time.map(|time| zone.to_datetime(now).date().to_datetime(time));
        return at_local(today, zone);
    }
    if let Some(ago) = span(text) {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(now.as_millisecond().saturating_sub(ago));
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    // A zone in brackets or an offset would be dropped silently by the next parser.
    at_local(text.parse().ok(), zone)
}

fn at_local(time: Option<DateTime>, zone: &TimeZone) -> Result<i64, String> {
    let at = time.and_then(|time| zone.to_timestamp(time).ok());
    at.map(Timestamp::as_millisecond).ok_or_else(|| {
        "expected how long ago (10m, 1h30m), or a time (12:00, 2026-01-31 12:00, 2026-01-31T12:00:00Z)"
            .to_owned()
    })
}

/// Reads a duration: `90`, `90s`, `1m30s`. A bare number is seconds.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    span(text)
        .ok_or_else(|| "expected a duration: 30s, 5m, 1h30m; a bare number is seconds".to_owned())
}

/// A span with its units, `1h30m`. Deadlines are computed from it; a century is as good as for
/// ever.
fn span(text: &str) -> Option<Duration> {
    const CENTURY: Duration = Duration::from_secs(100 * 366 * 86_400);
    let span = text.parse::<Span>().ok().filter(|span| !span.is_negative())?;
    let duration = span.to_duration(date(2001, 1, 1)).ok();
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    Some(duration.map_or(CENTURY, |duration| duration.min(CENTURY)))
}

/// Milliseconds since the Unix epoch, now.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Shows moments in one time zone; looking the zone up once is enough.
pub(crate) struct Clock(TimeZone);

impl Clock {
    /// In the time zone of this machine.
    pub(crate) fn local() -> Self {
        Clock(TimeZone::system())
    }

    /// A moment for programs: RFC 3339, in UTC.
    pub(crate) fn rfc_3339(at_ms: i64) -> String {
        Timestamp::from_millisecond(at_ms).unwrap_or_default().to_string()
    }

    /// In UTC, for what must look the same on every machine.
    #[cfg(test)]
    pub(crate) fn utc() -> Self {
        Clock(TimeZone::UTC)
    }

    /// `2026-01-31 12:00:05`
    pub(crate) fn full(&self, at_ms: i64) -> String {
        self.format(at_ms, "%Y-%m-%d %H:%M:%S")
    }

    /// `12:00:05` where that is of the day of `now_ms`, else with the date.
    pub(crate) fn of_day(&self, at_ms: i64, now_ms: i64) -> String {
        let day = |ms| self.format(ms, "%Y-%m-%d");
        if day(at_ms) == day(now_ms) { self.time(at_ms) } else { self.full(at_ms) }
    }

    /// `Saturday 2026-11-28`
    pub(crate) fn day(&self, at_ms: i64) -> String {
        self.format(at_ms, "%A %Y-%m-%d")
    }

    /// `12:00:05`
    pub(crate) fn time(&self, at_ms: i64) -> String {
        self.format(at_ms, "%H:%M:%S")
    }

    fn format(&self, at_ms: i64, format: &str) -> String {
        match Timestamp::from_millisecond(at_ms) {
            Ok(at) => self.0.to_datetime(at).strftime(format).to_string(),
            Err(_) => super::units::UNKNOWN.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_769_860_800_000; // 2026-01-31T12:00:00Z

    fn read(text: &str) -> Result<i64, String> {
        let east = TimeZone::fixed(jiff::tz::offset(2));
        moment(text, Timestamp::from_millisecond(NOON_MS).unwrap(), &east)
    }

    #[test]
    fn moments_as_people_type_them() {
        assert_eq!(read("10m"), Ok(NOON_MS - 600_000));
        assert_eq!(read("1h30m"), Ok(NOON_MS - 5_400_000));
        assert_eq!(read("1d"), Ok(NOON_MS - 86_400_000));
        assert_eq!(read("2 weeks"), Ok(NOON_MS - 14 * 86_400_000));
        assert_eq!(read("2026-01-31T12:00:00Z"), Ok(NOON_MS));
        assert_eq!(read("2026-01-31T14:00:00+02:00"), Ok(NOON_MS));
        assert_eq!(read("2026-01-31 14:00"), Ok(NOON_MS));
        assert_eq!(read("2026-01-31 14:00:05"), Ok(NOON_MS + 5000));
        assert_eq!(read("2026-01-31"), Ok(NOON_MS - 14 * 3_600_000));
        assert_eq!(read("now"), Ok(NOON_MS));
        assert_eq!(read("10:00"), Ok(NOON_MS - 4 * 3_600_000), "of today, as it is here");
        assert_eq!(read("23:59:59"), Ok(NOON_MS + (10 * 3600 - 1) * 1000));
        for bad in ["", "yesterday", "2026-13-01", "-5m", "25:00", "1000", "10:00Z", "10:00+02:00"]
        {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    /// Fault 18: zones by their rules, so that no table of this machine is needed. Offsets of half and
    /// quarter hours, beyond twelve, a summer of half an hour, and both halves of the earth.
    const ZONES: [&str; 9] = [
        "UTC0",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "EST5EDT,M3.2.0,M11.1.0",
        "NST3:30NDT,M3.2.0,M11.1.0",
        "<+0545>-5:45",
        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
        "<+14>-14",
        "<-11>11",
        "AEST-10AEDT,M10.1.0,M4.1.0/3",
    ];

    fn zone(rules: &str) -> TimeZone {
        TimeZone::posix(rules).unwrap()
    }

    #[test]
    fn what_is_shown_is_read_as_the_same_moment_in_every_zone() {
        for rules in ZONES {
            let clock = Clock(zone(rules));
            // Every hour of the day, all over three years, and seconds that no minute begins with.
            for step in 0..3 * 8784 / 5 {
                let at_ms = NOON_MS + step * 5 * 3_599_000;
                let at = Timestamp::from_millisecond(at_ms).unwrap();
                let shown = clock.full(at_ms);
                let read = moment(&shown, at, &clock.0).unwrap();
                // An hour that comes twice is read as its first.
                let is_second = at_ms - read > 0;
                assert!(
                    read == at_ms || (is_second && clock.full(read) == shown),
                    "{rules} {shown}"
                );
                let today = moment(&clock.time(at_ms), at, &clock.0).unwrap();
                assert_eq!(today, read, "{rules} {shown}");
                assert_eq!(moment(&Clock::rfc_3339(at_ms), at, &clock.0), Ok(at_ms));
                assert_eq!(moment("1d", at, &clock.0), Ok(at_ms - 86_400_000), "a day is 24 hours");
            }
        }
    }

    #[test]
    fn a_time_that_a_clock_leaves_out_or_has_twice_is_one_moment() {
        let now = Timestamp::from_millisecond(NOON_MS).unwrap();
        for (rules, text, expected) in [
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-03-29 02:30", "2026-03-29T01:30:00Z"),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-10-25 02:30", "2026-10-25T00:30:00Z"),
            ("EST5EDT,M3.2.0,M11.1.0", "2026-03-08 02:30", "2026-03-08T07:30:00Z"),
            ("EST5EDT,M3.2.0,M11.1.0", "2026-11-01 01:30", "2026-11-01T05:30:00Z"),
            ("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "2026-10-04 02:15", "2026-10-03T15:45:00Z"),
            ("<+14>-14", "2026-01-01", "2025-12-31T10:00:00Z"),
            ("UTC0", "2016-12-31 23:59:60", "2016-12-31T23:59:59Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(
                moment(text, now, &zone(rules)),
                Ok(expected.as_millisecond()),
                "{rules} {text}"
            );
        }
    }

    #[test]
    fn durations_as_people_type_them() {
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("9999years").is_ok_and(|d| d.as_secs() < 4_000_000_000));
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn moments_are_shown_in_the_zone() {
        let clock = Clock(TimeZone::fixed(jiff::tz::offset(2)));
        assert_eq!(clock.full(NOON_MS), "2026-01-31 14:00:00");
        assert_eq!(clock.time(NOON_MS), "14:00:00");
        assert_eq!(clock.full(i64::MAX), "-");
    }
}
