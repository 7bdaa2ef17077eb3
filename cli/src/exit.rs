//! How a command ends.
//!
//! ```text
//!   0 done   1 failed   2 usage   3 not found   4 conflict   5 invalid value
//!   6 daemon unreachable   7 timed out   8 the server failed   130 interrupted
//! ```

use crate::output::Output;
use llamactl_protocol::{Failure, Kind};
use std::io;

/// Why a command ends before its time.
#[derive(Debug)]
pub(crate) enum Quit {
    /// It failed; this is to be told.
    Failure(Box<Failure>),
    /// It failed in parts that were told already; the exit status of the first.
    Told(u8),
    /// The reader of stdout has had enough. That is success.
    ClosedPipe,
}

/// What a command comes to.
pub(crate) type Outcome = Result<(), Quit>;

impl From<Failure> for Quit {
    fn from(failure: Failure) -> Self {
        Quit::Failure(Box::new(failure))
    }
}

/// From writing to stdout; nothing else in a command yields a bare I/O error.
impl From<io::Error> for Quit {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Quit::ClosedPipe,
            _ => Failure::new(Kind::IoFailed, format!("writing the output failed: {error}")).into(),
        }
    }
}

/// Tells what is left to tell; the exit status.
pub(crate) fn conclude(output: &mut Output, outcome: Outcome) -> u8 {
    let outcome = outcome.and_then(|()| output.flush());
    match outcome {
        Ok(()) | Err(Quit::ClosedPipe) => 0,
        Err(Quit::Told(status)) => status,
        Err(Quit::Failure(failure)) => {
            // What was printed before the failure stands before it.
            let _ = output.flush();
            output.failure(&failure);
            failure.kind.exit_status()
        }
    }
}

/// Collects the failures of a command that tries several things: each is told at once, the first
/// decides the exit status: by its place in the list, and not by when it happened.
#[derive(Default)]
pub(crate) struct Tally(Option<(usize, u8)>);

impl Tally {
    /// The value, or the failure told and counted. A closed pipe ends everything.
    pub(crate) fn take<T>(
        &mut self,
        output: &Output,
        result: Result<T, Quit>,
    ) -> Result<Option<T>, Quit> {
        self.take_at(output, 0, result)
    }

    /// The same for what has this place in the list.
    pub(crate) fn take_at<T>(
        &mut self,
        output: &Output,
        place: usize,
        result: Result<T, Quit>,
    ) -> Result<Option<T>, Quit> {
        let failure = match result {
            Ok(value) => return Ok(Some(value)),
            Err(Quit::Failure(failure)) => failure,
            Err(Quit::Told(status)) => {
                self.count(place, status);
                return Ok(None);
            }
            Err(Quit::ClosedPipe) => return Err(Quit::ClosedPipe),
        };
        output.failure(&failure);
        self.count(place, failure.kind.exit_status());
        // Nothing that follows could succeed.
        match failure.kind {
            Kind::DaemonUnreachable | Kind::Stopping | Kind::Interrupted => {
                self.end().map(|()| None)
            }
            _ => Ok(None),
        }
    }

    fn count(&mut self, place: usize, status: u8) {
        if self.0.is_none_or(|(first, _)| place < first) {
            self.0 = Some((place, status));
        }
    }

    /// The end: the first failure's exit status.
    pub(crate) fn end(&self) -> Outcome {
        self.0.map_or(Ok(()), |(_, status)| Err(Quit::Told(status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn the_first_failure_decides() {
        let output = Output::new(Format { json: true, ..Format::default() });
        let mut tally = Tally::default();
        let failed = |kind| Err::<(), Quit>(Failure::new(kind, "x").into());
        assert!(tally.take(&output, Ok(1)).unwrap().is_some());
        assert!(tally.take(&output, failed(Kind::ModelNotFound)).unwrap().is_none());
        assert!(tally.take(&output, failed(Kind::ServerFailed)).unwrap().is_none());
        assert!(matches!(tally.end(), Err(Quit::Told(3))));
        assert!(matches!(tally.take(&output, failed(Kind::DaemonUnreachable)), Err(Quit::Told(3))));
    }

    #[test]
    fn a_closed_pipe_is_success() {
        let mut output = Output::new(Format::default());
        let closed = Quit::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(conclude(&mut output, Err(closed)), 0);
    }
}
