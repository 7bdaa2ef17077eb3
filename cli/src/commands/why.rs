//! `llamactl why NAME`

use super::status::remarks;
use super::status_one::title;
use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::Facts;
use crate::output::sanitize::one_line;
use crate::output::styled::{BOLD, DIM, Styled};
use crate::output::time::{Clock, now_ms};
use crate::view::{asked_by, silence};
use clap::Args;
use llamactl_protocol::event::Event;
use llamactl_protocol::prose::clause;
use llamactl_protocol::server::{ServerWhy, State, Why as Answer};
use llamactl_protocol::warning::{Warning, WarningCode};

/// Events shown of what happened before.
const EVENTS: usize = 8;

/// Explain why a server is in its state, and what to do
///
/// The last change in plain words, the log lines that say so, whether and when it is started
/// again, who started it, and what happened before. It also tells of a server that runs.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl why qwen3",
    "llamactl why qwen3 --json | jq -r .summary",
    "llamactl events --model qwen3 --since 1d   # the whole story";
    "0 done, whatever the state, 3 no such model, 6 daemon unreachable"
))]
pub(crate) struct Why {
    /// A model, by name or alias
    #[arg(value_name = "NAME", add = model_names())]
    name: String,
}

/// Prints the daemon's answer; with `-q` only the word of the cause.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Why) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let why = daemon.call(&ServerWhy { model: args.name.into() }).await?;
    if output.json {
        return output.json(&why);
    }
    if output.quiet {
        let code = why.server.cause.as_ref().map(|cause| cause.code.as_str());
        return output.names(code);
    }
    show(output, &why, &Clock::local(), now_ms())
}

/// Tells all of it.
pub(crate) fn show(output: &mut Output, why: &Answer, clock: &Clock, now_ms: i64) -> Outcome {
    let server = &why.server;
    title(output, server, clock, now_ms)?;
    // Of these the first line says it all.
    let is_plain = matches!(server.state, State::Starting | State::Stopping)
        || (server.state == State::Stopped && server.run.is_none() && server.cause.is_none());
    if !is_plain {
        output.prose(2, why.summary.as_str())?;
    }
    if let Some(next) = &why.next {
        output.prose(2, next.as_str())?;
    }
    let mut facts = Facts::indented(2, 7);
    for line in &why.evidence {
        facts.add_more("log", Styled::new().with(DIM, line.as_str()));
    }
    // Silence is what the first lines tell of.
    let warnings = server.warnings.iter().filter(|it| it.code != WarningCode::NotAnswering);
    remarks(&mut facts, warnings);
    for remark in &why.remarks {
        facts.add("note", remark.as_str());
    }
    let silent = silence(server).map(Warning::hints).unwrap_or_default();
    for hint in why.hints.iter().chain(&silent) {
        facts.add_hint("to do", hint);
    }
    if let Some(by) = why.by.as_ref().filter(|_| server.state != State::Stopped) {
        facts.add("started", format!("by {by}"));
    }
    if !facts.is_empty() {
        output.line_unflushed("")?;
        output.facts(facts)?;
    }
    let before = why.events.len().saturating_sub(EVENTS);
    let events = why.events.get(before..).unwrap_or_default();
    if !events.is_empty() {
        output.line_unflushed("")?;
        let width = events.iter().map(|event| event.kind.as_str().len()).max().unwrap_or(0);
        let day = |ms| clock.day(ms);
        let today = events.iter().all(|event| day(event.at_ms) == day(now_ms));
        for event in events {
            let at = if today { clock.time(event.at_ms) } else { clock.full(event.at_ms) };
            story(output, event, &at, width, &server.model)?;
        }
    }
    output.flush()
}

