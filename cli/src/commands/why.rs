//! `llamactl why NAME`

use super::status_one::title;
use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::Facts;
use crate::output::sanitize::one_line;
use crate::output::styled::{BOLD, DIM, Styled, YELLOW};
use crate::output::time::{Clock, now_ms};
use clap::Args;
use llamactl_protocol::Actor;
use llamactl_protocol::event::Event;
use llamactl_protocol::server::{ServerWhy, Why as Answer};

/// Events shown of what happened before.
const EVENTS: usize = 8;

/// Say why a server is as it is, and what to do
///
/// The last change in plain words, the log lines that say so, whether and when it is started
/// again, who asked, and what happened before.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl why qwen3",
    "llamactl why qwen3 --json | jq -r .summary",
    "llamactl events --model qwen3 --since 1d   # the whole story";
    "0 done, whatever the state  3 no such model  6 daemon unreachable"
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
    output.lines(lines(&why, &Clock::local(), now_ms()))
}

fn lines(why: &Answer, clock: &Clock, now_ms: i64) -> Vec<Styled> {
    let mut lines = vec![title(&why.server, clock, now_ms)];
    lines.push(Styled::from("  ").append(Styled::from(why.summary.as_str()).on_one_line()));
    lines.extend(why.next.iter().map(|next| Styled::from(format!("  {next}"))));
    let mut facts = Facts::new();
    for remark in &why.remarks {
        facts.add("  note", Styled::new().with(YELLOW, remark.as_str()));
    }
    for line in &why.evidence {
        facts.add("  it said", Styled::new().with(DIM, line.as_str()));
    }
    for hint in &why.hints {
        facts.add("  to do", hint.to_string());
    }
    if let Some(by) = &why.by {
        facts.add("  asked by", asked_by(by));
    }
    let facts = facts.lines();
    if !facts.is_empty() {
        lines.push(Styled::new());
        lines.extend(facts);
    }
    let before = why.events.len().saturating_sub(EVENTS);
    let events = why.events.get(before..).unwrap_or_default();
    if !events.is_empty() {
        lines.push(Styled::new());
        lines.extend(events.iter().map(|event| line(event, clock)));
    }
    lines
}

/// Who it was, for people.
fn asked_by(by: &Actor) -> String {
    match by {
        Actor::Process => "nobody: it ended by itself".to_owned(),
        Actor::Policy => "nobody: llamactl's own policy (model set NAME restart=…)".to_owned(),
        Actor::Boot => "nobody: the daemon, when it started".to_owned(),
        Actor::Client { .. } | Actor::Signal { .. } => by.to_string(),
    }
}

fn line(event: &Event, clock: &Clock) -> Styled {
    Styled::new()
        .with(DIM, format!("  {}  ", clock.full(event.at_ms)))
        .with(BOLD, format!("{:<15}", one_line(event.kind.as_str())))
        .plain(format!("  {}", one_line(&event.message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};
    use llamactl_protocol::Hint;
    use llamactl_protocol::server::State;

    /// What the daemon says of a server in this state.
    fn why(state: State) -> Answer {
        let name = "qwen3-8b";
        let command = |text: &str, verb: &str| Hint::run(text, ["llamactl", verb, name]);
        let (summary, next, hints): (&str, Option<&str>, Vec<Hint>) = match state {
            State::Stopped => (
                "was stopped as asked 2 hours ago; 2 requests were cut.",
                None,
                vec![command("start it", "start")],
            ),
            State::Queued => (
                "waits for its turn to start, as the 2nd in line: other models are being loaded first.",
                None,
                vec![],
            ),
            State::Starting => ("is being started, for 2 s now.", None, vec![]),
            State::Loading => ("is loading its model, for 5 s now, 42 % done.", None, vec![]),
            State::Ready => ("has been ready for 2 hours.", None, vec![]),
            State::Sleeping => (
                "unloaded its model 2 hours ago because nobody used it; the next request loads it again.",
                None,
                vec![],
            ),
            State::Stopping => ("is being stopped, for 2 s now.", None, vec![]),
            State::Backoff => (
                "failed 5 s ago: The model file is incomplete. It had not been ready yet.",
                Some("It will be started again in 3 s. It has failed 2 times in a row."),
                vec![
                    Hint::to("download it again"),
                    command("see all it said", "logs"),
                    command("try at once", "start"),
                    command("give up", "stop"),
                ],
            ),
            State::Failed => (
                "failed 2 hours ago: The model file is incomplete. It had not been ready yet.",
                Some("It will not be started again until someone does."),
                vec![
                    Hint::to("download it again"),
                    command("see all it said", "logs"),
                    command("try again", "start"),
                ],
            ),
            State::Stuck => (
                "does not end even when killed: the kernel has been holding process 4711 for 2 hours.",
                None,
                vec![
                    Hint::run("see what it waits for", ["cat", "/proc/4711/stack"]),
                    Hint::to(
                        "such a process waits for a disk, a network file system or a GPU driver: see \
                         dmesg; it ends when that answers, or at the next boot",
                    ),
                ],
            ),
            State::Adopting => (
                "was left running by an earlier daemon; this one is looking whether it answers.",
                None,
                vec![],
            ),
        };
        let server = scene::server(name, state);
        let failed = matches!(state, State::Failed | State::Backoff);
        Answer {
            summary: format!("{name} {summary}"),
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

    fn assert_answer(name: &str, why: &Answer) {
        assert_screen(name, |output| output.lines(lines(why, &Clock::utc(), NOW_MS)));
    }

    #[test]
    fn each_state() {
        for state in scene::STATES {
            assert_answer(&format!("why-{}", state.as_str()), &why(state));
        }
    }

    #[test]
    fn the_answer_comes_first_and_the_story_last() {
        let mut why = why(State::Ready);
        why.by = Some(Actor::Policy);
        why.remarks = vec!["On the CPU, although a GPU was asked for.".into()];
        // More than are shown.
        why.events = scene::events();
        why.events.iter_mut().for_each(|event| event.at_ms -= 7 * 86_400_000);
        why.events.extend(scene::events());
        assert_answer("why", &why);
    }

    #[test]
    fn whoever_asked_is_named() {
        let signal = Actor::Signal { signal: "SIGTERM".into() };
        let actors =
            [scene::anna("llamactl stop a"), signal, Actor::Boot, Actor::Policy, Actor::Process];
        assert_screen("why-by", |output| output.lines(actors.iter().map(asked_by)));
    }
}
