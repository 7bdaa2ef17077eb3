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

/// Says why.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Why) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let why = daemon.call(&ServerWhy { model: args.name }).await?;
    if output.json {
        return output.json(&why);
    }
    if output.quiet {
        let code = why.server.cause.as_ref().map(|cause| cause.code.as_str());
        return output.names(code);
    }
    for line in lines(&why, &Clock::local(), now_ms()) {
        output.line_unflushed(line)?;
    }
    output.flush()
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
    use crate::view::tests::server;
    use llamactl_protocol::Hint;
    use llamactl_protocol::event::EventKind;
    use llamactl_protocol::server::State;

    fn event(number: usize) -> Event {
        Event {
            seq: 1,
            at_ms: i64::MAX,
            kind: EventKind::ServerFailed,
            model_id: Some(1),
            model: Some("m".into()),
            run_id: None,
            by: Actor::Process,
            message: format!("{number}\nended"),
            details: None,
        }
    }

    #[test]
    fn the_answer_comes_first_and_the_story_last() {
        let why = Answer {
            summary: "m failed 5 s ago: The model file is incomplete.".into(),
            at_ms: 0,
            by: Some(Actor::Process),
            evidence: vec!["E tensor out of bounds".into()],
            hints: vec![
                Hint::to("Download it again."),
                Hint::run("see all it said", ["llamactl", "logs", "m"]),
            ],
            next: Some("It will not be started again until someone does.".into()),
            failures: 1,
            remarks: vec!["It computes on the CPU.".into()],
            events: (0..20).map(event).collect(),
            server: server("m", State::Failed),
        };
        let lines = lines(&why, &Clock::local(), 1_200_000);
        let text: Vec<String> = lines.iter().map(|line| line.render(false, false)).collect();
        assert!(text[0].starts_with("● m: failed since "), "{text:#?}");
        assert_eq!(
            text[1..10],
            [
                "  m failed 5 s ago: The model file is incomplete.",
                "  It will not be started again until someone does.",
                "",
                "  note      It computes on the CPU.",
                "  it said   E tensor out of bounds",
                "  to do     Download it again.",
                "            see all it said: llamactl logs m",
                "  asked by  nobody: it ended by itself",
                "",
            ]
        );
        assert_eq!(text[10], "  -  server.failed    12 ended");
        assert_eq!(text.len(), 10 + EVENTS);
    }
}
