//! Times and durations: as people type them, and as they are shown.
//!
//! On the wire a time is Unix milliseconds; local time exists only here.

use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use std::time::Duration;

/// Reads a moment: `10m` or `1h30m` ago, RFC 3339, or local `2026-01-31 12:00`.
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
    if let Some(ago) = span(text) {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(now.as_millisecond().saturating_sub(ago));
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    // A zone in brackets or an offset would be dropped silently by the next parser.
    let local = text.parse::<DateTime>().ok().and_then(|time| zone.to_timestamp(time).ok());
    local.map(jiff::Timestamp::as_millisecond).ok_or_else(|| {
        "expected how long ago (10m, 1h30m), or a time (2026-01-31 12:00, 2026-01-31T12:00:00Z)"
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
        for bad in ["", "yesterday", "2026-13-01", "-5m", "12:00"] {
            assert!(read(bad).is_err(), "{bad:?}");
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
