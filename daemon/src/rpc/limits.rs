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
    /// How many JSON values a line may hold. Each costs some forty bytes when it is read.
    pub values: usize,
    /// The longest key of an object, in bytes.
    pub key_bytes: usize,
    /// How many calls a batch may hold.
    pub batch_calls: usize,
    /// Calls one connection may have unanswered: running, or answered and not yet written to the
    /// socket. Past it the daemon stops reading from that connection, and the kernel blocks the
    /// peer's writes.
    pub calls_in_flight: usize,
    /// Calls of one connection that look and run at once; more wait for those.
    pub looks: usize,
    /// Streams one connection may have open.
    pub subscriptions: usize,
    /// Bytes of answers and items that each connection may have unwritten, whatever else its user's
    /// connections hold.
    pub queued_bytes: u32,
    /// Bytes that the lines of one user's connections may cost, while they come in and until their
    /// calls have ended: three times their length.
    pub request_bytes_per_uid: u32,
    /// Bytes of answers that one user's connections may have unwritten, beside
    /// [`queued_bytes`](Limits::queued_bytes) of each. Two budgets and not one, so that no call holds
    /// what another waits for.
    pub answer_bytes_per_uid: u32,
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
    /// The same, of a peer that holds room which others of its user wait for. Followers too.
    pub short_stall_deadline: Duration,
    /// From the order to stop until what still runs is cut off.
    pub stop_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_bytes: MAX_MESSAGE_BYTES,
            depth: 64,
            values: 20_000,
            key_bytes: 256,
            batch_calls: 64,
            calls_in_flight: 16,
            looks: 2,
            subscriptions: 16,
            queued_bytes: 64 << 10,
            request_bytes_per_uid: 12 << 20,
            answer_bytes_per_uid: 12 << 20,
            connections_per_uid: 64,
            connections: 256,
            message_deadline: Duration::from_secs(10),
            first_byte_deadline: Duration::from_secs(60),
            idle_deadline: Duration::from_secs(5 * 60),
            stall_deadline: Duration::from_secs(5 * 60),
            short_stall_deadline: Duration::from_secs(30),
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
