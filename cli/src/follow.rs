//! Streams to stdout, until they end, the reader has enough or the person presses Ctrl-C.
//!
//! Lines that are here already are printed together; before waiting for the next everything is
//! flushed. So a long log is fast and a live stream is never late.

use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::output::hangup::reader_gone;
use crate::output::units;
use llamactl_protocol::client::Follow;
use llamactl_protocol::stream::{End, EndReason, Item, Missed};
use llamactl_protocol::{Failure, Hint, Kind, Subscription};
use serde::Deserialize;
use std::future::ready;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::ctrl_c;

/// Hands each snapshot and change to `print`, also with `--json`.
///
/// # Errors
/// The stream's failure; [`Kind::DaemonUnreachable`] when the daemon goes away.
pub(crate) async fn each<S, T>(
    output: &mut Output,
    follow: &mut Follow<S, T>,
    mut print: impl FnMut(&mut Output, S::Item) -> Outcome,
) -> Outcome
where
    S: Subscription,
    T: AsyncRead + AsyncWrite,
{
    let mut halt = pin!(halt());
    loop {
        match soon(output, follow.next(), &mut halt).await? {
            Item::Snapshot { data, .. } | Item::Change { data, .. } => print(output, data)?,
            Item::Missed { data, .. } => output.aside(missed(data)),
            Item::End { data, .. } => {
                output.flush()?;
                return conclude(data);
            }
        }
    }
}

/// Why a stream is no longer printed although more may come.
pub(crate) enum Halt {
    /// The person pressed Ctrl-C.
    Interrupted,
    /// The reader of stdout has gone.
    ReaderGone,
}

/// Until nobody wants more. To be made once for a stream: a key pressed in between would be lost.
pub(crate) async fn halt() -> Halt {
    tokio::select! {
        _ = ctrl_c() => Halt::Interrupted,
        () = reader_gone() => Halt::ReaderGone,
    }
}

/// The next item, at once where there is one; else stdout is flushed first.
async fn soon<T>(
    output: &mut Output,
    next: impl Future<Output = Result<Option<T>, Failure>>,
    halt: impl Future<Output = Halt>,
) -> Result<T, Quit> {
    match unless_halted(output, next, halt).await? {
        Ok(Some(item)) => Ok(item),
        Ok(None) => {
            output.flush()?;
            Err(gone().into())
        }
        Err(failure) => Err(failure.into()),
    }
}

/// What comes of `next`, at once where it is there; else stdout is flushed first.
///
/// # Errors
/// How to end when nobody wants more.
pub(crate) async fn unless_halted<T>(
    output: &mut Output,
    next: impl Future<Output = T>,
    halt: impl Future<Output = Halt>,
) -> Result<T, Quit> {
    let (mut next, mut halt) = (pin!(next), pin!(halt));
    tokio::select! {
        // The person first: a log that never pauses must not keep Ctrl-C from being heard.
        biased;
        why = &mut halt => return Err(halted(output, why)),
        value = &mut next => return Ok(value),
        () = ready(()) => {}
    }
    output.flush()?;
    tokio::select! {
        biased;
        why = halt => Err(halted(output, why)),
        value = next => Ok(value),
    }
}

fn halted(output: &mut Output, why: Halt) -> Quit {
    match (why, output.flush()) {
        (Halt::Interrupted, Ok(())) => Quit::Told(Kind::Interrupted.exit_status()),
        (Halt::ReaderGone, Ok(())) => Quit::ClosedPipe,
        (_, Err(quit)) => quit,
    }
}

/// What to make of a stream's end.
///
/// # Errors
/// The failure it carries, or that the daemon stops.
pub(crate) fn conclude(end: End) -> Outcome {
    match (end.reason, end.failure) {
        (EndReason::Done, _) => Ok(()),
        (_, Some(failure)) => Err(failure.into()),
        (EndReason::DaemonStopping, None) => {
            Err(Failure::new(Kind::Stopping, "the daemon is stopping").into())
        }
        (EndReason::Failed, None) => {
            Err(Failure::new(Kind::Internal, "the daemon ended the stream").into())
        }
    }
}

/// The daemon closed the connection without a word.
pub(crate) fn gone() -> Failure {
    Failure::new(Kind::DaemonUnreachable, "the daemon went away")
        .hint(Hint::run("see whether it answers", ["llamactl", "daemon", "status"]))
}

/// The end an item carries, if it is one.
pub(crate) fn end_of(item: &str) -> Option<End> {
    #[derive(Deserialize)]
    struct Ending {
        kind: String,
        data: End,
    }
    serde_json::from_str::<Ending>(item)
        .ok()
        .filter(|item| item.kind == "end")
        .map(|item| item.data)
}

/// What was dropped, for people.
pub(crate) fn missed(missed: Missed) -> String {
    match missed {
        Missed { bytes: Some(bytes), .. } => {
            format!("… {} of log were dropped before this line", units::bytes(bytes))
        }
        Missed { items: Some(items), .. } => format!("… {items} items were dropped here"),
        Missed { items: None, bytes: None } => "… something was dropped here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_ends() {
        let end = r#"{"kind":"end","at_ms":1,"cursor":null,"data":{"reason":"done"}}"#;
        assert_eq!(end_of(end).map(|end| end.reason), Some(EndReason::Done));
        assert!(
            end_of(r#"{"kind":"change","at_ms":1,"cursor":null,"data":{"reason":"done"}}"#)
                .is_none()
        );
        assert!(end_of(r#"{"kind":"change","at_ms":1,"data":7}"#).is_none());
    }

    #[test]
    fn a_stopping_daemon_is_exit_6_and_a_finished_stream_is_0() {
        let end = |reason| conclude(End { reason, failure: None });
        assert!(end(EndReason::Done).is_ok());
        let Err(Quit::Failure(failure)) = end(EndReason::DaemonStopping) else { panic!() };
        assert_eq!(failure.kind.exit_status(), 6);
    }

    #[test]
    fn what_was_dropped_is_said() {
        let text = missed(Missed { items: None, bytes: Some(12_288) });
        assert_eq!(text, "… 12.0 KiB of log were dropped before this line");
    }
}