/// An event of the server's story: its name, which is above, is left out.
fn story(output: &mut Output, event: &Event, at: &str, width: usize, model: &str) -> Outcome {
    let message = event.message.strip_prefix(model).unwrap_or(&event.message);
    let message = message.strip_prefix(": ").or(message.strip_prefix(' ')).unwrap_or(message);
    let head = Styled::new()
        .with(DIM, format!("  {at}  "))
        .with(BOLD, format!("{:<width$}  ", one_line(event.kind.as_str())));
    output.entry(head, Styled::from(clause(message)).with(DIM, asked_by(event)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};
    use llamactl_protocol::Hint;

    /// What the daemon says of a server in this state.
    fn why(state: State) -> Answer {
        let name = "qwen3-8b";
        let command = |text: &str, verb: &str| Hint::run(text, ["llamactl", verb, name]);
        let (summary, next, hints): (&str, Option<&str>, Vec<Hint>) = match state {
            State::Stopped => (
                "Stopped by anna (llamactl stop qwen3-8b); 2 requests were cut off.",
                None,
                vec![command("start it", "start")],
            ),
            State::Queued => ("It waits to load: big (62%) is loading.", None, vec![]),
            State::Starting => ("It is starting, and does not answer yet.", None, vec![]),
            State::Loading => ("It is loading the model: 42%.", None, vec![]),
            State::Ready => ("It answers requests.", None, vec![]),
            State::Sleeping => (
                "It unloaded its model because nobody used it; the next request loads it.",
                None,
                vec![],
            ),
            State::Stopping => ("It was told to stop, and has not ended yet.", None, vec![]),
            State::Backoff => (
                "The model file is incomplete. It never became ready.",
                Some("It starts again in 3.0s. 2 failures in a row."),
                vec![
                    Hint::to("download it again"),
                    command("all it wrote", "logs"),
                    command("start it now", "start"),
                    command("give up", "stop"),
                ],
            ),
            State::Failed => (
                "The model file is incomplete. It never became ready.",
                Some("It is not started again by itself."),
                vec![
                    Hint::to("download it again"),
                    command("all it wrote", "logs"),
                    command("start it", "start"),
                ],
            ),
            State::Stuck => (
                "The kernel does not end process 4711: it waits for a disk or a driver.",
                None,
                vec![Hint::run("see what it waits for", ["cat", "/proc/4711/stack"])],
            ),
            State::Adopting => (
                "It was left running by an earlier daemon; this one looks whether it answers.",
                None,
                vec![],
            ),
        };
        let server = scene::server(name, state);
        let failed = matches!(state, State::Failed | State::Backoff);
        Answer {
            summary: summary.to_owned(),
            at_ms: server.since_ms,
            by: server.desired.as_ref().map(|desired| desired.by.clone()),
            evidence: server.cause.as_ref().map(|cause| cause.evidence.clone()).unwrap_or_default(),
            hints,
            next: next.map(str::to_owned),
            failures: u32::from(failed),
            remarks: vec![],
            events: vec![],
            server,
        }
    }

    #[test]
    fn each_state() {
        for state in State::ALL {
            assert_screen(&format!("why-{}", state.as_str()), |output| {
                show(output, &why(state), &Clock::utc(), NOW_MS)
            });
        }
    }

    #[test]
    fn the_answer_comes_first_and_the_story_last() {
        assert_screen("why", |output| {
            let mut why = why(State::Ready);
            why.server = scene::remarkable();
            why.remarks = vec!["adopted by this daemon 5m ago".into()];
            // More than are shown.
            why.events = scene::events();
            why.events.iter_mut().for_each(|event| event.at_ms -= 7 * 86_400_000);
            why.events.extend(scene::events());
            show(output, &why, &Clock::utc(), NOW_MS)
        });
    }

    #[test]
    fn one_that_does_not_answer() {
        assert_screen("why-not-answering", |output| {
            let mut why = why(State::Ready);
            why.server = scene::silent();
            why.summary =
                "It was ready for 5m. It is stopped and started again in 1m48s (hang-timeout)."
                    .into();
            show(output, &why, &Clock::utc(), NOW_MS)
        });
    }
}
