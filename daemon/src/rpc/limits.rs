//! What one connection, one user and all of them together may cost.

use llamactl_protocol::MAX_MESSAGE_BYTES;
use std::time::Duration;

/// Shortens the whole-message deadline, in milliseconds. For tests of slow clients only.
pub const TEST_MESSAGE_DEADLINE_VARIABLE: &str = "LLAMACTL_TEST_MESSAGE_DEADLINE_MS";

/// The bounds of the wire. [`Limits::default`] is what the daemon uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest line either side sends, in bytes, without its line end.
    pub message_bytes: usize,
    /// How deep arrays and objects may be nested.
    pub depth: usize,
    /// How many calls a batch may hold.
    pub batch_calls: usize,
    /// Calls one connection may have unanswered: running, or answered and not yet written to the
    /// socket. Past it the daemon stops reading from that connection, and the kernel blocks the
    /// peer's writes.
    pub calls_in_flight: usize,
    /// Streams one connection may have open.
    pub subscriptions: usize,
    /// Bytes queued to one peer. A message longer than this is queued alone, so at most the
    /// larger of this and one message waits.
    pub queued_bytes: u32,
    /// Connections of one user.
    pub connections_per_uid: usize,
    /// Connections in all.
    pub connections: usize,
    /// From a line's first byte to its end.
    pub message_deadline: Duration,
    /// From connecting to the first byte.
    pub first_byte_deadline: Duration,
    /// Without a line, a running call or a stream.
    pub idle_deadline: Duration,
    /// How long a peer without a stream may leave a reply unread. A follower may be slow for ever.
    pub stall_deadline: Duration,
    /// From the order to stop until what still runs is cut off.
    pub stop_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_bytes: MAX_MESSAGE_BYTES,
            depth: 64,
            batch_calls: 64,
            calls_in_flight: 16,
            subscriptions: 16,
            queued_bytes: 256 << 10,
            connections_per_uid: 64,
            connections: 256,
            message_deadline: Duration::from_secs(10),
            first_byte_deadline: Duration::from_secs(60),
            idle_deadline: Duration::from_secs(5 * 60),
            stall_deadline: Duration::from_secs(5 * 60),
            stop_deadline: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// The defaults, with the one deadline a test may shorten: `milliseconds` is the value of
    /// [`TEST_MESSAGE_DEADLINE_VARIABLE`], where it is set. What is not a number is ignored.
    #[must_use]
    pub fn with_test_deadline(milliseconds: Option<&str>) -> Self {
        let defaults = Limits::default();
        let shortened = milliseconds.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        Limits { message_deadline: shortened.unwrap_or(defaults.message_deadline), ..defaults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_shortens_the_message_deadline() {
        let defaults = Limits::default();
        assert_eq!(Limits::with_test_deadline(None), defaults);
        assert_eq!(Limits::with_test_deadline(Some("soon")), defaults);
        let short = Limits::with_test_deadline(Some("150"));
        assert_eq!(short.message_deadline, Duration::from_millis(150));
        assert_eq!(Limits { message_deadline: defaults.message_deadline, ..short }, defaults);
    }
}
