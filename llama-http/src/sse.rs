//! Server-sent events, from bytes in whatever pieces they come.

use crate::{Answer, HttpError};
use std::collections::VecDeque;

/// The longest line taken. llama-server's chunks have a few hundred bytes.
pub(crate) const MAX_LINE_BYTES: usize = 4 << 20;

/// One event of a stream of server-sent events.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether llama-server sent it as `error:` instead of `data:`.
    pub is_error: bool,
    /// What it carries: the text behind `data:` or `error:`, several lines joined by line breaks.
    pub data: String,
}

/// A line is longer than any a server means to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// The events of an answer.
pub struct Events {
    answer: Answer,
    parser: EventParser,
    /// Events that came with a piece whose first one was already given out.
    ready: VecDeque<Event>,
}

impl Events {
    pub(crate) fn of(answer: Answer) -> Events {
        Events { answer, parser: EventParser::default(), ready: VecDeque::new() }
    }

    /// The next event; `None` at the proper end of the body. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`HttpError::Broken`] when the connection broke first, [`HttpError::TooLong`] for a line
    /// that is too long to be meant.
    pub async fn next(&mut self) -> Result<Option<Event>, HttpError> {
        while self.ready.is_empty() {
            let Some(bytes) = self.answer.piece().await? else { return Ok(None) };
            self.ready.extend(self.parser.push(&bytes)?);
        }
        Ok(self.ready.pop_front())
    }
}

/// Makes events of bytes, and keeps the bytes that do not make a whole one yet.
#[derive(Debug, Default)]
pub struct EventParser {
    line: Vec<u8>,
    /// The last line ended with CR; an LF that follows belongs to it.
    after_return: bool,
    data: Vec<String>,
    is_error: bool,
}

impl EventParser {
    /// Takes bytes; the events that are whole with them.
    ///
    /// # Errors
    /// [`LineTooLong`] when a line goes on for more than 4 MiB.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, LineTooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_of_line(&line));
                }
                _ if self.line.len() >= MAX_LINE_BYTES => return Err(LineTooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self, line: &[u8]) -> Option<Event> {
        if line.is_empty() {
            let is_error = std::mem::take(&mut self.is_error);
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty()).then(|| Event { is_error, data: data.join("\n") });
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => self.data.push(value.to_owned()),
            "error" => {
                self.is_error = true;
                self.data.push(value.to_owned());
            }
            // Comments, and fields that mean nothing here.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(text: &str) -> Vec<(bool, String)> {
        let mut parser = EventParser::default();
        let events = parser.push(text.as_bytes()).unwrap();
        events.into_iter().map(|event| (event.is_error, event.data)).collect()
    }

    #[test]
    fn fields_comments_and_line_ends() {
        assert_eq!(
            events(
                ": hi\n\ndata: {\"a\":1}\r\n\r\ndata:x\ndata: y\n\nerror: {}\n\nid: 7\n\ndata: cut"
            ),
            [(false, "{\"a\":1}".into()), (false, "x\ny".into()), (true, "{}".into())]
        );
        assert_eq!(events("data: a\r\rdata: b\n\n"), [(false, "a".into()), (false, "b".into())]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = EventParser::default();
        let block = vec![b'x'; 1 << 20];
        assert_eq!(
            (0..5).map(|_| parser.push(&block)).find(Result::is_err),
            Some(Err(LineTooLong))
        );
    }

    proptest! {
        #[test]
        fn the_cuts_do_not_matter(
            texts in proptest::collection::vec("[^\\r\\n]{0,20}", 1..8),
            line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
            cuts in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let wire: String =
                texts.iter().map(|text| format!("data: {text}{line_end}{line_end}")).collect();
            let mut parser = EventParser::default();
            let mut rest = wire.as_bytes();
            let mut found = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                rest = after;
                found.extend(parser.push(piece).unwrap().into_iter().map(|event| event.data));
            }
            prop_assert_eq!(found, texts);
        }
    }
}
