//! Lines as systemd's journal reads them: `<3>` to `<7>` for the level, and what it knows itself left
//! out.

use std::fmt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer, format};
use tracing_subscriber::registry::LookupSpan;

/// What stands before a line of the level `error`.
pub(super) const ERROR: &str = "<3>";

/// Whether `JOURNAL_STREAM` names the file of this device and inode.
pub(super) fn is_named(stream: Option<&str>, device: u64, inode: u64) -> bool {
    stream.is_some_and(|stream| stream == format!("{device}:{inode}"))
}

/// Formats an event for the journal.
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(priority(*event.metadata().level()))?;
        let plain = format().without_time().with_level(false).with_target(false);
        plain.format_event(context, writer, event)
    }
}

/// The priority of a level, as sd-daemon(3) writes it.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => ERROR,
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_told_by_the_file_it_names() {
        assert!(is_named(Some("9:4711"), 9, 4711));
        for other in [None, Some(""), Some("9:4712"), Some("9"), Some("4711:9")] {
            assert!(!is_named(other, 9, 4711), "{other:?}");
        }
    }

    #[test]
    fn a_line_has_its_level_before_it_and_no_time() {
        let (mut read, write) = std::io::pipe().unwrap();
        let writer = std::sync::Mutex::new(write);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .with_writer(writer)
            .event_format(Lines)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(model = "m", "broken");
            tracing::warn!("odd");
            tracing::info!("so");
            tracing::debug!("detail");
        });
        let mut said = String::new();
        std::io::Read::read_to_string(&mut read, &mut said).unwrap();
        assert_eq!(said, "<3>broken model=\"m\"\n<4>odd\n<6>so\n<7>detail\n");
    }
}
